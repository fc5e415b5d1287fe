"""Build the corpus: make shards on any number of workers, drop duplicates, write one file per split.

The evaluation splits are made first and in memory; what is equal to one of their networks never enters `train` or
`search`.  Those two are made of shards of candidates, kept in `<out>/.partial` until their file is complete, so a
build that was stopped continues.  Which candidates are kept is decided here, in their order, so neither the number
of workers nor the size asked for changes it: a smaller corpus is the beginning of a larger one.

Before anything is touched, every file in the folder is looked at: one folder holds one corpus, and what is not of the
plan is in its way.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import h5py
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import deepnets
from deepnets.corpus import COLUMNS, Columns, CorpusFile, corpus_path, write_corpus
from deepnets.support import ConfigError, DeepNetsError, FormatError, check_seal, checked_integer, digest_of_sources
from generator.interrupts import Interrupts
from generator.sampler import REJECTIONS, STREAM_VERSION
from generator.shards import Shard, ShardTask, make_shard, read_shard
from generator.splits import EVALUATION, SPLITS, SplitSpec, split_spec
from generator.workers import ShardMaker, Workers

__all__ = ["BuildPlan", "SplitReport", "build_corpus", "shard_folder"]

log = logging.getLogger(__name__)

EXPECTED_YIELD = {"train": 0.82, "search": 0.73}
"""Share of candidates that end up in a split; if it was less, there is another round of shards."""

LARGEST_SIZE = 10**9
"""Beyond it, equal fingerprints of different networks would no longer be rare (there are 2^64 of them)."""


@dataclass(frozen=True)
class BuildPlan:
    """What decides the content of a corpus: the splits, their sizes and the seed.

    Attributes
    ----------
    splits
        Names from `generator.splits.SPLITS`.
    seed
        Any integer from 0 on; every split draws from its own stream of it.
    train_size, search_size
        Number of networks in those two splits; the evaluation splits have their published sizes.
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
            checked_integer(name, getattr(self, name), range(-sys.maxsize, sys.maxsize))
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {self.seed}")
        for name, size in (("train_size", self.train_size), ("search_size", self.search_size)):
            if not 1 <= size <= LARGEST_SIZE:
                raise ConfigError(f"{name}: expected 1 to {LARGEST_SIZE:,}, got {size:,}")

    def size(self, split: str) -> int:
        """Number of networks of a split."""
        return {"train": self.train_size, "search": self.search_size}.get(split, SPLITS[split].size)


@dataclass(frozen=True)
class SplitReport:
    """What was done for one split.

    Attributes
    ----------
    split, path, networks, size_bytes, content_digest
        The split and its file.
    built
        False if a finished file of the same plan was there already.
    candidates, rejected, duplicates
        Candidates drawn until the last network, how many of them were rejected for each reason (reasons can coincide),
        and how many were dropped as duplicates.
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
    """Make the files of a corpus; what is already finished is left alone, what was begun is continued.

    Parameters
    ----------
    out
        Folder of the corpus, made if missing.
    plan
        What to build; everything at its published size by default.
    workers
        Where shards are made.
    overwrite
        Replace files that were made from another plan, instead of refusing.

    Returns
    -------
    One report per split, in the order in which they were made.

    Raises
    ------
    ConfigError
        For a file of another plan in the folder.
    DeepNetsError
        If another build runs in the folder, or it cannot be written to.
    """
    plan = plan or BuildPlan()
    workers = workers or Workers()
    out = Path(out)
    partial = out / ".partial"
    try:
        done = _done(out, plan, overwrite)
        if all(done.values()):
            return [report for report in done.values() if report]
        partial.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(partial / "lock", timeout=0):
            reports = _build(out, partial, plan, workers, overwrite)
            _remove_if_empty(partial)
            return reports
    except filelock.Timeout as error:
        raise DeepNetsError(f"{out}: another build is running in this folder; wait for it or choose another") from error
    except OSError as error:
        where = error.filename or out
        raise DeepNetsError(f"{where}: cannot be read or written: {error.strerror or error}") from error


def _build(out: Path, partial: Path, plan: BuildPlan, workers: Workers, overwrite: bool) -> list[SplitReport]:
    reports = []
    evaluation: dict[str, Selection] | None = None
    _remove_temporaries(out)
    with Interrupts() as interrupts, ShardMaker(workers, interrupts) as maker:
        for name, report in _done(out, plan, overwrite).items():
            if report is None:
                if evaluation is None:
                    evaluation = _select_evaluation(plan, workers.progress, interrupts)
                if name in evaluation:
                    selection = evaluation[name]
                else:
                    selection = _select_sharded(plan, name, partial, maker, evaluation, interrupts)
                report = _write(corpus_path(out, name), plan, selection, workers.progress, interrupts)
            for folder in partial.glob(f"{name}-seed*"):  # nothing is left to continue
                shutil.rmtree(folder, ignore_errors=True)
            reports.append(report)
    return reports


# --- which candidates are kept ------------------------------------------------------------------------------------


@dataclass
class Selection:
    """The networks of a split: which accepted candidates of which shards, and what became of the rest."""

    spec: SplitSpec
    shards: Sequence[ShardTask | Shard]
    folder: Path
    keep: list[npt.NDArray[np.bool_]]
    columns: Columns
    candidates: int
    rejected: dict[str, int]
    duplicates: int

    def wiring(self) -> Iterator[npt.NDArray[np.void]]:
        """The rows of the kept networks, shard after shard."""
        for shard, keep in zip(self.shards, self.keep):
            yield _loaded(shard, self.folder).rows(keep)


def _select(
    spec: SplitSpec,
    size: int,
    shards: Sequence[ShardTask | Shard],
    folder: Path,
    excluded: npt.NDArray[np.uint64],
    interrupts: Interrupts,
) -> Selection:
    """Keep the first `size` networks that are neither excluded nor equal to an earlier one."""
    reasons, lengths = [], []
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in COLUMNS}
    for shard in interrupts.between(shards):
        loaded = _loaded(shard, folder, wiring=False)
        reasons.append(loaded.reasons)
        lengths.append(len(loaded.measures))
        for name, values in loaded.columns().items():
            # A copy of what the split's networks can need, not a view that keeps whole records in memory.
            columns[name].append((values[..., : 2 * spec.steps[2]] if values.ndim == 3 else values).copy())
    merged = {name: np.concatenate(columns.pop(name)) for name in list(columns)}
    first = np.zeros(len(merged["fingerprint"]), np.bool_)
    first[np.unique(merged["fingerprint"], return_index=True)[1]] = True
    fresh = first & ~np.isin(merged["fingerprint"], excluded)
    keep = fresh & (np.cumsum(fresh) <= size)
    last = int(np.flatnonzero(keep)[-1]) if keep.any() else -1
    candidates = int(merged["candidate"][last]) + 1 if last >= 0 else 0
    seen = np.concatenate(reasons)[:candidates]
    return Selection(
        spec=spec,
        shards=shards,
        folder=folder,
        keep=np.split(keep, np.cumsum(lengths)[:-1]),
        columns={name: merged.pop(name)[keep] for name in list(merged)},
        candidates=candidates,
        rejected={reason: int((seen >> bit & 1).sum()) for bit, reason in enumerate(REJECTIONS)},
        duplicates=int((~fresh[: last + 1]).sum()),
    )


def _select_evaluation(plan: BuildPlan, progress: bool, interrupts: Interrupts) -> dict[str, Selection]:
    """The evaluation splits, each without the networks of those before it; small enough for one process."""
    selections: dict[str, Selection] = {}
    text = "evaluation splits (the first build compiles for half a minute)"
    for name, spec in tqdm(
        interrupts.between(EVALUATION.items()), text, len(EVALUATION), unit="split", leave=False, **_bar(progress)
    ):
        excluded = _fingerprints(selections)
        count = 2 * spec.size
        while True:
            shard = make_shard(ShardTask(spec, plan.seed, 0, count))
            selection = _select(spec, spec.size, [shard], Path(), excluded, interrupts)
            if len(selection.columns["candidate"]) == spec.size:
                break
            count *= 2
        selections[name] = selection
    selections["wide"] = _first(selections["test"], SPLITS["wide"])
    return selections


def _first(selection: Selection, spec: SplitSpec) -> Selection:
    """A split that is the beginning of another one."""
    shard = selection.shards[0]
    assert isinstance(shard, Shard)  # noqa: S101 - evaluation splits are made in memory
    places = np.flatnonzero(selection.keep[0])[: spec.size]
    keep = np.zeros_like(selection.keep[0])
    keep[places] = True
    candidates = int(shard.measures["candidate"][places[-1]]) + 1
    seen = shard.reasons[:candidates]
    return Selection(
        spec=spec,
        shards=selection.shards,
        folder=selection.folder,
        keep=[keep],
        columns=shard.columns(keep),
        candidates=candidates,
        rejected={reason: int((seen >> bit & 1).sum()) for bit, reason in enumerate(REJECTIONS)},
        duplicates=int(places[-1]) + 1 - spec.size,
    )


def _select_sharded(
    plan: BuildPlan,
    name: str,
    partial: Path,
    maker: ShardMaker,
    evaluation: dict[str, Selection],
    interrupts: Interrupts,
) -> Selection:
    """A large split: rounds of shards until there are enough networks."""
    spec, size, shard_size = SPLITS[name], plan.size(name), maker.workers.shard_size
    folder = partial / shard_folder(name, plan.seed)
    folder.mkdir(exist_ok=True)
    for left in folder.glob(".*.tmp"):  # by a worker that was killed
        left.unlink(missing_ok=True)
    excluded = _fingerprints(evaluation)
    shards: list[ShardTask] = []
    missing, start = size, 0
    while missing > 0:
        end = start + math.ceil(missing / EXPECTED_YIELD.get(name, 0.75) + 4 * math.sqrt(missing))
        starts = range(start, end, shard_size)
        shards += [ShardTask(spec, plan.seed, i, min(shard_size, end - i)) for i in starts]
        maker.make(shards, folder)
        selection = _select(spec, size, shards, folder, excluded, interrupts)
        missing, start = size - len(selection.columns["candidate"]), end
    return selection


def shard_folder(split: str, seed: int) -> str:
    """A name with all that decides a shard in it, so that none of another seed, or of other code, is ever taken up."""
    return f"{split}-seed{seed}-stream{STREAM_VERSION}-{digest_of_sources(__name__)}"


def _fingerprints(selections: dict[str, Selection]) -> npt.NDArray[np.uint64]:
    return np.concatenate([s.columns["fingerprint"] for s in selections.values()] or [np.zeros(0, np.uint64)])


def _loaded(shard: ShardTask | Shard, folder: Path, *, wiring: bool = True) -> Shard:
    return read_shard(shard, folder, wiring=wiring) if isinstance(shard, ShardTask) else shard


# --- files ------------------------------------------------------------------------------------------------------------


def _write(path: Path, plan: BuildPlan, selection: Selection, progress: bool, interrupts: Interrupts) -> SplitReport:
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
    blocks = tqdm(
        interrupts.between(selection.wiring()),
        f"writing {path.name}",
        len(selection.shards),
        unit="shard",
        leave=False,
        **_bar(progress and len(selection.shards) > 1),
    )
    write_corpus(path, attributes, selection.columns, blocks)
    return _report(path, built=True)


def _identity(plan: BuildPlan, split: str) -> dict[str, Any]:
    """What a file must agree in to be the one that a plan asks for."""
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


def _done(out: Path, plan: BuildPlan, overwrite: bool) -> dict[str, SplitReport | None]:
    """The reports of the plan's files that are finished, None for those to make, in the order to make them.

    `ConfigError` if anything is in the way of the plan.
    """
    for name in SPLITS:
        if name not in plan.splits:
            _check_neighbour(corpus_path(out, name), plan)
    order = sorted(SPLITS, key=lambda name: plan.size(name))
    return {name: _finished(out, plan, name, overwrite) for name in order if name in plan.splits}


def _check_neighbour(path: Path, plan: BuildPlan) -> None:
    """Refuse to put another corpus beside a file that is not part of the plan."""
    with contextlib.suppress(FormatError):  # whatever it is, it is not in the way
        with CorpusFile(path) as file:
            found = file.attributes
        if (found.get("seed"), found.get("stream_version")) != (plan.seed, STREAM_VERSION):
            whose = f"seed {found.get('seed')}, stream {found.get('stream_version')}"
            raise ConfigError(
                f"{path}: belongs to another corpus ({found.get('origin', whose)}; not seed {plan.seed}, stream "
                f"{STREAM_VERSION}); one folder holds one corpus, so build into another"
            )


def _finished(out: Path, plan: BuildPlan, split: str, overwrite: bool) -> SplitReport | None:
    """The report of a finished file of this plan; None if there is none (or one that may be overwritten)."""
    path = corpus_path(out, split)
    if not path.exists():
        return None
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; remove it, or build into another folder")
    try:
        with CorpusFile(path) as file:
            found = file.attributes
        check_seal(path)
    except FormatError as error:
        if overwrite:
            return None
        raise ConfigError(f"{error}; build into another folder, or say --overwrite to replace the file") from error
    differences = [
        f"{name} {found.get(name)!r} instead of {value!r}"
        for name, value in _identity(plan, split).items()
        if found.get(name) != value
    ]
    if not differences:
        log.info("%s: complete", path)
        return _report(path, built=False)
    if overwrite:
        return None
    raise ConfigError(
        f"{path}: was built with other parameters ({'; '.join(differences)}); build into another folder, or say "
        "--overwrite to replace it"
    )


def _remove_temporaries(out: Path) -> None:
    """Remove what writers left that were killed; nobody else writes here while we have the lock."""
    for name in SPLITS:
        for left in out.glob(f".{corpus_path(out, name).name}.*.tmp"):
            left.unlink(missing_ok=True)


def _remove_if_empty(partial: Path) -> None:
    """Remove the folder of shards with its lock, unless it holds the beginning of another split."""
    if not any(entry.is_dir() for entry in partial.iterdir()):
        shutil.rmtree(partial)


def _report(path: Path, built: bool) -> SplitReport:
    with CorpusFile(path) as file:
        about = file.attributes
        return SplitReport(
            split=file.split,
            path=path,
            networks=file.num_networks,
            size_bytes=path.stat().st_size,
            content_digest=file.content_digest,
            built=built,
            candidates=about["candidates"],
            rejected=about["rejected"],
            duplicates=about["duplicates"],
        )


def _bar(progress: bool) -> dict[str, Any]:
    """Options of a progress bar: only where it is wanted, and only on a terminal."""
    return {"disable": None if progress else True}
