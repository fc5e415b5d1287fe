"""`Validation`: the accuracy of a hypernetwork during training, on networks and images that it is not trained on.

The networks and images are the same every time, so the rows of `curve.csv` show how accuracy grows with training.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deepnets.graph import Graph
from deepnets.support import ConfigError, at_least, checked_integer
from ghn_model.training.distributed import Distributed
from ghn_model.training.forward import run_graph
from ghn_model.training.log import truncate_csv
from ghn_model.training.meta_batches import MetaBatch
from ghn_model.training.state import Progress

__all__ = ["CURVE", "Validation"]

CURVE = ("step", "networks", "seconds", "core_seconds", "top1", "standard_error", "failed")
"""Columns of `curve.csv`.

`networks` is the number of training networks seen so far; `seconds` and `core_seconds` are those of `Progress`.  `top1`
(percent) is the mean over the validation networks and `standard_error` its standard error.  `failed` is the number of
networks with outputs that are not finite; images with such outputs are wrong answers, as in the benchmark.
"""


@dataclass(frozen=True)
class Validation:
    """Networks and images to validate on, and how often.

    Parameters
    ----------
    graphs : list of Graph
        Graphs of `deepnets.Network`s or of networks of a family that are not trained on.
    batches : list of (Tensor, Tensor)
        Images `(B, 3, image_size, image_size) float32` and labels `(B,) int64` on the device of the training.  Batch
        normalization uses the statistics of each of these batches.
    image_size : int, default 32
        Image size that the networks' stems are made for.
    every : int, default 1000
        Steps between measurements.  The end of the training is always measured.

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
    >>> accuracies, failed = validation.accuracies(ghn, Distributed("cpu"))
    >>> accuracies.shape, int(failed.sum())
    (torch.Size([1]), 0)
    """

    graphs: list[Graph]
    batches: list[tuple[Tensor, Tensor]]
    image_size: int = 32
    every: int = 1000

    def __post_init__(self) -> None:
        checked_integer("every", self.every, at_least(1))
        for name in ("graphs", "batches"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: expected at least one to validate on")

    def measure(
        self, hypernetwork: nn.Module, folder: Path, distributed: Distributed, progress: Progress, networks: int
    ) -> float:
        """Measure the accuracy; the main process appends a row to `curve.csv`.

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

        Returns
        -------
        float
            Mean top-1 accuracy in percent.
        """
        accuracies, failed = self.accuracies(hypernetwork, distributed)
        top1 = float(accuracies.mean())
        if distributed.is_main:
            row = {
                "step": progress.step,
                "networks": networks,
                "seconds": round(progress.seconds, 1),
                "core_seconds": round(progress.core_seconds, 1),
                "top1": round(top1, 4),
                "standard_error": round((accuracies.var(correction=0) / len(accuracies)).sqrt().item(), 4),
                "failed": int(failed.sum()),
            }
            with (folder / "curve.csv").open("a", newline="") as file:
                csv.DictWriter(file, CURVE).writerow(row)
        return top1

    @torch.no_grad()
    def accuracies(self, hypernetwork: nn.Module, distributed: Distributed) -> tuple[Tensor, Tensor]:
        """Return top-1 accuracies (percent), and whether outputs are not finite, as `(len(graphs),) float64` tensors.

        The hypernetwork is in evaluation mode meanwhile, and in training mode afterwards.
        """
        found = torch.zeros(2, len(self.graphs), dtype=torch.float64, device=distributed.device)
        hypernetwork.eval()
        try:
            for number in range(distributed.rank, len(self.graphs), distributed.world_size):
                found[:, number] = self._accuracy(hypernetwork, self.graphs[number], distributed.device)
        finally:
            hypernetwork.train()
        distributed.average([found])
        accuracies, failed = (found * distributed.world_size).cpu()
        return accuracies, failed.round()

    def _accuracy(self, hypernetwork: nn.Module, graph: Graph, device: torch.device) -> Tensor:
        batch = MetaBatch.of(hypernetwork, [graph]).to(device)
        (parameters,) = hypernetwork(batch.inputs)
        correct = torch.zeros((), device=device)
        failed = torch.zeros((), dtype=torch.bool, device=device)
        for images, labels in self.batches:
            logits = run_graph(graph, parameters, images, image_size=self.image_size, training=False)
            finite = logits.isfinite().all(dim=1)
            correct += (finite & (logits.argmax(1) == labels)).sum()
            failed |= ~finite.all()
        top1 = 100 * correct / sum(len(labels) for _, labels in self.batches)
        return torch.stack([top1, failed.float()])


def start_curve(folder: Path, step: int) -> None:
    """Create `curve.csv`, or remove its rows of steps later than the one at which the training resumes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     start_curve(Path(folder), 0)
    ...     (Path(folder) / "curve.csv").read_text().strip() == ",".join(CURVE)
    True
    """
    truncate_csv(folder / "curve.csv", CURVE, step)
