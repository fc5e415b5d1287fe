"""Trained weights of models of torchvision and timm: nothing is downloaded, missing files are named."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from deepnets.support.errors import MissingDataError

__all__ = ["without_downloads"]

_lock = threading.Lock()


@contextlib.contextmanager
def without_downloads() -> Iterator[None]:
    """Raise an error where torchvision or timm would download trained weights, in a block that builds a model.

    Builders download for many arguments and even by default, so the functions that download are replaced.  Files that
    were downloaded before are used.

    Raises
    ------
    MissingDataError
        The message states which file to get, and how to use it.

    Examples
    --------
    >>> import torch
    >>> with without_downloads():
    ...     torch.hub.download_url_to_file("https://example.org/w.pth", "w.pth")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    deepnets.support.errors.MissingDataError: weights: the file w.pth is missing; download https://example.org/w.pth ...
    """
    import torch

    def refuse(url: str, dst: Path | str, *_: Any, **__: Any) -> NoReturn:
        raise MissingDataError(f"weights: the file {dst} is missing; download {url} and save it there")

    with _lock, contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(torch.hub, "download_url_to_file", refuse))
        timm: Any = sys.modules.get("timm.models._hub")
        if timm is not None:
            stack.enter_context(patch.object(timm, "download_url_to_file", refuse))
            stack.enter_context(patch.object(timm, "hf_hub_download", _find_in_cache))
        yield


def _find_in_cache(repo_id: str, filename: str, revision: str | None = None, **options: Any) -> str:
    """Return the path of a file of the Hugging Face hub that was downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo_id, filename, cache_dir=options.get("cache_dir"), revision=revision)
    if not isinstance(found, str):
        raise MissingDataError(
            f"weights: {filename} of {repo_id} is not on this machine; get it from the Hugging Face hub, and use "
            "checkpoint_path=FILE instead of pretrained"
        )
    return found
