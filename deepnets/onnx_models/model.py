"""`OnnxModel`: the operators of an ONNX model in the order of execution, and what its tensors are computed from."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.graph import ParameterSlot
from deepnets.onnx_models.files import import_onnx
from deepnets.support import Budget, FormatError, in_one_line
from deepnets.tracing import CONSTANT, INPUT, Pending, Recorder, Value

__all__ = ["Normalized", "OnnxModel", "Operator"]

log = logging.getLogger(__name__)

_MASKED = -100.0  # numbers from here on are added to scores to exclude them
_SMALL = 1 << 20  # elements of constants whose values are read


class Normalized(NamedTuple):
    """A tensor that was normalized by elementary operators: the type of its node, and the node, if it has one yet."""

    kind: str
    node: int | None


class Operator:
    """An operator of a model: its type, inputs, outputs and attributes.

    Parameters
    ----------
    node
        The `onnx.NodeProto`.
    """

    def __init__(self, node: Any) -> None:
        self.type: str = node.op_type
        self.inputs: list[str] = list(node.input)
        self.outputs: list[str] = [name for name in node.output if name]
        self._every_output: list[str] = list(node.output)
        self.attributes: dict[str, Any] = {each.name: each for each in node.attribute}

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute."""
        found = self.attributes.get(name)
        return default if found is None else import_onnx().helper.get_attribute_value(found)

    def output(self, position: int) -> str:
        """Return the name of an output; an empty text if the operator does not have it."""
        return self._every_output[position] if position < len(self._every_output) else ""

    def input(self, position: int) -> str:
        """Return the name of an input; an empty text if the operator does not have it."""
        return self.inputs[position] if position < len(self.inputs) else ""


class OnnxModel:
    """A model while it is read: its tensors, and the nodes of the graph that is recorded.

    Every floating-point tensor of the file with more than one element is a parameter, except the statistics of batch
    norms, masks of attention, and constants in operators (`Constant`) whose elements are all equal.

    Parameters
    ----------
    model
        The `onnx.ModelProto`, without functions.

    Attributes
    ----------
    recorder
        The nodes.
    normalized
        Tensors that elementary operators have normalized, by name.
    flipped
        Names of parameters that were transposed.
    own
        What those outputs of an operator are computed from that differ from the others, by name.
    statistics
        Names of tensors of the file that are not parameters.

    Raises
    ------
    FormatError
        If a tensor has an invalid shape.
    """

    def __init__(self, model: Any) -> None:
        onnx = import_onnx()
        self.graph = model.graph
        self.recorder = Recorder()
        self.normalized: dict[str, Normalized] = {}
        self.flipped: set[str] = set()
        self.own: dict[str, Value] = {}
        self.statistics: set[str] = set()
        self._onnx = onnx
        self._budget = Budget(model.ByteSize())
        self._constants: dict[str, npt.NDArray[Any] | None] = {}
        self._masks: dict[str, bool] = {}
        self._tensors: dict[str, Any] = {tensor.name: tensor for tensor in self.graph.initializer}
        self._tensors |= {sparse.values.name: sparse for sparse in self.graph.sparse_initializer}
        self._values: dict[str, Value] = {name: self._of_file(name) for name in self._tensors}
        self._producers: dict[str, Operator] = {}
        for tensor in self.graph.input:
            if tensor.name not in self._tensors:
                self._values[tensor.name] = Value((INPUT,), (), self._kind_of_input(tensor.type.tensor_type))
        self._ranks, self._shapes = self._inferred(model)

    @property
    def _floats(self) -> tuple[int, ...]:
        kinds = self._onnx.TensorProto
        return kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.BFLOAT16

    def _kind_of_input(self, tensor: Any) -> str:
        pixels = tensor.elem_type == self._onnx.TensorProto.UINT8 and len(tensor.shape.dim) >= 3
        return "" if pixels or tensor.elem_type in self._floats else "numbers"

    def _of_file(self, name: str) -> Value:
        tensor = self._tensors[name]
        kind = tensor.values.data_type if hasattr(tensor, "values") else tensor.data_type
        shape = self._shape_of_file(name)
        is_parameter = kind in self._floats and math.prod(shape) > 1
        return Value(pending=(Pending(name, shape),)) if is_parameter else CONSTANT

    def _shape_of_file(self, name: str) -> tuple[int, ...]:
        shape = tuple(int(size) for size in self._tensors[name].dims)
        if any(size < 0 for size in shape):
            raise FormatError(f"tensor {name!r} has the shape {list(shape)}")
        return shape

    def _inferred(self, model: Any) -> tuple[dict[str, int], dict[str, tuple[int | str, ...]]]:
        """Return the ranks of tensors, and their shapes, as far as they can be inferred."""
        try:
            graph = self._onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        except Exception as error:  # errors of the C++ part have no common class; models above 2 GB are refused
            log.warning("shapes of the ONNX model cannot be inferred: %s", in_one_line(error, 200))
            graph = model.graph
        ranks: dict[str, int] = {}
        shapes: dict[str, tuple[int | str, ...]] = {}
        for tensor in (*graph.input, *graph.value_info, *graph.output):
            kind = tensor.type.tensor_type
            if kind.HasField("shape"):
                axes = kind.shape.dim
                ranks[tensor.name] = len(axes)
                shapes[tensor.name] = tuple(axis.dim_value or axis.dim_param or f"?{i}" for i, axis in enumerate(axes))
        for name in self._tensors:
            shapes[name] = self._shape_of_file(name)
            ranks[name] = len(shapes[name])
        return ranks, shapes

    def operators(self) -> Iterator[Operator]:
        """Iterate over the operators; those that only make a constant are skipped.

        Raises
        ------
        FormatError
            If an operator reads a tensor that no earlier one makes.
        """
        for node in self.graph.node:
            operator = Operator(node)
            for name in operator.inputs:
                if name and name not in self._values:
                    raise FormatError(f"operator {operator.type} reads {name!r}, which no operator before it makes")
            for name in operator.outputs:
                self._producers[name] = operator
            if operator.type == "Constant":
                self._constant(operator)
            else:
                yield operator

    def _constant(self, operator: Operator) -> None:
        tensor = operator.attribute("value")
        for name in operator.outputs:
            if tensor is None:
                self._values[name] = CONSTANT
                continue
            self._tensors[name] = tensor
            values = self.constant(name)
            alike = values is not None and values.size > 0 and bool((values == values.flat[0]).all())
            self._values[name] = CONSTANT if alike else self._of_file(name)
            self._shapes[name] = self._shape_of_file(name)
            self._ranks[name] = len(self._shapes[name])

    # --- tensors ---

    def value(self, name: str) -> Value:
        """Return what a tensor is computed from; a constant for the empty name."""
        return self._values[name] if name else CONSTANT

    def set_value(self, operator: Operator, value: Value) -> None:
        """Set what all outputs of an operator are computed from, as far as they have no values of their own (`own`).

        Raises
        ------
        FormatError
            If operators combine so many tensors that the model cannot be a network.
        """
        try:
            self._budget.spend(16 * (len(value.nodes) + len(value.pending)))
        except ValueError as error:
            raise FormatError(f"operator {operator.type} and others before it combine too many tensors") from error
        for name in operator.outputs:
            self._values[name] = self.own.pop(name, value)

    def values(self, operator: Operator) -> list[Value]:
        """Return what each input of an operator is computed from."""
        return [self.value(name) for name in operator.inputs]

    def parameter(self, name: str) -> tuple[Pending, ...]:
        """Return the parameters that a tensor is computed from; a tensor of the file is one, of any type and size."""
        if name in self._tensors:
            return (Pending(name, self._shape_of_file(name)),)
        return self.value(name).pending

    def is_placeholder(self, name: str) -> bool:
        """Return whether an exporter wrote a tensor for an argument that is missing: a `Constant` of equal elements."""
        made = self.producer(name)
        return made is not None and made.type == "Constant" and self.value(name) == CONSTANT

    def producer(self, name: str) -> Operator | None:
        """Return the operator that makes a tensor."""
        return self._producers.get(name)

    def rank(self, name: str) -> int | None:
        """Return the number of axes of a tensor, if it is known."""
        return self._ranks.get(name)

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """Return the shape of a tensor, with texts for unknown sizes, if its number of axes is known."""
        return self._shapes.get(name)

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return the values of a small constant of the file; None if they are unknown."""
        if name not in self._constants:
            self._constants[name] = self._read_constant(name)
        return self._constants[name]

    def _read_constant(self, name: str) -> npt.NDArray[Any] | None:
        tensor = self._tensors.get(name)
        if tensor is None:
            operator = self.producer(name)
            found = operator and next((operator.attribute(each) for each in operator.attributes), None)
            return np.array(found) if operator and operator.type == "Constant" and found is not None else None
        external = getattr(tensor, "data_location", 0) == self._onnx.TensorProto.EXTERNAL
        if hasattr(tensor, "values") or external or math.prod(self._shape_of_file(name)) > _SMALL:
            return None
        try:
            values: npt.NDArray[Any] = self._onnx.numpy_helper.to_array(tensor)
        except Exception as error:
            raise FormatError(f"tensor {name!r} cannot be read: {in_one_line(error, 200)}") from error
        return values

    def is_mask(self, name: str) -> bool:
        """Return whether a tensor of the file is a mask of attention: zeros, and numbers that exclude scores."""
        if name not in self._masks:
            values = self.constant(name)
            self._masks[name] = (
                values is not None and bool(((values == 0) | (values <= _MASKED)).all()) and bool((values != 0).any())
            )
            if self._masks[name]:
                self.statistics.add(name)
        return self._masks[name]

    def slots(self) -> list[ParameterSlot]:
        """Return all parameters of the file, with the roles of those that get no node."""
        return [
            ParameterSlot(parameter.name, parameter.shape, "bias" if parameter.is_vector else "weight")
            for name in (tensor.name for tensor in self.graph.initializer)
            if name not in self.statistics
            for parameter in self._of_file(name).pending
        ]
