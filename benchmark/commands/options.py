"""Values of options that several commands share, as types for `argparse`.

A value that is not allowed is reported in one line, with exit status 2, before anything is read.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Sequence
from typing import Any

from benchmark.choices import MAX_TIMEOUT
from deepnets.support import ConfigError, install_command, missing_dependency, number, positive

__all__ = [
    "add_text_options",
    "check_splits",
    "device",
    "device_of_any_machine",
    "indices",
    "installed_splits",
    "metric_name",
    "seconds",
    "task_data",
]

_PIECE = re.compile(r"\d+|\d*:\d*|[A-Za-z_][\w.\-]*")


def device(text: str) -> str:
    """Check a device of PyTorch on which networks can run.

    Raises
    ------
    argparse.ArgumentTypeError
        If the device does not exist, or holds no values.

    Examples
    --------
    >>> device("cpu")
    'cpu'
    """
    from benchmark.evaluation.machine import checked_device

    try:
        return checked_device(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("device: ")) from error


def device_of_any_machine(text: str) -> str:
    """Check a device as `device` does, but leave GPUs to `benchmark.evaluation.Machine`: a cluster can have others.

    Examples
    --------
    >>> device_of_any_machine("cuda:7")
    'cuda:7'
    """
    return text if re.fullmatch(r"cuda(:\d+)?", text) else device(text)


def indices(text: str) -> str:
    """Check a selection of networks, as for `benchmark.evaluation.select_networks`.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text does not consist of indices, ranges and names.

    Examples
    --------
    >>> indices("3,17"), indices("0:5,resnet50")
    ('3,17', '0:5,resnet50')
    """
    if not all(_PIECE.fullmatch(piece) for piece in text.split(",")):
        raise argparse.ArgumentTypeError(
            f"expected numbers and ranges as in 0:10 or 3,5,20:, or names such as resnet50, got {text!r}"
        )
    return text


def metric_name(text: str) -> str:
    """Return the name of a metric.

    Parameters
    ----------
    text
        As for `get_metric`.

    Examples
    --------
    >>> metric_name("top5")
    'top5'
    """
    from benchmark.metrics import get_metric  # imports PyTorch

    try:
        return get_metric(text).name
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def installed_splits(splits: Sequence[str]) -> list[str]:
    """Return the splits that can be evaluated with what is installed; a note on stderr names what is left out.

    The ResNet-50 of the split `predefined` is built by torchvision, which is optional.

    Parameters
    ----------
    splits
        Names of splits that the user did not ask for, but that are the default of a command.

    Examples
    --------
    >>> installed_splits(["test", "wide"])
    ['test', 'wide']
    """
    if "predefined" not in splits or importlib.util.find_spec("torchvision") is not None:
        return list(splits)
    print(
        f"note: torchvision is not installed, so the split predefined is left out; {install_command('vision')} adds it",
        file=sys.stderr,
    )
    return [split for split in splits if split != "predefined"]


def check_splits(splits: Sequence[str]) -> list[str]:
    """Return the splits that a user asks for, all of which must work with what is installed.

    Raises
    ------
    MissingDependencyError
        If the split `predefined` is asked for, and torchvision is not installed.

    Examples
    --------
    >>> check_splits(["test", "wide"])
    ['test', 'wide']
    """
    if "predefined" in splits and importlib.util.find_spec("torchvision") is None:
        raise missing_dependency("torchvision")
    return list(splits)


def seconds(text: str) -> float:
    """Parse a time limit in seconds; 0 for none.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is no number, or the number is too large for a clock.

    Examples
    --------
    >>> seconds("0.5")
    0.5
    """
    value = number(text)
    if value > MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"expected {MAX_TIMEOUT:g} seconds or less, or 0 for no limit, got {text!r}")
    return value


def add_text_options(parser: Any) -> None:
    """Add the options of `--task text` to a parser or to a group of its options.

    Parameters
    ----------
    parser
        The `argparse.ArgumentParser`, or one of its groups.
    """
    parser.add_argument(
        "--texts",
        metavar="NAME",
        help="--task text: python, text:PATH, wikitext:PATH or module:attribute (default: python)",
    )
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="--task text: bytes, or a file tokenizer.json (default: bytes)"
    )
    parser.add_argument("--sequence-length", type=positive, metavar="N", help="--task text: tokens (default: 64)")


def task_data(options: argparse.Namespace) -> tuple[str, dict[str, Any] | None]:
    """Return the name of the data of a task, and for texts the options to open them with.

    Parameters
    ----------
    options
        Parsed options with `task`, `images`, `texts`, `tokenizer` and `sequence_length`.

    Returns
    -------
    (str, dict or None)
        The name of the image set and None, or the name of the text and its options.

    Raises
    ------
    ConfigError
        If the task is unknown, an option is for another task, or the text has no known form.

    Examples
    --------
    >>> given = {"texts": None, "tokenizer": None, "sequence_length": 32}
    >>> task_data(argparse.Namespace(task="text", images="digits", **given))
    ('python', {'tokenizer': 'bytes', 'sequence_length': 32})
    """
    from deepnets.data import check_text_name
    from ghn_model.tasks import get_task

    given = {name: getattr(options, name) for name in ("texts", "tokenizer", "sequence_length")}
    if get_task(options.task).examples != "sequences":
        for name, value in given.items():
            if value is not None:
                raise ConfigError(f"--{name.replace('_', '-')}: is for --task text")
        return str(options.images), None
    if options.images != "digits":
        raise ConfigError(f"--images: is for images, not for --task {options.task}; use --texts")
    settings = {"tokenizer": given["tokenizer"] or "bytes", "sequence_length": given["sequence_length"] or 64}
    return check_text_name(given["texts"] or "python"), settings
