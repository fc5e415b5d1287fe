"""`GHNConfig.dirac`: kernels are predicted as differences from kernels that return their input."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import GENOTYPES, NetworkConfig, build_graph
from ghn_model import GHN
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


def test_stems_matrices_and_position_encodings_are_predicted_as_before() -> None:
    found = added(NetworkConfig(GENOTYPES["ViT"], n_cells=1, C=16, C_mult=1, preproc=False))
    assert "pos_enc.weight" in found
    assert not any(difference.any() for difference in found.values())
