"""Reading CIFAR-10: files as different programs write them, damaged and malicious files, archives, downloads."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepnets.data import load_images
from deepnets.data.cifar import ARCHIVE, FOLDER, SHA256, URL, fetch
from deepnets.data.image_set import IMAGENET_MEAN
from deepnets.support import FormatError, IntegrityError, MissingDataError
from tests.support.cifar_files import EXPECTED, WRITERS, batch, pack, write

COPY = Path(__file__).parents[4] / "shared" / "data" / "unpack_cifar10.py"


@pytest.mark.parametrize("split", EXPECTED)
@pytest.mark.parametrize("writer", WRITERS)
def test_splits(tmp_path: Path, writer: str, split: str) -> None:
    """The last tenth of the training images is the validation split; rows hold the red, green and blue planes."""
    write(tmp_path / FOLDER, WRITERS[writer])
    images = load_images("cifar10", split, root=tmp_path)
    data, labels = EXPECTED[split]
    assert images.images.shape == (len(labels), 3, 32, 32)
    assert images.images.dtype == torch.uint8
    assert np.array_equal(images.images.numpy().reshape(-1, 3072), data)
    assert images.labels.tolist() == labels
    assert (images.num_classes, images.image_size, images.shift, images.flip) == (10, 32, 4, True)
    images.images.add_(1)  # memory of its own


def test_keys_of_bytes(tmp_path: Path) -> None:
    """Programs in Python 3 that read with encoding="bytes" write such keys."""
    for protocol in (2, 4):
        folder = write(
            tmp_path / str(protocol),
            functools.partial(pickle.dumps, protocol=protocol),
            lambda content: {key.encode(): value for key, value in content.items()},
        )
        assert load_images("cifar10", "test", root=folder).labels.tolist() == batch(5)["labels"]


def test_places(tmp_path: Path) -> None:
    folder = write(tmp_path / "files" / FOLDER)
    (tmp_path / "archive").mkdir()
    pack(folder, tmp_path / "archive" / ARCHIVE)
    before = sorted((tmp_path / "archive").iterdir())
    for root in (folder, folder.parent, str(folder), tmp_path / "archive"):
        for split in EXPECTED:
            assert load_images("cifar10", split, root=root, download=True).labels.tolist() == EXPECTED[split][1]
    assert sorted((tmp_path / "archive").iterdir()) == before  # read as it is


def test_constants(tmp_path: Path) -> None:
    write(tmp_path)
    images = load_images("cifar10", "test", root=tmp_path, noise=0.08)
    assert images.mean == (0.49139968, 0.48215827, 0.44653124)
    assert images.std == (0.24703233, 0.24348505, 0.26158768)
    assert images.noise == 0.08
    large = load_images("cifar10", "test", root=tmp_path, image_size=64)
    assert (large.image_size, large.mean) == (64, IMAGENET_MEAN)
    pixels, _ = next(iter(large.batches(5)))
    assert pixels.shape == (5, 3, 64, 64)


@pytest.mark.slow
def test_a_real_copy(tmp_path: Path) -> None:
    if not COPY.exists():
        pytest.skip("the copy of CIFAR-10 is not here")
    subprocess.run([sys.executable, str(COPY), str(tmp_path)], check=True, capture_output=True)
    parts = {split: load_images("cifar10", split, root=tmp_path) for split in EXPECTED}
    assert {split: len(part) for split, part in parts.items()} == {
        "train": 45_000,
        "val": 5_000,
        "trainval": 50_000,
        "test": 10_000,
    }
    assert parts["test"].labels.bincount().tolist() == [1000] * 10
    pixels = parts["trainval"].images.float() / 255
    for found, expected in zip(pixels.mean(dim=(0, 2, 3)), parts["train"].mean, strict=True):
        assert abs(float(found) - expected) < 2e-3


# --- what is refused ---


def test_missing_files(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(MissingDataError) as caught:
            load_images("cifar10", root=root)
        message = str(caught.value)
        assert message.startswith(f"root: {root} holds neither {FOLDER} (data_batch_1 to 5, test_batch) nor {ARCHIVE};")
        assert URL in message
        assert "download=True" in message
        assert "\n" not in message


def test_a_file_is_missing(tmp_path: Path) -> None:
    folder = write(tmp_path / FOLDER)
    (folder / "data_batch_3").unlink()
    with pytest.raises(MissingDataError, match="data_batch_3: no such file; unpack"):
        load_images("cifar10", root=tmp_path)
    assert len(load_images("cifar10", "test", root=tmp_path)) == 20
    pack(folder, tmp_path / ARCHIVE)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(FormatError, match=f"holds no file {FOLDER}/data_batch_3; is it the python version"):
        load_images("cifar10", root=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: [content], "expected a dictionary, got a list"),
        (lambda content: {}, r"data: expected an array of \(n, 3072\) bytes, got a NoneType"),
        (
            lambda content: {**content, "data": content["data"][:, 1:]},
            r"data: expected .*, got an array of shape \(20, 3071\)",
        ),
        (
            lambda content: {**content, "data": content["data"][0]},
            r"data: expected .*, got an array of shape \(3072,\)",
        ),
        (lambda content: {**content, "data": content["data"].astype(np.float32)}, "has an array of f4, not of bytes"),
        (
            lambda content: {**content, "labels": content["labels"][1:]},
            "labels: expected a list of 20, got a list of 19",
        ),
        (lambda content: {**content, "labels": None}, "labels: expected a list of 20, got a NoneType"),
        (lambda content: {**content, "labels": [10, *content["labels"][1:]]}, "labels: expected integers .*, got 10"),
        (lambda content: {**content, "labels": [-1, *content["labels"][1:]]}, "labels: expected integers .*, got -1"),
        (lambda content: {**content, "labels": ["1", *content["labels"][1:]]}, "labels: expected integers .*, got 1"),
        (lambda content: {**content, "labels": [True, *content["labels"][1:]]}, "labels: expected .*, got True"),
        (lambda content: {"fine_labels": content["labels"], "data": content["data"]}, "labels: expected a list"),
    ],
)
def test_another_content(tmp_path: Path, change: Any, message: str) -> None:
    write(tmp_path, change=change)
    with pytest.raises(FormatError, match=f"^{tmp_path / 'test_batch'}: .*{message}") as caught:
        load_images("cifar10", "test", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_truncated_files(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "test_batch"
    whole = path.read_bytes()
    for length in (0, 1, 2, 100, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match="is not a file of CIFAR-10") as caught:
            load_images("cifar10", "test", root=tmp_path)
        assert "\n" not in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    """A changed byte leads to an error, or changes the images, but never to another exception."""
    write(tmp_path)
    path = tmp_path / "test_batch"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    edges = np.concatenate([np.arange(300), len(whole) - np.arange(1, 300)])
    for place in rng.choice(edges, 150, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(FormatError):
            assert load_images("cifar10", "test", root=tmp_path).images.shape[1:] == (3, 32, 32)


def test_a_large_file(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / "test_batch").open("r+b") as file:
        file.truncate(300 << 20)  # sparse
    with pytest.raises(FormatError, match="is too large for a file of CIFAR-10: 314,572,800 bytes"):
        load_images("cifar10", "test", root=tmp_path)


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def hostile(path: Path) -> dict[str, bytes]:
    import builtins
    import os

    flat = {
        "a function of Python": pickle.dumps(Calls(builtins.eval, f"open({str(path)!r}, 'w')"), 2),
        "a program": pickle.dumps(Calls(os.system, f"touch {path}"), 4),
        "a value": pickle.dumps({"data": Calls(os.mkdir, str(path)), "labels": []}, 2),
        "getattr": pickle.dumps(Calls(getattr, "text", "format"), 2),
        "an attribute of a known module": b"cnumpy\nfromfile\n(S'/etc/hostname'\ntR.",
        "numpy.load": b"cnumpy\nload\n(S'/etc/hostname'\ntR.",
        "ndarray itself": b"cnumpy\nndarray\n((I1000000000000\ntS'u1'\ntR.",
        "an array of objects": pickle.dumps({"data": np.array([Calls(os.mkdir, str(path))], object), "labels": [0]}, 2),
        "the old kind of object": f"(i__builtin__\nopen\n(S'{path}'\nS'w'\nt.".encode(),
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent object": b"Pname\n.",
        "a nested key": b"\x80\x02}" + b"(" + b")" + b"\x85" * 1_000_000 + b"K\x01u.",
        "a list in itself": b"\x80\x02]q\x00h\x00a.",
        "a gigantic string": b"\x80\x02T\xff\xff\xff\x7f.",
        "a negative string": b"\x80\x02T\xff\xff\xff\xff.",
        "a gigantic number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "many marks": b"\x80\x02" + b"(" * 1_000_000 + b".",
    }
    start = b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    flat["an array larger than its data"] = (
        start + b"(K\x01\x8a\x05\x00\x00\x00\x00\x10M\x00\x0c\x86" + dtype + b"\x89U\x04abcdtbU\x06labels]u."
    )
    return flat


HOSTILE = hostile(Path("x"))


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process prints that reads one malicious file after the other, by kind of file."""
    root = tmp_path_factory.mktemp("hostile")
    for number, content in enumerate(hostile(root / "evidence").values()):
        folder = root / str(number) / FOLDER
        folder.mkdir(parents=True)
        (folder / "test_batch").write_bytes(content)
    program = """
import resource, sys
from pathlib import Path
from deepnets.support import FormatError
from deepnets.data import load_images
import deepnets.data.cifar
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
for number in range(int(sys.argv[2])):
    try:
        load_images("cifar10", "test", root=Path(sys.argv[1], str(number)))
        print("was read")
    except FormatError as error:
        print(error)
    except BaseException as error:
        print(repr(error).replace("\\n", " "))
    if Path(sys.argv[1], "evidence").exists():
        sys.exit(f"file {number} ran code")
    sys.stdout.flush()
"""
    words = [sys.executable, "-c", program, str(root), str(len(HOSTILE))]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{list(HOSTILE)[len(lines)]}: {done.stderr}"
    assert len(lines) == len(HOSTILE)
    return {
        kind: line.replace(str(root / str(number) / FOLDER), "FOLDER")
        for number, (kind, line) in enumerate(zip(HOSTILE, lines, strict=True))
    }


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files(refusals: dict[str, str], kind: str) -> None:
    """Malicious files raise one error of one line; no code runs, and no large memory is allocated."""
    assert refusals[kind].startswith("FOLDER/test_batch: ")


def test_damaged_archives(tmp_path: Path) -> None:
    archive = pack(write(tmp_path / "files"), tmp_path / ARCHIVE)
    whole = archive.read_bytes()
    changes = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"<html>not found</html>",
        "flipped": whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:],
        "no tar": gzip.compress(b"hello"),
    }
    for kind, content in changes.items():
        archive.write_bytes(content)
        with pytest.raises(FormatError, match=f"^{archive}") as caught:
            load_images("cifar10", "trainval", root=tmp_path)
        assert "\n" not in str(caught.value), kind


def test_an_archive_of_links(tmp_path: Path) -> None:
    """Links in an archive are not followed."""
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as tar:
        link = tarfile.TarInfo(f"{FOLDER}/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    with pytest.raises(FormatError, match=f"holds no file {FOLDER}/test_batch"):
        load_images("cifar10", "test", root=tmp_path)


# --- downloads ---


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A local server with a small archive; returns its URL."""
    pack(write(tmp_path / "made"), tmp_path / ARCHIVE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def official(archive: Path) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}


def test_download(tmp_path: Path, server: str) -> None:
    target = tmp_path / "new" / "folder"
    for url in (f"{server}/{ARCHIVE}", (tmp_path / ARCHIVE).as_uri()):
        assert fetch(target, url, **official(tmp_path / ARCHIVE)) == target / ARCHIVE
        assert [path.name for path in target.iterdir()] == [ARCHIVE]
        assert load_images("cifar10", "val", root=target).labels.tolist() == EXPECTED["val"][1]


def test_only_an_explicit_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(url: str, *_: Any, **__: Any) -> Any:
        asked.append(url)
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(MissingDataError, match="holds neither"):
        load_images("cifar10", root=tmp_path)
    assert asked == []
    with pytest.raises(MissingDataError, match=f"^{URL}: cannot be downloaded into {tmp_path}: Network is unreachable"):
        load_images("cifar10", root=tmp_path, download=True)
    assert asked == [URL]
    write(tmp_path)
    load_images("cifar10", root=tmp_path, download=True)
    assert asked == [URL]
    assert len(SHA256) == 64


def test_a_wrong_download(tmp_path: Path, server: str) -> None:
    target = tmp_path / "target"
    right = official(tmp_path / ARCHIVE)
    with pytest.raises(IntegrityError, match="does not have the checksum of CIFAR-10; try again, or put") as caught:
        fetch(target, f"{server}/{ARCHIVE}", **{**right, "sha256": "0" * 64})
    assert "\n" not in str(caught.value)
    assert list(target.iterdir()) == []
    for url in (f"{server}/missing.tar.gz", "http://127.0.0.1:9/x", "file:///nowhere/x", "no address"):
        with pytest.raises(MissingDataError, match="cannot be downloaded into") as refused:
            fetch(target, url, **right)
        assert "\n" not in str(refused.value)
        assert list(target.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(MissingDataError, match=r"cannot be downloaded into .*: (Not a directory|File exists)"):
        fetch(tmp_path / "file", f"{server}/{ARCHIVE}", **right)
