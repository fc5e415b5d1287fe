"""The loss of a meta-batch of networks with predicted parameters, and its gradient by the hypernetwork's weights.

The gradient is taken in two steps, first by the predicted parameters, network after network, then from these by the
weights.  The result is that of one backward pass, but only one network's activations are in memory at a time.
Nothing here waits for the device.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from deepnets.architecture import Network
from deepnets.graph import Graph
from ghn_model.checkpoints import Unfilled
from ghn_model.ghn import GHN
from ghn_model.prepared_batch import Prepared
from ghn_model.training.step_parts import part

__all__ = ["Objective", "Outcome", "on_meta"]

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
    hyper_seconds
        Time that the hypernetwork took, on a CPU; elsewhere that of giving the orders.
    """

    loss: Tensor
    correct: Tensor
    answers: int
    hyper_seconds: float


@dataclass(frozen=True)
class Objective:
    """Mean over networks of the cross entropy of all of them on the same images.

    Parameters
    ----------
    num_classes, image_size
        Of the task.
    label_smoothing, penalty, precision
        As in `ghn_model.recipe.Recipe`.
    """

    num_classes: int = 10
    image_size: int = 32
    label_smoothing: float = 0.0
    penalty: float = 0.0
    precision: str = "fp32"

    def backward(
        self, ghn: GHN, batch: Prepared, images: Tensor, labels: Tensor, *, scale: Tensor | None = None
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
        """
        with part("build"):
            networks = [on_meta(graph, self.num_classes, self.image_size) for graph in batch.graphs]
        started = time.perf_counter()
        with part("hypernetwork forward"):
            predicted = ghn(batch)
        forward_seconds = time.perf_counter() - started

        share = 1 / len(networks)
        outputs: list[Tensor] = []
        gradients: list[Tensor] = []
        losses: list[Tensor] = []
        correct = torch.zeros((), dtype=torch.int64, device=images.device)
        for network, parameters in zip(networks, predicted):
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
            with part("networks forward"):
                with self._autocast(images):
                    logits = functional_call(network, leaves, (images,))
                loss_here = F.cross_entropy(_single(logits), labels, label_smoothing=self.label_smoothing)
            with part("networks backward"):
                torch.autograd.backward(loss_here * share if scale is None else loss_here * (share * scale))
            losses.append(loss_here.detach())
            correct += (logits.detach().argmax(1) == labels).sum()
            for name, leaf in leaves.items():
                if leaf.grad is not None:
                    outputs.append(parameters[name])
                    gradients.append(leaf.grad)
                elif self.penalty:  # what does not lead to the output of the network is small, too
                    outputs.append(parameters[name])
                    gradients.append(torch.zeros_like(leaf))
        loss = torch.stack(losses).mean()
        if scale is not None:
            torch._foreach_mul_(gradients, scale.reciprocal())
        if self.penalty:
            with part("networks backward"):
                loss = loss + _penalty(outputs, gradients, share * self.penalty)

        started = time.perf_counter()
        with part("hypernetwork backward"):
            torch.autograd.backward(outputs, gradients)
        seconds = forward_seconds + time.perf_counter() - started
        return Outcome(loss, correct, len(networks) * len(labels), seconds)

    def _autocast(self, images: Tensor) -> contextlib.AbstractContextManager[object]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(images.device.type, dtype=DTYPES[self.precision])


def on_meta(graph: Graph, num_classes: int = 10, image_size: int = 32) -> Network:
    """The network of a graph, in training mode, its parameters without memory."""
    with torch.device("meta"), Unfilled():
        return Network(graph.config, num_classes, image_size)


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
