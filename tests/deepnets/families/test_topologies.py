"""Graphs of families: those from the cache are those that `trace` returns; files of the cache, also hostile ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import Graph, trace
from deepnets.families import Family, FamilyNetworks, FamilySplit
from deepnets.families.topologies import TopologyCache
from deepnets.support import digest_of_sources

TEXT = {"vocab_size": 40, "context_length": 16}


def assert_traced(nets: FamilyNetworks, index: int, vocabulary: str = "complete") -> None:
    """The graph of a network is that of a new trace, with all parameters."""
    graph = nets.graph(index, vocabulary)
    with torch.device("meta"):
        model = nets.build(index).eval()
    expected = trace(model, nets.example_inputs(index), vocabulary=vocabulary)
    assert isinstance(graph, Graph)
    assert graph == expected
    assert graph.parameters == expected.parameters
    assert sorted(graph.unused) == sorted(expected.unused)
    assert (graph.windows == expected.windows).all()


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("name", "splits", "options"),
    [
        pytest.param("resnet-widths", ("train", "test", "wide", "deep"), {}, marks=pytest.mark.slow),
        ("vits-1k", ("train", "val", "original"), {}),
        ("gpts-1k", ("train", "val"), TEXT),
        ("llamas-1k", ("train", "test"), TEXT),
        ("gpt2-widths", ("train", "wide"), {}),
    ],
)
def test_graphs_are_traced_ones(name: str, splits: tuple[str, ...], options: dict[str, Any]) -> None:
    if options or name.startswith("gpt"):
        pytest.importorskip("transformers")
    for split in splits:
        nets = FamilyNetworks(name, split, **options)
        for index in range(6):
            assert_traced(nets, index)


@pytest.mark.parametrize("vocabulary", ["ghn3", "ppuda", "logah"])
def test_vocabularies(vocabulary: str) -> None:
    """A graph in one vocabulary is not returned for another."""
    nets = FamilyNetworks("vits-1k", "test", num_nets=2)
    for index in (0, 1):
        nets.graph(index)
        assert_traced(nets, index, vocabulary)
    assert FamilyNetworks("vits-1k", "test", vocabulary=vocabulary)[0] == nets.graph(0, vocabulary)


@pytest.mark.slow
def test_topologies_of_vits() -> None:
    """ViTs-1K has seven topologies, one for each number of layers."""
    nets = FamilyNetworks("vits-1k", "original")
    sizes = {nets.config(index)["layers"]: nets.graph(index).num_nodes for index in range(60)}
    assert len(sizes) == nets.cache.traced == 7
    steps = {(b - a) for a, b in zip(sorted(sizes.values()), sorted(sizes.values())[1:])}
    assert len(steps) == 1  # every layer adds the same nodes


def test_sizes_of_published_graphs() -> None:
    """Numbers of nodes and edges of LoGAH's graphs, by the number of layers."""
    nets = FamilyNetworks("vits-1k", "train", vocabulary="logah")
    for index in range(5):
        layers = nets.config(index)["layers"]
        assert (nets[index].num_nodes, nets[index].num_edges) == (13 * layers + 8, 15 * layers + 7)
    pytest.importorskip("transformers")
    gpts, llamas = FamilyNetworks("gpts-1k", "train"), FamilyNetworks("llamas-1k", "train")
    for index in range(3):
        layers = gpts.config(index)["layers"]
        assert (gpts[index].num_nodes, gpts[index].num_edges) == (13 * layers + 6, 15 * layers + 5)
        graph = gpts.graph(index, "logah")
        assert (graph.num_nodes, graph.num_edges) == (13 * layers + 6, 15 * layers + 6)
        layers, graph = llamas.config(index)["layers"], llamas.graph(index, "logah")
        assert (graph.num_nodes, graph.num_edges) == (15 * layers + 4, 20 * layers + 3)


def test_short_cuts_are_told_apart() -> None:
    """Equal widths need no convolution in the short cut, although widths are declared as sizes."""
    nets = FamilyNetworks("resnet-widths", "train")
    graphs = [nets.graph_of({"depths": [1, 1], "widths": widths}) for widths in ([8, 8], [8, 12], [12, 8])]
    assert graphs[0].num_nodes == graphs[1].num_nodes  # the stride needs one, too
    assert nets.cache.traced == 1
    family = Family("s", Switching, {"width": [4, 8]}, sizes=["width"])
    for width in (4, 8, 4, 8):
        graph = FamilyNetworks(family).graph_of({"width": width})
        assert graph.num_nodes == {4: 3, 8: 4}[width]


class Switching(nn.Module):
    """A network whose layers depend on a field that is declared as a size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, bias=False)
        self.second = nn.Conv2d(width, width, 3, bias=False) if width > 4 else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.second is not None:
            x = self.second(x)
        return F.adaptive_avg_pool2d(x, 1).flatten(1) @ torch.ones(x.shape[1], 2, device=x.device)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "families").iterdir())


def test_files(tmp_path: Path) -> None:
    first = FamilyNetworks("vits-1k", "test", root=tmp_path, num_nets=8)
    graphs = list(first)
    assert first.cache.traced == len(files(tmp_path)) > 0
    assert all(path.suffix == ".json" for path in files(tmp_path))  # and no temporary files
    second = FamilyNetworks("vits-1k", "test", root=tmp_path, num_classes=7)
    for index, graph in enumerate(graphs):
        assert second[index] == graph
    assert second.cache.traced == 0
    assert second[0].parameters[-1][0].shape == (7,)
    assert_traced(second, 3)


def edited(text: str, name: str, value: Any, *, sign: bool = True) -> str:
    import hashlib

    outer = json.loads(text)
    body = json.loads(outer["topology"])
    body[name] = value(body[name])
    outer["topology"] = json.dumps(body)
    if sign:
        outer["sha256"] = hashlib.sha256(outer["topology"].encode()).hexdigest()
    return json.dumps(outer)


HOSTILE: dict[str, Any] = {
    "empty": lambda text: "",
    "cut off": lambda text: text[:-40],
    "nested": lambda text: "[" * 100_000,
    "other JSON": lambda text: "[1, 2]",
    "no text": lambda text: json.dumps({**json.loads(text), "topology": 3}),
    "flipped": lambda text: text.replace("conv", "conw"),
    "other version": lambda text: text.replace('"version": 1', '"version": 2'),
    "other key": lambda text: json.dumps({**json.loads(text), "key": "0" * 32}),
    "unsigned": lambda text: edited(text, "cells", lambda cells: [1] * len(cells), sign=False),
    "unknown type": lambda text: edited(text, "node_types", lambda types: [*types[:-1], 250]),
    "negative type": lambda text: edited(text, "node_types", lambda types: [*types[:-1], -1]),
    "wrong length": lambda text: edited(text, "node_types", lambda types: types[:-1]),
    "cycle": lambda text: edited(text, "sources", lambda sources: [10**6, *sources[1:]]),
    "floats": lambda text: edited(text, "sources", lambda sources: [0.5, *sources[1:]]),
    "degrees": lambda text: edited(text, "in_degrees", lambda degrees: [10**9, *degrees[1:]]),
    "other names": lambda text: edited(text, "slots", lambda slots: [[["a", "weight"]], *slots[1:]]),
    "lost names": lambda text: edited(text, "slots", lambda slots: [[] for _ in slots]),
    "other role": lambda text: edited(text, "unused", lambda unused: [["a", "root"]]),
    "not pairs": lambda text: edited(text, "slots", lambda slots: 3),
    "windows": lambda text: edited(text, "windows", lambda windows: [10**9, *windows[1:]]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_files_are_replaced(tmp_path: Path, name: str) -> None:
    nets = FamilyNetworks("vits-1k", "test", root=tmp_path, num_nets=1)
    graph = nets[0]
    (path,) = files(tmp_path)
    good = path.read_text()
    path.write_text(HOSTILE[name](good))
    again = FamilyNetworks("vits-1k", "test", root=tmp_path, num_nets=1)
    assert again[0] == graph
    assert again[0].parameters == graph.parameters
    assert again.cache.traced == 1
    assert path.read_text() == good


def test_named_pipes_do_not_block(tmp_path: Path) -> None:
    nets = FamilyNetworks("vits-1k", "test", root=tmp_path, num_nets=1)
    graph = nets[0]
    (path,) = files(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert FamilyNetworks("vits-1k", "test", root=tmp_path)[0] == graph


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "families").write_text("a file in the place of the folder")
    nets = FamilyNetworks("vits-1k", "test", root=tmp_path, num_nets=1)
    assert nets[0].num_nodes > 50


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepnets.families.topologies.MAX_IN_MEMORY", 2)
    cache = TopologyCache()
    for number in (0, 1, 2, 0):
        cache.find({"number": number}, nn.Linear(2, 2), torch.zeros(1, 2))
    assert cache.traced == 4


def test_source_of_a_users_model_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of the code of a model, its graphs are traced again."""
    import importlib
    import sys

    from deepnets.families import topologies

    text = """
import torch
class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3)
        self.norm = torch.nn.BatchNorm2d(width)
    def forward(self, x):
        x = self.conv(x)
        return ({}).mean((2, 3))
"""
    monkeypatch.syspath_prepend(str(tmp_path))
    sizes = []
    for body in ("self.norm(x)", "x + self.norm(x)"):
        (tmp_path / "a_users_model.py").write_text(text.format(body))
        monkeypatch.delitem(sys.modules, "a_users_model", raising=False)
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        topologies._version_of.cache_clear()
        digest_of_sources.cache_clear()
        family = Family("u", "a_users_model:Net", {"width": [4]}, splits={"train": FamilySplit(1)})
        nets = FamilyNetworks(family, root=tmp_path)
        sizes.append(nets[0].num_nodes)
        from deepnets.families import networks

        networks._skeletons.clear()
    assert sizes[1] == sizes[0] + 1


def test_a_package_of_a_user_may_have_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not changed with the code, and a network may use code of other files of the package."""
    import sys

    from deepnets.families import topologies

    package = tmp_path / "users_nets"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0.1"')
    (package / "models.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    try:
        for helper in ("a = 1", "a = 2", "a = 1"):
            (package / "helper.py").write_text(helper)
            __import__("users_nets.models")
            topologies._version_of.cache_clear()
            digest_of_sources.cache_clear()
            found.append(topologies._version_of("users_nets.models"))
    finally:
        topologies._version_of.cache_clear()
        sys.modules.pop("users_nets.models", None)
        sys.modules.pop("users_nets", None)
    assert found[0] == found[2] != found[1]
    assert topologies._version_of("numpy.linalg") == f"numpy {np.__version__}"


def test_modules_that_a_users_model_imports_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also functions, values and modules that are imported by others, none of which is the class of a layer."""
    import sys

    from deepnets.families import networks, topologies
    from deepnets.support import user_modules, with_imports

    names = ["a_users_net", "a_users_blocks", "a_users_numbers"]
    net = """
import torch, a_users_blocks
class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3)
        self.norm = torch.nn.BatchNorm2d(width)
    def forward(self, x):
        x = self.conv(x)
        return a_users_blocks.combined(x, self.norm(x)).mean((2, 3))
"""
    blocks = "from a_users_numbers import SUM\ndef combined(x, y):\n    return x + y if SUM else y\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sizes = []
    for is_sum in (False, True):
        for name, text in zip(names, (net, blocks, f"SUM = {is_sum}")):
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        for cached in (topologies._version_of, user_modules._imports_of, digest_of_sources):
            cached.cache_clear()
        networks._skeletons.clear()
        family = Family("u", "a_users_net:Net", {"width": [4]}, splits={"train": FamilySplit(1)})
        sizes.append(FamilyNetworks(family, root=tmp_path)[0].num_nodes)
    assert sizes[1] == sizes[0] + 1
    assert with_imports(["torch.nn"]) == {"torch.nn"}
