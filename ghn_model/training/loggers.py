"""Programs that follow a training: TensorBoard, Weights & Biases, or your own.

A logger is an object with `log(step, values)` and `close()`, and is made by a function of a `LoggedRun`.  With the
following in `mine.py`, every function and option that takes names of loggers takes `"mine:Printer"`:

    class Printer:
        def __init__(self, run):
            self.name = run.folder.name

        def log(self, step, values):
            print(self.name, step, values["loss"])

        def close(self):
            pass

`LOGGERS.register("printer", Printer)` gives it a short name in the current process.  The file `log.csv` is written
in any case.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from deepnets.support import ConfigError, MissingDependencyError, Registry, in_one_line

__all__ = ["LOGGERS", "LoggedRun", "Logger", "open_loggers"]


@dataclass(frozen=True)
class LoggedRun:
    """The training that a logger follows.

    Attributes
    ----------
    folder
        Folder of the run.
    step
        Step at which it starts or resumes.  Rows of later steps that were logged before are logged again.
    settings
        JSON values that describe the training: recipe, images, corpus, configuration.

    Examples
    --------
    >>> LoggedRun(Path("runs/first")).step
    0
    """

    folder: Path
    step: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


class Logger(Protocol):
    """Receives the rows of the log of a training."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of a row.

        Parameters
        ----------
        step
            Number of steps done.
        values
            Values by column of `log.csv`, without `step` and without missing ones.
        """

    def close(self) -> None:
        """Finish; called once at the end, also after an error."""


class TensorBoard:
    """Writes event files into the folder `tensorboard` of the run."""

    def __init__(self, run: LoggedRun) -> None:
        try:
            module = importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise _missing("tensorboard", error) from error
        # A row is logged after its step, so that of the last step before the resume stays.
        self._writer: Any = module.SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of a row."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """Logs to Weights & Biases, into the folder `wandb` of the run.

    Nothing is sent unless the environment variable ``WANDB_MODE`` is set to ``online``; ``wandb sync`` sends an offline
    run later.  ``WANDB_PROJECT`` and the other variables of wandb are used.
    """

    def __init__(self, run: LoggedRun) -> None:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise _missing("wandb", error) from error
        self._run: Any = wandb.init(
            mode=os.environ.get("WANDB_MODE", "offline"),
            project=os.environ.get("WANDB_PROJECT", "deepnets1m"),
            name=run.folder.name,
            group=run.folder.name,  # a training that resumes is another run of the same group
            dir=str(run.folder),
            config=dict(run.settings),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of a row."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


LOGGERS: Registry[Callable[[LoggedRun], Logger]] = Registry(
    "logger",
    {
        "tensorboard": "ghn_model.training.loggers:TensorBoard",
        "wandb": "ghn_model.training.loggers:WeightsAndBiases",
    },
)
"""Functions that make loggers, by name."""


def open_loggers(names: Sequence[str | Callable[[LoggedRun], Logger]] | None, run: LoggedRun) -> list[Logger]:
    """Make the loggers of a training.

    Parameters
    ----------
    names
        Names in `LOGGERS`, ``"module:attribute"``, or functions that make a logger.  By default TensorBoard, if it is
        installed.
    run
        The training.

    Returns
    -------
    The loggers.  If one cannot be made, those before it are closed.

    Raises
    ------
    ConfigError
        If a name is unknown, or the result has no methods `log` and `close`.
    MissingDependencyError
        If the package of a logger is not installed; the message says what to install.

    Examples
    --------
    >>> open_loggers((), LoggedRun(Path("runs/first")))
    []
    >>> open_loggers(["tensorbord"], LoggedRun(Path("runs/first")))
    Traceback (most recent call last):
    deepnets.support.errors.ConfigError: logger: unknown 'tensorbord'; use one of tensorboard, wandb, or ...
    """
    if isinstance(names, str):
        raise ConfigError(f"loggers: expected a sequence of names, got the text {names!r}")
    if names is None:
        names = ["tensorboard"] if importlib.util.find_spec("tensorboard") is not None else []
    loggers: list[Logger] = []
    try:
        for name in names:
            logger = (LOGGERS[name] if isinstance(name, str) else name)(run)
            if not all(callable(getattr(logger, method, None)) for method in ("log", "close")):
                raise ConfigError(f"logger {name}: expected methods log(step, values) and close()")
            loggers.append(logger)
    except BaseException:
        for logger in loggers:
            with suppress(Exception):
                logger.close()
        raise
    return loggers


def _missing(package: str, error: ImportError) -> MissingDependencyError:
    why = "is not installed" if error.name in (package, None) else f"cannot be imported: {in_one_line(error)}"
    return MissingDependencyError(f"{package} {why}; install it with pip install {package}", name=package)
