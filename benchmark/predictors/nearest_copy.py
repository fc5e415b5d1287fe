"""Copying from the most similar trained network of a folder: what a method of prediction has to beat."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from benchmark.predictors.initial_values import initial_values
from benchmark.training import read_state, saved_states, state_name
from deepnets.graph import Graph
from deepnets.support import ConfigError

__all__ = ["NearestCopy"]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

Shapes = dict[str, tuple[int, ...]]


class NamedNetworks(Protocol):
    """The part of `benchmark.evaluation.Networks` that names a network."""

    @property
    def name(self) -> str: ...
    def name_of(self, index: int) -> str: ...


class NearestCopy:
    """A predictor: the parameters of the trained network, of those in a folder, whose parameters fit best.

    A tensor is copied to the parameter of the same name and shape, or else to the first parameter of its shape that has
    none, in the order of the two networks.  The nearest network is the one with the largest share of elements that can
    be copied, and among equal ones the one with the most similar number of elements.  A file of the very network is not
    used, because it would not be a prediction.  Parameters without a tensor keep their initial values.

    Parameters
    ----------
    folder
        Folder of saved states, ``SPLIT-INDEX.safetensors``, as `python -m benchmark sgd` writes it.
    networks
        The networks whose parameters are predicted, to recognize the files of these very networks; not needed if the
        folder has none of them.

    Raises
    ------
    ConfigError
        If the folder does not exist or has no saved state.
    CheckpointError, FormatError
        If a file is damaged or has another format.

    Examples
    --------
    >>> NearestCopy("missing")
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: copy: 'missing' is not a folder with saved states (.safetensors or .pt)
    """

    def __init__(self, folder: Path | str, networks: NamedNetworks | None = None) -> None:
        self._folder, self._networks = Path(folder), networks
        self._shapes: dict[Path, Shapes] = {
            path: {name: tuple(tensor.shape) for name, tensor in _parameters(path).items()}
            for path in saved_states(self._folder)
        }
        if not self._shapes:
            raise ConfigError(f"copy: {str(folder)!r} is not a folder with saved states (.safetensors or .pt)")

    @torch.no_grad()
    def __call__(self, model: nn.Module, graph: Graph) -> dict[str, Tensor]:
        """Return the parameters of a network by name.

        Raises
        ------
        ConfigError
            If the folder has no other network.
        """
        values = initial_values(model)
        shapes = {name: tuple(value.shape) for name, value in values.items()}
        own = self._names_of(graph)
        total = sum(value.numel() for value in values.values())
        best: tuple[float, float, Path, dict[str, str]] | None = None
        for path, others in self._shapes.items():
            if path.stem in own:
                continue
            chosen = _match(shapes, others)
            copied = sum(values[name].numel() for name in chosen)
            size = sum(torch.Size(shape).numel() for shape in others.values())
            if best is None or (copied, -abs(size - total)) > best[:2]:
                best = (copied, -abs(size - total), path, chosen)
        if best is None:
            raise ConfigError(f"copy: {self._folder} has no trained network other than {' or '.join(sorted(own))}")
        trained = _parameters(best[2])
        for name, other in best[3].items():
            values[name] = trained[other].to(values[name])
        return values

    def _names_of(self, graph: Graph) -> set[str]:
        """Return the names that files of a network have."""
        if graph.index is None or self._networks is None:
            return set()
        split, name = self._networks.name, self._networks.name_of(graph.index)
        return {state_name(split, graph.index)} | ({name, state_name(split, name)} if name else set())


def _parameters(path: Path) -> Mapping[str, Tensor]:
    state = read_state(path)
    return {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in _STATISTICS}


def _match(wanted: Shapes, given: Shapes) -> dict[str, str]:
    """Return the given name for each wanted name that has a tensor of its shape."""
    chosen = {name: name for name, shape in wanted.items() if given.get(name) == shape}
    spare: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, shape in given.items():
        if name not in chosen:
            spare[shape].append(name)
    for names in spare.values():
        names.sort(key=_in_order)
    for name, shape in wanted.items():
        if name not in chosen and spare[shape]:
            chosen[name] = spare[shape].pop(0)
    return chosen


def _in_order(name: str) -> list[int | str]:
    """Return a key by which the layers of a file, which may be stored in any order, are sorted: 2 before 10."""
    return [f"{int(part):06d}" if part.isdecimal() else part for part in re.split(r"\.", name)]
