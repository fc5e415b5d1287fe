"""HDF5 files whose chunks decompress to more than they state, in corpora and in files of the original release."""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deepnets.corpus import CorpusFile, content_digest
from deepnets.original_format import read_official
from deepnets.support import FormatError, IntegrityError, check_chunks, checksummed_hdf5, corpus_path
from tests.support.limits import Outcome, limited
from tests.support.original_files import edit_json, random_graphs, written
from tests.support.small_corpus import write_small_corpus

N = 12


@functools.cache
def bomb(levels: int = 1, megabytes: int = 1000) -> bytes:
    """Zeros, compressed several times.  After a full flush, the same input gives the same output."""
    compressor, zeros = zlib.compressobj(9), bytes(1 << 20)
    first, other = (compressor.compress(zeros) + compressor.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    data = first + other * (megabytes - 1)
    for _ in range(levels - 1):
        data = zlib.compress(data, 9)
    return data


def dataset_with(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: str, filters: list[Any], raw: bytes, mask: int = 0
) -> h5py.Dataset:
    """A dataset of one chunk, whose stored bytes are `raw`."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(shape)
    for add in filters:
        add(plist)
    space = h5py.h5s.create_simple(shape)
    made = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, plist)
    write_chunk(made, raw, mask)
    return group[name]


def write_chunk(dataset: h5py.h5d.DatasetID, raw: bytes, mask: int) -> None:
    """Write the first chunk as it is; skip the test if this version of HDF5 refuses a size that a file can have."""
    try:
        dataset.write_direct_chunk((0,) * len(dataset.shape), raw, mask)
    except OSError as error:
        if "chunk size can't be encoded" not in str(error):
            raise
        pytest.skip(f"HDF5 {h5py.version.hdf5_version} does not write such a chunk")


def shuffle(plist: Any) -> None:
    plist.set_shuffle()


def deflate(plist: Any) -> None:
    plist.set_deflate(9)


def fletcher(plist: Any) -> None:
    plist.set_fletcher32()


@pytest.mark.parametrize(
    ("filters", "raw", "mask", "error"),
    [
        ([deflate, deflate], bomb(2), 0, "filters other than"),
        ([deflate, deflate, deflate], bomb(3), 0, "filters other than"),
        ([deflate, shuffle], bomb(), 0, "filters other than"),
        ([shuffle, shuffle, deflate], bomb(), 0, "filters other than"),
        ([deflate], bomb(), 0, r"holds more than the 24 bytes"),
        ([shuffle, deflate], bomb(), 0, r"holds more than the 24 bytes"),
        ([shuffle, deflate, fletcher], bomb() + b"abcd", 0, r"holds more than the 24 bytes"),
        ([shuffle, deflate, fletcher], bomb(), 0b100, "without some filters"),
        ([deflate], zlib.compress(bytes(24)), 0b1, "without some filters"),
        ([deflate], zlib.compress(bytes(25)), 0, "holds more than the 24 bytes"),
        ([deflate], zlib.compress(bytes(23)), 0, "is damaged: it holds 23 bytes of 24"),
        ([deflate], zlib.compress(bytes(range(24)))[:8], 0, "is damaged: it holds"),
        ([deflate], b"no zlib stream", 0, "is damaged"),
        ([], bytes(24), 0, ""),
        ([deflate], zlib.compress(bytes(24)), 0, ""),
        ([shuffle, deflate], zlib.compress(bytes(24)), 0, ""),
    ],
)
def test_chunks(tmp_path: Path, filters: list[Any], raw: bytes, mask: int, error: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = dataset_with(file, "x", (N,), "u2", filters, raw, mask)
        outcome = limited(lambda: check_chunks(dataset, "/x"))
        if not error:
            assert outcome == ("returned", "NoneType")
            assert dataset[:].tolist() == [0] * N
        else:
            assert outcome.kind in {"FormatError", "IntegrityError"}
            with pytest.raises(FormatError, match=f"^/x: .*({error})"):
                check_chunks(dataset, "/x")


def test_only_the_chunks_of_the_rows_are_checked_and_only_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = np.arange(70).reshape(35, 2)
        dataset = file.create_dataset("x", data=data, chunks=(10, 2), compression="gzip", shuffle=True, fletcher32=True)
        done: set[tuple[int, ...]] = set()
        check_chunks(dataset, "/x", slice(11, 20), done)
        assert done == {(10, 0)}
        check_chunks(dataset, "/x", slice(19, 1000), done)
        assert done == {(10, 0), (20, 0), (30, 0)}
        dataset.id.write_direct_chunk((30, 0), b"damaged")
        check_chunks(dataset, "/x", slice(30, 35), done)
        check_chunks(dataset, "/x", slice(3, 3))
        check_chunks(dataset, "/x", slice(0, 30))
        with pytest.raises(IntegrityError, match=r"^/x: the chunk at \(30, 0\) is damaged"):
            check_chunks(dataset, "/x")
        missing = file.create_dataset("y", (20,), "i8", chunks=(10,), compression="gzip")
        with pytest.raises(IntegrityError, match=r"^/y: has missing chunks"):
            check_chunks(missing, "/y")


def sealed(path: Path, change: Callable[[h5py.File], object]) -> Path:
    """Change a corpus file and give it a valid checksum."""
    with h5py.File(path, "r+") as file:
        change(file)
    content = bytearray(path.read_bytes())
    size = checksummed_hdf5.BLOCK_SIZE
    content[:size] = checksummed_hdf5._block(hashlib.sha256(content[size:]))
    path.write_bytes(content)
    return path


def read_corpus(path: Path) -> str:
    with CorpusFile(path) as file:
        file.architectures(slice(None))
        return content_digest(file)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", ["networks/num_rows", "networks/C", "networks/ops", "vocabulary/names", "wiring"])
@pytest.mark.parametrize("mask", [0, 0b100, 0b101])
def test_a_corpus_with_a_bomb(tmp_path: Path, name: str, mask: int) -> None:
    def change(file: h5py.File) -> None:
        dataset = file[name]
        write_chunk(dataset.id, bomb(), mask)

    path = corpus_path(write_small_corpus(tmp_path, "bnfree"), "bnfree")
    assert limited(lambda: read_corpus(path)).kind == "returned"
    changed = sealed(path, change)
    outcome = limited(lambda: read_corpus(changed))
    assert outcome.kind in {"FormatError", "IntegrityError"}
    assert str(path) in outcome.text


def official_with(folder: Path, name: str, shape: tuple[int, ...], dtype: str, filters: list[Any], raw: bytes) -> Path:
    path = written(folder, random_graphs(1))
    with h5py.File(path, "r+") as file:
        group = file["val/0"]
        (n, _) = group["adj"].shape
        del group[name]
        dataset_with(group, name, tuple(n if side is None else side for side in shape), dtype, filters, raw)  # type: ignore[misc]
    return path


def read_first(path: Path) -> Outcome:
    return limited(lambda: read_official(path)[0])


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize(("name", "shape", "dtype"), [("adj", (None, None), "u1"), ("nodes", (None, 3), "u2")])
def test_an_original_file_with_a_bomb(tmp_path: Path, levels: int, name: str, shape: Any, dtype: str) -> None:
    path = official_with(tmp_path, name, shape, dtype, [deflate] * levels, bomb(levels))
    outcome = read_first(path)
    assert outcome.kind == "FormatError"
    assert outcome.text.startswith(f"{path}: split val, network 0: {name}: ")


def test_an_original_file_whose_networks_claim_too_much(tmp_path: Path) -> None:
    """Many matrices of the largest size compress to little, and take minutes."""
    path = written(tmp_path, random_graphs(1))

    def change(content: Any) -> None:
        (entry,) = content["val"]["nets"]
        content["val"]["nets"] = [{**entry, "num_nodes": 8192}] * 2

    edit_json(path, change)
    with pytest.raises(FormatError, match="its networks claim matrices of 134,217,728 bytes"):
        read_official(path)
