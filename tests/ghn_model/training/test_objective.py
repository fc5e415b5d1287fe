"""The objective: losses and gradients compared with independent computations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from deepnets import GENOTYPES, Genotype, Network, NetworkConfig, build_graph
from deepnets.architecture import Repeated, tile
from ghn_model import GHN
from ghn_model.training.meta_batches import MetaBatch
from ghn_model.training.objective import Objective, Outcome
from tests.support.training_runs import small_config

STARVED = Genotype(  # operations without input, and one whose output is unused
    normal=[("none", 0), ("conv_3x3", 1), ("sep_conv_3x3", 2), ("none", 1), ("cse", 0), ("conv_1x1", 1)],
    normal_concat=[3],
    reduce=[("none", 0), ("none", 1), ("conv_5x5", 2), ("skip_connect", 1), ("max_pool_3x3", 0), ("none", 2)],
    reduce_concat=[3, 4],
)
CONFIGS = [
    NetworkConfig(STARVED, n_cells=4, C=8, norm="bnorm"),
    NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=8, norm="bnorm", stem_type=1),
    NetworkConfig(GENOTYPES["ViT"], n_cells=2, C=16, C_mult=1, preproc=False),
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("preset", ["ghn2", "ghn1", "mlp", "ghn3-t"])
@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_gradients_equal_those_of_real_networks(preset: str, decay: float) -> None:
    """Compare with one backward pass through networks whose parameters are replaced, in double precision."""
    torch.manual_seed(0)
    ghn = GHN(small_config(preset)).double().train()
    graphs = [build_graph(config) for config in CONFIGS]
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    objective = Objective(label_smoothing=0.1, predicted_param_decay=decay)
    outcome = objective.backward(ghn, MetaBatch.of(ghn, graphs), images, labels)
    gradients = {name: parameter.grad for name, parameter in ghn.named_parameters()}

    ghn.zero_grad()
    total, correct = torch.zeros((), dtype=torch.float64), 0
    for graph, predicted in zip(graphs, ghn(graphs)):
        network = Network(graph.config).double().train()
        for name, parameter in predicted.items():
            owner, _, leaf = name.rpartition(".")
            module = network.get_submodule(owner)
            assert getattr(module, leaf).shape == parameter.shape
            del module._parameters[leaf]
            setattr(module, leaf, parameter)  # a plain tensor in place of the parameter
        logits = network(images)
        smooth = 0.9 * F.one_hot(labels, 10).double() + 0.01
        loss = -(smooth * logits.log_softmax(1)).sum(1).mean()
        total = total + loss + decay * sum(tensor.square().sum().sqrt() for tensor in predicted.values())
        correct += int((logits.argmax(1) == labels).sum())
    (total / 3).backward()

    assert outcome.loss.item() == pytest.approx(total.item() / 3, rel=1e-9)
    assert (outcome.tally.item(), outcome.answers) == (correct, 12)
    for name, parameter in ghn.named_parameters():
        assert parameter.grad is not None, name
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-6, atol=1e-10), name  # type: ignore[arg-type]


def test_loss_scale_does_not_change_gradients() -> None:
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    found = []
    for scale in (None, torch.tensor(1024.0, dtype=torch.float64)):
        ghn.zero_grad()
        Objective().backward(ghn, MetaBatch.of(ghn, [build_graph(CONFIGS[0])]), images, labels, scale=scale)
        found.append([parameter.grad for parameter in ghn.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(*found))  # type: ignore[arg-type]


def gradient_norms(**options: object) -> tuple[list[float], list[float]]:
    """Return the gradient norms of the weights for each of `CONFIGS` alone, without and with the options."""
    found = []
    for given in ({}, options):
        norms = []
        for config in CONFIGS:
            torch.manual_seed(0)
            ghn = GHN(small_config()).double().train()
            images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
            typical = given.get("typical_norm")
            objective = Objective(network_norm=str(given.get("network_norm", "none")))
            objective.backward(ghn, MetaBatch.of(ghn, [build_graph(config)]), images, labels, typical_norm=typical)  # type: ignore[arg-type]
            norms.append(float(torch.nn.utils.get_total_norm(p.grad for p in ghn.parameters() if p.grad is not None)))
        found.append(norms)
    return found[0], found[1]


def network_log_norm(config: NetworkConfig) -> float:
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    return Objective().backward(ghn, MetaBatch.of(ghn, [build_graph(config)]), images, labels).log_norm.item()


@pytest.mark.parametrize("kind", ["clip", "normalise"])
def test_network_norm_scales_gradients(kind: str) -> None:
    logs = [network_log_norm(config) for config in CONFIGS]
    typical = math.exp(sorted(logs)[1])
    plain, changed = gradient_norms(network_norm=kind, typical_norm=torch.tensor(typical, dtype=torch.float64))
    for log, before, after in zip(logs, plain, changed):
        most = 1.0 if kind == "clip" else 4.0
        assert after / before == pytest.approx(min(most, typical / math.exp(log)), rel=1e-6)


def test_network_norm_has_no_effect_in_the_first_step() -> None:
    plain, changed = gradient_norms(network_norm="normalise", typical_norm=torch.tensor(math.nan))
    assert changed == pytest.approx(plain)


@pytest.mark.parametrize("config", [CONFIGS[1], CONFIGS[1].replace(C=24)], ids=["narrow", "wide"])
def test_log_norm_equals_autograd(config: NetworkConfig) -> None:
    """The norm of the gradient of what is predicted: of tensors, or of the blocks that wide layers repeat."""
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1])
    (predicted,) = ghn.predict_blocks(build_graph(config))
    blocks = {name: (p.block if isinstance(p, Repeated) else p).detach() for name, p in predicted.items()}
    whole = {name: tile(block.requires_grad_(), predicted[name].shape) for name, block in blocks.items()}
    network = Network(config).double().train()
    F.cross_entropy(torch.func.functional_call(network, whole, (images,)), labels).backward()
    norm = math.sqrt(sum(float(block.grad.square().sum()) for block in blocks.values() if block.grad is not None))
    assert network_log_norm(config) == pytest.approx(math.log(norm), rel=1e-9)


@pytest.mark.parametrize("halved", [False, True])
def test_pieces_of_a_meta_batch_add_up(halved: bool) -> None:
    """A meta-batch that is processed in pieces for lack of memory has the same gradients, and the same means.

    With half the resolution, the networks have different numbers of images, but the same weight.
    """
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    graphs = [build_graph(config) for config in CONFIGS]
    images, labels = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
    half = F.avg_pool2d(images, 2) if halved else None
    objective = Objective(predicted_param_decay=1e-3)
    whole = objective.backward(ghn, MetaBatch.of(ghn, graphs), images, labels, half_images=half)
    expected = [parameter.grad for parameter in ghn.parameters()]
    ghn.zero_grad()
    parts = [
        objective.backward(ghn, MetaBatch.of(ghn, some), images, labels, half_images=half, weight=len(some) / 3)
        for some in (graphs[:1], graphs[1:])
    ]
    joined = Outcome.merge(parts)
    assert joined.loss.item() == pytest.approx(whole.loss.item())
    assert joined.log_norm.item() == pytest.approx(whole.log_norm.item())
    assert (joined.tally.item(), joined.answers) == (whole.tally.item(), whole.answers)
    for gradient, parameter in zip(expected, ghn.parameters()):
        assert torch.allclose(gradient, parameter.grad, rtol=1e-9, atol=1e-14)  # type: ignore[arg-type]


def test_half_resolution_is_used_where_possible() -> None:
    """Position encodings and classifiers of flattened features fix the image size; such networks get fewer images."""
    torch.manual_seed(0)
    ghn = GHN(small_config()).train()
    flat = CONFIGS[1].replace(glob_avg=False)
    images, labels, black = torch.randn(12, 3, 32, 32), torch.arange(12) % 10, torch.zeros(12, 3, 16, 16)
    for config, smaller in ((CONFIGS[1], True), (CONFIGS[2], False), (flat, False)):
        batch = MetaBatch.of(ghn, [build_graph(config)])
        torch.manual_seed(1)
        expected = (
            Objective().backward(ghn, batch, black, labels)
            if smaller
            else Objective().backward(ghn, batch, images[:3], labels[:3])
        )
        torch.manual_seed(1)
        found = Objective().backward(ghn, batch, images, labels, half_images=black)
        assert found.loss.item() == expected.loss.item()
        assert found.answers == expected.answers == (12 if smaller else 3)


def test_networks_with_images_of_their_own() -> None:
    """The gradient is the mean of those of the networks, each with its part of the images."""
    torch.manual_seed(0)
    ghn = GHN(small_config()).double().train()
    graphs = [build_graph(config) for config in CONFIGS]
    images, labels = torch.randn(12, 3, 32, 32, dtype=torch.float64), torch.arange(12) % 10
    whole = Objective(share_images=False).backward(ghn, MetaBatch.of(ghn, graphs), images, labels)
    expected = [parameter.grad for parameter in ghn.parameters()]
    ghn.zero_grad()
    parts = [
        Objective().backward(
            ghn,
            MetaBatch.of(ghn, [graph]),
            images[4 * number : 4 * number + 4],
            labels[4 * number : 4 * number + 4],
            weight=1 / 3,
        )
        for number, graph in enumerate(graphs)
    ]
    joined = Outcome.merge(parts)
    assert whole.loss.item() == pytest.approx(joined.loss.item())
    assert (whole.tally.item(), whole.answers) == (joined.tally.item(), 12)
    for gradient, parameter in zip(expected, ghn.parameters()):
        assert torch.allclose(gradient, parameter.grad, rtol=1e-9, atol=1e-14)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_to_single(precision: str) -> None:
    torch.manual_seed(0)
    ghn = GHN(small_config()).train()
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    graphs = MetaBatch.of(ghn, [build_graph(CONFIGS[1])])
    exact = Objective().backward(ghn, graphs, images, labels)
    half = Objective(precision=precision).backward(ghn, graphs, images, labels, scale=torch.tensor(256.0))
    assert half.loss.item() == pytest.approx(exact.loss.item(), abs=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in ghn.parameters() if parameter.grad is not None)
