"""`python -m ghn_model predict`: predict the parameters of a model and write them to a file."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from deepnets.commands.model_options import add_model, open_model
from deepnets.support import ConfigError, atomic_write, examples, output_path

__all__ = ["add_arguments", "run", "vocabulary_argument"]

_TORCH_SUFFIXES = (".pt", ".pth")


def add_arguments(commands: Any) -> None:
    """Add the command to `commands`, the result of `argparse.ArgumentParser.add_subparsers`."""
    parser = commands.add_parser(
        "predict",
        help="predict the parameters of a model and write them to a file",
        epilog=examples(
            "deepnets predict --model torchvision:resnet50 --model-kwarg num_classes=10 \\",
            "  --checkpoint ghn2-digits --out resnet50.safetensors",
            "deepnets predict --model timm:convnext_tiny --checkpoint ghn2_imagenet.pt --out a.safetensors --report",
        ),
    )
    add_model(parser, required=True, purpose="the model")
    parser.add_argument("--checkpoint", required=True, help="name of a bundled hypernetwork (see list), or a file")
    parser.add_argument(
        "--out",
        required=True,
        type=output_path,
        metavar="FILE",
        help="output file: .safetensors, or .pt or .pth for a dict of tensors as torch.save writes it",
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
        help="print the origin and norm of every parameter, or write them to FILE as CSV (default: neither)",
    )
    parser.add_argument("--device", default="cpu", help="device of the hypernetwork")
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")
    parser.set_defaults(do=run)


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
    if out.suffix not in ("", ".safetensors", *_TORCH_SUFFIXES) and not out.is_dir():
        raise ConfigError(f"--out: expected a name that ends in .safetensors, .pt or .pth, got {out}")
    report = Path(options.report) if options.report not in (None, "-") else None
    if report is not None and report.suffix not in ("", ".csv"):
        raise ConfigError(f"--report: expected a name that ends in .csv, got {report}")
    if report is not None and not options.overwrite and report.exists():
        raise ConfigError(f"--report: {report} already exists; choose another file, or replace it with --overwrite")

    if report is not None and report.resolve() == out.resolve():
        raise ConfigError(f"--report: {report} is the file of --out; choose another one")

    from ghn_model.checkpoints import check_writable, write_state_dict, write_tensors
    from ghn_model.ghn import GHN

    check_writable(out)
    if report is not None:
        check_writable(report)
    ghn = GHN.from_pretrained(options.checkpoint, device=options.device)
    arguments = dict(options.model_kwarg)
    model, example = open_model(options, meta=False)
    start = time.monotonic()
    predicted = ghn.predict(
        model, example, predict_class_layers=not options.no_class_layers, vocabulary=options.vocabulary
    )
    seconds = time.monotonic() - start
    metadata = {"model": options.model, "model_kwargs": json.dumps(arguments), "checkpoint": str(options.checkpoint)}
    metadata["vocabulary"] = options.vocabulary or ghn.config.vocabulary
    if out.suffix in _TORCH_SUFFIXES:
        write_state_dict(out, predicted)
    else:
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
