"""The log of a training: a CSV file, a progress bar, and loggers such as TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deepnets.support import CheckpointError, ProgressBar, read_whole, replace_file
from ghn_model.tasks import Classification, Task
from ghn_model.training.loggers import LoggedRun, Logger, open_loggers

__all__ = ["COLUMNS", "Log", "Stopwatch", "gpu_utilization", "log_columns", "memory_in_use", "truncate_csv"]

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
"""Columns of `log.csv` for classification; `log_columns` has those of other tasks.

`step` is the number of meta-batches, `seconds` the duration of the training, `progress` the fraction of it that is
done, and `epoch` the number of passes through the images.  `loss`, `top1` (percent) and `gradient_norm` (before
clipping) are means over the steps since the previous row.  `networks_per_s` and `images_per_s` (images times networks)
are rates over the same steps.  `data_wait` and `hypernetwork_share` are fractions of the time: waiting for data, and in
the forward and backward pass of the hypernetwork.  `gpu_busy` is the utilization that the GPU driver reports.
`memory_mb` is the peak memory of the GPU or, on a CPU, of the process.  `skipped` is the number of skipped
meta-batches since the start.
"""


_LONGEST_LINE = 10_000


def log_columns(task: Task) -> tuple[str, ...]:
    """Return the columns of `log.csv` for a task: its first metric, and its examples per second.

    Parameters
    ----------
    task : Task
        The task.

    Examples
    --------
    >>> from ghn_model.tasks import NextToken
    >>> log_columns(NextToken())[5:10]
    ('loss', 'perplexity', 'gradient_norm', 'networks_per_s', 'sequences_per_s')
    >>> log_columns(Classification()) == COLUMNS
    True
    """
    names = {"top1": task.metric.name, "images_per_s": f"{task.examples}_per_s"}
    return tuple(names.get(name, name) for name in COLUMNS)


class Log:
    """Writes rows of metrics to `log.csv` and shows the main ones in a progress bar.

    Parameters
    ----------
    folder : Path
        Folder of `log.csv`.
    step : int, default 0
        Step at which the training resumes.  Rows of later steps are removed.
    total, initial : float
        Length and initial position of the progress bar.
    unit : str
        Unit of the progress bar.
    quiet : bool, default False
        Whether to show no progress bar.
    task : Task, optional
        Task whose metric is logged; classification by default.
    loggers : sequence of str or callable, optional
        As in `open_loggers`.
    settings : mapping, optional
        Description of the training for the loggers.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = Log(Path(folder), quiet=True)
    ...     log.write({"step": 1, "loss": 2.3, "top1": 10.0, "networks_per_s": 4.0})
    ...     log.close()
    ...     len((Path(folder) / "log.csv").read_text().splitlines())
    2
    """

    def __init__(
        self,
        folder: Path,
        *,
        step: int = 0,
        total: float = 1,
        initial: float = 0,
        unit: str = "",
        quiet: bool = False,
        task: Task | None = None,
        loggers: Sequence[str | Callable[[LoggedRun], Logger]] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        task = task or Classification()
        self._columns, self._metric = log_columns(task), task.metric
        path = folder / "log.csv"
        truncate_csv(path, self._columns, step)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, self._columns)
        try:
            self._loggers = open_loggers(loggers, LoggedRun(folder, step, settings or {}))
        except BaseException:
            self._file.close()
            raise
        layout = "{desc}{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f}{unit} [{elapsed}<{remaining}{postfix}]"
        self._bar = ProgressBar(
            total=total, initial=min(initial, total), unit=unit, show=not quiet, bar_format=layout, dynamic_ncols=True
        )
        self._last_refresh = time.monotonic()

    def advance(self, position: float) -> None:
        """Move the progress bar to a position, at most twice per second."""
        now = time.monotonic()
        if now - self._last_refresh > 0.5 or position >= self._bar.total:
            self._last_refresh = now
            self._bar.update(max(0.0, min(position, self._bar.total) - self._bar.n))

    def write(self, row: Mapping[str, float | None]) -> None:
        """Append a row with values for some of the columns."""
        self._writer.writerow({name: _text(row.get(name)) for name in self._columns})
        self._file.flush()
        values = {name: value for name, value in row.items() if value is not None and name != "step"}
        for logger in self._loggers:
            logger.log(int(row["step"] or 0), values)
        metric = self._metric
        shown = {"loss": f"{row['loss']:.3f}", metric.name: f"{row[metric.name]:.1f}{metric.unit}"}
        shown["nets/s"] = f"{row['networks_per_s']:.1f}"
        if row.get("skipped"):
            shown["skipped"] = f"{row['skipped']:.0f}"
        self._bar.set_postfix(shown)

    def close(self) -> None:
        """Close the files and the progress bar."""
        with contextlib.ExitStack() as stack:  # every logger is closed, also if another one fails
            for logger in self._loggers:
                stack.callback(logger.close)
            self._file.close()
            self._bar.close()


def truncate_csv(path: Path, columns: Sequence[str], step: int) -> None:
    """Remove the rows of a CSV file that belong to later steps than `step`, atomically; create it if it is missing.

    A training that resumes writes these rows again.  Rows that are damaged, or that a killed process has not finished
    writing, are removed as well.

    Parameters
    ----------
    path : Path
        The file; its first column is `step`.
    columns : sequence of str
        Columns to keep.
    step : int
        Last step whose row is kept; 0 keeps none.

    Raises
    ------
    CheckpointError
        If there is something else than a file in its place.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "log.csv"
    ...     _ = path.write_text("step,loss\\n1,2.3\\n2,2.2\\n")
    ...     truncate_csv(path, ("step", "loss"), 1)
    ...     path.read_text().split()
    ['step,loss', '1,2.3']
    """
    rows = _complete_rows(path, step) if step and path.exists() else []
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(path, content.getvalue())


def _complete_rows(path: Path, step: int) -> list[dict[str, str]]:
    """Return the rows of a log up to a step, without those that are damaged or incomplete.

    Steps increase.  Nothing of the log is needed to resume the training, so that damage to it is not an error.
    """
    try:
        lines = read_whole(path).decode("utf-8", "replace").splitlines(keepends=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    whole = (line for line in lines if line.endswith("\n") and 1 < len(line) < _LONGEST_LINE and "\0" not in line)
    rows: list[dict[str, str]] = []
    last = 0
    with contextlib.suppress(csv.Error):
        reader = csv.reader(whole)
        header = next(reader, [])
        place = header.index("step") if "step" in header else len(header)
        for fields in reader:
            number = fields[place] if len(fields) == len(header) > place else ""
            if number.isdecimal() and len(number) < 16 and last < int(number) <= step:
                last = int(number)
                rows.append(dict(zip(header, fields)))
    return rows


class Stopwatch:
    """Rates and fractions of time over the steps since the last row of the log.

    Examples
    --------
    >>> stopwatch = Stopwatch()
    >>> stopwatch.start_step()
    >>> stopwatch.data_ready()
    >>> stopwatch.end_step(hyper_seconds=0.0, networks=2, images=16)
    >>> stopwatch.metrics()["networks_per_s"] > 0
    True
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start a new period."""
        self._since = time.perf_counter()
        self._waits = self._hyper = 0.0
        self._networks = self._images = 0

    def start_step(self) -> None:
        """Note the start of a step."""
        self._start = time.perf_counter()

    def data_ready(self) -> None:
        """Note that the data of the step are loaded."""
        self._waits += time.perf_counter() - self._start

    def end_step(self, hyper_seconds: float | None, networks: int, images: int) -> None:
        """Count a step; `hyper_seconds` is the time of the hypernetwork, None for a skipped step."""
        if hyper_seconds is not None:
            self._hyper += hyper_seconds
            self._networks += networks
            self._images += networks * images

    def metrics(self, examples: str = "images") -> dict[str, float]:
        """Return `networks_per_s`, `images_per_s`, `data_wait` and `hypernetwork_share` of this period.

        Parameters
        ----------
        examples : str, default "images"
            What the batches consist of, for the name of their rate.
        """
        seconds = max(time.perf_counter() - self._since, 1e-9)
        return {
            "networks_per_s": self._networks / seconds,
            f"{examples}_per_s": self._images / seconds,
            "data_wait": self._waits / seconds,
            "hypernetwork_share": self._hyper / seconds,
        }


def memory_in_use(device: torch.device) -> float:
    """Return the peak memory of a GPU, or of this process for a CPU, in megabytes.

    Examples
    --------
    >>> memory_in_use(torch.device("cpu")) > 1
    True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def gpu_utilization(device: torch.device) -> float | None:
    """Return the current utilization of a GPU as a fraction, or None if it is unknown.

    Examples
    --------
    >>> gpu_utilization(torch.device("cpu"))
    """
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.utilization(device) / 100
    except Exception:  # the Python binding (nvidia-ml-py) or the driver's library is missing, or the GPU has no counter
        return None


def _text(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"
