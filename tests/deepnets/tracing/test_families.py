"""`trace` on networks of other packages; `python -m tests.coverage --library families` lists the results."""

from __future__ import annotations

import importlib.metadata
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
UNUSED = {
    "Dinov2ForImageClassification": ("dinov2.embeddings.mask_token",),  # for pretraining
    "ARMAConv": ("a.weight", "b.weight"),  # for a second layer
    "PSPNet": ("encoder.layer3.", "encoder.layer4."),  # the decoder reads the first three stages
}
"""How the names of the parameters begin that a network does not use."""
TABLE = pytest.mark.xfail(
    reason="a table multiplied with data: the oracle counts it where it is looked up", strict=True
)


def marks(name: str) -> list[pytest.MarkDecorator]:
    slow = [] if name in SAMPLE else [pytest.mark.slow]
    return [*slow, TABLE] if name == "RoFormerForMaskedLM" else slow


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in FAMILIES])
def test_complete_with_the_ancestry_of_autograd(name: str) -> None:
    family = FAMILIES[name]
    if importlib.util.find_spec(family.package) is None:
        pytest.skip(f"needs {family.package}")
    if name == "MarianMTModel" and int(importlib.metadata.version("transformers").split(".")[0]) < 5:
        pytest.skip("this version of transformers looks positions up without gradients, which the oracle needs")
    torch.manual_seed(0)
    model, inputs = family.make(), family.inputs()
    graph = trace(model, inputs)
    unused = [key for key, _ in model.named_parameters() if key.startswith(UNUSED.get(name, ()))]
    assert [slot.name for slot in graph.unused] == unused
    assert ancestry_differences(graph, model, inputs) == []
