"""Verify corpus files: every byte, every graph, and every number in the columns."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.architecture import decode, encode
from deepnets.corpus.layout import corpus_path
from deepnets.corpus.statistics import STATISTICS, compute_statistics
from deepnets.corpus.storage import CorpusFile, content_digest
from deepnets.support import EVALUATION_SPLITS, STORED_SPLITS, ConfigError, IntegrityError, ProgressBar, verify_checksum

__all__ = ["SharedNetworks", "Verification", "check_disjoint", "check_one_corpus", "find_shared_networks", "verify"]

_BLOCK = 256  # networks that are rebuilt at a time; limits memory even for the largest graphs


@dataclass(frozen=True)
class Verification:
    """Result of a successful verification.

    Attributes
    ----------
    path, split, num_networks, content_digest
        The file, its split, its number of networks and its content digest.
    rebuilt
        Whether every graph was compared with the one rebuilt from its configuration.

    Examples
    --------
    See `verify`.
    """

    path: Path
    split: str
    num_networks: int
    content_digest: str
    rebuilt: bool


def verify(path: Path | str, *, quick: bool = False, progress: bool = False) -> Verification:
    """Verify a corpus file.

    Parameters
    ----------
    path
        The file.
    quick
        Verify the checksum of the file, its layout and its content digest, but do not rebuild every graph.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Verification

    Raises
    ------
    FormatError
        If the file is not a corpus file.
    IntegrityError
        If the file is damaged; the message names the split and the network.

    Examples
    --------
    >>> import tempfile
    >>> from generator import BuildPlan, Workers, build_corpus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plan = BuildPlan(splits=("search",), search_size=5)
    ...     (report,) = build_corpus(folder, plan, workers=Workers(num_workers=1))
    ...     verify(report.path).num_networks
    5
    """
    path = Path(path)
    with CorpusFile(path) as file:  # first, because its error messages are the clearest
        verify_checksum(path)
        if content_digest(file) != file.content_digest:
            raise IntegrityError(f"{path}: split {file.split}: its content does not match its digest")
        if not quick:
            _check_order(file)
            blocks = range(0, file.num_networks, _BLOCK)
            for start in ProgressBar(blocks, desc=f"verify {file.split}", show=progress):
                _check_networks(file, start, min(start + _BLOCK, file.num_networks))
        return Verification(path, file.split, file.num_networks, file.content_digest, rebuilt=not quick)


def check_one_corpus(folder: Path | str) -> None:
    """Check that the files of a folder belong to one corpus, and that each holds the split that its name says.

    Only files with the same seed have different networks in `train` and in the evaluation splits.

    Parameters
    ----------
    folder
        The corpus folder.

    Raises
    ------
    FormatError
        If a file is not a corpus file.
    IntegrityError
        If a file has the name of another split; or if two files were built with different seeds or by different
        versions of the generator, or only one of them was imported.

    Examples
    --------
    >>> check_one_corpus("an empty folder")
    """
    first: tuple[Path, str] | None = None
    for split in STORED_SPLITS:
        path = corpus_path(folder, split)
        if path.exists():
            with CorpusFile(path) as file:
                about, held = file.attributes, file.split
            if held != split:
                raise IntegrityError(f"{path}: holds the split {held!r}, not {split!r}; was it renamed?")
            seed = f"built with seed {about['seed']}" if "seed" in about else "imported"
            version = about.get("stream_version", 1)
            made = f"{seed} by version {version} of the generator" if version != 1 else seed
            first = first or (path, made)
            if first[1] != made:
                raise IntegrityError(
                    f"{folder}: {first[0].name} was {first[1]}, and {path.name} was {made}; one folder holds one corpus"
                )


def check_disjoint(folder: Path | str) -> list[str]:
    """Check that no network of an evaluation split is in another split of a corpus folder.

    The split `wide` is not compared, because it consists of networks of `test`.

    Parameters
    ----------
    folder
        The corpus folder.

    Returns
    -------
    list of str
        The pairs of splits that were compared, such as "val/test".  Splits without a file and imported ones are
        skipped.

    Raises
    ------
    IntegrityError
        If two networks are equal; the message names them.

    Examples
    --------
    >>> check_disjoint("an empty folder")
    []
    """
    fingerprints = _fingerprints(folder, imported=False)
    compared = []
    for first, second in itertools.combinations(fingerprints, 2):
        if first in EVALUATION_SPLITS:
            compared.append(f"{first}/{second}")
            _, i, j = np.intersect1d(fingerprints[first], fingerprints[second], return_indices=True)
            if len(i):
                raise IntegrityError(f"{folder}: network {i[0]} of {first} is network {j[0]} of {second}")
    return compared


class SharedNetworks(NamedTuple):
    """Networks of an evaluation split that are in another split, too.

    Attributes
    ----------
    split, other
        The evaluation split, and the other split.
    shared, networks
        Number of the networks of `split` that are in `other`, and number of all networks of `split`.

    Examples
    --------
    >>> print(SharedNetworks("test", "train", 12, 500))
    12 of 500 networks of test are in train, too
    """

    split: str
    other: str
    shared: int
    networks: int

    def __str__(self) -> str:
        return f"{self.shared:,} of {self.networks:,} networks of {self.split} are in {self.other}, too"


def find_shared_networks(folder: Path | str) -> list[SharedNetworks]:
    """Count the networks of evaluation splits that are in another split of a corpus folder, too.

    Unlike `check_disjoint`, this includes imported splits: files of the original release have such networks.

    Parameters
    ----------
    folder
        The corpus folder.

    Returns
    -------
    list of SharedNetworks
        One item for every pair of splits with common networks.  `wide` consists of networks of `test` and is left out.

    Raises
    ------
    FormatError, IntegrityError
        If a file is not a corpus file, or is damaged.

    Examples
    --------
    >>> find_shared_networks("an empty folder")
    []
    """
    fingerprints = _fingerprints(folder, imported=True)
    found = []
    for split, other in itertools.combinations(fingerprints, 2):
        if split in EVALUATION_SPLITS:
            shared = int(np.isin(fingerprints[split], fingerprints[other]).sum())
            if shared:
                found.append(SharedNetworks(split, other, shared, len(fingerprints[split])))
    return found


def _fingerprints(folder: Path | str, *, imported: bool) -> dict[str, npt.NDArray[np.uint64]]:
    """Return the fingerprints of the networks of every split of a folder, evaluation splits first."""
    fingerprints = {}
    for split in (*EVALUATION_SPLITS, "train", "search"):
        path = corpus_path(folder, split)
        if path.exists():
            with CorpusFile(path) as file:
                if imported or "seed" in file.attributes:
                    fingerprints[split] = file.column("fingerprint")
    return fingerprints


def _check_order(file: CorpusFile) -> None:
    """Check that networks are in the order of candidates and, unless they were imported, all different."""
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
    """Rebuild networks from their configurations and compare them with the file."""
    records = file.architectures(slice(start, stop))
    configs = []
    for offset, record in enumerate(records):
        try:
            configs.append(decode(record))
        except ConfigError as error:
            raise _wrong(file, start + offset, str(error)) from error
    architectures = encode(configs)  # compiled code must not read invalid records
    wrong = np.flatnonzero(architectures != records)
    if len(wrong):
        raise _wrong(file, start + wrong[0], "has values where its configuration has none")
    statistics, rows = compute_statistics(architectures)
    wrong = np.flatnonzero(statistics["num_params_imagenet"] == 0)
    if len(wrong):
        raise _wrong(file, start + wrong[0], "has no output, because its `none` operations cut every path to it")
    for name in STATISTICS.names or ():
        if name != "candidate":
            found, expected = file.column(name)[start:stop], statistics[name]
            wrong = np.flatnonzero(found != expected)
            if len(wrong):
                what = f"{name} is {found[wrong[0]]}, its configuration gives {expected[wrong[0]]}"
                raise _wrong(file, start + wrong[0], what)
    wrong = np.flatnonzero(rows != file.wiring(start, stop))
    if len(wrong):
        network = start + np.searchsorted(np.cumsum(statistics["num_rows"]), wrong[0], side="right")
        raise _wrong(file, network, "its graph is not that of its configuration")


def _wrong(file: CorpusFile, network: Any, what: str) -> IntegrityError:
    return IntegrityError(f"{file.path}: split {file.split}, network {network}: {what}")
