"""Our checkpoints: round trips, damaged and malicious files, and bundled hypernetworks."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepnets.support import CheckpointError, ConfigError
from ghn_model import describe, load_checkpoint
from ghn_model.checkpoints import bundled as bundled_files
from ghn_model.checkpoints import files as checkpoints
from ghn_model.checkpoints import list_pretrained, model_card, read_config, save_checkpoint
from ghn_model.config import GHNConfig
from ghn_model.ghn import GHN
from tests.oracles.naive_ghn import random_state_dict

ROOT = Path(__file__).parents[3]
TINY = {"hidden": 8, "max_shape": (16, 16, 3, 3)}
TRANSFORMER = {"hypernet": "graphormer", "hidden": 8, "max_shape": (8, 8, 3, 3), "layers": 2, "heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "gatedgnn": TINY,
    "plain gatedgnn": {**TINY, "num_classes": 7, "virtual_edges": 1, "layernorm": False, "weight_norm": False},
    "mlp": {**TINY, "hypernet": "mlp"},
    "mlp decoder": {**TINY, "hypernet": "mlp", "decoder": "mlp"},
    "graphormer": {**TRANSFORMER, "num_classes": 7, "window": "centre"},
}


def hypernetwork(kind: str = "gatedgnn", seed: int = 0) -> GHN:
    """Return a small hypernetwork with random weights."""
    config = GHNConfig(**SMALL[kind])
    options = {name: value for name, value in SMALL[kind].items() if name not in ("window", "weight_norm")}
    ghn = GHN(config)
    ghn.load_state_dict(random_state_dict(seed=seed, **options))
    return ghn


def same(a: GHN, b: GHN) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return a.config == b.config and list(x) == list(y) and all(torch.equal(x[name], y[name]) for name in x)


def error(path: Path | str, **options: Any) -> str:
    """Return the error of loading and describing a file; check that it is one line."""
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(path, **options)
    text = str(raised.value)
    assert len(text.splitlines()) == 1
    if not options:
        with pytest.raises(CheckpointError) as raised:
            describe(path)
        assert str(raised.value) == text
    return text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_checkpoint(hypernetwork(), tmp_path / "ghn.safetensors", {"epochs": 3})


def rewrite(path: Path, change: dict[str, Tensor | None], **texts: str | None) -> Path:
    """Change tensors or metadata of a file, and update its digest."""
    file = checkpoints.TensorFile(path)
    tensors = {name: tensor for name, tensor in {**file.tensors, **change}.items() if tensor is not None}
    metadata = {name: text for name, text in {**file.metadata, **texts}.items() if text is not None}
    del metadata["content_sha256"]
    other = path.with_name("other.safetensors")
    checkpoints.write_tensors(other, tensors, metadata)
    return other


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SMALL)
def test_round_trip(tmp_path: Path, kind: str) -> None:
    ghn = hypernetwork(kind)
    path = tmp_path / "a name"
    assert save_checkpoint(ghn, path) == path
    assert list(tmp_path.iterdir()) == [path]
    loaded = load_checkpoint(str(path))
    assert same(loaded, ghn)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert read_config(path) == ghn.config


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    ghn = hypernetwork()
    whole = save_checkpoint(ghn, tmp_path / "whole.safetensors")
    half = save_checkpoint(ghn, tmp_path / "half.safetensors", half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    for name, tensor in load_checkpoint(half).state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, ghn.state_dict()[name].half().float()), name
    with torch.no_grad():
        next(ghn.parameters()).fill_(1e5)  # more than such numbers reach
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        save_checkpoint(ghn, half, half=True)


def test_methods_of_the_hypernetwork_are_the_same(tmp_path: Path) -> None:
    ghn = hypernetwork()
    ghn.save(tmp_path / "ghn.safetensors")
    assert same(GHN.from_pretrained(tmp_path / "ghn.safetensors"), ghn)


def test_files_are_valid_safetensors(path: Path) -> None:
    state = hypernetwork().state_dict()
    read = load_file(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_describe(path: Path) -> None:
    info = describe(path)
    assert info.path == path
    assert info.kind == "deepnets1m"
    assert info.config == hypernetwork().config
    assert info.num_parameters == sum(parameter.numel() for parameter in hypernetwork().parameters())
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.metadata == {"epochs": 3}


def test_loading_does_not_change_the_random_state(path: Path) -> None:
    state = torch.random.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_saving_replaces_files_with_default_permissions(path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_checkpoint(hypernetwork(seed=1), path)
    finally:
        os.umask(before)
    assert same(load_checkpoint(path), hypernetwork(seed=1))
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_expected_number_of_classes(path: Path) -> None:
    assert load_checkpoint(path, num_classes=10).config.num_classes == 10
    assert error(path, num_classes=1000).startswith(f"{path}: is for 10 classes, expected 1000; ")


def test_devices_are_checked_first(path: Path) -> None:
    assert next(load_checkpoint(path, torch.device("cpu")).parameters()).device.type == "cpu"
    for device in ("gpu", "cuda:77"):
        with pytest.raises(ConfigError, match=f"^device: cannot use '{device}': "):
            load_checkpoint(path, device)


# --- what cannot be written -------------------------------------------------------------------------------------------


def test_failed_writes_keep_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"^metadata: expected JSON values: "):
        save_checkpoint(hypernetwork(), path, {"model": object()})
    with pytest.raises(ConfigError, match=r"^metadata: expected JSON values: "):
        save_checkpoint(hypernetwork(), path, {"loss": float("nan")})
    broken = hypernetwork()
    with torch.no_grad():
        broken.get_parameter("ln.weight")[3] = float("nan")
    with pytest.raises(CheckpointError, match=r"ln.weight: holds NaN or infinity"):
        save_checkpoint(broken, path)
    with pytest.raises(CheckpointError, match=r"nowhere/ghn.safetensors: cannot be written: No such file"):
        save_checkpoint(broken.__class__(broken.config), path.parent / "nowhere" / "ghn.safetensors")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.ghn_model.checkpoints.test_files import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_checkpoint(hypernetwork(seed=1), Path({str(path)!r}))
except CheckpointError as error:
    print(error)
"""
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.startswith(f"{path}: cannot be written: "), done.stderr
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("format", ["deepnets1m", "ppuda"])
def test_what_cannot_be_read_is_not_written(path: Path, format: str) -> None:
    nested: dict[str, Any] = {}
    for _ in range(150):
        nested = {"a": nested}
    before, ghn = path.read_bytes(), hypernetwork()
    cases: dict[str, GHN | dict[str, Any]] = {"metadata: .* nested too deeply": nested}
    if format == "deepnets1m":
        other = hypernetwork()
        other.config = other.config.replace(options=nested)
        cases |= {"header of .* bytes is larger": {"a": "x" * (17 << 20)}, "config: .* nested too deeply": other}
    for message, case in cases.items():
        saved, metadata = (ghn, case) if isinstance(case, dict) else (case, None)
        target = path if format == "deepnets1m" else path.rename(path.with_suffix(".pt"))
        with pytest.raises(ConfigError, match=message):
            save_checkpoint(saved, target, metadata, format=format)
        assert [file.read_bytes() for file in path.parent.iterdir()] == [before]


# --- damage -----------------------------------------------------------------------------------------------------------


def test_truncated_files_are_refused(path: Path) -> None:
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for size in [
        *range(12),
        100,
        header - 1,
        header,
        header + 1,
        *range(header, len(content), 9_001),
        len(content) - 1,
    ]:
        path.write_bytes(content[:size])
        error(path)
    path.write_bytes(content + b"\0")
    error(path)


@pytest.mark.slow
def test_flipped_bits_are_detected(path: Path) -> None:
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    positions = [*range(12), *range(12, header, 37), *range(header, len(content), 4_999), len(content) - 1]
    for position in positions:
        for bit in (0, 5, 7):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            error(path)


def test_changed_numbers_and_texts_do_not_match_the_digest(path: Path) -> None:
    for old, new in ((b"epochs", b"epocha"), (b'\\"hidden\\": 8', b'\\"hidden\\": 9')):
        content = path.read_bytes()
        assert content.count(old) == 1
        other = path.with_name("other")
        other.write_bytes(content.replace(old, new))
        assert error(other) == f"{other}: does not match its SHA-256; the file is damaged or was changed"


def test_other_files_are_refused(tmp_path: Path, path: Path) -> None:
    assert error(tmp_path) == f"{tmp_path}: is the folder of a training; use {path}"
    (tmp_path / "folder").mkdir()
    assert error(tmp_path / "folder") == f"{tmp_path}/folder: is not a file"
    (tmp_path / "empty").touch()
    assert error(tmp_path / "empty").startswith(f"{tmp_path}/empty: is empty; expected a checkpoint")
    (tmp_path / "text.pt").write_text("hello, world, this is a text")
    assert error(tmp_path / "text.pt").startswith(f"{tmp_path}/text.pt: is of an unknown kind; expected a checkpoint")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other")
    assert error(tmp_path / "other").startswith(f"{tmp_path}/other: is a safetensors file, but not of a hypernetwork")
    os.mkfifo(tmp_path / "pipe")
    assert error(tmp_path / "pipe") == f"{tmp_path}/pipe: is not a file"
    assert "File name too long" in error("x" * 5_000)
    assert error("a\0b").startswith("'a\\x00b': no such file, and ")


def test_oversized_headers_take_no_memory(tmp_path: Path) -> None:
    for length in (1 << 20, 90 << 20, 1 << 39):
        path = tmp_path / "large"
        path.write_bytes(struct.pack("<Q", length) + b"{")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        error(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


@pytest.mark.parametrize(
    ("change", "texts", "message"),
    [
        ({}, {"format_version": "2"}, "has format version 2, expected 1; "),
        ({}, {"format": "other"}, "is a safetensors file, but not of a hypernetwork; "),
        ({}, {"config": "{"}, "has no valid configuration: "),
        ({}, {"config": None}, "has no valid configuration: "),
        ({}, {"config": "[" * 100_000}, "has no valid configuration: "),
        ({}, {"config": '{"hidden": -8}'}, "has no valid configuration: "),
        ({}, {"config": '{"hiden": 8}'}, "has no valid configuration: "),
        ({}, {"config": "[]"}, "has no valid configuration: "),
        ({}, {"metadata": "[]"}, "has no valid metadata: expected an object, got list"),
        ({}, {"metadata": "{"}, "has no valid configuration: "),
        ({}, {"config": '{"hidden": 16}'}, "bias_class.1.weight: expected (10, 64), got (10, 16); "),
        ({"embed.weight": None}, {}, "lacks 1 tensors of a hypernetwork with its configuration: embed.weight"),
        ({"ln.bias": None}, {}, "lacks 1 tensors of a hypernetwork with its configuration: ln.bias"),
        ({"other": torch.zeros(3)}, {}, "also holds 1 tensors of a hypernetwork with its configuration: other"),
        ({"ln.bias": torch.zeros(9)}, {}, "ln.bias: expected (8,), got (9,); "),
        ({"ln.bias": torch.zeros(8, 1)}, {}, "ln.bias: expected (8,), got (8, 1); "),
        ({"ln.bias": torch.zeros(8, dtype=torch.int64)}, {}, "ln.bias: expected torch.float32, got torch.int64; "),
        ({"ln.bias": torch.zeros(8, dtype=torch.int32)}, {}, "ln.bias: expected torch.float32, got torch.int32; "),
        ({"ln.bias": torch.full((8,), float("inf"))}, {}, "ln.bias: holds NaN or infinity; "),
    ],
)
def test_invalid_content(
    path: Path, change: dict[str, Tensor | None], texts: dict[str, str | None], message: str
) -> None:
    other = rewrite(path, change, **texts)
    assert error(other).startswith(f"{other}: {message}")


def test_oversized_configurations_take_no_memory(path: Path) -> None:
    """Memory for a configuration is allocated only if the tensors have its sizes."""
    for claim in ({"hidden": 1 << 40}, {"max_shape": [1 << 30] * 4}, {"num_classes": 1 << 40}):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        config = {**hypernetwork().config.to_dict(), **claim}
        error(rewrite(path, {}, config=json.dumps(config)))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


# --- bundled ones -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pretrained"
    folder.mkdir()
    monkeypatch.setattr(bundled_files, "PRETRAINED", folder)
    for seed, name in enumerate(["ghn2-digits", "ghn1-digits"]):
        path = save_checkpoint(hypernetwork(seed=seed), folder / f"{name}.safetensors")
        card = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "accuracy": seed}
        path.with_suffix(".json").write_text(json.dumps(card))
    save_checkpoint(hypernetwork(), folder / "without-card.safetensors")
    return folder


def test_bundled_hypernetworks_load() -> None:
    names = [f"{preset}-{images}" for preset in ("ghn1", "ghn2", "mlp") for images in ("cifar10", "digits")]
    assert list_pretrained() == sorted([*names, "ghn2-cifar10-60k"])
    for name in list_pretrained():
        card = model_card(name)
        assert describe(name).sha256 == card["sha256"]
        assert card.keys() >= {"about", "command", "seed", "hardware", "minutes", "steps", "data", "results", "licence"}
        assert load_checkpoint(name, num_classes=10).config.num_classes == 10


def test_bundled_hypernetworks_have_names_and_cards(bundled: Path) -> None:
    assert list_pretrained() == ["ghn1-digits", "ghn2-digits"]
    patterns = {"ghn2*": ["ghn2-digits"], "*-digits": ["ghn1-digits", "ghn2-digits"], "ghn[13]-*": ["ghn1-digits"]}
    patterns |= {"ghn": [], "": [], "GHN2*": [], "../*": []}
    assert {pattern: list_pretrained(pattern) for pattern in patterns} == patterns
    assert same(load_checkpoint("ghn2-digits"), hypernetwork())
    assert same(GHN.from_pretrained("ghn1-digits"), hypernetwork(seed=1))
    assert model_card("ghn1-digits")["accuracy"] == 1
    assert describe("ghn1-digits").metadata["accuracy"] == 1
    assert read_config("ghn2-digits") == hypernetwork().config


def test_unknown_names(bundled: Path) -> None:
    assert error("ghn3-digits") == (
        "'ghn3-digits': no such file, and the bundled hypernetworks are ghn1-digits, ghn2-digits; "
        f"expected one of these, or {checkpoints.KINDS}"
    )
    for name in ("without-card", "../pretrained/ghn1-digits", ""):
        with pytest.raises(CheckpointError):
            model_card(name)
    for path in bundled.iterdir():
        path.unlink()
    assert list_pretrained() == []
    assert error("ghn3-digits").startswith("'ghn3-digits': no such file, and no hypernetwork is bundled; expected ")


def test_changed_bundled_files_are_refused(bundled: Path) -> None:
    path = bundled / "ghn2-digits.safetensors"
    save_checkpoint(hypernetwork(seed=2), path)
    assert error("ghn2-digits") == f"{path}: does not match the SHA-256 in its card; install the package again"
    assert same(load_checkpoint(path), hypernetwork(seed=2))  # under its path it is any file
    for card in ("{", "[]", "{}", '{"sha256": 3}'):
        path.with_suffix(".json").write_text(card)
        assert error("ghn2-digits").startswith(f"{path.with_suffix('.json')}: ")
