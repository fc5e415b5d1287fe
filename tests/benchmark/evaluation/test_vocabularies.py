"""The graphs of models of libraries: each hypernetwork reads those that it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark import evaluate, register_predictor
from benchmark.evaluation import describe_predictor, open_networks
from benchmark.results import Machine, run
from benchmark.training import initialized, open_start
from deepnets import ConfigError
from deepnets.data import ImageSet, load_images
from deepnets.support import CheckpointError, import_timm
from ghn_model import GHN, GHNConfig

try:
    import_timm()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

MNASNET = "torchvision:mnasnet0_5"  # its mean over the spatial axes has no node in PPUDA
CONVNEXT = "timm:convnext_atto"  # its layer scales have no node in GHN-3


@pytest.fixture(scope="module")
def images() -> ImageSet:
    digits = load_images("digits", "test")
    return replace(digits, images=digits.images[:4], labels=digits.labels[:4])


def ghn(vocabulary: str) -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig(hidden=8, max_shape=(16, 16, 3, 3), vocabulary=vocabulary, init="small")).eval()


@pytest.mark.slow
def test_the_vocabulary_of_the_hypernetwork(images: ImageSet) -> None:
    sizes = {}
    for vocabulary in ("complete", "ghn3", "ppuda"):
        (row,) = evaluate(ghn(vocabulary), MNASNET, images).to_dict("records")
        assert row["status"] == "ok", row["reason"]
        sizes[vocabulary] = row["num_nodes"]
    assert sizes == {"complete": 118, "ghn3": 118, "ppuda": 117}
    (row,) = evaluate(ghn("complete"), MNASNET, images, vocabulary="ppuda").to_dict("records")
    assert (row["num_nodes"], row["status"]) == (117, "ok")
    with pytest.raises(ConfigError, match="vocabulary: expected complete"):
        evaluate(ghn("complete"), MNASNET, images, vocabulary="ghn2")


@pytest.mark.slow
def test_the_vocabulary_of_a_registered_kind(images: ImageSet) -> None:
    """It is the one that the kind states, in this process as in workers, which do not know its hypernetwork."""
    for vocabulary, nodes in (("complete", 118), ("ppuda", 117)):
        kind = f"kind_{vocabulary}"
        register_predictor(kind, lambda argument, context: ghn("ppuda"), vocabulary=vocabulary)
        found = [evaluate(kind, MNASNET, images, **options) for options in ({}, {"timeout": 300})]
        assert [table["num_nodes"].tolist() for table in found] == [[nodes], [nodes]]


@pytest.mark.slow
def test_parameters_without_a_node_keep_their_values(images: ImageSet) -> None:
    rows = {
        vocabulary: evaluate(ghn(vocabulary), CONVNEXT, images).to_dict("records")[0]
        for vocabulary in ("complete", "ghn3")
    }
    for row in rows.values():
        assert row["status"] == "ok", row["reason"]
    assert rows["ghn3"]["num_nodes"] < rows["complete"]["num_nodes"]
    networks = open_networks(CONVNEXT, data="data", num_classes=10, image_size=32)
    unused = {slot.name for slot in networks.graph(0, "ghn3").unused}
    assert unused
    assert {name.rpartition(".")[2] for name in unused} == {"gamma"}
    assert networks.graph(0).unused == ()


def test_fine_tuning_starts_from_kept_values(tmp_path: Path) -> None:
    path = ghn("ghn3").save(tmp_path / "ghn.safetensors")
    networks = open_networks(CONVNEXT, data="data", num_classes=10, image_size=32)
    model = networks.build(0)
    start = open_start(f"mine={path}")
    assert start.ghn is not None
    net = initialized(model, start, num_classes=10, graph=networks.graph(0, start.ghn.config.vocabulary))
    before, after = dict(model.named_parameters()), dict(net.named_parameters())
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.endswith("gamma")}


@pytest.mark.slow
def test_runs_record_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of another vocabulary are a run of their own; splits of DeepNets-1M have none."""
    monkeypatch.chdir(tmp_path)
    path = ghn("complete").save(tmp_path / "ghn.safetensors")
    info = describe_predictor(str(path))
    assert info.vocabulary == "complete"
    assert describe_predictor(str(ghn("ppuda").save(tmp_path / "other.safetensors"))).vocabulary == "ppuda"
    rows = []
    for vocabulary in (None, "ppuda", "ppuda", "complete"):
        run([f"mine={path}"], [MNASNET], out="results", machine=Machine(workers=1), vocabulary=vocabulary)
        rows.append(len((tmp_path / "results" / "networks.csv").read_text().splitlines()) - 1)
    assert rows == [1, 2, 2, 2]
    text = (tmp_path / "results" / "runs.json").read_text()
    assert text.count('"vocabulary": "ppuda"') == 1
    assert '"vocabulary": "complete"' not in text


def test_missing_official_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = (
        r"get ghn2_cifar10.pt from https://github.com/facebookresearch/ppuda and save it as checkpoints/ghn2_cifar10.pt"
    )
    with pytest.raises(CheckpointError, match=said):
        describe_predictor("ghn2_cifar10")
    with pytest.raises(ConfigError, match=said):
        open_start("ghn2_cifar10")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": ghn("complete").state_dict()}, tmp_path / "checkpoints" / "ghn2_cifar10.pt")
    assert describe_predictor("ghn2_cifar10").vocabulary == "ppuda"
    assert open_start("ghn2_cifar10").ghn is not None
