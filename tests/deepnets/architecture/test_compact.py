"""`CompactModel` gives the outputs of the network itself, with fewer channels where channels are equal."""

from __future__ import annotations

import contextlib
import operator
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.accuracy import evaluate_network
from deepnets import GENOTYPES, Network, NetworkConfig, build_graph
from deepnets.architecture import CompactModel, run_network
from deepnets.data import load_images
from ghn_model import GHN, GHNConfig
from ghn_model.networks import use_batch_statistics
from tests.support.strategies import configs

DARTS, VIT = GENOTYPES["DARTS"], GENOTYPES["ViT"]
LARGEST = 8
"""Channels that the hypernetwork of these tests decodes; it repeats them in wider layers."""


def predicted(config: NetworkConfig, seed: int = 0) -> Network:
    """A network in evaluation mode and double precision, with predicted parameters."""
    torch.manual_seed(seed)
    ghn = GHN(GHNConfig(hidden=8, max_shape=(LARGEST, LARGEST, 7, 7))).double()
    network = Network(config).double()
    ghn.initialize(network)
    return use_batch_statistics(network).eval()


def images(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(3, 3, 32, 32, dtype=torch.double, generator=generator)
    return batch.contiguous(memory_format=torch.channels_last)


def compare(network: Network) -> None:
    found, with_hooks = CompactModel(network), CompactModel(network, network)
    for batch in (images(1), images(2)):  # what was computed for the first one is used for the second
        with torch.no_grad():
            expected = network(batch)
        assert expected.isfinite().all()
        for result in (found(batch), with_hooks(batch)):
            assert type(result) is Tensor
            assert torch.allclose(result, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


@settings(max_examples=12, deadline=None)
@given(configs(max_cells=4, max_steps=3, widths=(8, 24, 40), with_output=True), st.integers(0, 3))
def test_outputs_of_any_network(config: NetworkConfig, seed: int) -> None:
    compare(predicted(config, seed))


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(DARTS, n_cells=3, C=24),
        NetworkConfig(DARTS, n_cells=3, C=24, stem_type=1, norm=None, fc_layers=2, fc_dim=32),
        NetworkConfig(DARTS, n_cells=3, C=16, stem_pool=True, glob_avg=False),
        NetworkConfig(VIT, n_cells=2, C=32, C_mult=1, preproc=False),
    ],
)
def test_outputs_with_all_kinds_of_layers(config: NetworkConfig) -> None:
    compare(predicted(config))


class Convolutions(TorchDispatchMode):
    """Records the shapes of the weights of all convolutions that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.convolution.default:
            self.shapes.append(args[1].shape)
        return function(*args, **(kwargs or {}))


def test_equal_channels_are_computed_once() -> None:
    network = predicted(NetworkConfig(DARTS, n_cells=3, C=48))
    with Convolutions() as found:
        CompactModel(network)(images())
    assert len(found.shapes) > 20
    assert max(shape[0] for shape in found.shapes) <= 4 * LARGEST
    assert max(shape[1] for shape in found.shapes) <= 8 * LARGEST  # of four concatenated states, some with two halves


def test_networks_without_equal_channels_are_computed_as_usual() -> None:
    """Bit for bit, since nothing is selected or added."""
    torch.manual_seed(0)
    for config in (NetworkConfig(DARTS, n_cells=4, C=16), NetworkConfig(VIT, n_cells=2, C=16, C_mult=1)):
        network = use_batch_statistics(Network(config)).eval()
        for parameter in network.parameters():
            if parameter.dim() == 1:
                nn.init.uniform_(parameter)  # weights of norms are equal at first
        batch = images().float()
        with torch.no_grad():
            assert torch.equal(CompactModel(network)(batch), network(batch))


def test_parameters_that_are_made_for_every_call() -> None:
    """Their addresses are used again for other values."""
    config = NetworkConfig(DARTS, n_cells=2, C=16)
    parameters = {name: tensor.detach() for name, tensor in predicted(config).named_parameters()}
    numbers = iter(range(1, 100))

    def function(x: Any) -> Any:
        number = next(numbers)
        return run_network(config, {name: tensor * number for name, tensor in parameters.items()}, x, training=False)

    model = CompactModel(function)
    for number in (1, 2, 3):
        scaled = {name: tensor * number for name, tensor in parameters.items()}
        expected = run_network(config, scaled, images(), training=False)
        assert torch.allclose(model(images()), expected, rtol=1e-6, atol=1e-8)


class Outputs(NamedTuple):
    """What `Unusual` returns."""

    total: Tensor
    others: dict[str, Any]


class Unusual(nn.Module):
    """Functions, methods and operators that get whole tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        with torch.no_grad():
            self.conv.weight[4:] = self.conv.weight[:4]
            self.conv.bias.fill_(0.5)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Outputs:
        x = self.conv(x)
        y = F.interpolate(self.norm(self.grouped(x)), scale_factor=2)
        gap = x.mean(dim=(2, 3), keepdim=True)
        others = {
            "methods": [x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1]).softmax(-1), x.flatten(1, 2)],
            "operators": (
                1 - x,
                x - 1,
                2 / (x.abs() + 1),
                x / 2,
                -x,
                x**2,
                abs(x),
                x > 0.5,
                x == 0.5,
                x @ x,
                3 + 2 * x,
            ),
            "parts": [y[:, 2:5], x[0], list(x)[-1], x[:, :, 1:, None]],
            "padded": [F.pad(x, (1, 0, 0, 2)), F.pad(x, (0, 0, 0, 0, 1, 2)), F.dropout(x, 0.5, False)],
            "random": F.dropout(x, 0.5, True),
        }
        return Outputs((1 - x * 2 + gap).clamp(min=0).sum(dim=1) / x.size(1), others)


def test_other_functions_get_whole_tensors() -> None:
    torch.manual_seed(0)
    model = Unusual().double().eval()
    with torch.no_grad():
        torch.manual_seed(1)
        expected = model(images())
    torch.manual_seed(1)
    found = CompactModel(model)(images())
    assert type(found) is Outputs
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "function", [lambda x: x.add_(1), torch.relu_, lambda x: F.threshold_(x, 0.1, 0.0)], ids=["method", "torch", "F"]
)
def test_changes_in_place_are_refused(function: Any) -> None:
    """They would be lost."""
    with pytest.raises(TypeError, match=r"\w+_: cannot change a tensor in place"):
        CompactModel(lambda x: function(F.conv2d(x, torch.ones(8, 3, 1, 1, dtype=torch.double))))(images())


@pytest.mark.parametrize("change", [operator.iadd, operator.isub, operator.imul, operator.itruediv])
def test_operators_in_place_change_the_tensor_under_all_of_its_names(change: Any) -> None:
    def function(x: Any) -> Any:
        x = F.conv2d(x, weight)
        same, other = x, F.relu(x)
        same = change(same, other + 2)
        return (x + same).mean((2, 3))

    torch.manual_seed(0)
    weight = torch.randn(4, 3, 1, 1, dtype=torch.double).repeat(2, 1, 1, 1)
    torch.testing.assert_close(CompactModel(function)(images()), function(images()))


@pytest.mark.parametrize("kind", [nn.ReLU, nn.SiLU, nn.LeakyReLU, nn.Hardswish, nn.ELU, nn.ReLU6])
@pytest.mark.parametrize("times", [1, 2])
def test_activations_in_place_change_the_tensor_under_all_of_its_names(kind: Any, times: int) -> None:
    def function(x: Any) -> Any:
        x = F.conv2d(x, weight)
        y = x
        for act in [nn.ReLU(inplace=True), kind(inplace=True)][2 - times :]:
            y = act(y)
        return (x + 2 * y).mean((2, 3))

    torch.manual_seed(0)
    weight = torch.randn(4, 3, 1, 1, dtype=torch.double).repeat(2, 1, 1, 1)
    torch.testing.assert_close(CompactModel(function)(images()), function(images()))


def test_the_model_of_a_function_has_hooks_during_a_call_only() -> None:
    """Single images, `(C, H, W)`, are convolved as usual."""
    model = nn.Conv2d(3, 8, 1).double()

    def function(x: Any) -> Any:
        assert model._forward_pre_hooks
        if fails:
            raise ValueError("of the function")
        return model(x.whole()[0])

    for fails in (False, True):
        with pytest.raises(ValueError, match="of the function") if fails else contextlib.nullcontext():
            torch.testing.assert_close(CompactModel(function, model)(images()), model(images()[0]).detach())
        assert not model._forward_pre_hooks


def test_arguments_are_called_as_in_pytorch() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.double).repeat(2, 1, 1, 1)
    ones, matrix = torch.ones(16, dtype=torch.double), torch.randn(5, 16, dtype=torch.double)

    def function(x: Any) -> Any:
        x = F.conv2d(input=x, weight=weight, padding=1)
        x = torch.cat([x, F.pad(input=x, pad=(0, 0))], axis=1)  # type: ignore[call-overload]
        x = F.batch_norm(input=x, running_mean=None, running_var=None, weight=ones, training=True)
        return F.linear(input=F.dropout(input=x.mean((2, 3)), training=False), weight=matrix)

    torch.testing.assert_close(CompactModel(function)(images()), function(images()))


def test_networks_in_half_precision() -> None:
    network = predicted(NetworkConfig(DARTS, n_cells=2, C=16)).bfloat16()
    with torch.no_grad():
        expected = network(images().bfloat16())
    found = CompactModel(network)(images().bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))


def test_convolutions_that_are_called_by_keyword() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Any) -> Any:
            return self.conv(input=x).sum((2, 3)) / x.size(dim=0)

    model = Net().double()
    torch.testing.assert_close(CompactModel(model, model)(images()), model(images()).detach())


def test_the_memory_format_remains() -> None:
    """Convolutions on CPUs are faster with the channels last, and so they are with selected channels."""
    seen = []

    def function(x: Any) -> Any:
        y = F.conv2d(x, torch.ones(8, 3, 1, 1, dtype=torch.double))
        seen.append(y.whole().is_contiguous(memory_format=torch.channels_last))
        return y

    assert CompactModel(function)(images()).shape == (3, 8, 32, 32)
    assert seen == [True]


def test_the_benchmark_gives_the_scores_of_the_network() -> None:
    network, digits = predicted(NetworkConfig(DARTS, n_cells=2, C=24)).float(), load_images("digits", "test")
    parameters = {name: tensor.detach() for name, tensor in network.named_parameters()}
    unused = build_graph(network.config).unused
    scores = evaluate_network(network, parameters, digits, unused=unused)
    with torch.no_grad():
        correct = [(network(batch).argmax(1) == labels).sum() for batch, labels in digits.batches(64)]
    assert scores["top1"] == pytest.approx(100 * float(sum(correct)) / len(digits))
    assert not network.stem[0]._forward_pre_hooks  # the network itself is as before
