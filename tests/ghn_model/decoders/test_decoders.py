"""The decoders, each against a simple implementation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ghn_model.decoders import ConvDecoder, MLPDecoder, gain, tile


@pytest.mark.parametrize("side", [11, 16])
@pytest.mark.parametrize("window", ["corner", "centre"])
def test_part_of_a_map_is_what_the_whole_map_has_there(window: str, side: int) -> None:
    torch.manual_seed(0)
    decoder = ConvDecoder(8, (16, 16, side, side), 10, window).double()
    x = torch.randn(3, 8, dtype=torch.double)
    whole = decoder(x, 16, 16, side, side)
    for rows, columns, height, width in [(16, 16, 1, 1), (3, 16, 3, 3), (16, 5, 1, 7), (1, 1, 2, side), (16, 16, 5, 5)]:
        top, left = ((side // 2 - size // 2 if window == "centre" else 0) for size in (height, width))
        expected = whole[:, :rows, :columns, top : top + height, left : left + width]
        assert torch.allclose(decoder(x, rows, columns, height, width), expected, atol=1e-12)


def test_centre_windows() -> None:
    decoder = ConvDecoder(4, (4, 4, 16, 16), 10, "centre")
    windows = {size: (w := decoder._window(size, 16), w.start, w.stop - 1)[1:] for size in (1, 2, 3, 5, 7, 11, 14, 16)}
    assert windows == {1: (8, 8), 2: (7, 8), 3: (7, 9), 5: (6, 10), 7: (5, 11), 11: (3, 13), 14: (1, 14), 16: (0, 15)}


def test_mlp_decoder_takes_parts_too() -> None:
    decoder = MLPDecoder(8, (6, 6, 5, 5), 10)
    x = torch.randn(2, 8)
    whole = decoder(x, 6, 6, 5, 5)
    assert torch.allclose(decoder(x, 2, 6, 3, 1), whole[:, :2, :6, :3, :1], atol=1e-6)
    assert decoder.class_weights(x).shape == (2, 10, 6)


# --- fitting ---


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tiling(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=0, max_size=5))
    sizes = [data.draw(st.integers(1, length)) for length in shape]
    axes = data.draw(st.permutations(range(len(shape))))
    block = torch.randn([sizes[axis] for axis in axes]).permute([axes.index(i) for i in range(len(shape))])
    expected = block
    for axis, (length, size) in enumerate(zip(shape, sizes)):
        expected = expected.index_select(axis, torch.arange(length) % size)
    assert torch.equal(tile(block, shape), expected)
    for dtype in (torch.float32, torch.float16):
        out = torch.full(shape, math.nan, dtype=dtype)
        assert tile(block, shape, out=out) is out or out.dim() == 0
        assert torch.equal(out, expected.to(dtype))
    if len(shape) == 4:
        out = torch.full(shape, math.nan).contiguous(memory_format=torch.channels_last)
        tile(block, shape, out=out)
        assert torch.equal(out, expected)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 32, 3, 3), math.sqrt(2 / 288)),
        ((64, 1, 3, 3), math.sqrt(1 / 9)),  # depthwise
        ((64, 64, 1, 7), math.sqrt(1 / 448)),
        ((64, 64, 7, 1), math.sqrt(2 / 448)),
        ((64, 64, 1, 1), math.sqrt(2 / 64)),
        ((10, 64), math.sqrt(2 / 64)),
        ((10, 1), math.sqrt(2)),
        ((1, 64, 11, 11), 1),
        ((1, 197, 768), 1),
        ((1, 64, 3, 3), math.sqrt(2 / 576)),
        ((8, 1, 1), 1),
    ],
)
def test_gains(shape: tuple[int, ...], expected: float) -> None:
    assert gain(shape) == pytest.approx(expected)


def test_memory_of_tiles_is_written_once() -> None:
    """Apart from the result, little memory is allocated."""
    allocated: list[int] = []
    block = torch.randn(64, 64, 3, 3)

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            inputs = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
            if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in inputs:
                allocated.append(result.untyped_storage().nbytes())
            return result

    out = torch.empty(1000, 720, 3, 3)
    with Watch():
        tile(block, out.shape, out=out)
    assert sum(allocated) < out.nbytes / 5
