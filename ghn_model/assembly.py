"""Which part of which decoder becomes which parameter, and the parameters themselves.

A `Plan` sorts the parameters of some graphs by what decodes them, so that parameters which take the same part of a map
are decoded together; `Assembler` holds the decoders and carries a plan out.  Parameters are told apart by their role
and shape only, never by names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets.graph import Graph, ParameterSlot
from ghn_model.config import GHNConfig
from ghn_model.decoders import ClassHead, ConvDecoder, MLPDecoder, VectorDecoder
from ghn_model.fitting import gain, tile
from ghn_model.shape_encoder import four_axes

__all__ = ["Assembler", "Group", "Plan", "Wanted"]

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


class Group(NamedTuple):
    """Parameters that are decoded together.

    Attributes
    ----------
    wanted
        The parameters.
    nodes
        `(n,) int64`, their nodes.
    gains
        `(n,)`, what each is multiplied by.
    part
        Of the map: rows, columns, height, width.
    """

    wanted: list[Wanted]
    nodes: Tensor
    gains: Tensor
    part: Part

    @classmethod
    def of(cls, wanted: list[Wanted], part: Part, normalise: bool) -> Group:
        """Some parameters; the gains are all 1 without normalisation."""
        nodes = torch.tensor([entry.node for entry in wanted], dtype=torch.int64)
        gains = torch.tensor([gain(entry.slot.shape) if normalise else 1.0 for entry in wanted], dtype=torch.float64)
        return cls(wanted, nodes, gains, part)


class Plan(NamedTuple):
    """Parameters by what decodes them.

    Attributes
    ----------
    vectors, class_biases, class_weights
        What the vector decoder, and the heads of classifiers make.
    maps
        What the map decoder makes, by the part of the map, in groups of limited size.
    """

    vectors: Group
    class_biases: Group
    class_weights: Group
    maps: list[Group]

    @classmethod
    def of(cls, graphs: Sequence[Graph], config: GHNConfig, class_layers: bool = True) -> Plan:
        """The plan for some graphs, with or without the layers whose outputs are the classes."""
        found: dict[Part | str, list[Wanted]] = {"vectors": [], "class_bias": [], "class_weight": []}
        first = 0
        for number, graph in enumerate(graphs):
            for node, slots in enumerate(graph.parameters, start=first):
                for slot in slots:
                    if class_layers or not slot.role.startswith("class_"):
                        found.setdefault(_decoder(slot, config), []).append(Wanted(number, node, slot))
            first += graph.num_nodes
        maps = [
            Group.of(some, part, config.weight_norm)
            for part, wanted in found.items()
            if not isinstance(part, str)
            for some in _chunks(wanted, LARGEST_BLOCK // max(1, math.prod(part)))
        ]
        row = (1, config.max_shape[0], 1, 1)
        return cls(
            Group.of(found["vectors"], row, False),
            Group.of(found["class_bias"], row, False),
            Group.of(found["class_weight"], (*config.max_shape[:2], 1, 1), config.weight_norm),
            maps,
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> Plan:
        """The plan with its tensors on a device."""

        def moved(group: Group) -> Group:
            nodes, gains = (tensor.to(device, non_blocking=non_blocking) for tensor in (group.nodes, group.gains))
            return group._replace(nodes=nodes, gains=gains)

        maps = [moved(group) for group in self.maps]
        return Plan(moved(self.vectors), moved(self.class_biases), moved(self.class_weights), maps)


def _decoder(slot: ParameterSlot, config: GHNConfig) -> Part | str:
    """What makes a parameter: a part of the map, or another decoder."""
    if slot.role == "class_bias":
        return "class_bias"
    if is_vector(slot):
        return "vectors"
    if slot.role == "class_weight":
        return "class_weight"
    out, into, height, width = (min(size, most) for size, most in zip(four_axes(slot.shape), config.max_shape))
    return out, into, height, width


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
        if plan.class_weights.wanted:
            self._classifiers(plan.class_weights, embeddings, sink)
        for group in plan.maps:
            maps = self.decoder(embeddings[group.nodes], *group.part)
            if self.config.weight_norm:
                maps = maps * group.gains.to(maps.dtype).view(-1, 1, 1, 1, 1)
            for entry, block in zip(group.wanted, maps):
                sink(entry, self._shaped(block, entry.slot.shape))

    def _vectors(self, plan: Plan, embeddings: Tensor, sink: Sink) -> None:
        """Norms, biases, scales and whatever else is a vector; and the biases of classifiers."""
        weights, plain = self.decoder_1d(embeddings[plan.vectors.nodes]).unbind(1)  # (n, C) each
        classes = self.bias_class(self.decoder_1d(embeddings[plan.class_biases.nodes])[:, 1])  # (n, K)
        biases = plain
        if self.config.weight_norm:
            weights, biases, classes = 2 * (0.5 * weights).sigmoid(), (0.2 * plain).tanh(), (0.2 * classes).tanh()
        for entry, weight, bias, as_it_is in zip(plan.vectors.wanted, weights, biases, plain):
            role, shape = entry.slot.role, entry.slot.shape
            if role in ("norm_weight", "scale", "weight"):
                block = weight
            else:
                block = as_it_is if role == "token" and len(shape) > 1 else bias
            sink(entry, _spread(block, shape))
        for entry, block in zip(plan.class_biases.wanted, classes):
            sink(entry, _spread(block, entry.slot.shape))

    def _classifiers(self, group: Group, embeddings: Tensor, sink: Sink) -> None:
        """Weights of classifiers, from all rows of the middle of a map."""
        x = embeddings[group.nodes]
        if isinstance(self.decoder, MLPDecoder):
            weights = self.decoder.classes_of(x)
        else:
            decoder: ConvDecoder = self.decoder  # type: ignore[assignment]
            weights = decoder.classes(decoder(x, *group.part))  # (n, K, C)
        if self.config.weight_norm:
            weights = weights * group.gains.to(weights.dtype).view(-1, 1, 1)
        for entry, weight in zip(group.wanted, weights):
            shape = entry.slot.shape
            block = weight[: shape[0], : shape[1]]
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


def _chunks(wanted: list[Wanted], size: int) -> Iterator[list[Wanted]]:
    size = max(1, size)
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def _spread(block: Tensor, shape: Sequence[int]) -> Tensor:
    """A vector as a block of the wanted rank: along its one long axis, or repeated, where there are several."""
    if len(shape) == 1:
        return block[: shape[0]]
    count = math.prod(shape)
    long = [axis for axis, size in enumerate(shape) if size > 1]
    if len(long) == 1:
        return block[:count].view(*(-1 if axis == long[0] else 1 for axis in range(len(shape))))
    return tile(block[:count], (count,)).view(torch.Size(shape))


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
