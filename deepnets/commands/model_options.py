"""Options that name a model of PyTorch: `--model`, `--model-kwarg` and `--input-size`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from deepnets.support import ListOption, positive

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["MODEL_FORMS", "add_model", "model_argument", "open_model"]

MODEL_FORMS = "torchvision:NAME, timm:NAME, or module:callable, whose code is executed"


def add_model(parser: Any, *, required: bool, purpose: str) -> None:
    """Add the options to a parser.

    Parameters
    ----------
    parser
        A parser, or an argument group.
    required
        Whether a model must be given.
    purpose
        Start of the help text, such as ``"the model"``.
    """
    parser.add_argument("--model", required=required, metavar="MODEL", help=f"{purpose}: {MODEL_FORMS}")
    parser.add_argument(
        "--model-kwarg",
        type=model_argument,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="keyword argument for the model; the value is JSON or else a string; may be repeated (default: none)",
    )
    parser.add_argument(
        "--input-size",
        action=ListOption,
        type=positive,
        metavar="N",
        help="shape of one input example, such as 3 224 224 (default: the usual shape for the model)",
    )


def model_argument(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; the value is JSON or else a string.

    Parameters
    ----------
    text
        The value of an option.

    Raises
    ------
    argparse.ArgumentTypeError
        If the text has another form.

    Examples
    --------
    >>> model_argument("width=3"), model_argument("norm=batch")
    (('width', 3), ('norm', 'batch'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def open_model(options: argparse.Namespace, *, meta: bool) -> tuple[nn.Module, Tensor | None]:
    """Build the model that the options name.

    Parameters
    ----------
    options
        The parsed options of `add_model`.
    meta
        Whether to build it without values of its parameters.

    Returns
    -------
    (torch.nn.Module, Tensor or None)
        The model, and an example of its input, float32 of shape ``(1, *input_size)``, if `--input-size` is given.

    Raises
    ------
    ConfigError
        If the model cannot be built.
    """
    import torch

    from deepnets.support import load_model

    example = torch.zeros(1, *options.input_size) if options.input_size else None
    return load_model(options.model, meta=meta, **dict(options.model_kwarg)), example
