"""Baselines: initializations of the literature, and parameters of other trained networks, as predictors.

A predictor is a function of a network, with PyTorch's initial values, and its graph, that returns tensors by name.  It
draws from PyTorch's global generator, which the benchmark seeds for every network.

orthogonal        `OrthogonalInit`: orthogonal matrices (Saxe et al., 2014)
mimetic           `MimeticInit`: attention that resembles trained attention (Trockman and Kolter, 2023)
lsuv              `LSUVInit`: outputs of unit variance, layer by layer (Mishkin and Matas, 2016)
weight_selection  `WeightSelection`: a subset of the weights of a larger trained model (Xu et al., 2024)
nearest_copy      `NearestCopy`: the weights of the most similar trained network of a folder
"""

from __future__ import annotations

from benchmark.predictors.lsuv import LSUVInit
from benchmark.predictors.mimetic import MimeticInit
from benchmark.predictors.nearest_copy import NearestCopy
from benchmark.predictors.orthogonal import OrthogonalInit
from benchmark.predictors.weight_selection import WeightSelection

__all__ = ["LSUVInit", "MimeticInit", "NearestCopy", "OrthogonalInit", "WeightSelection"]
