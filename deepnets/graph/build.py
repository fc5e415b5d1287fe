"""From an architecture to its computational graph, with no network built and no torch imported.

`build_graph` gives the graph, `count_parameters` the size; both call the compiled function in
`deepnets.graph.assembly`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from deepnets.architecture import BIAS, LN, NAMES, NORM, POS_ENC, STEM, NetworkConfig, checked_task, encode
from deepnets.graph.assembly import N_EDGES, N_NODES, N_UNUSED, Tape, assemble, new_tape
from deepnets.graph.graph import Graph, ParameterSlot, Slots
from deepnets.support import ConfigError

__all__ = ["build_graph", "count_parameters", "parameter_slots"]


def build_graph(config: NetworkConfig, num_classes: int = 10, image_size: int = 32) -> Graph:
    """The computational graph of an architecture, every node that receives data included.

    Parameters
    ----------
    config
        The architecture.
    num_classes, image_size
        Outputs of the classifier, and side of the images (32 or 224): they decide parameter shapes, never the graph.

    Raises
    ------
    ConfigError
        If the network has no output (`none` cut every path), or for an image size without a stem.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> vit = NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)
    >>> build_graph(vit)
    Graph(129 nodes, 148 edges)
    """
    tape, _ = _walked(config, num_classes, image_size)
    n, e = int(tape.counters[N_NODES]), int(tape.counters[N_EDGES])
    nodes = tape.nodes[:n]
    return Graph(
        node_types=nodes["node_type"].copy(),
        cells=nodes["cell"].copy(),
        in_degrees=nodes["in_degree"].copy(),
        sources=tape.sources[:e].copy(),
        names=nodes["name"].copy(),
        config=config,
        slots=partial(parameter_slots, config, num_classes, image_size),
    )


def count_parameters(config: NetworkConfig, num_classes: int = 10, image_size: int = 32) -> int:
    """Number of parameters of `Network(config, num_classes, image_size)`, without building it."""
    return _walked(config, num_classes, image_size)[1]


def parameter_slots(config: NetworkConfig, num_classes: int, image_size: int) -> Slots:
    """The parameters that every node of `build_graph(config)` stands for, and those that no data reaches."""
    tape, _ = _walked(config, num_classes, image_size)
    n, unused = int(tape.counters[N_NODES]), int(tape.counters[N_UNUSED])
    nodes = [_slots(row, classifies=i >= n - 2) for i, row in enumerate(tape.nodes[:n].tolist())]
    starved = [slot for row in tape.unused[:unused].tolist() for slot in _slots(row, classifies=False)]
    return Slots(tuple(nodes), tuple(starved), tape.nodes[:n]["node_type"].copy())


def _walked(config: NetworkConfig, num_classes: int, image_size: int) -> tuple[Tape, int]:
    num_classes, image_size = checked_task(num_classes, image_size)
    tape = new_tape(config.n_cells, config.genotype.steps)
    count = int(assemble(encode([config])[0], config.C, config.fc_dim, num_classes, image_size, tape))
    if count < 0:
        raise ConfigError("genotype: the network has no output, because its `none` operations cut every path to it")
    return tape, count


def _slots(row: tuple[Any, ...], classifies: bool) -> tuple[ParameterSlot, ...]:
    node_type, cell, _, name_index, *dimensions = row
    name = NAMES[name_index]
    if name_index < STEM:  # named after its type
        return ()
    if name.startswith(("preprocess", "_ops")):
        name = f"cells.{cell}.{name}"
    shape = tuple(size for size in dimensions if size)
    if node_type in (NORM, LN):
        bias = name.removesuffix("weight") + "bias"
        return ParameterSlot(name, shape, "norm_weight"), ParameterSlot(bias, shape, "norm_bias")
    if node_type == POS_ENC:
        return (ParameterSlot(name, shape, "pos_enc"),)
    role = "bias" if node_type == BIAS else "weight"
    return (ParameterSlot(name, shape, f"class_{role}" if classifies else role),)
