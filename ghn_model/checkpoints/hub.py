"""Hypernetworks on the Hugging Face Hub, through the optional package huggingface_hub.

A repository of a hypernetwork has `ghn.safetensors`, in the format of `GHN.save`, and its card, `README.md`.  Nothing
is downloaded unless the caller asks for it: by default only the cache of huggingface_hub is searched.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepnets.support import CheckpointError, ConfigError, MissingDependencyError, install_command

__all__ = ["WEIGHTS", "fetch", "is_repository", "push"]

WEIGHTS = "ghn.safetensors"
"""Name of the file of weights in a repository."""

INSTALL = install_command("hub")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".pkl", ".joblib", ".json")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")


def is_repository(name: str) -> bool:
    """Whether a text has the form of a repository, ``user/name``, and not that of a file.

    Examples
    --------
    >>> is_repository("user/ghn2-mine"), is_repository("runs/mine/ghn.safetensors"), is_repository("ghn2-digits")
    (True, False, False)
    """
    parts = name.split("/")
    return len(parts) == 2 and all(map(_NAME.fullmatch, parts)) and not name.endswith(_SUFFIXES)


def fetch(repository: str, revision: str | None = None, *, download: bool = False) -> Path:
    """The weights of a repository: a file in the cache of huggingface_hub.

    Parameters
    ----------
    repository
        ``"user/name"``.
    revision
        Branch, tag or commit; by default the main branch.
    download
        Whether the file may be downloaded; otherwise it must have been downloaded before.

    Returns
    -------
    The path of the file.

    Raises
    ------
    CheckpointError
        If the file is not in the cache, and may not or cannot be downloaded.
    MissingDependencyError
        If `download` is set, and huggingface_hub is not installed.

    Examples
    --------
    >>> fetch("no-such-user/no-such-name")
    Traceback (most recent call last):
    deepnets.support.errors.CheckpointError: 'no-such-user/no-such-name': no such file, ...
    """
    try:
        hub = _library()
    except MissingDependencyError as error:
        if download:
            raise
        raise CheckpointError(f"{repository!r}: no such file; for a repository of the Hub, {error}") from error
    try:
        path = hub.hf_hub_download(repository, WEIGHTS, revision=revision, local_files_only=not download)
    except Exception as error:  # the errors of the library, of the connection and of the disk have no common base
        if not download:
            raise CheckpointError(
                f"{repository!r}: no such file, and no such repository of the Hugging Face Hub was downloaded before; "
                f"GHN.from_pretrained({repository!r}, download=True) downloads it"
            ) from error
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{repository!r}: {WEIGHTS} cannot be downloaded: {reason}") from error
    return Path(path)


def push(
    save: Callable[[Path], object],
    card: str,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a hypernetwork",
) -> str:
    """Upload a hypernetwork and its card to a repository, which is created if it does not exist.

    Parameters
    ----------
    save
        Writes the weights to a path.
    card
        The content of ``README.md``, such as `markdown_card` makes.
    repository
        ``"user/name"``.
    private
        Whether a new repository is private.
    revision
        Branch to upload to; by default the main branch.
    message
        Message of the commit.

    Returns
    -------
    The address of the repository.

    Raises
    ------
    ConfigError
        If the name of the repository has another form.
    CheckpointError
        If the upload fails.
    MissingDependencyError
        If huggingface_hub is not installed.

    Examples
    --------
    >>> push(print, "", "no-user")
    Traceback (most recent call last):
    deepnets.support.errors.ConfigError: repository: expected 'user/name', got 'no-user'
    """
    if not is_repository(repository):
        raise ConfigError(f"repository: expected 'user/name', got {repository!r}")
    hub = _library()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder / WEIGHTS)
        (folder / "README.md").write_text(card, encoding="utf-8")
        try:
            address = hub.create_repo(repository, private=private, exist_ok=True)
            hub.upload_folder(repo_id=repository, folder_path=str(folder), commit_message=message, revision=revision)
        except Exception as error:  # as in `fetch`
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise CheckpointError(f"{repository!r}: cannot be uploaded: {reason}") from error
    return str(address)


def _library() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingDependencyError(
            f"huggingface_hub is not installed; install it with {INSTALL}", name="huggingface_hub"
        ) from error
