"""`MetaBatchSampler`: random order, limits, shares of processes, and resuming."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepnets import (
    ConfigError,
    DeepNets1M,
    MetaBatchSampler,
)


def networks(num_nodes: Any) -> Any:
    return SimpleNamespace(num_nodes=np.asarray(num_nodes))


def passes(sampler: MetaBatchSampler, count: int) -> list[list[list[int]]]:
    """Return the groups of the first passes."""
    found: list[list[list[int]]] = [[] for _ in range(count)]
    for group in sampler:
        numbers = {number for _, number in group}
        assert len(numbers) == 1
        if max(numbers) >= count:
            return found
        found[max(numbers)].append([i for i, _ in group])
    raise AssertionError("a sampler never ends")


UNLIMITED = 10**9


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**63 - 2))
def test_every_pass_is_a_permutation_in_consecutive_groups(n: int, size: int, seed: int) -> None:
    found = passes(MetaBatchSampler(networks([5] * n), size, max_nodes=UNLIMITED, seed=seed), 3)
    for groups in found:
        assert sorted(itertools.chain(*groups)) == list(range(n))
        assert [len(group) for group in groups] == [size] * (n // size) + [n % size] * (n % size > 0)
    assert passes(MetaBatchSampler(networks([5] * n), size, max_nodes=UNLIMITED, seed=seed), 3) == found


def test_orders_are_random() -> None:
    orders = [
        tuple(itertools.chain(*groups))
        for seed in range(3)
        for groups in passes(MetaBatchSampler(networks([5] * 100), 8, max_nodes=UNLIMITED, seed=seed), 4)
    ]
    assert len({*orders, tuple(range(100))}) == 13
    firsts = np.bincount([groups[0][0] for groups in passes(MetaBatchSampler(networks([1] * 4), 1), 2000)])
    assert abs(firsts - 500).max() < 100


@pytest.mark.parametrize(("size", "limit"), [(1, None), (2, 2200), (4, 2200), (8, 2200), (9, 2475), (16, 4400)])
def test_groups_with_too_many_nodes_are_skipped(size: int, limit: int | None) -> None:
    """The published limits: 2,200 nodes, and for larger groups 275 per network; no limit for single networks."""
    rng = np.random.default_rng(size)
    num_nodes = rng.integers(20, 2 * (limit or 3000) // size, 400)
    assert limit is None or 2200 / 8 * max(8, size) == limit
    every = passes(MetaBatchSampler(networks(num_nodes), size, max_nodes=UNLIMITED, seed=1), 3)
    found = passes(MetaBatchSampler(networks(num_nodes), size, seed=1), 3)
    most = limit or UNLIMITED
    assert found == [[group for group in groups if num_nodes[group].sum() <= most] for groups in every]
    if limit is not None:
        assert 0 < sum(map(len, found)) < sum(map(len, every))
        assert passes(MetaBatchSampler(networks(num_nodes), size, seed=1, max_nodes=limit), 3) == found
        assert passes(MetaBatchSampler(networks(num_nodes), size, seed=1, max_nodes=limit * 9 // 10), 3) != found


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_limits_of_several_processes(world_size: int) -> None:
    """A limit that is given is one of the meta-batches of a process; there is none for single networks by default."""
    options: dict[str, Any] = {"world_size": world_size, "rank": world_size - 1}
    for num_nodes, size, limit in ((100, 5, 500), (3000, 1, None)):
        nets = networks([num_nodes] * 20)
        every = passes(MetaBatchSampler(nets, size, max_nodes=UNLIMITED, **options), 2)
        assert passes(MetaBatchSampler(nets, size, max_nodes=limit, **options), 2) == every
    with pytest.raises(ConfigError, match="in 100 passes no group"):
        next(iter(MetaBatchSampler(networks([100] * 20), 5, max_nodes=499, **options)))


def test_a_group_of_exactly_the_limit_is_kept() -> None:
    assert passes(MetaBatchSampler(networks([550] * 4), 4), 1) == passes(
        MetaBatchSampler(networks([550] * 4), 4, max_nodes=2200), 1
    )
    with pytest.raises(ConfigError, match="in 100 passes no group of 4 had 2199 nodes or fewer"):
        next(iter(MetaBatchSampler(networks([550] * 4), 4, max_nodes=2199)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(2, 6), st.integers(0, 100))
def test_ranks_share_the_groups(n: int, size: int, world_size: int, seed: int) -> None:
    """The groups of all ranks together are those of one process; ranks get equally many networks and similar sizes."""
    assume(n >= size * world_size)
    num_nodes = np.random.default_rng(seed).integers(100, 1000, n)
    options: dict[str, Any] = {"seed": seed, "max_nodes": 1000 * size * world_size - 1}

    def first(size: int, count: int, **more: int) -> list[Any]:
        return list(itertools.islice(MetaBatchSampler(networks(num_nodes), size, **options, **more), count))

    shares = [first(size, 10, rank=rank, world_size=world_size) for rank in range(world_size)]
    whole = [group for group in first(size * world_size, 200) if len(group) == size * world_size][:10]
    assert len(whole) == 10
    for number, group in enumerate(whole):
        mine = [share[number] for share in shares]
        assert all(len(some) == size for some in mine)
        assert sorted(pair for some in mine for pair in some) == sorted(group)
        if size % 2 == 0:
            totals = [sum(num_nodes[index] for index, _ in some) for some in mine]
            sizes = [num_nodes[index] for index, _ in group]
            assert max(totals) - min(totals) <= max(sizes) - min(sizes)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 50), st.integers(1, 3))
def test_continuing_from_a_position(n: int, size: int, done: int, world_size: int) -> None:
    n *= world_size * size  # all processes have complete groups

    def sampler() -> MetaBatchSampler:
        return MetaBatchSampler(networks([5] * n), size, rank=world_size - 1, world_size=world_size)

    whole = sampler()
    groups = list(itertools.islice(whole, done + 20))
    assert whole.position == done + 20
    again = sampler()
    again.position = done
    assert list(itertools.islice(again, 20)) == groups[done:]
    assert again.position == done + 20
    assert next(iter(again)) == next(iter(whole))  # a new iterator resumes


def test_real_networks(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "train")
    for group in itertools.islice(MetaBatchSampler(nets, 8), 100):
        assert sum(nets[place].num_nodes for place in group) <= 2200


@pytest.mark.parametrize("workers", [0, 2])
def test_iterations_that_are_ended_go_on_where_they_ended(corpus: Path, workers: int) -> None:
    nets = DeepNets1M(corpus, "train")
    expected = [[place[0] for place in group] for group in itertools.islice(MetaBatchSampler(nets, 4), 7)]
    loader = nets.loader(4, num_workers=workers)
    found = []
    for steps in (2, 1, 4):
        for number, batch in enumerate(loader):
            found.append([graph.index for graph in batch.graphs])
            if number == steps - 1:
                break
    assert found == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"meta_batch_size": 0}, "meta_batch_size: expected an integer, 1 or more; got 0"),
        ({"meta_batch_size": 1.5}, "meta_batch_size: expected an integer, 1 or more; got 1.5"),
        ({"max_nodes": 0}, "max_nodes: expected an integer, 1 or more; got 0"),
        ({"max_nodes": 9}, "max_nodes: no network has as few as 9 nodes"),
        ({"seed": -1}, "seed: expected an integer, 0 or more; got -1"),
        ({"rank": 1}, "rank: expected an integer, 0 to 0; got 1"),
        ({"rank": -1, "world_size": 2}, "rank: expected an integer, 0 to 1; got -1"),
        ({"world_size": 0}, "world_size: expected an integer, 1 or more; got 0"),
    ],
)
def test_wrong_sampler_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        MetaBatchSampler(networks([10, 20]), **options)
