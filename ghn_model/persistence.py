"""Loading, saving and sharing of hypernetworks, as methods of `GHN`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from deepnets.support import ConfigError
from ghn_model.checkpoints import (
    FORMATS,
    build_from,
    checked_device,
    markdown_card,
    push,
    read_checkpoint,
    save_checkpoint,
)
from ghn_model.config import GHNConfig

__all__ = ["Persistent"]

Model = TypeVar("Model", bound="Persistent")


class Persistent(nn.Module):
    """A hypernetwork that is loaded from files, saved, and shared through the Hugging Face Hub.

    Attributes
    ----------
    config
        Its configuration, from which the class can be called to make another one.
    """

    config: GHNConfig

    @classmethod
    def from_pretrained(
        cls: type[Model],
        name_or_path: str | Path,
        *,
        device: torch.device | str = "cpu",
        num_classes: int | None = None,
        revision: str | None = None,
        download: bool = False,
        **changes: Any,
    ) -> Model:
        """Load a trained hypernetwork: a bundled one by name, a file, or one of the Hugging Face Hub.

        Parameters
        ----------
        name_or_path
            A bundled name (see `ghn_model.list_pretrained`), a file of `GHN.save`, or an original checkpoint of GHN-1,
            GHN-2, GHN-3 or LoGAH.  The content of a file decides, not its suffix.  No code in it is executed.
            Or ``"user/name"``, a repository of the Hub to which `push_to_hub` uploaded a hypernetwork.
        device
            Device to load the hypernetwork to.
        num_classes
            If given, the number of classes that the hypernetwork must have been trained for.
        revision
            Branch, tag or commit of a repository of the Hub; by default its main branch.
        download
            Whether the file of a repository may be downloaded (``pip install "deepnets1m[hub]"``).  By default, it must
            have been downloaded before, and there is no access to the network.
        changes
            Fields of `GHNConfig` that replace those of the file, such as `normalization` for official files of LoGAH.

        Returns
        -------
        The hypernetwork, in evaluation mode.

        Raises
        ------
        CheckpointError
            If there is no such file, or it is damaged, unsafe, of another kind, or for another number of classes;
            or a repository was not downloaded before, or cannot be downloaded.
        ConfigError
            If the device cannot be used, a change is not allowed, or a `revision` is given for a file.

        Examples
        --------
        >>> from ghn_model import GHN
        >>> ghn = GHN.from_pretrained("ghn2-digits", num_classes=10)
        >>> ghn.config.hypernet, ghn.training
        ('gatedgnn', False)
        """
        device = checked_device(device)
        content = read_checkpoint(name_or_path, cls, num_classes, changes, revision=revision, download=download)
        return build_from(content, cls, device)

    def save(
        self,
        path: str | Path,
        metadata: Mapping[str, Any] | None = None,
        *,
        half: bool = False,
        format: str = FORMATS[0],
    ) -> Path:
        """Write the hypernetwork to a file, atomically; an existing file is replaced.

        Parameters
        ----------
        path
            The file, usually with the suffix ``.safetensors``; for the formats of the originals ``.pt``.
        metadata
            JSON values to store with it, such as the data set and the number of epochs.
        half
            Whether to store half-precision weights, in half the space; they are loaded in single precision.
        format
            "deepnets1m" (safetensors), or "ppuda" or "ghn3" (see `ghn_model.checkpoints.save_official`).

        Returns
        -------
        The path.

        Raises
        ------
        ConfigError
            If the metadata are not JSON values, are nested too deeply or too large, the format cannot represent the
            configuration, or a part has an extra state that is no tensor (`get_extra_state`).
        CheckpointError
            If a weight is NaN or infinite, or the file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> from ghn_model import GHN
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = GHN("ghn2").save(f"{folder}/ghn.safetensors", {"epochs": 0})
        ...     ghn = GHN.from_pretrained(path)
        """
        return save_checkpoint(self, path, metadata, half=half, format=format)

    def push_to_hub(
        self,
        repository: str,
        card: Mapping[str, Any] | None = None,
        *,
        private: bool = False,
        revision: str | None = None,
        half: bool = True,
        message: str = "Upload a hypernetwork",
    ) -> str:
        """Upload the hypernetwork and its card to the Hugging Face Hub.

        Needs huggingface_hub (``pip install "deepnets1m[hub]"``), in which you are logged in (``hf auth login``).
        `from_pretrained` with the name of the repository and ``download=True`` loads it again.

        Parameters
        ----------
        repository
            ``"user/name"``; it is created if it does not exist.
        card
            What the page and the metadata of the file state, as JSON values: for example the card that
            `benchmark.cards.make_card` makes, or ``{"about": "GHN-2 for flowers", "licence": "MIT"}``.
        private
            Whether a new repository is private.
        revision
            Branch to upload to; by default the main branch.
        half
            Whether to store half-precision weights, in half the space.
        message
            Message of the commit.

        Returns
        -------
        The address of the repository.

        Raises
        ------
        ConfigError
            If the name has another form, or the card has other than JSON values.
        CheckpointError
            If a weight is NaN or infinite, or the upload fails.
        MissingDependencyError
            If huggingface_hub is not installed.

        Examples
        --------
        >>> from ghn_model import GHN
        >>> GHN("ghn2").push_to_hub("no-user")
        Traceback (most recent call last):
        deepnets.support.errors.ConfigError: repository: expected 'user/name', got 'no-user'
        """
        card = dict(card or {})
        try:
            json.dumps(card, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"card: expected JSON values: {error}") from error
        text = markdown_card(repository, card, self.config)
        known = {name: value for name, value in card.items() if name != "sha256"}  # that of another file

        def save(path: Path) -> None:
            self.save(path, known, half=half)

        return push(save, text, repository, private=private, revision=revision, message=message)
