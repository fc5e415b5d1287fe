"""Files with excessive sizes or impossible values raise errors, without large allocations."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import pytest

from deepnets.architecture import Genotype, NetworkConfig
from deepnets.corpus import (
    COLUMNS,
    DeepNets1M,
    corpus_path,
    layout,
    storage,
    verify,
    write_corpus,
)
from deepnets.support import FormatError, IntegrityError
from tests.deepnets.corpus.corpus_files import (
    SPLIT,
    Change,
    Columns,
    Rows,
    corpus_of,
    put,
    read_back,
    run_program,
)

program = partial(run_program, __name__)


# --- absurd sizes -----------------------------------------------------------------------------------------------------


def claim(name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any = None, networks: int = 0) -> Change:
    def change(file: h5py.File) -> None:
        put(file, name, shape=shape, chunks=chunks, dtype=dtype or file[name].dtype)
        if networks:
            file.attrs["num_networks"] = networks

    return change


def claim_everywhere(networks: int) -> Change:
    """Set the number of networks of every column."""

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
    """Open every file of a folder with limited memory; write the messages, and the additional memory used, in MB."""
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


@pytest.mark.slow
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


# --- impossible values in files with valid digests --------------------------------------------------------------------


@pytest.fixture
def forged(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Columns, Rows], Any], str], DeepNets1M]:
    """A function that changes the content of a split, and writes its file with valid digests."""

    def forge(change: Callable[[Columns, Rows], Any], split: str = SPLIT) -> DeepNets1M:
        columns, rows, about = read_back(corpus_path(corpus, split))
        changed = change(columns, rows)
        monkeypatch.setattr(storage, "LARGEST", {})  # otherwise impossible values could not be written
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


@pytest.mark.sampled(7)
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
    if name not in layout.LARGEST:  # the others are unchanged
        good = DeepNets1M(corpus, SPLIT)
        for other in (index - 1, index + 1):
            assert (nets[other], nets[other].config) == (good[other], good[other].config)


@pytest.mark.parametrize("steps", [11, 127, 128, 200, 255])
def test_more_steps_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """All places for genes are in use, so that the genes do not show the number of steps."""
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


@pytest.mark.sampled(2)
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
