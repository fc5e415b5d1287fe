"""Statistics of graphs, and their correlation with the accuracy of networks.

    table = graph_statistics(nets)                 one row per network: size, depth, degree, path lengths
    correlations(table, accuracies)                rank correlation of each statistic with the accuracy
    describe_split(table), PUBLISHED["test"]       means over a split, and the published means

Definitions are those of Knyazev et al. (NeurIPS 2021, table 1): for the undirected graph without virtual edges,
including nodes that do not contribute to the output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.analyses.properties import kendall
from deepnets.architecture import has_cifar_stem
from deepnets.corpus import DeepNets1M
from deepnets.support import ConfigError, ProgressBar

__all__ = [
    "PUBLISHED",
    "STATISTICS",
    "SplitStatistics",
    "correlations",
    "describe_split",
    "graph_statistics",
    "simple_features",
]

STATISTICS = ("num_params", "num_nodes", "depth", "average_degree", "average_path")


class SplitStatistics(NamedTuple):
    """Statistics of a split: means with population standard deviations.

    Attributes
    ----------
    networks
        Number of networks.
    least_nodes, most_nodes, nodes, nodes_std
        Minimum, maximum, mean and standard deviation of the number of nodes.
    degree, degree_std
        Mean and standard deviation of the average degree.
    path, path_std
        Mean and standard deviation of the average shortest path.
    """

    networks: int
    least_nodes: int
    most_nodes: int
    nodes: float
    nodes_std: float
    degree: float
    degree_std: float
    path: float
    path_std: float


PUBLISHED = {
    "train": SplitStatistics(1000, 35, 681, 192.3, 94.9, 2.3, 0.1, 14.5, 4.8),  # of its first 1,000 networks
    "val": SplitStatistics(500, 33, 549, 190.5, 94.4, 2.3, 0.1, 14.5, 5.0),
    "test": SplitStatistics(500, 43, 579, 185.5, 91.2, 2.3, 0.1, 14.3, 4.8),
    "wide": SplitStatistics(100, 48, 381, 178.6, 75.1, 2.3, 0.1, 14.7, 4.9),
    "deep": SplitStatistics(100, 74, 1017, 391.2, 176.7, 2.3, 0.1, 26.2, 9.3),
    "dense": SplitStatistics(100, 57, 993, 355.1, 182.3, 2.4, 0.1, 15.1, 4.1),
    "bnfree": SplitStatistics(100, 33, 503, 135.1, 78.1, 2.4, 0.1, 10.0, 2.8),
    "predefined": SplitStatistics(2, 126, 129, 127.5, 1.5, 2.3, 0.0, 10.9, 0.2),
}
"""Published statistics of the original corpus, with the published number of digits."""


def graph_statistics(nets: DeepNets1M, indices: Sequence[int] | None = None, *, progress: bool = False) -> pd.DataFrame:
    """Compute size, depth, degree and path lengths of networks.

    Parameters
    ----------
    nets
        A split of the corpus.
    indices
        Indices of the networks.  Default: all.
    progress
        Whether to show a progress bar.

    Returns
    -------
    One row per network: `index`, `num_params` (with 10 classes, for the image size of `nets`), `num_nodes`, `depth`
    (nodes on the longest path), `average_degree` (neighbours per node), `average_path` (mean length of the shortest
    undirected path between two nodes; infinite if the graph is not connected).

    Examples
    --------
    >>> table = graph_statistics(DeepNets1M(split="predefined"))
    >>> table["num_nodes"].tolist(), list(table.columns)[:4]
    ([126, 129], ['index', 'num_params', 'num_nodes', 'depth'])
    """
    sizes = nets.table["num_params" if has_cifar_stem(nets.image_size) else "num_params_imagenet"].to_numpy()
    wanted = range(len(nets)) if indices is None else [int(index) for index in indices]
    rows = []
    for index in ProgressBar(wanted, desc=f"graphs of {nets.split}", unit="network", show=progress):
        found = nets[index].statistics()
        rows.append(
            (
                *(index, int(sizes[index]), found.num_nodes, found.longest_path + 1),
                *(found.average_degree, found.average_path),
            )
        )
    return pd.DataFrame(rows, columns=["index", *STATISTICS])


def describe_split(table: pd.DataFrame) -> SplitStatistics:
    """Summarize the result of `graph_statistics`.

    Examples
    --------
    >>> describe_split(graph_statistics(DeepNets1M(split="predefined"))).nodes == PUBLISHED["predefined"].nodes
    True
    """
    if not len(table):
        raise ConfigError("table: has no networks")
    nodes = table["num_nodes"]
    pairs = [(float(table[name].mean()), float(table[name].std(ddof=0))) for name in STATISTICS if name != "num_params"]
    (mean, deviation), _, degree, path = pairs
    return SplitStatistics(len(table), int(nodes.min()), int(nodes.max()), mean, deviation, *degree, *path)


def correlations(table: pd.DataFrame, targets: npt.ArrayLike, names: Sequence[str] = STATISTICS) -> pd.DataFrame:
    """Compute rank correlations of statistics with a property of networks.

    Parameters
    ----------
    table
        One row per network, with columns `names`.
    targets
        `(n,)` values of the property, such as accuracies.  Networks with a target or statistic that is not finite are
        omitted.
    names
        Names of the statistics.

    Returns
    -------
    One row per statistic: `statistic`, `kendall` (tau-b), `spearman`, `networks` (number of networks used).
    Correlations with constant values are NaN.

    Examples
    --------
    >>> table = pd.DataFrame({"depth": [10, 20, 30]})
    >>> correlations(table, [50.0, 60.0, 70.0], names=["depth"])["kendall"].tolist()
    [1.0]
    """
    from scipy.stats import spearmanr

    values = np.asarray(targets, np.float64)
    if values.shape != (len(table),):
        raise ConfigError(f"targets: expected one for each of {len(table)} networks, got shape {values.shape}")
    rows: list[dict[str, Any]] = []
    for name in names:
        if name not in table.columns:
            raise ConfigError(f"statistic: the table has no column {name!r}; it has {', '.join(map(str, table))}")
        column = table[name].to_numpy(np.float64)
        used = np.isfinite(values) & np.isfinite(column)
        first, second = column[used], values[used]
        varied = len(first) > 1 and np.ptp(first) > 0 and np.ptp(second) > 0
        spearman = float(spearmanr(first, second).statistic) if varied else math.nan
        rows.append(
            {"statistic": name, "kendall": kendall(first, second), "spearman": spearman, "networks": int(used.sum())}
        )
    return pd.DataFrame(rows, columns=["statistic", "kendall", "spearman", "networks"])


def simple_features(train: pd.DataFrame, *others: pd.DataFrame) -> list[npt.NDArray[np.float64]]:
    """Return features of graphs that need no hypernetwork, as a baseline for `predict_property`.

    Parameters
    ----------
    train, others
        Results of `graph_statistics`.

    Returns
    -------
    For each table, `(n, 5) float64`: the statistics, with logarithms of the numbers of parameters and nodes, scaled to
    mean 0 and standard deviation 1 on the networks of `train`, because the RBF kernel needs features of the same scale.

    Examples
    --------
    >>> simple_features(graph_statistics(DeepNets1M(split="predefined")))[0].shape
    (2, 5)
    """
    parts = []
    for table in (train, *others):
        values = table[list(STATISTICS)].to_numpy(np.float64)
        values[:, :2] = np.log(np.maximum(values[:, :2], 1))
        parts.append(
            np.where(np.isfinite(values), values, values[:, 1:2])
        )  # an infinite path is replaced by the number of nodes
    mean, deviation = parts[0].mean(axis=0), parts[0].std(axis=0)
    return [(values - mean) / np.where(deviation > 0, deviation, 1) for values in parts]
