"""`python -m ghn_model list` and `python -m ghn_model info`: describe hypernetworks."""

from __future__ import annotations

import argparse
import json
from typing import Any

from deepnets.support import examples

__all__ = ["add_arguments", "describe_checkpoint", "run_info", "run_list"]


def add_arguments(commands: Any) -> None:
    """Add the commands to `commands`, the result of `argparse.ArgumentParser.add_subparsers`."""
    listing = commands.add_parser("list", help="list the bundled hypernetworks", epilog=examples("deepnets list"))
    listing.set_defaults(do=run_list)
    info = commands.add_parser("info", help="describe checkpoints", epilog=examples("deepnets info ghn2-digits"))
    info.add_argument(
        "checkpoints", nargs="+", help="names of bundled hypernetworks, our files, or files of the original releases"
    )
    info.set_defaults(do=run_info)


def run_list(_: argparse.Namespace) -> None:
    """Run the command `list`."""
    from ghn_model.checkpoints import list_pretrained
    from ghn_model.loading import describe

    names = list_pretrained()
    if not names:
        print("no hypernetwork is bundled; --checkpoint takes our files and files of the original releases")
        return
    print(f"{'name':20}{'hypernet':12}{'classes':>8}{'parameters':>13}  about")
    for name in names:
        found = describe(name)
        config, about = found.config, str(found.metadata.get("about", ""))
        print(f"{name:20}{config.hypernet:12}{config.num_classes:8,}{found.num_parameters:13,}  {about}".rstrip())


def run_info(options: argparse.Namespace) -> None:
    """Run the command `info`."""
    for name in options.checkpoints:
        describe_checkpoint(name)


def describe_checkpoint(name: str) -> None:
    """Print what is known about a hypernetwork.

    Parameters
    ----------
    name
        Name of a bundled hypernetwork, or a file.
    """
    from ghn_model.loading import describe

    found = describe(name)
    print(found.path)
    print(f"  kind         {found.kind}, {found.path.stat().st_size / 1e6:.2f} MB")
    print(f"  config       {', '.join(f'{key} {value}' for key, value in found.config.to_dict().items())}")
    print(f"  parameters   {found.num_parameters:,}")
    print(f"  sha256       {found.sha256}")
    for key, value in found.metadata.items():
        if key != "sha256":
            print(f"  {key:11}  {value if isinstance(value, str) else json.dumps(value)}")
