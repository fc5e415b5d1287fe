"""`Channels`: a tensor of which channels that are equal are stored, and computed, once.

Hypernetworks predict tensors of limited size, such as 64 x 64 channels, and repeat them to the size of the layer.  In a
network of 300 channels, most channels are then copies of others.  Instead of a tensor `(B, C, ...)`, the layers of a
network pass on its distinct channels and, for each of the C channels, which of them it is.  A convolution needs the
weights of its distinct outputs, and adds the weights of equal inputs.  This is exact except for rounding errors.

`channel_functions` has the layers.  Functions, methods and operators that are listed neither there nor here get the
whole tensor.  Functions and methods such as `relu_` that change a tensor in place are refused; `+=` and the like, and
functions with `inplace=True`, are not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.architecture.compact_tensor import CompactTensor, Repeated, whole

__all__ = ["Channels", "Index", "Memory", "per_channel", "taken"]

CACHED = 1024
"""Indices, and pairs of indices, whose relations are kept: the same ones occur in many networks."""


class Index:
    """Which of the distinct channels each channel is; immutable.

    Parameters
    ----------
    positions
        `(C,) int64`, numbers from 0 to D - 1, each of which occurs.

    Examples
    --------
    >>> index = Index(np.array([0, 1, 0]))
    >>> index.distinct, index.is_identity, index == Index(np.array([0, 1, 0]))
    (2, False, True)
    """

    def __init__(self, positions: npt.NDArray[np.int64]) -> None:
        self.positions = positions
        self.distinct = int(positions.max()) + 1
        self.is_identity = self.distinct == len(positions) and _is_range(positions)
        self._bytes = positions.tobytes()
        self._hash = hash(self._bytes)

    def __len__(self) -> int:
        return len(self.positions)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Index) and self._bytes == other._bytes)

    @staticmethod
    @lru_cache(CACHED)
    def identity(channels: int) -> Index:
        """The index of channels that are all distinct."""
        return Index(np.arange(channels))

    @staticmethod
    @lru_cache(CACHED)
    def periodic(channels: int, period: int) -> Index:
        """The index of channels that repeat themselves."""
        return Index(np.arange(channels) % period)

    @lru_cache(CACHED)  # noqa: B019  indices are few and small
    def grouped(self, other: Index) -> tuple[npt.NDArray[np.int64], Index]:
        """The first channel with each combination of distinct channels of two indices, and the combination of each."""
        _, first, inverse = np.unique(
            self.positions * other.distinct + other.positions, return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # in the order of channels, so that nothing moves if nothing is equal
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return first[order], Index(rank[inverse.reshape(-1)])

    @lru_cache(CACHED)  # noqa: B019
    def first(self) -> npt.NDArray[np.int64]:
        """The first channel that is each of the distinct ones, `(D,)`."""
        return np.unique(self.positions, return_index=True)[1]

    @lru_cache(CACHED)  # noqa: B019
    def columns(self, period: int) -> _Columns:
        """How weights whose columns repeat themselves act on channels with this index."""
        counts = np.zeros((min(period, len(self)), self.distinct))
        np.add.at(counts, (np.arange(len(self)) % period, self.positions), 1)
        is_single = (counts > 0).sum(axis=0).max() == 1
        times = torch.from_numpy(counts.sum(axis=0))
        return _Columns(None, counts.argmax(axis=0), times) if is_single else _Columns(counts, None, times)


class _Columns(NamedTuple):
    """How often each column of a weight is the weight of each distinct channel.

    Attributes
    ----------
    counts
        `(columns, D) float64`; None if a single column acts on each distinct channel.
    column
        `(D,)`, this column; else None.
    times
        `(D,) float64`, the number of channels that are each distinct channel.
    """

    counts: npt.NDArray[np.float64] | None
    column: npt.NDArray[np.int64] | None
    times: Tensor


Memory = dict[Hashable, Any]
"""What depends on the values of weights and not on those of images, from one call to the next."""


class Channels(CompactTensor):
    """A tensor `(B, C, ...)` some of whose channels are equal.

    Parameters
    ----------
    values
        `(B, D, ...)`, the distinct channels.
    index
        Which of them each of the C channels is.
    memory
        If it is given, equal rows of weights are found by comparing them, and what is found is kept here; tensors have
        no gradients then, and weights must not change.  Without it, rows are equal only if they are those of a
        `Repeated`.

    Examples
    --------
    >>> x = Channels(torch.ones(1, 2, 8, 8), Index(np.array([0, 1, 0])))
    >>> torch.relu(x).shape, torch.relu(x).values.shape
    (torch.Size([1, 3, 8, 8]), torch.Size([1, 2, 8, 8]))
    """

    def __init__(self, values: Tensor, index: Index, memory: Memory | None = None) -> None:
        self.values, self.index, self.memory = values, index, memory

    @property
    def shape(self) -> torch.Size:
        """Shape of the whole tensor."""
        return torch.Size((self.values.shape[0], len(self.index), *self.values.shape[2:]))

    def whole(self) -> Tensor:
        """The whole tensor, `(B, C, ...)`."""
        return taken(self.values, self.index.positions)

    def with_values(self, values: Tensor) -> Channels:
        """Other values of the same channels."""
        return Channels(values, self.index, self.memory)

    def remembered(self, kind: str, keys: Sequence[Any], make: Callable[[], Any]) -> Any:
        """The result of `make`, which is called once for tensors and indices.

        The tensors are kept, so that no other tensor can get their addresses.
        """
        assert self.memory is not None  # noqa: S101
        key = (kind, *(_address(each) if isinstance(each, Tensor) else each for each in keys))
        if key not in self.memory:
            self.memory[key] = make(), keys
        return self.memory[key][0]

    def rows(self, *parameters: Tensor | Repeated | None) -> Index:
        """The index of the rows of parameters `(C, ...)`: equal if they are in each parameter."""
        given = [each for each in parameters if each is not None]
        if self.memory is not None:
            tensors = [whole(each) for each in given]
            found: Index = self.remembered("rows", tensors, lambda: _numbered(tensors))
            return found
        index, *others = (
            Index.periodic(each.shape[0], len(each.block)) if isinstance(each, Repeated) else Index.identity(len(each))
            for each in given
        )
        for other in others:
            if other != index:
                index = index.grouped(other)[1]
        return index

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply a function of PyTorch to arguments among which is an instance."""
        if args and isinstance(args[0], Channels):
            _check_not_in_place(function.__name__)
            x, options = args[0], kwargs or {}
            if function in _ELEMENTWISE:
                result = x.with_values(function(x.values, *args[1:], **options))
            else:
                result = super().__torch_function__(function, types, args, options)
            return x.become(result) if options.get("inplace") else result
        return super().__torch_function__(function, types, args, kwargs)

    def become(self, result: Any) -> Channels:
        """Take the values of a result, a tensor or `Channels`, under all names of this tensor."""
        if not isinstance(result, Channels):
            result = Channels(result, Index.identity(result.shape[1]), self.memory)
        self.values, self.index = result.values, result.index
        return self

    def __getattr__(self, name: str) -> Any:
        """Attributes of tensors are those of the whole tensor."""
        _check_not_in_place(name)
        if name in ("device", "dtype", "is_cuda", "ndim", "dim", "requires_grad", "is_floating_point"):
            return getattr(self.values, name)
        return getattr(self.whole(), name)

    def size(self, dim: int | None = None) -> Any:
        """As `torch.Tensor.size`."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: Any) -> Any:
        """Select pixels, or add axes after the second one."""
        if isinstance(key, tuple) and key[:2] == (slice(None), slice(None)):
            return self.with_values(self.values[key])
        return self.whole()[key]

    def __add__(self, other: Any) -> Any:
        result = _combined(self, other, torch.add)
        return self.whole() + whole(other) if result is None else result

    def __mul__(self, other: Any) -> Any:
        result = _combined(self, other, torch.mul)
        return self.whole() * whole(other) if result is None else result

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


def _in_place(name: str) -> Callable[..., Any]:
    """An operator such as `+=`, which changes the tensor under all of its names, as that of a tensor does."""

    def apply(self: Channels, other: Any) -> Channels:
        return self.become(getattr(self, name)(other))

    return apply


for _name in ("add", "sub", "mul", "truediv"):
    setattr(Channels, f"__i{_name}__", _in_place(f"__{_name}__"))


def _operator(name: str) -> Callable[..., Any]:
    """An operator of the whole tensor; Python does not look for operators in `__getattr__`."""

    def apply(self: Channels, *others: Any) -> Any:
        return getattr(self.whole(), name)(*whole(others))

    return apply


for _name in (
    *("__radd__", "__sub__", "__rsub__", "__rmul__", "__truediv__", "__rtruediv__", "__pow__", "__matmul__", "__neg__"),
    *("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__abs__", "__bool__", "__float__", "__int__"),
):
    setattr(Channels, _name, _operator(_name))


def _check_not_in_place(name: str) -> None:
    """Refuse `relu_` and the like: a tensor that is put together from its channels would be changed, and lost."""
    if name.endswith("_") and not name.endswith("__"):
        raise TypeError(f"{name}: cannot change a tensor in place whose equal channels are computed once")


def _is_range(numbers: npt.NDArray[np.int64]) -> bool:
    return len(numbers) == numbers[-1] + 1 and bool((numbers == np.arange(len(numbers))).all())


def taken(tensor: Tensor, positions: npt.NDArray[np.int64], axis: int = 1) -> Tensor:
    """Slices of a tensor, without a copy if they are all of its slices, or the first ones, in order."""
    if _is_range(positions):
        return tensor if len(positions) == tensor.shape[axis] else tensor.narrow(axis, 0, len(positions))
    indices = torch.from_numpy(positions).to(tensor.device)
    if axis == 1 and tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):  # remain so
        return tensor.permute(0, 2, 3, 1).index_select(3, indices).permute(0, 3, 1, 2)
    return tensor.index_select(axis, indices)


def per_channel(x: Channels, *parameters: Any) -> tuple[Channels, npt.NDArray[np.int64]]:
    """`x` with a channel for each combination of channel and parameters `(C, ...)`, and the first channel of each."""
    if all(each is None for each in parameters):
        return x, x.index.first()
    first, index = x.index.grouped(x.rows(*parameters))
    return Channels(taken(x.values, x.index.positions[first]), index, x.memory), first


def _combined(x: Channels, other: Any, function: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """Apply a function to two tensors channel by channel."""
    if isinstance(other, Tensor) and other.dim() == len(x.shape) and other.shape[:2] == (1, x.shape[1]):  # parameters
        x, first = per_channel(x, other.transpose(0, 1))
        return x.with_values(function(x.values, taken(other, first)))
    if not isinstance(other, Channels) or x.shape[1] != other.shape[1]:
        return None
    if x.index == other.index:
        return x.with_values(function(x.values, other.values))
    first, index = x.index.grouped(other.index)
    left, right = (taken(each.values, each.index.positions[first]) for each in (x, other))
    return Channels(function(left, right), index, x.memory)


def _numbered(tensors: Sequence[Tensor]) -> Index:
    """Which rows of tensors `(C, ...)` are equal."""
    numbers: dict[bytes, int] = {}
    flat = (tensor.detach().cpu().unsqueeze(-1).flatten(1).contiguous() for tensor in tensors)
    arrays = [each.view(torch.uint8).numpy() for each in flat]  # NumPy has no bfloat16
    rows = (b"".join(array[row].tobytes() for array in arrays) for row in range(len(arrays[0])))
    return Index(np.array([numbers.setdefault(row, len(numbers)) for row in rows], np.int64))


def _address(tensor: Tensor) -> Hashable:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


_ELEMENTWISE: frozenset[Callable[..., Any]] = frozenset(
    [
        *(F.relu, F.hardswish, F.gelu, torch.relu, torch.zeros_like),
        *(torch.max_pool2d, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d),
    ]
)
"""Functions that treat channels separately and equally."""
