"""The loss of a meta-batch of networks with predicted parameters, and its gradient by the hypernetwork's weights.

The gradient is taken in two steps, first by the predicted parameters, network after network, then from these by the
weights.  The result is that of one backward pass, but only one network's activations are in memory at a time.
Nothing here waits for the device.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.architecture import run_network
from ghn_model.ghn import GHN
from ghn_model.prepared_batch import PreparedBatch
from ghn_model.training.step_parts import part

__all__ = ["Objective", "Outcome"]

MOST_AMPLIFIED = 4.0  # largest factor by which a small gradient of a network is multiplied
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Outcome:
    """What a backward pass leaves beside gradients, all of it on the device.

    Attributes
    ----------
    loss
        `()`, mean of the losses of the networks, penalties included.
    correct
        `() int64`, right classifications, of all networks together.
    answers
        How many classifications there were.
    log_norm
        `()`, mean over networks of the logarithm of the norm of the gradient of one network's loss with respect to its
        predicted parameters, before clipping.
    hyper_seconds
        Time that the hypernetwork took, on a CPU; elsewhere that of giving the orders.
    """

    loss: Tensor
    correct: Tensor
    answers: int
    log_norm: Tensor
    hyper_seconds: float

    @classmethod
    def joined(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """The outcome of a meta-batch that was done in parts."""
        answers = [outcome.answers for outcome in outcomes]
        share = torch.tensor(answers, device=outcomes[0].loss.device) / sum(answers)
        return cls(
            (torch.stack([outcome.loss for outcome in outcomes]) * share).sum(),
            torch.stack([outcome.correct for outcome in outcomes]).sum(),
            sum(answers),
            (torch.stack([outcome.log_norm for outcome in outcomes]) * share).sum(),
            sum(outcome.hyper_seconds for outcome in outcomes),
        )


@dataclass(frozen=True)
class Objective:
    """Mean over networks of the cross entropy of all of them on the same images.

    Parameters
    ----------
    image_size
        32 or 224: the style of the networks' stems.
    label_smoothing, penalty, precision, network_norm
        As in `ghn_model.training.Recipe`.
    """

    image_size: int = 32
    label_smoothing: float = 0.0
    penalty: float = 0.0
    precision: str = "fp32"
    network_norm: str = "none"

    def backward(
        self,
        ghn: GHN,
        batch: PreparedBatch,
        images: Tensor,
        labels: Tensor,
        *,
        scale: Tensor | None = None,
        halved: Tensor | None = None,
        typical_norm: Tensor | None = None,
        weight: float = 1.0,
    ) -> Outcome:
        """Add the gradient of the loss to that of the hypernetwork's weights.

        Parameters
        ----------
        ghn
            The hypernetwork.
        batch
            Graphs of `deepnets.Network`s, on its device.
        images, labels
            `(B, 3, image_size, image_size)` and `(B,) int64`, there, too.
        scale
            What losses are multiplied by on the way back through the networks, for gradients in half precision.
        halved
            `(B, 3, image_size / 2, image_size / 2)`, what networks are given that take images of any size.
        typical_norm
            `()`.  The gradient of each network's loss with respect to its predicted parameters is brought to this norm,
            so that no network dominates the meta-batch; NaN, as before the first step, leaves them as they are.
        weight
            What the gradient is multiplied by: the share of a meta-batch that is done in parts.
        """
        started = time.perf_counter()
        with part("hypernetwork forward"):
            predicted = ghn(batch)
        forward_seconds = time.perf_counter() - started

        share = weight / len(predicted)
        outputs: list[Tensor] = []
        gradients: list[Tensor] = []
        losses: list[Tensor] = []
        log_norms: list[Tensor] = []
        correct = torch.zeros((), dtype=torch.int64, device=images.device)
        for graph, parameters in zip(batch.graphs, predicted):
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
            config = graph.config
            seen = images if halved is None or config.is_vit or not config.glob_avg else halved
            with part("networks forward"):
                with self._autocast(images):
                    logits = run_network(config, leaves, seen, image_size=self.image_size)
                loss_here = F.cross_entropy(_single(logits), labels, label_smoothing=self.label_smoothing)
            with part("networks backward"):
                torch.autograd.backward(loss_here if scale is None else loss_here * scale)
            losses.append(loss_here.detach())
            correct += (logits.detach().argmax(1) == labels).sum()
            reached = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
            norm = torch.stack(torch._foreach_norm(list(reached.values()))).norm()
            if scale is not None:
                norm = norm / scale
            log_norms.append(norm.clamp(min=1e-12).log())
            factor = torch.full_like(norm, share) if scale is None else share / scale
            if typical_norm is not None:
                most = MOST_AMPLIFIED if self.network_norm == "normalise" else 1.0
                factor = factor * torch.nan_to_num(typical_norm / norm, nan=1.0, posinf=most).clamp(max=most)
            torch._foreach_mul_(list(reached.values()), factor)
            for name, leaf in leaves.items():
                if name in reached:
                    outputs.append(parameters[name])
                    gradients.append(reached[name])
                elif self.penalty:  # what does not lead to the output of the network is small, too
                    outputs.append(parameters[name])
                    gradients.append(torch.zeros_like(leaf))
        loss = torch.stack(losses).mean()
        if self.penalty:
            with part("networks backward"):
                loss = loss + _penalty(outputs, gradients, share * self.penalty) / weight

        started = time.perf_counter()
        with part("hypernetwork backward"):
            torch.autograd.backward(outputs, gradients)
        seconds = forward_seconds + time.perf_counter() - started
        return Outcome(loss, correct, len(predicted) * len(labels), torch.stack(log_norms).mean(), seconds)

    def _autocast(self, images: Tensor) -> contextlib.AbstractContextManager[object]:
        if self.precision not in DTYPES:
            return contextlib.nullcontext()
        return torch.autocast(images.device.type, dtype=DTYPES[self.precision])


def _penalty(tensors: list[Tensor], gradients: list[Tensor], factor: float) -> Tensor:
    """A factor times the sum of the norms of tensors, whose gradient is added to gradients.

    Written out, since autograd needs six operations for each tensor, of which there are hundreds in a network.
    """
    with torch.no_grad():
        norms = torch.stack(torch._foreach_norm(tensors))
        slopes = torch.where(norms > 0, factor / norms, 0.0)
        torch._foreach_add_(gradients, torch._foreach_mul(tensors, slopes.unbind()))
        return factor * norms.sum()


def _single(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in DTYPES.values() else logits
