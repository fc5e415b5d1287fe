"""The folder of a training run: the hypernetwork with its metadata, the log, and the command that was run."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepnets.architecture import IMAGE_SIZES
from deepnets.families import PREFIX, split_of
from deepnets.support import ConfigError, FormatError, in_one_line, parse_csv, read_whole
from ghn_model import describe
from ghn_model.choices import RECIPES
from ghn_model.config import PRESETS, GHNConfig
from ghn_model.tasks import TASKS, Task, get_task
from ghn_model.training import Recipe, log_columns

__all__ = [
    "LAST_ROWS",
    "LOG_ROWS",
    "Training",
    "log_text",
    "portable",
    "preset_of",
    "read_training",
    "training_command",
]

KERNEL_OPTIONS = ("dirac", "width_invariant")
"""Fields of a configuration that change how kernels are predicted; the recipe for a CPU sets them."""

LOG_ROWS = 500
"""Most rows of a log that comes with the package."""

LAST_ROWS = 10
"""Number of last rows of a log, which are always kept; a card states the mean of their metric, `last_training_top1`."""


@dataclass(frozen=True)
class Training:
    """A training run.

    Attributes
    ----------
    source, sha256
        The checkpoint of the run, and its SHA-256 digest.
    config, recipe, images
        The configuration of the hypernetwork, the recipe, and the name of the image set.
    steps, seconds
        Number of steps, and duration.
    progress
        The completed fraction of the training, from 0 to 1.
    metadata
        All metadata of the checkpoint.
    task
        Task of the networks.
    log
        Rows of the log, as strings by column, up to the step of the checkpoint.
    curve
        The file `curve.csv` up to this step, as text; empty if the training was not validated.
    """

    source: Path
    sha256: str
    config: GHNConfig
    recipe: Recipe
    images: str
    steps: int
    seconds: float
    progress: float
    metadata: Mapping[str, Any]
    log: Sequence[Mapping[str, str]]
    task: Task
    curve: str = ""

    @property
    def last_value(self) -> float | None:
        """Mean of the first metric of the task over the last rows of the log; None if every step was skipped."""
        values = np.array([float(row[self.task.metric.name]) for row in self.log[-LAST_ROWS:]])
        values = values[np.isfinite(values)]
        return round(float(values.mean()), 1) if len(values) else None


def read_training(run: Path | str, task: str | Task | type[Task] | None = None) -> Training:
    """Read the folder of a training run.

    Parameters
    ----------
    run
        A folder that `python -m ghn_model train` wrote.
    task
        As for `task_of`.

    Raises
    ------
    ConfigError
        If a file is missing, or the training has another task.
    CheckpointError, FormatError
        If a file is damaged, or the files do not belong to the same training.
    """
    run = Path(run)
    source, log = run / "ghn.safetensors", run / "log.csv"
    for needed in (source, log):
        if not needed.is_file():
            raise ConfigError(f"{run}: has no {needed.name}; expected a folder that deepnets train wrote")
    found = describe(source)
    metadata = found.metadata
    for key, kind in (("recipe", dict), ("images", str), ("steps", int), ("seconds", (int, float))):
        if not isinstance(metadata.get(key), kind):
            raise FormatError(f"{source}: its metadata has no valid {key}: {metadata.get(key)!r}")
    try:
        recipe = Recipe.from_dict(metadata["recipe"])
    except TypeError as error:
        raise FormatError(f"{source}: its recipe cannot be read: {error}; use the version that wrote it") from error
    found_task = task_of(metadata, source, task)
    steps, progress = metadata["steps"], metadata.get("progress", 1.0)
    if not isinstance(progress, (int, float)):
        raise FormatError(f"{source}: its progress is {progress!r}; expected a number from 0 to 1")
    return Training(
        source=source,
        sha256=found.sha256,
        config=found.config,
        recipe=recipe,
        images=metadata["images"],
        steps=steps,
        seconds=float(metadata["seconds"]),
        progress=progress,
        metadata=metadata,
        log=_read_log(log, steps, found_task, finished=progress >= 1),
        task=found_task,
        curve=_read_curve(run / "curve.csv", steps),
    )


def task_of(metadata: Mapping[str, Any], source: Path, task: str | Task | type[Task] | None = None) -> Task:
    """Return the task that the metadata of a checkpoint name; files of classification name none.

    Parameters
    ----------
    metadata
        The metadata, which are not trusted: only names of `ghn_model.tasks.TASKS` are used.
    source
        The checkpoint, for error messages.
    task
        The task of the training, as for `ghn_model.tasks.get_task`: needed for one of your own, since no file may name
        a module.

    Raises
    ------
    FormatError
        If the task is unknown.
    ConfigError
        If the metadata name another task than `task`.

    Examples
    --------
    >>> task_of({}, Path("ghn.safetensors")).name
    'classification'
    """
    name = metadata.get("task", "classification")
    if task is not None:
        if name != (found := get_task(task)).name:
            raise ConfigError(f"task: {source} is of a training for {name!r}, not for {found.name!r}")
        return found
    if not isinstance(name, str) or name not in TASKS:
        raise FormatError(
            f"{source}: its task is {name!r}; expected one of {', '.join(TASKS)}, or give a task of your own "
            "(--task MODULE:ATTRIBUTE, task=)"
        )
    return TASKS[name]


def _read_log(path: Path, steps: int, task: Task, *, finished: bool) -> list[dict[str, str]]:
    """Return the rows up to a step; a killed training may have logged more steps after its last checkpoint."""
    rows: list[dict[str, str]] = []
    try:
        lines = parse_csv(read_whole(path).decode("utf-8", "replace"))
        header = next(lines, [])
        for line in filter(None, lines):
            if len(line) != len(header):
                raise ValueError(f"a row of {len(line)} fields instead of {len(header)}")
            row = dict(zip(header, line))
            int(row["step"]), float(row[task.metric.name]), int(row["skipped"])
            rows.append(row)
    except (OSError, KeyError, ValueError) as error:
        columns = ", ".join(log_columns(task))
        raise FormatError(
            f"{path}: is not a training log: {in_one_line(error, 200)}; expected the columns {columns}"
        ) from error
    rows = [row for row in rows if int(row["step"]) <= steps]
    if not rows:
        raise FormatError(
            f"{path}: has no rows up to step {steps}; train for more steps than one log interval (--log-steps)"
        )
    if finished and (last := int(rows[-1]["step"])) != steps:
        raise FormatError(
            f"{path}: ends at step {last}, but ghn.safetensors was trained for {steps} steps; expected the log of "
            "the same training"
        )
    return rows


def _read_curve(path: Path, steps: int) -> str:
    """Return the rows of a learning curve up to a step, with its header; empty if there are none."""
    if not path.is_file():
        return ""
    header, *rows = read_whole(path).decode("utf-8", "replace").splitlines() or [""]
    try:
        rows = [row for row in rows if int(row.partition(",")[0]) <= steps]
    except ValueError as error:
        raise FormatError(f"{path}: is not a learning curve: {in_one_line(error, 200)}") from error
    return "".join(f"{row}\n" for row in (header, *rows)) if rows else ""


def log_text(rows: Sequence[Mapping[str, str]], task: Task | None = None) -> tuple[str, str]:
    """Return a log as CSV, with at most `LOG_ROWS` rows: the last `LAST_ROWS`, and others at regular intervals.

    Parameters
    ----------
    rows
        The rows, as texts by column.
    task
        Task of the training; classification by default.

    Returns
    -------
    text
        The CSV file.
    about
        A description of the selected rows; empty if all rows are kept.
    """
    about = ""
    if (count := len(rows)) > LOG_ROWS:
        spread = np.linspace(0, count - LAST_ROWS - 1, LOG_ROWS - LAST_ROWS).round().astype(int)
        rows = [rows[place] for place in spread.tolist()] + list(rows[-LAST_ROWS:])
        about = f"{LOG_ROWS} of {count:,} rows at regular intervals, and the last {LAST_ROWS} rows"
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, log_columns(task or get_task("classification")), lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue(), about


def training_command(training: Training) -> str:
    """Return the command that started a training.

    The metadata of the checkpoint contain it.  For a checkpoint without it, from an older version or from a training in
    Python, the command has only the preset, the images, the initial weights and the length of the training; the recipe
    of the card says the rest.
    """
    command = training.metadata.get("command")
    if isinstance(command, str) and command:
        return portable(command)
    if isinstance(command, list) and command:
        return portable(shlex.join(map(str, command)))
    words = ["python", "-m", "ghn_model", "train", "--preset", preset_of(training.config) or "PRESET"]
    if training.task.name == "text":
        words += ["--task", "text", "--texts", training.images]
    else:
        words += ["--images", training.images, *([] if training.images == "digits" else ["--image-root", "FOLDER"])]
    config = training.config
    if config.init != ("small" if training.images in ("digits", "python") else "published"):
        words += ["--weight-init", config.init]
    default = GHNConfig.preset("ghn2", kind="cpu" if training.images == "digits" else "published")
    if config.dirac != default.dirac:
        words += ["--max-shape", *map(str, config.max_shape)]
    for name in KERNEL_OPTIONS:
        if (value := getattr(config, name)) != getattr(default, name):
            words.append(("--" if value else "--no-") + name.replace("_", "-"))
    length = training.metadata.get("length") or {"steps": training.steps}
    for unit in ("minutes", "steps"):
        if length.get(unit):
            words += [f"--{unit}", f"{length[unit]:.17g}"]
    return " ".join(words) + "  # for other options, see recipe"


def portable(command: str) -> str:
    """Replace the paths of a command by placeholders, because they belong to one machine.

    Examples
    --------
    >>> portable("python -m benchmark run --data /home/me/data --predictors raw=runs/1/ghn.safetensors")
    'python -m benchmark run --data FOLDER --predictors raw=FILE'
    >>> portable("deepnets bench --splits family:vits-1k/val family:/home/me/narrow.json/val")
    'deepnets bench --splits family:vits-1k/val family:FILE'
    """
    words = []
    for word in shlex.split(command):
        option, equals, value = word.rpartition("=")
        if value.startswith(PREFIX):
            name, _ = split_of(value, "")
            if "/" in name or "\\" in name or name.endswith(".json"):
                word = f"{option}{equals}{PREFIX}FILE"
        elif "/" in value or "\\" in value or value.startswith("~"):
            word = option + equals + ("FILE" if value.endswith((".safetensors", ".pt")) else "FOLDER")
        words.append(shlex.quote(word))
    return " ".join(words)


def preset_of(config: GHNConfig) -> str:
    """Return the name of the preset of a configuration; empty if it is none.

    Initial weights and `KERNEL_OPTIONS` do not matter.

    Examples
    --------
    >>> preset_of(GHNConfig.preset("ghn2")), preset_of(GHNConfig.preset("ghn2", hidden=8))
    ('ghn2', '')
    >>> preset_of(GHNConfig.preset("ghn2", kind="cpu"))
    'ghn2'
    """
    for name in PRESETS:
        presets = [
            GHNConfig.preset(name, config.num_classes, size, kind=kind) for size in IMAGE_SIZES for kind in RECIPES
        ]
        if name.startswith("logah"):
            presets.append(GHNConfig.preset(name, task="text"))
        same = {name: getattr(config, name) for name in ("init", *KERNEL_OPTIONS)}
        if any(preset.decoder == config.decoder and preset.replace(**same) == config for preset in presets):
            return name
    return ""
