"""The published results: the literature's own result files, read with their defects known, to compare with.

    published = load("folder")                   whichever of the four files are there
    print(*published.notes, sep="\\n")            what is missing, or differs from what was published
    accuracies(published, "cifar10")             mean, standard error and best network, per method and split
    print(*defects(), sep="\\n")                  what is wrong with the files
    targets("folder", "cifar10", "val")          what is predicted about networks from their graphs

The files are `results_cifar10.json`, `results_cifar10_extended.json` and `results_imagenet.json` of Knyazev et al.
(NeurIPS 2021), and `ghn3_results.json` of Knyazev et al. (ICML 2023).  They do not come with this toolkit.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.literature.files import FILES, SIZES, SPLITS, read_models, read_networks, read_text
from benchmark.literature.known_issues import Unusable, repair
from deepnets.support import ConfigError

__all__ = ["Published", "checked_split", "files_of", "load", "targets"]

TARGETS = ("val_acc", "val_acc_noise", "time", "converge_time", "test_acc", "params")


@dataclasses.dataclass(frozen=True)
class Published:
    """The published files of a folder.

    Attributes
    ----------
    folder
        Where they are.
    networks
        By the names of `FILES`, those that are there of "cifar10", "cifar10_extended" and "imagenet": one row per
        network with `split`, `index`, `params` (int64), `time`, `converge_time` and accuracies in percent (float64),
        whose columns are called as `ghn2_test_acc`, `mlp_val_acc_noise` or, for training with SGD, `sgd50_test_acc`
        after 50 epochs.  What a file does not have, or has wrong, is NaN.
    training
        Of the extended file: `split`, `index`, `epoch` (from 1), `loss` and `acc` while networks were trained; None
        without it.
    models
        Of "ghn3": one row per model of torchvision, `model` and the fields of the file; None without it.
    unusable
        What is NaN although the file has something there, and why.
    missing
        Names of the files that are not in the folder.
    notes
        In words: which files are missing, differ from the published ones or have fields that are not known.
    """

    folder: Path
    networks: dict[str, pd.DataFrame]
    training: pd.DataFrame | None
    models: pd.DataFrame | None
    unusable: tuple[Unusable, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def values(self, file: str, split: str, column: str) -> npt.NDArray[np.float64]:
        """A column for the networks of a split, by index, as float64.

        Raises
        ------
        ConfigError
            If there is no such file, split or column, or if its values cannot be used; the message says why.
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
        """The networks of a file.

        Raises
        ------
        ConfigError
            If it is not there.
        """
        if file not in FILES or file == "ghn3":
            raise ConfigError(f"file: expected one of {', '.join(list(FILES)[:3])}, got {file!r}")
        if file not in self.networks:
            raise ConfigError(f"{self.folder}: {FILES[file].name} is not there, which this needs")
        return self.networks[file]

    def why_unusable(self, file: str, split: str, column: str) -> str:
        """Why values of a file are NaN although it has something there; empty if it is not so."""
        return next((bad.reason for bad in self.unusable if bad[:3] == (file, split, column)), "")


def load(folder: Path | str) -> Published:
    """Read the published files of a folder; those that are missing are noted.

    Parameters
    ----------
    folder
        With one or more of the four files, under their published names.

    Raises
    ------
    ConfigError
        If there is no such folder, or none of the files in it.
    FormatError
        If a file is not as it should be: which, and where in it.  A file whose digest differs from the published one
        is read if it is, and noted.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; it should have {_names()}")
    present = [file for file, spec in FILES.items() if (folder / spec.name).exists()]
    if not present:
        raise ConfigError(f"{folder}: has none of {_names()}")
    missing = tuple(spec.name for file, spec in FILES.items() if file not in present)
    notes = [f"{name} is not in {folder}" for name in missing]
    networks: dict[str, pd.DataFrame] = {}
    unusable: list[Unusable] = []
    training = models = None
    for file in present:
        path = folder / FILES[file].name
        text, digest = read_text(path)
        if file == "ghn3":
            models, ignored = read_models(path, text)
        else:
            records, curves, ignored = read_networks(path, text, file)
            networks[file], bad = repair(records, file)
            unusable += bad
            training = curves if len(curves) else training
        if digest != FILES[file].sha256:
            notes.append(
                f"{path.name} is not the published file (SHA-256 {digest[:12]}..., not "
                f"{FILES[file].sha256[:12]}...); it is read as it is"
            )
        if ignored:
            notes.append(f"{path.name} has fields that are not known, which are not read: {_few(ignored)}")
    return Published(folder, networks, training, models, tuple(unusable), missing, tuple(notes))


def targets(folder: Path | str | Published, images: str, split: str) -> pd.DataFrame:
    """What is known about the networks of a split, for predicting it from their graphs.

    Parameters
    ----------
    folder
        Of the published files, or what `load` made of it.
    images
        "cifar10" (accuracies are top-1, after 50 epochs of SGD) or "imagenet" (top-5, after one).
    split
        One of `SPLITS`; published predictors of properties are fitted on "val" and judged on "test".

    Returns
    -------
    By index: `index` (int64), `val_acc` and `val_acc_noise` (on validation images, clean and noisy, percent), `time`
    (no documented unit), `converge_time` (a share of the training, 2 if it never got there), `test_acc` (percent) and
    `params` (int64).  What is not known is NaN.  `attrs["sources"]` says which file a column is from,
    `attrs["reasons"]` why one is NaN.  For CIFAR-10, `val` and `test` are those of the basic file, with which the
    published numbers were made; other splits are those of the extended file, which knows more about them.

    Raises
    ------
    ConfigError
        If there is no such split, or no file for these images.
    FormatError
        As `load`.
    """
    published = folder if isinstance(folder, Published) else load(folder)
    checked_split(split)
    files = [file for file in files_of(images) if file in published.networks]
    if split not in ("val", "test"):
        files.reverse()
    if not files:
        raise ConfigError(f"{published.folder}: no file has results on {images}; it should have {_names(images)}")
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
    """The names of the files with networks evaluated on these images.

    Raises
    ------
    ConfigError
        If there are none.
    """
    if images not in ("cifar10", "imagenet"):
        raise ConfigError(f"images: results are published for cifar10 and imagenet, not for {images!r}")
    return ("cifar10", "cifar10_extended") if images == "cifar10" else ("imagenet",)


def checked_split(split: str) -> None:
    """Make sure that there is such a split.

    Raises
    ------
    ConfigError
        If not.
    """
    if split not in SIZES:
        raise ConfigError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(reprlib.repr, names[:5])) + (", ..." if len(names) > 5 else "")


def _names(images: str | None = None) -> str:
    return ", ".join(spec.name for file, spec in FILES.items() if images is None or file in files_of(images))
