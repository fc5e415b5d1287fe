"""Load the published result files of a folder.

    published = load("folder")                   the files that are in the folder
    accuracies(published, "cifar10")             mean, standard error and best network, per method and split
    print(*list_known_issues(), sep="\\n")             errors of the files, and how they are handled
    targets("folder", "cifar10", "val")          properties of networks to predict from their graphs

The files are `results_cifar10.json`, `results_cifar10_extended.json` and `results_imagenet.json` of Knyazev et al.
(NeurIPS 2021), and `ghn3_results.json` of Knyazev et al. (ICML 2023).  They do not come with this toolkit.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.literature.files import FILES, SIZES, SPLITS, read_file, read_models, read_networks
from benchmark.literature.known_issues import Unusable, correct
from deepnets.support import ConfigError

__all__ = ["Published", "checked_split", "files_of", "load", "targets"]

TARGETS = ("val_acc", "val_acc_noise", "time", "converge_time", "test_acc", "params")


@dataclasses.dataclass(frozen=True)
class Published:
    """The published files of a folder.

    Attributes
    ----------
    folder
        The folder.
    networks
        The tables of "cifar10", "cifar10_extended" and "imagenet", as far as the files exist: one row per network with
        `split`, `index`, `params` (int64), `time`, `converge_time` and accuracies in percent (float64).  Columns of
        accuracies are named like `ghn2_test_acc`, `mlp_val_acc_noise` or, for training with SGD, `sgd50_test_acc`
        after 50 epochs.  Values that are missing or wrong in a file are NaN.
    training
        Training curves of the extended file: `split`, `index`, `epoch` (from 1), `loss` and `acc`; None without it.
    models
        One row per model of torchvision from "ghn3": `model` and the fields of the file; None without it.
    unusable
        The values of the files that were replaced by NaN, with the reasons.
    missing
        Names of the files that are not in the folder.
    """

    folder: Path
    networks: dict[str, pd.DataFrame]
    training: pd.DataFrame | None
    models: pd.DataFrame | None
    unusable: tuple[Unusable, ...]
    missing: tuple[str, ...]

    def values(self, file: str, split: str, column: str) -> npt.NDArray[np.float64]:
        """Return a column for the networks of a split.

        Returns
        -------
        `(n,) float64`, by index.

        Raises
        ------
        ConfigError
            If there is no such file, split or column, or if its values are unusable; the message says why.
        """
        table = self.table(file)
        checked_split(split)
        if column not in table.columns[2:]:
            raise ConfigError(f"column: {FILES[file].name} has no {column!r}; it has {', '.join(table.columns[2:])}")
        reason = self.why_unusable(file, split, column)
        values: npt.NDArray[np.float64] = table.loc[table["split"] == split, column].to_numpy(np.float64)
        if reason or np.isnan(values).any():
            raise ConfigError(f"{FILES[file].name}: {column} of {split}: {reason or 'the file has none'}")
        return values

    def table(self, file: str) -> pd.DataFrame:
        """Return the table of a file.

        Raises
        ------
        ConfigError
            If the file is not in the folder.
        """
        if file not in FILES or file == "ghn3":
            raise ConfigError(f"file: expected one of {', '.join(list(FILES)[:3])}, got {file!r}")
        if file not in self.networks:
            raise ConfigError(f"{self.folder}: {FILES[file].name} is missing")
        return self.networks[file]

    def why_unusable(self, file: str, split: str, column: str) -> str:
        """Return why values of a file were replaced by NaN; empty if they were not."""
        return next((bad.reason for bad in self.unusable if bad[:3] == (file, split, column)), "")


def load(folder: Path | str) -> Published:
    """Load the published files of a folder.

    Parameters
    ----------
    folder
        A folder with one or more of the four files, under their published names.

    Raises
    ------
    ConfigError
        If the folder does not exist or contains none of the files.
    FormatError
        If a file is not the published one.

    Examples
    --------
    >>> load("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: no/such/folder: there is no such folder; expected results_cifar10.json, ...
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; expected {_names()}")
    present = [file for file, spec in FILES.items() if (folder / spec.name).exists()]
    if not present:
        raise ConfigError(f"{folder}: has none of {_names()}")
    networks: dict[str, pd.DataFrame] = {}
    unusable: tuple[Unusable, ...] = ()
    training = models = None
    for file in present:
        text = read_file(folder, file)
        if file == "ghn3":
            models = read_models(text)
            continue
        records, curves = read_networks(text, file)
        networks[file], found = correct(records, file)
        unusable += found
        training = curves if len(curves) else training
    missing = tuple(spec.name for file, spec in FILES.items() if file not in present)
    return Published(folder, networks, training, models, unusable, missing)


def targets(folder: Path | str | Published, images: str, split: str) -> pd.DataFrame:
    """Return the properties of the networks of a split, to predict them from graphs.

    Parameters
    ----------
    folder
        The folder of the published files, or the result of `load`.
    images
        "cifar10" (accuracies are top-1, after 50 epochs of SGD) or "imagenet" (top-5, after one epoch).
    split
        One of `SPLITS`.  Published predictors of properties are fitted on "val" and evaluated on "test".

    Returns
    -------
    One row per network: `index` (int64), `val_acc` and `val_acc_noise` (on validation images, clean and noisy, in
    percent), `time` (no documented unit), `converge_time` (a fraction of the training, or 2 for a training that did not
    converge), `test_acc` (in percent) and `params` (int64).  Unknown values are NaN.  `attrs["sources"]` gives the file
    of each column, `attrs["reasons"]` the reason for each column of NaN.  For CIFAR-10, `val` and `test` come from the
    basic file, which the published results were computed from; other splits come from the extended file, which is more
    complete for them.

    Raises
    ------
    ConfigError
        If there is no such split, or no file for these images.
    FormatError
        As for `load`.
    """
    published = folder if isinstance(folder, Published) else load(folder)
    checked_split(split)
    files = [file for file in files_of(images) if file in published.networks]
    if split not in ("val", "test"):
        files.reverse()
    if not files:
        raise ConfigError(f"{published.folder}: no file has results on {images}; expected {_names(images)}")
    epochs = max(FILES[files[0]].epochs)
    table = pd.DataFrame({"index": np.arange(SIZES[split])})
    sources: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for target in TARGETS:
        column = f"sgd{epochs}_{target}" if "acc" in target else target
        table[target] = np.nan
        for file in files:
            rows = published.networks[file]
            rows = rows[rows["split"] == split]
            if column in rows and not rows[column].isna().any():
                table[target], sources[target] = rows[column].to_numpy(), FILES[file].name
                break
            reasons.setdefault(target, published.why_unusable(file, split, column) or "not in the file")
    table.attrs = {"sources": sources, "reasons": {key: text for key, text in reasons.items() if key not in sources}}
    return table


def files_of(images: str) -> tuple[str, ...]:
    """Return the keys of `FILES` with networks evaluated on an image set.

    Raises
    ------
    ConfigError
        If there are none.

    Examples
    --------
    >>> files_of("cifar10")
    ('cifar10', 'cifar10_extended')
    """
    if images not in ("cifar10", "imagenet"):
        raise ConfigError(f"images: results are published for cifar10 and imagenet, not for {images!r}")
    return ("cifar10", "cifar10_extended") if images == "cifar10" else ("imagenet",)


def checked_split(split: str) -> None:
    """Raise `ConfigError` if there are no published results for a split."""
    if split not in SIZES:
        raise ConfigError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")


def _names(images: str | None = None) -> str:
    return ", ".join(spec.name for file, spec in FILES.items() if images is None or file in files_of(images))
