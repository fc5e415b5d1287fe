"""`trace`: the computational graph of any `torch.nn.Module`, recorded in one run on the `meta` device.

tracer          `trace`: selects an input and a mode in which the network runs
call, capture   the `TorchFunctionMode` that intercepts every torch function of the run
watcher         the `TorchDispatchMode` for code that is hidden from it: `torch.jit`, `torch.vmap`
inputs          replacing the tensors in the inputs
execution       executing functions on `meta` or on the CPU; `redirection` for tensors that are changed in place
rules           the rule for each torch function; `layers` and `merging` hold the rules, `parts` their helpers
recorder        the nodes of a run; `origins`: what each tensor is computed from
vocabularies    which operations are nodes: of every network, in the graphs of GHN-3, or in those of PPUDA
finishing       from the recorded nodes to a `Graph`: vocabulary, order, classification layer
checking        whether autograd confirms that the output does not depend on parameters that no path connects to it
model, state    the modules and default inputs of the network; saving and restoring what it holds
tensors         helpers for nested tensors
"""

from __future__ import annotations

from deepnets.tracing.finishing import finish, main_output, move_to_live
from deepnets.tracing.parts import chain, linear_outputs, settle, sources, sum_with_scores, weighted
from deepnets.tracing.recorder import CONSTANT, INPUT, Pending, Recorder, Value, union
from deepnets.tracing.tracer import trace
from deepnets.tracing.vocabularies import VOCABULARIES, check_vocabulary

__all__ = [
    "CONSTANT",
    "INPUT",
    "VOCABULARIES",
    "Pending",
    "Recorder",
    "Value",
    "chain",
    "check_vocabulary",
    "finish",
    "linear_outputs",
    "main_output",
    "move_to_live",
    "settle",
    "sources",
    "sum_with_scores",
    "trace",
    "union",
    "weighted",
]
