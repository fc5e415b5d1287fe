"""Values of options that several commands share, as types for `argparse`.

A value that is not allowed is reported in one line, with exit status 2, before anything is read.
"""

from __future__ import annotations

import argparse
import re

from deepnets.support import ConfigError, number

__all__ = ["device", "indices", "metric_name", "seconds"]

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
    from benchmark.evaluation.machine import MAX_TIMEOUT

    value = number(text)
    if value > MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"expected {MAX_TIMEOUT:g} seconds or less, or 0 for no limit, got {text!r}")
    return value
