"""`influential_parameters`: which parameters influence the output of a network, according to autograd.

A check of parameters that tracing found no path from.  It runs the network without any rule of tracing: functions are
only executed, on `meta` if possible, and PyTorch's autograd records what depends on what.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deepnets.tracing.call import Call, in_place_targets
from deepnets.tracing.capture import META, Capture
from deepnets.tracing.inputs import call_model
from deepnets.tracing.layers import NORMS, with_copies
from deepnets.tracing.origins import CONSTANT
from deepnets.tracing.recorder import Recorder, Value
from deepnets.tracing.rules import RULES, overwrite
from deepnets.tracing.state import reachable
from deepnets.tracing.tensors import with_numbers

__all__ = ["influential_parameters"]


def influential_parameters(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    constants: Iterable[Tensor],
    input: Any,
    real: bool,
    returned: Collection[int] = (),
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
    returned : collection of int
        The positions of the tensors that are the output among all that the network returns; by default, all are.

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
    tensors = [plain.stand_in(part) for part in reachable(output, set()) if isinstance(part, Tensor)]
    leaves = {id(tensors[place]): tensors[place] for place in returned or range(len(tensors))}
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._copies: dict[int, Tensor] = {}  # of tensors that must not be written to

    def value(self, tensor: Tensor) -> Value:
        return CONSTANT

    def stand_in(self, tensor: Tensor) -> Tensor:
        """Return the tensor that is used in place of a tensor."""
        replaced: Tensor = self._replaced(tensor, [])
        return replaced

    def _replaced(self, argument: Any, tensors: list[Tensor]) -> Any:
        if isinstance(argument, Tensor) and id(_base(argument)) in self._copies:
            argument = self._copied(argument)
        return super()._replaced(argument, tensors)

    def _redirected(self, target: Tensor, place: torch.device) -> Tensor:
        """Return a copy to write to, of which autograd records the history, unlike that of a storage."""
        base = _base(target)
        copy = torch.empty_strided(base.size(), base.stride(), dtype=base.dtype, device=place)
        self._copies[id(base)] = copy if place == META else copy.copy_(with_numbers(base))
        self._alive.append(base)
        self.copy_value(base, copy)
        return self._copied(target)

    def _copied(self, tensor: Tensor) -> Tensor:
        """Return the copy of a tensor, or the same view of the copy of the tensor that it is a view of."""
        base = _base(tensor)
        copy = self._copies[id(base)]
        if tensor is base:
            return copy
        return copy.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset() - base.storage_offset())

    def _replacement(self, parameter: Tensor, pending: Any) -> Tensor:
        return super()._replacement(parameter, pending).requires_grad_()


def _execute(capture: Capture, call: Call) -> Any:
    if RULES.get(call.name) is overwrite:
        for target in in_place_targets(call):
            if target.grad_fn is not None and not target._is_view():
                target.detach_()  # what it was computed from has no influence any more
    updates = call.name in NORMS or call.name.startswith("embedding") or "fake_quant" in call.name
    result = capture.execute(with_copies(capture, call) if updates else call)
    return capture.finish(call, result, CONSTANT)


def _base(tensor: Tensor) -> Tensor:
    """Return the tensor that a tensor is a view of, or the tensor."""
    return tensor if tensor._base is None else tensor._base
