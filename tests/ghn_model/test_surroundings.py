"""Predictions and files of hypernetworks whatever is set around them, and networks that are unlike others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import prune

from deepnets import GENOTYPES, ConfigError, Network, NetworkConfig, build_graph
from ghn_model import GHN, GHNConfig
from tests.support.limits import limited

DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=20)


@pytest.fixture(scope="module")
def ghn() -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig(hidden=8, max_shape=(16, 16, 5, 5))).eval()


def test_predictions_do_not_depend_on_autocast_or_default_types(ghn: GHN) -> None:
    model = Network(DARTS)
    expected, vector = ghn.predict(model), ghn.embed(model)

    def check() -> None:
        found = ghn.predict(model)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert all(tensor.dtype == torch.float32 for tensor in found.values())
        assert torch.equal(ghn.embed(model), vector)

    with torch.autocast("cpu", torch.bfloat16):
        check()
        graph = build_graph(DARTS)
        assert all(torch.equal(ghn(graph)[0][name], tensor) for name, tensor in expected.items())
    with torch.device("meta"):
        check()
        ghn.initialize(model, noise=1e-5)
    before = torch.get_default_dtype()
    for dtype in (torch.float64, torch.bfloat16):
        try:
            torch.set_default_dtype(dtype)
            check()
            assert torch.get_default_dtype() == dtype
        finally:
            torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_files_are_read_whatever_the_default_type_is(tmp_path: Path, dtype: torch.dtype) -> None:
    before = torch.get_default_dtype()
    ghn = GHN(GHNConfig(hidden=8, max_shape=(8, 8, 3, 3)))
    ghn.save(tmp_path / "single.safetensors")
    ghn.to(dtype).save(tmp_path / "other.safetensors")
    single = GHN.from_pretrained(tmp_path / "single.safetensors").state_dict()
    for name in ("single", "other"):
        try:
            torch.set_default_dtype(dtype)
            with torch.device("meta"):
                found = GHN.from_pretrained(tmp_path / f"{name}.safetensors").state_dict()
        finally:
            torch.set_default_dtype(before)
        assert found.keys() == single.keys()
        for key, tensor in found.items():
            assert tensor.dtype == torch.float32
            assert torch.allclose(tensor, single[key], atol=0 if name == "single" else 0.02)


def test_layers_that_were_replaced_are_traced(ghn: GHN) -> None:
    model = Network(DARTS)
    features = model.classifier[0].in_features
    model.classifier[0] = nn.Linear(features, 5)
    found = ghn.predict(model)
    assert found["classifier.0.weight"].shape == (5, features)
    assert functional_call(model, found, torch.rand(2, 3, 32, 32)).shape == (2, 5)
    ghn.initialize(model, predict_class_layers=False)
    pruned = Network(DARTS)
    prune.l1_unstructured(pruned.stem[0], "weight", 0.5)
    assert set(ghn.predict(pruned)) == {name for name, _ in pruned.named_parameters()}


def test_unknown_fields(ghn: GHN) -> None:
    for call in (
        lambda: GHN.from_pretrained("mlp-digits", normalisation="std"),
        lambda: GHNConfig.preset("ghn2", normalisation="std"),
        lambda: GHNConfig().replace(normalisation="std"),
        lambda: GHNConfig.from_dict({"normalisation": "std"}),
    ):
        with pytest.raises(ConfigError, match="hypernetwork config: unknown key 'normalisation'; valid keys are"):
            call()


def test_a_convolution_with_one_output_is_no_positional_encoding() -> None:
    """Their weights have the same shape, (1, n, c)."""
    ghn = GHN(GHNConfig(hidden=8, max_shape=(8, 8, 3, 3))).eval()

    def predicted(outputs: int, kernel: int) -> Tensor:
        conv = nn.Conv1d(15, outputs, kernel, padding=kernel // 2)
        model = nn.Sequential(nn.Conv1d(4, 15, 3, padding=1), conv, nn.Flatten(), nn.Linear(outputs * 32, 10))
        return ghn.predict(model, torch.zeros(1, 4, 32))["1.weight"]

    noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 0.02
    one = predicted(1, 3)
    assert one.shape == (1, 15, 3)
    assert not torch.equal(one[0, :6], noise)
    assert torch.equal(one[:, :7], one[:, 8:15])  # 8 inputs are decoded and repeated
    scale = [predicted(outputs, 15).square().mean().sqrt().item() for outputs in (1, 2)]
    assert 0.5 < scale[0] / scale[1] < 2


def test_many_classes_take_no_memory() -> None:
    """A file of 70 kB can state any number of classes if no tensor has this size."""
    config = GHNConfig.preset("logah-t").replace(
        num_classes=2_000_000_000, hidden=8, heads=8, layers=1, rank=2, max_shape=(16, 16, 16, 16), factor_rows=256
    )
    ghn = GHN(config)
    outcome = limited(lambda: ghn.predict(nn.Linear(8, 10), torch.zeros(1, 8)), megabytes=300)
    assert outcome.kind == "returned"


def test_integers_of_parts_are_saved_as_they_are(tmp_path: Path) -> None:
    ghn = GHN(GHNConfig(hidden=8, max_shape=(8, 8, 3, 3)))
    ghn.gnn.register_buffer("table", torch.tensor([2**40, 3]))
    path = ghn.save(tmp_path / "half.safetensors", half=True)
    with safe_open(path, "pt") as file:
        assert file.get_tensor("gnn.table").tolist() == [2**40, 3]
        assert file.get_tensor("ln.weight").dtype == torch.float16
