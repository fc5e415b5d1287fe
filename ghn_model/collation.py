"""`collate_graphs`: from graphs to the `PreparedBatch` that a hypernetwork reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from deepnets.architecture import NODE_TYPE_ROWS
from deepnets.graph import Graph, GraphBatch
from deepnets.support import ConfigError
from ghn_model.config import GHNConfig
from ghn_model.decoders import plan_decoding
from ghn_model.encoders import Encoder, shape_indices
from ghn_model.prepared_batch import PreparedBatch

__all__ = ["as_graphs", "collate_graphs", "type_name"]

_TYPE_ROWS = {name: torch.tensor(rows) for name, rows in NODE_TYPE_ROWS.items()}


def collate_graphs(
    graphs: GraphBatch | Sequence[Graph] | Graph,
    config: GHNConfig,
    encoder: Encoder | None = None,
    predict_class_layers: bool = True,
) -> PreparedBatch:
    """Prepare graphs for a hypernetwork; the collate function of training and prediction.

    Parameters
    ----------
    graphs
        One or more graphs.  The tensors of a batch, such as the distances, are read, not computed again; a batch with
        fewer virtual edges than the hypernetwork reads gets the missing ones.
    config
        Configuration of the hypernetwork.
    encoder
        The encoder that prepares its inputs, too; its weights are not used and may be on ``meta``.  If None, the
        encoder inputs are computed in `GHN.forward`.
    predict_class_layers
        Whether the layers whose outputs are the classes are to be predicted.

    Returns
    -------
    The batch, on the CPU.

    Raises
    ------
    ConfigError
        If there is no graph, or a graph does not know its parameters.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> batch = collate_graphs([graph, graph], GHNConfig())
    >>> len(batch.node_types) == 2 * graph.num_nodes, batch.encoder_inputs
    (True, None)
    """
    graphs = graphs.to("cpu") if isinstance(graphs, GraphBatch) else as_graphs(graphs)
    batch = GraphBatch.of(graphs, config.virtual_edges)
    largest = max(config.max_shape[2:])
    most = config.max_shape[:2] if config.width_invariant else None
    rows = [shape_indices(graph, config.num_classes, largest, config.channel_sizes, most) for graph in batch.graphs]
    return PreparedBatch(
        batch,
        _TYPE_ROWS[config.node_types][batch.node_types],
        torch.from_numpy(np.concatenate(rows)),
        None if encoder is None else encoder.prepare(batch),
        plan_decoding(batch.graphs, config, predict_class_layers),
    )


def as_graphs(graphs: Any) -> list[Graph]:
    """One or more graphs as a list; raises `ConfigError` for anything else."""
    if isinstance(graphs, GraphBatch):
        return graphs.graphs
    several = [graphs] if isinstance(graphs, Graph) else graphs
    if not isinstance(several, Sequence) or not several or not all(isinstance(graph, Graph) for graph in several):
        raise ConfigError(f"graphs: expected one Graph or more, or a GraphBatch, got {type_name(graphs)}")
    return list(several)


def type_name(value: Any) -> str:
    """The type of a value, and for a sequence the types of its items, for error messages."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {', '.join(sorted({type(part).__name__ for part in value})) or 'nothing'}"
    return type(value).__name__
