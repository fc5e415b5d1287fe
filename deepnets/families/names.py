"""Families by name: the registry `FAMILIES`, and texts such as "family:resnet-widths/val"."""

from __future__ import annotations

from deepnets.families.family import Family
from deepnets.families.family_files import read_family
from deepnets.support import ConfigError, Registry, abbreviated

__all__ = ["FAMILIES", "PREFIX", "find_family", "split_of"]

PREFIX = "family:"
"""Beginning of the texts that name a family."""

FAMILIES: Registry[Family] = Registry(
    "family",
    {
        "resnet-widths": "deepnets.families.builtin:RESNET_WIDTHS",
        "vits-1k": "deepnets.families.builtin:VITS_1K",
        "gpts-1k": "deepnets.families.builtin:GPTS_1K",
        "llamas-1k": "deepnets.families.builtin:LLAMAS_1K",
        "gpt2-widths": "deepnets.families.builtin:GPT2_WIDTHS",
    },
)
"""Families by name; `FAMILIES.register(name, family)` adds one in the current process."""


def split_of(text: str, default: str) -> tuple[str, str]:
    """Split a text that names a family, and optionally one of its splits, into both.

    Parameters
    ----------
    text
        With or without "family:": "resnet-widths", "resnet-widths/val", "my/specs/narrow.json/test",
        "my_module:FAMILY/train".
    default
        The split if none is named.

    Returns
    -------
    (str, str)
        What names the family, and the split.

    Examples
    --------
    >>> split_of("family:resnet-widths/val", "test"), split_of("specs/narrow.json", "test")
    (('resnet-widths', 'val'), ('specs/narrow.json', 'test'))
    """
    text = text.removeprefix(PREFIX)
    family, slash, split = text.rpartition("/")
    return (text, default) if text.endswith(".json") or not slash else (family, split)


def find_family(name: str | Family) -> Family:
    """Return a family.

    Parameters
    ----------
    name
        A name in `FAMILIES`, the path of a JSON file (see `deepnets.families.read_family`), "module:attribute", whose
        code runs, or a family.

    Raises
    ------
    ConfigError, MissingDataError, FormatError
        If there is no such family, or it is not valid.

    Examples
    --------
    >>> find_family("vits-1k").task
    'images'
    """
    if isinstance(name, Family):
        return name
    if not isinstance(name, str) or not name:
        raise ConfigError(f"family: expected a name, a JSON file or module:attribute, got {abbreviated(name)}")
    if name.endswith(".json"):
        return read_family(name)
    if name not in FAMILIES and ":" not in name:
        raise ConfigError(
            f"family: unknown {name!r}; use one of {', '.join(FAMILIES)}, a file NAME.json, or 'module:attribute'"
        )
    family = FAMILIES[name]
    if not isinstance(family, Family):
        raise ConfigError(f"family: {name!r} is a {type(family).__name__}, expected a deepnets.families.Family")
    return family
