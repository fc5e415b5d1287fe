"""Checksummed files are whole or not there, notice every changed byte, and cannot be used against their reader."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from deepnets.support import (
    DeepNetsError,
    FormatError,
    IntegrityError,
    create_group,
    create_hdf5,
    error_reason,
    open_hdf5,
    safe_group,
    verify_checksum,
)

START = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parents[3])!r}, {str(Path(__file__).parent)!r}]
from tests.deepnets.support.test_checksummed_hdf5 import *
"""
FILTERS = {"compression": "gzip", "shuffle": True, "fletcher32": True}


def fill(path: Path, number: int = 0, size: int = 1_000) -> None:
    with create_hdf5(path) as file:
        file.create_dataset(
            "numbers", data=np.arange(number, number + size), chunks=(100,), track_times=False, **FILTERS
        )
        file.attrs["text"] = np.bytes_("some text")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.h5"
    fill(path)
    return path


def start(code: str, *arguments: object, under: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a program that has the names of this module."""
    command = [*under, sys.executable, "-c", START + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> str:
    """What a program prints that ends well."""
    printed, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    return printed


# --- the checksum ----


def test_checksum_is_a_sha256_in_a_user_block(path: Path) -> None:
    content = path.read_bytes()
    assert content[:512].decode().split("\n")[:2] == [
        "DeepNets-1M corpus: an HDF5 file from byte 512 on",
        f"sha256 of the rest: {hashlib.sha256(content[512:]).hexdigest()}",
    ]
    assert set(content[:512].decode().splitlines()[2:]) == {""}
    with h5py.File(path) as file:  # any reader opens the file
        assert file.userblock_size == 512
        assert file["numbers"][:].tolist() == list(range(1_000))
    verify_checksum(path)


def test_same_content_same_bytes(path: Path) -> None:
    before = path.read_bytes()
    fill(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mask", ["one bit", 0xFF])
def test_every_changed_byte_breaks_the_checksum(path: Path, mask: str | int) -> None:
    content = path.read_bytes()
    bits = random.Random(0)
    with path.open("r+b", buffering=0) as file:
        for position, good in enumerate(content):
            for byte in (good ^ (mask if isinstance(mask, int) else 1 << bits.randrange(8)), good):
                file.seek(position)
                file.write(bytes([byte]))
                if byte != good:
                    with pytest.raises(IntegrityError, match=r"checksum|SHA-256"):
                        verify_checksum(path)
    assert path.read_bytes() == content
    verify_checksum(path)


def test_other_lengths_break_the_checksum(path: Path) -> None:
    content = path.read_bytes()
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        with pytest.raises(IntegrityError):
            verify_checksum(path)
    for more in (b"\0", b"\n", content):
        path.write_bytes(content + more)
        with pytest.raises(IntegrityError, match="SHA-256"):
            verify_checksum(path)


def test_no_checksum(tmp_path: Path) -> None:
    for name in ("missing.h5", "."):
        with pytest.raises(FormatError, match=r"cannot be read: (No such file|Is a directory)"):
            verify_checksum(tmp_path / name)
    with h5py.File(tmp_path / "plain.h5", "w", userblock_size=512):
        pass
    with pytest.raises(IntegrityError, match=r"plain\.h5: has no checksum"):
        verify_checksum(tmp_path / "plain.h5")


# --- opening ----------------------------------------------------------------------------------------------------------


def refused(path: Path, match: str = "", kind: type[DeepNetsError] = FormatError) -> None:
    with pytest.raises(kind, match=match) as caught:
        open_hdf5(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_open(path: Path) -> None:
    with open_hdf5(path) as file:
        assert file.mode == "r"
        assert len(file["numbers"]) == 1_000


def test_truncated(path: Path) -> None:
    content = path.read_bytes()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for length in {*range(0, len(content), 64), len(content) - 1}:
        path.write_bytes(content[:length])
        refused(path, "not an HDF5 file" if length <= 512 else "truncated|not an HDF5 file|cannot be opened")
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_other_kinds(tmp_path: Path) -> None:
    refused(tmp_path / "missing.h5", "No such file")
    refused(tmp_path / "missing" / "file.h5", "No such file")
    refused(tmp_path, "not a file")
    os.mkfifo(tmp_path / "pipe.h5")
    refused(tmp_path / "pipe.h5", "not a file")  # and does not wait for a writer
    refused(Path("/dev/zero"), "not a file")
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    refused(tmp_path / "loop.h5", "symbolic links")
    (tmp_path / "empty.h5").touch()
    refused(tmp_path / "empty.h5", r"not an HDF5 file \(0 bytes\)")
    (tmp_path / "text.h5").write_text("Dear reader,\n" * 100)
    refused(tmp_path / "text.h5", r"not an HDF5 file \(1,300 bytes\)")
    refused(tmp_path / "text.h5" / "file.h5", "Not a directory")
    refused(tmp_path / ("x" * 300), "File name too long")
    refused(tmp_path / "null\0byte", "null")


def as_nobody(function: Callable[[], object]) -> str:
    """The error of a function that is called without the rights of root, in a fork."""
    if os.geteuid() != 0:
        with pytest.raises(DeepNetsError) as caught:
            function()
        return str(caught.value)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(65_534)
            os.setuid(65_534)
            function()
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf8") as answer:  # noqa: PTH123
        text = answer.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may look into, which `tmp_path` is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_unreadable(public: Path) -> None:
    path = public / "file.h5"
    fill(path)
    path.chmod(0)
    assert as_nobody(lambda: open_hdf5(path)).endswith(f"{path}: cannot be opened as HDF5: Permission denied")
    assert as_nobody(lambda: verify_checksum(path)).endswith(f"{path}: cannot be read: Permission denied")


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("no"), OSError(5, "no"), RuntimeError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [True, False])
def test_failing_block(tmp_path: Path, error: BaseException, existing: bool) -> None:
    path = tmp_path / "file.h5"
    if existing:
        fill(path)
    before = path.read_bytes() if existing else None
    with pytest.raises(type(error)) as caught, create_hdf5(path) as file:  # noqa: PT012
        file["x"] = np.zeros(100_000)
        raise error
    assert caught.value is error  # what goes wrong in the block is not called a writing error
    assert [entry.name for entry in tmp_path.iterdir()] == (["file.h5"] if existing else [])
    assert not existing or path.read_bytes() == before


def test_failing_check(path: Path) -> None:
    before = path.read_bytes()
    seen = []

    def check(written: Path) -> None:
        verify_checksum(written)  # complete by now
        seen.append(open_hdf5(written)["x"][()])
        raise IntegrityError("not right")

    with pytest.raises(IntegrityError, match="not right"), create_hdf5(path, check) as file:
        file["x"] = 5
    assert seen == [5]
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["file.h5"]


HEAPS = (b"FRHP", b"FHDB", b"BTHD", b"BTLF", b"GCOL", b"TREE", b"HEAP")  # how parts of HDF5 files begin


@pytest.mark.parametrize("reachable", [True, False])
def test_groups_without_heaps(path: Path, monkeypatch: pytest.MonkeyPatch, reachable: bool) -> None:
    """HDF5 before 2.0 crashes on flipped bits in the header of a heap or of its tree."""
    if not reachable:
        monkeypatch.delattr("ctypes.CDLL")
    for _ in range(2):
        before = path.read_bytes()
        with create_hdf5(path) as file:
            group = create_group(file, "group")
            for i in range(40):
                group.create_dataset(f"numbers {i}", data=np.arange(i), track_times=False)
    assert path.read_bytes() == before
    assert any(name in before for name in HEAPS) != reachable
    with open_hdf5(path) as file:
        assert safe_group(file["group"], {f"numbers {i}" for i in range(40)})
        assert file["group/numbers 7"][:].tolist() == list(range(7))


def test_files_appear_when_they_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    with create_hdf5(path) as file:
        file["x"] = 5
        assert not path.exists()
    verify_checksum(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.h5"]


def test_existing_temporary_file(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that other users can write to, it may be a malicious link."""
    victim = tmp_path / "victim"
    victim.write_text("important")
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / f".file.h5.{os.getpid()}-guessed.tmp").symlink_to(victim)
    fill(path, 5)
    assert victim.read_text() == "important"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file.h5", "victim"]


def cannot_write(path: Path, why: str) -> None:
    with pytest.raises(DeepNetsError) as caught, create_hdf5(path):
        pass
    assert str(caught.value) == f"{path}: cannot be written: {why}"


def test_impossible_paths(path: Path, tmp_path: Path) -> None:
    cannot_write(tmp_path / "missing" / "file.h5", "No such file or directory")
    cannot_write(path / "file.h5", "Not a directory")
    cannot_write(tmp_path / ("x" * 254), "File name too long")
    (tmp_path / "folder" / "with something").mkdir(parents=True)
    cannot_write(tmp_path / "folder", "Is a directory")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file.h5", "folder"]


def test_no_permission(public: Path) -> None:
    path = public / "file.h5"
    fill(path)
    before = path.read_bytes()
    public.chmod(0o555)
    assert as_nobody(lambda: fill(path, 5)).endswith(f"{path}: cannot be written: Permission denied")
    public.chmod(0o755)
    assert path.read_bytes() == before
    assert [entry.name for entry in public.iterdir()] == ["file.h5"]


def test_full_disk_at_any_moment(path: Path) -> None:
    """The system lets no file grow beyond a limit: every place where writing can fail.  HDF5 itself would crash."""
    code = """
import resource
path, size = Path(sys.argv[1]), int(sys.argv[2])
for limit in [*range(0, size, 97), size - 1, size]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        fill(path, 7)
        print(limit, "written")
    except DeepNetsError as error:
        assert str(error) == f"{path}: cannot be written: File too large", error
        assert [entry.name for entry in path.parent.iterdir()] == ["file.h5"]
        with open_hdf5(path) as file:
            assert file["numbers"][0] == 0
"""
    other = path.with_name("other.h5")
    fill(other, 7)
    size = other.stat().st_size
    other.unlink()
    assert output(start(code, path, size)) == f"{size} written\n"
    with open_hdf5(path) as file:
        assert file["numbers"][0] == 7


def test_full_file_system(tmp_path: Path) -> None:
    own = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k none "$0" && exec "$@"', str(tmp_path))
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    code = """
path = Path(sys.argv[1]) / "file.h5"
fill(path)
try:
    with create_hdf5(path) as file:
        file["x"] = np.zeros(100_000)
except DeepNetsError as error:
    print(error, [entry.name for entry in path.parent.iterdir()])
verify_checksum(path)
"""
    expected = f"{tmp_path}/file.h5: cannot be written: No space left on device ['file.h5']\n"
    assert output(start(code, tmp_path, under=own)) == expected


@pytest.mark.parametrize("moment", ["writing", "checking"])
def test_killed(path: Path, moment: str) -> None:
    before = path.read_bytes()
    code = """
import time
def stop(moment):
    if moment == sys.argv[2]:
        print(moment, flush=True)
        time.sleep(60)
with create_hdf5(Path(sys.argv[1]), lambda written: stop("checking")) as file:
    file["x"] = np.zeros(100_000)
    file.flush()
    stop("writing")
"""
    with start(code, path, moment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{moment}\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    fill(path, 5)  # files of the killed process do not interfere
    with open_hdf5(path) as file:
        assert file["numbers"][0] == 5


def test_two_writers(path: Path) -> None:
    """At every moment the file is whole: the old one, or that of either writer."""
    code = "for _ in range(30): fill(Path(sys.argv[1]), int(sys.argv[2]), 20_000)"
    writers = [start(code, path, number) for number in (1, 2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        verify_checksum(path)
        with open_hdf5(path) as file:
            seen.add(int(file["numbers"][0]))
    assert [output(writer) for writer in writers] == ["", ""]
    assert seen <= {0, 1, 2}
    assert len(seen) > 1
    assert [entry.name for entry in path.parent.iterdir()] == ["file.h5"]


def test_reason() -> None:
    assert error_reason(OSError(28, "whatever")) == "No space left on device"
    assert error_reason(OSError("HDF5 says (errno = 13, error message = 'x'\nand more")) == "Permission denied"
    assert error_reason(KeyError("no such thing")) == "no such thing"
    assert error_reason(RuntimeError("first\nsecond")) == "first"
    assert error_reason(RuntimeError()) == "RuntimeError"
