"""Subcommands of `python -m ghn_model` with modules of their own: `train` and `profile`."""

from __future__ import annotations

from ghn_model.commands.train import CHANGES

__all__ = [
    "CHANGES",
]
