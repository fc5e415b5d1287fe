"""Families that are described by JSON files.

    {
      "name": "narrow",
      "model": "resnet",
      "rule": {
        "depths": {"repeat": 4, "of": {"from": 1, "to": 6}},
        "widths": {"repeat": 4, "of": {"from": 16, "to": 32}}
      },
      "sizes": ["widths"],
      "arguments": {"kernel_size": 3},
      "splits": {
        "train": {"size": 1000, "part": [0.2, 1]},
        "val": {"size": 100, "part": [0, 0.1], "distinct": true},
        "test": {"size": 100, "part": [0.1, 0.2], "distinct": true}
      }
    }

is a family as a JSON file; the splits are those that a family has by default.

Files are not trusted: they name base models that are known, and no code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepnets.families.family import Family, FamilySplit
from deepnets.families.models import check_model
from deepnets.support import ConfigError, FormatError, MissingDataError, abbreviated, parse_json, read_whole

__all__ = ["family_from_dict", "read_family"]

MAX_BYTES = 1 << 20


def family_from_dict(values: Any, where: str = "family") -> Family:
    """Return the family that a JSON document describes; it names no code but models that are known.

    Parameters
    ----------
    values : object
        The parsed document.
    where : str
        Its file, for error messages.

    Raises
    ------
    ConfigError
        If it does not describe a family.

    Examples
    --------
    >>> family_from_dict({"name": "one", "model": "resnet", "rule": {"depths": [2]}}).task
    'images'
    >>> family_from_dict({"name": "one", "model": "os:system", "rule": {"a": [1]}})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: family: model: 'os:system' is code, which a file cannot name; use one of ...
    """
    names = ("name", "model", "rule", "sizes", "arguments", "splits", "task")
    _check_keys(values, names, ("name", "model", "rule"), where)
    if not isinstance(values["model"], str):
        raise ConfigError(f"{where}: model: expected a text, got {abbreviated(values['model'])}")
    check_model(values["model"], where, allow_code=False)
    arguments = dict(values)
    if "splits" in values:
        if not isinstance(values["splits"], Mapping):
            raise ConfigError(f"{where}: splits: expected an object, got {abbreviated(values['splits'])}")
        splits = {}
        for name, split in values["splits"].items():
            fields = ("size", "part", "rule", "distinct", "configs", "names")
            _check_keys(split, fields, ("size",), f"{where}: split {name}")
            _check_configs(split.get("configs"), f"{where}: split {name}")
            try:
                splits[name] = FamilySplit(**split)
            except ConfigError as error:
                raise ConfigError(f"{where}: split {name}: {error}") from error
        arguments["splits"] = splits
    return Family(**arguments)


def read_family(path: Path | str) -> Family:
    """Read a family from a JSON file, which is not trusted: it names no code.

    Parameters
    ----------
    path
        The file, of at most 1 MiB.

    Raises
    ------
    MissingDataError, FormatError, ConfigError
        If there is no such file, it is not JSON, or it does not describe a family.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "narrow.json")
    ...     _ = path.write_text('{"name": "narrow", "model": "resnet", "rule": {"depths": [2], "widths": [8, 16]}}')
    ...     read_family(path).name
    'narrow'
    """
    path = Path(path)
    try:
        values = parse_json(read_whole(path, MAX_BYTES))
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: is not a JSON file of a family: {error}") from error
    return family_from_dict(values, str(path))


def _check_keys(values: Any, known: Sequence[str], required: Sequence[str], where: str) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected an object, got {abbreviated(values)}")
    if unknown := [key for key in values if key not in known]:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; valid keys are {', '.join(known)}")
    if missing := [key for key in required if key not in values]:
        raise ConfigError(f"{where}: has no {missing[0]!r}")


def _check_configs(configs: Any, where: str) -> None:
    if configs is not None and not (
        isinstance(configs, list) and configs and all(isinstance(c, dict) for c in configs)
    ):
        raise ConfigError(f"{where}: configs: expected a list of objects, got {abbreviated(configs)}")
