"""`Task`: what a network is given, how its output becomes a loss, and which metrics judge it.

A task is one small class.  With the following in `ordinal.py`, every function and option that takes the name of a task
takes `"ordinal:TASK"`:

    import torch.nn.functional as F
    from ghn_model.tasks import Classification

    class Ordinal(Classification):
        name, title = "ordinal", "ordinal regression"

        def loss(self, output, targets, *, label_smoothing=0.0):
            steps = F.mse_loss(output.softmax(1) @ output.new_tensor(range(output.shape[1])), targets.float())
            return super().loss(output, targets, label_smoothing=label_smoothing) + steps

    TASK = Ordinal()

`TASKS.register("ordinal", TASK)` gives it a short name in the current process.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from deepnets.support import ConfigError, Registry
from ghn_model.tasks.metrics import Metric, get_metric

__all__ = ["TASKS", "LogitTask", "Task", "get_logit_task", "get_task", "recorded_name"]

HALF = (torch.float16, torch.bfloat16)


class Task(ABC):
    """What a network is given, how its output becomes a loss, and which metrics judge it.

    Attributes
    ----------
    name : str
        Name in `TASKS`, and value of the option ``--task``.
    title : str
        Name in text.
    examples : str
        What a batch consists of, in the plural: "images", "sequences".
    metrics : tuple of str
        Names of the metrics that judge a network (`ghn_model.tasks.METRICS`).  The first one is that of logs, curves
        and leaderboards.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    examples: ClassVar[str] = "images"
    metrics: ClassVar[tuple[str, ...]]

    @property
    def metric(self) -> Metric:
        """The first metric."""
        return get_metric(self.metrics[0])

    def inputs(self, examples: Any, targets: Any) -> tuple[Any, ...]:
        """Return the positional arguments that a network is called with.

        Parameters
        ----------
        examples, targets
            A batch.
        """
        return (examples,)

    def arranged(self, examples: Any, memory_format: torch.memory_format) -> Any:
        """Return examples in a memory format, if they are images."""
        return examples

    @abstractmethod
    def loss(self, output: Any, targets: Any, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the loss of a batch, `()`, differentiable.

        Parameters
        ----------
        output
            What the network returned.
        targets
            Targets of the batch.
        label_smoothing : float, default 0.0
            Label smoothing, for tasks that have labels.
        """

    def open_data(
        self,
        name: str,
        split: str,
        *,
        root: Path | str | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Any:
        """Open one part of a data set of the task.

        Parameters
        ----------
        name, split : str
            The data set, and the part of it.
        root : Path or str, optional
            Folder of its files.
        device : torch.device or str
            Device of the batches.
        **options
            Options of the data sets of the task.

        Returns
        -------
        object
            With `name`, `split`, `num_classes`, `device`, `len()` and `batches(batch_size, generator=...)`.

        Raises
        ------
        ConfigError
            If the task has no data sets by name.
        """
        raise ConfigError(f"task: {self.name} has no data sets by name")


class LogitTask(Task):
    """A task whose outputs are logits, one row per label.

    Its metrics are means over labels (`Metric.score`), so that networks are evaluated batch by batch.
    """

    def logits(self, output: Any, targets: Tensor, data: Any = None) -> Tensor:
        """Return the logits of every label, ``(N, C)``, from the output of a network.

        Parameters
        ----------
        output
            Logits; an object with the attribute `logits`; or a tuple whose first element are the logits.
        targets : Tensor
            Labels, N in total.
        data : optional
            The data set, whose `num_classes` is expected.

        Raises
        ------
        ConfigError
            If the output does not hold logits for the labels.
        """
        found = getattr(output, "logits", output[0] if isinstance(output, tuple) and output else output)
        shape = tuple(found.shape) if isinstance(found, Tensor) else ()
        classes = shape[-1] if data is None and shape else getattr(data, "num_classes", "C")
        if not isinstance(found, Tensor) or shape != (*targets.shape, classes):
            got = f"shape {shape}" if isinstance(found, Tensor) else type(found).__name__
            where = self.title if data is None else f"the classes of {data.name}"
            raise ConfigError(f"model: expected outputs of shape {(*targets.shape, classes)}, for {where}, got {got}")
        return found.reshape(-1, found.shape[-1])

    def labels(self, targets: Tensor) -> Tensor:
        """Return the labels in targets, ``(N,) int64``."""
        return targets.reshape(-1)

    def loss(self, output: Any, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy, in single precision at least."""
        logits = self.logits(output, targets)
        logits = logits.float() if logits.dtype in HALF else logits
        return torch.nn.functional.cross_entropy(logits, self.labels(targets), label_smoothing=label_smoothing)

    @abstractmethod
    def tallies(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return what the metric of logs and curves averages, for every label, `(N,)`."""

    @abstractmethod
    def value(self, total: Any, count: float) -> Any:
        """Return the metric of logs and curves.

        Parameters
        ----------
        total : float or Tensor
            Sum of `tallies` over labels, a number or `()`.
        count : float
            Number of the labels.

        Returns
        -------
        float or Tensor
            A number, or `()`.
        """


TASKS: Registry[Task] = Registry(
    "task",
    {"classification": "ghn_model.tasks.classification:TASK", "text": "ghn_model.tasks.next_token:TASK"},
)
"""Tasks by name."""


def get_task(task: str | Task | type[Task]) -> Task:
    """Return a task by name.

    Parameters
    ----------
    task : str or Task
        A name in `TASKS`; "module:attribute" of a task, or of a class without parameters; or a task, which is returned.

    Raises
    ------
    ConfigError
        If there is no such task.

    Examples
    --------
    >>> get_task("text").title, get_task("text").metrics
    ('next-token prediction', ('perplexity', 'top1', 'top5'))
    >>> get_task("text:TASK")
    Traceback (most recent call last):
    deepnets.support.errors.ConfigError: task: text cannot be imported: ModuleNotFoundError: No module named 'text'
    """
    found: Any = TASKS[task] if isinstance(task, str) else task
    if inspect.isclass(found) and issubclass(found, Task) and not inspect.isabstract(found):
        found = found()
    if not isinstance(found, Task):
        raise ConfigError(f"task: {task!r} is of type {type(found).__name__}; expected a ghn_model.tasks.Task")
    return found


def get_logit_task(task: str | Task | type[Task]) -> LogitTask:
    """Return a task whose outputs are logits: hypernetworks are trained and evaluated on these.

    Parameters
    ----------
    task : str or Task
        As for `get_task`.

    Raises
    ------
    ConfigError
        If there is no such task, or its outputs are not logits.

    Examples
    --------
    >>> get_logit_task("classification").examples
    'images'
    """
    found = get_task(task)
    if not isinstance(found, LogitTask):
        raise ConfigError(f"task: expected one whose outputs are logits, which those of {found.name} are not")
    return found


def recorded_name(task: Task) -> Mapping[str, str]:
    """Return what files state about a task: nothing for classification, which older files do not name."""
    return {} if task.name == "classification" else {"task": task.name}
