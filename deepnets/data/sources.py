"""Image sets whose names carry arguments, `folder:` and `torchvision:`, and their statistics."""

from __future__ import annotations

from pathlib import Path

from deepnets.data.names import parse_name
from deepnets.data.parts import ImageSource
from deepnets.data.statistics import ImageStatistics, read_statistics, store_statistics

__all__ = ["open_source", "run_statistics"]


def open_source(
    name: str, *, root: Path | str | None = None, image_size: int | None = None, download: bool = False
) -> ImageSource | None:
    """Open an image set of this kind, without reading its pixels.

    Parameters
    ----------
    name, root, image_size, download
        As for `deepnets.data.open_images`.

    Returns
    -------
    ImageSource or None
        None for other image sets.

    Raises
    ------
    ConfigError, MissingDataError, MissingDependencyError, FormatError
        As for `deepnets.data.open_images`.

    Examples
    --------
    >>> open_source("digits") is None
    True
    """
    parsed = parse_name(name)
    if parsed is None:
        return None
    if parsed.scheme == "folder":
        from deepnets.data.folders import FolderSource

        return FolderSource(parsed, root, image_size, download)
    from deepnets.data.torchvision_sets import TorchvisionSource

    return TorchvisionSource(parsed, root, image_size, download)


def run_statistics(
    folder: Path | str,
    name: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    image_size: int | None = None,
    store: bool = True,
) -> ImageStatistics | None:
    """Return the statistics of an image set for a run: those that are stored beside it, or else computed and stored.

    Parameters
    ----------
    folder : Path or str
        Folder of the run.
    name, root, download, image_size
        As for `deepnets.data.open_images`, to which the statistics are to be passed: those of other sizes differ.
    store : bool, default True
        Whether to store statistics that were computed: False in all but one of several processes.

    Returns
    -------
    ImageStatistics or None
        None for image sets with constants of their own.

    Raises
    ------
    ConfigError, MissingDataError, MissingDependencyError, FormatError
        As for `deepnets.data.open_images`, or if the file in the folder has another format.

    Examples
    --------
    >>> run_statistics("runs/new", "digits") is None
    True
    """
    source = open_source(name, root=root, image_size=image_size, download=download)
    if source is None:
        return None
    found = read_statistics(folder, name)
    if found is None:
        found = source.statistics()
        if store:
            store_statistics(folder, name, found)
    return found
