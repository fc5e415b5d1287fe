"""Files for the original code: what is written, that it is read again, and what cannot be written."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from deepnets import GENOTYPES, NetworkConfig, build_graph
from deepnets.support import CheckpointError, ConfigError
from ghn_model import GHN, GHNConfig, describe
from ghn_model.__main__ import main
from ghn_model.checkpoints import save_checkpoint
from tests.ghn_model.checkpoints.test_files import SMALL, hypernetwork, same
from tests.oracles.naive_ghn import list_shapes

FORMATS = {kind: "ghn3" if kind == "graphormer" else "ppuda" for kind in SMALL}
KEYWORDS = {"max_shape", "num_classes", "hypernet", "decoder", "weight_norm", "ve", "layernorm", "hid"}


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_written_is_read(tmp_path: Path, kind: str) -> None:
    ghn = hypernetwork(kind)
    path = ghn.save(tmp_path / "ghn.pt", {"epoch": 7, "images": "digits"}, format=FORMATS[kind])
    found = GHN.from_pretrained(path)
    assert same(found, ghn)
    graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=12), num_classes=ghn.config.num_classes)
    with torch.no_grad():
        (a,), (b,) = ghn.eval()(graph), found(graph)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    info = describe(path)
    assert (info.kind, info.metadata) == ("official", {"epoch": 7, "images": "digits"})
    assert [entry.name for entry in tmp_path.iterdir()] == ["ghn.pt"]


@pytest.mark.parametrize("kind", SMALL)
def test_the_layout_is_that_of_the_originals(tmp_path: Path, kind: str) -> None:
    """PyTorch reads the file with its safe defaults; names and shapes of tensors are those of the originals."""
    path = hypernetwork(kind).save(tmp_path / "ghn.pt", format=FORMATS[kind])
    file = torch.load(path, weights_only=True)
    assert file["epoch"] == 0
    small = {"num_classes": 10, "decoder": "conv", **SMALL[kind]}
    options = {name: value for name, value in SMALL[kind].items() if name not in ("window", "weight_norm")}
    shapes = {name: tuple(tensor.shape) for name, tensor in file["state_dict"].items()}
    assert shapes == list_shapes(**options)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in file["state_dict"].values())
    config = file["config"]
    assert config.keys() == KEYWORDS | ({"layers", "heads", "is_ghn2"} if kind == "graphormer" else set())
    assert (config["max_shape"], config["hid"], config["num_classes"]) == (
        small["max_shape"],
        small["hidden"],
        small["num_classes"],
    )
    assert config["ve"] == (small.get("virtual_edges", 50) > 1)
    assert zipfile.is_zipfile(path)


def test_ghn2_for_the_code_of_ghn3(tmp_path: Path) -> None:
    ghn = hypernetwork()
    path = ghn.save(tmp_path / "ghn.pt", format="ghn3")
    file = torch.load(path, weights_only=True)
    assert file["config"]["is_ghn2"] is True
    assert max(tensor.ndim for tensor in file["state_dict"].values()) == 2
    assert same(GHN.from_pretrained(path), ghn)


@pytest.mark.parametrize("vocabulary", ["complete", "ghn3", "ppuda"])
def test_the_vocabulary_is_kept(tmp_path: Path, vocabulary: str) -> None:
    config = GHNConfig(**SMALL["gatedgnn"], vocabulary=vocabulary)
    for original in ("ppuda", "ghn3"):
        assert GHN.from_pretrained(GHN(config).save(tmp_path / "ghn.pt", format=original)).config == config


def test_files_are_replaced_atomically(tmp_path: Path) -> None:
    path = hypernetwork(seed=0).save(tmp_path / "ghn.pt", format="ppuda")
    before = path.read_bytes()
    broken = hypernetwork()
    with torch.no_grad():
        broken.get_parameter("ln.bias")[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"ln\.bias: holds NaN"):
        broken.save(path, format="ppuda")
    with pytest.raises(ConfigError, match="cannot represent"):
        GHN(GHNConfig(**{**SMALL["gatedgnn"], "virtual_edges": 10})).save(path, format="ppuda")
    assert path.read_bytes() == before
    assert same(GHN.from_pretrained(hypernetwork(seed=1).save(path, format="ppuda")), hypernetwork(seed=1))
    with pytest.raises(CheckpointError, match="it is a folder"):
        hypernetwork().save(tmp_path, format="ppuda")
    with pytest.raises(CheckpointError, match="cannot be written: No such file"):
        hypernetwork().save(tmp_path / "nowhere" / "ghn.pt", format="ppuda")


@pytest.mark.parametrize(
    ("format", "changes", "message"),
    [
        ("ppuda", SMALL["graphormer"], "ppuda cannot represent hypernet 'graphormer', only gatedgnn or mlp"),
        ("ppuda", {"hypernet": "torch.nn:Identity"}, "cannot represent hypernet 'torch.nn:Identity'"),
        ("ppuda", {"decoder": "torch.nn:Identity"}, "cannot represent decoder 'torch.nn:Identity'"),
        ("ppuda", {"virtual_edges": 49}, "ppuda cannot represent virtual_edges 49, only 1 or 50"),
        ("ppuda", {"window": "centre"}, "ppuda cannot represent window 'centre', only corner"),
        ("ppuda", {"max_shape": (16, 8, 3, 3)}, "cannot represent max_shape (16, 8, 3, 3), only equal channels"),
        ("ppuda", {"max_shape": (16, 16, 5, 3)}, "cannot represent max_shape (16, 16, 5, 3), only equal channels"),
        ("ppuda", {"options": {"a": 1}}, "ppuda cannot represent options {'a': 1}, only none"),
        ("ppuda", {"normalization": "fan_out"}, "ppuda cannot represent normalization 'fan_out', only fan_in"),
        ("ghn3", {"normalization": "std"}, "ghn3 cannot represent normalization 'std', only fan_in"),
        ("ppuda", {"channel_sizes": (9000,)}, "ppuda cannot represent channel_sizes (9000,), only none"),
        ("ppuda", {"node_types": "language"}, "ppuda cannot represent node_types 'language', only published"),
        ("ghn3", {"hypernet": "mlp"}, "ghn3 cannot represent hypernet 'mlp', only graphormer or gatedgnn"),
        ("ghn3", {"decoder": "mlp"}, "ghn3 cannot represent decoder 'mlp', only conv"),
        ("ghn3", {"virtual_edges": 1}, "ghn3 cannot represent virtual_edges 1, only 50"),
        ("ghn3", {**SMALL["graphormer"], "window": "corner"}, "cannot represent window 'corner', only centre"),
        ("ghn4", {}, "format: expected one of deepnets1m, ppuda, ghn3; got 'ghn4'"),
    ],
)
def test_what_the_originals_cannot_represent(
    tmp_path: Path, format: str, changes: dict[str, Any], message: str
) -> None:
    from ghn_model.checkpoints import official_config

    with pytest.raises(ConfigError) as raised:
        official_config(GHNConfig(**{**SMALL["gatedgnn"], **changes}), format)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_half_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="half: files of the format ppuda hold single precision"):
        hypernetwork().save(tmp_path / "ghn.pt", half=True, format="ppuda")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(hypernetwork(), tmp_path / "mine.safetensors", {"about": "a test"})
    main(["export", "mine.safetensors", "--format", "ppuda", "--out", "ghn2.pt"])
    assert capsys.readouterr().out.startswith("ghn2.pt: ")
    main(["export", "ghn2.pt", "--format", "deepnets1m", "--out", "ghn2.safetensors"])
    assert same(GHN.from_pretrained("ghn2.safetensors"), GHN.from_pretrained("mine.safetensors"))
    assert describe("ghn2.safetensors").metadata["about"] == "a test"
    with pytest.raises(ConfigError, match="already exists"):
        main(["export", "mine.safetensors", "--format", "ppuda", "--out", "ghn2.pt"])
    for name, field in (("ghn2-digits", "dirac"), ("mlp-digits", "hypernet")):
        with pytest.raises(ConfigError, match=f"cannot represent {field}"):
            main(["export", name, "--format", "ghn3", "--out", "no.pt"])
