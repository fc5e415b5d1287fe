"""Orthogonal initialization.

Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
networks" (ICLR 2014).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from benchmark.predictors.initial_values import initial_values, roles_of
from deepnets.graph import Graph
from deepnets.support import ConfigError

__all__ = ["OrthogonalInit"]


class OrthogonalInit:
    """A predictor: weights of layers are (semi-)orthogonal matrices, and their biases are 0.

    A convolution is treated as a matrix with one row per output channel, as `torch.nn.init.orthogonal_` does.
    Other parameters, such as those of norms and positional encodings, keep their initial values.

    Parameters
    ----------
    gain
        Factor of the matrices.

    Raises
    ------
    ConfigError
        If the gain is not a positive number.

    Examples
    --------
    >>> from deepnets import trace
    >>> model = nn.Linear(3, 3)
    >>> weight = OrthogonalInit(gain=2.0)(model, trace(model, torch.zeros(1, 3)))["weight"]
    >>> torch.allclose(weight @ weight.T, 4 * torch.eye(3), atol=1e-5)
    True
    """

    def __init__(self, gain: float = 1.0) -> None:
        if not (math.isfinite(gain) and gain > 0):
            raise ConfigError(f"orthogonal: expected a gain above 0, got {gain}")
        self.gain = gain

    @classmethod
    def from_text(cls, text: str) -> OrthogonalInit:
        """Make the predictor that ``orthogonal:GAIN`` names; by default, the gain is 1.

        Raises
        ------
        ConfigError
            If the text is not a positive number.
        """
        try:
            return cls(float(text or 1.0))
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"orthogonal: expected a gain, as in orthogonal:1.4, got {text!r}") from error

    @torch.no_grad()
    def __call__(self, model: nn.Module, graph: Graph) -> dict[str, Tensor]:
        """Return the parameters of a network by name."""
        values, roles = initial_values(model), roles_of(graph)
        for name, value in values.items():
            role = roles.get(name, "")
            if role in ("weight", "class_weight") and value.ndim >= 2:
                nn.init.orthogonal_(value, self.gain)
            elif role in ("bias", "class_bias"):
                value.zero_()
        return values
