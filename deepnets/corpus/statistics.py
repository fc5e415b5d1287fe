"""Statistics of encoded architectures, as stored in corpus files: sizes, fingerprints, and the wiring of graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deepnets.corpus.wiring import WIRING, num_rows, write_wiring
from deepnets.graph import N_EDGES, N_NODES, N_PARAMETERS, GraphBuffer, assemble, fingerprint, new_graph_buffer
from deepnets.support import compiled

__all__ = [
    "EVALUATION_PARAMETERS",
    "NUM_CLASSES",
    "STATISTICS",
    "append_rows",
    "compute_sizes",
    "compute_statistics",
    "evaluation_width",
    "evaluation_widths",
]

STATISTICS = np.dtype(
    [
        ("num_nodes", "<u2"),
        ("num_edges", "<u2"),
        ("num_rows", "<u2"),
        ("num_params", "<u8"),
        ("num_params_imagenet", "<u8"),
        ("fingerprint", "<u8"),
        ("candidate", "<u8"),
    ]
)
"""Statistics of a network in a corpus file: sizes of its graph, number of parameters, fingerprint and candidate."""

NUM_CLASSES = 10
"""Number of classes for which parameters are counted, for both image sizes, as in the original release."""

EVALUATION_PARAMETERS = 2_500_000
"""Networks of all splits but `train` have the smallest width with at least this many parameters for CIFAR-10."""

WIDTH_STEP = 16
"""Widths of networks of all splits but `train` are 32 plus a multiple of this number."""

_NOMINAL_C, _NOMINAL_FC_DIM = 32, 256  # fingerprints of all splits are computed at the same width


@compiled
def compute_sizes(net: Any, buffer: GraphBuffer, out: Any) -> bool:
    """Write the sizes of an encoded architecture into a record.

    Parameters
    ----------
    net
        A valid record of `deepnets.architecture.ARCHITECTURE`.
    buffer
        Afterwards it holds the graph for 32-pixel images.
    out
        A record of `STATISTICS`.  All fields but `fingerprint` and `candidate` are set.

    Returns
    -------
    bool
        Whether the network has an output.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> from deepnets.graph import new_graph_buffer
    >>> net, buffer = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])[0], new_graph_buffer(n_cells=4, steps=4)
    >>> out = np.zeros(1, STATISTICS)
    >>> bool(compute_sizes(net, buffer, out[0])), int(out["num_nodes"][0])
    (True, 122)
    """
    out.num_params_imagenet = 0
    imagenet = assemble(net, net.C, net.fc_dim, NUM_CLASSES, 224, buffer)
    if imagenet >= 0:
        out.num_params_imagenet = imagenet
    cifar10 = assemble(net, net.C, net.fc_dim, NUM_CLASSES, 32, buffer)
    out.num_params = buffer.counters[N_PARAMETERS]
    out.num_nodes = buffer.counters[N_NODES]
    out.num_edges = buffer.counters[N_EDGES]
    out.num_rows = num_rows(buffer)
    return cifar10 >= 0


@compiled
def append_rows(buffer: GraphBuffer, rows: npt.NDArray[np.void], used: int) -> tuple[npt.NDArray[np.void], int]:
    """Append the wiring of the graph in a buffer to an array of rows.

    Parameters
    ----------
    buffer
        Holds the graph.
    rows
        Array of `deepnets.corpus.WIRING`.
    used
        Number of rows that are in use.

    Returns
    -------
    rows
        The same array, or a longer copy if it was too short.
    used
        Number of rows that are in use now.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> from deepnets.graph import assemble, new_graph_buffer
    >>> net, buffer = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])[0], new_graph_buffer(n_cells=4, steps=4)
    >>> _ = assemble(net, 32, 256, 10, 32, buffer)
    >>> rows, used = append_rows(buffer, np.zeros(0, WIRING), 0)
    >>> used
    152
    """
    end = used + num_rows(buffer)
    if end > len(rows):
        longer = np.empty(2 * end, rows.dtype)
        longer[:used] = rows[:used]
        rows = longer
    write_wiring(buffer, rows[used:end])
    return rows, end


@compiled
def _compute_statistics(
    nets: npt.NDArray[np.void], buffer: GraphBuffer, statistics: npt.NDArray[np.void], rows: npt.NDArray[np.void]
) -> npt.NDArray[np.void]:
    used = 0
    for i in range(len(nets)):
        if assemble(nets[i], _NOMINAL_C, _NOMINAL_FC_DIM, NUM_CLASSES, 32, buffer) >= 0:
            statistics[i].fingerprint = fingerprint(buffer)
        compute_sizes(nets[i], buffer, statistics[i])
        rows, used = append_rows(buffer, rows, used)
    return rows[:used]


def compute_statistics(architectures: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
    """Compute the statistics and the wiring of architectures.

    Parameters
    ----------
    architectures
        `(n,)` records of `deepnets.architecture.ARCHITECTURE` that `deepnets.architecture.decode` accepts.

    Returns
    -------
    statistics
        `(n,)` records of `STATISTICS`; the numbers of candidates are 0 to n - 1.
    wiring
        `deepnets.corpus.WIRING` rows of all graphs, one after the other.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> statistics, wiring = compute_statistics(encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)]))
    >>> int(statistics["num_nodes"][0]), len(wiring)
    (122, 152)
    """
    statistics = np.zeros(len(architectures), STATISTICS)
    statistics["candidate"] = np.arange(len(architectures))
    if len(architectures) == 0:
        return statistics, np.zeros(0, WIRING)
    buffer = new_graph_buffer(int(architectures["n_cells"].max()), int(architectures["steps"].max()))
    rows = _compute_statistics(architectures, buffer, statistics, np.empty(256 * len(architectures), WIRING))
    return statistics, rows


@compiled
def evaluation_width(net: Any, num_params: int, buffer: GraphBuffer) -> int:
    """Return the width of a network of an evaluation split: the smallest with `EVALUATION_PARAMETERS`.

    Parameters
    ----------
    net
        A valid record of `deepnets.architecture.ARCHITECTURE` of a network that has an output, with the smallest
        allowed width, 32.
    num_params
        Number of parameters of the network at this width, for 32-pixel images.
    buffer
        Is overwritten.

    Returns
    -------
    int
        The width: 32 plus a multiple of 16.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> from deepnets.graph import count_parameters, new_graph_buffer
    >>> config = NetworkConfig(GENOTYPES["DARTS"], n_cells=8)
    >>> net, buffer = encode([config])[0], new_graph_buffer(n_cells=8, steps=4)
    >>> width = int(evaluation_width(net, count_parameters(config), buffer))
    >>> [count_parameters(config.replace(C=C)) >= 2_500_000 for C in (width - 16, width)]
    [False, True]
    """
    # The number of parameters is a quadratic function of the number of width steps, so three values determine it.
    width, count = np.int64(net.C), np.int64(num_params)
    growth = _count(net, 1, buffer) - count
    acceleration = _count(net, 2, buffer) - count - 2 * growth
    while count < EVALUATION_PARAMETERS:
        width += WIDTH_STEP
        count += growth
        growth += acceleration
    return int(width)


@compiled
def _count(net: Any, steps: int, buffer: GraphBuffer) -> int:
    """Return the number of parameters of a network that is `steps` width steps wider."""
    return assemble(net, net.C + steps * WIDTH_STEP, net.fc_dim, NUM_CLASSES, 32, buffer)


def evaluation_widths(architectures: npt.NDArray[np.void], statistics: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Return the width of every network by the rule of the evaluation splits (see `evaluation_width`).

    Parameters
    ----------
    architectures
        `(n,)` records of `deepnets.architecture.ARCHITECTURE` with the width 32.
    statistics
        Their statistics, from `compute_statistics`.

    Returns
    -------
    numpy.ndarray
        `(n,) int64`; 32 for a network without an output.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> nets = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=8), NetworkConfig(GENOTYPES["DARTS"], n_cells=18)])
    >>> evaluation_widths(nets, compute_statistics(nets)[0]).tolist()
    [64, 48]
    """
    widths = architectures["C"].astype(np.int64)
    if len(architectures):
        buffer = new_graph_buffer(int(architectures["n_cells"].max()), int(architectures["steps"].max()))
        for i in np.flatnonzero(statistics["num_params_imagenet"]):
            widths[i] = evaluation_width(architectures[i], int(statistics["num_params"][i]), buffer)
    return widths
