"""What the folder of a training says: the hypernetwork with what its file knows, the log, and the command."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepnets.support import ConfigError, FormatError
from ghn_model import describe
from ghn_model.config import PRESETS, GHNConfig
from ghn_model.training import COLUMNS, Recipe

__all__ = ["LAST_ROWS", "LOG_ROWS", "SIZES", "Training", "log_text", "preset_of", "read_training", "training_command"]

SIZES = {"digits": 32, "cifar10": 32, "imagenet": 224}
"""Side of the images of each set, in pixels."""

LOG_ROWS = 500
"""A log that comes with the package has no more rows."""

LAST_ROWS = 10
"""Of the end of a log, whose mean is a card's `last_training_top1`; these are always kept."""


@dataclass(frozen=True)
class Training:
    """What is known of a training.

    Attributes
    ----------
    source, sha256
        The file that it left, and the digest of that.
    config, recipe, images, steps, seconds
        What was trained, how, on what, and for how long.
    progress
        Its share that is done, from 0 to 1.
    known
        Everything that its file says.
    log
        Rows of the log as texts by column, up to the step of the file.
    """

    source: Path
    sha256: str
    config: GHNConfig
    recipe: Recipe
    images: str
    steps: int
    seconds: float
    progress: float
    known: Mapping[str, Any]
    log: Sequence[Mapping[str, str]]

    @property
    def last_top1(self) -> float | None:
        """Mean accuracy of the last rows, in percent; None if nothing could be trained on."""
        values = np.array([float(row["top1"]) for row in self.log[-LAST_ROWS:]])
        values = values[np.isfinite(values)]
        return round(float(values.mean()), 1) if len(values) else None


def read_training(run: Path | str) -> Training:
    """Read the folder of a training.

    Parameters
    ----------
    run
        What `python -m ghn_model train` wrote to.

    Raises
    ------
    ConfigError
        If it has not the files.
    CheckpointError, FormatError
        If they are not what they should be, or not of the same training.
    """
    run = Path(run)
    source, log = run / "ghn.safetensors", run / "log.csv"
    for needed in (source, log):
        if not needed.is_file():
            raise ConfigError(f"{run}: has no {needed.name}; expected the folder of python -m ghn_model train")
    found = describe(source)
    known = found.metadata
    for key, kind in (("recipe", dict), ("images", str), ("steps", int), ("seconds", (int, float))):
        if not isinstance(known.get(key), kind):
            raise FormatError(
                f"{source}: its {key} is {known.get(key)!r}; expected what python -m ghn_model train writes"
            )
    try:
        recipe = Recipe.from_dict(known["recipe"])
    except TypeError as error:
        raise FormatError(f"{source}: its recipe cannot be read: {error}; use the version that wrote it") from error
    steps, progress = known["steps"], known.get("progress", 1.0)
    if not isinstance(progress, (int, float)):
        raise FormatError(f"{source}: its progress is {progress!r}; expected a number from 0 to 1")
    return Training(
        source=source,
        sha256=found.sha256,
        config=found.config,
        recipe=recipe,
        images=known["images"],
        steps=steps,
        seconds=float(known["seconds"]),
        progress=progress,
        known=known,
        log=_read_log(log, steps, finished=progress >= 1),
    )


def _read_log(path: Path, steps: int, *, finished: bool) -> list[dict[str, str]]:
    """Rows up to a step; a training that was killed may have written more of them after it last saved its state."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            rows = list(csv.DictReader(file))
            for row in rows:
                int(row["step"]), float(row["top1"]), int(row["skipped"])
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise FormatError(
                f"{path}: is no log of a training: {error!r}; expected the columns {', '.join(COLUMNS)}"
            ) from error
    rows = [row for row in rows if int(row["step"]) <= steps]
    if not rows:
        raise FormatError(
            f"{path}: has no rows up to step {steps}; train for longer than the steps between them (--log-steps)"
        )
    if finished and (last := int(rows[-1]["step"])) != steps:
        raise FormatError(
            f"{path}: ends at step {last}, but ghn.safetensors was trained for {steps}; expected the log of the same "
            "training"
        )
    return rows


def log_text(rows: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """A log of at most so many rows, spread evenly, with the first and the last ones whole; and what was done to it."""
    about = ""
    if (count := len(rows)) > LOG_ROWS:
        spread = np.linspace(0, count - LAST_ROWS - 1, LOG_ROWS - LAST_ROWS).round().astype(int)
        rows = [rows[place] for place in spread.tolist()] + list(rows[-LAST_ROWS:])
        about = f"{LOG_ROWS} of {count:,} rows, spread evenly, and all of the last {LAST_ROWS}"
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue(), about


def training_command(config: GHNConfig, recipe: Recipe, images: str, known: Mapping[str, Any]) -> str:
    """The command that trains with a recipe, as short as it can be.

    Parameters
    ----------
    config, recipe, images
        Of the training.
    known
        What its file says: `steps`, and `length`, if it has one.

    Returns
    -------
    The command; what no option can give is noted behind a #.

    Raises
    ------
    ConfigError
        If the configuration is of no preset, or the images of no set that the command knows.
    """
    from ghn_model.commands import CHANGES

    preset = preset_of(config, images)
    usual = Recipe.preset(preset, images)
    words = ["python -m ghn_model train", f"--preset {preset}", f"--images {images}"]
    words += [] if images == "digits" else ["--image-root FOLDER"]
    length = known.get("length") or {"steps": known["steps"]}
    words += [f"--{unit} {_plain(length[unit])}" for unit in ("minutes", "steps") if length.get(unit)]
    for field in CHANGES:
        value, option = getattr(recipe, field), field.replace("_", "-")
        if value == getattr(usual, field):
            continue
        words.append(
            (f"--{option}" if value else f"--no-{option}") if isinstance(value, bool) else f"--{option} {_plain(value)}"
        )
    others = [
        name for name in recipe.to_dict() if name not in CHANGES and getattr(recipe, name) != getattr(usual, name)
    ]
    return " ".join(words) + (f"  # from Python: another {' and '.join(others)}, see recipe" if others else "")


def preset_of(config: GHNConfig, images: str) -> str:
    """The preset that a configuration is of; `ConfigError` if there is none."""
    if images not in SIZES:
        raise ConfigError(f"images: {images!r} are of no set that a command trains on; expected {', '.join(SIZES)}")
    for name in PRESETS:
        if GHNConfig.preset(name, config.num_classes, SIZES[images]) == config:
            return name
    raise ConfigError(
        f"config: is of no preset ({', '.join(PRESETS)}), so no command trains it; write its card by hand"
    )


def _plain(value: float | str) -> str:
    """A number with all its digits, and no more."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
