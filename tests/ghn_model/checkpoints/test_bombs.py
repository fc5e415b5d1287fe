"""Small files that describe gigabytes, or whose reading takes minutes: each is refused with little memory and time."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deepnets.data.cifar import load_cifar10
from ghn_model.checkpoints import TensorFile, read_saved
from tests.support.limits import Outcome, limited

MEGABYTE = 1 << 20
REPEAT = 3000


def text(content: bytes, key: int) -> bytes:
    """Put a string into the memo and leave it on the stack."""
    return b"X" + struct.pack("<I", len(content)) + content + b"q" + bytes([key])


def data(content: bytes, key: int) -> bytes:
    return b"B" + struct.pack("<I", len(content)) + content + b"q" + bytes([key])


def name(module: str, attribute: str, key: int) -> bytes:
    return f"c{module}\n{attribute}\n".encode() + b"q" + bytes([key])


def old_tensor(numbers: int) -> bytes:
    stream = io.BytesIO()
    torch.save(torch.zeros(numbers), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def pairs(count: int) -> bytes:
    """A list of pairs, in the memo."""
    return b"]q\x05(" + b"".join(b"J" + struct.pack("<i", i) + b"N\x86" for i in range(count)) + b"e"


BOMBS: dict[str, Callable[[], bytes]] = {
    "copies of a text": lambda: (
        name("_codecs", "encode", 1)
        + text(b"a" * MEGABYTE, 2)
        + text(b"latin1", 3)
        + b"]("
        + b"h\x01h\x02h\x03\x86R" * REPEAT
        + b"e."
    ),
    "copies of a dictionary": lambda: (
        name("collections", "OrderedDict", 1) + pairs(30_000) + b"](" + b"h\x01h\x05\x85R" * REPEAT + b"e."
    ),
    "copies of a storage": lambda: (
        name("torch.storage", "_load_from_bytes", 1)
        + data(old_tensor(250_000), 2)
        + b"]("
        + b"h\x01h\x02\x85R" * REPEAT
        + b"e."
    ),
    "storages within storages": lambda: nested_storage(12),
    "copies of sizes": lambda: (
        name("torch", "Size", 1) + b"(" + b"K\x01" * 16 + b"tq\x02](" + b"h\x01h\x02\x85R" * 500_000 + b"e."
    ),
    "tensors": lambda: (
        name("torch.storage", "_load_from_bytes", 1)
        + data(old_tensor(1), 2)
        + b"\x85Rq\x03"
        + name("torch._utils", "_rebuild_tensor_v2", 4)
        + b"(h\x03K\x00))tq\x06"
        + b"]("
        + b"h\x04h\x06R" * 1_000_000
        + b"e."
    ),
    "dictionaries": lambda: b"](" + b"}" * 1_500_000 + b"e.",
    "nested lists": lambda: b"]" * 1_500_000 + b".",
    "marks": lambda: b"(" * 1_500_000 + b".",
    "duplicates": lambda: b"]" + b"2a" * 800_000 + b".",
    "device names": lambda: (
        name("torch", "device", 1) + text(b"c" * MEGABYTE, 2) + b"](" + b"h\x01h\x02K\x01\x86R" * REPEAT + b"e."
    ),
    "a namespace": lambda: (
        name("argparse", "Namespace", 1) + b"}" + pairs(30_000) + b"0q\x07](" + b"h\x01)Rh\x07b" * 400_000 + b"e."
    ),
    "short lines": lambda: b"](" + b"I1\n" * 600_000 + b"e.",
    "long integers": lambda: b"](" + (b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000) * 45 + b"e.",
    "texts of wide characters": lambda: b"](" + text("\N{GRINNING FACE}".encode() + b"a" * (4 * MEGABYTE), 1) + b"e.",
}


def nested_storage(levels: int) -> bytes:
    content = old_tensor(1)
    for _ in range(levels):
        content = b"".join(
            (
                b"\x80\x02" + b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}.",
                b"\x80\x02" + name("torch.storage", "_load_from_bytes", 1) + data(content, 2) + b"](",
                b"h\x01h\x02\x85R" * 20 + b"e0h\x01h\x02\x85R.",
                b"\x80\x02].",
            )
        )
    return b"\x80\x02" + name("torch.storage", "_load_from_bytes", 1) + data(content, 2) + b"\x85R."


def refused(outcome: Outcome, kind: str, path: Path) -> None:
    assert outcome.kind == kind, outcome
    assert str(path) in outcome.text
    assert "memory" not in outcome.text
    assert "\n" not in outcome.text
    assert len(outcome.text) < 500


@pytest.mark.sampled(11)
@pytest.mark.parametrize("case", BOMBS)
def test_pickles(tmp_path: Path, case: str) -> None:
    path = tmp_path / "ghn.pt"
    path.write_bytes(b"\x80\x02" + BOMBS[case]())
    assert path.stat().st_size < 5 * MEGABYTE
    outcome = limited(lambda: read_saved(path))
    if outcome.kind == "returned":  # a plain value of its size, which the reader of checkpoints then refuses
        assert case in {"texts of wide characters", "long integers", "nested lists", "duplicates"}
    else:
        refused(outcome, "CheckpointError", path)


@pytest.mark.parametrize("case", ["copies of a text", "dictionaries", "short lines"])
def test_compressed_pickles(tmp_path: Path, case: str) -> None:
    path = tmp_path / "ghn.pt"
    path.write_bytes(zlib.compress(b"\x80\x02" + BOMBS[case]()))
    refused(limited(lambda: read_saved(path)), "CheckpointError", path)


@pytest.mark.parametrize(
    "case", ["copies of a text", "dictionaries", "marks", "long integers", "storages within storages"]
)
def test_pickles_of_cifar(tmp_path: Path, case: str) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(b"\x80\x02" + BOMBS[case]())
    refused(limited(lambda: load_cifar10("test", root=tmp_path)), "FormatError", path)


def test_small_instructions_of_a_compressed_pickle_are_read_in_linear_time(tmp_path: Path) -> None:
    """Each read of a byte once copied the compressed data that was left."""
    path = tmp_path / "ghn.pt"
    numbers = [pow(7, i, 1_000_003) for i in range(40_000)]
    path.write_bytes(zlib.compress(pickle.dumps({"numbers": numbers}, 2)))
    outcome = limited(lambda: read_saved(path), seconds=4)
    assert outcome == ("returned", "dict")
    assert read_saved(path) == {"numbers": numbers}


def safetensors(path: Path, header: bytes, length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)
    return path


@pytest.mark.slow
def test_headers_of_safetensors(tmp_path: Path) -> None:
    empty = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    few = safetensors(tmp_path / "few", b"{" + b",".join(empty % i for i in range(20_000)) + b"}")
    assert few.stat().st_size < 5 * MEGABYTE
    assert limited(lambda: TensorFile(few)).kind == "returned"
    many = safetensors(tmp_path / "many", b"{" + b",".join(empty % i for i in range(400_000)) + b"}")
    outcome = limited(lambda: TensorFile(many))
    refused(outcome, "CheckpointError", many)
    assert "its header of" in outcome.text
    for number, (header, length) in enumerate(
        [
            (b"{}", 1 << 63),
            (b"{}", 1 << 40),
            (b'{"a":' * 1_000_000, None),
            (b'{"a":{"dtype":"F32","shape":[' + b"1," * 1_000_000 + b'1],"data_offsets":[0,4]}}abcd', None),
            (json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}).encode(), None),
            (json.dumps({"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 0]}}).encode(), None),
            (json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 60]}}).encode(), None),
        ]
    ):
        path = safetensors(tmp_path / f"{number}", header, length)
        refused(limited(lambda path=path: TensorFile(path)), "CheckpointError", path)  # type: ignore[misc]


def test_pipes_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for read in (TensorFile, read_saved):
        refused(limited(lambda read=read: read(path)), "CheckpointError", path)  # type: ignore[misc]
