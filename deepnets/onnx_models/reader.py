"""`read_onnx`: the graph of an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepnets.graph import Graph
from deepnets.onnx_models.files import DOMAIN, check_size, import_onnx, open_model
from deepnets.onnx_models.model import OnnxModel
from deepnets.onnx_models.rules import apply_rule
from deepnets.onnx_models.writer import read_written
from deepnets.support import DeepNetsError, FormatError, TraceError, in_one_line
from deepnets.support.untrusted_files import collection_paused
from deepnets.tracing import check_vocabulary, finish, main_output, move_to_live, settle

__all__ = ["read_onnx"]


def read_onnx(source: Path | str | Any, *, vocabulary: str = "complete") -> Graph:
    """Return the graph of an ONNX model, as `deepnets.trace` returns that of a module of PyTorch.

    The nodes are those of `trace`: layers with parameters, poolings, and operators that combine tensors.  Parameters
    have the names of the file; linear layers have weights (outputs, inputs), as in PyTorch, however the file stores
    them.  Every floating-point tensor of the file with more than one element is a parameter, except statistics of batch
    norms and masks of attention.  No operator is executed, and no values of parameters are needed, so models whose
    weights are in other files are read without these files.

    A model that was exported for inference usually has no batch norms, because exporters multiply them into the
    convolutions before them.  To keep them, export a model in training mode with
    ``torch.onnx.export(..., dynamo=False, do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE)``.

    Files of `write_onnx` are read without loss.

    Parameters
    ----------
    source
        A file, or an `onnx.ModelProto`.
    vocabulary
        As in `deepnets.trace`; not used for files of `write_onnx`.

    Returns
    -------
    Graph

    Raises
    ------
    MissingDataError, FormatError
        If there is no such file, or it is not a valid ONNX model, or one with more than 100,000 operators.
    TraceError
        If the output of the model does not depend on its input.
    MissingDependencyError
        If the package `onnx` is not installed (`pip install "deepnets1m[onnx]"`).

    Examples
    --------
    >>> from deepnets import MissingDependencyError
    >>> try:
    ...     from onnx import parser
    ...     text = '''<ir_version: 8, opset_import: ["" : 17]>
    ...     net (float[1, 2] x) => (float[1, 3] z) <float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[3] b = {1, 2, 3}> {
    ...         y = MatMul (x, w)
    ...         z = Add (y, b)
    ...     }'''
    ...     graph = read_onnx(parser.parse_model(text))
    ... except (ImportError, MissingDependencyError):
    ...     graph = "Graph(3 nodes, 2 edges)"
    >>> print(graph)
    Graph(3 nodes, 2 edges)
    """
    vocabulary = check_vocabulary(vocabulary)
    where = str(source) if isinstance(source, str | Path) else "ONNX model"
    model = open_model(source) if isinstance(source, str | Path) else source
    try:
        check_size(model)
        is_written = any(node.domain == DOMAIN for node in model.graph.node)
        with collection_paused():
            graph = read_written(model) if is_written else _graph_of(model, vocabulary)
        return graph.replace(label=Path(source).stem if isinstance(source, str | Path) else "")
    except TraceError as error:
        raise TraceError(f"{where}: {error}") from error
    except DeepNetsError as error:
        raise FormatError(f"{where}: {error}") from error
    except Exception as error:  # operators whose inputs or attributes do not fit their type
        raise FormatError(f"{where}: is not a valid ONNX model: {in_one_line(error, 200)}") from error


def _graph_of(proto: Any, vocabulary: str) -> Graph:
    if proto.functions:
        proto = import_onnx().inliner.inline_local_functions(proto)
    model = OnnxModel(proto)
    for operator in model.operators():
        apply_rule(model, operator)
    values = [model.value(tensor.name) for tensor in proto.graph.output]
    returned = [settle(model, value) for value in values if value.nodes]
    if not returned:
        raise TraceError("it returns nothing that depends on its input")
    scalars = [model.rank(tensor.name) == 0 for tensor, value in zip(proto.graph.output, values) if value.nodes]
    output = main_output(model.recorder.nodes, returned, scalars)
    move_to_live(model.recorder.nodes, output)
    return finish(model.recorder.nodes, output, model.slots(), vocabulary)
