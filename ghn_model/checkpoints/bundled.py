"""The hypernetworks that come with the package, and their cards."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

from deepnets.support import CheckpointError, parse_json

__all__ = ["PRETRAINED", "list_pretrained", "locate_bundled", "model_card"]

PRETRAINED = Path(__file__).parents[1] / "pretrained"
"""Folder of the bundled hypernetworks: NAME.safetensors, NAME.json and NAME.md."""


def list_pretrained(pattern: str = "*") -> list[str]:
    """The names of the bundled hypernetworks, sorted, for `GHN.from_pretrained`.

    Parameters
    ----------
    pattern
        Only names that match this pattern, in which ``*`` stands for any text, ``?`` for a character, and ``[ab]`` for
        one of several characters.

    Returns
    -------
    The names; an empty list if none matches.

    Examples
    --------
    >>> list_pretrained()
    ['ghn1-cifar10', 'ghn1-digits', 'ghn2-cifar10', 'ghn2-cifar10-60k', 'ghn2-digits', 'mlp-cifar10', 'mlp-digits']
    >>> list_pretrained("ghn2*")
    ['ghn2-cifar10', 'ghn2-cifar10-60k', 'ghn2-digits']
    """
    names = (path.stem for path in PRETRAINED.glob("*.safetensors") if path.with_suffix(".json").is_file())
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))


def model_card(name: str) -> dict[str, Any]:
    """The card of a bundled hypernetwork: the `sha256` of its file, and how it was trained.

    Parameters
    ----------
    name
        One of `list_pretrained`.

    Raises
    ------
    CheckpointError
        If there is no such hypernetwork, or its card is damaged.

    Examples
    --------
    >>> model_card("ghn2-digits")["licence"]
    'MIT'
    """
    path = PRETRAINED / f"{name}.json"
    if name not in list_pretrained():
        raise CheckpointError(f"{name!r}: the bundled hypernetworks are {', '.join(list_pretrained()) or 'none'}")
    try:
        card = parse_json(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}; install the package again") from error
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise CheckpointError(f"{path}: has no sha256; install the package again")
    return card


def locate_bundled(name: str) -> tuple[Path, dict[str, Any]]:
    """The file of a bundled hypernetwork, and its card.

    Examples
    --------
    >>> path, card = locate_bundled("ghn2-digits")
    >>> path.name, card["licence"]
    ('ghn2-digits.safetensors', 'MIT')
    """
    return PRETRAINED / f"{name}.safetensors", model_card(name)
