"""Image sets by name: users add their own, by registration or as "module:attribute"."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepnets.data import (
    IMAGE_SETS,
    ImageSet,
    ImageSetInfo,
    image_set_info,
    load_images,
    open_images,
    register_image_set,
    run_statistics,
)
from deepnets.support import ConfigError, Registry
from tests.support.hidden_packages import run_without
from tests.support.image_folders import write_folder

ROOT = Path(__file__).parents[3]
SHAPES = """
import torch
from deepnets.data import ImageSet

def load(split, *, root=None, download=False, device="cpu", image_size=None, noise=0.0):
    images = torch.arange(12, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    shapes = ImageSet("shapes:load", split, images, torch.arange(12) % 4, 4, (0.5,) * 3, (0.25,) * 3)
    return shapes.with_options(device=device, image_size=image_size, noise=noise)

class Lazy:
    name, split, num_classes, image_size, device = "lazy", "train", 2, 8, torch.device("cpu")
    batches = None

    def __len__(self):
        return 4

def lazy(split, **options):
    return Lazy()

"""


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `shapes` with image sets, in the current folder."""
    (tmp_path / "shapes.py").write_text(SHAPES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    yield tmp_path
    sys.modules.pop("shapes", None)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    """The registry of image sets, restored after the test."""
    monkeypatch.setattr(IMAGE_SETS, "_entries", dict(IMAGE_SETS._entries))
    return IMAGE_SETS


def test_builtin_sets() -> None:
    assert list(IMAGE_SETS)[:3] == ["digits", "cifar10", "imagenet"]


def test_what_is_known_without_loading(registry: Registry[Any]) -> None:
    digits = open_images("digits", "test")
    assert image_set_info("digits") == ("digits", digits.num_classes, digits.image_size)
    assert image_set_info("imagenet") == ("ImageNet", 1000, 224)
    assert image_set_info("never:heard") == ("never:heard", None, None)
    register_image_set("plain set", IMAGE_SETS["digits"])
    assert image_set_info("plain set") == ("plain set", None, None)
    register_image_set("described set", IMAGE_SETS["digits"], ImageSetInfo("Described", 7, 48))
    assert image_set_info("described set") == ("Described", 7, 48)
    with pytest.raises(ConfigError, match="already registered"):
        register_image_set("digits", IMAGE_SETS["digits"], ImageSetInfo("Others"))
    assert image_set_info("digits").title == "digits"


def test_a_registered_set(registry: Registry[Any]) -> None:
    seen = {}

    def load(split: str, **options: Any) -> ImageSet:
        seen.update(options, split=split)
        return load_images("digits", split).with_options(noise=options["noise"])

    register_image_set("mine", load)
    assert "mine" in registry
    images = open_images("mine", "val", root="folder", noise=0.5, image_size=16)
    assert (len(images), images.split) == (299, "val")
    assert seen == {
        "split": "val",
        "root": "folder",
        "download": False,
        "device": "cpu",
        "noise": 0.5,
        "image_size": 16,
    }
    open_images("mine", workers=2)
    assert seen["workers"] == 2
    assert isinstance(load_images("mine"), ImageSet)
    with pytest.raises(
        ConfigError, match=r"^images: unknown 'yours'; use one of digits, cifar10, imagenet, .*mine, or"
    ):
        open_images("yours")


def test_a_registered_set_is_checked_as_that_of_a_module(registry: Registry[Any]) -> None:
    digits = load_images("digits", "test")
    register_image_set("grey", lambda split, **_: replace(digits, images=digits.images[:, :1]))
    assert torch.equal(load_images("grey").images, digits.images[:, :1].expand(-1, 3, -1, -1))
    register_image_set("wrong", lambda split, **_: replace(digits, labels=digits.labels + 1))
    with pytest.raises(ConfigError, match=r"images: wrong \(train\): has labels from 1 to 10; expected 0 to 9"):
        open_images("wrong")
    register_image_set("other", lambda split, **_: digits.images)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match=r"the loader returned a Tensor, which has no"):
        open_images("other")


def test_statistics_of_another_image_size(tmp_path: Path) -> None:
    name = f"folder:{write_folder(tmp_path / 'images')}"
    found = run_statistics(tmp_path / "run", name, image_size=48)
    assert open_images(name, "train", image_size=48, statistics=found).mean == found.mean  # type: ignore[union-attr, attr-defined]
    with pytest.raises(ConfigError, match=r"or the size of the images, have changed since the run began"):
        open_images(name, "train", image_size=64, statistics=found)


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_duplicates_are_refused(registry: Registry[Any], name: str) -> None:
    before = registry[name]
    with pytest.raises(ConfigError, match=f"^images: '{name}' is already registered; choose another name$"):
        register_image_set(name, lambda *_, **__: None)  # type: ignore[arg-type, return-value]
    assert registry[name] is before


@pytest.mark.parametrize("name", ["", "module:load", 3])
def test_wrong_names_are_refused(registry: Registry[Any], name: Any) -> None:
    with pytest.raises(ConfigError, match=r"^images: expected a name without a colon"):
        register_image_set(name, lambda *_, **__: None)  # type: ignore[arg-type, return-value]


def test_a_module_and_attribute(shapes: Path) -> None:
    images = load_images("shapes:load", "test", image_size=16, noise=0.1)
    assert (images.name, images.split, images.num_classes, images.image_size) == ("shapes:load", "test", 4, 16)
    pixels, labels = next(images.batches(5))
    assert (pixels.shape, labels.tolist()) == (torch.Size([5, 3, 16, 16]), [0, 1, 2, 3, 0])


def test_only_sets_in_memory_are_loaded(shapes: Path) -> None:
    assert open_images("shapes:lazy").name == "lazy"
    with pytest.raises(ConfigError, match=r"^images: shapes:lazy does not fit into memory; use open_images$"):
        load_images("shapes:lazy")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:load", "nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("shapes:loud", "shapes has no attribute 'loud'; did you mean load"),
        ("shapes:", "expected 'module:attribute', got 'shapes:'"),
        (":load", "expected 'module:attribute', got ':load'"),
        ("shapes.py:load", "shapes.py cannot be imported: ModuleNotFoundError"),
        ("a b:load", "expected 'module:attribute', got 'a b:load'"),
    ],
)
def test_what_cannot_be_imported(shapes: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^images: {message}"):
        open_images(name)


def test_the_names_need_no_torch() -> None:
    """Command lines list the names without importing torch."""
    program = "import sys; from deepnets.data import IMAGE_SETS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["digits", "shapes:load", "shapes:lazy"])
def test_workers_are_accepted_for_every_set(shapes: Path, name: str) -> None:
    assert len(open_images(name, "train", workers=2)) > 0
    with pytest.raises(ConfigError, match="workers: expected"):
        open_images(name, "train", workers=-1)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ("torch", r'PyTorch: pip install "deepnets1m\[torch\]"'),
        ("sklearn", r'scikit-learn: pip install "deepnets1m\[torch\]"'),
    ],
)
def test_what_to_install_for_the_built_in_sets(tmp_path: Path, hidden: str, message: str) -> None:
    (line,) = run_without(
        [hidden],
        """
from deepnets.support import MissingDependencyError
from deepnets.data import open_images
try:
    open_images("digits", "test")
except MissingDependencyError as error:
    print(error)
""",
        tmp_path,
    )
    assert re.search(message, line)


def test_user_defined_sets_on_the_command_line(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options check names before anything is loaded."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=IMAGE_SETS.option)
    for name in ("digits", "shapes:load"):
        assert parser.parse_args(["--images", name]).images == name
    with pytest.raises(SystemExit):
        parser.parse_args(["--images", "mnist"])
    assert "argument --images: images: unknown 'mnist'; use one of digits, cifar10" in capsys.readouterr().err


def test_names_of_files_in_other_encodings(tmp_path: Path) -> None:
    """Such as Latin-1 in old archives."""
    write_folder(tmp_path, classes=2, images=9)
    for file in sorted(tmp_path.rglob("*.png"))[:3]:
        file.rename(os.fsdecode(os.fsencode(file.parent) + b"/caf\xe9-" + os.fsencode(file.name)))
    assert len(open_images(f"folder:{tmp_path}", "trainval")) + len(open_images(f"folder:{tmp_path}", "test")) == 18
