"""A hypernetwork reads the tensors of a `GraphBatch`."""

from __future__ import annotations

import pytest
import torch

from deepnets import Graph, GraphBatch, build_graph
from tests.ghn_model.test_ghn_promises import DARTS, KINDS, VIT, equal, made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("enabled", [True, False])
def test_tensors_of_batches_are_read(kind: str, enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the distances nor the levels of nodes are computed again for a batch."""
    ghn, graphs = made(kind), [build_graph(DARTS), build_graph(VIT)]
    with torch.set_grad_enabled(enabled):
        expected = ghn(graphs)
        batches = [GraphBatch(graphs, ghn.config.virtual_edges), GraphBatch(graphs, 254)]
        for name in ("distances", "levels"):
            monkeypatch.delattr(Graph, name, raising=False)
            for graph in graphs:
                vars(graph).pop(name, None)
        for batch in batches:
            for result, before in zip(ghn(batch), expected, strict=True):
                assert equal(result, before)
