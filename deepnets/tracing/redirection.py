"""Tensors that are changed in place: where the current content of their storages is.

Two kinds of storages must not be written to.  Those of the user's network would differ after the run.  Those on the CPU
that receive a tensor on `meta`, for example zeros to which the results of layers are added, would keep numbers that are
out of date.  Their content moves to a new storage, and every tensor that shares the old one is replaced, from then on,
by the same view of the new one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepnets.tracing.tensors import same_view, storage_key, with_numbers

__all__ = ["Redirections"]


class Redirections:
    """The storages whose content has moved during a run.

    Examples
    --------
    >>> redirections = Redirections()
    >>> matrix = torch.zeros(2, 3)
    >>> moved = redirections.move(matrix[0], torch.device("cpu"))
    >>> _ = same_view(moved, matrix[0]).fill_(1)
    >>> redirections.current(matrix), matrix
    (tensor([[1., 1., 1.],
            [0., 0., 0.]]), tensor([[0., 0., 0.],
            [0., 0., 0.]]))
    """

    def __init__(self) -> None:
        self._moved: dict[int, Tensor] = {}
        self._alive: list[Tensor] = []

    def __bool__(self) -> bool:
        return bool(self._moved)

    def move(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Move the content of the storage of a tensor, and return the bytes of the new storage as a tensor.

        Parameters
        ----------
        tensor : Tensor
            A tensor on any device.
        device : torch.device
            The device of the new storage: the CPU, or `meta`, where it has no content.
        """
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if device.type == "meta":
            content = torch.empty(size, dtype=torch.uint8, device=device)
        else:
            old = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage, 0, (size,), (1,))
            content = with_numbers(old).clone()
        self._moved[storage_key(tensor)] = content
        self._alive.append(tensor)
        return content

    def current(self, tensor: Tensor) -> Tensor:
        """Return the tensor, or the same view of the storage that its content has moved to."""
        content = None
        key = storage_key(tensor)
        while key in self._moved:
            content = self._moved[key]
            key = storage_key(content)
        return tensor if content is None else same_view(content, tensor)
