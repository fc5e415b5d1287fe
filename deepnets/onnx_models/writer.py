"""`write_onnx`: a graph as an ONNX file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepnets.architecture import NODE_TYPES, NetworkConfig
from deepnets.graph import ROLES, Graph, ParameterSlot, Slots
from deepnets.onnx_models.files import DOMAIN, import_onnx
from deepnets.support import ConfigError, DeepNetsError, FormatError, in_one_line, parse_json, replace_file

__all__ = ["read_written", "write_onnx"]

_INPUT = "input"
_VERSION = 1
_ANY_SHAPE = ("batch", "other axes")  # graphs do not know the shapes of data, but ONNX files have to state one


def write_onnx(graph: Graph, path: Path | str) -> None:
    """Write a graph, with the names and shapes of its parameters, as an ONNX file.

    Every node becomes an operator of the domain ``deepnets1m``, named after its node type, whose inputs are the outputs
    of its sources, and the parameters that it stands for; these are declared with their shapes, without values.  Tools
    for ONNX files, such as Netron, show the graph, and `read_onnx` returns an equal one.  The file cannot be executed:
    a graph has neither strides nor activations.  To export an executable network, use
    ``torch.onnx.export(Network(graph.config), ...)``, which `read_onnx` reads, too.

    Parameters
    ----------
    graph
        A graph; its parameters may be unknown.
    path
        The file; replaced if it exists.

    Raises
    ------
    ConfigError
        If `graph` is not a graph.
    MissingDependencyError
        If the package `onnx` is not installed (`pip install "deepnets1m[onnx]"`).
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from deepnets import GENOTYPES, MissingDependencyError, NetworkConfig, build_graph, read_onnx
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         write_onnx(graph, f"{folder}/darts.onnx")
    ...         equal = read_onnx(f"{folder}/darts.onnx") == graph
    ...     except MissingDependencyError:
    ...         equal = True
    >>> equal
    True
    """
    if not isinstance(graph, Graph):
        raise ConfigError(f"graph: expected a Graph, got {type(graph).__name__}; trace(model) makes one of a module")
    if Path(path).suffix.lower() != ".onnx":
        raise ConfigError(f"path: expected a name that ends in .onnx, got {path}")
    onnx = import_onnx()
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    known: tuple[tuple[ParameterSlot, ...], ...] = (
        graph.parameters if graph.knows_parameters else ((),) * graph.num_nodes
    )
    sources = np.split(graph.sources, np.cumsum(graph.in_degrees)[:-1])
    nodes, tensors = [], [helper.make_tensor_value_info(_INPUT, real, _ANY_SHAPE)]
    for number, slots in enumerate(known):
        kind = NODE_TYPES[graph.node_types[number]]
        inputs = [f"node_{source}" for source in sources[number].tolist()]
        attributes: dict[str, Any] = {"cell": int(graph.cells[number])}
        if graph.windows[number].any():
            attributes["window"] = graph.windows[number].tolist()
        if graph.names is not None:
            attributes["name_index"] = int(graph.names[number])
        if slots:
            attributes["roles"] = [slot.role for slot in slots]
            tensors += [helper.make_tensor_value_info(slot.name, real, slot.shape) for slot in slots]
        inputs += [_INPUT] if kind == "input" else []
        inputs += [slot.name for slot in slots]
        nodes.append(
            helper.make_node(kind, inputs, [f"node_{number}"], name=f"{kind}_{number}", domain=DOMAIN, **attributes)
        )
    output = helper.make_tensor_value_info(f"node_{graph.num_nodes - 1}", real, _ANY_SHAPE)
    written = helper.make_graph(nodes, "graph", tensors, [output])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, _VERSION)]
    model = helper.make_model(written, opset_imports=imports, producer_name="deepnets1m", ir_version=8)
    helper.set_model_props(model, _properties(graph))
    replace_file(Path(path), model.SerializeToString())


def _properties(graph: Graph) -> dict[str, str]:
    """Return what a graph has besides its nodes, as JSON texts by name."""
    found: dict[str, Any] = {"virtual_edges": graph.virtual_edges, "knows_parameters": graph.knows_parameters}
    if graph.index is not None:
        found["index"] = graph.index
    if graph.knows_parameters:
        found["unused"] = [list(slot) for slot in graph.unused]
    with contextlib.suppress(ConfigError):  # the graph was not made from a NetworkConfig
        found["config"] = graph.config.to_dict()
    return {name: json.dumps(value) for name, value in found.items()}


def read_written(model: Any) -> Graph:
    """Return the graph in a file of `write_onnx`, which is not trusted.

    Parameters
    ----------
    model
        The `onnx.ModelProto`.

    Raises
    ------
    FormatError
        If the file was damaged or changed.

    Examples
    --------
    See `write_onnx`.
    """
    try:
        return _graph_of(model)
    except DeepNetsError:
        raise
    except Exception as error:
        raise FormatError(f"is not a graph of this toolkit: {in_one_line(error, 200)}") from error


def _graph_of(model: Any) -> Graph:
    onnx = import_onnx()
    properties = {entry.key: parse_json(entry.value) for entry in model.metadata_props}
    version = next(each.version for each in model.opset_import if each.domain == DOMAIN)
    if version != _VERSION:
        raise FormatError(f"has version {version} of the operators of graphs; this version reads {_VERSION}")
    shapes = {
        tensor.name: tuple(axis.dim_value for axis in tensor.type.tensor_type.shape.dim) for tensor in model.graph.input
    }
    numbers: dict[str, int] = {}
    types, cells, windows = [], [], []
    names: list[Any] = []
    sources: list[list[int]] = []
    slots: list[tuple[ParameterSlot, ...]] = []
    for node in model.graph.node:
        if node.op_type not in NODE_TYPES or node.domain != DOMAIN:
            raise FormatError(f"node {node.name!r} has the unknown type {node.domain}.{node.op_type}")
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        inputs = [name for name in node.input if name != _INPUT]
        sources.append([numbers[name] for name in inputs if name in numbers])
        parameters = [name for name in inputs if name not in numbers]
        roles = [role.decode() for role in attributes.get("roles", ())]
        slots.append(tuple(_slot(name, shapes[name], role) for name, role in zip(parameters, roles, strict=True)))
        types.append(NODE_TYPES.index(node.op_type))
        cells.append(attributes["cell"])
        names.append(attributes.get("name_index"))
        windows.append(attributes.get("window", [0, 0]))
        numbers[node.output[0]] = len(numbers)
    config = properties.get("config")
    kinds = np.array(types, np.uint8)
    found = Slots(tuple(slots), _unused(properties.get("unused", [])), kinds)
    return Graph(
        kinds,
        cells,
        [len(each) for each in sources],
        np.array([source for each in sources for source in each], np.int32),
        names=None if None in names else names,
        config=None if config is None else NetworkConfig.from_dict(config),
        slots=(lambda: found) if properties["knows_parameters"] is True else None,
        index=properties.get("index"),
        virtual_edges=properties["virtual_edges"],
        windows=windows,
    )


def _slot(name: str, shape: Sequence[Any], role: str) -> ParameterSlot:
    if role not in ROLES or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise FormatError(f"parameter {name!r} has the role {role!r} and the shape {list(shape)}")
    return ParameterSlot(str(name), tuple(shape), role)


def _unused(entries: Sequence[Any]) -> tuple[ParameterSlot, ...]:
    return tuple(_slot(name, shape, role) for name, shape, role in entries)
