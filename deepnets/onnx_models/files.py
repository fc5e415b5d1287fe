"""The optional package `onnx`, and opening of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepnets.support import FormatError, MissingDataError, MissingDependencyError, in_one_line

__all__ = ["DOMAIN", "import_onnx", "open_model"]

DOMAIN = "deepnets1m"
"""Domain of the operators in files of `write_onnx`."""


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
            'ONNX files need the package onnx: pip install "deepnets1m[onnx]"', name="onnx"
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
