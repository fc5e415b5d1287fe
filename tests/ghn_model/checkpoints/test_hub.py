"""Hypernetworks on the Hugging Face Hub: nothing is downloaded unless asked for, and the cache is read as any file."""

from __future__ import annotations

import inspect
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmark.evaluation import PredictorContext, describe_predictor, open_networks, open_predictor
from benchmark.training import open_start
from deepnets.data import load_images
from deepnets.support import CheckpointError, ConfigError, MissingDependencyError
from ghn_model import GHN, GHNConfig
from ghn_model.checkpoints.hub import is_repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def small() -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig(hidden=8, max_shape=(8, 8, 3, 3)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of huggingface_hub, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def refuse(*_: Any) -> None:
        raise AssertionError("access to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def store(cache: Path, content: bytes) -> None:
    """Store a file as a download does: a blob, and a link to it from the folder of a commit."""
    repository = cache / "models--user--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "b").write_bytes(content)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "snapshots" / COMMIT / "ghn.safetensors").symlink_to("../../blobs/b")


def test_what_was_downloaded_is_loaded_without_network(cache: Path, tmp_path: Path) -> None:
    store(cache, small().save(tmp_path / "x.safetensors", {"about": "small"}).read_bytes())
    for options in ({}, {"revision": COMMIT}, {"num_classes": 10}):
        loaded = GHN.from_pretrained("user/name", **options)
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), small().parameters(), strict=True))
    with pytest.raises(CheckpointError, match="download=True"):
        GHN.from_pretrained("user/name", revision="v2")


def test_commands_take_what_was_downloaded(cache: Path, tmp_path: Path) -> None:
    """As predictors of the benchmark, and as initial values; under the name of the repository."""
    with pytest.raises(CheckpointError, match=r"'user/name': no such file"):
        describe_predictor("user/name")
    with pytest.raises(CheckpointError, match=r"'user/name': no such file"):
        open_start("user/name")
    store(cache, small().save(tmp_path / "x.safetensors", {"about": "small"}).read_bytes())
    found = describe_predictor("user/name")
    assert (found.label, found.kind, found.about) == ("name", "hypernetwork", "small")
    networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    context = PredictorContext(networks, load_images("digits", "test"))
    opened = open_predictor(found, context)
    assert isinstance(opened, GHN)
    start = open_start("user/name")
    assert (start.label, start.about["kind"]) == ("name", "hypernetwork")
    assert start.ghn is not None
    assert start.ghn.config.hidden == 8


def test_nothing_is_downloaded_by_default(cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^'user/name': no such file.*download=True\) downloads it$"):
        GHN.from_pretrained("user/name")


def test_a_file_comes_before_a_repository(cache: Path, tmp_path: Path) -> None:
    store(cache, b"other")
    (tmp_path / "user").mkdir()
    small().save(tmp_path / "user" / "name")
    assert GHN.from_pretrained("user/name").config.hidden == 8
    for name in ("user/name", "ghn2-digits"):
        with pytest.raises(
            ConfigError, match=r"revision: is for repositories of the Hugging Face Hub, and .* is a file"
        ):
            GHN.from_pretrained(name, revision="main")


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"not a hypernetwork" * 100])
def test_damaged_files_of_the_cache_are_refused(cache: Path, content: bytes) -> None:
    store(cache, content)
    with pytest.raises(CheckpointError):
        GHN.from_pretrained("user/name")


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def download(*arguments: Any, **options: Any) -> str:
        asked.append((arguments, options))
        raise RuntimeError("404\nnot found")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    with pytest.raises(CheckpointError, match=r"^'user/name': ghn.safetensors cannot be downloaded: 404 not found$"):
        GHN.from_pretrained("user/name", revision="v1", download=True)
    assert asked == [(("user/name", "ghn.safetensors"), {"revision": "v1", "local_files_only": False})]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"deepnets1m\[hub\]"):
        GHN.from_pretrained("user/name")
    for call in (lambda: GHN.from_pretrained("user/name", download=True), lambda: small().push_to_hub("user/name")):
        with pytest.raises(MissingDependencyError, match=r"deepnets1m\[hub\]") as caught:
            call()
        assert caught.value.name == "huggingface_hub"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user/ghn2-flowers", True),
        ("user.name/x_1", True),
        ("ghn2-digits", False),
        ("a/b/c", False),
        ("runs/ghn.safetensors", False),
        ("checkpoints/ghn2_cifar10.pt", False),
        ("../name", False),
        ("/name", False),
        ("user/", False),
        ("user/na me", False),
        ("user/name\n", False),
        ("", False),
        ("u" * 97 + "/x", False),
    ],
)
def test_names_of_repositories(name: str, expected: bool) -> None:
    assert is_repository(name) is expected


# --- uploading ---


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is uploaded, with the content of the folder, instead of uploading it."""
    found: list[dict[str, Any]] = []

    def upload(**options: Any) -> None:
        folder = Path(options.pop("folder_path"))
        found.append({**options, "files": {path.name: path.read_bytes() for path in folder.iterdir()}})

    def create(name: str, **options: Any) -> str:
        found.append({"name": name, **options})
        return f"https://huggingface.co/{name}"

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(create_repo=create, upload_folder=upload))
    return found


def test_weights_and_card_are_uploaded(uploads: list[dict[str, Any]], tmp_path: Path) -> None:
    ghn = small()
    card = {"about": "GHN for flowers", "licence": "MIT", "sha256": "of another file"}
    address = ghn.push_to_hub("user/ghn-flowers", card, private=True, message="first")
    assert address == "https://huggingface.co/user/ghn-flowers"
    created, uploaded = uploads
    assert created == {"name": "user/ghn-flowers", "private": True, "exist_ok": True}
    assert (uploaded["repo_id"], uploaded["commit_message"], uploaded["revision"]) == (
        "user/ghn-flowers",
        "first",
        None,
    )
    assert set(uploaded["files"]) == {"ghn.safetensors", "README.md"}
    (tmp_path / "loaded.safetensors").write_bytes(uploaded["files"]["ghn.safetensors"])
    loaded = GHN.from_pretrained(tmp_path / "loaded.safetensors")
    for one, other in zip(loaded.parameters(), ghn.parameters(), strict=True):
        assert torch.equal(one, other.half().float())
    text = uploaded["files"]["README.md"].decode()
    assert 'GHN.from_pretrained("user/ghn-flowers", download=True)' in text
    assert "GHN for flowers." in text
    assert "of another file" not in text


def test_huggingface_hub_has_these_arguments(uploads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls fit the signatures of the installed version."""
    small().push_to_hub("user/name")
    created, uploaded = uploads
    monkeypatch.undo()
    hub = pytest.importorskip("huggingface_hub")
    inspect.signature(hub.create_repo).bind(created.pop("name"), **created)
    del uploaded["files"]
    inspect.signature(hub.upload_folder).bind(**uploaded, folder_path="folder")
    inspect.signature(hub.hf_hub_download).bind("user/name", "x", revision=None, local_files_only=True)


def test_uploads_that_are_refused(uploads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("name", "a/b/c", "user/x.safetensors", ""):
        with pytest.raises(ConfigError, match="repository: expected 'user/name'"):
            small().push_to_hub(name)
    with pytest.raises(ConfigError, match="card: expected JSON values"):
        small().push_to_hub("user/name", {"value": float("nan")})
    ghn = small()
    next(ghn.parameters()).data.fill_(float("inf"))
    with pytest.raises(CheckpointError):
        ghn.push_to_hub("user/name")
    assert uploads == []

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("401\nunauthorized")

    monkeypatch.setattr(sys.modules["huggingface_hub"], "create_repo", fail)
    with pytest.raises(CheckpointError, match=r"^'user/name': cannot be uploaded: 401 unauthorized$"):
        small().push_to_hub("user/name")
