"""`depthwise_conv2d` has the results and the gradients of PyTorch's convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets.architecture.depthwise import depthwise_conv2d


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 9),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    channels_last=st.booleans(),
)
def test_results_and_gradients(
    batch: int, channels: int, height: int, width: int, kernel: int, stride: int, dilation: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(batch, channels, height, width).double().contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(channels, 1, kernel, kernel).double().requires_grad_()
    expected = F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, channels)
    found = depthwise_conv2d(x, weight, stride, dilation)
    assert torch.equal(found, expected)
    gradient = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, weight), gradient), torch.autograd.grad(expected, (x, weight), gradient)
    ):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("wanted", ["x", "weight"])
def test_only_the_gradient_that_is_needed(wanted: str) -> None:
    tensors = {"x": torch.randn(2, 4, 6, 6), "weight": torch.randn(4, 1, 5, 5)}
    tensors[wanted].requires_grad_()
    depthwise_conv2d(**tensors, dilation=2).sum().backward()
    assert {name for name, tensor in tensors.items() if tensor.grad is not None} == {wanted}


def test_second_derivatives_are_refused() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(depthwise_conv2d(x, torch.randn(2, 1, 3, 3)).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|twice"):
        gradient.sum().backward()
