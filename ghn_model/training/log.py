"""The log of a training: a CSV file, TensorBoard where it is installed, and a bar.

What is measured on the device stays there until a row is written, every so many steps.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

__all__ = ["COLUMNS", "Clock", "Log", "gpu_busy", "memory_in_use"]

COLUMNS = (
    "step",
    "seconds",
    "progress",
    "epoch",
    "learning_rate",
    "loss",
    "top1",
    "gradient_norm",
    "networks_per_s",
    "images_per_s",
    "data_wait",
    "hypernetwork_share",
    "gpu_busy",
    "memory_mb",
    "skipped",
)
"""Columns of the log.

`step` counts meta-batches, `seconds` the time of the training, `progress` its share from 0 to 1, `epoch` passes through
the images.  `loss` and `top1` (percent) are means since the row before, as are rates: networks per second, and images
times networks per second.  `data_wait` and `hypernetwork_share` are shares of the time, of waiting for prepared
networks, and of the hypernetwork's passes; `gpu_busy` is what the driver says.  `memory_mb` is the most that the device
or, on a CPU, the process has used, `skipped` how many meta-batches could not be trained on since the beginning.
"""


class Log:
    """Writes rows of figures, and shows the main ones.

    Parameters
    ----------
    folder
        Where `log.csv` is, and `tensorboard`.
    step
        Rows of later steps than this, which were written before an interruption, are removed.
    total, initial
        Length of the bar, and where it begins.
    unit
        What its numbers count.
    quiet
        Whether there is none.
    """

    def __init__(
        self, folder: Path, *, step: int = 0, total: float = 1, initial: float = 0, unit: str = "", quiet: bool = False
    ) -> None:
        self.path = folder / "log.csv"
        rows = _rows_until(self.path, step)
        temporary = self.path.with_name(".log.csv.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._file = self.path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        layout = "{desc}{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f}{unit} [{elapsed}<{remaining}{postfix}]"
        self._bar = tqdm(
            total=total, initial=min(initial, total), unit=unit, disable=quiet, bar_format=layout, dynamic_ncols=True
        )
        self._shown = time.monotonic()

    def advance(self, position: float) -> None:
        """Move the bar."""
        now = time.monotonic()
        if now - self._shown > 0.5 or position >= self._bar.total:
            self._shown = now
            self._bar.update(max(0.0, min(position, self._bar.total) - self._bar.n))

    def write(self, row: Mapping[str, float | None]) -> None:
        """Add a row with values for some of `COLUMNS`."""
        self._writer.writerow({name: _short(row.get(name)) for name in COLUMNS})
        self._file.flush()
        if self._board is not None:
            for name, value in row.items():
                if value is not None and name != "step":
                    self._board.add_scalar(name, value, row["step"])
        shown = {"loss": f"{row['loss']:.3f}", "top1": f"{row['top1']:.1f}%", "nets/s": f"{row['networks_per_s']:.1f}"}
        if row.get("skipped"):
            shown["skipped"] = f"{row['skipped']:.0f}"
        self._bar.set_postfix(shown)

    def close(self) -> None:
        """Close the files and the bar."""
        self._file.close()
        self._bar.close()
        if self._board is not None:
            self._board.close()


class Clock:
    """Where the time goes."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.since = time.perf_counter()
        self.waits = self.hyper = 0.0
        self.networks = self.images = 0

    def begin(self) -> None:
        """A step begins."""
        self.start = time.perf_counter()

    def waited(self) -> None:
        """Its data are there."""
        self.waits += time.perf_counter() - self.start

    def end(self, hyper_seconds: float | None, networks: int, images: int) -> None:
        """It is done."""
        if hyper_seconds is not None:
            self.hyper += hyper_seconds
            self.networks += networks
            self.images += networks * images

    def figures(self) -> dict[str, float]:
        """Rates and shares since the last restart."""
        seconds = max(time.perf_counter() - self.since, 1e-9)
        return {
            "networks_per_s": self.networks / seconds,
            "images_per_s": self.images / seconds,
            "data_wait": self.waits / seconds,
            "hypernetwork_share": self.hyper / seconds,
        }


def memory_in_use(device: torch.device) -> float:
    """Most memory that was in use on a device, or by this process for a CPU, in megabytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def gpu_busy(device: torch.device) -> float | None:
    """Share of the last moments in which a GPU was busy, by its driver; None where that is not known."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.utilization(device) / 100
    except Exception:  # the driver's library, or its binding (nvidia-ml-py), is missing, or the GPU does not tell
        return None


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    if not step or not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit() and int(row["step"]) <= step]


def _short(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"
