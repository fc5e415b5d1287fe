"""`GHNConfig.dirac`: kernels are predicted as differences from kernels that return their input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import GENOTYPES, NetworkConfig, build_graph, trace
from ghn_model import GHN
from ghn_model.decoders.tiling import _dirac
from ghn_model.parts import NodeDecoder, collate_graphs
from tests.support.training_runs import small_config

MOST = 16
"""Channels that the hypernetwork of these tests decodes."""


def added(config: NetworkConfig) -> dict[str, Tensor]:
    """What the option adds to the predictions for a network."""
    found = []
    for dirac in (False, True):
        torch.manual_seed(0)
        ghn = GHN(small_config(dirac=dirac)).double()
        (parameters,) = ghn(build_graph(config))
        found.append(parameters)
    plain, with_dirac = found
    return {name: (with_dirac[name] - plain[name]).detach() for name in plain}


@pytest.mark.parametrize("width", [8, 16, 24, 48])
def test_convolutions_return_their_input(width: int) -> None:
    """Also if layers are wider than what is decoded, and channels therefore repeat themselves."""
    kernels = 0
    for name, kernel in added(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=width)).items():
        if kernel.dim() != 4 or kernel.shape[1] == 3:
            assert not kernel.any(), name
            continue
        kernels += 1
        groups = len(kernel) if kernel.shape[1] == 1 else 1
        outputs, inputs = kernel.shape[0], kernel.shape[1] * groups
        if max(outputs, kernel.shape[1]) <= MOST:
            expected = nn.init.dirac_(torch.empty(kernel.shape, dtype=torch.double), groups)
            # Outputs beyond the number of inputs, which `dirac_` leaves at 0, do not occur in these networks.
            assert torch.allclose(kernel, expected, atol=1e-12), name
        distinct = torch.randn(2, min(inputs, MOST), 6, 6, dtype=torch.double)
        x = distinct[:, torch.arange(inputs) % distinct.shape[1]]
        if inputs % distinct.shape[1] == 0:
            y = F.conv2d(x, kernel, padding=(kernel.shape[2] // 2, kernel.shape[3] // 2), groups=groups)
            assert torch.allclose(y, distinct[:, torch.arange(outputs) % distinct.shape[1]], atol=1e-12), name
    assert kernels > 20


@pytest.mark.parametrize("default", [{"dtype": torch.bfloat16}, {"device": "meta"}])
def test_defaults_of_the_first_caller_do_not_matter(default: dict[str, Any]) -> None:
    """`NodeDecoder` runs under the defaults of its caller, and values are kept for later predictions."""
    config = small_config(dirac=True)
    model = nn.Sequential(nn.Conv2d(3, 48, 3), nn.Conv2d(48, 48, 3), nn.Flatten(2), Transposed(), Positions(50, 48))
    batch = collate_graphs(trace(model, torch.zeros(1, 3, 10, 9)), config)
    torch.manual_seed(0)
    decoder, x = NodeDecoder(config), torch.randn(len(batch.node_types), config.hidden)
    expected = decoder(batch, x)[0]
    assert expected["1.weight"].std() > 0
    _dirac.cache_clear()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(default.get("dtype", before))
        with torch.device(default.get("device", "cpu")):
            inside = decoder(batch, x)[0]
    finally:
        torch.set_default_dtype(before)
    for found in (inside, decoder(batch, x)[0]):
        assert list(found) == list(expected)
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Positions(nn.Module):
    """Position encodings of more than a square number of positions."""

    def __init__(self, count: int, channels: int) -> None:
        super().__init__()
        self.table, self.head = nn.Parameter(torch.zeros(1, count, channels)), nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x[:, : self.table.shape[1]] + self.table[:, : x.shape[1]]).mean(1))


def test_stems_matrices_and_position_encodings_are_predicted_as_before() -> None:
    found = added(NetworkConfig(GENOTYPES["ViT"], n_cells=1, C=16, C_mult=1, preproc=False))
    assert "pos_enc.weight" in found
    assert not any(difference.any() for difference in found.values())
