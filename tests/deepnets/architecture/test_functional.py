"""`run_network` and `Network` have bitwise equal outputs and equal gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets import GENOTYPES, Network, NetworkConfig
from deepnets.architecture import run_network
from deepnets.architecture.functional import _pointwise
from tests.support.strategies import configs

DARTS, VIT = GENOTYPES["DARTS"], GENOTYPES["ViT"]


def compare(config: NetworkConfig, image_size: int = 32, batch: int = 2) -> None:
    torch.manual_seed(0)
    network = Network(config, image_size=image_size).double().train()
    images = torch.randn(batch, 3, image_size, image_size).double().contiguous(memory_format=torch.channels_last)
    given_ = {name: tensor.detach().clone().requires_grad_() for name, tensor in network.named_parameters()}
    torch.manual_seed(1)
    expected = network(images)
    torch.manual_seed(1)
    found = run_network(config, given_, images, image_size=image_size)
    assert torch.equal(expected, found)
    expected.square().sum().backward()
    found.square().sum().backward()
    largest = max(p.grad.abs().max().item() for p in network.parameters() if p.grad is not None)
    for name, parameter in network.named_parameters():
        theirs, ours = parameter.grad, given_[name].grad
        if theirs is None or ours is None:  # without effect on the output: no gradient, or zeros
            assert all(gradient is None or not gradient.any() for gradient in (theirs, ours)), name
        else:
            assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-12 * largest), name


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(configs(max_cells=5, with_output=True))
def test_random_networks(config: NetworkConfig) -> None:
    compare(config)


@pytest.mark.parametrize("image_size", [32, 224])
@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(DARTS, n_cells=4, C=8),
        NetworkConfig(DARTS, n_cells=3, C=8, stem_type=1, norm=None, fc_layers=3, fc_dim=16),
        NetworkConfig(DARTS, n_cells=3, C=8, stem_pool=True, glob_avg=False),
        NetworkConfig(VIT, n_cells=2, C=16, C_mult=1, preproc=False),
    ],
)
def test_both_image_sizes(config: NetworkConfig, image_size: int) -> None:
    compare(config, image_size)


def test_without_dropout() -> None:
    config = NetworkConfig(DARTS, n_cells=2, C=8, fc_layers=2)
    network, images = Network(config).eval(), torch.randn(4, 3, 32, 32)
    assert torch.equal(network(images), run_network(config, dict(network.named_parameters()), images, training=False))


@pytest.mark.parametrize("stride", [1, 2])
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_pointwise_convolutions_as_products(stride: int, batch: int, inputs: int, side: int) -> None:
    x, weight = torch.randn(batch, inputs, side, side).double(), torch.randn(5, inputs, 1, 1).double()
    assert torch.allclose(_pointwise(weight, x, stride), F.conv2d(x, weight, None, stride))


def test_constants_that_were_expanded() -> None:
    """A hypernetwork can return tensors that repeat one value in memory; PyTorch's batch norm cannot read them."""
    config = NetworkConfig(DARTS, n_cells=3, C=8)
    images = torch.randn(4, 3, 32, 32).double().contiguous(memory_format=torch.channels_last)
    expanded = {
        name: torch.tensor(0.05 * parameter.ndim).double().expand(parameter.shape)
        for name, parameter in Network(config).named_parameters()
    }
    gradients = []
    for copied in (True, False):
        leaves = {name: (t.clone() if copied else t.detach()).requires_grad_() for name, t in expanded.items()}
        torch.manual_seed(0)
        run_network(config, leaves, images).square().sum().backward()
        gradients.append({name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        assert torch.allclose(gradients[1][name], expected, rtol=1e-6, atol=1e-9), name
