"""The corpus follows the published distributions: the specification's tables 5.2, rows with dead nodes kept.

Those tables were measured on separate samples (sizes below), so a difference is compared with the standard error of
both samples together.  With some 120 comparisons, 4.5 standard errors are exceeded by chance once in 1,200 runs; the
streams are fixed, so a run that passes always passes.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from deepnets.architecture import NORMAL, PRIMITIVES, REDUCE
from generator.sampler import REJECTIONS
from generator.shards import Shard, ShardTask, make_shard
from generator.splits import SPLITS

STANDARD_ERRORS = 4.5
NETWORKS = {"train": 20_000, "bnfree": 10_000, "search": 10_000, "dense": 8_000, "deep": 8_000}
ATTEMPTS = {"train": 24_475, "bnfree": 12_150, "search": 13_500, "dense": 16_850, "deep": 9_750}


@functools.cache
def sampled(split: str) -> Shard:
    return make_shard(ShardTask(SPLITS[split], seed=0, start=0, count=ATTEMPTS[split]))


def assert_mean(values: np.ndarray, mean: float, deviation: float, size: int) -> None:
    error = math.hypot(values.std() / math.sqrt(len(values)), deviation / math.sqrt(size))
    assert abs(values.mean() - mean) < STANDARD_ERRORS * error + _rounding(mean)


def assert_share(values: np.ndarray, percent: float, size: int) -> None:
    share = max(percent / 100, 0.5 / size)
    error = math.sqrt(share * (1 - share) * (1 / len(values) + 1 / size))
    assert abs(values.mean() - percent / 100) < STANDARD_ERRORS * error + _rounding(percent) / 100


def _rounding(printed: float) -> float:
    """Return half a unit of the last printed digit."""
    return 0.5 / 10 ** len(str(printed).partition(".")[2])


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("split", "nodes", "cells", "cifar10", "imagenet"),
    [
        ("train", (190.4, 92.1), (11.3, 4.2), (1.09, 1.39), (1.11, 1.42)),
        ("bnfree", (142.0, 77.6), (11.3, 4.3), (1.09, 1.40), (1.11, 1.42)),
        ("search", (265.3, 130.9), (13.5, 4.2), (1.49, 1.79), (1.51, 1.80)),
        ("dense", (349.8, 189.2), (11.6, 4.1), (2.02, 2.24), (2.05, 2.33)),
        ("deep", (392.0, 185.0), (23.7, 7.6), (2.34, 2.98), (2.37, 3.01)),
    ],
)
def test_nodes_cells_and_parameters(split: str, nodes, cells, cifar10, imagenet) -> None:
    shard = sampled(split)
    size = NETWORKS[split]
    assert_mean(shard.statistics["num_nodes"], *nodes, size)
    assert_mean(shard.architectures["n_cells"], *cells, size)
    if split == "train":  # count the parameters at the width that the table uses
        assert_mean(shard.statistics["num_params"] / 1e6, *cifar10, size)
        assert_mean(shard.statistics["num_params_imagenet"] / 1e6, *imagenet, size)


@pytest.mark.parametrize(
    ("split", "width", "millions"),
    [
        ("bnfree", (98, 61), (3.27, 0.84)),
        ("search", (84, 54), (3.45, 1.04)),
        ("dense", (70, 42), (3.74, 1.40)),
        ("deep", (70, 42), (4.10, 2.16)),
    ],
)
@pytest.mark.sampled(4)
def test_widths_and_parameters_of_evaluation_networks(split: str, width, millions) -> None:
    shard = sampled(split)
    assert_mean(shard.architectures["C"], *width, NETWORKS[split])
    assert_mean(shard.statistics["num_params"] / 1e6, *millions, NETWORKS[split])
    assert (shard.statistics["num_params"] >= 2_500_000).all()
    assert (shard.architectures["C"] % 16 == 0).all()


@pytest.mark.parametrize(
    ("split", "without_norm", "msa", "cse", "none", "no_preproc", "flat", "stem1", "pool", "wider", "two_layers"),
    [
        ("train", 3.7, 30.2, 27.0, 36.0, 3.7, 1.9, 50, 25, 50, 51),
        ("bnfree", 100, 30.1, 26.8, 35.0, 4.0, 2.1, 51, 25, 50, 50),
        ("search", 0, 35.3, 30.9, 46.4, 5.7, 1.4, 51, 25, 50, 49),
        ("dense", 4.0, 49.1, 42.7, 78.2, 0, 1.4, 50, 25, 50, 50),
        ("deep", 1.7, 29.5, 26.5, 35.5, 3.5, 2.0, 50, 25, 50, 51),
    ],
)
def test_shares_of_networks(
    split: str, without_norm, msa, cse, none, no_preproc, flat, stem1, pool, wider, two_layers
) -> None:
    nets = sampled(split).architectures
    size = NETWORKS[split]
    for primitive, percent in (("msa", msa), ("cse", cse), ("none", none)):
        assert_share((nets["ops"] == PRIMITIVES.index(primitive)).any(axis=(1, 2)), percent, size)
    for values, percent in (
        (nets["norm"] == 0, without_norm),
        (nets["preproc"] == 0, no_preproc),
        (nets["glob_avg"] == 0, flat),
        (nets["stem_type"] == 1, stem1),
        (nets["stem_pool"] == 1, pool),
        (nets["C_mult"] == 2, wider),
        (nets["fc_layers"] == 2, two_layers),
    ):
        assert_share(values, percent, size)


@pytest.mark.parametrize(
    ("split", "percents"),
    [
        ("train", [45.1, 41.7, 7.5, 5.6]),
        ("search", [34.7, 30.6, 25.6, 3.8, 3.1, 2.3]),
        ("dense", [0, 29.9, 23.7, 18.3, 13.8, 9.8, 1.7, 1.4, 0.8, 0.7]),
        ("deep", [46.2, 42.1, 6.8, 4.9]),
    ],
)
def test_steps(split: str, percents: list[float]) -> None:
    steps = sampled(split).architectures["steps"]
    for number, percent in enumerate(percents, start=1):
        assert_share(steps == number, percent, NETWORKS[split])


@pytest.mark.parametrize(
    ("split", "a", "b", "c", "any_of_abc", "d", "no_output"),
    [
        ("train", 1.34, 3.46, 12.99, 16.96, 1.14, 0.11),
        ("bnfree", 1.57, 3.65, 12.51, 16.90, 1.02, 0.12),
        ("search", 1.11, 6.59, 20.10, 25.38, 0.81, 0.08),
        ("dense", 0.10, 18.5, 44.8, 52.6, 0.04, 0.06),
        ("deep", 1.85, 3.56, 12.19, 16.77, 1.28, 0.14),
    ],
)
def test_rejections(split: str, a, b, c, any_of_abc, d, no_output) -> None:
    reasons = sampled(split).reasons
    size = ATTEMPTS[split]

    def rejected(reason: str) -> np.ndarray:
        return reasons >> REJECTIONS.index(reason) & 1 == 1

    assert_share(rejected("cse_without_conv"), a, size)
    assert_share(rejected("several_cse"), b, size)
    assert_share(rejected("several_large_conv"), c, size)
    assert_share(reasons & 7 > 0, any_of_abc, size)
    assert_share(rejected("no_learned_operation"), d, size)
    assert_share(rejected("no_output"), no_output, size)
    if split in ("dense", "deep"):
        assert not rejected("too_large_cifar10").any()
    if split == "search":
        assert_share(rejected("too_large_cifar10"), 0.12, size)
        assert_share(rejected("too_large_imagenet"), 0.08, size)


NORMAL_OPS = [5.1, 6.9, 6.9, 6.8, 7.3, 7.6, 7.4, 7.3, 7.2, 7.4, 7.4, 5.0, 5.0, 7.1, 5.6]
REDUCE_OPS = [12.5, 17.5, 17.4, 17.7, 3.4, 3.4, 3.3, 3.5, 3.4, 3.6, 3.5, 2.4, 2.4, 3.4, 2.8]


@pytest.mark.parametrize(("kind", "percents"), [(NORMAL, NORMAL_OPS), (REDUCE, REDUCE_OPS)])
def test_operations_of_training_networks(kind: int, percents: list[float]) -> None:
    nets = sampled("train").architectures
    ops = nets["ops"][:, kind]
    used = ops[ops < len(PRIMITIVES)]
    for code, percent in enumerate(percents):
        assert_share(used == code, percent, len(used))


def test_quantiles_of_nodes() -> None:
    nodes = sampled("train").statistics["num_nodes"]
    # The table's quantiles are those of pruned graphs; dead nodes shift the mean by 6.5.
    for quantile, pruned in ((5, 65), (25, 119), (50, 167), (75, 232), (95, 361)):
        assert pruned - 3 <= np.percentile(nodes, quantile) <= pruned + 14
