"""Known issues of the published result files, and how this package handles them.

They were found by comparing the files with each other and with themselves.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.literature.files import FILES, METHODS

__all__ = ["KnownIssue", "Unusable", "correct", "list_known_issues"]


class KnownIssue(NamedTuple):
    """A value of a published file that is wrong or easily misread.

    Attributes
    ----------
    file
        Name of the file.
    where
        Splits and fields.
    what
        The issue.
    handling
        How this package reads the values.
    """

    file: str
    where: str
    what: str
    handling: str

    def __str__(self) -> str:
        text = f"{self.file}, {self.where}: {self.what}.  {self.handling}."
        return textwrap.fill(text, 98, initial_indent="* ", subsequent_indent="  ", break_long_words=False)


class Unusable(NamedTuple):
    """Values of a file that are read as NaN, because they are not what their name says.

    Attributes
    ----------
    file
        One of `FILES`, such as "cifar10_extended".
    split, column
        Split and column of the values.
    reason
        What the values are instead.
    """

    file: str
    split: str
    column: str
    reason: str


BASIC, EXTENDED, IMAGENET, GHN3 = (FILES[file].name for file in ("cifar10", "cifar10_extended", "imagenet", "ghn3"))

_COPIED_FIELDS = ("val_acc", "val_acc_noise", "test_acc_noise")

_ISSUES = (
    KnownIssue(
        EXTENDED,
        "wide, deep, dense, bnfree and predefined: val_acc, val_acc_noise, test_acc_noise",
        "the curves of networks trained with SGD are copies of the curves of the first networks of test (for "
        "ResNet-50, of network 0 of test)",
        "They are NaN; test_acc, training_loss, training_acc, params, time and converge_time are usable",
    ),
    KnownIssue(
        EXTENDED,
        "deep, dense and bnfree: val_acc, val_acc_noise, test_acc_noise of ghn1 and mlp",
        "the values are copies of those of ghn2",
        "They are NaN; test_acc is usable, and so are all values of wide and predefined",
    ),
    KnownIssue(
        BASIC,
        "val: mlp_test_acc, ghn1_test_acc, ghn2_test_acc",
        "these accuracies are on validation images (they equal val_acc of the extended file for 93 to 97 % of the "
        "networks, differ from it by at most 0.10, and from its test_acc by up to 2.6)",
        "They are read as mlp_val_acc, ghn1_val_acc, ghn2_val_acc",
    ),
    KnownIssue(
        f"{BASIC} and {EXTENDED}",
        "accuracies of predicted parameters",
        "measured twice: test_acc differs by up to 0.03, for two networks of wide by up to 1.63 (ghn1), 1.20 (ghn2) "
        "and 0.57 (mlp); noisy accuracies were measured with different noise (largest difference: 38.54 and 46.16 for "
        "network 414 of test, SGD, validation images); time was measured again for wide, deep, dense and bnfree",
        "Tables say which file they are from",
    ),
    KnownIssue(
        BASIC,
        "predefined: test_acc",
        "rounded to one decimal",
        "The extended file is preferred",
    ),
    KnownIssue(
        EXTENDED,
        "training_loss",
        "the value of the last batch of the epoch, not an average over the epoch",
        "Read as it is",
    ),
    KnownIssue(
        f"{BASIC} and {EXTENDED}",
        "test_acc after 1 to 40 epochs",
        "intermediate results of one training of 50 epochs with a cosine schedule, not separate short trainings",
        "Named by their epoch",
    ),
    KnownIssue(
        f"{BASIC} and {EXTENDED}",
        "networks that SGD could not train",
        "exactly 10.00 after 50 epochs: 2 networks of val, 2 of test, 2 of wide, 1 of deep, 1 of dense, 50 of bnfree",
        "Included in all averages, as in the published ones",
    ),
    KnownIssue(
        f"{BASIC}, {EXTENDED} and {IMAGENET}",
        "time, converge_time",
        "time has no documented unit (its magnitude fits seconds per pass over the evaluation images); converge_time "
        "is a fraction of the training, or 2 for a training that did not converge; for val and test it is of another "
        "training than the curves",
        "Read as they are; rank correlations need a variant that handles ties",
    ),
    KnownIssue(
        IMAGENET,
        "val: ghn1_test_acc, ghn2_test_acc",
        "the files do not show whether these are on test images or, as in the basic file of CIFAR-10, on validation "
        "images",
        "Read under the name in the file",
    ),
    KnownIssue(
        IMAGENET,
        "predefined: ghn2_test_acc",
        "5.22 for ResNet-50, where the published text says 5.3 (and once 5.2)",
        "Read as it is",
    ),
    KnownIssue(
        GHN3,
        "all fields",
        "one JSON object per line, with numbers as strings; a prefix such as ghn3 also matches ghn3-t",
        "Fields are accessed by their full names",
    ),
)


def list_known_issues() -> tuple[KnownIssue, ...]:
    """Return the known issues of the published files.

    Examples
    --------
    >>> list_known_issues()[4].what
    'rounded to one decimal'
    """
    return _ISSUES


def correct(records: pd.DataFrame, file: str) -> tuple[pd.DataFrame, tuple[Unusable, ...]]:
    """Rename mislabelled values, and replace copied values by NaN.

    Parameters
    ----------
    records
        The result of `read_networks`.
    file
        One of `FILES`, such as "cifar10_extended".

    Returns
    -------
    records
        The corrected table.
    unusable
        The values that were replaced by NaN.
    """
    records = records.copy()
    if file == "cifar10":
        val = records["split"] == "val"
        for method in METHODS:
            records[f"{method}_val_acc"] = records[f"{method}_test_acc"].where(val)
            records[f"{method}_test_acc"] = records[f"{method}_test_acc"].mask(val)
    found = []
    if file == "cifar10_extended":
        for field in _COPIED_FIELDS:
            for split in ("wide", "deep", "dense", "bnfree", "predefined"):
                reason = f"a copy of the {field} of the first networks of test"
                found += [Unusable(file, split, f"sgd{epoch}_{field}", reason) for epoch in FILES[file].epochs]
            for split in ("deep", "dense", "bnfree"):
                reason = f"a copy of ghn2_{field}"
                found += [Unusable(file, split, f"{method}_{field}", reason) for method in METHODS[:2]]
    for values in found:
        records.loc[records["split"] == values.split, values.column] = np.nan
    return records, tuple(found)
