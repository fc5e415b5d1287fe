"""The parts of a training step, by the names under which a profiler shows them (`ghn_model.profiling`)."""

from __future__ import annotations

from torch.profiler import record_function

__all__ = ["PARTS", "part"]

PARTS = (
    "data",
    "images",
    "hypernetwork forward",
    "networks forward",
    "networks backward",
    "hypernetwork backward",
    "agreement",
    "optimizer",
)
"""In their order in a step: graphs are waited for and sent to the device; images are taken; parameters of networks are
predicted; networks are run; their gradients go back to the predicted parameters, and from
there to the weights of the hypernetwork; processes agree on what happened; weights change."""


def part(name: str) -> record_function:
    """Mark a part of a step, one of `PARTS`; costs next to nothing while no profiler runs."""
    return record_function(name)
