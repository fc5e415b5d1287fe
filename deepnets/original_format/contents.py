"""Which files of the original release a folder has, and which splits a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from deepnets.original_format.metadata import official_file
from deepnets.support import (
    STORED_SPLITS,
    ConfigError,
    FormatError,
    IntegrityError,
    MissingDataError,
    get_member,
    open_hdf5,
)

__all__ = ["find_official", "list_splits", "located", "open_official"]


def list_splits(path: str | Path) -> tuple[str, ...]:
    """List the splits that an HDF5 file of the original release holds.

    Parameters
    ----------
    path : Path or str
        The HDF5 file.

    Returns
    -------
    tuple of str
        Names of the splits.

    Raises
    ------
    MissingDataError
        If there is no such file.
    FormatError
        If it is not a file of the original release.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from deepnets.original_format import write_official
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    ...     (path,) = write_official(folder, {"val": [graph], "test": [graph]})
    ...     list_splits(path)
    ('test', 'val')
    """
    path = Path(path)
    with open_official(path) as file, located(str(path)):
        splits = tuple(file)
        for split in splits:
            get_member(file, split, h5py.Group)
        return splits


def find_official(folder: Path | str) -> dict[str, Path]:
    """Find the file of every split in a folder with files of the original release.

    Parameters
    ----------
    folder : Path or str
        The folder.  The original generator leaves files of single splits, such as `deepnets1m_val.hdf5`, beside
        `deepnets1m_eval.hdf5`, into which it merges the evaluation splits.

    Returns
    -------
    dict of str to Path
        The HDF5 file of each split: the one that the original tools read (`official_file`) if it holds the split, and
        otherwise the only file that does.

    Raises
    ------
    MissingDataError
        If the folder holds no such files.
    FormatError
        If a file with the suffix `.hdf5` is not one of the original release.
    ConfigError
        If several files hold a split, and none of them is the one that the original tools read.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from deepnets.original_format import write_official
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=8))
    ...     _ = write_official(folder, {"val": [graph], "train": [graph]})
    ...     {split: path.name for split, path in find_official(folder).items()}
    {'train': 'deepnets1m_train.hdf5', 'val': 'deepnets1m_eval.hdf5'}
    """
    folder = Path(folder)
    files = {path: list_splits(path) for path in sorted(folder.glob("*.hdf5"))}
    if not files:
        raise MissingDataError(f"{folder}: holds no .hdf5 files of the original release")
    found = {}
    for split in STORED_SPLITS:
        holders = [path for path, splits in files.items() if split in splits]
        usual = official_file(folder, split)
        if usual in holders:
            found[split] = usual
        elif len(holders) > 1:
            names = ", ".join(path.name for path in holders)
            raise ConfigError(f"{folder}: {names} hold the split {split}; name one of the files instead of the folder")
        elif holders:
            found[split] = holders[0]
    return found


def open_official(path: Path) -> h5py.File:
    """Open an HDF5 file; `MissingDataError` if there is none."""
    if not path.exists():
        raise MissingDataError(f"{path}: no such file; expected one of the original release's deepnets1m_*.hdf5")
    return open_hdf5(path, locking=None)  # users may open it with h5py as well


@contextmanager
def located(where: str) -> Iterator[None]:
    """Prefix errors with their location; turn the errors of h5py about damaged files into `IntegrityError`."""
    try:
        yield
    except FormatError as error:
        raise type(error)(f"{where}: {error}") from error
    except ConfigError as error:
        raise FormatError(f"{where}: {error}") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError) as error:
        raise IntegrityError(f"{where}: damaged ({error}); get the file again") from error
