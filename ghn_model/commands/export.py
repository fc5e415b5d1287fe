"""`python -m ghn_model export`: write a hypernetwork in the format of the originals, or in ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deepnets.support import ConfigError, examples, output_path
from ghn_model.choices import FORMATS

__all__ = ["add_arguments", "run"]


def add_arguments(commands: Any) -> None:
    """Add the command to `commands`, the result of `argparse.ArgumentParser.add_subparsers`."""
    parser = commands.add_parser(
        "export",
        help="write a hypernetwork to a file that the original code loads, or to one of ours",
        epilog=examples("deepnets convert --checkpoint runs/mine/ghn.safetensors --format ppuda --out mine.pt"),
    )
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="name of a bundled hypernetwork (see list), or a file (required)"
    )
    parser.add_argument("given_checkpoint", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="ppuda: MLP, GHN-1 and GHN-2 (.pt); ghn3: GHN-3, and GHN-2 for its code (.pt); deepnets1m: safetensors",
    )
    parser.add_argument("--out", required=True, type=output_path, help="output file")
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")
    parser.set_defaults(do=run)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if (options.checkpoint is None) == (options.given_checkpoint is None):
        raise ConfigError("--checkpoint: " + ("is needed" if options.checkpoint is None else "is given twice"))
    checkpoint = options.checkpoint or options.given_checkpoint
    out: Path = options.out
    if not options.overwrite and (out.exists() or out.is_symlink()):
        raise ConfigError(f"--out: {out} already exists; choose another file, or replace it with --overwrite")

    import torch

    from ghn_model.checkpoints import build_from, read_checkpoint
    from ghn_model.ghn import GHN

    content = read_checkpoint(checkpoint, GHN)
    metadata = {name: value for name, value in content.metadata.items() if name != "sha256"}  # that of another file
    build_from(content, GHN, torch.device("cpu")).save(out, metadata, format=options.format)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
