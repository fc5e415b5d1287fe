"""The streams are fixed: the same seed gives the same networks in every version with the same `STREAM_VERSION`."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from deepnets.architecture import decode
from generator.sampler import STREAM_VERSION, WORDS, random_words
from generator.shards import Shard, ShardTask, make_shard
from generator.splits import SPLITS


def digest(shard: Shard) -> str:
    """Return a digest of all numbers of a shard, field by field, so that padding is ignored."""
    total = hashlib.sha256(shard.reasons.tobytes())
    for records in (shard.architectures, shard.statistics, shard.wiring):
        for name in records.dtype.names or ():
            total.update(np.ascontiguousarray(records[name]).tobytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", "5bbd74f72a6e270c"),
        ("val", "80ddaa653e5b05df"),
        ("test", "74650ad937bf1a32"),
        ("deep", "7ec6e7918e569e20"),
        ("dense", "16a5bacd32a80f2c"),
        ("bnfree", "f54658873d4bd4a5"),
        ("search", "16a30e1c77e83529"),
    ],
)
def test_the_first_candidates_of_every_split(split: str, expected: str) -> None:
    assert STREAM_VERSION == 1, "new streams need new digests here"
    assert digest(make_shard(ShardTask(SPLITS[split], seed=0, start=0, count=200))) == expected


def test_words_are_those_of_philox() -> None:
    key = int.from_bytes(hashlib.sha256(b"DeepNets-1M stream 1 seed 3 split val").digest()[:16], "little")
    expected = np.random.Philox(key=key).random_raw(20 * WORDS).reshape(20, WORDS)
    assert (random_words(3, "val", 0, 20) == expected).all()
    assert (random_words(3, "val", 7, 5) == expected[7:12]).all()
    assert (random_words(3, "test", 0, 20) != expected).mean() > 0.99
    assert (random_words(4, "val", 0, 20) != expected).mean() > 0.99


def test_words_far_out_do_not_overlap() -> None:
    far = 10**12
    assert (random_words(0, "train", far, 2)[1] == random_words(0, "train", far + 1, 1)[0]).all()


def test_no_candidate_reads_beyond_its_words() -> None:
    """Check the longest case: ten steps, with every conditional draw."""
    before_genotype, per_step, concat, behind = 5, 2 * 4, 9, 8
    assert before_genotype + 10 * per_step + concat + behind <= WORDS
    assert WORDS % 4 == 0


def test_a_candidate_is_the_same_alone_and_among_others() -> None:
    """If a candidate read random words of the next one, the last candidate of a range would differ."""
    together = make_shard(ShardTask(SPLITS["dense"], seed=0, start=0, count=6_000))
    longest = np.flatnonzero(together.architectures["steps"] == 10)
    assert len(longest) > 10
    for place in longest[:40]:
        candidate = int(together.statistics["candidate"][place])
        (alone,) = make_shard(ShardTask(SPLITS["dense"], seed=0, start=candidate, count=1)).architectures
        assert alone == together.architectures[place]


def test_the_first_test_network() -> None:
    config = decode(make_shard(ShardTask(SPLITS["test"], seed=0, start=0, count=20)).architectures[0])
    assert config.n_cells in range(4, 19)
    assert config.fc_dim == 256
