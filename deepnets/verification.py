"""Check a corpus file as thoroughly as it can be checked: every byte, every graph, every number in its columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deepnets.encoding import decode
from deepnets.errors import ConfigError, IntegrityError
from deepnets.sealed import check_seal
from deepnets.storage import CorpusFile, content_digest
from deepnets.tabulation import MEASURE, tabulate

__all__ = ["Verification", "verify"]

_BLOCK = 4_096


@dataclass(frozen=True)
class Verification:
    """What was found to be right.

    Attributes
    ----------
    path, split, num_networks, content_digest
        The file.
    rebuilt
        Whether every graph was also compared with the one rebuilt from its configuration.
    """

    path: Path
    split: str
    num_networks: int
    content_digest: str
    rebuilt: bool


def verify(path: Path | str, *, quick: bool = False, progress: bool = False) -> Verification:
    """Check a corpus file.

    Parameters
    ----------
    path
        The file.
    quick
        Check the file's own digest, its structure and the digest of its content, but do not rebuild every graph.
    progress
        Show a bar.

    Raises
    ------
    FormatError, IntegrityError
        With the file, the split, and the network where something is wrong.
    """
    path = Path(path)
    with CorpusFile(path) as file:  # first, because it can say best what a file of another kind is
        check_seal(path)
        if content_digest(file) != file.content_digest:
            raise IntegrityError(f"{path}: split {file.split}: its content does not match its digest")
        if not quick:
            _check_order(file)
            blocks = range(0, file.num_networks, _BLOCK)
            for start in tqdm(blocks, desc=f"verify {file.split}", disable=None if progress else True):
                _check_networks(file, start, min(start + _BLOCK, file.num_networks))
        return Verification(path, file.split, file.num_networks, file.content_digest, rebuilt=not quick)


def _check_order(file: CorpusFile) -> None:
    if len(np.unique(file.column("fingerprint"))) != file.num_networks:
        raise IntegrityError(f"{file.path}: split {file.split}: holds the same network twice")
    if (np.diff(file.column("candidate").astype(np.int64)) <= 0).any():
        raise IntegrityError(f"{file.path}: split {file.split}: its networks are not in the order of candidates")


def _check_networks(file: CorpusFile, start: int, stop: int) -> None:
    """Rebuild networks from their configurations, and compare."""
    architectures = file.architectures(slice(start, stop))
    for offset, record in enumerate(architectures):
        try:
            decode(record)
        except ConfigError as error:
            raise IntegrityError(f"{file.path}: split {file.split}, network {start + offset}: {error}") from error
    measures, rows = tabulate(architectures)
    for name in MEASURE.names or ():
        if name != "candidate":
            wrong = np.flatnonzero(measures[name] != file.column(name)[start:stop])
            if len(wrong):
                raise IntegrityError(
                    f"{file.path}: split {file.split}, network {start + wrong[0]}: {name} is "
                    f"{file.column(name)[start + wrong[0]]}, its configuration gives {measures[name][wrong[0]]}"
                )
    wrong = np.flatnonzero(rows != file.wiring(start, stop))
    if len(wrong):
        network = start + int(np.searchsorted(np.cumsum(measures["num_rows"]), wrong[0], side="right"))
        raise IntegrityError(
            f"{file.path}: split {file.split}, network {network}: its graph is not that of its configuration"
        )
