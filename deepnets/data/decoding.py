"""Reading of image files from untrusted sources."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from deepnets.support import FormatError, MissingDependencyError, check_regular, error_reason

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "MAX_PIXELS", "MAX_RATIO", "read_image"]

FORMATS = ("JPEG", "PNG")
"""Formats that are read, whatever the name of a file ends with.  Pillow knows many others, some of which it passes to
external programs: PostScript runs Ghostscript."""

MAX_PIXELS = 1 << 26
"""Largest number of pixels of an image.  It takes 4 bytes per pixel, and up to four times as much while it is
converted."""

MAX_RATIO = 200
"""Largest ratio of the sides of an image.  Transforms enlarge images until the shorter side has hundreds of pixels."""


def read_image(
    path: Path | str,
    mode: str | None = "RGB",
    max_pixels: int = MAX_PIXELS,
    *,
    formats: tuple[str, ...] = FORMATS,
    decode: bool = True,
    as_viewed: bool = False,
) -> Image:
    """Read an image file.

    Parameters
    ----------
    path : Path or str
        The file.
    mode : str, optional
        Mode of Pillow that the image is converted to; None for its own mode.
    max_pixels : int
        Largest number of pixels.  An image of a few kilobytes can have billions.
    formats : tuple of str
        Formats of Pillow that are read.
    decode : bool, default True
        Whether to decode the pixels; otherwise only size and mode of the result are of use.
    as_viewed : bool, default False
        Whether to return the image as viewers show it: turned as its EXIF orientation says, and with white behind
        transparent pixels.  Benchmarks such as ImageNet are read without.

    Returns
    -------
    PIL.Image.Image
        The image.

    Raises
    ------
    FormatError
        If the file cannot be read as an image of one of the formats, or has too many pixels or extreme sides.
    MissingDependencyError
        If Pillow is not installed.

    Examples
    --------
    >>> read_image(__file__)
    Traceback (most recent call last):
    deepnets.support.errors.FormatError: ...decoding.py: cannot be read as an image: cannot identify image file ...
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("images: image files need Pillow: pip install pillow") from error
    try:
        check_regular(Path(path))
        with Image.open(path, formats=formats) as image:
            if image.width * image.height > max_pixels:  # before it is decoded
                raise ValueError(f"has {image.width} x {image.height} pixels, more than {max_pixels:,}")
            if max(image.size) > MAX_RATIO * min(image.size):
                raise ValueError(
                    f"is {image.width} x {image.height} pixels, a side more than {MAX_RATIO} times the other"
                )
            if not decode:
                return image
            image.load()
            found = _as_viewed(image) if as_viewed else image
            return found if mode in (None, found.mode) else found.convert(mode)
    except Exception as error:  # Pillow raises many types
        raise FormatError(f"{path}: cannot be read as an image: {error_reason(error)}") from error


def _as_viewed(image: Image) -> Image:
    from PIL import Image as Pillow
    from PIL import ImageOps

    with contextlib.suppress(Exception):  # damaged EXIF data, which viewers ignore, too
        image = ImageOps.exif_transpose(image)
    if not image.has_transparency_data:
        return image
    shown = image.convert("RGBA")
    white = Pillow.new("RGBA", shown.size, "white")
    return Pillow.alpha_composite(white, shown).convert("RGB")
