"""`Cell`: the torch module of a cell.

The primitive `none` has no output.  An operation whose input is absent is not run, and its output is absent as well.
An absent tensor is None.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepnets.architecture.genotype import Gene
from deepnets.architecture.operations import OPERATIONS, FactorizedReduce, Norm, Subsample, convolution, drop_path
from deepnets.architecture.vocabulary import INPUT_STATES

__all__ = ["Cell", "concatenate"]


class Cell(nn.Module):
    """One cell of a network.

    Every step adds the results of two operations; the output is a concatenation of states (see `Genotype`).

    Parameters
    ----------
    genes
        Pairs (primitive, state), two per step.
    concat
        States whose concatenation is the output.
    input_widths
        Channels of the outputs of the cell before the previous one, and of the previous one.
    width
        Channels of every state.
    norm
        Constructor of the norm.
    preproc
        Whether 1x1 convolutions convert the two inputs to `width` channels; otherwise they have `width` channels.
    halve
        Whether the first input has twice the resolution of the second.
    stride
        Stride of the operations that read an input of the cell.

    Examples
    --------
    >>> from deepnets.architecture.operations import norm_layer
    >>> cell = Cell([("conv_3x3", 0), ("skip_connect", 1)], [2], (8, 8), 16, norm_layer("bnorm"),
    ...             preproc=True, halve=False, stride=2)
    >>> cell(torch.zeros(1, 8, 32, 32), torch.zeros(1, 8, 32, 32)).shape
    torch.Size([1, 16, 16, 16])
    """

    def __init__(
        self,
        genes: Sequence[Gene],
        concat: Sequence[int],
        input_widths: tuple[int, int],
        width: int,
        norm: Norm,
        *,
        preproc: bool,
        halve: bool,
        stride: int,
    ) -> None:
        super().__init__()
        if preproc:
            self.preprocess0 = (
                FactorizedReduce(input_widths[0], width, norm)
                if halve
                else convolution(input_widths[0], width, 1, 1, norm)
            )
            self.preprocess1 = convolution(input_widths[1], width, 1, 1, norm)
        else:
            self.preprocess0 = Subsample() if halve else nn.Identity()
            self.preprocess1 = nn.Identity()
        self._ops = nn.ModuleList(
            OPERATIONS[primitive](width, stride if state < INPUT_STATES else 1, norm) for primitive, state in genes
        )
        self._sources = [state for _, state in genes]
        self._concat = list(concat)

    def forward(self, s0: Tensor | None, s1: Tensor | None, drop_probability: float = 0.0) -> Tensor | None:
        """Compute the output of the cell.

        Parameters
        ----------
        s0, s1
            Outputs of the cell before the previous one and of the previous one, (B, C, H, W); None if absent.
        drop_probability
            Probability that the result of an operation is set to zero for a sample.

        Returns
        -------
        Tensor or None
            (B, len(concat) * width, H / stride, W / stride); None if all states are absent.
        """
        states = [_run(self.preprocess0, s0), _run(self.preprocess1, s1)]
        for j in range(0, len(self._ops), 2):
            first, second = (self._operand(i, states, drop_probability) for i in (j, j + 1))
            states.append(_add(first, second))
        return concatenate([states[i] for i in self._concat])

    def _operand(self, j: int, states: Sequence[Tensor | None], probability: float) -> Tensor | None:
        operation = self._ops[j]
        result = _run(operation, states[self._sources[j]])
        if result is None or probability == 0 or isinstance(operation, nn.Identity):
            return result
        return drop_path(result, probability)


def _run(module: nn.Module, x: Tensor | None) -> Tensor | None:
    return None if x is None else module(x)


def _add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def concatenate(states: Sequence[Tensor | None]) -> Tensor | None:
    """Concatenate states along the channels.

    Parameters
    ----------
    states
        Tensors (B, C, H, W), or None for absent states.

    Returns
    -------
    Tensor or None
        Absent states count as zeros.  None if all states are absent.

    Examples
    --------
    >>> concatenate([torch.ones(1, 1, 2, 2), None]).shape
    torch.Size([1, 2, 2, 2])
    """
    present = next((state for state in states if state is not None), None)
    if present is None or len(states) == 1:
        return present
    return torch.cat([torch.zeros_like(present) if state is None else state for state in states], dim=1)
