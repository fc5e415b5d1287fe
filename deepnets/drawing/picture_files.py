"""Files of pictures: formats, the package that draws them, and the same bytes for the same picture."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deepnets.drawing.painting import Titles
from deepnets.drawing.tooltips import with_tooltips
from deepnets.support import ConfigError, MissingDependencyError, atomic_write, install_command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_matplotlib", "check_picture", "own_style", "save_figure"]

FORMATS = ("png", "svg", "pdf")
"""Suffixes of the files that pictures can be saved to."""


def check_matplotlib() -> None:
    """Check that matplotlib is installed, before a graph is made or read for a picture.

    Raises
    ------
    MissingDependencyError
        If it cannot be imported.

    Examples
    --------
    >>> check_matplotlib()  # it is installed
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"pictures need matplotlib: {install_command('plotting')}") from error


@contextmanager
def own_style() -> Iterator[None]:
    """Use the default style of matplotlib, instead of the user's, for a block."""
    import matplotlib.style

    with matplotlib.style.context("default"):  # leaves the backend and other settings that are no style
        yield


def check_picture(path: str | Path) -> Path:
    """Check that the suffix of a file is one of `FORMATS`.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If it has another suffix.

    Examples
    --------
    >>> check_picture("graph.gif")
    Traceback (most recent call last):
    deepnets.support.errors.ConfigError: picture 'graph.gif': expected a file name that ends in one of .png, .svg, .pdf
    """
    if Path(path).suffix[1:].lower() not in FORMATS:
        allowed = ", ".join(f".{suffix}" for suffix in FORMATS)
        raise ConfigError(f"picture {str(path)!r}: expected a file name that ends in one of {allowed}")
    return Path(path)


def save_figure(figure: Figure, file: Path, titles: Titles) -> None:
    """Save a figure, with the same bytes for the same picture: without dates and random names.

    Text is saved as text, so that it can be searched and edited; PDF files embed TrueType fonts.
    """
    import matplotlib

    suffix = file.suffix[1:].lower()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    own = {"svg.hashsalt": "deepnets", "svg.fonttype": "none", "pdf.fonttype": 42}
    with own_style(), matplotlib.rc_context(own), atomic_write(file) as temporary:
        if suffix == "svg":
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, metadata=undated[suffix])
            temporary.write_bytes(with_tooltips(buffer.getvalue(), titles))
        else:
            figure.savefig(temporary, format=suffix, dpi=200, metadata=undated.get(suffix))
