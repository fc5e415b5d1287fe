"""`CompactModel`: the outputs of a network in which channels that are equal are computed once.

Hypernetworks predict tensors of limited size, such as 64 x 64 channels, and repeat them to the size of the layer.  In a
network of 300 channels, most channels are then copies of others.  Instead of a tensor `(B, C, ...)`, the layers of a
network pass on its distinct channels and, for each of the C channels, which of them it is.  A convolution needs the
weights of its distinct outputs, and adds the weights of equal inputs.  This is exact except for rounding errors, and
needs no knowledge of how the parameters were made: equal rows of weights are found by comparing them.

`Channels` takes the place of the tensor: PyTorch calls its `__torch_function__` for the functions of
`torch.nn.functional`.  Functions, methods and operators that are not listed here get the whole tensor, and those that
change a tensor in place are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

__all__ = ["CompactModel"]


class CompactModel:
    """A network without gradients that computes equal channels once.

    Parameters
    ----------
    function
        From images to outputs: a module, or a function that uses one.  Its parameters must not change, and must be the
        same tensors in every call.
    model
        The module that a function uses, if any: its convolutions find equal outputs of any inputs.  It gets hooks.

    Examples
    --------
    >>> from deepnets import GENOTYPES, Network, NetworkConfig
    >>> _ = torch.manual_seed(0)
    >>> network = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=32))
    >>> images = torch.randn(4, 3, 32, 32)
    >>> torch.allclose(CompactModel(network)(images), network(images), atol=1e-5)
    True
    """

    def __init__(self, function: Callable[[Any], Any], model: nn.Module | None = None) -> None:
        self.function = function
        self._memory: _Memory = {}
        for module in model.modules() if model else ():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(self._wrapped)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Any:
        """Compute the outputs for images.

        Parameters
        ----------
        images
            `(B, C, H, W)`.

        Returns
        -------
        What `function` returns.
        """
        return _whole(self.function(Channels(images, _Index.identity(images.shape[1]), self._memory)))

    def _wrapped(self, module: nn.Module, inputs: Any) -> Any:
        (x,) = inputs
        return x if isinstance(x, Channels) else Channels(x, _Index.identity(x.shape[1]), self._memory)


class _Index(NamedTuple):
    """Which of the distinct channels each channel is: `(C,) int64`, and the number of distinct ones."""

    positions: npt.NDArray[np.int64]
    distinct: int

    @classmethod
    def identity(cls, channels: int) -> _Index:
        return cls(np.arange(channels), channels)

    @property
    def is_identity(self) -> bool:
        return self.distinct == len(self.positions) and bool((self.positions == np.arange(self.distinct)).all())

    def key(self) -> Hashable:
        return self.positions.tobytes()


_Memory = dict[Hashable, Any]
"""What depends on weights and not on images, from one call to the next."""


class Channels:
    """A tensor `(B, C, ...)` without gradients, some of whose channels are equal.

    Parameters
    ----------
    values
        `(B, D, ...)`, the distinct channels.
    index
        Which of them each of the C channels is.
    memory
        Results that depend on weights and indices alone.
    """

    def __init__(self, values: Tensor, index: _Index, memory: _Memory) -> None:
        self.values, self.index, self.memory = values, index, memory

    @property
    def shape(self) -> torch.Size:
        """Shape of the whole tensor."""
        return torch.Size((self.values.shape[0], len(self.index.positions), *self.values.shape[2:]))

    def whole(self) -> Tensor:
        """The whole tensor, `(B, C, ...)`."""
        return self.values if self.index.is_identity else _taken(self.values, self.index.positions)

    def with_values(self, values: Tensor) -> Channels:
        """Other values of the same channels."""
        return Channels(values, self.index, self.memory)

    def remembered(self, kind: str, keys: Sequence[Any], make: Callable[[], Any]) -> Any:
        """The result of `make`, which is called once for tensors and indices.

        The tensors are kept, so that no other tensor can get their addresses.
        """
        key = (kind, *(each.key() if isinstance(each, _Index) else _address(each) for each in keys))
        if key not in self.memory:
            self.memory[key] = make(), keys
        return self.memory[key][0]

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply a function of PyTorch to arguments among which is an instance."""
        kwargs = kwargs or {}
        if args and isinstance(args[0], Channels):
            _check_not_in_place(function.__name__)
            if function in _ELEMENTWISE:
                return args[0].with_values(function(args[0].values, *args[1:], **kwargs))
        if function in _IMPLEMENTED:
            result = _IMPLEMENTED[function](*args, **kwargs)
            if result is not None:
                return result
        return function(*_whole(args), **_whole(kwargs))

    def __getattr__(self, name: str) -> Any:
        """Attributes of tensors are those of the whole tensor."""
        _check_not_in_place(name)
        if name in ("device", "dtype", "is_cuda", "ndim", "dim", "requires_grad", "is_floating_point"):
            return getattr(self.values, name)
        return getattr(self.whole(), name)

    def size(self, axis: int | None = None) -> Any:
        """As `torch.Tensor.size`."""
        return self.shape if axis is None else self.shape[axis]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: Any) -> Any:
        """Select pixels, or add axes after the second one."""
        if isinstance(key, tuple) and key[:2] == (slice(None), slice(None)):
            return self.with_values(self.values[key])
        return self.whole()[key]

    def __add__(self, other: Any) -> Any:
        result = _combined(self, other, torch.add)
        return self.whole() + _whole(other) if result is None else result

    def __mul__(self, other: Any) -> Any:
        result = _combined(self, other, torch.mul)
        return self.whole() * _whole(other) if result is None else result

    def mean(self, dim: Any = None, keepdim: bool = False) -> Any:
        """As `torch.Tensor.mean`."""
        axes = (dim,) if isinstance(dim, int) else dim
        if axes and all(axis >= 2 for axis in axes):
            return self.with_values(self.values.mean(dim=axes, keepdim=keepdim))
        return self.whole().mean() if dim is None else self.whole().mean(dim=dim, keepdim=keepdim)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        """As `torch.Tensor.flatten`; channels of one pixel stay distinct."""
        if (start_dim, end_dim) == (1, -1) and self.values.shape[2:].numel() == 1:
            return self.with_values(self.values.flatten(1))
        return self.whole().flatten(start_dim, end_dim)


def _operator(name: str) -> Callable[..., Any]:
    """An operator of the whole tensor; Python does not look for operators in `__getattr__`."""

    def apply(self: Channels, *others: Any) -> Any:
        return getattr(self.whole(), name)(*_whole(others))

    return apply


for _name in (
    *("__radd__", "__sub__", "__rsub__", "__rmul__", "__truediv__", "__rtruediv__", "__pow__", "__matmul__", "__neg__"),
    *("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__abs__", "__bool__", "__float__", "__int__"),
):
    setattr(Channels, _name, _operator(_name))


def _whole(value: Any) -> Any:
    """A value, which can be nested, in which tensors take the places of `Channels`."""
    return tree_map_only(Channels, Channels.whole, value)


def _check_not_in_place(name: str) -> None:
    """Refuse `relu_` and the like: a tensor that is put together from its channels would be changed, and lost."""
    if name.endswith("_") and not name.endswith("__"):
        raise TypeError(f"{name}: cannot change a tensor in place whose equal channels are computed once")


def _taken(tensor: Tensor, positions: npt.NDArray[np.int64], axis: int = 1) -> Tensor:
    """Slices of a tensor; the tensor itself if these are all of its slices in order."""
    if len(positions) == tensor.shape[axis] and (positions == np.arange(len(positions))).all():
        return tensor
    indices = torch.from_numpy(positions).to(tensor.device)
    if axis == 1 and tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):  # remain so
        return tensor.permute(0, 2, 3, 1).index_select(3, indices).permute(0, 3, 1, 2)
    return tensor.index_select(axis, indices)


def _numbered(*tensors: Tensor | None) -> npt.NDArray[np.int64]:
    """For each row of tensors `(C, ...)`, a number that it shares with equal rows."""
    numbers: dict[bytes, int] = {}
    arrays = [tensor.detach().cpu().contiguous().numpy() for tensor in tensors if tensor is not None]
    rows = (b"".join(array[row].tobytes() for array in arrays) for row in range(len(arrays[0])))
    return np.array([numbers.setdefault(row, len(numbers)) for row in rows], np.int64)


def _grouped(*numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], _Index]:
    """The first channel of each combination of numbers `(C,)`, and which combination each channel has."""
    _, first, inverse = np.unique(np.stack(numbers), axis=1, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")  # in the order of channels, so that nothing moves if nothing is equal
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], _Index(rank[inverse.reshape(-1)], len(order))


def _address(tensor: Tensor | None) -> Hashable:
    return None if tensor is None else (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())


def _dense(x: Any, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None, _Index]:
    """The weight `(D_out, D_in, ...)` from distinct inputs to distinct outputs, its bias, and the outputs' index."""

    def make() -> tuple[Tensor, Tensor | None, _Index]:
        first, index = _grouped(_numbered(weight, bias))
        rows = _taken(weight, first, 0)
        if not x.index.is_identity:
            total = rows.new_zeros(len(first), x.index.distinct, *weight.shape[2:])
            rows = total.index_add_(1, torch.from_numpy(x.index.positions).to(rows.device), rows)
        return rows, None if bias is None else _taken(bias, first, 0), index

    result: tuple[Tensor, Tensor | None, _Index] = x.remembered("dense", (weight, bias, x.index), make)
    return result


def _per_channel(x: Channels, *rows: Tensor | None) -> tuple[Channels, npt.NDArray[np.int64]]:
    """`x` with a channel for each combination of channel and parameters `(C, ...)`, and the first channel of each."""

    def make() -> tuple[npt.NDArray[np.int64], _Index]:
        numbers = [_numbered(*rows)] if any(each is not None for each in rows) else []
        return _grouped(x.index.positions, *numbers)

    first, index = x.remembered("channel", (*rows, x.index), make)
    return Channels(_taken(x.values, x.index.positions[first]), index, x.memory), first


def _conv2d(
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    if not isinstance(x, Channels):
        return None
    if groups == 1:
        reduced, reduced_bias, index = _dense(x, weight, bias)
        values = F.conv2d(x.values, reduced, reduced_bias, stride, padding, dilation)
        return Channels(values, index, x.memory)
    if not groups == weight.shape[0] == x.shape[1]:
        return None
    x, first = _per_channel(x, weight, bias)
    weight, bias = _taken(weight, first, 0), None if bias is None else _taken(bias, first, 0)
    return x.with_values(F.conv2d(x.values, weight, bias, stride, padding, dilation, len(first)))


def _batch_norm(
    x: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if not isinstance(x, Channels) or running_mean is not None or running_var is not None:
        return None
    x, first = _per_channel(x, weight, bias)
    weight, bias = (None if each is None else _taken(each, first, 0).contiguous() for each in (weight, bias))
    return x.with_values(F.batch_norm(x.values, None, None, weight, bias, training, momentum, eps))


def _linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Any:
    if not isinstance(x, Channels) or x.values.dim() != 2:
        return None
    reduced, reduced_bias, index = _dense(x, weight, bias)
    return Channels(F.linear(x.values, reduced, reduced_bias), index, x.memory)


def _dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return None if training else x


def _pad(x: Any, pad: Sequence[int], *options: Any, **named: Any) -> Any:
    if not isinstance(x, Channels) or len(pad) > 2 * (x.values.dim() - 2):  # of the channels, too
        return None
    return x.with_values(F.pad(x.values, pad, *options, **named))


def _cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    if dim != 1 or not all(isinstance(tensor, Channels) for tensor in tensors):
        return None
    starts = np.cumsum([0, *(tensor.index.distinct for tensor in tensors)])
    positions = np.concatenate([tensor.index.positions + start for tensor, start in zip(tensors, starts)])
    values = torch.cat([tensor.values for tensor in tensors], dim=1)
    return Channels(values, _Index(positions, int(starts[-1])), tensors[0].memory)


def _combined(x: Channels, other: Any, function: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """Apply a function to two tensors channel by channel."""
    if isinstance(other, Tensor) and other.dim() == len(x.shape) and other.shape[:2] == (1, x.shape[1]):  # parameters
        x, first = _per_channel(x, other.transpose(0, 1))
        return x.with_values(function(x.values, _taken(other, first)))
    if not isinstance(other, Channels) or x.shape[1] != other.shape[1]:
        return None
    first, index = x.remembered(
        "pair", (x.index, other.index), lambda: _grouped(x.index.positions, other.index.positions)
    )
    left, right = (_taken(each.values, each.index.positions[first]) for each in (x, other))
    return Channels(function(left, right), index, x.memory)


_ELEMENTWISE: frozenset[Callable[..., Any]] = frozenset(
    [
        *(F.relu, F.hardswish, F.gelu, torch.relu),
        *(torch.max_pool2d, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d),
    ]
)
"""Functions that treat channels separately and equally."""

_IMPLEMENTED: dict[Callable[..., Any], Callable[..., Any]] = {
    F.conv2d: _conv2d,
    F.batch_norm: _batch_norm,
    F.linear: _linear,
    F.dropout: _dropout,
    F.pad: _pad,
    torch.cat: _cat,
}
"""Other functions; the result None stands for the function applied to whole tensors."""
