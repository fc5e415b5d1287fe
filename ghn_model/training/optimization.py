"""The optimizer step of a training, computed on the device without synchronizing with it.

A step whose loss or gradient is not finite changes nothing: the fused optimizers of PyTorch read the tensor `found_inf`
on the device and skip the update.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ghn_model.training.distributed import Distributed
from ghn_model.training.hypernetwork import trainable_parameters
from ghn_model.training.recipe import Recipe

__all__ = ["Optimization"]

INITIAL_SCALE = 65_536.0
MIN_SCALE = 1024.0
SCALE_GROWTH_INTERVAL = 100
"""Steps without overflow after which the loss scale is doubled (Knyazev et al., ICML 2023)."""

NORM_MOMENTUM = 0.01
"""Minimum weight of one step in the running mean of log-norms."""

MAX_LOG_CHANGE = 2.0
"""Maximum distance from the running mean with which a log-norm enters it, which limits the effect of outliers."""


class Optimization:
    """Optimizer, gradient clipping, loss scale and moving average of the weights.

    Parameters
    ----------
    hypernetwork : nn.Module
        Model to optimize.  Its parameters that do not require a gradient are left unchanged.
    recipe : Recipe
        Hyperparameters.
    distributed : Distributed
        Processes over which gradients are averaged.

    Attributes
    ----------
    optimizer : torch.optim.Optimizer
        Fused Adam or AdamW.
    averages : list of Tensor
        Moving averages of the trained parameters; empty if `recipe.ema_decay` is 0.
    scale : Tensor or None
        `()`, loss scale of "fp16" training; None for other precisions.
    lr : float
        Current learning rate.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> optimization = Optimization(model, Recipe(), Distributed("cpu"))
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> failed, norm = optimization.step(torch.tensor([0.5]))
    >>> bool(failed), round(float(norm), 4)
    (False, 1.7321)
    """

    def __init__(self, hypernetwork: nn.Module, recipe: Recipe, distributed: Distributed) -> None:
        self.recipe = recipe
        self.distributed = distributed
        self.parameters = list(trainable_parameters(hypernetwork).values())
        kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        self.optimizer: torch.optim.Optimizer = kind(
            self.parameters, lr=recipe.lr, betas=(0.9, recipe.beta2), weight_decay=recipe.weight_decay, fused=True
        )
        self.averages = [parameter.detach().clone() for parameter in self.parameters] if recipe.ema_decay else []
        self.scale: Tensor | None = None
        if recipe.precision == "fp16":
            self.scale = torch.tensor(INITIAL_SCALE, device=distributed.device)
        self._clean = torch.zeros((), device=distributed.device)  # steps since the scale changed
        self._count = torch.zeros((), device=distributed.device)  # steps that changed the weights
        self._log_typical = torch.zeros((), device=distributed.device)
        self.lr = recipe.lr

    def extra(self) -> dict[str, Tensor]:
        """Return the state beyond weights, optimizer state and averages; `load_state` changes it in place."""
        scale = {} if self.scale is None else {"scale": self.scale}
        typical = {"log_typical": self._log_typical} if self.recipe.network_norm != "none" else {}
        return {"clean": self._clean, "count": self._count, **typical, **scale}

    @property
    def typical_norm(self) -> Tensor | None:
        """`()`, running geometric mean of the gradient norms of networks, NaN before the first step; None if unused."""
        if self.recipe.network_norm == "none":
            return None
        return torch.where(self._count > 0, self._log_typical.exp(), torch.nan)

    def set_lr(self, progress: float) -> None:
        """Set the learning rate for the fraction of the training that is done, 0 to 1."""
        self.lr = self.recipe.schedule.rate(self.recipe.lr, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr

    def zero_grad(self) -> None:
        """Discard the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, metrics: Tensor) -> tuple[Tensor, Tensor]:
        """Average the gradients over all processes, update the weights, and discard the gradients.

        Parameters
        ----------
        metrics : Tensor
            `(n,) float32`.  The first element is the loss, the last one the mean log-norm of the gradients of networks
            (`Outcome.log_norm`).  They are replaced in place by their means over all processes.

        Returns
        -------
        failed : Tensor
            `() bool`, whether the loss or the gradient was not finite.  A scaled gradient that is not finite counts at
            the smallest scale only; otherwise it is taken for an overflow, and the scale is lowered.
        norm : Tensor
            `()`, norm of the gradient before clipping.
        """
        gradients = []
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        self.distributed.average([metrics, *gradients])
        norm = nn.utils.get_total_norm(gradients)
        if self.recipe.clip_grad:
            nn.utils.clip_grads_with_norm_(self.parameters, self.recipe.clip_grad, norm)
        loss_failed = ~metrics[0].isfinite()
        failed = loss_failed | ~norm.isfinite()
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.found_inf = failed.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        if self.recipe.network_norm != "none":
            self._update_typical_norm(metrics[-1], failed)
        self._count += 1 - failed.float()
        if self.averages:
            # A young average follows the weights more closely.
            decay = torch.clamp((1 + self._count) / (10 + self._count), max=self.recipe.ema_decay)
            for average, parameter in zip(self.averages, self.parameters):
                average.lerp_(parameter.detach(), (1 - decay) * (1 - failed.float()))
        self.zero_grad()
        if self.scale is None:
            return failed, norm
        is_smallest = self.scale <= MIN_SCALE
        self._update_scale(self.scale, failed)
        return failed & (loss_failed | is_smallest), norm

    def _update_typical_norm(self, log_norm: Tensor, failed: Tensor) -> None:
        change = (log_norm - self._log_typical).clamp(-MAX_LOG_CHANGE, MAX_LOG_CHANGE)
        weight = torch.clamp(1 / (self._count + 1), min=NORM_MOMENTUM)
        updated = torch.where(self._count > 0, self._log_typical + weight * change, log_norm)
        self._log_typical.copy_(torch.where(failed, self._log_typical, updated))

    def _update_scale(self, scale: Tensor, overflow: Tensor) -> None:
        self._clean.copy_(torch.where(overflow, 0.0, self._clean + 1))
        grown = torch.where(self._clean >= SCALE_GROWTH_INTERVAL, 2 * scale, scale)
        scale.copy_(torch.where(overflow, (scale / 2).clamp(min=MIN_SCALE), grown))
        self._clean.copy_(torch.where(self._clean >= SCALE_GROWTH_INTERVAL, 0.0, self._clean))

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Give the hypernetwork its averaged weights inside a `with` block; without averages, change nothing."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, parameter in zip(self.averages, self.parameters):
            current = parameter.clone()
            parameter.copy_(average)
            average.copy_(current)
