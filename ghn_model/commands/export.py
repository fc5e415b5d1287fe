"""`python -m ghn_model export`: write a hypernetwork in the format of the originals, or in ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deepnets.support import ConfigError, output_path

__all__ = ["add_arguments", "run"]


def add_arguments(commands: Any) -> None:
    """Add the command to `commands`, the result of `argparse.ArgumentParser.add_subparsers`."""
    from ghn_model.checkpoints import FORMATS

    parser = commands.add_parser(
        "export", help="write a hypernetwork to a file that the original code loads, or to one of ours"
    )
    parser.add_argument("checkpoint", help="name of a bundled hypernetwork (see list), or a file")
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
    out: Path = options.out
    if not options.overwrite and (out.exists() or out.is_symlink()):
        raise ConfigError(f"--out: {out} already exists; choose another file, or replace it with --overwrite")

    import torch

    from ghn_model.checkpoints import build_from, read_checkpoint
    from ghn_model.ghn import GHN

    content = read_checkpoint(options.checkpoint, GHN)
    build_from(content, GHN, torch.device("cpu")).save(out, content.metadata, format=options.format)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
