"""Widths of networks against the rules of the specification, sections 1.8 and 1.9, implemented independently."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from deepnets import DeepNets1M, Genotype, NetworkConfig
from deepnets.architecture import decode, encode
from deepnets.corpus import CorpusFile, WidthRule, corpus_path
from deepnets.corpus.widths import FC_DIMS, WIDTHS, Width, evaluation_factor
from deepnets.graph import count_parameters
from generator.shards import ShardTask, make_shard
from generator.splits import SPLITS

VARIANTS = list(itertools.product((32, 224), (False, True)))  # image size, wider networks


class Table:
    """The columns of a split, without a file."""

    def __init__(self, architectures: np.ndarray, **columns: Any) -> None:
        self.architectures = architectures
        self.columns = columns

    def column(self, name: str) -> np.ndarray:
        return self.columns[name] if name in self.columns else self.architectures[name]


def row_of(config: NetworkConfig, counts: dict[str, int], image_size: int, wider: bool) -> tuple[int, bool]:
    """Return the row of a network in the table of section 1.8, from 1, and whether its stride is drawn."""
    large_images = image_size > 32
    p = counts["imagenet" if large_images and not wider else "cifar10"] / 1e6
    L = config.n_cells
    ops = [op for op, _ in config.genotype.normal] + [op for op, _ in config.genotype.reduce]
    dense = "conv_5x5" in ops or "conv_7x7" in ops
    free = wider and large_images and config.glob_avg and config.stem_type == 0 and config.stem_pool
    free = free and p <= 0.2 and L <= 8 and not dense
    if p > (2.0 if wider else 0.8) or not config.glob_avg or dense or (14 if wider else 12) < L:
        return 1, free
    if p > 0.4 or L > 10:
        return 2, free
    if p > 0.2 or L > 8:
        return 3, free
    return 4, free


def distribution(row: int, free_stride: bool, wider: bool) -> dict[Width, float]:
    """Return the probability of every possible draw."""
    first = {1: 1, 2: 4 if wider else 2, 3: 5 if wider else 3, 4: 7}[row]
    widths = [32, 48, 64, 80, 96, 112, 128][:first]
    found = {}
    for C in widths:
        fc_dims = range(64, 513, 64) if row == 4 and C <= 64 else (64, 128, 192, 256)
        strides = (2, 4) if free_stride else (4,)
        for fc_dim, stride in itertools.product(fc_dims, strides):
            found[Width(C, fc_dim, stride)] = 1 / len(widths) / len(fc_dims) / len(strides)
    return found


@cache
def training_networks() -> tuple[Table, list[NetworkConfig], list[dict[str, int]]]:
    """About 20,000 networks of the training split."""
    shard = make_shard(ShardTask(SPLITS["train"], seed=11, start=0, count=25_500))
    names = ("num_params", "num_params_imagenet")
    table = Table(shard.architectures, **{name: shard.statistics[name].astype(np.uint32) for name in names})
    counts = [{"cifar10": int(a), "imagenet": int(b)} for a, b in zip(*(table.column(name) for name in names))]
    return table, [decode(record) for record in shard.architectures[:3000]], counts


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("image_size", "wider"), VARIANTS)
def test_every_draw_is_one_of_those_allowed(image_size: int, wider: bool) -> None:
    table, networks, counts = training_networks()
    rule = WidthRule(table, image_size, wider, seed=3)
    members: dict[tuple[int, bool], list[int]] = {}
    for i, config in enumerate(networks):
        members.setdefault(row_of(config, counts[i], image_size, wider), []).append(i)
        config.replace(**rule.draw(i, 0)._asdict())  # valid for every network
    strides = (False, True) if wider and image_size == 224 else (False,)
    assert set(members) == {(1, False), (2, False), (3, False), *((4, stride) for stride in strides)}
    for kind, places in members.items():
        seen = {rule.draw(i, d) for i in places for d in range(1 + 2000 // len(places))}
        assert seen == distribution(*kind, wider).keys()  # and every allowed draw occurs


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("image_size", "wider"), VARIANTS)
def test_draws_are_uniform(image_size: int, wider: bool) -> None:
    """Uniform over the draws of one network, and over the networks of one kind."""
    table, networks, counts = training_networks()
    rule = WidthRule(table, image_size, wider, seed=5)
    kinds: dict[tuple[int, bool], list[int]] = {}
    for i, config in enumerate(networks):
        kinds.setdefault(row_of(config, counts[i], image_size, wider), []).append(i)
    for kind, members in kinds.items():
        expected = distribution(*kind, wider)
        for places in ([(members[0], d) for d in range(3000)], [(i, d) for d in range(20) for i in members[:150]]):
            found = Counter(rule.draw(*place) for place in places)
            frequencies = [found[width] for width in expected]
            assert sum(frequencies) == len(places)
            if len(expected) > 1:
                assert chisquare(frequencies, np.array(list(expected.values())) * len(places)).pvalue > 1e-3


def test_consecutive_draws_are_independent() -> None:
    table, networks, counts = training_networks()
    rule = WidthRule(table, 32, False, seed=0)
    small = [i for i, config in enumerate(networks) if row_of(config, counts[i], 32, False)[0] == 4][:2]
    one, other = ([rule.draw(i, d).C for d in range(5000)] for i in small)
    for first, second in ((one, one[1:]), (one, other)):
        found = Counter(zip(first, second))
        assert chisquare([found[pair] for pair in itertools.product(WIDTHS, WIDTHS)]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("wider", "shares"), [(False, (76.0, 10.1, 7.0, 6.9)), (True, (62.8, 22.6, 6.9, 7.7))], ids=["PPUDA", "GHN-3"]
)
def test_shares_of_the_rows_are_the_published_ones(wider: bool, shares: tuple[float, ...]) -> None:
    table, _, counts = training_networks()
    rule = WidthRule(table, 32, wider, seed=0)
    assert len(counts) > 19_500
    choices = (1, 4, 5, 7) if wider else (1, 2, 3, 7)
    found = [100 * (rule.num_choices == n).mean() for n in choices]
    assert sum(found) == pytest.approx(100)
    assert found == pytest.approx(shares, abs=1)
    assert not rule.free_stride.any()
    if wider:
        assert 100 * WidthRule(table, 224, True, 0).free_stride.mean() == pytest.approx(2, abs=0.7)  # "about 2 %"


@pytest.mark.parametrize(("image_size", "wider"), VARIANTS)
def test_boundaries_of_the_rows(image_size: int, wider: bool) -> None:
    """Every combination of conditions, at and directly beyond every bound."""
    genotypes = [
        Genotype([(op, 0), ("conv_3x3", 1)], [2], [("skip_connect", 0), (other, 1)], [2])
        for op, other in (("conv_1x1", "cse"), ("conv_5x5", "cse"), ("conv_1x1", "conv_7x7"), ("conv_7x1_1x7", "cse"))
    ]
    grid = itertools.product(genotypes, (3, 8, 9, 10, 11, 12, 13, 14, 15), (False, True), (0, 1), (False, True))
    networks = [
        NetworkConfig(genotype, n, glob_avg=glob_avg, stem_type=stem_type, stem_pool=stem_pool)
        for genotype, n, glob_avg, stem_type, stem_pool in grid
    ]
    bounds = [200_000, 400_000, 800_000, 2_000_000]
    cifar10 = np.array([count + more for count in bounds for more in (0, 1)], np.uint32)
    imagenet = cifar10[::-1].copy()
    for small, large in zip(cifar10, imagenet):
        n = len(networks)
        table = Table(encode(networks), num_params=np.repeat(small, n), num_params_imagenet=np.repeat(large, n))
        rule = WidthRule(table, image_size, wider, seed=0)
        counts = {"cifar10": int(small), "imagenet": int(large)}
        rows = [row_of(config, counts, image_size, wider) for config in networks]
        choices = {1: 1, 2: 4 if wider else 2, 3: 5 if wider else 3, 4: 7}
        assert rule.num_choices.tolist() == [choices[row] for row, _ in rows]
        assert rule.free_stride.tolist() == [bool(free) for _, free in rows]


def test_choices() -> None:
    assert WIDTHS == (32, 48, 64, 80, 96, 112, 128)
    assert FC_DIMS == (64, 128, 192, 256, 320, 384, 448, 512)


# --- reproducibility ---


def test_draws_are_a_function_of_seed_network_and_number() -> None:
    table, _, _ = training_networks()
    places = [(i, d) for i in range(0, 2000, 7) for d in (0, 1, 5)]
    rule = WidthRule(table, 224, True, seed=8)
    expected = [rule.draw(*place) for place in places]
    assert [rule.draw(*place) for place in reversed(places)] == expected[::-1]
    same, other = (WidthRule(table, 224, True, seed) for seed in (8, 9))
    assert [same.draw(*place) for place in places] == expected
    assert [other.draw(*place) for place in places] != expected


def test_draws_never_change() -> None:
    """Trainings can be repeated and resumed only if draws do not change."""
    genotype = Genotype([("conv_1x1", 0), ("skip_connect", 1)], [2], [("cse", 0), ("cse", 1)], [2])
    count = np.array([100_000])
    table = Table(encode([NetworkConfig(genotype, 4, stem_pool=True)] * 3))
    table.columns = {"num_params": count.repeat(3), "num_params_imagenet": count.repeat(3)}
    places = ((0, 0, 0), (0, 1, 0), (0, 1, 1), (7, 2, 10**6))
    draws = [tuple(WidthRule(table, 224, True, seed).draw(i, d)) for seed, i, d in places]
    assert draws == [(48, 64, 4), (48, 448, 4), (112, 64, 4), (112, 256, 2)]


@pytest.mark.slow
def test_another_process_draws_the_same(corpus: Path) -> None:
    program = """
import json, sys
from deepnets import DeepNets1M
nets = DeepNets1M(sys.argv[1], image_size=224, wider_nets=True, seed=4)
widths = [[[c.C, c.fc_dim, c.imagenet_stride] for c in (nets[i, d].config for d in (2, 0))] for i in range(59, -1, -1)]
print(json.dumps(widths))
"""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", program, str(corpus)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    nets = DeepNets1M(corpus, image_size=224, wider_nets=True, seed=4)
    configs = [[nets[i, d].config for d in (2, 0)] for i in range(60)]
    assert json.loads(done.stdout)[::-1] == [[[c.C, c.fc_dim, c.imagenet_stride] for c in pair] for pair in configs]


def test_datasets_draw_by_the_same_rule(corpus: Path) -> None:
    """With the image size, variant and seed of the dataset; only the width changes."""
    with CorpusFile(corpus_path(corpus, "train")) as file:
        stored = [decode(record) for record in file.architectures(slice(0, 40))]
        for image_size, wider in VARIANTS:
            nets = DeepNets1M(corpus, image_size=image_size, wider_nets=wider, seed=6)
            rule = WidthRule(file, image_size, wider, seed=6)
            for i, config in enumerate(stored):
                for d in (0, 3):
                    assert nets[i, d].config == config.replace(**rule.draw(i, d)._asdict())
                assert nets[i].config == nets[i, 0].config


# --- evaluation ---


@pytest.mark.sampled(2)
@pytest.mark.parametrize("split", ["val", "test", "deep", "dense", "bnfree", "search"])
def test_evaluation_networks_are_as_wide_as_two_and_a_half_million_parameters_need(corpus: Path, split: str) -> None:
    nets = DeepNets1M(corpus, split)
    table = nets.table
    for i in range(len(nets)):
        config = nets.config(i)
        C = 32
        while count_parameters(config.replace(C=C)) < 2_500_000:
            C += 16
        assert (config.C, config.fc_dim, config.imagenet_stride) == (C, 256, 4)
        assert (table["C"][i], table["num_params"][i]) == (C, count_parameters(config))
        assert table["num_params_imagenet"][i] == count_parameters(config, image_size=224)
    assert table["C"].nunique() > 4


@pytest.mark.parametrize(("image_size", "factor"), [(32, 4), (224, 2)])
def test_wide_networks_are_test_networks_made_wider(corpus: Path, image_size: int, factor: int) -> None:
    wide, test = (DeepNets1M(corpus, split, image_size=image_size) for split in ("wide", "test"))
    assert len(wide) == 100
    for i in range(len(wide)):
        assert wide[i] == test[i]
        assert wide[i].config == test[i].config.replace(C=factor * test[i].config.C)
    assert evaluation_factor("wide", image_size) == factor
    others = [split for split in SPLITS if split != "wide"]
    assert [evaluation_factor(split, image_size) for split in others] == [1] * len(others)
