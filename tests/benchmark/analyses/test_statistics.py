"""Statistics of graphs, against networkx, and their rank correlations, against the definitions."""

from __future__ import annotations

import math
from pathlib import Path

import networkx
import numpy as np
import pandas as pd
import pytest

from benchmark.analyses import PUBLISHED, STATISTICS, correlations, describe_split, graph_statistics, simple_features
from deepnets import ConfigError, DeepNets1M
from tests.oracles.naive_tau import naive_tau_b


def test_statistics_are_those_of_networkx(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "dense", num_nets=4)
    graphs = list(nets)
    before = [graph.distances(50).copy() for graph in graphs]
    table = graph_statistics(nets)
    assert list(table) == ["index", *STATISTICS]
    for found, graph, distances in zip(table.itertuples(), graphs, before):
        directed = graph.to_networkx()
        undirected = directed.to_undirected()
        assert found.num_nodes == len(undirected)
        assert found.depth == networkx.dag_longest_path_length(directed, weight=None, default_weight=1) + 1
        assert found.average_degree == pytest.approx(np.mean([degree for _, degree in undirected.degree]))
        assert found.average_path == pytest.approx(networkx.average_shortest_path_length(undirected))
        assert found.num_params == sum(p.numel() for p in nets.network(found.index).parameters())
        assert np.array_equal(graph.distances(50), distances)
    assert graph_statistics(nets, [2])["average_path"].tolist() == table["average_path"].tolist()[2:3]


def test_statistics_of_the_published_networks(tmp_path: Path) -> None:
    table = graph_statistics(DeepNets1M(tmp_path, "predefined"))
    assert table["num_nodes"].tolist() == [126, 129]
    assert table["average_degree"].tolist() == pytest.approx([2.238095, 2.294574], abs=1e-6)
    assert table["average_path"].tolist() == pytest.approx([11.193270, 10.700097], abs=1e-6)
    found, published = describe_split(table), PUBLISHED["predefined"]
    assert (found.networks, found.least_nodes, found.most_nodes) == published[:3]
    assert [round(value, 1) for value in found[3:]] == pytest.approx(published[3:], abs=0.051)


def test_correlations() -> None:
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"depth": rng.integers(5, 20, 40), "num_nodes": 7, "average_path": rng.normal(size=40)})
    targets = rng.integers(0, 30, 40) - 2.0 * table["depth"]
    table.loc[3, "average_path"] = math.inf
    targets[8] = math.nan
    found = correlations(table, targets, ("depth", "num_nodes", "average_path")).set_index("statistic")
    assert found["networks"].tolist() == [39, 39, 38]
    known = targets.notna()
    depth, values = table.loc[known, "depth"].tolist(), targets[known].tolist()
    assert found.loc["depth", "kendall"] == pytest.approx(naive_tau_b(depth, values))
    ranks = np.corrcoef(rankdata(depth), rankdata(values))[0, 1]
    assert found.loc["depth", "spearman"] == pytest.approx(ranks)
    assert found.loc["num_nodes", ["kendall", "spearman"]].isna().all()
    with pytest.raises(ConfigError, match="the table has no column 'width'; it has depth"):
        correlations(table, targets, ("width",))
    with pytest.raises(ConfigError, match="targets: expected one for each of 40 networks"):
        correlations(table, targets[:3])


def test_simple_features_are_scaled(corpus: Path) -> None:
    first = graph_statistics(DeepNets1M(corpus, "val", num_nets=8))
    second = first.copy()
    second.loc[0, "average_path"] = math.inf
    train, test = simple_features(first, second)
    assert train.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)
    assert train.std(axis=0) == pytest.approx(np.ones(5))
    assert test[1:] == pytest.approx(train[1:])
    assert np.isfinite(test).all()
