"""The subcommands `train` and `profile` of `python -m ghn_model`."""

from __future__ import annotations

from ghn_model.commands.train import CHANGES

__all__ = [
    "CHANGES",
]
