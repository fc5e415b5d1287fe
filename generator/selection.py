"""Select the networks of every split from the accepted candidates, and drop duplicates.

The evaluation splits are made first and in memory.  Their networks never enter `train` or `search`, which are made from
shards.  Candidates are selected in their order, so neither the number of workers nor the size of a split changes which
ones are kept: a smaller corpus is the beginning of a larger one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.corpus import COLUMNS, Columns
from deepnets.support import DeferredSignals, ProgressBar, digest_of_sources
from generator.sampler import REJECTIONS, STREAM_VERSION
from generator.shards import Shard, ShardTask, make_shard, read_shard
from generator.splits import EVALUATION, SPLITS, SplitSpec
from generator.workers import ShardMaker

__all__ = ["EXPECTED_YIELD", "Selection", "select_evaluation", "select_sharded", "shard_folder"]

EXPECTED_YIELD = {"train": 0.82, "search": 0.73}
"""Expected share of candidates that become networks of a split.  If too few do, more shards are made."""


@dataclass
class Selection:
    """The networks of a split, as a choice among the accepted candidates of shards.

    Attributes
    ----------
    spec
        The split.
    shards
        Shards, or the tasks of shards that are stored in `folder`.
    folder
        Folder of stored shards.
    keep
        For every shard, `(n,) bool`: which of its accepted candidates are networks of the split.
    columns
        Columns of the corpus file.
    candidates, rejected, duplicates
        As in `generator.SplitReport`.

    Examples
    --------
    See `select_evaluation`.
    """

    spec: SplitSpec
    shards: Sequence[ShardTask | Shard]
    folder: Path
    keep: list[npt.NDArray[np.bool_]]
    columns: Columns
    candidates: int
    rejected: dict[str, int]
    duplicates: int

    def wiring(self) -> Iterator[npt.NDArray[np.void]]:
        """Iterate over the `deepnets.corpus.WIRING` rows of the networks, one array per shard."""
        for shard, keep in zip(self.shards, self.keep):
            yield _loaded(shard, self.folder).rows(keep)


def _select(
    spec: SplitSpec,
    size: int,
    shards: Sequence[ShardTask | Shard],
    folder: Path,
    excluded: npt.NDArray[np.uint64],
    signals: DeferredSignals,
) -> Selection:
    """Keep the first `size` networks whose fingerprints are neither excluded nor those of an earlier network."""
    reasons, lengths = [], []
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in COLUMNS}
    for shard in signals.between(shards):
        loaded = _loaded(shard, folder, wiring=False)
        reasons.append(loaded.reasons)
        lengths.append(len(loaded.statistics))
        for name, values in loaded.columns().items():
            # A copy without unused steps: a view would keep whole records in memory.
            columns[name].append((values[..., : 2 * spec.steps[2]] if values.ndim == 3 else values).copy())
    merged = {name: np.concatenate(columns.pop(name)) for name in list(columns)}
    first = np.zeros(len(merged["fingerprint"]), np.bool_)
    first[np.unique(merged["fingerprint"], return_index=True)[1]] = True
    fresh = first & ~np.isin(merged["fingerprint"], excluded)
    keep = fresh & (np.cumsum(fresh) <= size)
    last = int(np.flatnonzero(keep)[-1]) if keep.any() else -1
    candidates = int(merged["candidate"][last]) + 1 if last >= 0 else 0
    return Selection(
        spec=spec,
        shards=shards,
        folder=folder,
        keep=np.split(keep, np.cumsum(lengths)[:-1]),
        columns={name: merged.pop(name)[keep] for name in list(merged)},
        candidates=candidates,
        rejected=_counts(np.concatenate(reasons)[:candidates]),
        duplicates=int((~fresh[: last + 1]).sum()),
    )


def select_evaluation(seed: int, progress: bool, signals: DeferredSignals) -> dict[str, Selection]:
    """Make and select the networks of the evaluation splits in this process.

    Parameters
    ----------
    seed
        Seed of the corpus.
    progress
        Whether to show a progress bar.
    signals
        Checked between splits.

    Returns
    -------
    dict of str to Selection
        By split.  No split holds a network of an earlier one, except `wide`, which is the beginning of `test`.

    Examples
    --------
    >>> with DeferredSignals() as signals:
    ...     selections = select_evaluation(0, progress=False, signals=signals)
    >>> {split: len(selection.columns["C"]) for split, selection in selections.items()}
    {'val': 500, 'test': 500, 'deep': 100, 'dense': 100, 'bnfree': 100, 'wide': 100}
    """
    selections: dict[str, Selection] = {}
    text = "evaluation splits"
    splits = signals.between(EVALUATION.items())
    for name, spec in ProgressBar(splits, text, len(EVALUATION), unit="split", leave=False, show=progress):
        excluded = _fingerprints(selections)
        count = 2 * spec.size
        while True:
            shard = make_shard(ShardTask(spec, seed, 0, count))
            selection = _select(spec, spec.size, [shard], Path(), excluded, signals)
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
    candidates = int(shard.statistics["candidate"][places[-1]]) + 1
    return Selection(
        spec=spec,
        shards=selection.shards,
        folder=selection.folder,
        keep=[keep],
        columns=shard.columns(keep),
        candidates=candidates,
        rejected=_counts(shard.reasons[:candidates]),
        duplicates=int(places[-1]) + 1 - spec.size,
    )


def select_sharded(
    split: str,
    size: int,
    seed: int,
    partial: Path,
    maker: ShardMaker,
    evaluation: dict[str, Selection],
    signals: DeferredSignals,
) -> Selection:
    """Make shards of a large split until they hold enough networks, and select these.

    Parameters
    ----------
    split
        `train` or `search`.
    size
        Number of networks.
    seed
        Seed of the corpus.
    partial
        Folder for shards.
    maker
        Makes the shards.
    evaluation
        Splits whose networks are excluded.
    signals
        Checked between shards.

    Returns
    -------
    Selection
        With `size` networks.

    Examples
    --------
    See `generator.build_corpus`.
    """
    spec, shard_size = SPLITS[split], maker.workers.shard_size
    folder = partial / shard_folder(split, seed)
    folder.mkdir(exist_ok=True)
    for left in folder.glob(".*.tmp"):  # of workers that were killed
        left.unlink(missing_ok=True)
    excluded = _fingerprints(evaluation)
    shards: list[ShardTask] = []
    sources = digest_of_sources(__name__)
    missing, start = size, 0
    while missing > 0:
        end = start + math.ceil(missing / EXPECTED_YIELD.get(split, 0.75) + 4 * math.sqrt(missing))
        starts = range(start, end, shard_size)
        shards += [ShardTask(spec, seed, i, min(shard_size, end - i), sources) for i in starts]
        maker.make(shards, folder)
        selection = _select(spec, size, shards, folder, excluded, signals)
        missing, start = size - len(selection.columns["candidate"]), end
    return selection


def shard_folder(split: str, seed: int) -> str:
    """Return the name of the folder for the shards of a split.

    The name holds everything that determines the content of shards, so that shards of another seed, of other rules or
    of other source code are never used.

    Parameters
    ----------
    split
        Name of the split.
    seed
        Seed of the corpus.

    Returns
    -------
    str

    Examples
    --------
    >>> shard_folder("train", 0).rsplit("-", 2)[0]
    'train-seed0-stream1'
    """
    rules = hashlib.sha256(repr(SPLITS[split]).encode()).hexdigest()[:16]
    return f"{split}-seed{seed}-stream{STREAM_VERSION}-{digest_of_sources(__name__)}-{rules}"


def _counts(reasons: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Number of candidates by reason of rejection."""
    return {reason: int((reasons >> bit & 1).sum()) for bit, reason in enumerate(REJECTIONS)}


def _fingerprints(selections: dict[str, Selection]) -> npt.NDArray[np.uint64]:
    return np.concatenate([s.columns["fingerprint"] for s in selections.values()] or [np.zeros(0, np.uint64)])


def _loaded(shard: ShardTask | Shard, folder: Path, *, wiring: bool = True) -> Shard:
    return read_shard(shard, folder, wiring=wiring) if isinstance(shard, ShardTask) else shard
