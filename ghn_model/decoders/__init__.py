"""Decoders of a hypernetwork: from the embedding of a node to the values of its parameters.

modules  the decoders as torch modules
plan     which part of which decoder becomes which parameter
tiling   repeating decoded values to the shape of a parameter, and scaling by fan-in
"""

from __future__ import annotations

from ghn_model.decoders.modules import ClassHead, ConvDecoder, MLPDecoder, VectorDecoder
from ghn_model.decoders.plan import Assembler, Plan, Sink, Wanted
from ghn_model.decoders.tiling import tile

__all__ = [
    "Assembler",
    "ClassHead",
    "ConvDecoder",
    "MLPDecoder",
    "Plan",
    "Sink",
    "VectorDecoder",
    "Wanted",
    "tile",
]
