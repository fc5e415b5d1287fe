"""The optional package `onnx`, and opening of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deepnets.support import Budget, FormatError, MissingDataError, MissingDependencyError, in_one_line, install_command

__all__ = ["DOMAIN", "MOST_OPERATORS", "check_size", "import_onnx", "open_model"]

DOMAIN = "deepnets1m"
"""Domain of the operators in files of `write_onnx`."""

MOST_OPERATORS = 100_000
"""Largest number of operators of a model, with those of its functions wherever they are called."""

_MOST_LEVELS = 50


def import_onnx() -> Any:
    """Import the package `onnx`.

    Raises
    ------
    MissingDependencyError
        If it is not installed.

    Examples
    --------
    >>> try:
    ...     name = import_onnx().__name__
    ... except MissingDependencyError:
    ...     name = "onnx"
    >>> name
    'onnx'
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX files need the package onnx: {install_command('onnx')}", name="onnx"
        ) from error
    return onnx


def open_model(path: Path | str) -> Any:
    """Read an ONNX file, without the weights that it stores in other files.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    MissingDataError, FormatError
        If there is no such file, or it is not an ONNX model.

    Examples
    --------
    >>> open_model("missing.onnx")
    Traceback (most recent call last):
        ...
    deepnets.support.errors.MissingDataError: missing.onnx: no such file
    """
    if not Path(path).is_file():
        raise MissingDataError(f"{path}: no such file")
    onnx = import_onnx()
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # errors of protobuf have no common class
        raise FormatError(f"{path}: is not an ONNX model: {in_one_line(error, 200)}") from error
    if not model.graph.node:
        raise FormatError(f"{path}: is not an ONNX model, or has no operators")
    return model


def check_size(model: Any) -> None:
    """Check how large a model is once its functions are inserted where they are called.

    Functions that call each other can describe a model that is exponentially larger than its file.

    Parameters
    ----------
    model
        The `onnx.ModelProto`.

    Raises
    ------
    FormatError
        If it has more than `MOST_OPERATORS` operators or describes more data than a file of its size can hold, or if
        functions call each other in a circle or through more than 50 levels.
    """
    functions = {_key(each): each for each in model.functions}
    most_bytes = Budget(model.ByteSize()).limit
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}

    def size_of(nodes: Iterable[Any], level: int) -> tuple[int, int]:
        operators = num_bytes = 0
        for node in _with_inner(nodes):
            key = _key(node)
            if key in functions and key not in sizes:
                if level == _MOST_LEVELS:
                    raise FormatError(f"functions call each other in a circle, or through more than {level} levels")
                sizes[key] = size_of(functions[key].node, level + 1)
            more = sizes.get(key) or (1, node.ByteSize() if functions else 0)
            operators, num_bytes = operators + more[0], num_bytes + more[1]
            if operators > MOST_OPERATORS:
                raise FormatError(f"has more than {MOST_OPERATORS:,} operators")
            if num_bytes > most_bytes:
                raise FormatError("its functions describe more data than a file of its size can hold")
        return operators, num_bytes

    size_of(model.graph.node, 0)


def _key(node: Any) -> tuple[str, str, str]:
    """Return what identifies a function: its domain, its name, and its overload."""
    return node.domain, getattr(node, "op_type", "") or node.name, getattr(node, "overload", "")


def _with_inner(nodes: Iterable[Any]) -> Iterator[Any]:
    """Iterate over operators, and those of the graphs in their attributes; files have at most 100 such levels."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _with_inner(graph.node)
