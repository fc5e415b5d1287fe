"""Errors of `DeepNets1M` for invalid arguments and damaged files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepnets import (
    ConfigError,
    DeepNets1M,
    FormatError,
    IntegrityError,
    MissingDataError,
)
from deepnets.corpus import NETWORK_SPLITS, CorpusFile, corpus_path, write_corpus


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"split": "evaluation"},
            "split: unknown 'evaluation'; use one of train, val, test, search, wide, deep",
        ),
        ({"split": None}, "split: unknown None; use one of train"),
        ({"split": ["val"]}, r"split: unknown \['val'\]; use one of train"),
        ({"image_size": 8}, "image_size: expected an integer, 16 to 512; got 8"),
        ({"image_size": "32"}, "image_size: expected an integer, 16 to 512; got '32'"),
        ({"virtual_edges": 0}, "virtual_edges: expected an integer, 1 to 254; got 0"),
        ({"virtual_edges": 255}, "virtual_edges: expected an integer, 1 to 254; got 255"),
        ({"virtual_edges": None}, "virtual_edges: expected an integer, 1 to 254; got None"),
        ({"num_classes": 0}, "num_classes: expected an integer, 1 to 2147483647; got 0"),
        ({"num_classes": "10"}, "num_classes: expected an integer, 1 to 2147483647; got '10'"),
        ({"num_nets": 0}, "num_nets: expected an integer, 1 or more; got 0"),
        ({"num_nets": 2.5}, "num_nets: expected an integer, 1 or more; got 2.5"),
        ({"seed": -1}, "seed: expected an integer, 0 or more; got -1"),
        ({"seed": None}, "seed: expected an integer, 0 or more; got None"),
    ],
)
def test_wrong_options(corpus: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        DeepNets1M(corpus, **options)


@pytest.mark.parametrize("split", [name for name in NETWORK_SPLITS if name != "predefined"])
def test_a_split_that_has_not_been_built(tmp_path: Path, split: str) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        path = folder / f"deepnets1m_{split}.h5"
        message = f"{path}: no such file; build it with `deepnets build --splits {split} --out {folder}`"
        with pytest.raises(MissingDataError, match=re.escape(message)) as caught:
            DeepNets1M(folder, split)
        assert isinstance(caught.value, FileNotFoundError)
        assert "\n" not in str(caught.value)


def test_a_file_under_the_name_of_another_split(corpus: Path, tmp_path: Path) -> None:
    shutil.copy(corpus_path(corpus, "val"), corpus_path(tmp_path, "train"))
    with pytest.raises(FormatError, match="holds the split 'val', not 'train'; was it renamed"):
        DeepNets1M(tmp_path)


def test_other_files_with_the_name_of_a_split(tmp_path: Path) -> None:
    path = corpus_path(tmp_path, "val")
    path.mkdir()
    with pytest.raises(FormatError, match=f"{path}: not a file"):
        DeepNets1M(tmp_path, "val")


@pytest.mark.parametrize(
    ("split", "column", "value", "message"),
    [
        ("val", "n_cells", 0, "n_cells: expected an integer, 1 to 200; got 0"),
        ("val", "C", 33, "C: must be even"),
        ("wide", "C", 30_000, "C: expected an integer, 2 to 65535; got 120000"),
    ],
)
def test_an_invalid_architecture_in_a_file(
    corpus: Path, tmp_path: Path, split: str, column: str, value: int, message: str
) -> None:
    """The graph can still be read; attributes that depend on the architecture raise an error with the location."""
    path = corpus_path(tmp_path, split)
    with CorpusFile(corpus_path(corpus, split)) as file:
        columns = file.columns
        columns[column] = columns[column].copy()
        columns[column][3] = value
        write_corpus(path, file.attributes, columns, file.wiring_blocks())
        assert DeepNets1M(tmp_path, split)[3].num_nodes == file.column("num_nodes")[3]
    nets = DeepNets1M(tmp_path, split)
    for call in (lambda: nets[3].config, lambda: nets[3].parameters, lambda: nets.config(3)):
        with pytest.raises(IntegrityError, match=re.escape(f"{path}: split {split}, network 3: {message}")):
            call()
    assert nets[2].config == DeepNets1M(corpus, split)[2].config


def test_a_graph_of_another_architecture_in_a_file(corpus: Path, tmp_path: Path) -> None:
    with CorpusFile(corpus_path(corpus, "val")) as file:
        columns = file.columns
        columns["norm"] = np.zeros_like(columns["norm"])
        write_corpus(corpus_path(tmp_path, "val"), file.attributes, columns, file.wiring_blocks())
    normed = int(np.flatnonzero(DeepNets1M(corpus, "val").table["norm"] == "bnorm")[0])
    with pytest.raises(IntegrityError, match=f"graph {normed}: its nodes are not those of its config"):
        _ = DeepNets1M(tmp_path, "val")[normed].parameters
