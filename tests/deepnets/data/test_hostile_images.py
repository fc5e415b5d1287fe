"""Image files and archives of images that run programs, or describe gigabytes."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepnets.data.cifar import ARCHIVE, FOLDER, load_cifar10
from deepnets.data.decoding import MAX_PIXELS, read_image
from deepnets.support import FormatError
from tests.support import cifar_files
from tests.support.limits import limited


def png(width: int, height: int, content: bytes, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def test_postscript_runs_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow passes PostScript to the program gs, wherever it is found first."""
    marker = tmp_path / "marker"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for suffix in ("JPEG", "png", "eps"):
        path = tmp_path / f"image.{suffix}"
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
        with pytest.raises(FormatError, match=f"^{path}: cannot be read as an image: "):
            read_image(path)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "WEBP", "ICO", "PCX", "TGA", "PDF"])
def test_other_formats_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (16, 16)).save(path, kind)
    with pytest.raises(FormatError, match=f"^{path}: cannot be read as an image: cannot identify image file"):
        read_image(path)


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (13_000, 13_000, "pixels, more than 67,108,864"),
        (MAX_PIXELS + 1, 1, "pixels, more than 67,108,864"),
        (2_000_000_000, 2_000_000_000, "pixels, more than|exceeds limit"),
        (1, 50_000, "a side more than 200 times the other"),
        (50_000, 1, "a side more than 200 times the other"),
    ],
)
def test_images_that_are_too_large(tmp_path: Path, width: int, height: int, reason: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png(width, height, zlib.compress(bytes(1000))))
    assert path.stat().st_size < 1000
    outcome = limited(lambda: read_image(path))
    assert outcome.kind == "FormatError"
    with pytest.raises(FormatError, match=f"^{path}: cannot be read as an image: .*({reason})"):
        read_image(path)


@pytest.mark.slow
def test_texts_and_profiles_in_images_are_limited(tmp_path: Path) -> None:
    zeros = zlib.compress(bytes(200 << 20), 9)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for number, extra in enumerate(
        [
            chunk(b"zTXt", b"key\0\0" + zeros),
            chunk(b"iCCP", b"name\0\0" + zeros),
            chunk(b"iTXt", b"k\0\1\0\0\0" + zeros),
        ]
    ):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png(4, 4, zlib.compress(bytes(4 * 13)), extra * 4))
        outcome = limited(lambda path=path: read_image(path))  # type: ignore[misc]
        assert outcome.kind in {"FormatError", "returned"}
        assert "memory" not in outcome.text


def test_images_in_other_modes_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    for mode, values in (("RGB", (1, 2, 3)), ("RGBA", (1, 2, 3, 4)), ("L", 7), ("P", 0), ("1", 1), ("LA", (5, 6))):
        made = Image.new(mode, (5, 4), values)
        made.save(path)
        assert np.array_equal(np.asarray(read_image(path)), np.asarray(made.convert("RGB")))
        assert read_image(path, None).mode == mode


def test_a_pipe_is_not_an_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.png")
    assert limited(lambda: read_image(tmp_path / "image.png")).kind == "FormatError"


# --- archives of CIFAR-10 ---


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def zeros(megabytes: int) -> bytes:
    return bytes(megabytes << 20)


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a long link": lambda: header(tarfile.GNUTYPE_LONGLINK, 1 << 20) + zeros(1) + member("a", b""),
    "a long name": lambda: header(tarfile.GNUTYPE_LONGNAME, 700 << 20) + zeros(700),
    "long names": lambda: (header(tarfile.GNUTYPE_LONGNAME, 60_000) + b"a" * 60_416) * 2000 + member("a", b""),
    "a header of pax": lambda: header(tarfile.XHDTYPE, 700 << 20) + zeros(700),
    "a global header of pax": lambda: header(tarfile.XGLTYPE, 1 << 20) + b"20 comment=aaaaaaaaa\n" * 49_932,
    "headers of pax": lambda: member("a", b"") + (header(tarfile.XGLTYPE, 600) + b"12 a=bbbbbb\n" * 50 + zeros(0)) * 9,
    "many files": lambda: member("a", b"") * 100_000,
    "a large file": lambda: member("other", zeros(700)),
    "a large batch": lambda: member(f"{FOLDER}/test_batch", zeros(150)),
    "a sparse file": lambda: sparse(200_000),
    "zeros": lambda: zeros(700),
}


def sparse(blocks: int) -> bytes:
    """The header of a sparse file that goes on for many blocks."""
    first = bytearray(header(b"S", 0))
    first[482] = 1
    first[148:156] = b"        "
    first[148:156] = b"%06o\0 " % sum(first)
    other = (b"%011o\0" % 1) * 42 + b"\1" + bytes(7)
    return bytes(first) + other * blocks


@pytest.mark.sampled(11)
@pytest.mark.parametrize("case", ARCHIVES)
def test_archives(tmp_path: Path, case: str) -> None:
    path = tmp_path / ARCHIVE
    path.write_bytes(gzip.compress(ARCHIVES[case](), 6))
    assert path.stat().st_size < 5 << 20
    outcome = limited(lambda: load_cifar10("test", root=tmp_path), megabytes=400)
    assert outcome.kind == "FormatError", outcome
    assert outcome.text.startswith(f"{path}: ")
    assert "memory" not in outcome.text


def test_an_archive_with_other_files_is_read(tmp_path: Path) -> None:
    folder = cifar_files.write(tmp_path / FOLDER)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a" * 300 + "/\N{GREEK SMALL LETTER ALPHA}")
        info.size = 2 << 20
        tar.addfile(info, io.BytesIO(zeros(2)))
        tar.add(folder, FOLDER)
    target = tmp_path / "archive"
    target.mkdir()
    (target / ARCHIVE).write_bytes(gzip.compress(plain.getvalue()))
    images, _ = cifar_files.EXPECTED["test"]
    assert np.array_equal(load_cifar10("test", root=target).images.numpy().reshape(len(images), -1), images)
