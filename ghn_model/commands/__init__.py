"""Commands about hypernetworks, one module each."""

from __future__ import annotations

from ghn_model.commands.train import CHANGES

__all__ = [
    "CHANGES",
]
