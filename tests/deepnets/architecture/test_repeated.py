"""`run_network` gives the same outputs and gradients for `Repeated` parameters as for the whole tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepnets import GENOTYPES, Genotype, NetworkConfig, build_graph
from deepnets.architecture import Repeated, run_network, tile
from deepnets.architecture.channels import Channels, Index
from tests.deepnets.architecture.test_compact import Convolutions
from tests.support.strategies import configs

DARTS, VIT = GENOTYPES["DARTS"], GENOTYPES["ViT"]


def compare(config: NetworkConfig, seed: int = 0, most: tuple[int, int] = (8, 8)) -> None:
    """Compare logits and gradients; `most` limits the blocks along their first two axes."""
    generator = torch.Generator().manual_seed(seed)
    blocks: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for slot in (slot for slots in build_graph(config).parameters for slot in slots):
        sizes = [min(size, limit) for size, limit in zip(slot.shape, (*most, 5, 5))]
        scale = 2 / max(1, np.prod(slot.shape[1:])) ** 0.5
        shapes[slot.name] = slot.shape
        blocks[slot.name] = (scale * torch.randn(sizes, generator=generator, dtype=torch.double)).requires_grad_()
    images = torch.randn(3, 3, 32, 32, generator=generator, dtype=torch.double)
    results = []
    for make in (Repeated, tile):
        given_ = {name: make(block, shapes[name]) for name, block in blocks.items()}
        torch.manual_seed(seed)
        logits = run_network(config, given_, images)
        assert type(logits) is Tensor
        assert logits.isfinite().all()
        gradients = torch.autograd.grad(logits.square().sum(), list(blocks.values()), allow_unused=True)
        results.append((logits, *gradients))
    # Weights before a batch norm have gradients that cancel: what is left has the rounding errors of larger ones.
    rounding = 1e-13 * max(float(each.detach().abs().max()) for each in results[1] if each is not None) + 1e-12
    for found, expected in zip(*results):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            largest = float(expected.detach().abs().max())
            assert torch.allclose(found, expected, rtol=1e-6, atol=1e-8 * largest + rounding)


@settings(max_examples=15, deadline=None)
@given(
    configs(max_cells=4, max_steps=3, widths=(8, 20, 40), with_output=True),
    st.integers(0, 3),
    st.sampled_from([(8, 8), (16, 4), (5, 12)]),
)
def test_outputs_and_gradients_of_any_network(config: NetworkConfig, seed: int, most: tuple[int, int]) -> None:
    compare(config, seed, most)


def test_gradients_that_cancel() -> None:
    """The gradient of the convolution before a batch norm of single pixels is 1e-5, next to others of 1e5."""
    genotype = Genotype(
        normal=(("dil_conv_5x5", 0), ("conv_1x1", 0)), normal_concat=(2,),
        reduce=(("cse", 0), ("none", 0)), reduce_concat=(2,),
    )  # fmt: skip
    compare(NetworkConfig(genotype, n_cells=2, C=20, C_mult=2, fc_layers=1), seed=2, most=(5, 12))


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(DARTS, n_cells=3, C=24),
        NetworkConfig(DARTS, n_cells=3, C=24, stem_type=1, norm=None, fc_layers=2, fc_dim=32),
        NetworkConfig(DARTS, n_cells=3, C=16, stem_pool=True, glob_avg=False),
        NetworkConfig(VIT, n_cells=2, C=32, C_mult=1, preproc=False),
    ],
)
def test_outputs_and_gradients_with_all_kinds_of_layers(config: NetworkConfig) -> None:
    compare(config)


def test_autocast() -> None:
    """Logits have the type of the parameters, as those of whole parameters."""
    torch.manual_seed(0)
    config = NetworkConfig(DARTS, n_cells=2, C=16)
    slots = [slot for slots in build_graph(config).parameters for slot in slots]
    blocks = {slot.name: torch.randn([min(size, 8) for size in slot.shape]) / 8 for slot in slots}
    shapes = {slot.name: slot.shape for slot in slots}
    found, expected = ({name: make(block, shapes[name]) for name, block in blocks.items()} for make in (Repeated, tile))
    batch = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, whole = run_network(config, found, batch), run_network(config, expected, batch)
    assert logits.dtype == whole.dtype == torch.float32
    assert torch.allclose(logits, whole, atol=0.1 * float(whole.abs().max()))


def test_equal_channels_are_computed_once() -> None:
    """The width of a network hardly matters."""
    config = NetworkConfig(DARTS, n_cells=3, C=96)
    slots = [slot for slots in build_graph(config).parameters for slot in slots]
    parameters = {slot.name: Repeated(torch.randn([min(size, 8) for size in slot.shape]), slot.shape) for slot in slots}
    with Convolutions() as found:
        run_network(config, parameters, torch.randn(2, 3, 32, 32))
    assert len(found.shapes) > 20
    assert max(shape[0] for shape in found.shapes) <= 8
    assert max(shape[1] for shape in found.shapes) <= 4 * 8  # of concatenated states


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_indices(left: list[int], right: list[int]) -> None:
    first, second = (Index(np.unique(x, return_inverse=True)[1].reshape(-1)) for x in (left, right[: len(left)]))
    firsts, both = first.grouped(second)
    pairs = list(zip(first.positions.tolist(), second.positions.tolist()))
    for i, a in enumerate(pairs):
        assert firsts[both.positions[i]] == pairs.index(a)
        assert [a == b for b in pairs] == (both.positions == both.positions[i]).tolist()
    assert sorted(firsts.tolist()) == firsts.tolist()
    assert [first.positions.tolist().index(number) for number in range(first.distinct)] == first.first().tolist()


def test_other_functions_get_the_whole_parameter() -> None:
    weight = Repeated(torch.arange(4.0).view(2, 2), (3, 5))
    expected = tile(torch.arange(4.0).view(2, 2), (3, 5))
    assert torch.equal(torch.sum(weight, dim=0), expected.sum(0))  # type: ignore[call-overload]
    x = Channels(torch.randn(2, 5), Index.identity(5))
    assert torch.allclose(torch.matmul(x, expected.t()), x.values @ expected.t())  # type: ignore[arg-type]


def test_flattened_features_have_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indices are kept for other networks, and those of flattened features would be large."""
    real, lengths = Index.__init__, []

    def recorded(self: Index, positions: npt.NDArray[np.int64]) -> None:
        lengths.append(len(positions))
        real(self, positions)

    monkeypatch.setattr(Index, "__init__", recorded)
    compare(NetworkConfig(DARTS, n_cells=3, C=56, glob_avg=False))
    assert 0 < max(lengths) <= 4 * 4 * 56  # the concatenated states of the last cell
