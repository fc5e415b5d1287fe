"""The base models against torchvision's, and those that need transformers."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

from deepnets.families import FamilyNetworks, ResNet, VisionTransformer
from deepnets.families.language_models import gpt2, llama
from deepnets.support import ConfigError, MissingDependencyError, import_torchvision


def torchvision_models() -> Any:
    try:
        return import_torchvision().models
    except ImportError:
        pytest.skip("torchvision is not installed")


def assert_same(ours: nn.Module, theirs: nn.Module, size: int) -> None:
    """Both have the same parameters by name and shape, and compute the same."""
    for parameter in theirs.parameters():  # torchvision starts class layers with zeros
        nn.init.normal_(parameter, std=0.05)
    state = {name: tensor for name, tensor in theirs.state_dict().items() if name in ours.state_dict()}
    assert {name: p.shape for name, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    ours.load_state_dict(state)
    images = torch.randn(2, 3, size, size)
    for mode in (False, True):
        ours.train(mode)
        theirs.train(mode)
        torch.testing.assert_close(ours(images), theirs(images))


def test_resnet() -> None:
    models = torchvision_models()
    ours = ResNet([2, 1, 3, 1], [64, 128, 256, 512], num_classes=7, image_size=224)
    theirs = models.resnet.ResNet(models.resnet.BasicBlock, [2, 1, 3, 1], num_classes=7)
    assert_same(ours, theirs, 96)
    small, large = ResNet([1], [8]), ResNet([1], [8], image_size=224)
    assert (small.conv1.kernel_size, large.conv1.kernel_size) == ((3, 3), (7, 7))
    assert small.conv1.stride == (1, 1)


@pytest.mark.parametrize(("patch", "size"), [(4, 32), (4, 224)])
def test_vision_transformer(patch: int, size: int) -> None:
    models = torchvision_models()
    pixels = patch if size == 32 else 8 * patch
    ours = VisionTransformer(2, 48, 3, patch, num_classes=7, image_size=size)
    theirs = models.VisionTransformer(size, pixels, 2, 3, 48, 4 * 48, num_classes=7)
    assert_same(ours, theirs, size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 50}, "heads: 3 do not divide the width 50"),
        ({"patch_size": 5}, "patch_size: patches of 5 pixels do not divide images of 32 pixels"),
        ({"layers": 0}, "layers"),
        ({"layers": 10**6}, "layers"),
        ({"width": 10**6, "heads": 1}, "width"),
        ({"heads": 0}, "heads"),
        ({"mlp_ratio": 0}, "mlp_ratio"),
    ],
)
def test_bad_vision_transformers(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VisionTransformer(**{"layers": 1, "width": 48, "heads": 3, **arguments})


def test_language_models_compute() -> None:
    pytest.importorskip("transformers")
    for name in ("gpts-1k", "llamas-1k", "gpt2-widths"):
        nets = FamilyNetworks(name, "test", vocab_size=50, context_length=16)
        model = nets.build(nets.config(0)).eval()
        inputs = nets.example_inputs(nets.config(0))
        assert model(**inputs).logits.shape == (*inputs["input_ids"].shape, 50)
        assert len({p.data_ptr() for p in model.parameters()}) == len(list(model.parameters()))
        graph = nets[0]
        assert {slot.name for slots in graph.parameters for slot in slots} == {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize("make", [gpt2, llama])
def test_bad_language_models(make: Any) -> None:
    """They are refused before transformers is imported."""
    usual = {"layers": 1, "width": 16, "heads": 2, **({"kv_heads": 1} if make is llama else {})}
    for changes, message in (
        ({"heads": 3}, "heads: 3 do not divide the width 16"),
        ({"layers": 10**9}, "layers"),
        ({"width": -8}, "width"),
        ({"vocab_size": 10**10}, "vocab_size"),
        ({"context_length": 0}, "context_length"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(**{**usual, **changes})
    for changes, message in (({"kv_heads": 3}, "kv_heads"), ({"heads": 16}, "even"), ({"mlp_ratio": "4"}, "mlp_ratio")):
        if make is llama:
            with pytest.raises(ConfigError, match=message):
                make(**{**usual, **changes})


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    nets = FamilyNetworks("gpts-1k", "test", vocab_size=77)
    assert nets.config(0)["heads"] == 4  # configurations need no package
    with pytest.raises(MissingDependencyError, match=r'pip install "deepnets1m\[language\]"'):
        nets.build(0)
    with pytest.raises(MissingDependencyError, match="language"):
        nets.graph(0)


@pytest.mark.slow
def test_importing_needs_no_transformers() -> None:
    import subprocess

    program = "import sys, deepnets.families, benchmark, ghn_model; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
