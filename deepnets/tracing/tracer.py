"""`trace`: the computational graph of any `torch.nn.Module`, found by running it once without computing.

recorder    what is written down: nodes, and what tensors are made of
capture     the mode under which the network runs; tensors have shapes, no numbers
rules       what each function of PyTorch means for the graph
finishing   from nodes to a `Graph`: contractions, order, the last layer
model       what the network is given, and how it is put back as it was
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deepnets.graph import Graph
from deepnets.support import ConfigError, TraceError
from deepnets.tracing.capture import Capture
from deepnets.tracing.finishing import VOCABULARIES, finish, main_output
from deepnets.tracing.model import constants, first_guesses, parameter_slots, undisturbed, unwrapped
from deepnets.tracing.parts import settle
from deepnets.tracing.recorder import Node, Recorder
from deepnets.tracing.rules import RULES, pass_on

__all__ = ["VOCABULARIES", "trace"]

log = logging.getLogger(__name__)


def trace(model: nn.Module, input: Any = None, *, vocabulary: str = "complete") -> Graph:
    """The computational graph of a network, with the parameters that every node stands for.

    The network is run once, in evaluation mode, on the `meta` device: nothing is computed, copied or changed in it.  If
    parameters are left over (auxiliary heads), it is run in training mode, too.  Should its control flow depend on
    data, it is run with real numbers.

    Parameters
    ----------
    model
        Any module; wrappers of `torch.compile` and data-parallel training are looked through.  It may be on any device,
        `meta` included.
    input
        What it is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.  Only shapes and
        integers matter.  By default the image that it is made for (`image_size`, timm's `default_cfg`, Hugging Face's
        `dummy_inputs`), else one of 224 x 224.
    vocabulary
        "complete": every parameter that data reaches is in exactly one node, if need be of one of the
        `deepnets.architecture.TRACED_NODE_TYPES`.  "published": the graph that the published hypernetworks were
        trained on and evaluated with; what has no word in it is left out, and its parameters are in `Graph.unused`.

    Returns
    -------
    The graph, in the order of execution, the output last.  `graph.unused` lists parameters that no data reaches.

    Raises
    ------
    TraceError
        If the network cannot be run on the input, or if its code cannot be seen (`torch.jit`).
    ConfigError
        If an argument is not what it should be.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    >>> graph = trace(model, torch.zeros(1, 3, 8, 8))
    >>> graph, graph.parameters[1]
    (Graph(5 nodes, 4 edges), (ParameterSlot(name='0.weight', shape=(8, 3, 3, 3), role='weight'),))
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if vocabulary not in VOCABULARIES:
        raise ConfigError(f"vocabulary: expected {' or '.join(VOCABULARIES)}, got {vocabulary!r}")
    slots = parameter_slots(model)
    inner = unwrapped(model)
    if isinstance(inner, torch.jit.ScriptModule):
        raise TraceError(f"{type(inner).__name__}: a scripted module hides its code; trace the module it was made from")
    run = _Tracer(model, inner).run(input, vocabulary)
    return finish(run.nodes, run.output, slots, vocabulary)


class _Run:
    """What one run has found."""

    def __init__(self, nodes: list[Node], output: int, claimed: set[str]) -> None:
        self.nodes = nodes
        self.output = output
        self.claimed = claimed


class _Tracer:
    """Tries inputs and modes until the network runs and its parameters are found."""

    def __init__(self, model: nn.Module, inner: nn.Module) -> None:
        self.model = inner
        self.name = type(inner).__name__
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())

    def run(self, input: Any, vocabulary: str) -> _Run:
        guesses = first_guesses(self.model) if input is None else [input]
        best, used = self._first(guesses, training=False)
        wanted = {name for name, parameter in self.parameters.items()}
        if vocabulary == "complete" and not wanted <= best.claimed:
            try:
                other, _ = self._first([used, *guesses], training=True)
            except TraceError as error:
                log.info("%s cannot be run in training mode: %s", self.name, error)
            else:
                if best.claimed < other.claimed:
                    best = other
        return best

    def _first(self, guesses: list[Any], training: bool) -> tuple[_Run, Any]:
        """The first input that the network runs on."""
        problem: Exception | None = None
        for guess in guesses:
            try:
                return self._attempt(guess, training, real=False), guess
            except TraceError:
                raise
            except Exception as error:
                problem = problem or error
        try:
            return self._attempt(guesses[0], training, real=True), guesses[0]
        except TraceError:
            raise
        except Exception as error:
            problem = error
        given = ", ".join(_described(leaf) for leaf in tree_leaves(guesses[0]))
        raise TraceError(
            f"{self.name} cannot be run on {given}: {type(problem).__name__}: {_first_line(problem)}; give `input`, "
            "an example of what it takes"
        ) from problem

    def _attempt(self, input: Any, training: bool, real: bool) -> _Run:
        recorder = Recorder()
        capture = Capture(recorder, self.parameters, RULES, pass_on, constants(self.model), real)
        with undisturbed(self.model, training), _Cells(self.model, recorder), torch.no_grad():
            fed = capture.feed(input)
            with capture:
                output = _called(self.model, fed)
            return _Run(recorder.nodes, self._output(capture, output), recorder.claimed)

    def _output(self, capture: Capture, output: Any) -> int:
        """The node of the network's output, of all the tensors that it returns."""
        tensors = [leaf for leaf in _leaves(output) if isinstance(leaf, Tensor)]
        values = [capture.value(tensor) for tensor in tensors]
        found = [settle(capture, value) for value in values if value.nodes]
        if not found:
            what = "no tensor" if not tensors else "nothing that depends on its input"
            raise TraceError(f"{self.name} returns {what}")
        return main_output(capture.recorder.nodes, found)


class _Cells:
    """Tells the recorder when a cell begins, in networks that have their cells in a list of that name."""

    def __init__(self, model: nn.Module, recorder: Recorder) -> None:
        cells = getattr(model, "cells", None)
        self._cells = list(cells) if isinstance(cells, nn.ModuleList) else []
        self._recorder = recorder

    def __enter__(self) -> None:
        self._hooks = [
            cell.register_forward_pre_hook(lambda *_, k=k: self._enter(k)) for k, cell in enumerate(self._cells)
        ]

    def _enter(self, k: int) -> None:
        self._recorder.cell = k

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _called(model: nn.Module, input: Any) -> Any:
    if isinstance(input, Mapping):
        return model(**input)
    return model(*input) if isinstance(input, (tuple, list)) else model(input)


def _leaves(output: Any) -> list[Any]:
    """The tensors in what a network returns, also inside objects that PyTorch does not know as containers."""
    leaves = []
    for leaf in tree_leaves(output):
        leaves += tree_leaves(dict(leaf)) if isinstance(leaf, Mapping) else [leaf]
        if not isinstance(leaf, (Tensor, Mapping)) and hasattr(leaf, "__dict__"):
            leaves += tree_leaves(vars(leaf))
    return leaves


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__


def _first_line(error: Exception | None) -> str:
    return str(error).strip().partition("\n")[0][:300]
