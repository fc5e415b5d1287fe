"""ONNX files: writing graphs, and reading the graphs of ONNX models.

writer  `write_onnx`, a graph as an ONNX file of its own operators, which is read back without loss
reader  `read_onnx`, the graph of any ONNX model
model   the operators of a model in the order of execution, and what each tensor is computed from
rules   the rule for each operator: whether it becomes a node, and which of its inputs are parameters
norms   rules of normalizations, also of those that a model spells out in elementary operators
files   importing the optional package `onnx`, and opening files

Names are imported on first use; the package `onnx` is imported when a file is written or read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.onnx_models.files import import_onnx as import_onnx
    from deepnets.onnx_models.reader import read_onnx as read_onnx
    from deepnets.onnx_models.writer import write_onnx as write_onnx

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "files": ("import_onnx",),
        "reader": ("read_onnx",),
        "writer": ("write_onnx",),
    },
)
