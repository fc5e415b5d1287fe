"""ONNX models of up to 5 MB that are made to take time and memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepnets import read_onnx
from tests.support.limits import limited

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits are set as Linux does")

DOMAIN = "functions"


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    domain = DOMAIN if kind.startswith("F") and kind[1:].isdecimal() else ""
    return onnx.helper.make_node(kind, inputs, [output], domain=domain, **attributes)


def function(name: str, nodes: list[Any]) -> Any:
    return onnx.helper.make_function(DOMAIN, name, ["a"], ["z"], nodes, opsets())


def opsets() -> list[Any]:
    return [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(DOMAIN, 1)]


def floats(name: str, *shape: int) -> Any:
    count = 1
    for size in shape:
        count *= size
    return onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, shape, bytes(4 * count), raw=True)


def chain(kind: str, count: int, *others: str) -> list[Any]:
    return [node(kind, ["x" if i == 0 else f"v{i - 1}", *others], f"v{i}") for i in range(count)]


def many_functions() -> tuple[list[Any], list[Any], list[Any]]:
    """Each one calls the one before twice: 2^40 operators."""
    calls = ["Relu", *(f"F{i}" for i in range(39))]
    functions = [function(f"F{i}", [node(calls[i], ["a"], "b"), node(calls[i], ["b"], "z")]) for i in range(40)]
    return [node("F39", ["x"], "y")], functions, []


def circle() -> tuple[list[Any], list[Any], list[Any]]:
    functions = [function("F0", [node("F1", ["a"], "z")]), function("F1", [node("F0", ["a"], "z")])]
    return [node("F0", ["x"], "y")], functions, []


def levels() -> tuple[list[Any], list[Any], list[Any]]:
    functions = [function(f"F{i}", [node("Relu" if i == 0 else f"F{i - 1}", ["a"], "z")]) for i in range(30_000)]
    return [node("F29999", ["x"], "y")], functions, []


def copied_constant() -> tuple[list[Any], list[Any], list[Any]]:
    """1 MB in a function that is called 50,000 times."""
    inner = [node("Constant", [], "k", value=floats("t", 250_000)), node("Relu", ["a"], "z")]
    return chain("F0", 50_000), [function("F0", inner)], []


def too_many() -> tuple[list[Any], list[Any], list[Any]]:
    return chain("Relu", 150_000), [], []


def combined_parameters() -> tuple[list[Any], list[Any], list[Any]]:
    """Sums that each hold one parameter more than the one before."""
    count = 40_000
    nodes = [node("Add", ["w0" if i == 0 else f"s{i - 1}", f"w{i + 1}"], f"s{i}") for i in range(count)]
    return [*nodes, node("Add", ["x", f"s{count - 1}"], "y")], [], [floats(f"w{i}", 2, 2) for i in range(count + 1)]


def combined_scores() -> tuple[list[Any], list[Any], list[Any]]:
    """Sums of products of data that each come from one layer more than the one before."""
    nodes = []
    for i in range(20_000):
        nodes += [node("MatMul", ["x", "w"], f"x{i}"), node("MatMul", [f"x{i}", "x"], f"p{i}")]
        nodes += [node("Add", ["p0" if i == 0 else f"s{i - 1}", f"p{i}"], f"s{i}")]
    return nodes, [], [floats("w", 8, 8)]


REFUSED: dict[str, tuple[Callable[[], tuple[list[Any], list[Any], list[Any]]], str]] = {
    "functions of functions": (many_functions, "has more than 100,000 operators"),
    "functions in a circle": (circle, "functions call each other in a circle"),
    "functions in many levels": (levels, "or through more than 50 levels"),
    "a constant that is copied": (copied_constant, "describe more data than a file of its size can hold"),
    "many operators": (too_many, "has more than 100,000 operators"),
    "parameters that are combined": (combined_parameters, "combine too many tensors"),
}


def small_operators() -> tuple[list[Any], list[Any], list[Any]]:
    return chain("Relu", 95_000), [], []


def small_layers() -> tuple[list[Any], list[Any], list[Any]]:
    return chain("MatMul", 95_000, "w"), [], [floats("w", 8, 8)]


def one_mask_many_times() -> tuple[list[Any], list[Any], list[Any]]:
    """4 MB, which are read once to decide whether they are a mask."""
    return [node("MatMul", ["x", "x"], "v"), *chain("Add", 20_000, "m")], [], [floats("m", 1000, 1000)]


READ: dict[str, Callable[[], tuple[list[Any], list[Any], list[Any]]]] = {
    "small operators": small_operators,
    "small layers": small_layers,
    "one mask many times": one_mask_many_times,
    "scores that are combined": combined_scores,
}


def written(path: Path, nodes: list[Any], functions: list[Any], tensors: list[Any]) -> Path:
    nodes[-1].output[0] = "y"
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "graph", values[:1], values[1:], initializer=tensors)
    model = onnx.helper.make_model(graph, functions=functions, opset_imports=opsets(), ir_version=9)
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size <= 5_000_000
    return path


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", REFUSED)
def test_models_that_are_refused(tmp_path: Path, name: str) -> None:
    make, message = REFUSED[name]
    path = written(tmp_path / "model.onnx", *make())
    outcome = limited(lambda: read_onnx(path), megabytes=1000)
    assert outcome.kind == "FormatError"
    assert message in outcome.text
    assert outcome.text.startswith(f"{path}: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_models_that_are_read(tmp_path: Path, name: str) -> None:
    """The largest takes 6 s on a core that is shared, 60 us per operator; with quadratic time it would be minutes."""
    path = written(tmp_path / "model.onnx", *READ[name]())
    assert limited(lambda: read_onnx(path), megabytes=1000, seconds=20) == ("returned", "Graph")
