"""Reading the published result files: what is in them, checked value by value, as tables with clear names.

Three files hold one record per network of the evaluation splits of DeepNets-1M (Knyazev et al., NeurIPS 2021), one
holds one line per model of torchvision (Knyazev et al., ICML 2023).  None of them comes with this toolkit.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pandas as pd

from deepnets.support import FormatError

__all__ = ["FILES", "METHODS", "SIZES", "SPLITS", "PublishedFile", "read_models", "read_networks", "read_text"]

SIZES = {"val": 500, "test": 500, "wide": 100, "deep": 100, "dense": 100, "bnfree": 100, "predefined": 2}
"""The splits, and how many networks each has; those of `predefined` are ResNet-50 and ViT."""

SPLITS = tuple(SIZES)
METHODS = ("mlp", "ghn1", "ghn2")
IMAGE_FIELDS = ("val_acc", "test_acc", "val_acc_noise", "test_acc_noise")
"""What is measured: on validation or test images, clean or noisy."""

_IN_DISTRIBUTION = ("val", "test")
_MODELS = 74
_MODEL_FIELDS = (
    *("ghn2", "ghn3-t", "ghn3", "ghn3-sgd1ep", "ghn3-sgd10ep", "randinit-sgd1ep", "randinit-sota"),
    *("ghn2-paramnorm", "ghn3-t-paramnorm", "ghn3-paramnorm", "randinit-paramnorm", "randinit-gradnorm"),
)
_MAX_BYTES = 64 << 20  # the largest file has 2 MB
_TRAINING = ("training_loss", "training_acc")
_EPOCHS = 50  # of the curves of training


class PublishedFile(NamedTuple):
    """A published file.

    Attributes
    ----------
    name, sha256
        Of the file as it was published.
    images
        What the accuracies are on, "cifar10" (top-1) or "imagenet" (top-5; of models of torchvision, top-1).
    epochs
        Those after which the networks trained with SGD were evaluated.
    """

    name: str
    sha256: str
    images: str
    epochs: tuple[int, ...]


FILES = {
    "cifar10": PublishedFile(
        "results_cifar10.json", "4bbc3038f6a8d45a20060b2c92d974067d3e6a79358f3f4eb27ea3d69438c3eb", "cifar10", (50,)
    ),
    "cifar10_extended": PublishedFile(
        "results_cifar10_extended.json",
        "9ddf3d0cb57d7b14a9bb16dd1878b2a79f77ad9efd2deba637e05d946316a34d",
        "cifar10",
        (1, 5, 10, 20, 30, 40, 50),
    ),
    "imagenet": PublishedFile(
        "results_imagenet.json", "5fe65c9161e8591ae53c9bc6d2338f34fe9537110a76767babd8bcfbe29aa6f2", "imagenet", (1,)
    ),
    "ghn3": PublishedFile(
        "ghn3_results.json", "2b434720304c8ee8bb68fe69c7e1952d5451523ccf5ef5dcc389faf134c8fd5c", "imagenet", ()
    ),
}
"""The four files by the names they have here."""


# --- files ---


def read_text(path: Path) -> tuple[str, str]:
    """The text of a file, and its SHA-256.

    Raises
    ------
    FormatError
        If it is no regular file, is not UTF-8, or is far larger than what was published.
    """
    if not path.is_file():
        raise FormatError(f"{path}: expected a file")
    with path.open("rb") as stream:
        content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise FormatError(f"{path}: has more than {_MAX_BYTES >> 20} MB; the published file has no more than 2")
    try:
        return content.decode(), hashlib.sha256(content).hexdigest()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: byte {error.start:,} is not part of a text in UTF-8") from None


def read_networks(path: Path, text: str, file: str) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """The records of networks in a file.

    Parameters
    ----------
    path
        Of the file, for messages.
    text
        What is in it.
    file
        "cifar10", "cifar10_extended" or "imagenet".

    Returns
    -------
    records
        One row per network: `split`, `index`, `params`, `time`, `converge_time` and accuracies in percent, NaN where
        the file has none.  A column is called METHOD_FIELD, as `ghn2_test_acc`, where `sgd50_test_acc` is that of the
        network trained for 50 epochs.
    training
        One row per network and epoch: `split`, `index`, `epoch` (from 1), `loss`, `acc`; empty but for the extended
        file.
    ignored
        Fields of the file that are not known.

    Raises
    ------
    FormatError
        If anything is not as it should be; the message says where.
    """
    spec, extended = FILES[file], file == "cifar10_extended"
    splits = _mapping(_parse(text, str(path)), str(path))
    if unknown := [name for name in splits if name not in SIZES]:
        raise FormatError(f"{path}: {_short(unknown[0])} is none of the splits {', '.join(SPLITS)}")
    rows: list[dict[str, Any]] = []
    training: list[dict[str, Any]] = []
    ignored: dict[str, None] = {}
    for split, size in SIZES.items():
        place = f"{path}: split {split!r}"
        if split not in splits:
            raise FormatError(f"{path}: has no split {split!r}")
        networks = _mapping(splits[split], place)
        if len(networks) != size or any(str(index) not in networks for index in range(size)):
            raise FormatError(f'{place}: expected {size} networks, "0" to "{size - 1}", got {len(networks)}')
        known = _fields(file, split)
        for index in range(size):
            where = f"{place}, network {index}"
            record = _mapping(networks[str(index)], where)
            ignored.update(dict.fromkeys(name for name in record if name not in known))
            values = _Values(record, where)
            row: dict[str, Any] = {"split": split, "index": index, "params": values.count("params")}
            row |= {"time": values.number("time"), "converge_time": math.nan}
            if "converge_time" in known:
                row["converge_time"] = values.number("converge_time", most=2)
            for field in known:
                if field in IMAGE_FIELDS:
                    numbers = values.numbers(field, len(spec.epochs), 100) if extended else [values.percent(field)]
                    row |= {f"sgd{epoch}_{field}": number for epoch, number in zip(spec.epochs, numbers, strict=True)}
                elif field.endswith(IMAGE_FIELDS):
                    row[field] = values.percent(field)
            rows.append(row)
            if extended:
                losses, accuracies = values.numbers(_TRAINING[0], _EPOCHS), values.numbers(_TRAINING[1], _EPOCHS, 100)
                training += [
                    {"split": split, "index": index, "epoch": epoch, "loss": loss, "acc": accuracy}
                    for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), 1)
                ]
    records = pd.DataFrame(rows)
    curves = pd.DataFrame(training, columns=["split", "index", "epoch", "loss", "acc"])
    return records, curves, tuple(ignored)


def read_models(path: Path, text: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The models in `ghn3_results.json`, which has one object per line, and numbers as strings.

    Parameters
    ----------
    path
        Of the file, for messages.
    text
        What is in it.

    Returns
    -------
    models
        One row per model, in the order of the file: `model` and the fields, as `ghn3-sgd1ep`: top-1 accuracies on
        ImageNet in percent without training ("ghn2"), after epochs of SGD or fully trained ("sota"), and norms.
    ignored
        Fields of the file that are not known.

    Raises
    ------
    FormatError
        If anything is not as it should be; the message says where.
    """
    rows: dict[str, dict[str, Any]] = {}
    ignored: dict[str, None] = {}
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        place = f"{path}: line {line}"
        for model, fields in _mapping(_parse(content, place), place).items():
            where = f"{place}, model {_short(model)}"
            if not re.fullmatch(r"\w{1,40}", model, re.ASCII):
                raise FormatError(f"{where}: expected a name of letters, digits and _, no more than 40")
            if model in rows:
                raise FormatError(f"{where}: the model is there twice")
            record = _mapping(fields, where)
            ignored.update(dict.fromkeys(name for name in record if name not in _MODEL_FIELDS))
            values = _Values(record, where)
            numbers = {name: values.text(name, math.inf if "norm" in name else 100) for name in _MODEL_FIELDS}
            rows[model] = {"model": model, **numbers}
    if len(rows) != _MODELS:
        raise FormatError(f"{path}: expected {_MODELS} models, got {len(rows)}")
    return pd.DataFrame(list(rows.values())), tuple(ignored)


def _fields(file: str, split: str) -> tuple[str, ...]:
    """The fields of the records of a split, in the names of the file."""
    common = ("params", "time")
    if file == "cifar10_extended":
        predicted = tuple(f"{method}_{field}" for method in METHODS for field in IMAGE_FIELDS)
        return (*common, "converge_time", *IMAGE_FIELDS, *predicted, *_TRAINING)
    methods = METHODS if file == "cifar10" else METHODS[1:]
    names = (*common, "test_acc", *(f"{method}_test_acc" for method in methods))
    if split in _IN_DISTRIBUTION:
        names += ("converge_time", "val_acc", "val_acc_noise", *(["test_acc_noise"] if file == "cifar10" else []))
    return names


# --- JSON from strangers ---


class _Values:
    """The values of a record, each checked when it is asked for."""

    def __init__(self, record: dict[str, Any], where: str) -> None:
        self._record = record
        self._where = where

    def number(self, field: str, most: float = math.inf) -> float:
        """A number from 0 to `most`."""
        value = self._get(field)
        return self._checked(value, field, most)

    def percent(self, field: str) -> float:
        """An accuracy."""
        return self.number(field, 100)

    def numbers(self, field: str, length: int, most: float = math.inf) -> list[float]:
        """A list of numbers from 0 to `most`."""
        value = self._get(field)
        if not isinstance(value, list) or len(value) != length:
            got = f"{len(value)}" if isinstance(value, list) else _short(value)
            self._refuse(field, f"a list of {length} numbers", got)
        return [self._checked(item, f"{field}[{i}]", most) for i, item in enumerate(value)]

    def count(self, field: str) -> int:
        """An integer from 1 on that an int64 can hold."""
        value = self._get(field)
        if type(value) is not int or not 0 < value < 2**63:
            self._refuse(field, "an integer above 0", _short(value))
        return value

    def text(self, field: str, most: float) -> float:
        """A number from 0 to `most` that is written as a text."""
        value = self._get(field)
        if not isinstance(value, str) or not re.fullmatch(r"\d{1,15}(\.\d{1,15})?", value, re.ASCII):
            self._refuse(field, "a decimal number as a text", _short(value))
        return self._checked(float(value), field, most)

    def _get(self, field: str) -> Any:
        if field not in self._record:
            raise FormatError(f"{self._where}: has no field {field!r}")
        return self._record[field]

    def _checked(self, value: Any, field: str, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most or value == math.inf:
            upper = "" if most == math.inf else f" to {most:g}"
            self._refuse(field, f"a number from 0{upper or ' on'}", _short(value))
        return float(value)

    def _refuse(self, field: str, expected: str, got: str) -> NoReturn:
        raise FormatError(f"{self._where}, field {field!r}: expected {expected}, got {got}")


def _parse(text: str, place: str) -> Any:
    """What a JSON text says, which must be plain: no NaN, no key twice, no number beyond those of a computer."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
    except RecursionError:
        raise FormatError(f"{place}: is nested too deeply") from None
    except ValueError as error:
        raise FormatError(f"{place}: is not JSON that can be read: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError(f"the key {_short(next(_repeated(pairs)))} is there twice")
    return made


def _repeated(pairs: list[tuple[str, Any]]) -> Iterator[str]:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            yield key
        seen.add(key)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _integer(text: str) -> int:
    if len(text) > 19:
        raise ValueError(f"an integer of {len(text):,} characters")
    return int(text)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{where}: expected an object, got {_short(value)}")
    return value


def _short(value: Any) -> str:
    return reprlib.repr(value)
