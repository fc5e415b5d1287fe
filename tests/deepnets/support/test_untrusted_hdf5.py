"""Reading HDF5 files that are untrusted input: attributes, groups and datasets."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepnets.support import (
    FormatError,
    read_attribute,
    safe_datasets,
    safe_group,
)

FILTERS = {"compression": "gzip", "shuffle": True, "fletcher32": True}


@contextlib.contextmanager
def made(path: Path, make: Callable[[h5py.File], object]) -> Iterator[h5py.File]:
    with h5py.File(path, "w") as file:
        make(file)
    with h5py.File(path) as file:
        yield file


def test_attributes(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file.attrs["number"] = 3
        file.attrs["text"] = np.bytes_("abc")
        file.attrs["long"] = np.bytes_("x" * 60_000)
        file.attrs["too long"] = np.bytes_("x" * 70_000)
        file.attrs["variable"] = "abc"
        file.attrs["floating"] = 3.0
        file.attrs["numbers"] = [3, 4]
        file.attrs["texts"] = np.array([b"a", b"b"])
        file.attrs["nothing"] = h5py.Empty("i8")
        file.attrs["reference"] = file.ref
        file.attrs["flag"] = True

    with h5py.File(tmp_path / "a.h5", "w", libver=("v110", "v110")) as file:
        make(file)
    with h5py.File(tmp_path / "a.h5") as file:
        assert read_attribute(file, "number", int) == 3
        assert read_attribute(file, "text", str) == "abc"
        assert len(read_attribute(file, "long", str)) == 60_000
        for name in (*file.attrs, "missing"):
            if name not in ("number", "text", "long"):
                assert read_attribute(file, name, int) is None
                assert read_attribute(file, name, str) is None


def test_attribute_that_is_many_times_one_long_text(tmp_path: Path) -> None:
    """4,000 texts of a megabyte each that are one and the same: 4 GB for who reads the attribute."""
    length, path = 1_000_000, tmp_path / "a.h5"
    for count in (3, 4_000):
        with h5py.File(path, "w") as file:
            file.attrs.create("texts", ["x" * length] + [""] * (count - 1), dtype=h5py.string_dtype())
        content = path.read_bytes()
        first = content.index(length.to_bytes(4, "little"))  # of 16 bytes each: length, place in the file
        assert content[first + 16 : first + 20] == bytes(4)
        path.write_bytes(content[:first] + content[first : first + 16] * count + content[first + 16 * count :])
        with h5py.File(path) as file:
            if count == 3:
                assert file.attrs["texts"].tolist() == ["x" * length] * 3
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert read_attribute(file, "texts", str) is None
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_groups(tmp_path: Path) -> None:
    def make(file: h5py.File) -> None:
        file.create_group("good/inner")
        file.create_group("good/other")
        file["dataset"] = 1
        file.create_group("soft")["inner"] = h5py.SoftLink("/good/inner")
        file.create_group("itself")["inner"] = h5py.SoftLink("/itself/inner")
        file.create_group("outside")["inner"] = h5py.ExternalLink("/etc/passwd", "/")
        file.create_group("loop")
        file["loop/inner"] = file["loop"]

    with made(tmp_path / "a.h5", make) as file:
        assert set(safe_group(file["good"], {"inner", "other"})) == {"inner", "other"}
        assert safe_group(file["loop"], {"inner"})  # a loop is harmless, because groups are not traversed recursively
        for members in ({"inner"}, {"inner", "other", "third"}, {"inner", "elsewhere"}):
            with pytest.raises(FormatError, match=r"a\.h5: /good should hold "):
                safe_group(file["good"], members)
        for name in ("soft", "itself", "outside"):
            with pytest.raises(FormatError, match=rf"a\.h5: /{name}/inner is a link; refused"):
                safe_group(file[name], {"inner"})
        with pytest.raises(FormatError, match="/dataset is not a group"):
            safe_group(file["dataset"], set())


def test_datasets(tmp_path: Path) -> None:
    data = np.arange(100)
    outside = tmp_path / "outside"
    outside.write_bytes(b"secrets!" * 100)
    layout = h5py.VirtualLayout((100,), "i8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (100,))

    def make(file: h5py.File) -> None:
        file.create_dataset("good", data=data, chunks=(10,), **FILTERS)
        file.create_dataset("no checksum", data=data, chunks=(10,), compression="gzip", shuffle=True)
        file.create_dataset("no compression", data=data, chunks=(10,), fletcher32=True, shuffle=True)
        file.create_dataset("not shuffled", data=data, chunks=(10,), fletcher32=True, compression="gzip")
        file.create_dataset("lzf", data=data, chunks=(10,), fletcher32=True, compression="lzf", shuffle=True)
        file.create_dataset("contiguous", data=data)
        file.create_dataset("compact", data=data[:5])
        file["scalar"] = 1
        file["nothing"] = h5py.Empty("i8")
        file["type"] = np.dtype("i8")
        file.create_group("group")
        file.create_dataset("external", (100,), "i8", external=[(str(outside), 0, 800)])
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("long", (10**12,), "u1", chunks=(1 << 16,), **FILTERS)
        file.create_dataset("endless", (2**62,), "i8", chunks=(1 << 16,), **FILTERS)
        file.create_dataset("large chunk", (100,), "u1", chunks=(1 << 28,), maxshape=(None,), **FILTERS)
        file.create_dataset("wide", (100,), "S1000000000", chunks=(1,), **FILTERS)

    with made(tmp_path / "a.h5", make) as file:
        assert safe_datasets(file, ["good"])["good"][:].tolist() == data.tolist()
        for name in set(file) - {"good"}:
            with pytest.raises(FormatError) as caught:
                safe_datasets(file, [name])
            assert str(caught.value).startswith(f"{file.filename}: /{name} ")
            sizes = {"long", "endless", "large chunk", "wide"}
            assert ("claims a size" in str(caught.value)) == (name in sizes)
            assert ("from other files" in str(caught.value)) == (name in {"external", "virtual"})
