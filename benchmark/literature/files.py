"""The published result files as tables.

Three files contain one record per network of the evaluation splits of DeepNets-1M (Knyazev et al., NeurIPS 2021), one
contains one line per model of torchvision (Knyazev et al., ICML 2023).  They do not come with this toolkit.  Only the
published files are read, which are identified by their SHA-256 digests.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from deepnets.support import FormatError

__all__ = [
    "DIGESTS",
    "FILES",
    "METHODS",
    "SIZES",
    "SPLITS",
    "PublishedFile",
    "read_file",
    "read_models",
    "read_networks",
]

SIZES = {"val": 500, "test": 500, "wide": 100, "deep": 100, "dense": 100, "bnfree": 100, "predefined": 2}
"""Number of networks per split; the networks of `predefined` are ResNet-50 and ViT."""

SPLITS = tuple(SIZES)
METHODS = ("mlp", "ghn1", "ghn2")
IMAGE_FIELDS = ("val_acc", "test_acc", "val_acc_noise", "test_acc_noise")
"""Fields of accuracies: on validation or test images, clean or noisy."""

_MAX_BYTES = 8 << 20  # the largest published file has 2 MB


class PublishedFile(NamedTuple):
    """A published file.

    Attributes
    ----------
    name
        File name.
    images
        Image set: "cifar10" (top-1 accuracies) or "imagenet" (top-5; top-1 for models of torchvision).
    epochs
        Epochs of SGD after which trained networks were evaluated.
    """

    name: str
    images: str
    epochs: tuple[int, ...]


FILES = {
    "cifar10": PublishedFile("results_cifar10.json", "cifar10", (50,)),
    "cifar10_extended": PublishedFile("results_cifar10_extended.json", "cifar10", (1, 5, 10, 20, 30, 40, 50)),
    "imagenet": PublishedFile("results_imagenet.json", "imagenet", (1,)),
    "ghn3": PublishedFile("ghn3_results.json", "imagenet", ()),
}
"""The published files, by the names that this package uses."""

DIGESTS = {
    "4bbc3038f6a8d45a20060b2c92d974067d3e6a79358f3f4eb27ea3d69438c3eb": "cifar10",
    "9ddf3d0cb57d7b14a9bb16dd1878b2a79f77ad9efd2deba637e05d946316a34d": "cifar10_extended",
    "5fe65c9161e8591ae53c9bc6d2338f34fe9537110a76767babd8bcfbe29aa6f2": "imagenet",
    "2b434720304c8ee8bb68fe69c7e1952d5451523ccf5ef5dcc389faf134c8fd5c": "ghn3",
}
"""SHA-256 digests of the published files."""


def read_file(folder: Path, file: str) -> str:
    """Return the text of a published file.

    Parameters
    ----------
    folder
        The folder that contains the file.
    file
        One of `FILES`.

    Raises
    ------
    FormatError
        If the file is not the published one.
    """
    path = folder / FILES[file].name
    content = path.read_bytes() if path.is_file() and path.stat().st_size <= _MAX_BYTES else b""
    digest = hashlib.sha256(content).hexdigest()
    if DIGESTS.get(digest) != file:
        raise FormatError(
            f"{path}: is not the published file (SHA-256 digest {digest[:12]}...); download it again, or remove it"
        )
    return content.decode()


def read_networks(text: str, file: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the records of networks.

    Parameters
    ----------
    text
        Text of the file.
    file
        "cifar10", "cifar10_extended" or "imagenet".

    Returns
    -------
    records
        One row per network: `split`, `index`, `params` (int64), `time`, `converge_time`, and accuracies in percent, NaN
        where the file has none.  Columns of accuracies are named METHOD_FIELD, such as `ghn2_test_acc`;
        `sgd50_test_acc` belongs to networks trained with SGD for 50 epochs.
    curves
        One row per network and epoch: `split`, `index`, `epoch` (from 1), `loss`, `acc`; empty but for the extended
        file.
    """
    epochs = FILES[file].epochs
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    networks = json.loads(text)
    for split, size in SIZES.items():
        for index in range(size):
            record = networks[split][str(index)]
            row = {"split": split, "index": index, "params": record["params"], "time": float(record["time"])}
            row["converge_time"] = float(record.get("converge_time", math.nan))
            for field, value in record.items():
                if field in IMAGE_FIELDS:
                    values = value if isinstance(value, list) else [value]
                    row |= {f"sgd{epoch}_{field}": float(v) for epoch, v in zip(epochs, values, strict=True)}
                elif field.endswith(IMAGE_FIELDS):
                    row[field] = float(value)
            rows.append(row)
            training = zip(record.get("training_loss", ()), record.get("training_acc", ()), strict=True)
            curves += [
                {"split": split, "index": index, "epoch": epoch, "loss": loss, "acc": acc}
                for epoch, (loss, acc) in enumerate(training, 1)
            ]
    return pd.DataFrame(rows), pd.DataFrame(curves, columns=["split", "index", "epoch", "loss", "acc"])


def read_models(text: str) -> pd.DataFrame:
    """Return the models of `ghn3_results.json`, which contains one object per line and numbers as strings.

    Returns
    -------
    One row per model, in the order of the file: `model` and the fields of the file, such as `ghn3-sgd1ep`: top-1
    accuracies on ImageNet in percent without training ("ghn2"), after epochs of SGD, or fully trained ("sota"), and
    norms of parameters and gradients.
    """
    rows = []
    for line in filter(str.strip, text.split("\n")):
        for model, fields in json.loads(line).items():
            rows.append({"model": model, **{name: float(value) for name, value in fields.items()}})
    return pd.DataFrame(rows)
