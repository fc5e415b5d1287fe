"""Many trainings, network after network, in a folder: what is there stays, what is missing is trained.

    OUT/curves.csv                          one row per epoch of every training, one row for a training that failed
    OUT/settings.json                       what the trainings of every label were, so that only alike ones are added
    OUT/LABEL/SPLIT-INDEX.safetensors       parameters and running statistics after the last epoch

The rows of a training are appended together when it is over, and half ones, of a process that was killed while it
wrote, are dropped when the folder is opened again.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmark.baselines.jobs import Job
from benchmark.evaluation import FAILED, OK
from benchmark.training import SGDRecipe, Start, evaluated_epochs, initialized, train_network
from deepnets.data import Images
from deepnets.support import ConfigError, DeepNetsError, FormatError, exclusive, replace_file
from ghn_model.checkpoints import write_tensors

__all__ = ["COLUMNS", "Curves", "train_all"]

COLUMNS = (
    *("predictor", "split", "index", "network", "images", "epoch", "train_loss", "train_top1", "top1", "top5"),
    *("seconds", "learning_rate", "num_params", "status", "reason"),
)
_INTEGERS = ("index", "epoch", "num_params")
_NUMBERS = ("train_loss", "train_top1", "top1", "top5", "seconds", "learning_rate")
_KEY = ["predictor", "split", "network", "index", "images"]

Key = tuple[str, str, str, str]
"""Of a training: predictor, split, name or index of the network, images."""


class Curves:
    """The file `curves.csv` of a folder, which no other process may use at the same time (`opened`).

    Parameters
    ----------
    folder
        Made if missing.

    Raises
    ------
    FormatError
        If the file is another kind of table.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "curves.csv"
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Curves]:
        """Keep other processes out, and drop the rows of trainings that a killed process has not finished writing."""
        with exclusive(self.folder):
            self._repair()
            yield self

    def table(self) -> pd.DataFrame:
        """All rows; without a file, none."""
        if not self.path.exists():
            return pd.DataFrame(columns=list(COLUMNS))
        return self._parsed(self.path.read_bytes())

    def finished(self) -> set[Key]:
        """Which trainings are there, failed ones included."""
        return {_key(*row) for row in self.table()[_KEY].itertuples(index=False)}

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Add the rows of a training, all together, and wait for the disk."""
        head = not self.path.exists()
        text = pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False, header=head, lineterminator="\n")
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def forget_failed(self) -> None:
        """Drop the rows of trainings that failed, so that they are tried again."""
        table = self.table()
        self._rewrite(table[table["status"] != FAILED])

    def agree(self, what: str, settings: dict[str, Any]) -> None:
        """Make sure that trainings to be added are like those that are there, and remember how they are.

        Raises
        ------
        ConfigError
            If trainings of this name were made with other settings.
        """
        known = self._settings()
        settings = json.loads(json.dumps(settings))
        before = known.get(what, settings)
        others = [name for name in before | settings if before.get(name) != settings.get(name)]
        if others:
            parts = [f"{name} {before.get(name)!r}, not {settings.get(name)!r}" for name in others]
            raise ConfigError(
                f"{self.folder}: holds trainings from {what} with other settings ({'; '.join(parts)}); choose another "
                "folder, or another label for the start"
            )
        replace_file(self.folder / "settings.json", json.dumps({**known, what: settings}, indent=1) + "\n")

    def _parsed(self, content: bytes) -> pd.DataFrame:
        try:
            table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
            if tuple(table.columns) != COLUMNS:
                raise ValueError(f"expected the columns {','.join(COLUMNS)}")
            for column in (*_INTEGERS, *_NUMBERS):  # pandas itself does not read all floats exactly
                numbers = table[column].map(int if column in _INTEGERS else _float)
                table[column] = numbers.astype("int64" if column in _INTEGERS else "float64")
        except ValueError as error:
            raise FormatError(f"{self.path}: is not a table of curves: {error}; choose another folder") from error
        return table

    def _repair(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            self.path.unlink()  # not even the heading was written
            return
        table = self._parsed(whole)
        settings = self._settings()
        keys = [_key(*row) for row in table[_KEY].itertuples(index=False)]
        ends: dict[Key, int] = {}
        for key, epoch, status in zip(keys, table["epoch"], table["status"], strict=True):
            label, split, _, images = key
            epochs = settings.get(_what(label, split, images), {}).get("epochs", 0)
            ends[key] = ends.get(key, 0) or int(status == FAILED or epoch >= epochs)
        complete = np.array([bool(ends[key]) for key in keys], bool)
        if len(whole) < len(content) or not complete.all():
            self._rewrite(table.loc[complete])

    def _settings(self) -> dict[str, Any]:
        path = self.folder / "settings.json"
        try:
            known = json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise FormatError(f"{path}: is damaged: {error}; remove it, or choose another folder") from error
        if not isinstance(known, dict) or not all(isinstance(values, dict) for values in known.values()):
            raise FormatError(f"{path}: does not hold settings; remove it, or choose another folder")
        return known

    def _rewrite(self, table: pd.DataFrame) -> None:
        replace_file(self.path, table.to_csv(index=False, lineterminator="\n"))


def train_all(
    curves: Curves,
    jobs: Sequence[Job],
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
    """Train every network from every start, unless its rows are there.

    Parameters
    ----------
    curves
        Where the rows go; opened.
    jobs, starts, recipe
        What, from where, and how.  All starts of a network see the same images in the same order.
    train_images, eval_images
        What networks are trained and evaluated on.
    epochs_evaluated
        As in `train_network`.
    settings
        What else must be the same for trainings to be comparable, ready for JSON.
    seed
        Of initial values and orders; each network has its own numbers.
    device
        Where to train.
    save
        Whether to write the state of each network.
    progress
        Whether to show a bar.

    Raises
    ------
    ConfigError
        If the folder holds trainings with other settings.
    FormatError, IntegrityError
        If the corpus or an image is damaged, or the folder's files are.  What else happens costs the network that it
        happens to.
    """
    for split in sorted({job.split for job in jobs}):
        for start in starts:
            about = {**recipe.to_dict(), "init": start.about, "seed": seed, **(settings or {})}
            about["epochs_evaluated"] = sorted(evaluated_epochs(recipe.epochs, epochs_evaluated))
            about |= {
                "train": [train_images.split, len(train_images)],
                "evaluate": [eval_images.split, len(eval_images)],
            }
            curves.agree(_what(start.label, split, eval_images.name), about)
    done = curves.finished()
    todo = [
        (job, start)
        for job in jobs
        for start in starts
        if _key(start.label, job.split, job.network, job.index, eval_images.name) not in done
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
                graph=job.graph(model) if start.ghn else None,
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
        except FormatError:  # the corpus or the images are at fault, not the network
            raise
        except Exception as error:  # models and saved tensors are anybody's
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


def _key(*parts: object) -> Key:
    """The key of a training, from what `_KEY` names."""
    predictor, split, network, index, images = map(str, parts)
    return predictor, split, network or index, images


def _float(text: str) -> float:
    return float(text) if text else math.nan


def _what(label: str, split: str, images: str) -> str:
    return f"{label} on {split} with {images}"
