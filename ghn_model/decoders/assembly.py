"""The parameters of a decoding plan: decoded, scaled and brought to the ranks of the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.architecture import Repeated, tile
from deepnets.graph import ParameterSlot
from ghn_model.config import GHNConfig
from ghn_model.decoders.low_rank import Factors, LowRankDecoder
from ghn_model.decoders.plan import NORMALIZED, is_embedding
from ghn_model.decoders.tiling import dirac, is_kernel, standardize, write_product
from ghn_model.encoders import axes_of, is_positional
from ghn_model.prepared_batch import DecodingGroup, ParameterRequest, PreparedBatch, Window

__all__ = ["Decoders", "Parameters", "Sink", "block_shapes", "decode_batch", "decode_blocks", "decode_parameters"]

Parameters = dict[str, Tensor]
"""Predicted tensors by the names that `named_parameters()` gives them."""

Sink = Callable[[Sequence[ParameterRequest], Tensor], None]
"""Called with n parameters of one shape and a tensor `(n, ...)`, which holds a block of values for each parameter.  The
block has the rank of the parameter and is to be repeated to its shape (see `tile`)."""


Target = Callable[[ParameterRequest], Tensor]
"""Returns the tensor of the shape of a parameter into which its values are to be written."""


class Decoders(NamedTuple):
    """The decoders of a hypernetwork.

    Attributes
    ----------
    maps
        Decodes kernels, matrices and the weights of classifiers; a `Decoder`.
    vectors
        Decodes vectors; a `VectorDecoder`.  Not used if vectors are rows of maps (`GHNConfig.vector_decoder`).
    class_bias
        Decodes the biases of classifiers from vectors; a `ClassHead`.  Not used in this case, either.
    """

    maps: Any
    vectors: Any
    class_bias: Any


def decode_parameters(
    plan: Sequence[DecodingGroup],
    embeddings: Tensor,
    decoders: Decoders,
    config: GHNConfig,
    sink: Sink,
    target: Target | None = None,
) -> None:
    """Decode all parameters of a plan.

    Parameters
    ----------
    plan
        The parameters, from `plan_decoding`.
    embeddings
        `(N, hidden)`, embeddings of the nodes of all graphs.
    decoders, config
        Parts and configuration of the hypernetwork.
    sink
        Receives every parameter.
    target
        Returns the tensor that a parameter is to be written to.  If it is given, matrices that are products of factors
        are written there instead of being passed to the sink.  For use without gradients.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN
    >>> ghn = GHN("ghn2")
    >>> batch = ghn.prepare(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8)))
    >>> names = []
    >>> decoders = Decoders(ghn.decoder, ghn.decoder_1d, ghn.bias_class)
    >>> def sink(requests, blocks):
    ...     names.extend(request.slot.name for request in requests)
    >>> decode_parameters(batch.decoding_plan, ghn.encode(batch), decoders, ghn.config, sink)
    >>> "classifier.0.weight" in names
    True
    """
    from_map = [group for group in plan if _from_map(group, config)]
    maps = _decode_maps(from_map, embeddings, decoders.maps, config, target is not None)
    for group in plan:
        if group.kind in ("map", "block"):
            values = next(maps)
            if isinstance(values, Factors) and target is not None:
                _write_products(group, values, config, target)
                continue
            if group.kind == "block":
                values = values.reshape(-1, *group.block)
        else:
            x = next(maps) if _from_map(group, config) else embeddings[group.nodes]
            values = _decode(group, x, decoders, config)
        for run, part in group.split(values):
            slot = run[0].slot
            blocks = _with_rank(part, slot, group.kind, config.window)
            if (std := _standard_deviation(group, slot, config)) is not None:
                blocks = standardize(blocks, slot.shape, std)
            if config.dirac and slot.role == "weight" and is_kernel(slot.shape):
                blocks = blocks + dirac(blocks.shape[1:], slot.shape).to(blocks, non_blocking=True)
            sink(run, blocks)


def decode_batch(
    batch: PreparedBatch, embeddings: Tensor, decoders: Decoders, config: GHNConfig, *, separate: bool = False
) -> list[Parameters]:
    """Decode all parameters of a batch; `decode_blocks` leaves out their repetition.

    Parameters
    ----------
    batch
        The graphs and their decoding plan, on the device of the embeddings.
    embeddings, decoders, config
        As in `decode_parameters`.
    separate
        Whether each tensor has memory of its own; such tensors have no gradients.

    Returns
    -------
    One dict per graph, in the order of its nodes.  All tensors are contiguous.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN
    >>> ghn = GHN("ghn2")
    >>> batch = ghn.prepare(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8)))
    >>> decoders = Decoders(ghn.decoder, ghn.decoder_1d, ghn.bias_class)
    >>> (parameters,) = decode_batch(batch, ghn.encode(batch), decoders, ghn.config)
    >>> all(tensor.is_contiguous() for tensor in parameters.values())
    True
    """
    results = _without_values(batch, embeddings)

    def collect(run: Sequence[ParameterRequest], blocks: Tensor) -> None:
        shape = run[0].slot.shape
        if separate:
            tensors: Iterable[Tensor] = (tile(block, shape, out=block.new_empty(shape)) for block in blocks)
        else:  # contiguous, because convolutions and the norms of many tensors are slow otherwise
            tensors = tile(blocks, (len(run), *shape)).contiguous()
        for request, tensor in zip(run, tensors):
            results[request.graph][request.slot.name] = tensor

    def allocate(request: ParameterRequest) -> Tensor:
        tensor = results[request.graph][request.slot.name] = embeddings.new_empty(request.slot.shape)
        return tensor

    target = allocate if separate else None
    decode_parameters(batch.decoding_plan, embeddings, decoders, config, collect, target)
    return [_decoded(result) for result in results]


def decode_blocks(
    batch: PreparedBatch, embeddings: Tensor, decoders: Decoders, config: GHNConfig
) -> list[dict[str, Tensor | Repeated]]:
    """Decode all parameters of a batch, without repeating the decoded blocks.

    Parameters
    ----------
    batch, embeddings, decoders, config
        As in `decode_batch`.

    Returns
    -------
    As `decode_batch`, with `Repeated` in place of tensors that repeat a block.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN
    >>> ghn = GHN("ghn2")
    >>> batch = ghn.prepare(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=128)))
    >>> decoders = Decoders(ghn.decoder, ghn.decoder_1d, ghn.bias_class)
    >>> (parameters,) = decode_blocks(batch, ghn.encode(batch), decoders, ghn.config)
    >>> weight = parameters["cells.0._ops.0.op.1.weight"]
    >>> weight.shape, weight.block.shape
    (torch.Size([128, 1, 3, 3]), torch.Size([64, 1, 3, 3]))
    """
    results = _without_values(batch, embeddings)

    def collect(run: Sequence[ParameterRequest], blocks: Tensor) -> None:
        shape = run[0].slot.shape
        for request, block in zip(run, blocks.contiguous()):
            value = block if block.shape == shape else Repeated(block, shape)
            results[request.graph][request.slot.name] = value

    decode_parameters(batch.decoding_plan, embeddings, decoders, config, collect)
    return [_decoded(result) for result in results]


def _without_values(batch: PreparedBatch, embeddings: Tensor) -> list[dict[str, Any]]:
    """A dict per graph with the names of its parameters in order, and tensors for those that have no elements."""
    results: list[dict[str, Any]] = []
    for graph in batch.graphs:
        slots = [slot for some in graph.parameters for slot in some]
        results.append({slot.name: None if slot.numel else embeddings.new_empty(slot.shape) for slot in slots})
    return results


def _decoded(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if value is not None}


def block_shapes(group: DecodingGroup, config: GHNConfig) -> list[tuple[int, ...]]:
    """The shapes of the decoded blocks of a group, one for each of its runs, without decoding them.

    Parameters
    ----------
    group
        Parameters that are decoded together, from `plan_decoding`.
    config
        Configuration of the hypernetwork.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model.decoders import plan_decoding
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=128))
    >>> config = GHNConfig()
    >>> group = next(group for group in plan_decoding([graph], config) if group.kind == "class_weight")
    >>> group.runs[0][0].slot.shape, block_shapes(group, config)
    ((10, 1024), [(10, 64)])
    """
    decoded: dict[str, tuple[int, ...]] = {
        "map": group.window,
        "block": group.block,
        "class_weight": (config.num_classes, config.max_shape[1]),
        "class_bias": (config.num_classes,),
    }
    values = torch.empty((1, *decoded.get(group.kind, group.window[1:2])), device="meta")
    blocks = (_with_rank(values, run[0].slot, group.kind, config.window) for run in group.runs)
    return [tuple(block.shape[1:]) for block in blocks]


def _from_map(group: DecodingGroup, config: GHNConfig) -> bool:
    """Whether a group is decoded by the decoder of maps in a common call."""
    return group.kind in ("map", "block") or not config.vector_decoder


def _standard_deviation(group: DecodingGroup, slot: ParameterSlot, config: GHNConfig) -> float | None:
    """The standard deviation that a parameter gets from the normalization "std", if that applies to it."""
    applies = config.normalization == "std" and config.weight_norm and group.kind in NORMALIZED
    return config.initializer_range if applies and math.prod(slot.shape) > 1 and not is_embedding(slot) else None


def _write_products(group: DecodingGroup, factors: Factors, config: GHNConfig, target: Target) -> None:
    """Write products of factors to the tensors of matrices."""
    requests = (request for run in group.runs for request in run)
    for request, left, right in zip(requests, *factors):
        out = target(request).detach().flatten(1)
        write_product(left, right, out, _standard_deviation(group, request.slot, config))


def _map_window(group: DecodingGroup) -> Window:
    """The window of a map that a group needs; for vectors both of its rows, or only the first one."""
    if group.kind in ("map", "block"):
        return group.window
    length = group.window[1]
    return (length if group.kind == "weight" else 2 * length), 1, 1, 1


def _decode_maps(
    groups: Sequence[DecodingGroup], embeddings: Tensor, decoder: Any, config: GHNConfig, as_factors: bool
) -> Iterator[Any]:
    """Maps `(n, rows, columns, height, width)` of one group after the other, together if the decoder can do that.

    Those of kernels and matrices are scaled.  If `as_factors` is true, `Factors` take the place of matrices.
    """
    inputs = [embeddings[group.nodes] for group in groups]
    windows = [_map_window(group) for group in groups]
    scales = [group.gains if config.scales_kernels and group.kind in ("map", "block") else None for group in groups]
    if isinstance(decoder, LowRankDecoder):
        for group, window, factors in zip(groups, windows, decoder.decode_factors(inputs, windows, scales)):
            is_matrix = group.kind == "map" and all(math.prod(run[0].slot.shape[2:]) == 1 for run in group.runs)
            yield factors if as_factors and is_matrix else factors.product(window)
        return
    if hasattr(decoder, "decode_windows"):
        maps = decoder.decode_windows(inputs, windows)
    else:
        maps = (decoder(x, *window) for x, window in zip(inputs, windows))
    for values, scale in zip(maps, scales):
        yield values if scale is None else _scale(values, scale)


def _decode(group: DecodingGroup, x: Tensor, decoders: Decoders, config: GHNConfig) -> Tensor:
    """Vectors `(n, C)` or matrices `(n, K, C)` of a group, from embeddings, or from maps that hold the vectors."""
    if group.kind == "class_weight":
        weights: Tensor = decoders.maps.class_weights(x)
        return _scale(weights, group.gains) if config.scales_kernels else weights
    if not config.vector_decoder:
        values = x.flatten(1)[:, -group.window[1] :]
    else:
        values = decoders.vectors(x, 0 if group.kind == "weight" else 1)
    if group.kind == "class_bias":
        values = decoders.class_bias(values)
    if not config.weight_norm or group.kind == "token":
        return values
    return 2 * (0.5 * values).sigmoid() if group.kind == "weight" else (0.2 * values).tanh()


def _scale(values: Tensor, factors: Tensor) -> Tensor:
    """Multiply values `(n, ...)` by factors `(n,)`."""
    return values * factors.to(values.dtype).view(-1, *(1 for _ in values.shape[1:]))


def _with_rank(values: Tensor, slot: ParameterSlot, kind: str, window: str) -> Tensor:
    """Decoded values of n parameters as blocks that `tile` can repeat to the shape of their slots."""
    if kind == "map":
        return _kernels(values, slot, window)
    shape = slot.shape
    if kind == "block":
        return values[:, : shape[0], : shape[1], : shape[2]]
    if kind == "class_weight":
        blocks = values[:, : shape[0], : shape[1]]
        return blocks.reshape(*blocks.shape, *(1 for _ in shape[2:]))
    return _vectors(values, shape)


def _kernels(maps: Tensor, slot: ParameterSlot, window: str) -> Tensor:
    """Maps `(n, rows, columns, height, width)` with the rank of the parameters."""
    shape, rank = slot.shape, len(slot.shape)
    if rank == 2:
        return maps[..., 0, 0]
    height, width = axes_of(slot)[2:]
    if maps.shape[3:] != (height, width):
        maps = _enlarge(maps, height, width, window)
    if rank == 3:
        return _positional_encodings(maps, shape[1]) if is_positional(slot) else maps.squeeze(4)
    return maps.view(*maps.shape[:3], *(1 for _ in shape[4:]), *maps.shape[3:])


def _enlarge(maps: Tensor, height: int, width: int, window: str) -> Tensor:
    """Maps for kernels that are larger than the largest decoded one: repeated (GHN-2) or interpolated (GHN-3)."""
    if window == "corner":
        return tile(maps, (*maps.shape[:3], height, width))
    larger = F.interpolate(maps.flatten(0, 1), (height, width), mode="bilinear", align_corners=False)
    return larger.view(*maps.shape[:3], height, width)


def _vectors(vectors: Tensor, shape: Sequence[int]) -> Tensor:
    """Vectors `(n, C)` with the rank of the parameters: along the only long axis, or repeated over several."""
    if len(shape) == 1:
        return vectors[:, : shape[0]]
    count = math.prod(shape)
    vectors = vectors[:, :count]
    long_axes = [axis for axis, size in enumerate(shape) if size > 1]
    if len(long_axes) == 1:
        sizes = (vectors.shape[1] if axis == long_axes[0] else 1 for axis in range(len(shape)))
        return vectors.view(len(vectors), *sizes)
    return tile(vectors, (len(vectors), count)).reshape(len(vectors), *shape)


def _positional_encodings(maps: Tensor, count: int) -> Tensor:
    """Encodings of a grid of positions as `(n, 1, count, columns)`.

    Positions beyond a square number, such as those of class tokens, get random values, as in the published tools; here
    they are the same in every call.
    """
    grids = maps.flatten(3).transpose(2, 3)  # (n, 1, height * width, columns)
    beyond = count - grids.shape[2]
    if not beyond:
        return grids
    generator = torch.Generator("cpu").manual_seed(0)
    noise = 0.02 * torch.randn(beyond, grids.shape[3], generator=generator, dtype=torch.float32, device="cpu")
    return torch.cat([noise.to(grids, non_blocking=True).expand(len(grids), 1, -1, -1), grids], dim=2)
