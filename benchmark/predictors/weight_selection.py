"""Weight selection (Xu, Chen, Zhang, Liu and Liu, "Initializing Models with Larger Ones", ICLR 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.predictors.initial_values import initial_values, roles_of
from benchmark.training import read_state
from deepnets.graph import Graph
from deepnets.support import ConfigError

__all__ = ["WeightSelection", "select_elements"]


def select_elements(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return evenly spaced elements of a tensor along every axis: the *uniform element selection* of the paper.

    Parameters
    ----------
    tensor
        Tensor with as many axes as `shape`, none of which is shorter.
    shape
        Shape of the result.

    Examples
    --------
    >>> select_elements(torch.arange(8), (4,)).tolist(), select_elements(torch.arange(5), (3,)).tolist()
    ([0, 2, 4, 6], [0, 2, 4])
    """
    for axis, size in enumerate(shape):
        length = tensor.shape[axis]
        if size and length % size == 0:
            indices = torch.arange(size) * (length // size)
        else:
            indices = torch.linspace(0, length - 1, size).round().long()
        tensor = tensor.index_select(axis, indices.to(tensor.device))
    return tensor


class WeightSelection:
    """A predictor: every parameter is a subset of a parameter of a larger trained network.

    A parameter with the name of one of the larger network is selected from it (the first N of its layers, if it is
    deeper).  Other parameters are selected from the first unused one with the same number of axes and kernel size that
    is large enough, in the order of the two networks; those of the paper are of one family, and their names agree.
    Classification layers are selected if the numbers of classes are equal; the paper trains new ones.  Parameters for
    which there is nothing to select keep their initial values.

    Parameters
    ----------
    trained
        Parameters of the larger network by name.

    Examples
    --------
    >>> from deepnets import trace
    >>> large, small = nn.Linear(4, 8), nn.Linear(2, 8)
    >>> found = WeightSelection(large.state_dict())(small, trace(small, torch.zeros(1, 2)))
    >>> torch.equal(found["weight"], large.weight[:, ::2])
    True
    """

    def __init__(self, trained: Mapping[str, Tensor]) -> None:
        self._trained = {name: tensor for name, tensor in trained.items() if tensor.is_floating_point()}

    @classmethod
    def from_file(cls, path: Path | str) -> WeightSelection:
        """Read the larger network from a file of tensors: safetensors, or `torch.save`, without executing code.

        Raises
        ------
        ConfigError
            If there is no such file.
        CheckpointError, FormatError
            If the file is damaged or has another format.
        """
        if not Path(path).is_file():
            raise ConfigError(
                f"select: no such file: {str(path)!r}; expected select:FILE, the state of a trained model"
            )
        return cls(read_state(path))

    @torch.no_grad()
    def __call__(self, model: nn.Module, graph: Graph) -> dict[str, Tensor]:
        """Return the parameters of a network by name."""
        values, roles = initial_values(model), roles_of(graph)
        chosen = {name: name for name, value in values.items() if self._fits(name, value, roles.get(name, ""))}
        spare: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name, tensor in self._trained.items():
            if name not in chosen and not name.endswith(("running_mean", "running_var")):
                spare[_component(tensor)].append(name)
        for name, value in values.items():
            role = roles.get(name, "")
            if name in chosen or role.startswith("class_"):
                continue
            candidates = spare[_component(value)]
            match = next((other for other in candidates if self._fits(other, value, role)), None)
            if match is not None:
                candidates.remove(match)
                chosen[name] = match
        for name, other in chosen.items():
            value = values[name]
            values[name] = select_elements(self._trained[other].to(value), tuple(value.shape)).clone()
        return values

    def _fits(self, name: str, value: Tensor, role: str) -> bool:
        tensor = self._trained.get(name)
        if tensor is None or tensor.ndim != value.ndim or any(a < b for a, b in zip(tensor.shape, value.shape)):
            return False
        return not role.startswith("class_") or tensor.shape[0] == value.shape[0]


def _component(tensor: Tensor) -> tuple[int, ...]:
    """Return what parameters of one kind have in common: the number of axes, and the kernel size."""
    return (tensor.ndim, *tensor.shape[2:])
