"""`Validation`: the quality of a hypernetwork during training, on networks and examples that it is not trained on.

The networks and examples are the same every time, so the rows of `curve.csv` show how it grows with training.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepnets.architecture import CompactModel, run_network
from deepnets.families import FamilyGraph
from deepnets.graph import Graph
from deepnets.support import ConfigError, at_least, checked_integer
from ghn_model.tasks import Classification, LogitTask
from ghn_model.training.distributed import Distributed
from ghn_model.training.forward import run_graph
from ghn_model.training.log import truncate_csv
from ghn_model.training.meta_batches import MetaBatch
from ghn_model.training.state import Progress

__all__ = ["CURVE", "Validation"]

CURVE = ("step", "networks", "seconds", "core_seconds", "top1", "standard_error", "failed")
"""Columns of `curve.csv` for classification; other tasks have their first metric in the place of `top1`.

`networks` is the number of training networks seen so far; `seconds` and `core_seconds` are those of `Progress`.  `top1`
(percent) is the mean over the validation networks and `standard_error` its standard error.  `failed` is the number of
networks with outputs that are not finite; examples with such outputs are wrong answers, as in the benchmark.  Networks
for which the metric has no value then, such as perplexity, are left out of the mean.
"""


@dataclass(frozen=True)
class Validation:
    """Networks and images to validate on, and how often.

    Parameters
    ----------
    graphs : list of Graph
        Graphs of `deepnets.Network`s, or of networks of a family, that are not trained on.
    batches : list of (Tensor, Tensor)
        Examples of the task and their targets on the device of the training; for classification images
        `(B, 3, image_size, image_size) float32` and labels `(B,) int64`.  Batch normalization uses the statistics of
        each of these batches.
    image_size : int, default 32
        Image size that the networks' stems are made for.
    every : int, default 1000
        Steps between measurements.  The end of the training is always measured.
    task : LogitTask
        Task of the networks; classification by default.

    Raises
    ------
    ConfigError
        If there are no graphs or no images, or `every` is not positive.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN, GHNConfig
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> validation = Validation([graph], [(torch.randn(4, 3, 32, 32), torch.arange(4))])
    >>> ghn = GHN(GHNConfig(hidden=8, max_shape=(16, 16, 11, 11)))
    >>> values, failed = validation.values(ghn, Distributed("cpu"))
    >>> values.shape, int(failed.sum())
    (torch.Size([1]), 0)
    """

    graphs: list[Graph]
    batches: list[tuple[Tensor, Tensor]]
    image_size: int = 32
    every: int = 1000
    task: LogitTask = field(default_factory=Classification)

    def __post_init__(self) -> None:
        checked_integer("every", self.every, at_least(1))
        for name in ("graphs", "batches"):
            object.__setattr__(self, name, list(getattr(self, name)))  # iterators would be empty the second time
            if not getattr(self, name):
                raise ConfigError(f"{name}: expected at least one to validate on")

    def check(self, hypernetwork: nn.Module, data: Any, device: torch.device) -> None:
        """Check that examples and the first network are for the classes of the training images.

        Parameters
        ----------
        hypernetwork : nn.Module
            Hypernetwork.
        data : Images
            The training images.
        device : torch.device
            Device of the training.

        Raises
        ------
        ConfigError
            If they are not.
        """
        for _, targets in self.batches:
            if (largest := int(self.task.labels(targets).max())) >= data.num_classes:
                raise ConfigError(
                    f"validation: expected labels below {data.num_classes}, the number of classes of {data.name}, got "
                    f"{largest}"
                )
        first = replace(self, graphs=self.graphs[:1], batches=self.batches[:1])
        with torch.no_grad(), _evaluating(hypernetwork):
            first._value(hypernetwork, first.graphs[0], device, data)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of `curve.csv`."""
        return tuple(self.task.metric.name if name == "top1" else name for name in CURVE)

    def measure(
        self,
        hypernetwork: nn.Module,
        folder: Path,
        distributed: Distributed,
        progress: Progress,
        networks: int,
        data: Any = None,
    ) -> float:
        """Measure the first metric of the task; the main process appends a row to `curve.csv`.

        Parameters
        ----------
        hypernetwork : nn.Module
            Hypernetwork.
        folder : Path
            Folder of the run.
        distributed : Distributed
            Processes that share the networks.
        progress : Progress
            How far the training has come.
        networks : int
            Number of training networks seen so far.
        data : Images, optional
            Training images; with them, networks must have as many outputs as there are classes.

        Returns
        -------
        float
            Mean over the networks.
        """
        values, failed = self.values(hypernetwork, distributed, data)
        values = values[values.isfinite()]
        mean = float(values.mean())
        if distributed.is_main:
            row = {
                "step": progress.step,
                "networks": networks,
                "seconds": round(progress.seconds, 1),
                "core_seconds": round(progress.core_seconds, 1),
                self.task.metric.name: round(mean, 4),
                "standard_error": round((values.var(correction=0) / max(1, len(values))).sqrt().item(), 4),
                "failed": int(failed.sum()),
            }
            with (folder / "curve.csv").open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)
        return mean

    @torch.no_grad()
    def values(self, hypernetwork: nn.Module, distributed: Distributed, data: Any = None) -> tuple[Tensor, Tensor]:
        """Return the metric, and whether outputs are not finite, of every network: `(len(graphs),) float64` tensors.

        The hypernetwork is in evaluation mode meanwhile, and in training mode afterwards.
        """
        found = torch.zeros(2, len(self.graphs), dtype=torch.float64, device=distributed.device)
        with _evaluating(hypernetwork):
            for number in range(distributed.rank, len(self.graphs), distributed.world_size):
                found[:, number] = self._value(hypernetwork, self.graphs[number], distributed.device, data)
        distributed.average([found])
        values, failed = (found * distributed.world_size).cpu()
        return values, failed.round()

    def _value(self, hypernetwork: nn.Module, graph: Graph, device: torch.device, data: Any = None) -> Tensor:
        batch = MetaBatch.of(hypernetwork, [graph]).to(device)
        (parameters,) = hypernetwork(batch.inputs)
        network = self._network(graph, parameters, device)
        total = torch.zeros((), device=device)
        failed = torch.zeros((), dtype=torch.int64, device=device)
        for examples, targets in self.batches:
            output = network(self.task.inputs(examples, targets))
            logits, labels = self.task.logits(output, targets, data), self.task.labels(targets)
            finite = logits.isfinite().all(dim=1)
            total += torch.where(finite, self.task.tallies(logits, labels), 0).sum()
            failed += (~finite).sum()
        count, failures = sum(targets.numel() for _, targets in self.batches), int(failed)
        value = self.task.value(total, max(1, count - failures))
        if failures:
            value = self.task.metric.with_failures(float(value), count - failures, failures)
        return torch.stack([torch.as_tensor(value, device=device), (failed > 0).float()])

    def _network(self, graph: Graph, parameters: Mapping[str, Tensor], device: torch.device) -> Callable[[Any], Any]:
        """A function from the inputs of a network to its outputs."""
        run = partial(run_graph, graph, parameters, image_size=self.image_size, training=False)
        if isinstance(graph, FamilyGraph) or device.type != "cpu":
            return run
        compact = CompactModel(
            partial(run_network, graph.config, parameters, image_size=self.image_size, training=False)
        )
        return lambda inputs: compact(*inputs) if isinstance(inputs, tuple) else run(inputs)


@contextlib.contextmanager
def _evaluating(hypernetwork: nn.Module) -> Iterator[None]:
    """Put a hypernetwork into evaluation mode, and into training mode afterwards."""
    hypernetwork.eval()
    try:
        yield
    finally:
        hypernetwork.train()


def is_in_curve(folder: Path, step: int) -> bool:
    """Return whether `curve.csv` has a row of a step.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     start_curve(Path(folder), 0)
    ...     is_in_curve(Path(folder), 1000)
    False
    """
    with (folder / "curve.csv").open(newline="") as file:
        return any(row["step"] == str(step) for row in csv.DictReader(file))


def start_curve(folder: Path, step: int, columns: Sequence[str] = CURVE) -> None:
    """Create `curve.csv`, or remove its rows of steps later than the one at which the training resumes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     start_curve(Path(folder), 0)
    ...     (Path(folder) / "curve.csv").read_text().strip() == ",".join(CURVE)
    True
    """
    truncate_csv(folder / "curve.csv", columns, step)
