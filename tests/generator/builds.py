"""Helpers shared by the tests of builds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deepnets.support import DeferredSignals
from generator import Workers, build_corpus
from generator.shards import ShardTask
from generator.workers import ShardMaker
from tests.support.processes import (
    Corpus,
    digests,
)

INTERRUPTED = "interrupted; finished shards are kept: run the same command again to resume"
SHARD_SIZE = 64
SMALL = {"splits": "search,train", "shard_size": SHARD_SIZE}


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return the inode, modification time and bytes of every file in a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_resumes(out: Path, corpus: Corpus, splits: tuple[str, ...] = ("search", "train")) -> None:
    """Check that another build completes with the same content and leaves no other files in the folder."""
    workers = Workers(num_workers=1, shard_size=SHARD_SIZE)
    build_corpus(out, replace(corpus.plan, splits=splits), workers=workers)
    assert digests(out) == {split: corpus.digests[split] for split in splits}
    assert sorted(path.name for path in out.iterdir()) == sorted(f"deepnets1m_{split}.h5" for split in splits)


def make_shards(tasks: Sequence[ShardTask], folder: Path, workers: Workers) -> None:
    """Make every shard that is missing in a folder, with workers that are started for this call only."""
    with DeferredSignals() as signals, ShardMaker(workers, signals) as maker:
        maker.make(tasks, folder)
