"""Numbers of operations agree with a count of every layer from the sizes of its output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deepnets import GENOTYPES, ConfigError, Network, NetworkConfig, count_flops


def counted_by_hooks(model: nn.Module, image_size: int) -> int:
    """Two operations for every weight and position of convolutions and linear layers."""
    total = 0

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        positions = output[0].numel() // module.weight.shape[0]
        total += 2 * module.weight.numel() * positions

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(2, 3, image_size, image_size))
    return total


@pytest.mark.parametrize("image_size", [32, 224])
def test_a_convolutional_network(image_size: int) -> None:
    model = Network(NetworkConfig(GENOTYPES["DARTS"], 3, C=8), 10, image_size).eval()
    assert count_flops(model, image_size=image_size) == counted_by_hooks(model, image_size)


def test_attention_counts_its_two_products() -> None:
    config = NetworkConfig(GENOTYPES["ViT"], 1, C=16, C_mult=1, preproc=False)
    model = Network(config).eval()
    tokens = 11 * 11
    products = 2 * 2 * tokens * tokens * 16
    assert count_flops(model) == counted_by_hooks(model, 32) + products


def test_the_network_does_not_change() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_flops(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("examples", [torch.tensor(1.0), torch.zeros(0, 3, 8, 8)])
def test_no_examples(examples: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="expected a batch of examples"):
        count_flops(nn.Identity(), examples)
