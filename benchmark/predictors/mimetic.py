"""Mimetic initialization (Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", ICML 2023)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmark.predictors.initial_values import initial_values
from deepnets.architecture import NODE_TYPES
from deepnets.graph import Graph

__all__ = ["MimeticInit"]

_PASSED = tuple(NODE_TYPES.index(name) for name in ("bias", "ln", "rms", "scale"))  # between a projection and attention
_CONV, _MSA = NODE_TYPES.index("conv"), NODE_TYPES.index("msa")
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads", "n_head")


class _Attention(NamedTuple):
    """The weights of an attention layer by name: of query, key and value, or of all three, and of the projection."""

    inputs: tuple[str, ...]
    projection: str | None


class MimeticInit:
    """A predictor: attention starts close to what trained attention looks like; all else keeps its initial values.

    For tokens of d numbers, and matrices Z of independent normal numbers with variance 1 / d,

        W_query W_key^T      ≈ alpha_qk Z + beta_qk I      for each head, the nearest matrix of its rank
        W_value W_projection = alpha_vp Z - beta_vp I

    Both products are factorized by a singular value decomposition.  Attention is found in the graph of the network,
    where the weights of query, key and value may be one matrix or three.  The number of heads is that of the module.
    Attention that mixes tensors of different sizes, or whose number of heads is unknown, keeps its initial values.  The
    paper trains networks with sinusoidal position encodings, which this predictor does not set.

    Parameters
    ----------
    alpha_qk, beta_qk, alpha_vp, beta_vp
        The published constants by default.

    Examples
    --------
    >>> from deepnets import GENOTYPES, Network, NetworkConfig, build_graph
    >>> config = NetworkConfig(GENOTYPES["ViT"], n_cells=3, C=32, C_mult=1, preproc=False)
    >>> model = Network(config)
    >>> found = MimeticInit(alpha_vp=0.0)(model, build_graph(config))
    >>> value, projection = found["cells.0._ops.1.to_qkv.weight"][64:], found["cells.0._ops.1.to_out.0.weight"]
    >>> torch.allclose(projection @ value, -0.4 * torch.eye(32), atol=1e-5)
    True
    """

    def __init__(
        self, alpha_qk: float = 0.7, beta_qk: float = 0.7, alpha_vp: float = 0.4, beta_vp: float = 0.4
    ) -> None:
        self.alpha_qk, self.beta_qk, self.alpha_vp, self.beta_vp = alpha_qk, beta_qk, alpha_vp, beta_vp

    @torch.no_grad()
    def __call__(self, model: nn.Module, graph: Graph) -> dict[str, Tensor]:
        """Return the parameters of a network by name."""
        values = initial_values(model)
        for attention in _attentions(graph):
            if not {*attention.inputs, attention.projection or attention.inputs[0]} <= values.keys():
                continue
            heads = _num_heads(model, attention.inputs[0])
            parts = [_by_output(model, name, values[name]) for name in attention.inputs]
            query, key, value = parts[0].chunk(3) if len(parts) == 1 else parts
            if not (query.ndim == 2 and query.shape == key.shape) or heads is None or len(query) % heads:
                continue
            self._set_query_and_key(query, key, heads)
            if attention.projection is not None:
                projection = _by_output(model, attention.projection, values[attention.projection])
                if value.shape == projection.shape == (value.shape[1], value.shape[1]):
                    self._set_value_and_projection(value, projection)
        return values

    def _set_query_and_key(self, query: Tensor, key: Tensor, heads: int) -> None:
        """Write into the weights of query and key, (heads * k, d); PyTorch's weights are the transposed W."""
        d, k = query.shape[1], len(query) // heads
        for head in range(heads):
            left, root, right = _factors(self.alpha_qk * _noise(d, query) + self.beta_qk * _identity(d, query))
            rank = min(k, d)
            rows = slice(head * k, head * k + rank)
            query[rows] = (left * root)[:, :rank].T
            key[rows] = (right * root)[:, :rank].T

    def _set_value_and_projection(self, value: Tensor, projection: Tensor) -> None:
        d = len(value)
        left, root, right = _factors(self.alpha_vp * _noise(d, value) - self.beta_vp * _identity(d, value))
        value.copy_((left * root).T)
        projection.copy_(right * root)


def _noise(d: int, like: Tensor) -> Tensor:
    return torch.randn(d, d, device=like.device) / math.sqrt(d)


def _identity(d: int, like: Tensor) -> Tensor:
    return torch.eye(d, device=like.device)


def _factors(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, the square roots of the singular values, and V of a matrix U S V^T."""
    left, singular, right = torch.linalg.svd(matrix)
    return left, singular.sqrt(), right.T


def _attentions(graph: Graph) -> list[_Attention]:
    """Find the attention layers whose weights are known."""
    edges = graph.edges
    sources = np.split(graph.sources, np.cumsum(graph.in_degrees)[:-1])
    found = []
    for msa in np.flatnonzero(graph.node_types == _MSA).tolist():
        weights = [_weight_before(graph, sources, source) for source in sources[msa].tolist()]
        names = tuple(name for name in weights if name is not None)
        if len(names) not in (1, 3) or len(set(names)) != len(names):
            continue
        targets = edges[edges[:, 0] == msa, 1]
        after = [graph.parameters[target][0].name for target in targets if graph.node_types[target] == _CONV]
        found.append(_Attention(names, after[0] if len(after) == 1 and len(targets) == 1 else None))
    return found


def _weight_before(graph: Graph, sources: list[npt.NDArray[np.int32]], node: int) -> str | None:
    """Return the weight of the linear layer that a node, after its bias and norm, belongs to."""
    while graph.node_types[node] in _PASSED and len(sources[node]) == 1:
        node = int(sources[node][0])
    return graph.parameters[node][0].name if graph.node_types[node] == _CONV and graph.parameters[node] else None


def _by_output(model: nn.Module, name: str, weight: Tensor) -> Tensor:
    """Return a view of a weight with a row per output; Transformers' `Conv1D` of GPT-2 has a row per input."""
    module = model.get_submodule(name.rpartition(".")[0])
    return weight.T if type(module).__name__ == "Conv1D" and weight.ndim == 2 else weight


def _num_heads(model: nn.Module, name: str) -> int | None:
    """Return the number of heads that the module of a parameter, or one around it, states."""
    path = name.split(".")[:-1]
    for depth in (len(path), len(path) - 1, len(path) - 2):
        if depth < 0:
            break
        module = model.get_submodule(".".join(path[:depth]))
        for attribute in _HEADS:
            heads = getattr(module, attribute, None)
            if isinstance(heads, int) and heads > 0:
                return heads
    return None
