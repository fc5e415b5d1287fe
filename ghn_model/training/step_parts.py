"""Names of the parts of a training step, under which a profiler shows them (`ghn_model.training.profiling`)."""

from __future__ import annotations

from torch.profiler import record_function

__all__ = ["PARTS", "part"]

PARTS = {
    "data": "wait for prepared graphs and copy them to the device",
    "images": "select and augment images",
    "hypernetwork forward": "predict the parameters of all networks",
    "networks forward": "run the networks with predicted parameters",
    "networks backward": "gradients with respect to the predicted parameters",
    "hypernetwork backward": "gradients with respect to the weights of the hypernetwork",
    "synchronization": "exchange flags between processes",
    "optimizer": "average gradients over processes and update the weights",
}
"""Parts in the order of a step, each with what it does."""


def part(name: str) -> record_function:
    """Return a context manager that marks a part of a step, one of `PARTS`, for PyTorch's profiler.

    Examples
    --------
    >>> with part("images"):
    ...     images = None
    """
    return record_function(name)
