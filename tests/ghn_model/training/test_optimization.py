"""The optimizer step: clipping, steps that are not finite, loss scale, averages of weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ghn_model import GHN
from ghn_model.training import Distributed, Recipe, Schedule
from ghn_model.training.optimization import Optimization
from tests.support.training_runs import small_config


def optimization(**changes: object) -> tuple[GHN, Optimization]:
    torch.manual_seed(0)
    ghn = GHN(small_config())
    return ghn, Optimization(ghn, Recipe(**changes), Distributed("cpu"))  # type: ignore[arg-type]


def weights(ghn: GHN) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in ghn.parameters()]


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_steps_that_are_not_finite_change_nothing(optimizer: str, fault: str) -> None:
    ghn, optimized = optimization(optimizer=optimizer, ema_decay=0.9)

    def step(loss: float, bad: float) -> bool:
        for parameter in ghn.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        next(ghn.parameters()).grad.view(-1)[0] *= bad  # type: ignore[union-attr]
        failed, _ = optimized.step(torch.tensor([loss, 0.5, 0.0]))
        return bool(failed)

    assert not step(1.0, 1.0)
    before, averages = weights(ghn), [average.clone() for average in optimized.averages]
    moments = [dict(values) for values in optimized.optimizer.state.values()]
    moments = [{name: value.clone() for name, value in values.items()} for values in moments]
    assert step(math.nan if fault == "loss" else 1.0, 1.0 if fault == "loss" else math.inf)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(ghn)))
    assert all(torch.equal(a, b) for a, b in zip(averages, optimized.averages))
    for values, kept in zip(optimized.optimizer.state.values(), moments):
        assert all(torch.equal(values[name], kept[name]) for name in kept)
    assert all(parameter.grad is None for parameter in ghn.parameters())
    assert not step(1.0, 1.0)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(ghn)))
    assert any(not torch.equal(a, b) for a, b in zip(averages, optimized.averages))


def test_the_optimizer_equals_pytorch() -> None:
    """Adam with L2 regularization after clipping the norm to 5, compared with plain PyTorch."""
    ghn, optimized = optimization(schedule=Schedule("constant"))
    torch.manual_seed(0)
    other = GHN(small_config())
    plain = torch.optim.Adam(other.parameters(), lr=1e-3, weight_decay=1e-5)
    for number in range(5):
        for ours, theirs in zip(ghn.parameters(), other.parameters()):
            ours.grad = torch.randn(ours.shape, generator=torch.Generator().manual_seed(number))
            theirs.grad = ours.grad.clone()
        optimized.set_lr(0.5)
        optimized.step(torch.tensor([1.0, 0.5, 0.0]))
        torch.nn.utils.clip_grad_norm_(other.parameters(), 5)
        plain.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(ghn), weights(other)))


def test_loss_scale_follows_overflows() -> None:
    ghn, optimized = optimization(precision="fp16")

    def step(value: float) -> tuple[bool, float]:
        for parameter in ghn.parameters():
            parameter.grad = torch.full_like(parameter, value)
        failed, _ = optimized.step(torch.tensor([1.0, 0.5, 0.0]))
        assert optimized.scale is not None
        return bool(failed), optimized.scale.item()

    before = weights(ghn)
    assert step(math.inf) == (False, 32768.0)  # an overflow is not a failure, and changes no weights
    assert all(torch.equal(a, b) for a, b in zip(before, weights(ghn)))
    scales = [step(0.1)[1] for _ in range(101)]
    assert scales[98:] == [32768.0, 65536.0, 65536.0]
    assert [step(math.nan) for _ in range(7)][-2:] == [(False, 1024.0), (True, 1024.0)]  # no overflow explains the last


def test_moving_average_of_weights() -> None:
    ghn, optimized = optimization(ema_decay=0.5, schedule=Schedule("constant"))
    first = weights(ghn)[0]
    for parameter in ghn.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimized.step(torch.tensor([1.0, 0.5, 0.0]))
    second = weights(ghn)[0]
    decay = 2 / 11  # (1 + n) / (10 + n) in step n = 1
    with optimized.averaged_weights():
        assert torch.allclose(weights(ghn)[0], decay * first + (1 - decay) * second)
    assert torch.equal(weights(ghn)[0], second)


def test_typical_norm_is_a_running_geometric_mean() -> None:
    """Outliers have a limited effect, steps that are not finite none."""
    ghn, optimized = optimization(network_norm="clip")

    def step(log_norm: float, gradient: float = 0.1) -> float:
        for parameter in ghn.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimized.step(torch.tensor([1.0, 0.5, log_norm]))
        assert optimized.typical_norm is not None
        return math.log(optimized.typical_norm.item())

    assert optimized.typical_norm is not None
    assert optimized.typical_norm.isnan()
    assert step(3.0) == pytest.approx(3.0)
    assert step(1.0) == pytest.approx(2.0)
    assert step(50.0, math.inf) == pytest.approx(2.0)
    assert step(50.0) == pytest.approx(2 + 2 / 3, rel=1e-5)  # a distance of 2 at most, with weight 1/3
