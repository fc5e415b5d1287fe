"""Check a corpus file as thoroughly as it can be checked: every byte, every graph, every number in its columns."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deepnets.architecture import decode, encode
from deepnets.corpus.statistics import MEASURE, tabulate
from deepnets.corpus.storage import CorpusFile, content_digest, corpus_path
from deepnets.support import ConfigError, IntegrityError, check_seal

__all__ = ["Verification", "check_disjoint", "verify"]

_EVALUATION = ("val", "test", "deep", "dense", "bnfree")

_BLOCK = 256  # networks at a time: little memory, even for the largest graphs that a file can hold


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


def check_disjoint(folder: Path | str) -> list[str]:
    """Check that networks of evaluation splits are in no other split of a folder (`wide` is made of `test`).

    Returns
    -------
    The pairs of splits that were compared: those whose files are there, and were drawn rather than imported.

    Raises
    ------
    IntegrityError
        With the splits, and the networks that are equal.
    """
    fingerprints = {}
    for split in (*_EVALUATION, "train", "search"):
        path = corpus_path(folder, split)
        if path.exists():
            with CorpusFile(path) as file:
                if "seed" in file.attributes:
                    fingerprints[split] = file.column("fingerprint")
    compared = []
    for first, second in itertools.combinations(fingerprints, 2):
        if first in _EVALUATION:
            compared.append(f"{first}/{second}")
            _, i, j = np.intersect1d(fingerprints[first], fingerprints[second], return_indices=True)
            if len(i):
                raise IntegrityError(f"{folder}: network {i[0]} of {first} is network {j[0]} of {second}")
    return compared


def _check_order(file: CorpusFile) -> None:
    """Networks come in the order of candidates; those that were drawn (not imported) are all different."""
    candidates = file.column("candidate")
    late = np.flatnonzero(candidates[1:] <= candidates[:-1])
    if len(late):
        raise _wrong(file, late[0] + 1, "is not in the order of candidates")
    if "seed" not in file.attributes:
        return
    _, first, inverse = np.unique(file.column("fingerprint"), return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(file.num_networks))
    if len(again):
        raise _wrong(file, again[0], f"is network {first[inverse][again[0]]} again")


def _check_networks(file: CorpusFile, start: int, stop: int) -> None:
    """Rebuild networks from their configurations, and compare."""
    records = file.architectures(slice(start, stop))
    configs = []
    for offset, record in enumerate(records):
        try:
            configs.append(decode(record))
        except ConfigError as error:
            raise _wrong(file, start + offset, str(error)) from error
    architectures = encode(configs)  # nothing but what is valid gets into machine code
    wrong = np.flatnonzero(architectures != records)
    if len(wrong):
        raise _wrong(file, start + wrong[0], "has values where its configuration has none")
    measures, rows = tabulate(architectures)
    wrong = np.flatnonzero(measures["num_params_imagenet"] == 0)
    if len(wrong):
        raise _wrong(file, start + wrong[0], "has no output, because its `none` operations cut every path to it")
    for name in MEASURE.names or ():
        if name != "candidate":
            found, expected = file.column(name)[start:stop], measures[name]
            wrong = np.flatnonzero(found != expected)
            if len(wrong):
                what = f"{name} is {found[wrong[0]]}, its configuration gives {expected[wrong[0]]}"
                raise _wrong(file, start + wrong[0], what)
    wrong = np.flatnonzero(rows != file.wiring(start, stop))
    if len(wrong):
        network = start + np.searchsorted(np.cumsum(measures["num_rows"]), wrong[0], side="right")
        raise _wrong(file, network, "its graph is not that of its configuration")


def _wrong(file: CorpusFile, network: Any, what: str) -> IntegrityError:
    return IntegrityError(f"{file.path}: split {file.split}, network {network}: {what}")
