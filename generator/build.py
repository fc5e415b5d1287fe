"""Build the corpus: one checksummed HDF5 file per split.

Before anything is written, every file in the folder is checked: a folder holds one corpus, and a file that belongs to
another one is an error.  If such files are to be overwritten, they leave the folder before the first new one appears,
so that nobody reads half of either corpus; until the build is complete, they are in `<out>/.partial/replaced`.

Shards are kept in `<out>/.partial` until the file of their split is complete, so that an interrupted build can be
resumed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import deepnets
from deepnets.corpus import CorpusFile, corpus_path, write_corpus
from deepnets.support import (
    CLUSTERS,
    BusyError,
    ConfigError,
    DeepNetsError,
    DeferredSignals,
    FormatError,
    ProgressBar,
    check_cluster,
    checked_integer,
    exclusive,
    remove_temporary,
    verify_checksum,
)
from generator.sampler import STREAM_VERSION
from generator.selection import Selection, select_evaluation, select_sharded
from generator.splits import SPLITS, split_spec
from generator.workers import ShardMaker, Workers

__all__ = ["LARGEST_SIZE", "BuildPlan", "SplitReport", "build_corpus"]

log = logging.getLogger(__name__)

LARGEST_SIZE = 10**9
"""Largest number of networks in a split.  In larger splits, different networks would often share a fingerprint."""


@dataclass(frozen=True)
class BuildPlan:
    """The splits of a corpus, their sizes and the seed: everything that determines its content.

    Parameters
    ----------
    splits
        Names from `generator.SPLITS`.  All of them by default.
    seed
        Random seed, 0 or more.  Every split has its own random stream.
    train_size, search_size
        Number of networks in the splits `train` and `search`.  The other splits have their published sizes.

    Raises
    ------
    ConfigError
        If a split is unknown or a number is out of range.

    Examples
    --------
    >>> plan = BuildPlan(splits=("train", "val"), train_size=20_000)
    >>> plan.size("train"), plan.size("val")
    (20000, 500)
    """

    splits: tuple[str, ...] = tuple(SPLITS)
    seed: int = 0
    train_size: int = SPLITS["train"].size
    search_size: int = SPLITS["search"].size

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", tuple(dict.fromkeys(self.splits)))
        if not self.splits:
            raise ConfigError(f"splits: none given; choose from {', '.join(SPLITS)}")
        for name in self.splits:
            split_spec(name)
        for name in ("seed", "train_size", "search_size"):
            value = checked_integer(name, getattr(self, name), range(-sys.maxsize, sys.maxsize))
            object.__setattr__(self, name, value)
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {self.seed}")
        for name, size in (("train_size", self.train_size), ("search_size", self.search_size)):
            if not 1 <= size <= LARGEST_SIZE:
                raise ConfigError(f"{name}: expected 1 to {LARGEST_SIZE:,}, got {size:,}")

    def size(self, split: str) -> int:
        """Return the number of networks of a split.

        Parameters
        ----------
        split
            A name from `generator.SPLITS`.
        """
        return {"train": self.train_size, "search": self.search_size}.get(split, SPLITS[split].size)


@dataclass(frozen=True)
class SplitReport:
    """Summary of the file of a split.

    Attributes
    ----------
    split
        Name of the split.
    path
        The file.
    networks
        Number of networks.
    size_bytes
        Size of the file.
    content_digest
        SHA-256 of the content, in hexadecimal.
    built
        Whether the file was built by this call; False if it was complete before.
    candidates
        Number of candidates that were drawn up to the last network.
    rejected
        Number of candidates that were rejected, by reason.  A candidate can have several reasons.
    duplicates
        Number of candidates that were dropped because they equal an earlier network.

    Examples
    --------
    See `build_corpus`.
    """

    split: str
    path: Path
    networks: int
    size_bytes: int
    content_digest: str
    built: bool
    candidates: int
    rejected: dict[str, int]
    duplicates: int


def build_corpus(
    out: Path | str,
    plan: BuildPlan | None = None,
    *,
    workers: Workers | None = None,
    overwrite: bool = False,
) -> list[SplitReport]:
    """Build the files of a corpus, or resume an interrupted build.

    Finished files are left unchanged.

    Parameters
    ----------
    out
        Corpus folder; created if missing.
    plan
        Splits, sizes and seed.  By default all splits at their published sizes.
    workers
        How shards are made in parallel.  By default one process per core.
    overwrite
        Whether to replace files that were built from another plan.  By default they are an error.

    Returns
    -------
    list of SplitReport
        One report per split of the plan, in the order in which the splits are built.

    Raises
    ------
    ConfigError
        If a file in the folder belongs to another plan.
    BusyError
        If another process builds in the folder.
    DeepNetsError
        If the folder is not writable, or workers fail.

    Examples
    --------
    >>> import tempfile
    >>> plan = BuildPlan(splits=("search",), search_size=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (report,) = build_corpus(folder, plan, workers=Workers(num_workers=1))
    >>> report.split, report.networks, report.built
    ('search', 5, True)
    """
    plan = plan or BuildPlan()
    workers = workers or Workers()
    out = Path(out)
    partial = out / ".partial"
    try:
        reports = _finished_reports(out, plan, overwrite, {})
        if all(reports.values()):
            if partial.is_dir():  # a build was killed at its end, or another one is running
                with contextlib.suppress(BusyError, OSError), _locked(out, partial):
                    _build(out, partial, plan, workers, reports)
                    _remove_if_empty(partial)
            return [report for report in reports.values() if report]
        if workers.backend in CLUSTERS:
            check_cluster(workers.backend)
        partial.mkdir(parents=True, exist_ok=True)
        with _locked(out, partial):
            built = _build(out, partial, plan, workers, _finished_reports(out, plan, overwrite, reports))
            _remove_if_empty(partial)
            return built
    except OSError as error:
        where = error.filename or out
        raise DeepNetsError(f"{where}: cannot be read or written: {error.strerror or error}") from error


@contextlib.contextmanager
def _locked(out: Path, partial: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(partial))
        except BusyError as error:
            raise BusyError(f"{out}: another build is running in this folder; wait for it or choose another") from error
        yield


def _build(
    out: Path, partial: Path, plan: BuildPlan, workers: Workers, finished: dict[str, SplitReport | None]
) -> list[SplitReport]:
    reports = []
    evaluation: dict[str, Selection] | None = None
    remove_temporary(out, [corpus_path(out, name).name for name in SPLITS])
    replaced = partial / "replaced"
    for name in finished:
        if _attributes_of_another_corpus(corpus_path(out, name), plan):
            replaced.mkdir(exist_ok=True)
            corpus_path(out, name).replace(replaced / corpus_path(out, name).name)
    with DeferredSignals(repeat_after=2, deliver_after=10) as signals, ShardMaker(workers, signals) as maker:
        for name, report in finished.items():
            if report is None:
                if evaluation is None:
                    evaluation = select_evaluation(plan.seed, workers.progress, signals)
                if name in evaluation:
                    selection = evaluation[name]
                else:
                    selection = select_sharded(name, plan.size(name), plan.seed, partial, maker, evaluation, signals)
                report = _write(corpus_path(out, name), plan, selection, workers.progress, signals)
            for folder in partial.glob(f"{name}-seed*"):  # the split is complete, its shards are not needed any more
                shutil.rmtree(folder, ignore_errors=True)
            reports.append(report)
    shutil.rmtree(replaced, ignore_errors=True)
    return reports


def _write(path: Path, plan: BuildPlan, selection: Selection, progress: bool, signals: DeferredSignals) -> SplitReport:
    attributes = {
        **_identity(plan, selection.spec.name),
        "candidates": selection.candidates,
        "rejected": selection.rejected,
        "duplicates": selection.duplicates,
        "versions": {
            "deepnets1m": deepnets.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "h5py": h5py.__version__,
            "hdf5": h5py.version.hdf5_version,
        },
    }
    blocks = ProgressBar(
        signals.between(selection.wiring()),
        f"writing {path.name}",
        len(selection.shards),
        unit="shard",
        leave=False,
        show=progress and len(selection.shards) > 1,
    )
    write_corpus(path, attributes, selection.columns, blocks)
    with CorpusFile(path) as file:
        return _report(file, built=True)


def _identity(plan: BuildPlan, split: str) -> dict[str, Any]:
    """Attributes that a file must have to be the one of a plan."""
    spec = SPLITS["test"] if split == "wide" else SPLITS[split]
    rules = json.loads(json.dumps({k: v for k, v in asdict(spec).items() if k not in ("name", "size")}))
    return {
        "split": split,
        "size": plan.size(split),
        "seed": plan.seed,
        "stream_version": STREAM_VERSION,
        "stream": spec.name,
        "rules": rules,
    }


# --- files that exist already ---


def _finished_reports(
    out: Path, plan: BuildPlan, overwrite: bool, known: dict[str, SplitReport | None]
) -> dict[str, SplitReport | None]:
    """Reports of the finished files of a plan, None for files that must be built, in the order of building.

    Reports in `known` are not made again, because that reads the whole file.  `ConfigError` if the folder holds a file
    that does not belong to the plan.
    """
    for name in SPLITS:
        if name not in plan.splits:
            _check_neighbour(corpus_path(out, name), plan)
    order = sorted(SPLITS, key=lambda name: plan.size(name))
    return {
        name: known.get(name) or _finished_report(out, plan, name, overwrite) for name in order if name in plan.splits
    }


def _check_neighbour(path: Path, plan: BuildPlan) -> None:
    """Raise `ConfigError` if a corpus file of another split was built with another seed or version."""
    if found := _attributes_of_another_corpus(path, plan):
        whose = f"seed {found.get('seed')}, stream {found.get('stream_version')}"
        raise ConfigError(
            f"{path}: belongs to another corpus ({found.get('origin', whose)}; not seed {plan.seed}, stream "
            f"{STREAM_VERSION}); one folder holds one corpus, so build into another"
        )


def _attributes_of_another_corpus(path: Path, plan: BuildPlan) -> dict[str, Any]:
    """Return the attributes of a corpus file that was built with another seed or version; empty for other files."""
    try:
        with CorpusFile(path) as file:
            found = file.attributes
    except FormatError:  # missing, or no corpus file
        return {}
    return {} if (found.get("seed"), found.get("stream_version")) == (plan.seed, STREAM_VERSION) else found


def _finished_report(out: Path, plan: BuildPlan, split: str, overwrite: bool) -> SplitReport | None:
    """The report of the finished file of a split; None if the file is missing or may be replaced."""
    path = corpus_path(out, split)
    if not path.exists():
        return None
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; remove it, or build into another folder")
    try:
        with CorpusFile(path) as file:
            verify_checksum(path)
            differences = [
                f"{name} {file.attributes.get(name)!r} instead of {value!r}"
                for name, value in _identity(plan, split).items()
                if file.attributes.get(name) != value
            ]
            if not differences:
                log.info("%s: complete", path)
                return _report(file, built=False)
    except FormatError as error:
        if overwrite:
            return None
        raise ConfigError(f"{error}; build into another folder, or use --overwrite to replace the file") from error
    if overwrite:
        return None
    raise ConfigError(
        f"{path}: was built with other parameters ({'; '.join(differences)}); build into another folder, or use "
        "--overwrite to replace it"
    )


def _report(file: CorpusFile, built: bool) -> SplitReport:
    about = file.attributes
    return SplitReport(
        split=file.split,
        path=file.path,
        networks=file.num_networks,
        size_bytes=file.path.stat().st_size,
        content_digest=file.content_digest,
        built=built,
        candidates=about["candidates"],
        rejected=about["rejected"],
        duplicates=about["duplicates"],
    )


def _remove_if_empty(partial: Path) -> None:
    """Remove the folder of shards, unless it holds shards of an unfinished split."""
    if not any(entry.is_dir() for entry in partial.iterdir()):
        shutil.rmtree(partial)
