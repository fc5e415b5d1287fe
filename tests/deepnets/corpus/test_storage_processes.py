"""Corpus files in several processes and threads, and files that are replaced while they are open."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepnets.architecture import NetworkConfig
from deepnets.corpus import (
    CorpusFile,
    DeepNets1M,
    content_digest,
    corpus_path,
    write_corpus,
)
from deepnets.graph import Graph
from deepnets.support import IntegrityError
from tests.deepnets.corpus.corpus_files import read_back


def everything(nets: DeepNets1M) -> list[tuple[Graph, NetworkConfig]]:
    return [(graph, graph.config) for graph in nets]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_other_processes(corpus: Path, method: str) -> None:
    nets = DeepNets1M(corpus, "train")
    expected = everything(nets)
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = [pool.apply_async(everything, (nets,)) for _ in range(4)]
        assert everything(nets) == expected  # while the processes read
        for result in results:
            assert result.get(60) == expected
        graphs = pool.map(nets.__getitem__, range(0, 300, 30))
    assert graphs == [nets[i] for i in range(0, 300, 30)]
    assert [graph.config for graph in graphs] == [nets.config(i) for i in range(0, 300, 30)]


def test_inherited(corpus: Path) -> None:
    """A forked process inherits the open file, and reads it at the same time as its parent."""
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


@pytest.mark.slow
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
    """An open file, and a function that replaces it by another one."""
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
    assert np.array_equal(file.wiring(3, 4), rows)  # readers of the old file still read the old file
    for read in (lambda: file.wiring(3, 4), lambda: file.column("C"), lambda: content_digest(file)):
        twice = in_a_fork(lambda read=read: f"{attempt(read)}\n{attempt(read)}")  # the second attempt fails, too
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


def test_a_relative_path_is_found_from_another_folder(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus.parent)
    nets = DeepNets1M(corpus.name, "val")
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(nets))
    assert again[3] == nets[3]
    assert str(again.file.path) == f"{corpus.name}/deepnets1m_val.h5"
    assert next(iter(nets.loader(num_workers=1))).graphs[0] == nets[0]
