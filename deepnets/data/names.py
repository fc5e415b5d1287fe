"""Names of image sets that carry arguments: `folder:PATH?option=value&...` and `torchvision:NAME?option=value&...`.

The whole name identifies an image set, so that it can be passed to other processes and stored with results.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from deepnets.architecture import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from deepnets.support import ConfigError

__all__ = ["SCHEMES", "ImageSetOptions", "SetName", "parse_name"]

SCHEMES = ("folder", "torchvision")
"""What stands before the colon of such names.  Modules of these names cannot be used in `"module:attribute"`."""

_OPTIONS = re.compile(r"[A-Za-z_]+=[^&=?/]*(&[A-Za-z_]+=[^&=?/]*)*")
_FLAGS = {"0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class ImageSetOptions:
    """The options behind the question mark of a name.

    Attributes
    ----------
    image_size : int, optional
        Height and width, 16 to 512: the shorter side of every image is resized to it, then the center is cropped.  By
        default images are used as they are, and must be squares of one size.
    val, test : float
        Fractions of the images of every class that are held out for validation and test, where the set has no such part
        of its own.
    seed : int
        Seed of this division.
    flip : bool
        Whether training images are mirrored at random; not for characters.

    Examples
    --------
    >>> ImageSetOptions(image_size=64)
    ImageSetOptions(image_size=64, val=0.15, test=0.15, seed=0, flip=True)
    """

    image_size: int | None = None
    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    flip: bool = True


@dataclass(frozen=True)
class SetName:
    """A name that was taken apart.

    Attributes
    ----------
    text : str
        The whole name.
    scheme : str
        One of `SCHEMES`.
    argument : str
        The path, or the name of a data set of torchvision.
    options : ImageSetOptions
        Options of the image set.
    others : dict
        Other options, as texts.

    Examples
    --------
    >>> parse_name("torchvision:EMNIST?split=letters").others
    {'split': 'letters'}
    """

    text: str
    scheme: str
    argument: str
    options: ImageSetOptions
    others: dict[str, str]


def parse_name(name: str) -> SetName | None:
    """Take a name apart.

    Parameters
    ----------
    name : str
        Any name of an image set.

    Returns
    -------
    SetName or None
        None for a name without one of `SCHEMES`.

    Raises
    ------
    ConfigError
        If there is nothing behind the colon, or an option has a value that is not allowed.

    Examples
    --------
    >>> found = parse_name("folder:pets?image_size=64&seed=1")
    >>> found.argument, found.options.image_size, found.options.seed
    ('pets', 64, 1)
    >>> parse_name("digits") is None
    True
    >>> parse_name("folder:pets?image_size=8")
    Traceback (most recent call last):
    deepnets.support.errors.ConfigError: images: image_size of folder:pets?image_size=8: expected 16 to 512, got '8'
    """
    if not isinstance(name, str):
        raise ConfigError(f"images: expected a name, got {type(name).__name__}")
    scheme, colon, rest = name.partition(":")
    if not colon or scheme not in SCHEMES:
        return None
    argument, mark, text = rest.rpartition("?")
    if not mark or not _OPTIONS.fullmatch(text):  # a question mark in the path
        argument, text = rest, ""
    if not argument:
        raise ConfigError(f"images: {name!r}: expected {scheme}:{'PATH' if scheme == 'folder' else 'NAME'}")
    known: dict[str, Any] = {}
    others: dict[str, str] = {}
    for pair in text.split("&") if text else ():
        key, _, value = pair.partition("=")
        if key in known or key in others:
            raise ConfigError(f"images: {name}: the option {key} is given twice")
        if key in _PARSERS:
            known[key] = _PARSERS[key](f"images: {key} of {name}", value)
        else:
            others[key] = value
    options = ImageSetOptions(**known)
    if options.val + options.test >= 1:
        raise ConfigError(f"images: {name}: val + test must be below 1, so that images for training remain")
    return SetName(name, scheme, argument, options, others)


def _side(where: str, text: str) -> int:
    allowed = range(MIN_IMAGE_SIZE, MAX_IMAGE_SIZE + 1)
    if not text.isdecimal() or int(text[:9]) not in allowed:
        raise ConfigError(f"{where}: expected {allowed[0]} to {allowed[-1]}, got {text!r}")
    return int(text)


def _fraction(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise ConfigError(f"{where}: expected a fraction between 0 and 1, got {text!r}")
    return value


def _seed(where: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ConfigError(f"{where}: expected an integer, 0 or more, of up to 18 digits, got {text!r}")
    return int(text)


def _flag(where: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ConfigError(f"{where}: expected 0 or 1, got {text!r}")
    return _FLAGS[text.lower()]


_PARSERS = {"image_size": _side, "val": _fraction, "test": _fraction, "seed": _seed, "flip": _flag}
