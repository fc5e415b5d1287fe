"""Build plans, the selection of candidates, and reports of builds."""

from __future__ import annotations

import collections
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import networkx
import numpy as np
import pytest

import generator.build
from deepnets import Graph, NetworkConfig, build_graph
from deepnets.architecture import decode
from deepnets.corpus import COLUMNS, CorpusFile, corpus_path, verify
from deepnets.support import ConfigError
from generator import SPLITS, BuildPlan, Workers, build_corpus
from generator.plan import LARGEST_SIZE
from generator.sampler import REJECTIONS, random_words
from generator.selection import EXPECTED_YIELD
from generator.shards import Shard, ShardTask, make_shard, read_shard, write_shard
from tests.support.processes import Corpus, digests

EVALUATION = ("val", "test", "deep", "dense", "bnfree", "wide")
BASE_WIDTH = {"C": 32, "fc_dim": 64}


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": ()}, "splits: none given; choose from train, val"),
        ({"splits": ("val", "tset")}, "split: unknown 'tset'; use one of train, val, test"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"train_size": 0}, "train_size: expected 1 to 1,000,000,000, got 0"),
        ({"search_size": LARGEST_SIZE + 1}, "search_size: expected 1 to 1,000,000,000, got 1,000,000,001"),
    ],
)
def test_a_plan_says_what_is_wrong_with_it(options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        BuildPlan(**options)
    assert str(raised.value).startswith(message)


def test_a_plan_names_every_split_once() -> None:
    assert BuildPlan(splits=("val", "train", "val")).splits == ("val", "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "threads"}, "backend: unknown 'threads'; use one of loky, dask, ray"),
        ({"num_workers": 0}, "num_workers: expected an integer, 1 or more; got 0"),
        ({"shard_size": 0}, "shard_size: expected an integer, 1 or more; got 0"),
        ({"patience": 0}, "patience: expected a positive number of seconds, got 0"),
        ({"address": "tcp://a:1"}, "address: only the backends dask and ray have one, got 'tcp://a:1' for loky"),
    ],
)
def test_workers_say_what_is_wrong_with_them(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Workers(**options)


# --- content ----------------------------------------------------------------------------------------------------------


def test_every_split_has_its_size_and_passes_verification(corpus: Corpus) -> None:
    for name, spec in SPLITS.items():
        expected = {"train": corpus.plan.train_size, "search": corpus.plan.search_size}.get(name, spec.size)
        report = corpus.reports[name]
        assert report.built
        assert report.networks == expected
        assert report.size_bytes == report.path.stat().st_size
        found = verify(report.path, quick=True)
        assert (found.num_networks, found.content_digest) == (expected, report.content_digest)
    assert sorted(path.name for path in corpus.out.iterdir()) == sorted(f"deepnets1m_{name}.h5" for name in SPLITS)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("workers", [2, 4])
def test_the_number_of_workers_changes_nothing(small_corpus: Corpus, tmp_path: Path, workers: int) -> None:
    build_corpus(tmp_path, small_corpus.plan, workers=Workers(num_workers=workers, shard_size=300))
    assert digests(tmp_path) == small_corpus.digests


@pytest.mark.sampled(3)
@pytest.mark.parametrize("shard_size", [97, 2_000, 100_000])
def test_the_size_of_shards_changes_nothing(tmp_path: Path, shard_size: int) -> None:
    plan = BuildPlan(("search", "train"), train_size=1_000, search_size=700)
    build_corpus(tmp_path / "a", plan, workers=Workers(num_workers=1))
    build_corpus(tmp_path / "b", plan, workers=Workers(num_workers=1, shard_size=shard_size))
    assert digests(tmp_path / "b") == digests(tmp_path / "a")


def test_even_shards_of_one_candidate_will_do(tmp_path: Path) -> None:
    plan = BuildPlan(("search",), search_size=9)
    build_corpus(tmp_path / "a", plan, workers=Workers(num_workers=1))
    build_corpus(tmp_path / "b", plan, workers=Workers(num_workers=1, shard_size=1))
    assert digests(tmp_path / "b") == digests(tmp_path / "a")


def test_a_round_of_shards_that_yields_too_little_is_followed_by_others(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPECTED_YIELD, "search", 3.0)
    build_corpus(tmp_path, replace(corpus.plan, splits=("search",)), workers=Workers(num_workers=1, shard_size=500))
    assert digests(tmp_path) == {"search": corpus.digests["search"]}


@pytest.mark.slow
def test_the_splits_that_are_asked_for_do_not_change_each_other(corpus: Corpus, tmp_path: Path) -> None:
    for names in (("dense",), ("wide", "val"), ("search",)):
        build_corpus(tmp_path, replace(corpus.plan, splits=names), workers=Workers(num_workers=1))
    assert digests(tmp_path) == {name: corpus.digests[name] for name in ("dense", "wide", "val", "search")}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("split", "size"), [("train", 1), ("train", 1_777), ("search", 400)])
def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(
    corpus: Corpus, tmp_path: Path, split: str, size: int
) -> None:
    plan = BuildPlan((split,), train_size=size, search_size=size)
    (report,) = build_corpus(tmp_path, plan, workers=Workers(num_workers=1))
    with CorpusFile(report.path) as small, CorpusFile(corpus_path(corpus.out, split)) as large:
        architectures = small.architectures(slice(None))
        np.testing.assert_array_equal(architectures, large.architectures(slice(size)))
        for name in COLUMNS:
            if name not in (architectures.dtype.names or ()):
                np.testing.assert_array_equal(small.column(name), large.column(name)[:size])
        np.testing.assert_array_equal(small.wiring(0, size), large.wiring(0, size))


def test_wide_is_the_beginning_of_test(corpus: Corpus) -> None:
    with CorpusFile(corpus_path(corpus.out, "wide")) as wide, CorpusFile(corpus_path(corpus.out, "test")) as test:
        assert wide.num_networks == 100
        np.testing.assert_array_equal(wide.architectures(slice(None)), test.architectures(slice(100)))
        for name in ("candidate", "fingerprint", "num_params", "num_nodes"):
            np.testing.assert_array_equal(wide.column(name), test.column(name)[:100])
        np.testing.assert_array_equal(wide.wiring(0, 100), test.wiring(0, 100))


def test_splits_and_seeds_have_streams_of_their_own() -> None:
    streams = [random_words(seed, name, 0, 200).ravel() for seed in (0, 1, 2**70) for name in SPLITS]
    together = np.concatenate(streams)
    assert len(np.unique(together)) == len(together)
    later = random_words(0, "train", 200, 200).ravel()
    assert not np.isin(later, together).any()


@pytest.mark.slow
def test_another_seed_gives_another_corpus(corpus: Corpus, tmp_path: Path) -> None:
    plan = BuildPlan(seed=1, train_size=500, search_size=100)
    for report in build_corpus(tmp_path, plan, workers=Workers(num_workers=1)):
        with CorpusFile(report.path) as mine, CorpusFile(corpus_path(corpus.out, report.split)) as other:
            shared = np.isin(mine.column("fingerprint"), other.column("fingerprint")).mean()
            assert shared < 0.02  # the simplest networks are drawn repeatedly


# --- candidates -------------------------------------------------------------------------------------------------------


def as_alone(shard: Shard, candidate: int) -> tuple[np.ndarray, ...]:
    """Return the data of one accepted candidate of a shard."""
    (place,) = np.flatnonzero(shard.statistics["candidate"] == candidate)
    keep = np.zeros(len(shard.statistics), np.bool_)
    keep[place] = True
    return shard.architectures[keep], shard.statistics[keep], shard.rows(keep)


@pytest.mark.parametrize("split", [name for name in SPLITS if name != "wide"])
def test_a_candidate_does_not_depend_on_those_around_it(split: str) -> None:
    spec, start, count = SPLITS[split], 10**9, 60
    together = make_shard(ShardTask(spec, 5, start, count))
    assert 0 < len(together.statistics) < count
    order = list(range(count))
    random.Random(split).shuffle(order)
    for i in order:
        alone = make_shard(ShardTask(spec, 5, start + i, 1))
        assert alone.reasons[0] == together.reasons[i]
        assert len(alone.statistics) == (alone.reasons[0] == 0)
        if alone.reasons[0] == 0:
            for mine, other in zip(as_alone(alone, start + i), as_alone(together, start + i)):
                np.testing.assert_array_equal(mine, other)
    for cut in (1, 7, 59):
        parts = [make_shard(ShardTask(spec, 5, a, b - a)) for a, b in ((start, start + cut), (start + cut, start + 60))]
        for name in ("reasons", "architectures", "statistics", "wiring"):
            pieces = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(pieces, getattr(together, name))


def test_a_corpus_holds_what_its_candidates_are(corpus: Corpus) -> None:
    """Every network can be reproduced from the column `candidate` of the file."""
    for split in SPLITS:
        spec = SPLITS["test" if split == "wide" else split]
        with CorpusFile(corpus_path(corpus.out, split)) as file:
            for i in random.Random(split).sample(range(file.num_networks), 20):
                candidate = int(file.column("candidate")[i])
                shard = make_shard(ShardTask(spec, 0, candidate, 1))
                np.testing.assert_array_equal(shard.architectures, file.architectures(slice(i, i + 1)))
                np.testing.assert_array_equal(shard.wiring, file.wiring(i, i + 1))


def test_a_shard_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    task = ShardTask(SPLITS["train"], 0, 12_345, 50)
    write_shard(task, tmp_path)
    made, read, short = make_shard(task), read_shard(task, tmp_path), read_shard(task, tmp_path, wiring=False)
    for name in ("reasons", "architectures", "statistics"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
        np.testing.assert_array_equal(getattr(short, name), getattr(made, name))
    np.testing.assert_array_equal(read.wiring, made.wiring)
    assert len(short.wiring) == 0


# --- duplicates -------------------------------------------------------------------------------------------------------


def networks(corpus: Corpus, split: str) -> Iterator[NetworkConfig]:
    """Return the configurations of a split, at the width for which duplicates are defined."""
    with CorpusFile(corpus_path(corpus.out, split)) as file:
        for record in file.architectures(slice(None)):
            yield decode(record).replace(**BASE_WIDTH)


def labels(graph: Graph) -> list[tuple]:
    """Return the label of every node: its type and the shapes of its parameters."""
    return [
        (kind, tuple(sorted(slot.shape for slot in slots)))
        for kind, slots in zip(graph.node_types.tolist(), graph.parameters)
    ]


def summary(config: NetworkConfig) -> tuple:
    """Return an inexpensive invariant of a network: the labels of its live nodes and of their neighbours."""
    graph = build_graph(config).pruned()
    label = labels(graph)
    edges = collections.Counter((label[source], label[target]) for source, target in graph.edges.tolist())
    return frozenset(collections.Counter(label).items()), frozenset(edges.items())


def same(a: NetworkConfig, b: NetworkConfig) -> bool:
    """Return whether two networks are duplicates: isomorphic graphs of nodes with equal parameter shapes."""
    graphs = []
    for config in (a, b):
        pruned = build_graph(config).pruned()
        graph = networkx.DiGraph()
        for node, label in enumerate(labels(pruned)):
            graph.add_node(node, label=label)
        graph.add_weighted_edges_from(
            (*edge, count) for edge, count in collections.Counter(map(tuple, pruned.edges.tolist())).items()
        )
        graphs.append(graph)
    return networkx.is_isomorphic(
        *graphs, node_match=lambda u, v: u["label"] == v["label"], edge_match=lambda u, v: u["weight"] == v["weight"]
    )


@pytest.mark.slow
def test_no_network_is_there_twice(corpus: Corpus) -> None:
    """Checked by comparing graphs, without the fingerprints that the builder uses."""
    alike: dict[tuple, list[tuple[str, int, NetworkConfig]]] = collections.defaultdict(list)
    for split in SPLITS:
        if split != "wide":
            for i, config in enumerate(networks(corpus, split)):
                if split != "train" or i < 1_000:
                    alike[summary(config)].append((split, i, config))
    for group in alike.values():
        for k, (split, i, config) in enumerate(group):
            for other_split, j, other in group[:k]:
                assert not same(config, other), f"{split} {i} is {other_split} {j}"


def test_duplicates_are_dropped_in_the_order_of_candidates(corpus: Corpus) -> None:
    report = corpus.reports["train"]
    shard = make_shard(ShardTask(SPLITS["train"], 0, 0, report.candidates))
    with CorpusFile(report.path) as file:
        kept = set(file.column("candidate").tolist())
    evaluation = set()
    for split in EVALUATION:
        with CorpusFile(corpus_path(corpus.out, split)) as file:
            evaluation |= set(file.column("fingerprint").tolist())
    first: dict[int, int] = {}
    repeated = leaked = 0
    for place, (candidate, print_) in enumerate(shard.statistics[["candidate", "fingerprint"]].tolist()):
        if print_ in evaluation:
            leaked += 1
            assert candidate not in kept
        elif print_ in first:
            repeated += 1
            assert candidate not in kept
            assert same(*(decode(shard.architectures[i]).replace(**BASE_WIDTH) for i in (place, first[print_])))
        else:
            first[print_] = place
            assert candidate in kept
    assert leaked, "a test of nothing: no candidate equals an evaluation network"
    assert repeated, "a test of nothing: no candidate equals another one"
    assert report.duplicates == leaked + repeated


def test_what_is_reported_adds_up(corpus: Corpus) -> None:
    for split, report in corpus.reports.items():
        spec = SPLITS["test" if split == "wide" else split]
        shard = make_shard(ShardTask(spec, 0, 0, report.candidates))
        assert shard.reasons[-1] == 0, "the last candidate is the last network"
        assert report.networks + report.duplicates == len(shard.statistics)
        counted = {reason: int((shard.reasons >> bit & 1).sum()) for bit, reason in enumerate(REJECTIONS)}
        assert report.rejected == counted
        with CorpusFile(report.path) as file:
            assert (file.attributes["candidates"], file.attributes["duplicates"]) == (
                report.candidates,
                report.duplicates,
            )


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"cells": (18, 4)}, "cells: expected ordered numbers, got (18, 4)"),
        ({"cells": (0, 4)}, "cells: expected an integer, 1 to 200; got 0"),
        ({"cells": (4, 201)}, "cells: expected an integer, 1 to 200; got 201"),
        ({"deep": (11, 10)}, "deep: expected ordered numbers, got (11, 10)"),
        ({"steps": (11, 12, 12)}, "steps: expected an integer, 1 to 10; got 11"),
        ({"steps": (1, 4, 2)}, "steps: expected ordered numbers, got (1, 4, 2)"),
        ({"max_parameters": 0}, "max_parameters: expected an integer, 1 or more; got 0"),
        ({"norm": 3}, "norm: expected an integer, 0 or 1 or 2; got 3"),
    ],
)
def test_rules_that_no_network_can_follow(rules: dict, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        replace(SPLITS["train"], **rules)
    assert str(raised.value) == message


def test_shards_of_other_rules_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that was interrupted after its shards, and resumed with other rules."""
    plan, workers = BuildPlan(splits=("search",), search_size=10), Workers(num_workers=1)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generator.build, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_corpus(tmp_path, plan, workers=workers)
    assert list(tmp_path.glob(".partial/search-*/*.h5"))
    monkeypatch.setitem(SPLITS, "search", replace(SPLITS["search"], cells=(4, 5)))
    (report,) = build_corpus(tmp_path, plan, workers=workers)
    with CorpusFile(report.path) as file:
        assert set(file.column("n_cells")) <= {4, 5}
