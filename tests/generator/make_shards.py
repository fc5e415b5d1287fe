"""`make_shards`: shards without a whole build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepnets.support import DeferredSignals
from generator.shards import ShardTask
from generator.workers import ShardMaker, Workers

__all__ = ["make_shards"]


def make_shards(tasks: Sequence[ShardTask], folder: Path, workers: Workers) -> None:
    """Make every shard that is missing in a folder, with workers that are started for this call alone."""
    with DeferredSignals() as signals, ShardMaker(workers, signals) as maker:
        maker.make(tasks, folder)
