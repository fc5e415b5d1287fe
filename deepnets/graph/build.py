"""Build the computational graph of an architecture, without building the network and without importing torch.

`build_graph` returns the graph, `count_parameters` the number of parameters, `parameter_slots` their descriptions.  All
of them call the compiled function `deepnets.graph.assembly.assemble`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from deepnets.architecture import BIAS, LN, NAMES, NORM, POS_ENC, STEM, NetworkConfig, checked_task, encode
from deepnets.graph.assembly import assemble
from deepnets.graph.buffer import N_EDGES, N_NODES, N_UNUSED, GraphBuffer, new_graph_buffer
from deepnets.graph.graph import Graph
from deepnets.graph.parameters import ParameterSlot, Slots
from deepnets.support import ConfigError

__all__ = ["build_graph", "count_parameters", "parameter_slots"]


def build_graph(config: NetworkConfig, num_classes: int = 10, image_size: int = 32) -> Graph:
    """Build the computational graph of an architecture.

    Parameters
    ----------
    config
        The architecture.
    num_classes
        Number of outputs of the classifier.
    image_size
        Height and width of the images, 16 to 512.  `num_classes` and `image_size` determine the shapes of parameters;
        nodes and edges do not depend on them.

    Returns
    -------
    Graph
        All nodes that data reaches, in canonical order (topological, cell by cell).

    Raises
    ------
    ConfigError
        If the network has no output because `none` operations cut every path to it, or if an argument is not allowed.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> vit = NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)
    >>> build_graph(vit)
    Graph(129 nodes, 148 edges)
    """
    record = encode([config])[0]
    buffer, _ = _assembled(record, num_classes, image_size)
    n, e = int(buffer.counters[N_NODES]), int(buffer.counters[N_EDGES])
    nodes = buffer.nodes[:n]
    return Graph(
        node_types=nodes["node_type"].copy(),
        cells=nodes["cell"].copy(),
        in_degrees=nodes["in_degree"].copy(),
        sources=buffer.sources[:e].copy(),
        names=nodes["name"].copy(),
        config=config,
        slots=partial(parameter_slots, record, num_classes, image_size),
    )


def count_parameters(config: NetworkConfig, num_classes: int = 10, image_size: int = 32) -> int:
    """Return the number of parameters of `Network(config, num_classes, image_size)` without building it.

    Parameters
    ----------
    config, num_classes, image_size
        As in `build_graph`.

    Returns
    -------
    int
        Parameters of dead and unused layers are included.

    Raises
    ------
    ConfigError
        As in `build_graph`.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> vit = NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)
    >>> count_parameters(vit)
    1012234
    """
    return _assembled(encode([config])[0], num_classes, image_size)[1]


def parameter_slots(record: Any, num_classes: int = 10, image_size: int = 32) -> Slots:
    """Return the parameters of the nodes of a graph, from the encoded architecture.

    Parameters
    ----------
    record
        A record of `deepnets.architecture.ARCHITECTURE` that `deepnets.architecture.decode` accepts.
    num_classes, image_size
        As in `build_graph`.

    Returns
    -------
    Slots

    Raises
    ------
    ConfigError
        As in `build_graph`.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> vit = NetworkConfig(GENOTYPES["ViT"], n_cells=12, C=128, C_mult=1, preproc=False)
    >>> parameter_slots(encode([vit])[0]).nodes[1]
    (ParameterSlot(name='stem0.weight', shape=(128, 3, 3, 3), role='weight'),)
    """
    buffer, _ = _assembled(record, num_classes, image_size)
    n, unused = int(buffer.counters[N_NODES]), int(buffer.counters[N_UNUSED])
    nodes = [_node_slots(row, is_classifier=i >= n - 2) for i, row in enumerate(buffer.nodes[:n].tolist())]
    rest = [slot for row in buffer.unused[:unused].tolist() for slot in _node_slots(row, is_classifier=False)]
    return Slots(tuple(nodes), tuple(rest), buffer.nodes[:n]["node_type"].copy())


def _assembled(record: Any, num_classes: int, image_size: int) -> tuple[GraphBuffer, int]:
    """A buffer with the graph of an encoded architecture, and its number of parameters."""
    num_classes, image_size = checked_task(num_classes, image_size)
    buffer = new_graph_buffer(int(record["n_cells"]), int(record["steps"]))
    count = int(assemble(record, record["C"], record["fc_dim"], num_classes, image_size, buffer))
    if count < 0:
        raise ConfigError("genotype: the network has no output, because its `none` operations cut every path to it")
    return buffer, count


def _node_slots(row: tuple[Any, ...], is_classifier: bool) -> tuple[ParameterSlot, ...]:
    """The slots of a row of `GraphBuffer.nodes` or `GraphBuffer.unused`."""
    node_type, cell, _, name_index, *dimensions = row
    name = NAMES[name_index]
    if name_index < STEM:  # a node without parameters is named after its type
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
    return (ParameterSlot(name, shape, f"class_{role}" if is_classifier else role),)
