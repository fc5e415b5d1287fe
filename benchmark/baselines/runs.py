"""Training of many networks, one after another, into a folder: existing results are kept, missing ones are added.

    OUT/curves.csv                          one row per epoch of every training, or one row for a failed training
    OUT/settings.json                       settings of the trainings of every label, so that only equal ones are added
    OUT/LABEL/SPLIT-INDEX.safetensors       parameters and running statistics after the last epoch

The rows of a training are appended together at its end.  Incomplete rows of a killed process are removed when the
folder is opened again.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmark.baselines.jobs import TrainingJob
from benchmark.evaluation import FAILED, OK
from benchmark.metrics import DEFAULT_METRICS
from benchmark.results import CsvTable
from benchmark.training import SGDRecipe, Start, evaluated_epochs, initialized, train_network
from benchmark.training.recipe import current_names
from deepnets.data import Images
from deepnets.support import ConfigError, DeepNetsError, FormatError, exclusive, replace_file
from ghn_model.checkpoints import write_tensors

__all__ = ["COLUMNS", "Curves", "train_all"]

COLUMNS = (
    *("predictor", "split", "index", "network", "images", "epoch", "train_loss", "train_top1", *DEFAULT_METRICS),
    *("seconds", "learning_rate", "num_params", "status", "reason"),
)
"""Columns of `curves.csv`."""

_INTEGERS = ("index", "epoch", "num_params")
_NUMBERS = ("train_loss", "train_top1", *DEFAULT_METRICS, "seconds", "learning_rate")

Key = tuple[str, str, str, str]
"""Identity of a training: predictor, split, name or index of the network, images."""


class Curves:
    """The file `curves.csv` of a folder, which is locked while it is open.

    Parameters
    ----------
    folder
        Created if it does not exist.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Curves(Path(folder)).opened() as curves:
    ...     len(curves.table())
    0
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "curves.csv"
        self._table = CsvTable(self.path, COLUMNS)
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Curves]:
        """Lock the folder, and remove incomplete trainings of a killed process.

        Raises
        ------
        BusyError
            If another process has locked the folder.
        FormatError
            If the files have another format.
        """
        self._table.check()
        with exclusive(self.folder):
            self._repair()
            yield self

    def table(self) -> pd.DataFrame:
        """Return all rows.

        Raises
        ------
        FormatError
            If the file has another format.
        """
        table = pd.DataFrame(self._table.rows(), columns=list(COLUMNS))
        try:
            for column in (*_INTEGERS, *_NUMBERS):
                numbers = table[column].map(int if column in _INTEGERS else _float)
                table[column] = numbers.astype("int64" if column in _INTEGERS else "float64")
        except ValueError as error:
            raise FormatError(f"{self.path}: is no table of training curves: {error}; choose another folder") from error
        return table

    def finished(self) -> set[Key]:
        """Return the trainings that have rows, failed ones included."""
        return {_key(row) for row in self._table.rows()}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append the rows of a training, and flush them to the disk."""
        self._table.append(rows)

    def remove_failed(self) -> None:
        """Remove the rows of failed trainings, so that they are repeated."""
        rows = self._table.rows()
        if rows:
            self._table.rewrite([row for row in rows if row["status"] != FAILED])

    def check_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        """Check that new trainings have the settings of the existing ones, and store these settings.

        Parameters
        ----------
        name
            Name of the group of trainings.
        settings
            Values that JSON can represent.

        Raises
        ------
        ConfigError
            If the group has trainings with other settings.
        """
        known = self._settings()
        settings = json.loads(json.dumps(settings))
        before = known.get(name, settings)
        if differing := [key for key in {**before, **settings} if before.get(key) != settings.get(key)]:
            parts = [f"{key} {before.get(key)!r}, not {settings.get(key)!r}" for key in differing]
            raise ConfigError(
                f"{self.folder}: has trainings from {name} with other settings ({'; '.join(parts)}); choose another "
                "folder, or another label of the initial parameters"
            )
        replace_file(self.folder / "settings.json", json.dumps({**known, name: settings}, indent=1) + "\n")

    def _repair(self) -> None:
        self._table.repair()
        rows = self._table.rows()
        self.table()  # checks the numbers
        settings = self._settings()
        complete: set[Key] = set()
        for row in rows:
            epochs = settings.get(_group(row["predictor"], row["split"], row["images"]), {}).get("epochs", 0)
            if row["status"] == FAILED or int(row["epoch"]) >= epochs:
                complete.add(_key(row))
        kept = [row for row in rows if _key(row) in complete]
        if len(kept) < len(rows):
            self._table.rewrite(kept)

    def _settings(self) -> dict[str, Any]:
        path = self.folder / "settings.json"
        try:
            known = json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise FormatError(f"{path}: is damaged: {error}; remove it, or choose another folder") from error
        if not isinstance(known, dict) or not all(isinstance(values, dict) for values in known.values()):
            raise FormatError(f"{path}: does not contain settings; remove it, or choose another folder")
        return {name: current_names(values) for name, values in known.items()}


def train_all(
    curves: Curves,
    jobs: Sequence[TrainingJob],
    starts: Sequence[Start],
    recipe: SGDRecipe,
    train_images: Images,
    eval_images: Images,
    *,
    epochs_evaluated: Sequence[int] | None = None,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    save: bool = True,
    progress: bool = False,
) -> None:
    """Train every network from every source of initial parameters, except for trainings that have rows.

    Parameters
    ----------
    curves
        The folder of the results, opened.
    jobs, starts, recipe
        Networks, sources of initial parameters, and settings of the training.  For a network, all sources see the same
        images in the same order.
    train_images, eval_images
        Images for training and evaluation.
    epochs_evaluated
        As in `train_network`.
    settings
        Further settings that must be equal for all trainings of a label, as values that JSON can represent.
    seed
        Seed of initial values and of the order of images; each network has its own random numbers.
    device
        Device of the training.
    save
        Whether to write the final state of each network.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ConfigError
        If the folder has trainings with other settings.
    FormatError, IntegrityError
        If the corpus, an image or a file of the folder is damaged.  Other errors are failures of the network that is
        being trained.

    Examples
    --------
    >>> import tempfile
    >>> from torch import nn
    >>> from benchmark.baselines import TrainingJob
    >>> from deepnets.data import load_images
    >>> digits = load_images("digits", "val")
    >>> job = TrainingJob("mine", 0, "linear", 0, lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), graph=None)
    >>> with tempfile.TemporaryDirectory() as folder, Curves(Path(folder)).opened() as curves:
    ...     train_all(curves, [job], [Start()], SGDRecipe(epochs=1), digits, digits)
    ...     curves.table()[["network", "epoch", "status"]].values.tolist()
    [['linear', 1, 'ok']]
    """
    for split in sorted({job.split for job in jobs}):
        for start in starts:
            about = {**recipe.to_dict(), "init": start.about, "seed": seed, **(settings or {})}
            about["epochs_evaluated"] = sorted(evaluated_epochs(recipe.epochs, epochs_evaluated))
            about |= {
                "train": [train_images.split, len(train_images)],
                "evaluate": [eval_images.split, len(eval_images)],
            }
            curves.check_settings(_group(start.label, split, eval_images.name), about)
    done = curves.finished()
    todo = [
        (job, start)
        for job in jobs
        for start in starts
        if (start.label, job.split, job.network or str(job.index), eval_images.name) not in done
    ]
    bar = tqdm(todo, desc="training", disable=not progress or not todo, unit="network")
    for job, start in bar:
        bar.set_postfix_str(f"{job.name} from {start.label}")
        row = {"predictor": start.label, "split": job.split, "index": job.index, "network": job.network}
        row |= {"images": eval_images.name, "num_params": 0, "status": OK, "reason": ""}

        def show(point: dict[str, float], about: str = f"{job.name} from {start.label}") -> None:
            bar.set_postfix_str(f"{about}: epoch {point['epoch']} of {recipe.epochs}, loss {point['loss']:.3f}")

        try:
            word = int(np.random.Philox(key=[seed, job.key]).random_raw())
            with torch.random.fork_rng([]):
                torch.default_generator.manual_seed(word)
                model = job.build()
            row["num_params"] = sum(parameter.numel() for parameter in model.parameters())
            net = initialized(
                model,
                start,
                num_classes=eval_images.num_classes,
                recipe=recipe,
                graph=job.graph(model, start.ghn.config.vocabulary) if start.ghn else None,
                name=job.name,
                seed=word >> 1,
            )
            trained = train_network(
                net,
                train_images,
                recipe,
                eval_images=eval_images,
                epochs_evaluated=epochs_evaluated,
                seed=word >> 1,
                device=device,
                each_epoch=show,
            )
        except FormatError:  # a damaged file of the corpus or of the images concerns all networks
            raise
        except Exception as error:  # models are arbitrary code
            reason = str(error) if isinstance(error, DeepNetsError) else f"{type(error).__name__}: {error}"
            curves.append([{**row, "epoch": 0, "status": FAILED, "reason": " ".join(reason.split())[:300]}])
            continue
        if save:
            folder = curves.folder / start.label
            folder.mkdir(exist_ok=True)
            about = {"job": json.dumps({**row, "recipe": recipe.to_dict(), "seed": seed}, sort_keys=True)}
            write_tensors(folder / f"{job.name}.safetensors", trained.state, about)
        points = trained.curve.rename(columns={"loss": "train_loss"}).to_dict("records")
        curves.append([{**row, **point, "seconds": round(point["seconds"], 3)} for point in points])


def _key(row: Mapping[str, str]) -> Key:
    return row["predictor"], row["split"], row["network"] or row["index"], row["images"]


def _float(text: str) -> float:
    return float(text) if text else math.nan


def _group(label: str, split: str, images: str) -> str:
    """The name of trainings that must have equal settings."""
    return f"{label} on {split} with {images}"
