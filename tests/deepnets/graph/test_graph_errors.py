"""Arguments for which the constructor of `Graph` raises errors."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets import (
    FormatError,
    Graph,
)
from tests.deepnets.graph.digraphs import SOUND, arrays, dags


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node_types": [], "cells": [], "in_degrees": [], "sources": []}, "it has no nodes"),
        ({"node_types": [], "cells": []}, "it has no nodes"),
        ({"cells": [0, 0, 1]}, "cells has 3 entries, node_types 4"),
        ({"cells": [0, 0, 1, 1, 1]}, "cells has 5 entries, node_types 4"),
        ({"in_degrees": [0, 1, 3]}, "in_degrees has 3 entries, node_types 4"),
        ({"in_degrees": [0, 1, 2, 1, 0]}, "in_degrees has 5 entries, node_types 4"),
        ({"names": [0, 1, 2]}, "names has 3 entries, node_types 4"),
        ({"node_types": [9, 4, 7, 27]}, "a node type is out of range"),
        ({"node_types": [9, 4, 7, 256]}, "node_types has values outside 0 to 255"),
        ({"node_types": [9, 4, 7, -1]}, "node_types has values outside 0 to 255"),
        ({"node_types": np.array([9, 4, 7, 4 + 256])}, "node_types has values outside 0 to 255"),
        ({"cells": [0, 0, 1, -1]}, "cells has values outside 0 to 255"),
        ({"cells": [0, 1, 0, 1]}, "cells decrease along the order"),
        ({"in_degrees": [0, 1, 1, 1]}, "in_degrees do not add up to the number of sources"),
        ({"in_degrees": [0, 1, 2, 2]}, "in_degrees do not add up to the number of sources"),
        ({"in_degrees": [1, 0, 2, 1]}, "the sources of a node are not nodes before it, in increasing order"),
        ({"in_degrees": [0, 1, -1, 4]}, "in_degrees do not add up to the number of sources"),
        ({"in_degrees": [-1, 2, 2, 1]}, "in_degrees do not add up to the number of sources"),
        ({"in_degrees": [0, 2**31 - 1, 2**31 - 1, 6]}, "in_degrees do not add up to the number of sources"),
        ({"in_degrees": [0, 2**31, 2**31, 4]}, "in_degrees has values outside -2147483648 to 2147483647"),
        ({"in_degrees": [0, 2**32 + 1, 2, 1]}, "in_degrees has values outside"),
        ({"in_degrees": np.array([0, 255, 4, 1], np.uint8)}, "in_degrees do not add up to the number of sources"),
        ({"sources": [0, 0, 1]}, "in_degrees do not add up to the number of sources"),
        ({"sources": []}, "in_degrees do not add up to the number of sources"),
        ({"sources": [1, 0, 1, 2]}, "the sources of a node are not nodes before it"),  # a loop
        ({"sources": [0, 0, 3, 2]}, "the sources of a node are not nodes before it"),  # a cycle
        ({"sources": [0, 1, 0, 2]}, "the sources of a node are not nodes before it, in increasing order"),
        ({"sources": [0, 0, 0, 2]}, "the sources of a node are not nodes before it, in increasing order"),  # twice
        ({"sources": [0, 0, 4, 2]}, "the sources of a node are not nodes before it"),
        ({"sources": [0, 0, -1, 2]}, "the sources of a node are not nodes before it"),
        ({"sources": [0, 0, 2**32 + 1, 2]}, "sources has values outside"),
        ({"sources": [0, 0, 10**30, 2]}, "sources is not a list of integers, but object"),
        ({"sources": [0.0, 0.0, 1.0, 2.0]}, r"sources is not a list of integers, but float64, of shape \(4,\)"),
        ({"sources": [True, False, True, True]}, "sources is not a list of integers, but bool"),
        ({"sources": [[0, 0], [1, 2]]}, r"sources is not a list of integers, but int64, of shape \(2, 2\)"),
        ({"sources": [[0], [0, 1], [2]]}, "sources is not a list of integers"),
        ({"sources": None}, r"sources is not a list of integers, but object, of shape \(\)"),
        ({"sources": 4}, r"sources is not a list of integers, but int64, of shape \(\)"),
        ({"node_types": "conv"}, "node_types is not a list of integers"),
        ({"node_types": ["conv"] * 4}, "node_types is not a list of integers"),
        ({"node_types": [[9, 4, 7, 4]]}, "node_types is not a list of integers"),
        ({"cells": np.zeros((4, 1), np.uint8)}, "cells is not a list of integers"),
        ({"in_degrees": np.zeros((2, 2), np.uint8)}, "in_degrees is not a list of integers"),
        ({"names": [[0]]}, "names is not a list of integers"),
        ({"names": [0, 1, 2, 65_536]}, "names has values outside 0 to 65535"),
        ({"windows": [[0, 0], [3, 3], [0, 0]]}, "windows has 3 rows, node_types 4 entries"),
        ({"windows": [3, 256, 0, 0, 0, 0, 0, 0]}, "windows has values outside 0 to 255"),
    ],
)
def test_arrays_that_are_no_graph(changes: dict[str, Any], message: str) -> None:
    Graph(**SOUND, names=[9, 0, 1, 2])
    with pytest.raises(FormatError, match=f"^graph: {message}"):
        Graph(**{**SOUND, **changes})
    with pytest.raises(FormatError, match=f"^graph 7: {message}"):
        Graph(**{**SOUND, **changes}, index=7)


@settings(max_examples=300, deadline=None)
@given(
    dags(6),
    st.lists(
        st.tuples(
            st.sampled_from(("node_types", "cells", "in_degrees", "sources")),
            st.integers(0, 8),
            st.integers(-2, 8) | st.integers(),
            st.sampled_from(("set", "insert", "remove")),
        ),
        max_size=4,
    ),
)
def test_any_integers_are_a_graph_or_a_format_error(
    digraph: nx.DiGraph, damage: list[tuple[str, int, int, str]]
) -> None:
    """Compiled code does not check bounds, so graphs that are accepted must be valid."""
    values = arrays(digraph)
    for name, place, value, what in damage:
        array = values[name]
        place = min(place, len(array))
        array[place : place + (what != "insert")] = [] if what == "remove" else [value]
    try:
        graph = Graph(**values)
    except FormatError:
        return
    n = graph.num_nodes
    assert [graph.node_types.tolist(), graph.cells.tolist()] == [values["node_types"], values["cells"]]
    assert [graph.in_degrees.tolist(), graph.sources.tolist()] == [values["in_degrees"], values["sources"]]
    assert len(set(map(tuple, graph.edges.tolist()))) == graph.num_edges
    assert all(0 <= u < v < n for u, v in graph.edges.tolist())
    assert graph.cells.tolist() == sorted(values["cells"])
