"""From gradients to new weights, without waiting for the device: what must not happen is decided there.

A step whose loss or gradient is not finite changes nothing: the fused optimizers of PyTorch read a flag from the device
and leave weights and moments as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ghn_model.ghn import GHN
from ghn_model.training.distributed import Ranks
from ghn_model.training.recipe import Recipe

__all__ = ["Optimization"]

FIRST_SCALE = 65_536.0
LEAST_SCALE = 1024.0
NORM_MOMENTUM = 0.01  # share of a step in the running mean of log-norms
FARTHEST = 2.0  # most that the log-norm of a step counts as being away from the mean
GROWTH_INTERVAL = 100  # steps (Knyazev et al., ICML 2023)


class Optimization:
    """An optimizer, and what goes with it.

    Parameters
    ----------
    ghn
        Whose weights change.
    recipe
        How.
    ranks
        Who else has gradients for them.

    Attributes
    ----------
    optimizer : torch.optim.Optimizer
    averages : list of Tensor
        Moving averages of the weights, or nothing.
    scale : Tensor, or None
        `()`, what losses are to be multiplied by in half precision.
    rate : float
        The learning rate.
    typical_norm : Tensor, or None
        `()`, running geometric mean of the norms of networks' gradients, NaN before the first step; None if it is not
        needed.
    """

    def __init__(self, ghn: GHN, recipe: Recipe, ranks: Ranks) -> None:
        self.recipe = recipe
        self.ranks = ranks
        self.parameters = list(ghn.parameters())
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        self.optimizer: torch.optim.Optimizer = kind(
            self.parameters,
            lr=recipe.learning_rate,
            betas=(0.9, recipe.beta2),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.averages = [parameter.detach().clone() for parameter in self.parameters] if recipe.average else []
        self.scale: Tensor | None = None
        if recipe.precision == "fp16":
            self.scale = torch.tensor(FIRST_SCALE, device=ranks.device)
        self._clean = torch.zeros((), device=ranks.device)  # steps since the scale changed
        self._count = torch.zeros((), device=ranks.device)
        self._log_typical = torch.zeros((), device=ranks.device)
        self.rate = recipe.learning_rate

    def extra(self) -> dict[str, Tensor]:
        """What belongs to its state beside weights, moments and averages."""
        scale = {} if self.scale is None else {"scale": self.scale}
        typical = {"log_typical": self._log_typical} if self.recipe.network_norm != "none" else {}
        return {"clean": self._clean, "count": self._count, **typical, **scale}

    @property
    def typical_norm(self) -> Tensor | None:
        if self.recipe.network_norm == "none":
            return None
        return torch.where(self._count > 0, self._log_typical.exp(), torch.nan)

    def set_rate(self, progress: float) -> None:
        """Set the learning rate for what is done of the training, 0 to 1."""
        self.rate = self.recipe.schedule.rate(self.recipe.learning_rate, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def forget(self) -> None:
        """Drop the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, figures: Tensor) -> tuple[Tensor, Tensor]:
        """Change the weights by the mean gradient of all processes, and drop the gradients.

        Parameters
        ----------
        figures
            `(n,) float32`, the first is the loss, the last the mean logarithm of the norms of networks' gradients;
            their means over all processes take their place.

        Returns
        -------
        failed, norm
            `() bool`, whether the loss or, in single precision, the gradient was not finite; `()`, norm of the gradient
            before it was clipped.
        """
        gradients = []
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self.ranks.average([figures, *gradients])
        norm = nn.utils.get_total_norm(gradients)
        if self.recipe.clip:
            nn.utils.clip_grads_with_norm_(self.parameters, self.recipe.clip, norm)
        lost = ~figures[0].isfinite()
        unusable = lost | ~norm.isfinite()
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.found_inf = unusable.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        if self.recipe.network_norm != "none":
            self._follow(figures[-1], unusable)
        self._count += 1 - unusable.float()
        if self.averages:
            decay = torch.clamp((1 + self._count) / (10 + self._count), max=self.recipe.average)
            for average, parameter in zip(self.averages, self.parameters):
                average.lerp_(parameter.detach(), 1 - decay)
        self.forget()
        if self.scale is None:
            return unusable, norm
        self._rescale(self.scale, unusable)
        return lost, norm

    def _follow(self, log_norm: Tensor, unusable: Tensor) -> None:
        """Move the typical norm towards that of a step; steps that fail or are far off count little."""
        change = (log_norm - self._log_typical).clamp(-FARTHEST, FARTHEST)
        share = torch.clamp(1 / (self._count + 1), min=NORM_MOMENTUM)
        moved = torch.where(self._count > 0, self._log_typical + share * change, log_norm)
        self._log_typical.copy_(torch.where(unusable, self._log_typical, moved))

    def _rescale(self, scale: Tensor, overflow: Tensor) -> None:
        """Halve the scale after an overflow, double it when there was none for a while."""
        self._clean.copy_(torch.where(overflow, 0.0, self._clean + 1))
        grown = torch.where(self._clean >= GROWTH_INTERVAL, 2 * scale, scale)
        scale.copy_(torch.where(overflow, (scale / 2).clamp(min=LEAST_SCALE), grown))
        self._clean.copy_(torch.where(self._clean >= GROWTH_INTERVAL, 0.0, self._clean))

    @torch.no_grad()
    def averaged(self, ghn: GHN) -> GHN:
        """The hypernetwork with averaged weights; itself, if there are none."""
        if not self.averages:
            return ghn
        with torch.random.fork_rng(devices=[]):
            copy = GHN(ghn.config)
        for parameter, average in zip(copy.parameters(), self.averages):
            parameter.copy_(average)
        return copy
