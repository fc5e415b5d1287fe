"""`predict_one`: the parameters of one network from a predictor, or the reason why there are none."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.accuracy import check_parameters
from benchmark.evaluation.networks import Networks
from benchmark.evaluation.predictor_objects import HypernetworkPredictor, Predictor, TrainedState, evaluation_mode
from deepnets.graph import Graph
from deepnets.support import DeepNetsError, FormatError, PeakMemory, in_one_line, is_out_of_memory
from ghn_model.class_layers import class_layers
from ghn_model.ghn import GHN
from ghn_model.precision import single_precision

__all__ = ["PREDICTION_PHASES", "MemoryOf", "Prediction", "failure_of", "predict_one", "seeded"]

PREDICTION_PHASES = ("graph", "build", "predict", "store")
"""Phases of a prediction, in this order."""


@dataclass(frozen=True)
class Prediction:
    """What a predictor has returned for a network.

    Attributes
    ----------
    parameters
        Tensors by name.
    trained
        Whether they include the running statistics of a trained network (`TrainedState`).
    failure
        Why there are no parameters; empty if there are.
    seconds
        Time of the predictor.
    memory_mb
        Peak memory, in addition to that before.
    """

    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    trained: bool = False
    failure: str = ""
    seconds: float = float("nan")
    memory_mb: float = float("nan")


def predict_one(
    networks: Networks,
    index: int,
    predictor: Predictor | GHN,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    vocabulary: str = "complete",
    predict_class_layers: bool = True,
    on_phase: Callable[[str], None] | None = None,
) -> Prediction:
    """Predict the parameters of a network.

    The predictor receives a network of its own: what it changes in it, except by returning parameters, has no effect.
    Settings of the process that it changes, such as PyTorch's default dtype, are restored.  The default dtype is
    float32, as in the processes of workers.

    Parameters
    ----------
    networks, index
        The network.
    predictor
        Predicts its parameters.
    device
        Device whose random numbers are seeded, and whose memory is measured.
    seed
        Seed of random numbers of Python, NumPy and PyTorch, together with `networks.key_of(index)`.
    vocabulary
        Vocabulary of the graphs of models of libraries.
    predict_class_layers
        Whether classification layers are predicted; if not, those of a hypernetwork are replaced by the initial values
        of the network.
    on_phase
        Called with each of `PREDICTION_PHASES` before it begins.

    Returns
    -------
    The parameters, or the reason why there are none.

    Raises
    ------
    FormatError, IntegrityError
        If the corpus is damaged.

    Examples
    --------
    >>> from benchmark.evaluation import open_networks
    >>> networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    >>> predict_one(networks, 1, lambda model, graph: {}).failure[:26]
    'parameters: 114 of 114 are'
    """
    device = torch.device(device)
    report = on_phase or (lambda phase: None)
    memory = MemoryOf(device)
    predicting = False
    started = time.perf_counter()
    try:
        with seeded(seed, networks.key_of(index), device), _restored_settings(), single_precision():
            report("graph")
            graph = networks.graph(index, vocabulary)
            report("build")
            # A hypernetwork does not read the values of a network, so none are created.
            is_hypernetwork = isinstance(predictor, GHN | HypernetworkPredictor)
            with torch.device("meta" if is_hypernetwork and predict_class_layers else "cpu"):
                model = networks.build(index).eval()
            shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
            unused = {slot.name for slot in graph.unused}
            report("predict")
            predicting = True
            started = time.perf_counter()
            parameters = _predicted(predictor, model, graph, predict_class_layers or not is_hypernetwork)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - started
            report("store")
            trained = isinstance(parameters, TrainedState)
            if not trained:
                check_parameters(parameters, shapes, unused)
    except FormatError as error:
        if not predicting:  # a file that the predictor reads is its own affair
            raise
        return Prediction(failure=str(error), memory_mb=memory.megabytes)
    except (Exception, SystemExit) as error:  # predictors are arbitrary code
        return Prediction(failure=failure_of(error), memory_mb=memory.megabytes)
    return Prediction(parameters, trained, "", seconds, memory.megabytes)


def _predicted(
    predictor: Predictor | GHN, model: nn.Module, graph: Graph, predict_class_layers: bool
) -> Mapping[str, Tensor]:
    predicted: Mapping[str, Tensor]
    if isinstance(predictor, GHN):
        predicted = predictor.predict(model, graph=graph, predict_class_layers=predict_class_layers)
    else:
        with evaluation_mode(predictor):
            predicted = predictor(model, graph)
    if predict_class_layers or not isinstance(predicted, Mapping):
        return predicted
    left_out = class_layers(graph)
    own = {name: tensor.detach() for name, tensor in model.named_parameters() if name in left_out}
    return {**predicted, **own}


def failure_of(error: BaseException) -> str:
    """Return the reason of a failure, for the row of a network.

    Examples
    --------
    >>> failure_of(ValueError("no"))
    'ValueError: no'
    """
    if is_out_of_memory(error):
        return f"not enough memory: {in_one_line(error)}"
    return str(error) if isinstance(error, DeepNetsError) else in_one_line(error)


class MemoryOf:
    """Peak memory of a GPU, or of this process, since the creation of the object."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            self._process = PeakMemory()

    @property
    def megabytes(self) -> float:
        """Peak memory in addition to that at the beginning."""
        if self._device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self._device) - self._before) / 1e6
        return self._process.megabytes


@contextlib.contextmanager
def seeded(seed: int, key: int, device: torch.device) -> Iterator[None]:
    """Seed the random numbers of Python, NumPy and PyTorch from two numbers, and restore their states at the end."""
    word = int(np.random.Philox(key=[seed, key]).random_raw())
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  predictors may use them
    try:
        random.seed(word)  # noqa: TID251  restored below
        np.random.seed(word % 2**32)  # noqa: NPY002, TID251
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(word)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(word)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def _restored_settings() -> Iterator[None]:
    """Restore settings of the process that predictors change by accident, so that they affect no other network."""
    directory, dtype, device = Path.cwd(), torch.get_default_dtype(), torch.get_default_device()
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    environment, path, recursion = dict(os.environ), list(sys.path), sys.getrecursionlimit()
    mask = os.umask(0)
    os.umask(mask)
    limits = {
        kind: resource.getrlimit(kind)
        for kind in (value for name, value in vars(resource).items() if name.startswith("RLIMIT_"))
    }
    timer = signal.getitimer(signal.ITIMER_REAL)[0]
    is_main = threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        if is_main and not timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, (soft, _) in limits.items():
            with contextlib.suppress(OSError, ValueError):  # the hard limit was lowered
                resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device if device != torch.device("cpu") else None)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        if torch.are_deterministic_algorithms_enabled() != deterministic:  # the function imports much
            torch.use_deterministic_algorithms(deterministic)
        sys.setrecursionlimit(recursion)
        sys.path[:] = path
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)
        os.umask(mask)
        with contextlib.suppress(OSError):
            os.chdir(directory)
        for descriptor in range(3):  # files that are opened must not become standard streams
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
