"""Build the corpus: make shards on any number of workers, drop duplicates, write one file per split.

The evaluation splits are made first and in memory; what is equal to one of their networks never enters `train` or
`search`.  Those two are made of shards of candidates, kept in `<out>/.partial` until their file is complete, so a
build that was stopped continues.  Which candidates are kept is decided here, in their order, so neither the number
of workers nor the size asked for changes it: a smaller corpus is the beginning of a larger one.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import h5py
import numpy as np
import numpy.typing as npt

import deepnets
from deepnets.errors import ConfigError, DeepNetsError, FormatError
from deepnets.storage import Columns, CorpusFile, corpus_path, write_corpus
from generator.sampler import REJECTIONS, STREAM_VERSION
from generator.shards import Shard, ShardTask, make_shard, read_shard
from generator.splits import EVALUATION, SPLITS, SplitSpec, split_spec
from generator.workers import Workers, make_shards

__all__ = ["BuildPlan", "SplitReport", "build_corpus"]

log = logging.getLogger(__name__)

SHARD_SIZE = 16_384
"""Candidates per shard: half a second of work, 2 MB on disk, 80 MB in memory."""

EXPECTED_YIELD = 0.78
"""Share of candidates that end up in a split, a little underestimated: one round of shards is then enough."""


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
        for name, value, least in (("seed", self.seed, 0), ("train_size", self.train_size, 1)):
            if value < least:
                raise ConfigError(f"{name}: expected {least} or more, got {value}")
        if self.search_size < 1:
            raise ConfigError(f"search_size: expected 1 or more, got {self.search_size}")

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
    out = Path(out)
    partial = out / ".partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeepNetsError(f"{out}: cannot be made or written to: {error.strerror}") from error
    try:
        with filelock.FileLock(partial / "lock", timeout=0):
            return _build(out, partial, plan, workers or Workers(), overwrite)
    except filelock.Timeout as error:
        raise DeepNetsError(f"{out}: another build is running in this folder; wait for it or choose another") from error
    except OSError as error:
        raise DeepNetsError(f"{out}: cannot be written to: {error.strerror or error}") from error


def _build(out: Path, partial: Path, plan: BuildPlan, workers: Workers, overwrite: bool) -> list[SplitReport]:
    todo = [name for name in SPLITS if name in plan.splits]
    todo.sort(key=["val", "test", "deep", "dense", "bnfree", "wide", "search", "train"].index)
    finished = {name: _finished(out, plan, name, overwrite) for name in todo}
    reports = []
    evaluation: dict[str, Selection] | None = None
    for name in todo:
        report = finished[name]
        if report is None:
            if evaluation is None:
                evaluation = _select_evaluation(plan)
            if name in evaluation:
                selection = evaluation[name]
            else:
                selection = _select_sharded(plan, name, partial, workers, evaluation)
            report = _write(corpus_path(out, name), plan, selection)
        reports.append(report)
    for folder in partial.glob("*/"):  # nothing is left to continue
        shutil.rmtree(folder)
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
    spec: SplitSpec, size: int, shards: Sequence[ShardTask | Shard], folder: Path, excluded: npt.NDArray[np.uint64]
) -> Selection:
    """Keep the first `size` networks that are neither excluded nor equal to an earlier one."""
    reasons, lengths, columns = [], [], []
    for shard in shards:
        loaded = _loaded(shard, folder)
        reasons.append(loaded.reasons)
        lengths.append(len(loaded.measures))
        columns.append(loaded.columns())
    merged = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
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
        columns={name: values[keep] for name, values in merged.items()},
        candidates=candidates,
        rejected={reason: int((seen >> bit & 1).sum()) for bit, reason in enumerate(REJECTIONS)},
        duplicates=int((~fresh[: last + 1]).sum()),
    )


def _select_evaluation(plan: BuildPlan) -> dict[str, Selection]:
    """The evaluation splits, each without the networks of those before it; small enough for one process."""
    selections: dict[str, Selection] = {}
    for name, spec in EVALUATION.items():
        excluded = _fingerprints(selections)
        count = 2 * spec.size
        while True:
            shard = make_shard(ShardTask(spec, plan.seed, 0, count))
            selection = _select(spec, spec.size, [shard], Path(), excluded)
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
    plan: BuildPlan, name: str, partial: Path, workers: Workers, evaluation: dict[str, Selection]
) -> Selection:
    """A large split: rounds of shards until there are enough networks."""
    spec, size = SPLITS[name], plan.size(name)
    # The stream's identity is in the folder's name, so that shards of another seed or version are never taken up.
    folder = partial / f"{name}-seed{plan.seed}-stream{STREAM_VERSION}-{deepnets.__version__}"
    folder.mkdir(exist_ok=True)
    excluded = _fingerprints(evaluation)
    shards: list[ShardTask] = []
    missing = size
    while missing > 0:
        more = math.ceil(missing / (EXPECTED_YIELD * SHARD_SIZE))
        first = len(shards)
        shards += [ShardTask(spec, plan.seed, i * SHARD_SIZE, SHARD_SIZE) for i in range(first, first + more)]
        make_shards(shards, folder, workers)
        selection = _select(spec, size, shards, folder, excluded)
        missing = size - len(selection.columns["candidate"])
    return selection


def _fingerprints(selections: dict[str, Selection]) -> npt.NDArray[np.uint64]:
    return np.concatenate([s.columns["fingerprint"] for s in selections.values()] or [np.zeros(0, np.uint64)])


def _loaded(shard: ShardTask | Shard, folder: Path) -> Shard:
    return read_shard(shard, folder) if isinstance(shard, ShardTask) else shard


# --- files ------------------------------------------------------------------------------------------------------------


def _write(path: Path, plan: BuildPlan, selection: Selection) -> SplitReport:
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
    write_corpus(path, attributes, selection.columns, selection.wiring())
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


def _finished(out: Path, plan: BuildPlan, split: str, overwrite: bool) -> SplitReport | None:
    """The report of a finished file of this plan; None if there is none (or one that may be overwritten)."""
    path = corpus_path(out, split)
    if not path.exists():
        return None
    try:
        with CorpusFile(path) as file:
            found = file.attributes
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
