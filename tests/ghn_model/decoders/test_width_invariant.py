"""`GHNConfig.width_invariant`: a network computes the same function at any width."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepnets import GENOTYPES, Network, NetworkConfig, build_graph
from deepnets.support import ConfigError
from ghn_model import GHN, GHNConfig
from tests.support.training_runs import small_config

MOST = 16
"""Channels that the hypernetwork of these tests decodes."""


def logits(width: int, config: GHNConfig, **changes: object) -> Tensor:
    """The output of a network of some width for random images, in double precision."""
    torch.manual_seed(0)
    ghn = GHN(config).double()
    network = NetworkConfig(GENOTYPES["DARTS"], **{"n_cells": 4, "C": width, "fc_layers": 1, **changes})  # type: ignore[arg-type]
    model = Network(network).double()
    (parameters,) = ghn(build_graph(network))
    assert {name: value.shape for name, value in parameters.items()} == {
        name: value.shape for name, value in model.named_parameters()
    }
    model.load_state_dict({name: value.detach() for name, value in parameters.items()}, strict=False)
    images = torch.randn(4, 3, 32, 32, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)  # of the dropout
    with torch.no_grad():
        output = model.train()(images)
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("dirac", [False, True])
@pytest.mark.parametrize("hypernetwork", ["mlp", "ghn1", "ghn2"])
@pytest.mark.parametrize("changes", [{}, {"norm": None}, {"fc_layers": 2, "fc_dim": 48, "C_mult": 1}])
def test_wide_networks_compute_the_function_of_narrow_ones(
    hypernetwork: str, dirac: bool, changes: dict[str, object]
) -> None:
    """The published rule scales the sum of equal inputs by their number, which this test notices."""
    fields = {"hypernet": "mlp"} if hypernetwork == "mlp" else {"weight_norm": hypernetwork == "ghn2"}
    config = small_config(dirac=dirac, width_invariant=True, **fields)
    narrow = logits(2 * MOST, config, **changes)
    assert narrow.abs().max() > 0
    assert narrow.std(0).min() > 1e-6 * narrow.abs().max()
    for width in (4 * MOST, 6 * MOST):
        torch.testing.assert_close(logits(width, config, **changes), narrow, rtol=1e-6, atol=1e-9)
    published = small_config(dirac=dirac, **fields)
    assert not torch.allclose(logits(4 * MOST, published, **changes), logits(2 * MOST, published, **changes), rtol=1e-2)


def test_narrow_networks_are_predicted_as_without_the_option() -> None:
    """The concatenation of four states with 4 channels has as many as are decoded."""
    plain, invariant = (logits(4, small_config(width_invariant=value), C_mult=1) for value in (False, True))
    assert torch.equal(plain, invariant)


def test_layers_for_classes_keep_their_number_of_classes() -> None:
    """A hypernetwork for many classes knows layers for classes by their size."""
    network = NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=32, fc_layers=1)
    graph = build_graph(network, num_classes=100)
    rows = GHN(small_config(width_invariant=True, num_classes=100)).prepare(graph).shapes
    whole = GHN(small_config(num_classes=100)).prepare(graph).shapes
    assert torch.equal(rows[-2:, 0], whole[-2:, 0])
    assert (rows[:, :2] <= whole[:, :2]).all()
    assert not torch.equal(rows, whole)


def test_the_normalization_of_texts_is_refused() -> None:
    with pytest.raises(ConfigError, match="width_invariant: cannot be combined with the normalization 'std'"):
        GHNConfig(width_invariant=True, normalization="std")
