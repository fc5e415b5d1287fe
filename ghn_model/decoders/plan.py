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
from ghn_model.decoders.modules import ClassHead, ConvDecoder, MLPDecoder, VectorDecoder
from ghn_model.decoders.tiling import gain, tile
from ghn_model.encoders import four_axes

__all__ = ["Assembler", "Group", "Plan", "Wanted"]

LARGEST = 1 << 22
"""Most values of maps that are decoded, and of parameters that are repeated at a time: this bounds the memory that is
taken on the way."""

Part = tuple[int, int, int, int]


class Wanted(NamedTuple):
    """A parameter that is to be predicted: which graph and node (counted through all graphs) it is of, and its slot."""

    graph: int
    node: int
    slot: ParameterSlot


Sink = Callable[[Sequence[Wanted], Tensor], None]
"""Takes parameters of one shape, and for each of them a block of values that is to be repeated to it, `(n, ...)`."""


class Group(NamedTuple):
    """Parameters that are decoded together.

    Attributes
    ----------
    runs
        The parameters, those of one shape side by side.
    nodes
        `(n,) int64`, their nodes.
    gains
        `(n,)`, what each is multiplied by.
    part
        Of the map: rows, columns, height, width.
    """

    runs: list[list[Wanted]]
    nodes: Tensor
    gains: Tensor
    part: Part

    @classmethod
    def of(cls, wanted: Sequence[Wanted], part: Part, normalise: bool) -> Group:
        """Some parameters; the gains are all 1 without normalisation."""
        alike: dict[tuple[int, ...], list[Wanted]] = {}
        for entry in wanted:
            alike.setdefault(entry.slot.shape, []).append(entry)
        runs = [run for shape, some in alike.items() for run in _chunks(some, LARGEST // max(1, math.prod(shape)))]
        gains = [gain(run[0].slot.shape) if normalise else 1.0 for run in runs for _ in run]
        nodes = torch.tensor([entry.node for run in runs for entry in run], dtype=torch.int64)
        return cls(runs, nodes, torch.tensor(gains, dtype=torch.float64), part)

    def split(self, values: Tensor) -> Iterator[tuple[list[Wanted], Tensor]]:
        """The runs, each with its part of values `(n, ...)`."""
        return zip(self.runs, torch.split(values, [len(run) for run in self.runs]))


class Plan(NamedTuple):
    """Parameters by what decodes them.

    Attributes
    ----------
    weights, biases, tokens
        Vectors: weights of norms and scales; biases; others, which have no bounds.
    class_biases, class_weights
        What the heads of classifiers make.
    maps
        What the map decoder makes, by the part of the map, in groups of limited size.
    """

    weights: Group
    biases: Group
    tokens: Group
    class_biases: Group
    class_weights: Group
    maps: list[Group]

    @classmethod
    def of(cls, graphs: Sequence[Graph], config: GHNConfig, class_layers: bool = True) -> Plan:
        """The plan for some graphs, with or without the layers whose outputs are the classes."""
        found: dict[Part | str, list[Wanted]] = {}
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
            for some in _chunks(wanted, LARGEST // max(1, math.prod(part)))
        ]
        row = (1, config.max_shape[0], 1, 1)
        middle = (*config.max_shape[:2], 1, 1)
        return cls(
            Group.of(found.get("weight", ()), row, False),
            Group.of(found.get("bias", ()), row, False),
            Group.of(found.get("token", ()), row, False),
            Group.of(found.get("class_bias", ()), row, False),
            Group.of(found.get("class_weight", ()), middle, config.weight_norm),
            maps,
        )

    def changed(self, change: Callable[[Tensor], Tensor]) -> Plan:
        """The plan with its tensors changed."""

        def of(group: Group) -> Group:
            return group._replace(nodes=change(group.nodes), gains=change(group.gains))

        vectors = (of(self.weights), of(self.biases), of(self.tokens))
        return Plan(*vectors, of(self.class_biases), of(self.class_weights), [of(group) for group in self.maps])

    def to(self, device: torch.device, non_blocking: bool = False) -> Plan:
        """The plan with its tensors on a device."""
        return self.changed(lambda tensor: tensor.to(device, non_blocking=non_blocking))


def _decoder(slot: ParameterSlot, config: GHNConfig) -> Part | str:
    """What makes a parameter: a part of the map, or another decoder."""
    if slot.role == "class_bias":
        return "class_bias"
    if is_vector(slot):
        if slot.role in ("norm_weight", "scale", "weight"):
            return "weight"
        return "token" if slot.role == "token" and len(slot.shape) > 1 else "bias"
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
        bounded = self.config.weight_norm
        for group, row in ((plan.weights, 0), (plan.biases, 1), (plan.tokens, 1)):
            if group.runs:
                vectors = self.decoder_1d(embeddings[group.nodes], row)  # (n, C)
                if bounded and group is not plan.tokens:
                    vectors = (0.2 * vectors).tanh() if row else 2 * (0.5 * vectors).sigmoid()
                for run, values in group.split(vectors):
                    sink(run, _spread(values, run[0].slot.shape))
        self._classifiers(plan, embeddings, sink)
        inputs = [embeddings[group.nodes] for group in plan.maps]
        decoded = self.decoder.decode(inputs, [group.part for group in plan.maps])  # type: ignore[operator]
        for group, values in zip(plan.maps, decoded):
            maps = self._scaled(values, group)
            for run, values in group.split(maps):
                sink(run, self._shaped(values, run[0].slot.shape))

    def _classifiers(self, plan: Plan, embeddings: Tensor, sink: Sink) -> None:
        """Biases of classifiers; and weights, from all rows of the middle of a map."""
        if plan.class_biases.runs:
            biases = self.bias_class(self.decoder_1d(embeddings[plan.class_biases.nodes], 1))  # (n, K)
            if self.config.weight_norm:
                biases = (0.2 * biases).tanh()
            for run, values in plan.class_biases.split(biases):
                sink(run, _spread(values, run[0].slot.shape))
        group = plan.class_weights
        if not group.runs:
            return
        x = embeddings[group.nodes]
        if isinstance(self.decoder, MLPDecoder):
            weights = self.decoder.classes_of(x)
        else:
            decoder: ConvDecoder = self.decoder  # type: ignore[assignment]
            weights = decoder.classes(decoder(x, *group.part))  # (n, K, C)
        for run, values in group.split(self._scaled(weights, group)):
            shape = run[0].slot.shape
            blocks = values[:, : shape[0], : shape[1]]
            sink(run, blocks.view(*blocks.shape, *(1 for _ in shape[2:])))

    def _scaled(self, values: Tensor, group: Group) -> Tensor:
        """Values `(n, ...)` times the gains, where weights are normalised."""
        if not self.config.weight_norm:
            return values
        return values * group.gains.to(values.dtype).view(-1, *(1 for _ in values.shape[1:]))

    def _shaped(self, maps: Tensor, shape: Sequence[int]) -> Tensor:
        """Parts of maps `(n, rows, columns, height, width)` as blocks of the rank of the wanted tensors."""
        rank = len(shape)
        if rank == 2:
            return maps[..., 0, 0]
        height, width = four_axes(shape)[2:]
        if maps.shape[3:] != (height, width):
            maps = self._enlarged(maps, height, width)
        if rank == 3:
            positions = shape[0] == 1 and shape[1] > 1 and shape[2] > 1
            return _positions(maps, shape[1]) if positions else maps.squeeze(4)
        return maps.view(*maps.shape[:3], *(1 for _ in shape[4:]), *maps.shape[3:])

    def _enlarged(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Maps for kernels larger than any that is decoded."""
        if self.config.window == "corner":
            return tile(maps, (*maps.shape[:3], height, width))
        larger = F.interpolate(maps.flatten(0, 1), (height, width), mode="bilinear", align_corners=False)
        return larger.view(*maps.shape[:3], height, width)


def _chunks(wanted: list[Wanted], size: int) -> Iterator[list[Wanted]]:
    size = max(1, size)
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def _spread(vectors: Tensor, shape: Sequence[int]) -> Tensor:
    """Vectors `(n, C)` as blocks of the wanted rank: along its one long axis, or repeated, where there are several."""
    if len(shape) == 1:
        return vectors[:, : shape[0]]
    count = math.prod(shape)
    vectors = vectors[:, :count]
    long = [axis for axis, size in enumerate(shape) if size > 1]
    if len(long) == 1:
        return vectors.view(len(vectors), *(vectors.shape[1] if axis == long[0] else 1 for axis in range(len(shape))))
    return tile(vectors, (len(vectors), count)).reshape(len(vectors), *shape)


def _positions(maps: Tensor, count: int) -> Tensor:
    """Encodings of positions on a grid, `(n, 1, count, columns)`; those beyond a square, of tokens, are random.

    Random as in the published tools, but the same every time.
    """
    grids = maps.flatten(3).transpose(2, 3)  # (n, 1, side * side, columns)
    beyond = count - grids.shape[2]
    if not beyond:
        return grids
    noise = torch.randn(beyond, grids.shape[3], generator=torch.Generator().manual_seed(0)) * 0.02
    return torch.cat([noise.to(grids).expand(len(grids), 1, -1, -1), grids], dim=2)
