"""The vision transformers of LoGAH's tables have the sizes that their formula gives, and can be traced."""

from __future__ import annotations

import pytest
import torch

from benchmark.baselines import model_jobs
from benchmark.training import vits
from deepnets import trace
from deepnets.support import import_torchvision

try:
    import_torchvision()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.mark.parametrize(
    ("make", "layers", "width", "count"),
    [
        (vits.vit_s, 12, 384, 21_436_900),
        (vits.vit_b, 12, 768, 85_341_028),
        (vits.vit_l, 24, 1024, 302_691_428),
    ],
)
def test_sizes(make, layers: int, width: int, count: int) -> None:
    with torch.device("meta"):
        net = make(num_classes=100)
    tokens = (32 // 2) ** 2 + 1
    embeddings = 3 * 2 * 2 * width + width + width + tokens * width
    expected = embeddings + layers * (12 * width**2 + 13 * width) + 2 * width + 100 * width + 100
    assert sum(parameter.numel() for parameter in net.parameters()) == expected == count


def test_the_option_model_takes_them() -> None:
    (job,) = model_jobs(["benchmark.training.vits:vit_s"], num_classes=10, image_size=32)
    with torch.device("meta"):
        net = job.build()
    graph = trace(net)
    assert {slot.name for slots in graph.parameters for slot in slots} == {name for name, _ in net.named_parameters()}
