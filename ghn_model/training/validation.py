"""`Validation`: the accuracy of a hypernetwork in training, on networks and images that it is not trained on.

The networks are the first ones of a split, the images the first ones of a part of the image set, the same every time;
so the rows of `curve.csv` show how accuracy grows with the number of networks seen.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deepnets.architecture import run_network
from deepnets.graph import Graph
from ghn_model.ghn import GHN
from ghn_model.training.distributed import Ranks
from ghn_model.training.state import Moment

__all__ = ["CURVE", "Validation"]

CURVE = ("step", "networks", "seconds", "core_seconds", "top1", "standard_error", "failed")
"""Columns of `curve.csv`.

`networks` counts the networks trained on so far, `seconds` the time of the training and `core_seconds` the processor
time of all its processes, validation included.  `top1` (percent) is the mean over the validation networks and
`standard_error` its standard error; `failed` networks, whose outputs are not finite, count as 0.
"""


@dataclass
class Validation:
    """What to validate on, and how often.

    Parameters
    ----------
    graphs
        Networks that are not trained on.
    batches
        Images `(B, 3, image_size, image_size) float32` and labels `(B,) int64`, on the device of the training.  Batch
        norms use the statistics of these batches.
    image_size
        32 or 224: the style of the networks' stems.
    every
        Steps between measurements; the end of the training is always measured.
    """

    graphs: list[Graph]
    batches: list[tuple[Tensor, Tensor]]
    image_size: int = 32
    every: int = 1000

    def due(self, step: int) -> bool:
        """Whether to measure after so many steps."""
        return step % self.every == 0

    def resume(self, folder: Path, step: int, *, write: bool) -> None:
        """Begin `curve.csv` in the folder of a run, or drop its rows of later steps than this."""
        self._path = folder / "curve.csv" if write else None
        if not self._path:
            return
        rows: list[dict[str, str]] = []
        if step and self._path.exists():
            with self._path.open(newline="") as file:
                rows = [
                    row for row in csv.DictReader(file) if (row["step"] or "").isdigit() and int(row["step"]) <= step
                ]
        temporary = self._path.with_name(".curve.csv.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, CURVE, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)

    def measure(self, ghn: GHN, ranks: Ranks, moment: Moment, networks: int) -> float:
        """Mean top-1 (percent) over the networks; the processes share them, and the first one writes the row."""
        mine = range(ranks.rank, len(self.graphs), ranks.world_size)
        found = torch.zeros(2, len(self.graphs), device=ranks.device)  # accuracies, and whether outputs are not finite
        for number in mine:
            found[:, number] = self._accuracy(ghn, self.graphs[number])
        ranks.average([found])
        accuracies, failed = (found * ranks.world_size).cpu()
        top1 = float(accuracies.mean())
        if self._path:
            values = (
                *(moment.step, networks, round(moment.seconds, 1), round(moment.core_seconds, 1)),
                *(round(top1, 4), round((accuracies.var(correction=0) / len(accuracies)).sqrt().item(), 4)),
                round(failed.sum().item()),
            )
            with self._path.open("a", newline="") as file:
                csv.writer(file).writerow(values)
        return top1

    @torch.no_grad()
    def _accuracy(self, ghn: GHN, graph: Graph) -> Tensor:
        parameters = ghn(graph)[0]
        correct = torch.zeros((), device=self.batches[0][0].device)
        failed = torch.zeros((), dtype=torch.bool, device=correct.device)
        for images, labels in self.batches:
            logits = run_network(graph.config, parameters, images, image_size=self.image_size, training=False)
            correct += (logits.argmax(1) == labels).sum()
            failed |= ~logits.isfinite().all()
        share = 100 * correct / sum(len(labels) for _, labels in self.batches)
        return torch.stack([torch.where(failed, 0.0, share), failed.float()])
