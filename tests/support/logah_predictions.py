"""The stored predictions of the original LoGAH, and the networks that they are for."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ghn_model import GHNConfig

__all__ = ["error_of", "hypernetworks", "network"]

FILE = Path(
    os.environ.get(
        "DEEPNETS_LOGAH_PREDICTIONS",
        Path(__file__).parents[3] / "shared" / "data" / "logah" / "predictions_of_the_original.json.gz",
    )
)


@cache
def hypernetworks() -> dict[str, Any]:
    """Return the stored predictions by hypernetwork; the test is skipped without the file."""
    if not FILE.is_file():
        pytest.skip("the stored predictions of the original LoGAH are not on this machine")
    with gzip.open(FILE) as file:
        content: dict[str, Any] = json.load(file)
    return content


def network(name: str, entry: dict[str, Any]) -> tuple[nn.Module, Any]:
    """Return the network of an entry on the device `meta`, and an input for it."""
    kind, args = name.partition(":")[0], entry["args"]
    if kind in ("gpt2", "llama"):
        transformers = text_models()
        if kind == "gpt2":
            config = transformers.GPT2Config(**{"tie_word_embeddings": False, **args})
        else:
            config = transformers.LlamaConfig(**args)
        with torch.device("meta"):
            model = (transformers.GPT2LMHeadModel if kind == "gpt2" else transformers.LlamaForCausalLM)(config)
        return model, {"input_ids": torch.zeros(1, 8, dtype=torch.int64)}
    models = pytest.importorskip("deepnets.support.optional_models").import_torchvision().models
    image = torch.empty(1, 3, entry["size"], entry["size"], device="meta")
    with torch.device("meta"):
        if kind == "tv":
            return models.get_model(args["name"], weights=None, num_classes=args["num_classes"]), image
        return vision_transformer(**args), image


def vision_transformer(
    p: int = 2,
    l: int = 3,  # noqa: E741
    h: int = 4,
    d: int = 128,
    k: int = 100,
    i: int = 32,
) -> nn.Module:
    """Return a vision transformer: size of patches, layers, heads, width, classes, size of images."""
    models = pytest.importorskip("deepnets.support.optional_models").import_torchvision().models
    model: nn.Module = models.VisionTransformer(
        image_size=i, patch_size=p, num_layers=l, num_heads=h, hidden_dim=d, mlp_dim=4 * d, num_classes=k
    )
    return model


def text_models() -> Any:
    """Return the package transformers; the test is skipped if it is not installed."""
    import contextlib

    from deepnets.support import import_torchvision

    transformers = pytest.importorskip("transformers")
    with contextlib.suppress(ImportError):
        import_torchvision()  # transformers imports it, too, and does not know how to without a GPU
    return transformers


def config_of(entry: dict[str, Any]) -> GHNConfig:
    """Return the configuration of a stored hypernetwork."""
    task = "images" if entry["class"] == "GHN3" else "text"
    return GHNConfig.preset("logah-t", entry["config"].get("num_classes", 10), task=task)


def error_of(tensor: Tensor, expected: dict[str, Any]) -> float:
    """Return the largest error of a tensor, relative to its size: of its norm, its sum and six of its elements."""
    assert list(tensor.shape) == expected["shape"]
    if "after_first_row" in expected:  # the first row is random
        return error_of(tensor[:, 1:], expected["after_first_row"])
    flat = tensor.flatten().double()
    elements = [float(flat[j * 7919 % len(flat)]) for j in range(6)]
    largest = max(map(abs, expected["at"]))
    errors = [abs(a - b) / largest for a, b in zip(elements, expected["at"])]
    errors += [abs(float(flat.norm()) - expected["norm"]) / expected["norm"]]
    return max(*errors, abs(float(flat.sum()) - expected["sum"]) / expected["norm"])
