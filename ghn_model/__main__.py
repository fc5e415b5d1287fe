"""Command line of the hypernetworks: `python -m ghn_model train | profile | predict | list | info`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepnets.support import ConfigError, Parser, positive, run
from ghn_model.commands import profile as profile_command
from ghn_model.commands import train as train_command


def main(arguments: Sequence[str]) -> None:
    """Parse the arguments and do what they say."""
    parser = Parser(prog="python -m ghn_model", description="Train hypernetworks; predict parameters.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=Parser)

    train_command.add_arguments(commands)
    profile_command.add_arguments(commands)

    predict = commands.add_parser("predict", help="predict the parameters of a model, into a safetensors file")
    predict.add_argument(
        "--model",
        required=True,
        help="module:callable, such as torchvision.models:resnet50, or timm:NAME; its code runs",
    )
    predict.add_argument(
        "--model-kwarg",
        type=_argument,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument for the callable, the value as JSON or else a text; may be repeated",
    )
    predict.add_argument("--checkpoint", required=True, help="a bundled hypernetwork (see list), or a file")
    predict.add_argument("--out", required=True, type=Path, help="the file of the parameters (.safetensors)")
    predict.add_argument(
        "--input-size",
        type=positive,
        nargs="+",
        metavar="N",
        help="of one example, such as 3 224 224 (the model's usual)",
    )
    predict.add_argument("--no-class-layers", action="store_true", help="leave out the layers that have the classes")
    predict.add_argument("--device", default="cpu", help="where to predict (cpu)")
    predict.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    predict.set_defaults(do=_predict)

    listing = commands.add_parser("list", help="the bundled hypernetworks")
    listing.set_defaults(do=_list)

    info = commands.add_parser("info", help="what is in a checkpoint")
    info.add_argument("checkpoints", nargs="+", help="bundled names, files of this toolkit or of the original releases")
    info.set_defaults(do=_info)

    options = parser.parse_args(arguments)
    options.do(options)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _predict(options: argparse.Namespace) -> None:
    out: Path = options.out
    if not options.overwrite and (out.exists() or out.is_symlink()):
        raise ConfigError(f"--out: {out} is there; choose another file, or replace it with --overwrite")

    import torch

    from deepnets.support import load_model
    from ghn_model.checkpoints import check_writable, load_checkpoint, write_tensors

    check_writable(out)
    ghn = load_checkpoint(options.checkpoint, options.device)
    given = dict(options.model_kwarg)
    model = load_model(options.model, **given)
    example = torch.zeros(1, *options.input_size) if options.input_size else None
    started = time.monotonic()
    predicted = ghn.predict(model, example, predict_class_layers=not options.no_class_layers)
    seconds = time.monotonic() - started
    about = {"model": options.model, "model_kwargs": json.dumps(given), "checkpoint": str(options.checkpoint)}
    write_tensors(out, predicted, about)

    everything = dict(model.named_parameters())
    done, total = (sum(tensor.numel() for tensor in tensors.values()) for tensors in (predicted, everything))
    print(
        f"{out}: {done:,} of {total:,} parameters predicted ({len(predicted):,} of {len(everything):,} tensors) "
        f"in {seconds:.1f} s"
    )


def _list(_: argparse.Namespace) -> None:
    from ghn_model.checkpoints import describe, list_pretrained

    names = list_pretrained()
    if not names:
        print("no hypernetwork is bundled; --checkpoint takes files of this toolkit and of the original releases")
        return
    print(f"{'name':20}{'hypernet':12}{'classes':>8}{'parameters':>13}  about")
    for name in names:
        found = describe(name)
        config, about = found.config, str(found.metadata.get("about", ""))
        print(f"{name:20}{config.hypernet:12}{config.num_classes:8,}{found.num_parameters:13,}  {about}".rstrip())


def _info(options: argparse.Namespace) -> None:
    from ghn_model.checkpoints import describe

    for name in options.checkpoints:
        found = describe(name)
        print(found.path)
        print(f"  kind         {found.kind}, {found.path.stat().st_size / 1e6:.2f} MB")
        print(f"  config       {', '.join(f'{key} {value}' for key, value in found.config.to_dict().items())}")
        print(f"  parameters   {found.num_parameters:,}")
        print(f"  sha256       {found.sha256}")
        for key, value in found.metadata.items():
            if key != "sha256":
                print(f"  {key:11}  {value if isinstance(value, str) else json.dumps(value)}")


if __name__ == "__main__":
    run(main, "use the same command to resume a training")
