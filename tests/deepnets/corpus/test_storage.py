"""Corpus files: what is written is read back, and what is damaged, foreign or hostile is refused, not believed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets.architecture import NODE_TYPES, Genotype, NetworkConfig, decode, encode
from deepnets.corpus import (
    COLUMNS,
    WIRING,
    CorpusFile,
    DeepNets1M,
    compute_statistics,
    content_digest,
    corpus_path,
    decode_wiring,
    layout,
    storage,
    verify,
    write_corpus,
    writing,
)
from deepnets.graph import Graph, build_graph
from deepnets.support import DeepNetsError, FormatError, IntegrityError, verify_checksum
from tests.support.strategies import configs

START = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parents[3])!r}, {str(Path(__file__).parent)!r}]
from tests.deepnets.corpus.test_storage import *
"""
SPLIT = "bnfree"
FILTERS = {"compression": "gzip", "shuffle": True, "fletcher32": True}
HEAPS = (b"FRHP", b"FHDB", b"BTHD", b"BTLF", b"GCOL", b"TREE", b"HEAP")  # parts of HDF5 files that break badly
SPLITS = ("train", "val", "test", "search", "wide", "deep", "dense", "bnfree")

Columns = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.void]
Change = Callable[[h5py.File], object]


def corpus_of(networks: list[NetworkConfig]) -> tuple[Columns, Rows]:
    """Columns and rows of a corpus of these networks."""
    records = encode(networks)
    statistics, rows = compute_statistics(records)
    statistics["candidate"] = np.arange(len(networks))
    return {name: part[name] for part in (records, statistics) for name in part.dtype.names or ()}, rows


def read_back(path: Path) -> tuple[Columns, Rows, dict[str, Any]]:
    with CorpusFile(path) as file:
        return dict(file.columns), file.wiring(0, file.num_networks), file.attributes


def program(code: str, *arguments: object, seconds: float = 100) -> str:
    """What a program prints that has the names of this module, and that must end well."""
    command = [sys.executable, "-c", START + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-500:]
    return done.stdout


# --- writing and reading ----------------------------------------------------------------------------------------------

networks = st.lists(configs(max_cells=4, max_steps=3, with_output=True), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(networks, st.data())
def test_round_trip(networks: list[NetworkConfig], data: st.DataObject) -> None:
    columns, rows = corpus_of(networks)
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=4).map(sorted))
    about = {"split": "val", "seed": 3, "rules": {"cells": [1, 2]}, "text": "naïve \N{SNOWMAN}"}
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder, "a.h5"), Path(folder, "b.h5")
        digest = write_corpus(path, about, columns, np.split(rows, cuts))
        with CorpusFile(path) as file:
            assert (file.num_networks, file.split, file.attributes) == (len(networks), "val", about)
            assert digest == file.content_digest == content_digest(file)
            records = file.architectures(slice(None))
            assert np.array_equal(records, encode(networks))
            assert [decode(record) for record in records] == networks
            for name, values in file.columns.items():
                assert values.dtype == COLUMNS[name]
                width = values.shape[2] if name in ("ops", "states") else None
                assert np.array_equal(values, columns[name] if width is None else columns[name][:, :, :width])
            assert np.array_equal(file.wiring(0, len(networks)), rows)
            for i, network in enumerate(networks):
                node_types, cells, names, in_degrees, sources = decode_wiring(file.wiring(i, i + 1))
                graph = build_graph(network)
                assert Graph(node_types, cells, in_degrees, sources) == graph
                assert np.array_equal(names, graph.names)
        assert write_corpus(again, about, columns, [rows]) == digest
        assert again.read_bytes() == path.read_bytes()


def test_digest_does_not_depend_on_blocks(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, rows, about = read_back(corpus_path(corpus, "train"))
    with CorpusFile(corpus_path(corpus, "train")) as file:
        digest = file.content_digest
    assert write_corpus(tmp_path / "again.h5", about, columns, [rows]) == digest
    assert (tmp_path / "again.h5").read_bytes() == corpus_path(corpus, "train").read_bytes()
    monkeypatch.setattr(writing, "_WIRING_CHUNK", 50)
    monkeypatch.setattr(writing, "_COLUMN_CHUNK", 7)
    bits = random.Random(0)
    cuts = sorted(bits.randrange(len(rows)) for _ in range(100))
    path = tmp_path / "cut.h5"
    assert write_corpus(path, {**about, "versions": "others"}, columns, np.split(rows, cuts)) == digest
    with CorpusFile(path) as file:
        assert file._wiring.chunks == (50,)
        assert content_digest(file) == digest
        assert np.array_equal(np.concatenate(list(file.wiring_blocks(size=999))), rows)
    with CorpusFile(corpus_path(corpus, "train")) as file:
        assert content_digest(file) == digest


def test_digest_depends_on_everything(corpus: Path, tmp_path: Path) -> None:
    columns, rows, about = read_back(corpus_path(corpus, SPLIT))
    digests = {write_corpus(tmp_path / "a.h5", about, columns, [rows])}
    changes = 0
    for name in COLUMNS:
        if name not in ("num_rows", "steps"):
            changed = columns[name].copy()
            changed.flat[-1] ^= 1
            digests.add(write_corpus(tmp_path / "a.h5", about, {**columns, name: changed}, [rows]))
            changes += 1
    for name in WIRING.names or ():
        changed = rows.copy()
        changed[name][-1] ^= 1
        digests.add(write_corpus(tmp_path / "a.h5", about, columns, [changed]))
        changes += 1
    for name in about:
        if name not in ("versions", "split"):
            digests.add(write_corpus(tmp_path / "a.h5", {**about, name: 99}, columns, [rows]))
            changes += 1
    assert len(digests) == 1 + changes


def test_rows_that_the_columns_do_not_announce(corpus: Path, tmp_path: Path) -> None:
    columns, rows, about = read_back(corpus_path(corpus, SPLIT))
    for wrong in (rows[:-1], np.concatenate([rows, rows[:1]]), rows[:0]):
        with pytest.raises(ValueError, match="rows"):
            write_corpus(tmp_path / "a.h5", about, columns, [wrong])
    assert not list(tmp_path.iterdir())


def test_plain_h5py_is_enough(corpus: Path) -> None:
    """A reader of the file that knows no more than what the docstrings of `storage` and `wiring` say."""
    for split in SPLITS:
        with h5py.File(corpus / f"deepnets1m_{split}.h5") as file:
            about = json.loads(file.attrs["attributes"])
            assert about["split"] == split
            assert file.attrs["num_networks"] == about["size"]
            node_types = [word.decode() for word in file["vocabulary/node_types"]]
            names = [word.decode() for word in file["vocabulary/names"]]
            num_rows = file["networks/num_rows"][:].astype(int)
            starts = np.concatenate([[0], np.cumsum(num_rows)])
            wiring = file["wiring"][:]
            counted = file["networks/num_nodes"][:], file["networks/num_edges"][:]
        with CorpusFile(corpus_path(corpus, split)) as ours:
            networks = [decode(record) for record in ours.architectures(slice(None))]
        for i in range(0, len(networks), 3):
            nodes: list[tuple[str, int, str]] = []
            edges = []
            for node_type, cell, number, name, back in wiring[starts[i] : starts[i + 1]].tolist():
                if number == 0:
                    nodes.append((node_types[node_type], cell, names[name]))
                if back:
                    edges.append((len(nodes) - 1 - back, len(nodes) - 1))
            graph = build_graph(networks[i])
            assert [kind for kind, _, _ in nodes] == [NODE_TYPES[kind] for kind in graph.node_types]
            assert [cell for _, cell, _ in nodes] == graph.cells.tolist()
            assert edges == [tuple(edge) for edge in graph.edges.tolist()]
            assert (len(nodes), len(edges)) == (counted[0][i], counted[1][i])
            for (kind, cell, name), slots in zip(nodes, graph.parameters):
                full = f"cells.{cell}.{name}" if name.startswith(("preprocess", "_ops")) else name
                assert [slot.name for slot in slots[:1]] == ([] if name == kind else [full])


def test_closed(corpus: Path) -> None:
    file = CorpusFile(corpus_path(corpus, SPLIT))
    ks = file.column("ks")
    file.close()
    file.close()
    assert file.column("ks") is ks
    for read in (lambda: file.column("C"), lambda: file.wiring(0, 1), lambda: list(file.wiring_blocks())):
        with pytest.raises(DeepNetsError, match="was closed"):
            read()


def test_trouble_with_closing(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 may refuse to close a file that it could not understand; what was wrong first is what counts."""

    def close(self: h5py.File) -> None:
        raise RuntimeError("Can't decrement id ref count")

    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    monkeypatch.setattr(h5py.File, "close", close)
    with CorpusFile(corpus_path(corpus, SPLIT)):
        pass
    with pytest.raises(FormatError, match="not a corpus file"):
        CorpusFile(tmp_path / "a.h5")


# --- flipped bytes ----------------------------------------------------------------------------------------------------


def snapshot(folder: Path, split: str) -> str:
    """A digest of all that can be read from a file."""
    nets = DeepNets1M(folder, split)
    file = nets.file
    assert file is not None
    digest = hashlib.sha256(repr((file.attributes, file.content_digest, file.num_networks, file.vocabulary)).encode())
    for name, values in file.columns.items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    for graph in nets:
        for array in (graph.node_types, graph.cells, graph.names, graph.in_degrees, graph.sources):
            digest.update(array.tobytes())
        digest.update(repr(graph.config).encode())
    nets.close()
    return digest.hexdigest()


def outcome(action: Callable[[], object], expected: object) -> str:
    try:
        return "same" if action() == expected else "DIFFERENT"
    except DeepNetsError:
        return "refused"
    except BaseException as error:
        return f"FOREIGN {type(error).__name__}: {error}"


def sweep(path: Path, split: str, start: int, step: int) -> None:
    """Flip one bit or all in every `step`-th byte of a file; print what `verify` and what a plain reader make of it."""
    content = path.read_bytes()
    expected = snapshot(path.parent, split)
    bits = random.Random(start)
    for position in range(start, len(content), step):
        changed = bytearray(content)
        changed[position] ^= bits.choice([1 << bits.randrange(8), 0xFF])
        path.unlink()  # a new file each time: HDF5 could know one that it has seen
        path.write_bytes(changed)
        found = outcome(lambda: verify(path), None), outcome(lambda: snapshot(path.parent, split), expected)
        sys.stdout.write(f"{position} {' '.join(found)}\n")
        sys.stdout.flush()


@pytest.fixture(params=["few chunks", "many chunks"])
def small(request: pytest.FixtureRequest, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file; with many chunks, HDF5 keeps their places in pages, as it does in files of a million networks."""
    columns, rows, about = read_back(corpus_path(corpus, "search"))
    count = 12
    if request.param == "many chunks":
        monkeypatch.setattr(writing, "_WIRING_CHUNK", 2)
        monkeypatch.setattr(writing, "_COLUMN_CHUNK", 3)
    columns = {name: values[:count] for name, values in columns.items()}
    write_corpus(tmp_path / "deepnets1m_search.h5", about, columns, [rows[: int(columns["num_rows"].sum())]])
    return tmp_path / "deepnets1m_search.h5"


def test_flipped_bytes(small: Path) -> None:
    content = small.read_bytes()
    bits = random.Random(0)
    with small.open("r+b", buffering=0) as file:
        for position, good in enumerate(content):  # every one is found
            for byte in (good ^ 1 << bits.randrange(8), good):
                file.seek(position)
                file.write(bytes([byte]))
                if byte != good:
                    with pytest.raises(IntegrityError):
                        verify_checksum(small)
    verify_checksum(small)
    assert not any(name in content for name in HEAPS)
    step = len(content) // 400
    code = "sweep(Path(sys.argv[1]), 'search', int(sys.argv[2]), int(sys.argv[3]))"
    lines = program(code, small, 3, step).splitlines()  # in a process of its own, which could crash or hang
    assert len(lines) == len(range(3, len(content), step))
    outcomes = {line.split(maxsplit=1)[1] for line in lines}
    assert outcomes == {"refused same", "refused refused"}


# --- files of another kind --------------------------------------------------------------------------------------------


def refused(path: Path, match: str | None = None, kind: type[FormatError] = FormatError) -> None:
    """Every way to open the file ends in one line that names it."""
    for opening in (CorpusFile, verify, lambda path: verify(path, quick=True)):
        with pytest.raises(kind, match=match) as caught:
            opening(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_truncated(corpus: Path, tmp_path: Path) -> None:
    content = corpus_path(corpus, SPLIT).read_bytes()
    path = tmp_path / "deepnets1m_bnfree.h5"
    for length in {*range(0, len(content), 64), len(content) - 1}:
        path.write_bytes(content[:length])
        refused(path)
        with pytest.raises(FormatError):
            DeepNets1M(tmp_path, SPLIT)


def test_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    refused(path, "No such file")
    refused(tmp_path, "not a file")
    path.touch()
    refused(path, "not an HDF5 file")
    path.write_text("some text" * 1_000)
    refused(path, "not an HDF5 file")
    with h5py.File(path, "w") as file:
        file["weights"] = np.arange(10)
    refused(path, "not a corpus file of this toolkit")
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "some other"
        file.attrs["format_version"] = "1.0"
    refused(path, "not a corpus file of this toolkit")
    with h5py.File(path, "w") as file:  # as the original release has them
        file.attrs["train"] = 1
        file.create_group("train/0").create_dataset("adj", data=np.eye(3))
    refused(path, "files of the original release are read with `python -m deepnets import`")


@pytest.fixture
def tampered(corpus: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """A copy of a good file, changed with h5py."""

    def change(change: Change) -> Path:
        path = tmp_path / "deepnets1m_bnfree.h5"
        shutil.copy(corpus_path(corpus, SPLIT), path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return change


def put(file: h5py.File, name: str, data: Any = None, **options: Any) -> None:
    """Replace a dataset by another, stored in the usual way."""
    if name in file:
        del file[name]
    shape = np.shape(data) if data is not None else options["shape"]
    chunks = tuple(max(1, min(side, 1_000)) for side in shape)
    maxshape = (None,) * len(shape) if 0 in shape else None
    file.create_dataset(name, data=data, **{"chunks": chunks, "maxshape": maxshape, **FILTERS, **options})


def attribute(name: str, value: Any) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


def about(text: str | bytes) -> Change:
    return attribute("attributes", np.bytes_(text))


def link(name: str, target: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = target(file) if callable(target) else target

    return change


def test_untouched(tampered: Callable[[Change], Path], corpus: Path) -> None:
    """What the tests below start from, and read as it is, is right."""
    path = tampered(lambda file: None)
    assert verify(path).num_networks == 100

    def rewrite(file: h5py.File) -> None:
        for name in list(file["networks"]):
            put(file, f"networks/{name}", file[f"networks/{name}"][:])

    path = tampered(rewrite)
    assert snapshot(path.parent, SPLIT) == snapshot(corpus, SPLIT)


ATTRIBUTES = r"its attributes format, .* are not the texts and numbers they should be"
HEADERS: dict[str, tuple[Change, str]] = {
    "newer version": (
        attribute("format_version", 2),
        "has format version 2, this version of deepnets1m reads 1; install the version that wrote it",
    ),
    "older version": (attribute("format_version", 0), "has format version 0, .* reads 1"),
    "huge version": (attribute("format_version", 2**63 - 1), "has format version 9223372036854775807"),
    "version of another type": (attribute("format_version", "1"), "has format version None"),
    "several versions": (attribute("format_version", [1, 1]), "has format version None"),
    "no version": (lambda file: file.attrs.__delitem__("format_version"), "has format version None"),
    "another format": (attribute("format", np.bytes_("DeepNets-2M corpus")), "not a corpus file"),
    "no format": (lambda file: file.attrs.__delitem__("format"), "not a corpus file"),
    "number as format": (attribute("format", 5), "not a corpus file"),
    "several formats": (attribute("format", np.array([b"a", b"b"])), "not a corpus file"),
    "format is no text": (attribute("format", np.bytes_(b"\xff\xfe")), "damaged"),
    "no digest": (lambda file: file.attrs.__delitem__("content_digest"), ATTRIBUTES),
    "number as digest": (attribute("content_digest", 5), ATTRIBUTES),
    "no number of networks": (lambda file: file.attrs.__delitem__("num_networks"), ATTRIBUTES),
    "fractional number of networks": (attribute("num_networks", 100.0), ATTRIBUTES),
    "number of networks as text": (attribute("num_networks", np.bytes_("100")), ATTRIBUTES),
    "no attributes": (lambda file: file.attrs.__delitem__("attributes"), ATTRIBUTES),
    "attributes of variable length": (attribute("attributes", '{"split": "bnfree"}'), ATTRIBUTES),
    "array as attributes": (attribute("attributes", np.zeros(10_000)), ATTRIBUTES),
    "reference as attributes": (lambda file: file.attrs.__setitem__("attributes", file.ref), ATTRIBUTES),
    "no JSON": (about("{'split': 'bnfree'}"), "damaged: Expecting property name"),
    "empty JSON": (about(b"\n"), "damaged: Expecting value"),
    "bytes as JSON": (about(b"\xff\x00\x01"), "damaged: "),
    "list as JSON": (about("[1, 2]"), "damaged: list indices"),
    "number as JSON": (about("5"), "damaged: 'int'"),
    "deeply nested JSON": (about('{"split":' + "[" * 60_000), "damaged: .*recursion"),
    "long number in JSON": (about('{"split": "bnfree", "seed": ' + "9" * 60_000 + "}"), "damaged: Exceeds the limit"),
    "no split": (about('{"seed": 0}'), "damaged: split"),
    "number as split": (about('{"split": 5}'), "its split should have a name, not 5"),
    "structure as split": (about('{"split": {"a": 1}}'), "its split should have a name"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(tampered: Callable[[Change], Path], case: str) -> None:
    change, message = HEADERS[case]
    refused(tampered(change), message)


def test_megabytes_of_attributes(tampered: Callable[[Change], Path]) -> None:
    def change(file: h5py.File) -> None:
        for i in range(3_000):
            file.attrs[f"more {i}"] = np.arange(50)

    assert CorpusFile(tampered(change)).num_networks == 100  # of no interest

    path = tampered(lambda file: None)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file.attrs["attributes"] = np.bytes_(json.dumps({"split": "bnfree", "lists": [[]] * 1_000_000}))
    refused(path, ATTRIBUTES)


WORDS = "does not have a vocabulary that this version knows"
TYPE = r"does not have the type and shape it should \(it has "
MEMBERS: dict[str, tuple[Change, str]] = {
    "no wiring": (
        lambda file: file.__delitem__("wiring"),
        "/ should hold networks, vocabulary, wiring and nothing else",
    ),
    "no networks": (lambda file: file.__delitem__("networks"), "/ should hold networks, vocabulary, wiring"),
    "no vocabulary": (lambda file: file.__delitem__("vocabulary"), "/ should hold networks, vocabulary, wiring"),
    "more": (lambda file: file.create_group("more"), "/ should hold .* and nothing else"),
    "many more": (lambda file: [file.create_group(f"more{i}") for i in range(2_000)], "/ should hold"),
    "renamed": (lambda file: file.move("wiring", "Wiring"), "/ should hold"),
    "group as wiring": (link("wiring", lambda file: file["networks"]), "/wiring is not a dataset"),
    "dataset as networks": (link("networks", lambda file: file["wiring"]), "/networks is not a group"),
    "type as vocabulary": (link("vocabulary", np.dtype("i8")), "/vocabulary is not a group"),
    "type as column": (link("networks/C", np.dtype("u2")), "/networks/C is not a dataset"),
    "no words": (lambda file: file.__delitem__("vocabulary/norms"), "/vocabulary should hold"),
    "another word": (
        lambda file: put(file, "vocabulary/norms", np.array([b"None", b"bnorm", b"bn", b"ln"])),
        f"/vocabulary/norms {WORDS}",
    ),
    "words in another order": (
        lambda file: put(file, "vocabulary/norms", np.array([b"None", b"bn", b"bnorm", b"bn-track"])),
        f"/vocabulary/norms {WORDS}",
    ),
    "a word more": (
        lambda file: put(file, "vocabulary/norms", np.array([b"None", b"bnorm", b"bn", b"bn-track", b"x"])),
        f"/vocabulary/norms {TYPE}",
    ),
    "a short word more": (
        lambda file: put(file, "vocabulary/primitives", np.append(file["vocabulary/primitives"][:-1], [b"a", b"b"])),
        "/vocabulary/primitives ",
    ),
    "words of variable length": (
        link("vocabulary/norms", ["None", "bnorm", "bn", "bn-track"]),
        "/vocabulary/norms is not stored with compression and checksums",
    ),
    "numbers as words": (lambda file: put(file, "vocabulary/norms", np.arange(4)), f"/vocabulary/norms {TYPE}"),
    "words in a table": (
        lambda file: put(file, "vocabulary/norms", np.array([[b"None", b"bnorm"]])),
        f"/vocabulary/norms {TYPE}",
    ),
    "wiring of other fields": (
        lambda file: put(file, "wiring", np.zeros(len(file["wiring"]), WIRING.descr[:4])),
        f"/wiring {TYPE}",
    ),
    "wiring of wider fields": (
        lambda file: put(file, "wiring", file["wiring"][:].astype([(name, "u4") for name in WIRING.names or ()])),
        f"/wiring {TYPE}",
    ),
    "wiring of renamed fields": (
        lambda file: put(
            file, "wiring", file["wiring"][:].astype([(n.title(), WIRING[n]) for n in WIRING.names or ()])
        ),
        f"/wiring {TYPE}",
    ),
    "wiring of other byte order": (
        lambda file: put(file, "wiring", file["wiring"][:].astype(WIRING.newbyteorder(">"))),
        f"/wiring {TYPE}",
    ),
    "wiring with gaps": (
        lambda file: put(file, "wiring", file["wiring"][:].astype(np.dtype(WIRING.descr, align=True))),
        f"/wiring {TYPE}",
    ),
    "wiring as bytes": (lambda file: put(file, "wiring", file["wiring"][:].view("u1")), f"/wiring {TYPE}"),
    "wiring in a table": (lambda file: put(file, "wiring", file["wiring"][:][None]), f"/wiring {TYPE}"),
    "a row too few": (
        lambda file: put(file, "wiring", file["wiring"][:-1]),
        "/wiring does not have as many rows as its networks have",
    ),
    "a row too many": (
        lambda file: put(file, "wiring", np.append(file["wiring"][:], file["wiring"][:1])),
        "/wiring does not have as many rows as its networks have",
    ),
    "no rows": (lambda file: put(file, "wiring", file["wiring"][:0]), "/wiring does not have as many rows"),
    "num_rows too large": (
        lambda file: put(file, "networks/num_rows", np.full(100, 65_535, "u2")),
        "/wiring does not have as many rows as its networks have",
    ),
    "num_rows zero": (
        lambda file: put(file, "networks/num_rows", np.zeros(100, "u2")),
        "/wiring does not have as many",
    ),
    "a network less claimed": (attribute("num_networks", 99), f"/networks/n_cells {TYPE}"),
    "a network more claimed": (attribute("num_networks", 101), f"/networks/n_cells {TYPE}"),
    "no networks claimed": (attribute("num_networks", 0), f"/networks/n_cells {TYPE}"),
    "negative number claimed": (attribute("num_networks", -100), f"/networks/n_cells {TYPE}"),
    "absurd number claimed": (attribute("num_networks", 2**62), f"/networks/n_cells {TYPE}"),
    "genes without pairs": (
        lambda file: put(file, "networks/ops", np.zeros((100, 2, 0), "u1")),
        f"/networks/ops {TYPE}",
    ),
    "genes with too many pairs": (
        lambda file: put(file, "networks/ops", np.zeros((100, 2, 22), "u1")),
        f"/networks/ops {TYPE}",
    ),
    "genes of one kind of cell": (
        lambda file: put(file, "networks/ops", np.zeros((100, 1, 8), "u1")),
        f"/networks/ops {TYPE}",
    ),
    "soft link": (
        lambda file: [file.move("wiring", "networks/x"), link("networks", h5py.SoftLink("/y"))(file)],
        "/ should hold",
    ),
    "soft link to a sibling": (link("networks/C", h5py.SoftLink("/networks/fc_dim")), "/networks/C is a link; refused"),
    "soft link to itself": (link("networks/C", h5py.SoftLink("/networks/C")), "/networks/C is a link; refused"),
    "soft link to nothing": (link("networks", h5py.SoftLink("/nothing")), "/networks is a link; refused"),
    "soft link to itself at the top": (link("wiring", h5py.SoftLink("/wiring")), "/wiring is a link; refused"),
    "soft link as vocabulary": (link("vocabulary/norms", h5py.SoftLink("/x")), "/vocabulary/norms is a link; refused"),
    "external link": (link("wiring", h5py.ExternalLink("/etc/passwd", "/")), "/wiring is a link; refused"),
    "external link to a group": (link("networks", h5py.ExternalLink("o.h5", "/")), "/networks is a link; refused"),
    "external link in a group": (link("networks/C", h5py.ExternalLink("o.h5", "/")), "/networks/C is a link; refused"),
    "group that holds itself": (link("networks/C", lambda file: file["networks"]), "/networks/C is not a dataset"),
    "group that holds the root": (link("networks", lambda file: file["/"]), "/networks should hold"),
    "vocabulary is networks": (link("vocabulary", lambda file: file["networks"]), "/vocabulary should hold"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_members(tampered: Callable[[Change], Path], case: str) -> None:
    change, message = MEMBERS[case]
    path = tampered(change)
    refused(path, f"^{re.escape(str(path))}: {message}" if message[0] == "/" else message)


COLUMN_CHANGES: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "wider": lambda values: values.astype("u8" if values.itemsize < 8 else "u4"),
    "signed": lambda values: values.astype(f"i{values.itemsize}"),
    "floating": lambda values: values.astype("f8"),
    "text": lambda values: values.astype("S8"),
    "structured": lambda values: values.astype([("x", values.dtype)]),
    "shorter": lambda values: values[:-1],
    "longer": lambda values: np.concatenate([values, values[:1]]),
    "with another axis": lambda values: values[..., None],
    "flat": lambda values: values.ravel() if values.ndim > 1 else values[:0],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(tampered: Callable[[Change], Path], name: str) -> None:
    changes = dict(COLUMN_CHANGES)
    if COLUMNS[name].itemsize > 1:
        changes["of other byte order"] = lambda values: values.astype(values.dtype.newbyteorder(">"))
    for change in changes.values():

        def replace(file: h5py.File, change: Any = change) -> None:
            put(file, f"networks/{name}", change(file[f"networks/{name}"][:]))

        refused(tampered(replace), rf": /networks/{name} {TYPE}")
    path = tampered(lambda file: file.__delitem__(f"networks/{name}"))
    refused(path, ": /networks should hold")
    path = tampered(lambda file: file.move(f"networks/{name}", "networks/x"))
    refused(path, ": /networks should hold")
    path = tampered(lambda file: put(file, f"networks/{name}", file[f"networks/{name}"][:], fletcher32=False))
    refused(path, f": /networks/{name} is not stored with compression and checksums")


@pytest.mark.parametrize("name", ["wiring", "networks/ops", "vocabulary/names"])
def test_data_elsewhere(tampered: Callable[[Change], Path], tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(1 << 20))

    def external(file: h5py.File) -> None:
        old = file[name]
        shape, dtype = old.shape, old.dtype
        del file[name]
        file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(file[name].shape, file[name].dtype)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", file[name].shape, file[name].dtype)
        del file[name]
        file.create_virtual_dataset(name, layout)

    for change in (external, virtual):
        refused(tampered(change), f": /{name} takes its data from other files; refused")


# --- absurd sizes -----------------------------------------------------------------------------------------------------


def claim(name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any = None, networks: int = 0) -> Change:
    def change(file: h5py.File) -> None:
        put(file, name, shape=shape, chunks=chunks, dtype=dtype or file[name].dtype)
        if networks:
            file.attrs["num_networks"] = networks

    return change


def claim_everywhere(networks: int) -> Change:
    """Every column claims so many networks."""

    def change(file: h5py.File) -> None:
        for name in COLUMNS:
            inner = file[f"networks/{name}"].shape[1:]
            claim(f"networks/{name}", (networks, *inner), (1_000, *inner), networks=networks)(file)

    return change


SIZES: dict[str, Change] = {
    "rows": claim("wiring", (10**12,), (4_096,)),
    "most rows": claim("wiring", (2**59,), (4_096,)),
    "chunk of rows": claim("wiring", (10**9,), (10**8,)),
    "networks": claim_everywhere(10**12),
    "networks that could be in the file one column at a time": claim_everywhere(10_000_000),
    "column": claim("networks/ops", (10**12, 2, 8), (1_000, 2, 8)),
    "wide column": claim("networks/ops", (100, 2, 10**12), (1, 1, 1_000_000)),
    "words": claim("vocabulary/names", (10**12,), (1_000,)),
    "long words": claim("vocabulary/names", (400,), (1,), "S100000000"),
}


def open_all(folder: Path) -> None:
    """Open every file of a folder with little memory; write the messages, and how much more memory was taken, in MB."""
    good, *paths = sorted(folder.iterdir())
    verify(good)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20), resource.RLIM_INFINITY))
    for path in paths:
        try:
            verify(path)
        except FormatError as error:
            sys.stdout.write(f"{error}\n")
    sys.stdout.write(f"{max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 0) >> 10}\n")


def test_absurd_sizes_take_no_memory(tampered: Callable[[Change], Path], tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    tampered(lambda file: None).rename(folder / "0.h5")
    for i, change in enumerate(SIZES.values()):
        path = tampered(change).rename(folder / f"{i + 1}.h5")
        assert path.stat().st_size < 60_000
    *messages, megabytes = program("open_all(Path(sys.argv[1]))", folder).splitlines()
    assert len(messages) == len(SIZES)
    for i, message in enumerate(messages):
        assert message.startswith(f"{folder}/{i + 1}.h5: ")
        assert message.endswith("claims a size that a file of this length cannot hold; refused")
    assert int(megabytes) < 20


# --- sound files that say what cannot be ------------------------------------------------------------------------------


@pytest.fixture
def forged(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Columns, Rows], Any], str], DeepNets1M]:
    """A split whose file was written anew, with its digests, after a change of its content."""

    def forge(change: Callable[[Columns, Rows], Any], split: str = SPLIT) -> DeepNets1M:
        columns, rows, about = read_back(corpus_path(corpus, split))
        changed = change(columns, rows)
        monkeypatch.setattr(storage, "LARGEST", {})  # or what cannot be could not even be written
        write_corpus(corpus_path(tmp_path, split), about, columns, [rows if changed is None else changed])
        monkeypatch.undo()
        return DeepNets1M(tmp_path, split)

    return forge


Forge = Callable[..., DeepNets1M]

VALUES = [
    ("n_cells", 0),
    ("n_cells", 201),
    ("n_cells", 255),
    ("ks", 0),
    ("ks", 4),
    ("stem_type", 2),
    ("stem_pool", 2),
    ("norm", 4),
    ("norm", 255),
    ("preproc", 255),
    ("C_mult", 0),
    ("C_mult", 255),
    ("glob_avg", 3),
    ("fc_layers", 0),
    ("fc_layers", 5),
    ("fc_layers", 255),
    ("imagenet_stride", 0),
    ("imagenet_stride", 3),
    ("C", 0),
    ("C", 33),
    ("fc_dim", 0),
    ("concat", 0),
    ("concat", 1),
    ("concat", 65_535),
    ("steps", 0),
    ("steps", 9),
    ("steps", 10),
    ("steps", 11),
    ("steps", 255),
    ("ops", 15),
    ("ops", 99),
    ("ops", 255),
    ("states", 2),
    ("states", 99),
    ("states", 255),
]


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_values_out_of_range(forged: Forge, corpus: Path, name: str, value: int) -> None:
    index = 37

    def change(columns: Columns, rows: Rows) -> None:
        columns[name][index].flat[0] = value if columns[name].ndim > 1 else 0
        if columns[name].ndim == 1:
            columns[name][index] = value

    nets = forged(change)
    message = rf"deepnets1m_bnfree\.h5: split bnfree, network {index}: "
    for read in (lambda: nets[index].config, lambda: nets.config(index), lambda: nets[index].parameters):
        with pytest.raises(IntegrityError, match=message):
            read()
    with pytest.raises(IntegrityError, match=message):
        verify(nets.file.path)
    if name not in layout.LARGEST:  # the others are as they were
        good = DeepNets1M(corpus, SPLIT)
        for other in (index - 1, index + 1):
            assert (nets[other], nets[other].config) == (good[other], good[other].config)


@pytest.mark.parametrize("steps", [11, 127, 128, 200, 255])
def test_more_steps_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """All places for genes are in use, so that nothing in the genes tells that there are not more."""
    genes = [("conv_1x1", 0)] * 20
    columns, rows = corpus_of([NetworkConfig(Genotype(genes, [11], genes, [11]), 4)])
    columns["steps"][0] = steps
    monkeypatch.setattr(storage, "LARGEST", {})
    write_corpus(corpus_path(tmp_path, "val"), {"split": "val"}, columns, [rows])
    monkeypatch.undo()
    nets = DeepNets1M(tmp_path, "val")
    for read in (lambda: nets[0].config, lambda: nets.table, lambda: verify(corpus_path(tmp_path, "val"))):
        with pytest.raises(IntegrityError, match=f"split val, network 0: steps: expected 0 to 10, got {steps}"):
            read()


FIELDS = [
    ("node_type", 15, 3),
    ("node_type", 255, 0),
    ("name", 65_535, 3),
    ("back", 65_535, 3),
    ("back", 4, 3),
    ("input", 1, 3),
    ("input", 255, 3),
    ("cell", 255, 0),
]


@pytest.mark.parametrize(("name", "value", "row"), FIELDS)
def test_rows_of_no_graph(forged: Forge, corpus: Path, name: str, value: int, row: int) -> None:
    index = 41

    def change(columns: Columns, rows: Rows) -> None:
        rows[name][columns["num_rows"][:index].sum() + row] = value

    nets, good = forged(change), DeepNets1M(corpus, SPLIT)
    message = rf"deepnets1m_bnfree\.h5: split bnfree, network {index}: row \d+ of \d+ is not part of any graph"
    with pytest.raises(IntegrityError, match=message):
        nets[index]
    with pytest.raises(IntegrityError, match=rf"split bnfree, network {index}: its graph is not that of"):
        verify(nets.file.path)
    assert nets.config(index - 1) == good.config(index - 1)
    for other in (index - 1, index + 1):
        assert nets[other] == good[other]


def test_network_without_rows(forged: Forge) -> None:
    def change(columns: Columns, rows: Rows) -> None:
        columns["num_rows"][6] += columns["num_rows"][7]
        columns["num_rows"][7] = 0

    nets = forged(change)
    with pytest.raises(IntegrityError, match="split bnfree, network 7: there are no rows"):
        nets[7]
    with pytest.raises(IntegrityError, match=r"split bnfree, network 6: row \d+ of \d+"):
        nets[6]
    with pytest.raises(IntegrityError, match="network 6: num_rows is"):
        verify(nets.file.path)


# --- processes --------------------------------------------------------------------------------------------------------


def everything(nets: DeepNets1M) -> list[tuple[Graph, NetworkConfig]]:
    return [(graph, graph.config) for graph in nets]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes(corpus: Path, method: str) -> None:
    nets = DeepNets1M(corpus, "train")
    expected = everything(nets)
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = [pool.apply_async(everything, (nets,)) for _ in range(4)]
        assert everything(nets) == expected  # at the same time
        for result in results:
            assert result.get(60) == expected
        graphs = pool.map(nets.__getitem__, range(0, 300, 30))
    assert graphs == [nets[i] for i in range(0, 300, 30)]
    assert [graph.config for graph in graphs] == [nets.config(i) for i in range(0, 300, 30)]


def test_inherited(corpus: Path) -> None:
    """A fork inherits the open file, and reads it while its parent does."""
    nets = DeepNets1M(corpus, "train")
    expected = everything(nets)
    children = []
    for _ in range(3):
        if (child := os.fork()) == 0:
            status = 1
            try:
                status = 0 if everything(nets) == expected else 2
                nets.close()
            finally:
                os._exit(status)
        children.append(child)
    assert everything(nets) == expected
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert everything(nets) == expected


def test_threads(corpus: Path) -> None:
    nets = DeepNets1M(corpus, "train")
    expected = everything(nets)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: everything(DeepNets1M(corpus, "train")) + everything(nets), range(4)):
            assert result == expected + expected


def in_a_fork(action: Callable[[], str]) -> str:
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, action().encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf8") as answer:  # noqa: PTH123
        text = answer.read()
    os.waitpid(child, 0)
    return text


def attempt(action: Callable[[], object]) -> str:
    try:
        return str(action())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.fixture
def replaced(corpus: Path, tmp_path: Path) -> Iterator[tuple[CorpusFile, Callable[[Path], None]]]:
    """A file that is open, and a function that puts another in its place."""
    path = tmp_path / "deepnets1m_search.h5"

    def replace(other: Path) -> None:
        shutil.copy(other, tmp_path / "new")
        (tmp_path / "new").replace(path)

    replace(corpus_path(corpus, "search"))
    with CorpusFile(path) as file:
        yield file, replace


def test_replaced_by_another_corpus(replaced: Any, corpus: Path) -> None:
    file, replace = replaced
    rows = file.wiring(3, 4)
    sent = pickle.dumps(file)
    replace(corpus_path(corpus, "bnfree"))
    message = f"{file.path}: was replaced by another corpus since it was opened"
    with pytest.raises(IntegrityError, match=re.escape(message)):
        pickle.loads(sent)
    assert np.array_equal(file.wiring(3, 4), rows)  # who opened it reads on in the old one
    for read in (lambda: file.wiring(3, 4), lambda: file.column("C"), lambda: content_digest(file)):
        twice = in_a_fork(lambda read=read: f"{attempt(read)}\n{attempt(read)}")  # the second time is no better
        assert twice == "\n".join([f"IntegrityError: {message}"] * 2)


def test_replaced_by_a_broken_file(replaced: Any, tmp_path: Path) -> None:
    file, replace = replaced
    (tmp_path / "broken").write_bytes(file.path.read_bytes()[:-1])
    replace(tmp_path / "broken")
    twice = in_a_fork(
        lambda: f"{attempt(lambda: file.wiring(3, 4))}\n{attempt(lambda: file.wiring(3, 4))}"
    ).splitlines()
    assert len(twice) == 2
    assert all(line.startswith(f"FormatError: {file.path}: cannot be opened") for line in twice)


def test_replaced_by_the_same_corpus(replaced: Any, corpus: Path, tmp_path: Path) -> None:
    file, replace = replaced
    columns, rows, about = read_back(file.path)
    write_corpus(tmp_path / "same", {**about, "versions": {"python": "4"}}, columns, [rows])
    sent = pickle.dumps(file)
    replace(tmp_path / "same")
    assert np.array_equal(pickle.loads(sent).wiring(0, file.num_networks), rows)
    assert in_a_fork(lambda: attempt(lambda: content_digest(file))) == file.content_digest
