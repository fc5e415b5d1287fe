"""The decoder of LoGAH: published test vectors, an implementation with whole factors, memory, and normalization."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_model.decoders import LowRankDecoder, tile
from ghn_model.decoders.tiling import standardize, write_product
from tests.oracles.naive_logah import list_logah_shapes, naive_request, original_state

# --- values -----------------------------------------------------------------------------------------------------------


def test_the_smallest_published_vector() -> None:
    decoder = LowRankDecoder(hidden=1, rank=2, factor_rows=4)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.mlp.fc[4].bias.copy_(torch.arange(1.0, 9.0))  # type: ignore[index,union-attr]
        decoder.l2.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]]))
        square, column = decoder(torch.zeros(1, 1), 3, 3, 1, 1), decoder(torch.zeros(1, 1), 2, 1, 2, 1)
    assert square[0, :, :, 0, 0].tolist() == [[17, 9, 23], [9, 34, 13], [39, 29, 53]]
    assert column.flatten().tolist() == [17, 9, 39, 29]


@pytest.mark.parametrize(
    ("request_", "norm", "first", "last"),
    [
        ((4, 3, 3, 3), 4.736769, (1.169093, -0.383311, -0.080374), (-0.298719, -0.352534)),
        ((100, 128, 1, 1), 38.730242, (1.169093, -0.383311, -0.080374), (0.418517, 0.570071)),
        ((1100, 5, 1, 1), 25.023394, (1.169093, -0.383311, -0.080374), (0.139299, 0.113019)),
        ((256, 1, 1, 1), 5.300290, (1.169093, 0.477517, 0.278229), (0.235729, 0.499268)),
        ((1, 8, 16, 16), 15.613930, (1.169093, -0.383311, -0.080374), (0.121468, -0.089632)),
    ],
)
def test_published_vectors(
    request_: tuple[int, int, int, int], norm: float, first: tuple[float, ...], last: tuple[float, ...]
) -> None:
    shapes = list_logah_shapes(hidden=64, layers=3, heads=8, rank=32, factor_rows=32768, num_classes=100)
    state = original_state(shapes, seed=500)
    decoder = LowRankDecoder(hidden=64, rank=32, factor_rows=32768)
    own = {name.removeprefix("decoder."): x for name, x in state.items() if name.startswith("decoder.")}
    decoder.load_state_dict(own)
    values = decoder(torch.linspace(-1, 1, 64)[None], *request_).detach()[0].flatten()
    if request_ == (1, 8, 16, 16):  # read as positions
        values = values.view(8, 256).t().flatten()
    assert values.norm().item() == pytest.approx(norm, rel=2e-6)
    if request_[1] != 8:
        assert values[:3].tolist() == pytest.approx(first, abs=2e-6)
        assert values[-2:].tolist() == pytest.approx(last, abs=2e-6)
    else:
        whole = decoder(torch.linspace(-1, 1, 64)[None], *request_).detach()[0].flatten()
        assert whole[:3].tolist() == pytest.approx(first, abs=2e-6)
        assert whole[-2:].tolist() == pytest.approx(last, abs=2e-6)


def random_decoder(hidden: int, rank: int, factor_rows: int) -> LowRankDecoder:
    torch.manual_seed(rank)
    return LowRankDecoder(hidden, rank, factor_rows).double()


def expected(decoder: LowRankDecoder, x: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    w = decoder.mlp.fc(x).view(-1, 2 * decoder.rank, decoder.rank)  # type: ignore[operator]
    return torch.stack([naive_request(each, decoder.l2.weight, decoder.l2.bias, window) for each in w])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_windows_of_any_size(data: st.DataObject) -> None:
    """Factors that end anywhere in a row, ranks that do not divide the number of rows, several nodes."""
    rank, rows = data.draw(st.integers(1, 7)), data.draw(st.integers(8, 60))
    decoder = random_decoder(4, rank, rows)
    windows = []
    for _ in range(3):
        height, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
        windows.append(
            (data.draw(st.integers(1, rows // height)), data.draw(st.integers(1, rows // width)), height, width)
        )
    inputs = [torch.randn(count, 4, dtype=torch.double) for count in (1, 3, 2)]
    with torch.no_grad():
        for x, window, maps in zip(inputs, windows, decoder.decode_windows(inputs, windows)):
            assert torch.allclose(maps, expected(decoder, x, window), atol=1e-12)


def test_gradients_of_windows() -> None:
    decoder = random_decoder(4, 3, 20)
    inputs = [torch.randn(2, 4, dtype=torch.double, requires_grad=True) for _ in range(3)]
    windows = [(20, 7, 1, 1), (4, 5, 3, 2), (1, 3, 4, 4)]

    def gradients(results: list[Tensor]) -> list[Tensor]:
        weights = [parameter for name, parameter in decoder.named_parameters() if not name.startswith("l1")]
        return list(torch.autograd.grad(sum(x.square().sum() for x in results), [*weights, *inputs]))  # type: ignore[arg-type]

    scales = [torch.tensor([2.0, 0.5]), None, torch.tensor([1.0, 3.0])]
    reference = [expected(decoder, x, window) for x, window in zip(inputs, windows)]
    reference = [r if s is None else r * s.view(-1, 1, 1, 1, 1) for r, s in zip(reference, scales)]
    for a, b in zip(gradients(list(decoder.decode_windows(inputs, windows, scales))), gradients(reference)):
        assert torch.allclose(a, b, atol=1e-10)


def test_windows_that_are_larger_than_the_factors() -> None:
    decoder = random_decoder(4, 2, 10)
    for window in ((11, 1, 1, 1), (1, 11, 1, 1), (4, 1, 3, 1), (1, 3, 1, 4)):
        with pytest.raises(RuntimeError, match=r"needs 1[12] rows of a factor, which has 10"):
            decoder(torch.zeros(1, 4, dtype=torch.double), *window)


class Allocations(TorchDispatchMode):
    """Notes the size in bytes of every tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        inputs = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in inputs:
            self.sizes.append(result.untyped_storage().nbytes())
        return result


def test_only_the_rows_that_are_needed_are_computed() -> None:
    """No buffer of the size of a factor is made; one has 4 MB."""
    decoder = LowRankDecoder(hidden=64, rank=32, factor_rows=32768)
    with torch.no_grad(), Allocations() as made:
        decoder(torch.randn(1, 64), 64, 3, 7, 7)
    assert max(made.sizes) <= 64 * 7 * 32 * 4
    assert sum(made.sizes) < 400_000


def needed_rows(rank: int, rows: int, window: tuple[int, int, int, int]) -> tuple[set[int], set[int]]:
    """The rows of `fc.4` and of `l2` that a window needs, by the published formula of every element of a factor."""
    outputs, inputs, height, width = window
    first: set[int] = set()
    last: set[int] = set()
    for start, number in ((0, outputs * height), (rank, inputs * width)):
        for place in range(number * rank):  # element place % rank of row place // rank
            first.update(range((start + place // rows) * rank, (start + place // rows + 1) * rank))
            last.add(place % rows)
    return first, last


@pytest.mark.parametrize(
    ("hidden", "rank", "rows", "windows", "counts"),
    [
        (64, 32, 32768, [(64, 3, 7, 7)], (64, 14336)),
        (64, 32, 32768, [(1100, 5, 1, 1)], (96, 32768)),  # two rows of the first factor
        (4, 3, 20, [(5, 1, 1, 1), (2, 2, 2, 1)], (6, 15)),  # a rank that does not divide the number of rows
        (4, 3, 20, [(1, 9, 1, 1)], (9, 20)),
    ],
)
def test_other_rows_of_the_last_layers_are_not_used(
    hidden: int, rank: int, rows: int, windows: list[tuple[int, int, int, int]], counts: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    decoder = LowRankDecoder(hidden, rank, rows)
    found = [needed_rows(rank, rows, window) for window in windows]
    needed = [set().union(*sets) for sets in zip(*found)]
    assert tuple(map(len, needed)) == counts
    damaged = copy.deepcopy(decoder)
    layers = (damaged.mlp.fc[4], damaged.l2)  # type: ignore[index,union-attr]
    with torch.no_grad():
        for layer, kept in zip(layers, needed):
            others = torch.tensor(sorted(set(range(len(layer.bias))) - kept), dtype=torch.int64)  # type: ignore[union-attr,arg-type]
            for parameter in (layer.weight, layer.bias):  # type: ignore[union-attr]
                parameter[others] = math.nan  # type: ignore[index,operator]
        inputs = [torch.randn(2, hidden) for _ in windows]
        for maps, expected_ in zip(damaged.decode_windows(inputs, windows), decoder.decode_windows(inputs, windows)):
            assert maps.isfinite().all()
            assert torch.equal(maps, expected_)


# --- normalization ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_standard_deviations_of_repeated_blocks(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=4).filter(lambda shape: math.prod(shape) > 1))
    sizes = [data.draw(st.integers(1, length)) for length in shape]
    blocks = torch.randn(3, *sizes, dtype=torch.double) + 5
    result = standardize(blocks, shape, std=0.02)
    for block, given_ in zip(result, blocks):
        whole = tile(given_, shape)
        assert torch.allclose(tile(block, shape), whole / (whole.std() + 1e-7) * 0.02, rtol=1e-6)


def test_gradients_of_constant_tensors_are_finite() -> None:
    """A factor whose rows are all cut off by the ReLU gives a tensor of zeros, as happens during training."""
    for value in (0.0, 0.5):
        block = torch.full((1, 3, 4), value, requires_grad=True)
        standardize(block, (3, 4), std=0.02).square().sum().backward()
        assert block.grad is not None
        assert block.grad.isfinite().all()
        assert standardize(block, (3, 4), std=0.02).tolist() == (block * (0.02 / 1e-7)).tolist()


def test_large_standard_deviations_are_computed_in_parts() -> None:
    block = torch.randn(1, 3000, 400) + 1
    whole = tile(block[0], (7000, 900))
    with torch.no_grad(), Allocations() as made:
        result = standardize(block, (7000, 900), std=0.5)
    assert torch.allclose(result[0], block[0] / (whole.std() + 1e-7) * 0.5, rtol=1e-5)
    assert sorted(made.sizes)[-2] < block.nbytes / 2  # the largest one is the result


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_products_in_place(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    shape = data.draw(st.integers(rows, 25)), data.draw(st.integers(columns, 25))
    std = data.draw(st.sampled_from([None, 0.5])) if math.prod(shape) > 1 else None
    left, right = torch.randn(rows, 3), torch.randn(columns, 3)
    block = (left @ right.T)[None]
    reference = tile((block if std is None else standardize(block, shape, std))[0], shape)
    if std is not None and float(reference.abs().max()) > 100:
        return  # all elements are nearly equal
    for out in (
        torch.full(shape, math.nan),
        torch.full(shape[::-1], math.nan).t(),
        torch.full(shape, math.nan).double(),
    ):
        write_product(left, right, out, std)
        assert torch.allclose(out, reference.to(out), rtol=1e-4, atol=1e-5)
