"""`trace` on a sample of the networks of other packages; `python -m tests.coverage --library families` checks all."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from deepnets import trace
from tests.oracles.autograd_ancestry import ancestry_differences
from tests.support.families import FAMILIES

SAMPLE = (
    *("FNetForMaskedLM", "MptForCausalLM", "GPTBigCodeForCausalLM", "ConvBertForMaskedLM", "MarianMTModel"),
    *("UMT5ForConditionalGeneration", "ViTMSNForImageClassification", "UNet2DModel", "DiTTransformer2DModel", "FPN"),
    *("Unet", "GENConv", "SuperGATConv", "MFConv", "ClusterGCNConv", "lraspp_mobilenet_v3_large"),
)


@pytest.mark.parametrize("name", SAMPLE)
def test_complete_with_the_ancestry_of_autograd(name: str) -> None:
    family = FAMILIES[name]
    if importlib.util.find_spec(family.package) is None:
        pytest.skip(f"needs {family.package}")
    torch.manual_seed(0)
    model, inputs = family.make(), family.inputs()
    graph = trace(model, inputs)
    assert graph.unused == ()
    assert ancestry_differences(graph, model, inputs) == []
