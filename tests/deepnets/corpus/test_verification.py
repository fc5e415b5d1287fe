"""`verify` detects every change of a file, even if its checksum and its digest are updated."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from deepnets.__main__ import main
from deepnets.architecture import ARCHITECTURE, GENOTYPES, PADDING, PRIMITIVES, Genotype, NetworkConfig, encode
from deepnets.corpus import (
    COLUMNS,
    STATISTICS,
    CorpusFile,
    check_one_corpus,
    compute_statistics,
    corpus_path,
    storage,
    verification,
    verify,
    write_corpus,
)
from deepnets.corpus.verification import Verification
from deepnets.support import FormatError, IntegrityError
from generator import BuildPlan, Workers, build_corpus

SPLITS = ("train", "val", "test", "search", "wide", "deep", "dense", "bnfree")
SPLIT = "bnfree"
INDEX = 37

Columns = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.void]


@pytest.mark.parametrize("split", SPLITS)
def test_sound_files(corpus: Path, split: str) -> None:
    path = corpus_path(corpus, split)
    with CorpusFile(path) as file:
        expected = Verification(path, split, file.num_networks, file.content_digest, rebuilt=True)
    assert verify(path) == expected
    assert verify(str(path), quick=True).rebuilt is False


def wrong(path: Path, what: str, quick: bool | None = None) -> None:
    """Check that verification fails: in both modes, or only in the thorough one (`quick=False`)."""
    for kind in (True, False) if quick is None else (False,):
        with pytest.raises(IntegrityError, match=f"^{re.escape(str(path))}: {what}"):
            verify(path, quick=kind)
    if quick is False:
        assert not verify(path, quick=True).rebuilt


# --- changes of the file ----------------------------------------------------------------------------------------------


def test_flipped_bytes(corpus: Path, tmp_path: Path) -> None:
    """A sample of bytes; `test_storage` flips more."""
    content = corpus_path(corpus, SPLIT).read_bytes()
    path = tmp_path / "a.h5"
    bits = random.Random(0)
    for position in bits.sample(range(len(content)), 300):
        changed = bytearray(content)
        changed[position] ^= 1 << bits.randrange(8)
        path.unlink(missing_ok=True)
        path.write_bytes(changed)
        with pytest.raises(FormatError, match=re.escape(str(path))):
            verify(path, quick=True)


@pytest.fixture
def edited(corpus: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that changes a copy with h5py, with or without an updated checksum."""

    def edit(change: Callable[[h5py.File], object], checksummed: bool = True) -> Path:
        path = tmp_path / "deepnets1m_bnfree.h5"
        shutil.copy(corpus_path(corpus, SPLIT), path)
        with h5py.File(path, "r+") as file:
            change(file)
        if checksummed:
            content = bytearray(path.read_bytes())
            digest = hashlib.sha256(content[512:]).hexdigest().encode()
            place = content.index(b"sha256 of the rest: ") + 20
            content[place : place + 64] = digest
            path.write_bytes(content)
        return path

    return edit


Edit = Callable[..., Path]


def replace(name: str, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Callable[[h5py.File], None]:
    def apply(file: h5py.File) -> None:
        data, options = change(file[name][:]), {"compression": "gzip", "shuffle": True, "fletcher32": True}
        del file[name]
        file.create_dataset(name, data=data, chunks=data.shape, **options)

    return apply


def test_checksum_that_does_not_fit(edited: Edit) -> None:
    change = replace("networks/ks", lambda values: values)  # only stored elsewhere in the file
    wrong(edited(change, checksummed=False), "does not match its SHA-256")
    assert verify(edited(change, checksummed=True)).num_networks == 100


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_do_not_fit_the_digest(edited: Edit, name: str) -> None:
    def change(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if name == "num_rows":  # the total number of rows is unchanged
            values[INDEX] -= 1
            values[INDEX + 1] += 1
        elif name == "steps":
            values[INDEX] -= 1
        else:
            values[INDEX].flat[0] ^= 1
            if values.ndim == 1:
                values[INDEX] ^= 1
        return values

    wrong(edited(replace(f"networks/{name}", change)), "split bnfree")


def test_rows_and_attributes_that_do_not_fit_the_digest(edited: Edit) -> None:
    message = "split bnfree: its content does not match its digest"
    wrong(edited(replace("wiring", lambda rows: rows[::-1])), message)
    wrong(edited(replace("vocabulary/names", lambda words: words[:-1])), message)  # as in an older version
    wrong(edited(lambda file: file.attrs.__setitem__("content_digest", np.bytes_("0" * 64))), message)

    def change(file: h5py.File) -> None:
        file.attrs["attributes"] = np.bytes_(file.attrs["attributes"].replace(b'"seed": 0', b'"seed": 1'))

    wrong(edited(change), message)


# --- changes of the content, with valid checksum and digest -----------------------------------------------------------


@pytest.fixture
def forged(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that changes columns or rows, and writes the file with valid checksum and digest."""

    def forge(change: Callable[[Columns, list[Rows]], object], split: str = SPLIT, **more: Any) -> Path:
        with CorpusFile(corpus_path(corpus, split)) as file:
            columns = dict(file.columns)
            rows = [file.wiring(i, i + 1) for i in range(file.num_networks)]
            about = {**file.attributes, **more}
        change(columns, rows)
        path = corpus_path(tmp_path, split)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "LARGEST", {})  # otherwise impossible values could not be written
            write_corpus(path, {name: value for name, value in about.items() if value is not None}, columns, rows)
        return path

    return forge


Forge = Callable[..., Path]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("block", [7, INDEX, INDEX + 1, 256])
@pytest.mark.parametrize("name", ["num_nodes", "num_edges", "num_params", "num_params_imagenet", "fingerprint"])
@pytest.mark.parametrize("by", [-1, 1])
def test_measures(forged: Forge, monkeypatch: pytest.MonkeyPatch, name: str, block: int, by: int) -> None:
    def change(columns: Columns, rows: list[Rows]) -> None:
        columns[name][INDEX] += np.array(by).astype(columns[name].dtype)

    monkeypatch.setattr(verification, "_BLOCK", block)
    wrong(forged(change), rf"split bnfree, network {INDEX}: {name} is \d+, its configuration gives \d+$", quick=False)


def test_number_of_rows(forged: Forge) -> None:
    def change(columns: Columns, rows: list[Rows]) -> None:
        columns["num_rows"][INDEX] -= 1
        columns["num_rows"][INDEX + 1] += 1

    wrong(forged(change), rf"split bnfree, network {INDEX}: num_rows is \d+, its configuration gives \d+", quick=False)


def test_order(forged: Forge) -> None:
    for value in (0, "same as before", "first of all", 2**64 - 1):

        def change(columns: Columns, rows: list[Rows], value: Any = value) -> None:
            before = columns["candidate"][INDEX - 1]
            columns["candidate"][INDEX] = {"same as before": before, "first of all": 0}.get(value, value)

        place = INDEX + 1 if value == 2**64 - 1 else INDEX
        wrong(forged(change), f"split bnfree, network {place}: is not in the order of candidates", quick=False)


def copy_network(columns: Columns, rows: list[Rows], source: int, target: int) -> None:
    for name, values in columns.items():
        if name != "candidate":
            values[target] = values[source]
    rows[target] = rows[source]


def test_duplicates(forged: Forge) -> None:
    def change(columns: Columns, rows: list[Rows]) -> None:
        copy_network(columns, rows, 11, INDEX)

    wrong(forged(change), f"split bnfree, network {INDEX}: is network 11 again", quick=False)
    # The original release contains some duplicates, and its networks were not drawn by this generator.
    assert verify(forged(change, seed=None, origin="original release")).rebuilt


def test_swapped_networks(forged: Forge) -> None:
    def change(columns: Columns, rows: list[Rows]) -> None:
        for values in columns.values():
            values[[INDEX, INDEX + 1]] = values[[INDEX + 1, INDEX]]
        rows[INDEX], rows[INDEX + 1] = rows[INDEX + 1], rows[INDEX]

    wrong(forged(change), f"split bnfree, network {INDEX + 1}: is not in the order of candidates", quick=False)


def other_graph(columns: Columns, rows: list[Rows], index: int) -> Rows:
    """Return a valid graph of another network with equally many rows."""
    changed = rows[index].copy()
    last = np.flatnonzero(changed["back"] == 1)[-3]
    changed["node_type"][last] ^= 1
    return changed


@pytest.mark.parametrize("block", [7, INDEX, INDEX + 1, 256])
def test_other_graph(forged: Forge, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    def change(columns: Columns, rows: list[Rows]) -> None:
        rows[INDEX] = other_graph(columns, rows, INDEX)

    monkeypatch.setattr(verification, "_BLOCK", block)
    message = f"split bnfree, network {INDEX}: its graph is not that of its configuration"
    wrong(forged(change), message, quick=False)


@pytest.mark.parametrize("field", ["node_type", "cell", "input", "name", "back"])
@pytest.mark.parametrize("row", [0, 50, -1])
def test_any_field_of_any_row(forged: Forge, field: str, row: int) -> None:
    def change(columns: Columns, rows: list[Rows]) -> None:
        rows[INDEX][field][row] ^= 1

    message = f"split bnfree, network {INDEX}: its graph is not that of its configuration"
    wrong(forged(change), message, quick=False)


def test_graph_of_another_network(forged: Forge) -> None:
    def change(columns: Columns, rows: list[Rows]) -> None:
        rows[INDEX] = rows[INDEX + 1]
        columns["num_rows"][INDEX] = len(rows[INDEX])

    wrong(forged(change), f"split bnfree, network {INDEX}: num_rows is", quick=False)


MEANT = [name for name in ARCHITECTURE.names or () if name not in ("steps", "imagenet_stride")]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", MEANT)
def test_other_configuration(forged: Forge, name: str) -> None:
    """Another valid configuration; the stride, which `MEANT` omits, affects neither graphs nor parameters."""

    def change(columns: Columns, rows: list[Rows]) -> None:
        values = columns[name]
        places = np.ones(len(values), np.bool_)  # where the value is used
        if name in ("stem_pool", "ks"):
            places = (columns["stem_type"] == 0) & (columns["ops"] != PRIMITIVES.index("msa")).all(axis=(1, 2))
        if name == "fc_dim":
            places = columns["fc_layers"] > 1
        index = changed[0] = int(np.flatnonzero(places)[3])
        others = [value for value in values if (value != values[index]).any()]
        values[index] = {"norm": [3], "fc_dim": [100]}.get(name, others)[0]

    changed = [0]
    path = forged(change)
    wrong(path, f"split bnfree, network {changed[0]}: ", quick=False)


def test_values_of_unused_fields(forged: Forge) -> None:
    def change(columns: Columns, rows: list[Rows]) -> None:
        index = int(np.flatnonzero(columns["steps"] < columns["ops"].shape[2] // 2)[0])
        place = 2 * int(columns["steps"][index])
        assert columns["ops"][index, 1, place] == PADDING
        columns["ops"][index, 1, place] = 3
        changed.append(index)

    changed: list[int] = []
    path = forged(change)
    wrong(path, f"split bnfree, network {changed[0]}: has values where its configuration has none", quick=False)


@pytest.mark.parametrize(("name", "value"), [("stem_pool", 2), ("preproc", 2), ("glob_avg", 255), ("norm", 4)])
def test_ambiguous_values(forged: Forge, name: str, value: int) -> None:
    """Compiled code and Python could interpret these values differently."""

    def change(columns: Columns, rows: list[Rows]) -> None:
        columns[name][INDEX] = value

    wrong(forged(change), f"split bnfree, network {INDEX}: {name}: expected ")


def written(tmp_path: Path, *networks: NetworkConfig, **changes: Any) -> Path:
    """Write a file of these networks, with changed values of the first one."""
    records = encode(networks)
    statistics, rows = compute_statistics(records)
    columns = {name: part[name] for part in (records, statistics) for name in part.dtype.names or ()}
    for name, value in changes.items():
        columns[name][0] = value
    write_corpus(tmp_path / "deepnets1m_val.h5", {"split": "val", "seed": 0}, columns, [rows])
    return tmp_path / "deepnets1m_val.h5"


def test_files_of_computed_statistics(tmp_path: Path) -> None:
    networks = [NetworkConfig(GENOTYPES["DARTS"], n_cells=cells) for cells in (4, 5, 6)]
    assert verify(written(tmp_path, *networks)).num_networks == 3


@pytest.mark.parametrize("steps", [11, 128, 255])
def test_more_steps_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """All places for genes are in use: with the changed number, compiled code would read beyond them."""
    genes = [("conv_1x1", 0)] * 20
    network = NetworkConfig(Genotype(genes, [11], genes, [11]), 4)
    monkeypatch.setattr(storage, "LARGEST", {})
    path = written(tmp_path, network, steps=steps)
    wrong(path, f"split val, network 0: steps: expected an integer, 1 to 10; got {steps}", quick=False)
    monkeypatch.undo()
    wrong(path, f"split val, network 0: steps: expected 0 to 10, got {steps}")


def test_network_without_output(tmp_path: Path) -> None:
    """The file is consistent, but `none` cuts every path, so that the network cannot be trained."""
    good = Genotype([("conv_3x3", 0), ("conv_1x1", 1)], [2], [("conv_3x3", 0), ("conv_1x1", 1)], [2])
    none = Genotype([("none", 0), ("none", 1)], [2], [("none", 0), ("none", 1)], [2])
    path = written(tmp_path, *(NetworkConfig(genotype, 4, C_mult=1) for genotype in (good, none)))
    wrong(path, "split val, network 1: has no output", quick=False)


def test_every_measure_is_compared() -> None:
    """New columns must be tested above."""
    assert STATISTICS.names == (
        "num_nodes",
        "num_edges",
        "num_rows",
        "num_params",
        "num_params_imagenet",
        "fingerprint",
        "candidate",
    )


# --- the files of a folder ---


def test_files_of_two_corpora_in_one_folder(corpus: Path, tmp_path: Path) -> None:
    shutil.copy(corpus_path(corpus, "test"), tmp_path)
    check_one_corpus(tmp_path)
    other = BuildPlan(splits=("search",), search_size=3, seed=5)
    (report,) = build_corpus(tmp_path / "other", other, workers=Workers(num_workers=1))
    shutil.copy(report.path, tmp_path)
    with pytest.raises(IntegrityError, match=r"built with seed (0|5), and .* was built with seed (0|5)"):
        check_one_corpus(tmp_path)
    with pytest.raises(IntegrityError, match="one folder holds one corpus"):
        main(["verify", "--quick", str(tmp_path)])


def test_a_file_that_was_renamed(corpus: Path, tmp_path: Path) -> None:
    shutil.copy(corpus_path(corpus, "val"), corpus_path(tmp_path, "test"))
    with pytest.raises(IntegrityError, match=r"test\.h5: holds the split 'val', not 'test'; was it renamed\?"):
        main(["verify", "--quick", str(tmp_path)])
