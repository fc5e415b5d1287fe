"""`run_network` and `Network` have bitwise equal outputs and equal gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets import GENOTYPES, Network, NetworkConfig
from deepnets.architecture import Genotype, run_network
from deepnets.architecture.channels import Channels
from deepnets.architecture.compact_tensor import Repeated
from deepnets.architecture.functional import _pointwise, _used_states
from deepnets.support import ConfigError
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


@pytest.mark.parametrize(
    "config",
    [NetworkConfig(DARTS, n_cells=3, C=8, fc_layers=2), NetworkConfig(VIT, n_cells=2, C=16, C_mult=1, preproc=False)],
)
def test_a_missing_parameter_is_an_error(config: NetworkConfig) -> None:
    whole = dict(Network(config).named_parameters())
    for name in whole:
        with pytest.raises(KeyError, match=name.replace(".", r"\.")):
            run_network(
                config, {other: value for other, value in whole.items() if other != name}, torch.randn(2, 3, 32, 32)
            )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_in_half_precision(dtype: torch.dtype) -> None:
    config = NetworkConfig(DARTS, n_cells=3, C=8, glob_avg=True)
    network, images = Network(config).to(dtype), torch.randn(2, 3, 32, 32, dtype=dtype)
    parameters = dict(network.named_parameters())
    run_network(config, parameters, images).float().sum().backward()
    assert parameters["stem.0.weight"].grad is not None


def test_transforms_of_torch_func() -> None:
    config = NetworkConfig(DARTS, n_cells=2, C=8)
    parameters = {name: each.detach().double() for name, each in Network(config).named_parameters()}
    images = torch.randn(2, 3, 32, 32).double()
    found = torch.func.grad(lambda given_: run_network(config, given_, images).square().sum())(parameters)
    leaves = {name: each.clone().requires_grad_() for name, each in parameters.items()}
    run_network(config, leaves, images).square().sum().backward()
    for name, leaf in leaves.items():
        expected = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        assert torch.allclose(found[name], expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max() + 1)), name


def test_a_network_without_output_is_an_error() -> None:
    cut = Genotype(
        normal=[("none", 0), ("none", 1)], normal_concat=[2], reduce=[("none", 0), ("none", 1)], reduce_concat=[2]
    )
    config = NetworkConfig(cut, n_cells=3, C=8)
    parameters = {
        "stem.0.weight": torch.randn(8, 3, 3, 3),
        "stem.1.weight": torch.ones(8),
        "stem.1.bias": torch.zeros(8),
    }
    with pytest.raises(ConfigError, match="genotype: the network has no output"):
        run_network(config, parameters, torch.randn(2, 3, 32, 32))


def test_repeated_parameters_are_never_flattened(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, pointwise convolutions are products of whole matrices, which repeated parameters are not."""
    config = NetworkConfig(DARTS, n_cells=2, C=32)
    torch.manual_seed(0)
    whole = {name: each.detach() for name, each in Network(config).named_parameters()}
    wide = {name: each for name, each in whole.items() if each.dim() == 4 and each.shape[0] % 16 == 0}
    name = next(name for name, each in wide.items() if each.shape[2:] == (1, 1) and each.shape[1] % 16 == 0)
    blocks = {**whole, name: Repeated(whole[name][:16, :16], whole[name].shape)}
    monkeypatch.setattr("deepnets.architecture.functional._pointwise", lambda *_: pytest.fail("flattened"))
    monkeypatch.setattr(Channels, "is_cuda", True, raising=False)
    assert run_network(config, blocks, torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_genotypes_of_a_long_training_are_forgotten() -> None:
    assert _used_states.cache_info().maxsize is not None
