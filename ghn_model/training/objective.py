"""The loss of a meta-batch of networks with predicted parameters, and its gradient for the hypernetwork's weights.

The gradient is computed in two stages: first with respect to the predicted parameters, one network after the other, and
then from there with respect to the weights.  The result equals that of one backward pass, but the activations of only
one network are in memory at a time.  Nothing here synchronizes with the device.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deepnets.architecture import Repeated
from deepnets.families import FamilyGraph
from deepnets.graph import Graph
from ghn_model.tasks import Classification, LogitTask
from ghn_model.training.checking import check_predictions
from ghn_model.training.forward import accepts_any_size, run_graph
from ghn_model.training.hypernetwork import is_ghn
from ghn_model.training.meta_batches import MetaBatch
from ghn_model.training.step_parts import part

__all__ = ["Objective", "Outcome"]

MAX_AMPLIFICATION = 4.0
"""Largest factor by which "normalise" multiplies the gradient of a network."""

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Outcome:
    """What a backward pass returns in addition to gradients; all tensors are on the device.

    Attributes
    ----------
    loss : Tensor
        `()`, mean loss of the networks, including the decay of predicted parameters.
    tally : Tensor
        `()`, sum over all networks and labels of what the task's metric averages (`LogitTask.tallies`): for
        classification the number of correct predictions.
    answers : int
        Number of predictions: networks times labels.
    log_norm : Tensor
        `()`, mean over networks of the logarithm of the norm of the gradient of one network's loss with respect to what
        is predicted for it (the blocks of `Repeated` parameters), before `network_norm` is applied.
    hyper_seconds : float
        Time of the forward and backward pass of the hypernetwork.  On a GPU, time to launch them.
    networks : int
        Number of networks.

    Examples
    --------
    >>> one = Outcome(torch.tensor(2.0), torch.tensor(3), 4, torch.tensor(0.0), 0.1)
    >>> Outcome.merge([one, one]).answers
    8
    """

    loss: Tensor
    tally: Tensor
    answers: int
    log_norm: Tensor
    hyper_seconds: float
    networks: int = 1

    @classmethod
    def merge(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Return the outcome of a meta-batch from those of its pieces."""
        networks = [outcome.networks for outcome in outcomes]
        weights = torch.tensor(networks, device=outcomes[0].loss.device) / sum(networks)
        return cls(
            (torch.stack([outcome.loss for outcome in outcomes]) * weights).sum(),
            torch.stack([outcome.tally for outcome in outcomes]).sum(),
            sum(outcome.answers for outcome in outcomes),
            (torch.stack([outcome.log_norm for outcome in outcomes]) * weights).sum(),
            sum(outcome.hyper_seconds for outcome in outcomes),
            sum(networks),
        )


@dataclass(frozen=True)
class Objective:
    """Mean loss of several networks on the same batch of examples.

    Parameters
    ----------
    image_size : int, default 32
        Image size that the networks are made for, 16 to 512.
    label_smoothing, predicted_param_decay, precision, network_norm, share_images
        As in `ghn_model.training.Recipe`.
    task : LogitTask
        Task of the networks; classification by default.
    data : Images, optional
        Training images; with them, networks must have as many outputs as there are classes.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN, GHNConfig
    >>> ghn = GHN(GHNConfig(hidden=8, max_shape=(16, 16, 11, 11)))
    >>> batch = MetaBatch.of(ghn, [build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))])
    >>> outcome = Objective().backward(ghn, batch, torch.randn(4, 3, 32, 32), torch.arange(4))
    >>> outcome.answers, all(parameter.grad is not None for parameter in ghn.ln.parameters())
    (4, True)
    """

    image_size: int = 32
    label_smoothing: float = 0.0
    predicted_param_decay: float = 0.0
    precision: str = "fp32"
    network_norm: str = "none"
    share_images: bool = True
    task: LogitTask = field(default_factory=Classification)
    data: Any = None

    def backward(
        self,
        hypernetwork: nn.Module,
        batch: MetaBatch,
        images: Tensor,
        labels: Tensor,
        *,
        scale: Tensor | None = None,
        half_images: Tensor | None = None,
        typical_norm: Tensor | None = None,
        weight: float = 1.0,
    ) -> Outcome:
        """Add the gradient of the loss to the gradients of the hypernetwork's weights.

        Parameters
        ----------
        hypernetwork : nn.Module
            Hypernetwork (`ghn_model.training.Hypernetwork`).
        batch : MetaBatch
            Graphs of `deepnets.Network`s, or of networks of a family, on the device of the hypernetwork.
        images, labels : Tensor
            Examples of the task and their targets, on the same device.  For classification,
            `(B, 3, image_size, image_size) float32` and `(B,) int64`.  If `share_images` is false, they are divided
            among the networks.
        scale : Tensor, optional
            `()`, loss scale for gradients in half precision.
        half_images : Tensor, optional
            `(B, 3, image_size / 2, image_size / 2)`, used in place of `images` by networks that accept any image size.
            The others get a quarter of the images, which costs as much.
        typical_norm : Tensor, optional
            `()`, norm for `network_norm`.  NaN, as before the first step, leaves gradients unchanged.
        weight : float, default 1.0
            Factor of the gradient: the fraction of the meta-batch that `batch` is, if it is processed in pieces.

        Returns
        -------
        Outcome

        Raises
        ------
        ConfigError
            If a network has another number of outputs than classes.
        """
        started = time.perf_counter()
        with part("hypernetwork forward"):
            predicted = self._predict(hypernetwork, batch, images.device)
        hyper_seconds = time.perf_counter() - started

        share = weight / len(predicted)
        outputs: list[Tensor] = []
        gradients: list[Tensor] = []
        losses: list[Tensor] = []
        log_norms: list[Tensor] = []
        tallies: list[Tensor] = []
        answers = 0
        for number, (graph, parameters) in enumerate(zip(batch.graphs, predicted, strict=True)):
            values = {name: _values(parameter) for name, parameter in parameters.items()}
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in values.items()}
            given = {name: _with_values(parameters[name], leaf) for name, leaf in leaves.items()}
            seen, targets = self._examples(graph, images, labels, half_images, number, len(predicted))
            with part("networks forward"):
                with self._autocast(images):
                    output = run_graph(graph, given, self.task.inputs(seen, targets), image_size=self.image_size)
                logits = self.task.logits(output, targets, self.data)
                loss = self.task.loss(output, targets, label_smoothing=self.label_smoothing)
            with part("networks backward"):
                torch.autograd.backward(loss if scale is None else loss * scale)
            losses.append(loss.detach())
            with torch.no_grad():
                tallies.append(self.task.tallies(logits, self.task.labels(targets)).sum())
            answers += targets.numel()
            del output, logits

            with_grad = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
            norm = torch.stack(torch._foreach_norm(list(with_grad.values()))).norm()
            if scale is not None:
                norm = norm / scale
            log_norms.append(norm.clamp(min=1e-12).log())
            factor = torch.full_like(norm, share) if scale is None else share / scale
            if typical_norm is not None:
                most = MAX_AMPLIFICATION if self.network_norm == "normalise" else 1.0
                factor = factor * torch.nan_to_num(typical_norm / norm, nan=1.0, posinf=most).clamp(max=most)
            torch._foreach_mul_(list(with_grad.values()), factor)
            for name, leaf in leaves.items():
                if not values[name].requires_grad:  # a constant of a hypernetwork of the user's own
                    continue
                if name in with_grad:
                    outputs.append(values[name])
                    gradients.append(with_grad[name])
                elif self.predicted_param_decay:  # tensors without influence on the output are decayed, too
                    outputs.append(values[name])
                    gradients.append(torch.zeros_like(leaf))
        mean_loss = torch.stack(losses).mean()
        if self.predicted_param_decay and outputs:
            with part("networks backward"):
                decay = _add_norm_gradients(outputs, gradients, share * self.predicted_param_decay)
                mean_loss = mean_loss + decay / weight

        started = time.perf_counter()
        with part("hypernetwork backward"):
            if outputs:  # otherwise these networks have constant parameters only
                torch.autograd.backward(outputs, gradients)
        hyper_seconds += time.perf_counter() - started
        tally, log_norm = torch.stack(tallies).sum(), torch.stack(log_norms).mean()
        return Outcome(mean_loss, tally, answers, log_norm, hyper_seconds, len(predicted))

    def _examples(
        self, graph: Graph, images: Tensor, labels: Tensor, half_images: Tensor | None, number: int, networks: int
    ) -> tuple[Tensor, Tensor]:
        """The examples and targets for one of the networks."""
        size = len(labels) if self.share_images else len(labels) // networks
        start = 0 if self.share_images else number * size
        if half_images is not None:
            if accepts_any_size(graph):
                images = half_images
            else:
                size = max(2, size // 4)
        return images[start : start + size], labels[start : start + size]

    def _predict(self, hypernetwork: nn.Module, batch: MetaBatch, device: torch.device) -> list[Any]:
        """Predict parameters, of which some are `Repeated` if it is faster to compute equal channels once."""
        if not is_ghn(hypernetwork):
            predicted: list[Any] = hypernetwork(batch.inputs)
            check_predictions(hypernetwork, predicted, batch.graphs)
            return predicted
        # On a GPU, the number of operations counts.  Norms of predicted tensors are those of whole tensors.
        whole = device.type != "cpu" or self.predicted_param_decay or self.precision in AUTOCAST_DTYPES
        if whole or any(isinstance(graph, FamilyGraph) for graph in batch.graphs):
            return list(hypernetwork(batch.inputs))
        return list(hypernetwork.predict_blocks(batch.inputs))

    def _autocast(self, images: Tensor) -> contextlib.AbstractContextManager[object]:
        if self.precision not in AUTOCAST_DTYPES:
            return contextlib.nullcontext()
        return torch.autocast(images.device.type, dtype=AUTOCAST_DTYPES[self.precision])


def _values(parameter: Tensor | Repeated) -> Tensor:
    """The values that are predicted."""
    return parameter.block if isinstance(parameter, Repeated) else parameter


def _with_values(parameter: Tensor | Repeated, values: Tensor) -> Tensor | Repeated:
    """The parameter with other values."""
    return Repeated(values, parameter.shape) if isinstance(parameter, Repeated) else values


def _add_norm_gradients(tensors: list[Tensor], gradients: list[Tensor], factor: float) -> Tensor:
    """Return `factor` times the sum of the norms of tensors, and add its gradient to `gradients` in place.

    Autograd needs six operations per tensor for this, and a network has hundreds of tensors.
    """
    with torch.no_grad():
        norms = torch.stack(torch._foreach_norm(tensors))
        slopes = torch.where(norms > 0, factor / norms, 0.0)
        torch._foreach_add_(gradients, torch._foreach_mul(tensors, slopes.unbind()))
        return factor * norms.sum()
