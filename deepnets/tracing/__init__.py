"""`trace`: the computational graph of any `torch.nn.Module`, found by running it once on the `meta` device.

tracer          `trace`: selects an input and a mode in which the network runs
recorder        the nodes of a run, and the nodes each tensor is computed from
capture         the `TorchFunctionMode` under which the network runs
rules           which functions of PyTorch become nodes; `layers` and `merging` hold the rules, `parts` their helpers
finishing       from the recorded nodes to a `Graph`: contraction, order, classification layer
model, tensors  restoring the module after the run; helpers for nested tensors
"""

from __future__ import annotations

from deepnets.tracing.finishing import VOCABULARIES
from deepnets.tracing.tracer import trace

__all__ = [
    "VOCABULARIES",
    "trace",
]
