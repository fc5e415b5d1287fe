"""`influential_parameters`: which parameters influence the output of a network, according to autograd.

A check of parameters for which tracing found no use.  It runs the network without any rule of tracing: functions are
only executed, on `meta` if possible, and PyTorch's autograd records what depends on what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deepnets.tracing.call import Call
from deepnets.tracing.capture import Capture
from deepnets.tracing.execution import FACTORIES
from deepnets.tracing.inputs import call_model
from deepnets.tracing.layers import NORMS, with_copies
from deepnets.tracing.origins import CONSTANT
from deepnets.tracing.recorder import Recorder, Value
from deepnets.tracing.state import reachable
from deepnets.tracing.tensors import is_floating

__all__ = ["influential_parameters"]


def influential_parameters(
    model: nn.Module, parameters: Mapping[str, Tensor], constants: Iterable[Tensor], input: Any, real: bool
) -> list[str]:
    """Return the names of the parameters that the output of a network depends on.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in the mode to check.
    parameters : mapping of str to Tensor
        Its parameters by name.
    constants : iterable of Tensor
        Its other tensors.
    input : object
        Its input, as for `trace`.
    real : bool
        Whether to compute with real values, on the CPU.

    Examples
    --------
    >>> model = nn.Linear(2, 3)
    >>> model.spare = nn.Parameter(torch.zeros(3))
    >>> influential_parameters(model, dict(model.named_parameters()), [], torch.zeros(1, 2), real=False)
    ['weight', 'bias']
    """
    plain = _Plain(Recorder(), parameters, {}, _execute, constants, real, watched=True)
    fed = plain.feed(input)
    with torch.enable_grad(), plain:
        output = call_model(model, fed)
    leaves = {id(part): part for part in reachable(output, set()) if isinstance(part, Tensor)}
    functions: list[Any] = [part.grad_fn for part in leaves.values()]
    seen: set[Any] = {None}
    while functions:
        function = functions.pop()
        if function not in seen:
            seen.add(function)
            functions += [before for before, _ in function.next_functions]
            if hasattr(function, "variable"):
                leaves[id(function.variable)] = function.variable
    return [
        name for name, parameter in parameters.items() if {id(parameter), id(plain.stand_in(parameter))} & leaves.keys()
    ]


class _Plain(Capture):
    """Executes all functions, with parameters that require gradients."""

    def value(self, tensor: Tensor) -> Value:
        return CONSTANT

    def stand_in(self, parameter: Tensor) -> Tensor:
        """Return the tensor that was used in place of a parameter, or the parameter."""
        return self._replacements.get(id(parameter), parameter)

    def _replacement(self, parameter: Tensor, pending: Any) -> Tensor:
        return super()._replacement(parameter, pending).requires_grad_()


def _execute(capture: Capture, call: Call) -> Any:
    updates = call.name in NORMS or call.name.startswith("embedding") or "fake_quant" in call.name
    result = capture.execute(with_copies(capture, call) if updates else call)
    if call.name in FACTORIES and isinstance(result, Tensor) and is_floating(result) and not capture.real:
        result = capture.on_meta(result)  # it may be changed in place
    return capture.finish(call, result, CONSTANT)
