"""Noise and orthogonal matrices, against the definition in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from deepnets.support import ConfigError
from ghn_model.variation import vary

Array = npt.NDArray[np.float64]


class Block(nn.Module):
    """Modules in an order that is not that of use, a tied weight, vectors and a bare parameter between them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6, 1, 1))
        self.conv = nn.Conv2d(3, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.attention = nn.MultiheadAttention(6, 2)
        self.wide = nn.Linear(6, 20)
        self.table = nn.Embedding(5, 6)
        self.classifier = nn.Linear(20, 4)


LAYERS = ["conv", "depthwise", "attention.out_proj", "wide", "table", "classifier"]


def block() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = Block()
    parameters = {name: torch.randn_like(value) for name, value in model.named_parameters()}
    parameters["wide.weight"] = parameters["wide.weight"][:5].repeat(4, 1)  # as a hypernetwork tiles
    return model, parameters


def as_matrix(weight: Tensor) -> tuple[Array, bool]:
    matrix = weight.double().numpy().reshape(len(weight), -1)
    return (matrix.T, True) if matrix.shape[0] < matrix.shape[1] else (matrix, False)


def expected_spread(weight: Tensor) -> float:
    return float(np.corrcoef(as_matrix(weight)[0]).std(ddof=1))


def expected_orthogonal(weight: Tensor) -> Array:
    matrix, turned = as_matrix(weight)
    q, r = np.linalg.qr(matrix)
    q = q * np.sign(np.diag(r))
    return (q.T if turned else q).reshape(weight.shape)


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    assert list(before) == list(after)
    assert all(before[name].shape == after[name].shape for name in before)
    return [name for name in before if not torch.equal(before[name], after[name])]


def test_defaults_change_nothing() -> None:
    model, parameters = block()
    varied = vary(model, parameters)
    assert varied is not parameters
    assert all(varied[name] is parameters[name] for name in parameters)


def test_noise_has_the_spread_of_the_correlations() -> None:
    model, parameters = block()
    copies = {name: value.clone() for name, value in parameters.items()}
    varied = vary(model, parameters, noise=0.5, seed=3)
    assert changed(parameters, copies) == []
    assert changed(parameters, varied) == [f"{layer}.weight" for layer in LAYERS[:-1]]
    generator = torch.Generator().manual_seed(3)
    for layer in LAYERS[:-1]:
        weight = parameters[f"{layer}.weight"]
        draw = torch.randn(weight.shape, generator=generator)
        torch.testing.assert_close(varied[f"{layer}.weight"], weight + 0.5 * expected_spread(weight) * draw)


def test_noise_is_a_function_of_the_seed() -> None:
    model, parameters = block()
    state = torch.random.get_rng_state()
    first = vary(model, parameters, noise=1e-3)
    assert changed(first, vary(model, parameters, noise=1e-3)) == []
    assert changed(first, vary(model, parameters, noise=1e-3, seed=torch.Generator().manual_seed(0))) == []
    assert changed(first, vary(model, parameters, noise=1e-3, seed=1)) == [f"{layer}.weight" for layer in LAYERS[:-1]]
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("start", [1, 2, 4, 6, 100])
def test_matrices_are_orthogonal_from_a_layer_on(start: int) -> None:
    model, parameters = block()
    parameters["wide.weight"] = torch.randn(20, 6)  # Q is unique for full rank
    varied = vary(model, parameters, orthogonal_from=start)
    chosen = LAYERS[start - 1 : -1]
    assert changed(parameters, varied) == [f"{layer}.weight" for layer in chosen]
    for layer in chosen:
        weight = varied[f"{layer}.weight"]
        np.testing.assert_allclose(weight.numpy(), expected_orthogonal(parameters[f"{layer}.weight"]), atol=1e-5)
        matrix, _ = as_matrix(weight)
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-5)


def test_orthogonal_matrices_come_after_the_noise() -> None:
    model, parameters = block()
    varied = vary(model, parameters, noise=0.1, orthogonal_from=4, seed=5)
    assert changed(parameters, varied) == ["wide.weight", "table.weight"]
    weight = parameters["wide.weight"]
    draw = torch.randn(weight.shape, generator=torch.Generator().manual_seed(5))
    noisy = weight + 0.1 * expected_spread(weight) * draw
    np.testing.assert_allclose(varied["wide.weight"].numpy(), expected_orthogonal(noisy), atol=1e-4)


def test_small_layers_and_the_corner_of_large_ones_stay() -> None:
    model, parameters = block()
    varied = vary(model, parameters, noise=0.1, max_size=5, seed=5)
    assert changed(parameters, varied) == ["attention.out_proj.weight", "wide.weight"]
    weight, after = parameters["wide.weight"], varied["wide.weight"]
    assert torch.equal(weight[:5], after[:5])
    assert torch.equal(weight[:, :5], after[:, :5])
    assert (weight[5:, 5:] != after[5:, 5:]).all()
    assert changed(parameters, vary(model, parameters, orthogonal_from=1, max_size=6)) == ["wide.weight"]


def test_layers_that_are_not_predicted_count() -> None:
    model, parameters = block()
    del parameters["conv.weight"]
    varied = vary(model, parameters, orthogonal_from=3)
    assert changed(parameters, varied) == [f"{layer}.weight" for layer in LAYERS[2:-1]]
    del parameters["classifier.weight"]
    assert changed(parameters, vary(model, parameters, orthogonal_from=5)) == ["table.weight"]


@pytest.mark.parametrize(
    "make",
    [
        lambda shape: torch.zeros(shape),
        lambda shape: torch.ones(shape),
        lambda shape: torch.full(shape, 0.1),
        lambda shape: torch.randn(shape)[:1].repeat(shape[0], *[1] * (len(shape) - 1)),
        lambda shape: torch.randn(shape) * 1e-20,
    ],
    ids=["zeros", "ones", "equal", "equal rows", "tiny"],
)
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1), (6, 1, 1, 1), (6, 1, 3, 3), (8, 4)])
def test_degenerate_tensors_stay_finite(make: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    model[0].weight = nn.Parameter(make(shape))
    varied = vary(model, dict(model.named_parameters()), noise=0.1, orthogonal_from=1)["0.weight"]
    assert varied.isfinite().all()
    matrix, _ = as_matrix(varied)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-5)


def test_types_and_gradients_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2)).to(torch.bfloat16)
    parameters = dict(model.named_parameters())
    varied = vary(model, parameters, noise=0.1, orthogonal_from=1)
    assert varied["0.weight"].dtype == torch.bfloat16
    assert not varied["0.weight"].requires_grad
    assert varied["1.weight"] is parameters["1.weight"]
    meta = nn.Sequential(nn.Linear(6, 8, device="meta"), nn.Linear(8, 2, device="meta"))
    assert changed(varied, vary(meta, parameters, noise=0.1, orthogonal_from=1)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": -1e-5}, "noise: expected a number of at least 0, got -1e-05"),
        ({"noise": float("nan")}, "noise: expected a number of at least 0, got nan"),
        ({"noise": "1"}, "noise: expected a number of at least 0, got '1'"),
        ({"orthogonal_from": 0}, "orthogonal_from: expected an integer, 1 or more; got 0"),
        ({"orthogonal_from": True}, "orthogonal_from: expected an integer, 1 or more; got True"),
        ({"max_size": -1}, "max_size: expected an integer, 0 or more; got -1"),
    ],
)
def test_invalid_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        vary(nn.Linear(2, 2), {}, **arguments)  # type: ignore[arg-type]


def test_buffers_of_parametrizations_do_not_change() -> None:
    """Reading a weight with spectral normalization changes its buffers in training mode."""
    model = nn.Sequential(spectral_norm(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 10)).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    vary(model, {name: p.detach() for name, p in model.named_parameters()}, noise=1e-5)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_a_table_that_is_the_classifier_stays_as_it_is() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner, self.head = nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 50, bias=False)
            self.head.weight = self.table.weight

    model = Tied()
    given = {name: parameter.detach() for name, parameter in model.named_parameters()}
    varied = vary(model, given, noise=1e-5, orthogonal_from=1, max_size=1)
    assert torch.equal(varied["table.weight"], given["table.weight"])
    assert not torch.equal(varied["inner.weight"], given["inner.weight"])
