"""Corpus files: data is read as it was written, and flipped bytes are detected."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets.architecture import NODE_TYPES, NetworkConfig, decode, encode
from deepnets.corpus import (
    COLUMNS,
    WIRING,
    CorpusFile,
    content_digest,
    corpus_path,
    decode_wiring,
    verify,
    write_corpus,
    writing,
)
from deepnets.graph import Graph, build_graph
from deepnets.support import DeepNetsError, FormatError, IntegrityError, verify_checksum
from tests.deepnets.corpus.corpus_files import (
    HEAPS,
    SPLIT,
    SPLITS,
    corpus_of,
    read_back,
    run_program,
    snapshot,
)
from tests.support.strategies import configs

program = partial(run_program, __name__)


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


def test_wrong_numbers_of_rows(corpus: Path, tmp_path: Path) -> None:
    columns, rows, about = read_back(corpus_path(corpus, SPLIT))
    for wrong in (rows[:-1], np.concatenate([rows, rows[:1]]), rows[:0]):
        with pytest.raises(ValueError, match="rows"):
            write_corpus(tmp_path / "a.h5", about, columns, [wrong])
    assert not list(tmp_path.iterdir())


def test_plain_h5py_is_enough(corpus: Path) -> None:
    """Read the file with h5py only, following the docstrings of `storage` and `wiring`."""
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


def test_errors_while_closing(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 may fail to close an invalid file; the first error must be reported."""

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


def outcome(action: Callable[[], object], expected: object) -> str:
    try:
        return "same" if action() == expected else "DIFFERENT"
    except DeepNetsError:
        return "refused"
    except BaseException as error:
        return f"FOREIGN {type(error).__name__}: {error}"


def sweep(path: Path, split: str, start: int, step: int) -> None:
    """Flip one bit or all in every `step`-th byte of a file; print the results of `verify` and of a plain reader."""
    content = path.read_bytes()
    expected = snapshot(path.parent, split)
    bits = random.Random(start)
    for position in range(start, len(content), step):
        changed = bytearray(content)
        changed[position] ^= bits.choice([1 << bits.randrange(8), 0xFF])
        path.unlink()  # a new file each time, as HDF5 could have cached it
        path.write_bytes(changed)
        found = outcome(lambda: verify(path), None), outcome(lambda: snapshot(path.parent, split), expected)
        sys.stdout.write(f"{position} {' '.join(found)}\n")
        sys.stdout.flush()


@pytest.fixture(params=["few chunks", "many chunks"])
def small(request: pytest.FixtureRequest, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file with many chunks, so that HDF5 stores their index in pages, as in files of a million networks."""
    columns, rows, about = read_back(corpus_path(corpus, "search"))
    count = 12
    if request.param == "many chunks":
        monkeypatch.setattr(writing, "_WIRING_CHUNK", 2)
        monkeypatch.setattr(writing, "_COLUMN_CHUNK", 3)
    columns = {name: values[:count] for name, values in columns.items()}
    write_corpus(tmp_path / "deepnets1m_search.h5", about, columns, [rows[: int(columns["num_rows"].sum())]])
    return tmp_path / "deepnets1m_search.h5"


@pytest.mark.slow
def test_flipped_bytes(small: Path) -> None:
    content = small.read_bytes()
    bits = random.Random(0)
    with small.open("r+b", buffering=0) as file:
        for position, good in enumerate(content):  # every flipped byte is detected
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
    lines = program(code, small, 3, step).splitlines()  # in a separate process, which could crash or hang
    assert len(lines) == len(range(3, len(content), step))
    outcomes = {line.split(maxsplit=1)[1] for line in lines}
    assert outcomes == {"refused same", "refused refused"}
