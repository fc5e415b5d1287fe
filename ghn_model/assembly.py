"""Which part of which decoder becomes which parameter, and the parameters themselves.

A `Plan` sorts the parameters of some graphs by what decodes them, so that parameters which take the same part of a map
are decoded together; `Assembler` holds the decoders and carries a plan out.  Parameters are told apart by their role
and shape only, never by names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets.graph import Graph, ParameterSlot
from ghn_model.config import GHNConfig
from ghn_model.decoders import ClassHead, ConvDecoder, MLPDecoder, VectorDecoder
from ghn_model.fitting import gain, tile
from ghn_model.shape_encoder import four_axes

__all__ = ["Assembler", "Plan", "Wanted"]

LARGEST_BLOCK = 1 << 22
"""Most values of maps that are decoded at a time, which bounds the memory that predictions take on the way."""

Part = tuple[int, int, int, int]


class Wanted(NamedTuple):
    """A parameter that is to be predicted: which graph and node (counted through all graphs) it is of, and its slot."""

    graph: int
    node: int
    slot: ParameterSlot


Sink = Callable[[Wanted, Tensor], None]
"""Takes a parameter and the block of values that is to be repeated to its shape."""


class Plan(NamedTuple):
    """Parameters by what decodes them.

    Attributes
    ----------
    vectors, class_biases, class_weights
        What the vector decoder, and the heads of classifiers make.
    maps
        What the map decoder makes, by the part of the map: rows, columns, height, width.
    """

    vectors: list[Wanted]
    class_biases: list[Wanted]
    class_weights: list[Wanted]
    maps: dict[Part, list[Wanted]]

    @classmethod
    def of(cls, graphs: Sequence[Graph], config: GHNConfig, class_layers: bool = True) -> Plan:
        """The plan for some graphs, with or without the layers whose outputs are the classes."""
        plan = cls([], [], [], {})
        first = 0
        for number, graph in enumerate(graphs):
            for node, slots in enumerate(graph.parameters, start=first):
                for slot in slots:
                    if class_layers or not slot.role.startswith("class_"):
                        plan._add(Wanted(number, node, slot), config)
            first += graph.num_nodes
        return plan

    def _add(self, wanted: Wanted, config: GHNConfig) -> None:
        role, shape = wanted.slot.role, wanted.slot.shape
        if role == "class_bias":
            self.class_biases.append(wanted)
        elif is_vector(wanted.slot):
            self.vectors.append(wanted)
        elif role == "class_weight":
            self.class_weights.append(wanted)
        else:
            part = tuple(min(n, most) for n, most in zip(four_axes(shape), config.max_shape))
            self.maps.setdefault(part, []).append(wanted)  # type: ignore[arg-type]


def is_vector(slot: ParameterSlot) -> bool:
    """Whether a parameter is made by the vector decoder."""
    if len(slot.shape) <= 1:
        return True
    alike = slot.role in ("scale", "bias", "token", "norm_weight", "norm_bias")
    return alike and sum(size > 1 for size in slot.shape) <= 1


class Assembler(nn.Module):
    """The decoders of a hypernetwork, and how they work together.

    Parameters
    ----------
    config
        Of the hypernetwork.
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.config = config

    def _add_decoders(self) -> None:
        """Register the decoders; called by subclasses when what comes before them in files is registered."""
        config = self.config
        channels = config.max_shape[0]
        if config.decoder == "conv":
            self.decoder: nn.Module = ConvDecoder(config.hidden, config.max_shape, config.num_classes, config.window)
        else:
            self.decoder = MLPDecoder(config.hidden, config.max_shape, config.num_classes)
        self.decoder_1d = VectorDecoder(config.hidden, channels)
        self.bias_class = ClassHead(channels, config.num_classes)

    def assemble(self, plan: Plan, embeddings: Tensor, sink: Sink) -> None:
        """Decode the parameters of a plan.

        Parameters
        ----------
        plan
            What is wanted.
        embeddings
            `(N, hidden)`, of the nodes of all graphs.
        sink
            Is given every parameter, with a block of values of the same rank.
        """
        self._vectors(plan, embeddings, sink)
        if plan.class_weights:
            self._classifiers(plan.class_weights, embeddings, sink)
        for part, wanted in plan.maps.items():
            for some in _chunks(wanted, LARGEST_BLOCK // math.prod(part)):
                maps = self.decoder(_rows(embeddings, some), *part)
                if self.config.weight_norm:
                    gains = maps.new_tensor([gain(entry.slot.shape) for entry in some]).view(-1, 1, 1, 1, 1)
                    maps = maps * gains if maps.requires_grad else maps.mul_(gains)
                for entry, block in zip(some, maps):
                    sink(entry, self._shaped(block, entry.slot.shape))

    def _vectors(self, plan: Plan, embeddings: Tensor, sink: Sink) -> None:
        """Norms, biases, scales and whatever else is a vector; and the biases of classifiers."""
        wanted = plan.vectors + plan.class_biases
        if not wanted:
            return
        decoded = self.decoder_1d(_rows(embeddings, wanted))  # (n, 2, C)
        weights, biases = decoded.unbind(1)
        plain = biases
        first = len(plan.vectors)
        classes = self.bias_class(biases[first:]) if plan.class_biases else biases[:0]
        if self.config.weight_norm:
            weights, biases = 2 * torch.sigmoid(0.5 * weights), torch.tanh(0.2 * biases)
            classes = torch.tanh(0.2 * classes)
        for number, entry in enumerate(plan.vectors):
            role, shape = entry.slot.role, entry.slot.shape
            if role in ("norm_weight", "scale", "weight"):
                block = weights[number]
            else:
                block = plain[number] if role == "token" and len(shape) > 1 else biases[number]
            sink(entry, _spread(block, shape))
        for entry, block in zip(plan.class_biases, classes):
            sink(entry, _spread(block, entry.slot.shape))

    def _classifiers(self, wanted: Sequence[Wanted], embeddings: Tensor, sink: Sink) -> None:
        """Weights of classifiers, from all rows of the middle of a map."""
        rows, columns = self.config.max_shape[:2]
        x = _rows(embeddings, wanted)
        if isinstance(self.decoder, MLPDecoder):
            weights = self.decoder.classes_of(x)
        else:
            decoder: ConvDecoder = self.decoder  # type: ignore[assignment]
            weights = decoder.classes(decoder(x, rows, columns, 1, 1))  # (n, K, C)
        for entry, weight in zip(wanted, weights):
            shape = entry.slot.shape
            block = weight[: shape[0], : shape[1]]
            if self.config.weight_norm:
                block = block * gain(shape)
            sink(entry, block.view(*block.shape, *(1 for _ in shape[2:])))

    def _shaped(self, block: Tensor, shape: Sequence[int]) -> Tensor:
        """Part of a map `(rows, columns, height, width)` as a block of the rank of the wanted tensor."""
        rank = len(shape)
        if rank == 2:
            return block[:, :, 0, 0]
        height, width = four_axes(shape)[2:]
        if block.shape[2:] != (height, width):
            block = self._enlarged(block, height, width)
        if rank == 3:
            positions = shape[0] == 1 and shape[1] > 1 and shape[2] > 1
            return _positions(block, shape[1]) if positions else block.squeeze(3)
        return block.view(*block.shape[:2], *(1 for _ in shape[4:]), *block.shape[2:])

    def _enlarged(self, block: Tensor, height: int, width: int) -> Tensor:
        """A map for kernels larger than any that is decoded."""
        if self.config.window == "corner":
            return tile(block, (*block.shape[:2], height, width))
        return F.interpolate(block, (height, width), mode="bilinear", align_corners=False)


def _rows(embeddings: Tensor, wanted: Iterable[Wanted]) -> Tensor:
    nodes = torch.tensor([entry.node for entry in wanted])
    return embeddings[nodes.to(embeddings.device, non_blocking=True)]


def _chunks(wanted: Sequence[Wanted], size: int) -> Iterator[Sequence[Wanted]]:
    size = max(1, size)
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def _spread(block: Tensor, shape: Sequence[int]) -> Tensor:
    """A vector as a block of the wanted rank: along its one long axis, or repeated, where there are several."""
    long = [axis for axis, size in enumerate(shape) if size > 1]
    count = math.prod(shape)
    if not shape:
        return block[0]
    if len(long) <= 1:
        axis = long[0] if long else 0
        return block[: min(count, len(block))].view(*(-1 if i == axis else 1 for i in range(len(shape))))
    return tile(block[: min(count, len(block))], (count,)).view(*shape)


def _positions(block: Tensor, count: int) -> Tensor:
    """Encodings of positions on a grid, `(1, count, columns)`; those beyond a square, of tokens, are random.

    Random as in the published tools, but the same every time.
    """
    grid = block.flatten(2).transpose(1, 2)  # (1, side * side, columns)
    beyond = count - grid.shape[1]
    if not beyond:
        return grid
    noise = torch.randn(beyond, grid.shape[2], generator=torch.Generator().manual_seed(0)) * 0.02
    return torch.cat([noise.to(grid)[None], grid], dim=1)
