"""What is wrong with the published result files, and what is done about it.

Found by comparing the files with each other and with themselves.  Values that are copies of others are recognized by
that, so that a file in which they were repaired is read as it is.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.literature.files import FILES, IMAGE_FIELDS, METHODS, SIZES, SPLITS

__all__ = ["Defect", "Unusable", "defects", "repair"]


class Defect(NamedTuple):
    """Something that is wrong with a published file, or easily misread.

    Attributes
    ----------
    file
        Its name.
    where
        Splits and fields.
    what
        What is wrong.
    handling
        What this toolkit does about it.
    """

    file: str
    where: str
    what: str
    handling: str

    def __str__(self) -> str:
        text = f"{self.file}, {self.where}: {self.what}.  {self.handling}."
        return textwrap.fill(text, 98, initial_indent="* ", subsequent_indent="  ", break_long_words=False)


class Unusable(NamedTuple):
    """Values of a file that are NaN here because they are not what their name says.

    Attributes
    ----------
    file
        The name the file has here, as "cifar10_extended".
    split, column
        Which values.
    reason
        What they are instead.
    """

    file: str
    split: str
    column: str
    reason: str


BASIC, EXTENDED, IMAGENET, GHN3 = (FILES[file].name for file in ("cifar10", "cifar10_extended", "imagenet", "ghn3"))

_DEFECTS = (
    Defect(
        EXTENDED,
        "wide, deep, dense, bnfree and predefined: val_acc, val_acc_noise, test_acc_noise",
        "the curves of networks trained with SGD are copies of those of the first networks of test (that of ResNet-50 "
        "belongs to network 0 of test)",
        "They are NaN; test_acc, training_loss, training_acc, params, time and converge_time are real",
    ),
    Defect(
        EXTENDED,
        "deep, dense and bnfree: val_acc, val_acc_noise, test_acc_noise of ghn1 and mlp",
        "the values are copies of those of ghn2",
        "They are NaN; test_acc is real, and so is all of wide and predefined",
    ),
    Defect(
        BASIC,
        "val: mlp_test_acc, ghn1_test_acc, ghn2_test_acc",
        "these accuracies are on validation images (they equal val_acc of the extended file for 93 to 97 % of the "
        "networks, are never more than 0.10 apart, and up to 2.6 away from its test_acc)",
        "They are read as mlp_val_acc, ghn1_val_acc, ghn2_val_acc",
    ),
    Defect(
        f"{BASIC} and {EXTENDED}",
        "accuracies of predicted parameters",
        "measured twice: test_acc differs by up to 0.03, for two networks of wide by up to 1.63 (ghn1), 1.20 (ghn2) "
        "and 0.57 (mlp); noisy accuracies were measured with other noise (at worst 38.54 and 46.16, network 414 of "
        "test, SGD, validation images); time was measured again for wide, deep, dense and bnfree",
        "Tables say which file they are from",
    ),
    Defect(
        BASIC,
        "predefined: test_acc",
        "rounded to one decimal",
        "The extended file is preferred",
    ),
    Defect(
        EXTENDED,
        "training_loss",
        "a last value of the epoch, with its noise, not an average",
        "Read as it is",
    ),
    Defect(
        f"{BASIC} and {EXTENDED}",
        "test_acc after 1 to 40 epochs",
        "points on the way of one training of 50 epochs with a cosine schedule, not short trainings of their own",
        "Named by their epoch",
    ),
    Defect(
        f"{BASIC} and {EXTENDED}",
        "networks that SGD could not train",
        "exactly 10.00 after 50 epochs: 2 networks of val, 2 of test, 2 of wide, 1 of deep, 1 of dense, 50 of bnfree",
        "They count as all others, as in the published averages",
    ),
    Defect(
        f"{BASIC}, {EXTENDED} and {IMAGENET}",
        "time, converge_time",
        "time has no documented unit (its size fits seconds per pass over the evaluation images); converge_time is a "
        "share of the training, 2 if it never got there; for val and test it is of another run than the curves",
        "Read as they are; rank correlations must be those for ties",
    ),
    Defect(
        IMAGENET,
        "val: ghn1_test_acc, ghn2_test_acc",
        "nothing in the files tells whether these are on test or, as in the basic file of CIFAR-10, on validation "
        "images",
        "Read under the name they have",
    ),
    Defect(
        IMAGENET,
        "predefined: ghn2_test_acc",
        "5.22 for ResNet-50, where the published text has 5.3 (and once 5.2)",
        "Read as it is",
    ),
    Defect(
        GHN3,
        "all of it",
        "JSON line by line, with numbers as texts; a prefix such as ghn3 also fits ghn3-t",
        "Fields are looked up by their full names",
    ),
)


def defects() -> tuple[Defect, ...]:
    """What is wrong with the published files, in words: `print(*defects(), sep="\\n")`."""
    return _DEFECTS


def repair(records: pd.DataFrame, file: str) -> tuple[pd.DataFrame, tuple[Unusable, ...]]:
    """Give values the names of what they are, and make NaN of those that are copies of others.

    Parameters
    ----------
    records
        What `read_networks` made of the file.
    file
        The name it has here, as "cifar10_extended".

    Returns
    -------
    The table, and what became NaN in it; a field is a copy if most of a split is.
    """
    records = records.copy()
    if file == "cifar10":
        val = records["split"] == "val"
        for method in METHODS:
            records[f"{method}_val_acc"] = records[f"{method}_test_acc"].where(val)
            records[f"{method}_test_acc"] = records[f"{method}_test_acc"].mask(val)
    if file != "cifar10_extended":
        return records, ()
    found = []
    parts = {split: records[records["split"] == split] for split in SPLITS}
    for split, rows in parts.items():
        for field in IMAGE_FIELDS:
            if split not in ("val", "test") and field != "test_acc":
                curves = [f"sgd{epoch}_{field}" for epoch in FILES[file].epochs]
                if _copied(rows[curves], parts["test"][curves][: SIZES[split]]):
                    reason = f"a copy of the {field} of the first networks of test"
                    found += [Unusable(file, split, column, reason) for column in curves]
            for method in METHODS[:2]:
                column, original = f"{method}_{field}", f"ghn2_{field}"
                if _copied(rows[[column]], rows[[original]]):
                    found.append(Unusable(file, split, column, f"a copy of {original}"))
    for bad in found:
        records.loc[records["split"] == bad.split, bad.column] = np.nan
    return records, tuple(found)


def _copied(rows: pd.DataFrame, originals: pd.DataFrame) -> bool:
    same = (rows.to_numpy() == originals.to_numpy()).all(axis=1)
    return bool(same.mean() > 0.5)
