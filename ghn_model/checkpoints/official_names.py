"""The checkpoints of the original releases by name: where they are looked for, and where to get them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER", "OFFICIAL", "find_official_checkpoint", "how_to_get", "is_official"]

FOLDER = Path("checkpoints")
"""Folder in which official checkpoints are looked for by name."""

_PPUDA = "https://github.com/facebookresearch/ppuda"
_GHN3 = "https://huggingface.co/SamsungSAILMontreal/ghn3"

OFFICIAL = {
    **dict.fromkeys(("mlp_cifar10", "ghn1_cifar10", "ghn2_cifar10", "ghn1_imagenet", "ghn2_imagenet"), _PPUDA),
    **dict.fromkeys(("ghn3tm8", "ghn3sm8", "ghn3lm8", "ghn3xlm16"), _GHN3),
}
"""Where to get the official checkpoints, by name."""


def is_official(name: str | Path) -> bool:
    """Whether a name, or the name of a file with the suffix ``.pt``, is that of an official checkpoint.

    Examples
    --------
    >>> is_official("ghn2_cifar10"), is_official("ghn3xlm16.pt"), is_official("ghn2-digits")
    (True, True, False)
    """
    path = Path(name)
    return (path.stem if path.suffix == ".pt" else path.name) in OFFICIAL


def find_official_checkpoint(name: str | Path) -> Path | None:
    """The file of an official checkpoint, with the suffix ``.pt``, in its folder or in `FOLDER`; None if it is missing.

    Examples
    --------
    >>> find_official_checkpoint("no/such/folder/ghn2_cifar10.pt")
    """
    if not is_official(name):
        return None
    path = Path(name).with_suffix(".pt")
    places = (path, FOLDER / path) if path == Path(path.name) else (path,)
    return next((place for place in places if place.is_file()), None)


def how_to_get(name: str | Path) -> str:
    """What to do if the file of an official checkpoint is missing, as a clause of an error message.

    Examples
    --------
    >>> how_to_get("ghn2_cifar10")
    'get ghn2_cifar10.pt from https://github.com/facebookresearch/ppuda and save it as checkpoints/ghn2_cifar10.pt'
    """
    path = Path(name).with_suffix(".pt")
    place = FOLDER / path if path == Path(path.name) else path
    return f"get {path.name} from {OFFICIAL[path.stem]} and save it as {place}"
