"""`python -m ghn_model predict`: predict the parameters of a model and write them to a file."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from deepnets.support import ConfigError, atomic_write, output_path, positive

__all__ = ["add_arguments", "model_argument", "run", "vocabulary_argument"]


def add_arguments(commands: Any) -> None:
    """Add the command to `commands`, the result of `argparse.ArgumentParser.add_subparsers`."""
    parser = commands.add_parser(
        "predict", help="predict the parameters of a model and write them to a safetensors file"
    )
    parser.add_argument(
        "--model",
        required=True,
        help="the model: module:callable, such as torchvision.models:resnet50, or timm:NAME; its code is executed",
    )
    parser.add_argument(
        "--model-kwarg",
        type=model_argument,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="keyword argument for the callable; the value is JSON or else a string; may be repeated",
    )
    parser.add_argument("--checkpoint", required=True, help="name of a bundled hypernetwork (see list), or a file")
    parser.add_argument("--out", required=True, type=output_path, help="output file (.safetensors)")
    parser.add_argument(
        "--input-size",
        type=positive,
        nargs="+",
        metavar="N",
        help="shape of one input example, such as 3 224 224 (default: the usual shape for the model)",
    )
    parser.add_argument(
        "--no-class-layers", action="store_true", help="do not predict the layers whose outputs are the classes"
    )
    parser.add_argument(
        "--vocabulary",
        type=vocabulary_argument,
        metavar="NAME",
        help="nodes of the traced graph: complete, ghn3, ppuda or logah (default: that of the checkpoint)",
    )
    parser.add_argument(
        "--report",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print the origin and norm of every parameter, or write them to FILE as CSV",
    )
    parser.add_argument("--device", default="cpu", help="device of the hypernetwork (default: cpu)")
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")
    parser.set_defaults(do=run)


def model_argument(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; the value is JSON or else a string.

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


def vocabulary_argument(text: str) -> str:
    """Parse the name of a vocabulary.

    Examples
    --------
    >>> vocabulary_argument("published")
    'ghn3'
    """
    from deepnets.tracing import check_vocabulary

    try:
        return check_vocabulary(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    out: Path = options.out
    if not options.overwrite and (out.exists() or out.is_symlink()):
        raise ConfigError(f"--out: {out} already exists; choose another file, or replace it with --overwrite")
    report = Path(options.report) if options.report not in (None, "-") else None
    if report is not None and not options.overwrite and report.exists():
        raise ConfigError(f"--report: {report} already exists; choose another file, or replace it with --overwrite")

    import torch

    from deepnets.support import load_model
    from ghn_model.checkpoints import check_writable, write_tensors
    from ghn_model.ghn import GHN

    check_writable(out)
    if report is not None:
        check_writable(report)
    ghn = GHN.from_pretrained(options.checkpoint, device=options.device)
    arguments = dict(options.model_kwarg)
    model = load_model(options.model, **arguments)
    example = torch.zeros(1, *options.input_size) if options.input_size else None
    start = time.monotonic()
    predicted = ghn.predict(
        model, example, predict_class_layers=not options.no_class_layers, vocabulary=options.vocabulary
    )
    seconds = time.monotonic() - start
    metadata = {"model": options.model, "model_kwargs": json.dumps(arguments), "checkpoint": str(options.checkpoint)}
    metadata["vocabulary"] = options.vocabulary or ghn.config.vocabulary
    write_tensors(out, predicted, metadata)

    parameters = dict(model.named_parameters())
    done, total = (sum(tensor.numel() for tensor in tensors.values()) for tensors in (predicted, parameters))
    print(
        f"{out}: {done:,} of {total:,} parameters predicted ({len(predicted):,} of {len(parameters):,} tensors) "
        f"in {seconds:.1f} s"
    )
    if kept := list(predicted.kept):
        some = ", ".join(kept[:5]) + (", ..." if len(kept) > 5 else "")
        print(f"kept, not in the file: {some}")
    if options.report == "-":
        print(predicted.report().to_string(index=False))
    elif report is not None:
        with atomic_write(report) as temporary:
            predicted.report().to_csv(temporary, index=False)
