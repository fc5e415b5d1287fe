"""Rows of `deepnets.corpus.wiring` represent the graph; invalid rows are rejected before they are used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets.architecture import NAMES, PUBLISHED_NODE_TYPES, NetworkConfig, encode
from deepnets.corpus import WIRING, compute_statistics, decode_wiring
from deepnets.corpus.wiring import MAX_NODES
from deepnets.graph import Graph, build_graph
from deepnets.support import IntegrityError
from tests.support.strategies import configs

Rows = npt.NDArray[np.void]


def rows_of(*nodes: tuple[int, int, int, list[int]]) -> Rows:
    """Return the rows of nodes `(node_type, cell, name, sources)`, as described in the docstring of the module."""
    rows = []
    for v, (node_type, cell, name, sources) in enumerate(nodes):
        rows += [(node_type, cell, i, name, v - source) for i, source in enumerate(sources)]
        if not sources:
            rows.append((node_type, cell, 0, name, 0))
    return np.array(rows, WIRING)


def sound_rows() -> Rows:
    """Six nodes in two cells; node 4 is the sum of three, nodes 0 and 2 have no inputs."""
    return rows_of(
        (9, 0, 9, []), (4, 0, 20, [0]), (13, 0, 30, []), (4, 0, 21, [1]), (7, 1, 7, [1, 2, 3]), (14, 1, 14, [4])
    )


@pytest.fixture
def rows() -> Rows:
    return sound_rows()


@settings(max_examples=60, deadline=None)
@given(st.lists(configs(max_cells=4, max_steps=3, with_output=True), min_size=1, max_size=3))
def test_round_trip(networks: list[NetworkConfig]) -> None:
    statistics, rows = compute_statistics(encode(networks))
    ends = np.cumsum(statistics["num_rows"], dtype=np.int64)
    assert ends[-1] == len(rows)
    for config, part in zip(networks, np.split(rows, ends[:-1])):
        node_types, cells, names, in_degrees, sources = decode_wiring(part)
        graph = build_graph(config)
        assert Graph(node_types, cells, in_degrees, sources) == graph
        assert np.array_equal(names, graph.names)


def test_arrays(rows: Rows) -> None:
    node_types, cells, names, in_degrees, sources = decode_wiring(rows)
    assert node_types.tolist() == [9, 4, 13, 4, 7, 14]
    assert cells.tolist() == [0, 0, 0, 0, 1, 1]
    assert names.tolist() == [9, 20, 30, 21, 7, 14]
    assert in_degrees.tolist() == [0, 1, 0, 1, 3, 1]
    assert sources.tolist() == [0, 1, 1, 2, 3, 4]
    dtypes = [array.dtype for array in decode_wiring(rows)]
    assert dtypes == [np.uint8, np.uint8, np.uint16, np.uint8, np.int32]


# Row 0, 1, 2, 3: nodes 0 to 3; rows 4, 5, 6: the inputs of node 4; row 7: node 5.
FAULTS = {
    "node type out of range": (3, "node_type", len(PUBLISHED_NODE_TYPES)),
    "largest node type": (3, "node_type", 255),
    "node type of a second input": (5, "node_type", 8),
    "name out of range": (3, "name", len(NAMES)),
    "largest name": (0, "name", 65_535),
    "name of a second input": (6, "name", 8),
    "cells decrease": (3, "cell", 0),
    "cell of a second input": (5, "cell", 2),
    "source before node 0": (1, "back", 2),
    "source far before node 0": (7, "back", 65_535),
    "inputs of the first node": (0, "back", 1),
    "an input that is none": (5, "back", 0),
    "sources in the wrong order": (5, "back", 3),
    "the same source twice": (6, "back", 2),
    "first input is not number 0": (1, "input", 1),
    "very first input is not number 0": (0, "input", 1),
    "input numbers jump": (5, "input", 2),
    "input numbers repeat": (6, "input", 1),
    "largest input number": (6, "input", 255),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refused(rows: Rows, fault: str) -> None:
    row, field, value = FAULTS[fault]
    if fault == "cells decrease":
        rows["cell"][:3] = 1
    rows[row][field] = value
    with pytest.raises(IntegrityError, match=rf"row {row} of 8 is not part of any graph: \("):
        decode_wiring(rows)


def test_two_rows_of_a_source_node(rows: Rows) -> None:
    second = rows[:1].copy()
    second["input"] = 1
    with pytest.raises(IntegrityError, match="row 1 of 9"):
        decode_wiring(np.concatenate([rows[:1], second, rows[1:]]))
    second["back"] = 1  # before node 0
    with pytest.raises(IntegrityError, match="row 1 of 9"):
        decode_wiring(np.concatenate([rows[:1], second, rows[1:]]))


def test_no_rows() -> None:
    with pytest.raises(IntegrityError, match="no rows"):
        decode_wiring(np.zeros(0, WIRING))


def test_as_many_inputs_as_fit_their_type() -> None:
    sources = [(9, 0, 9, [])] * 300
    arrays = decode_wiring(rows_of(*sources, (7, 0, 7, list(range(255)))))
    assert arrays[3][-1] == 255
    too_many = rows_of(*sources, (7, 0, 7, list(range(255))))
    more = too_many[-1:].copy()
    for number in (255, 0):  # the next number, and what it wraps around to
        more["input"], more["back"] = number, 45
        result = np.concatenate([too_many, more])
        if number == 255:
            with pytest.raises(IntegrityError, match="row 555 of 556"):
                decode_wiring(result)
        else:
            assert len(decode_wiring(result)[0]) == 302  # another node, whose first input this is


def test_as_many_nodes_as_fit() -> None:
    node_types = decode_wiring(rows_of(*[(9, 0, 9, [])] * MAX_NODES))[0]
    assert len(node_types) == MAX_NODES


CHANGES = st.sampled_from(WIRING.names or ()).flatmap(
    lambda name: st.tuples(
        st.integers(0, 7), st.just(name), st.integers(0, 6) | st.integers(0, int(np.iinfo(WIRING[name]).max))
    )
)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=4), st.permutations(range(8)), st.integers(1, 8), st.booleans())
def test_any_rows_are_a_graph_or_refused(
    changes: list[tuple[int, str, int]], order: list[int], count: int, shuffled: bool
) -> None:
    """Arbitrary rows give an equal graph that `Graph` accepts, or an error; never a crash."""
    rows = sound_rows()
    for row, name, value in changes:
        rows[row][name] = value
    rows = rows[order if shuffled else list(range(count))]
    try:
        node_types, cells, names, in_degrees, sources = decode_wiring(rows)
    except IntegrityError:
        return
    assert Graph(node_types, cells, in_degrees, sources).num_nodes == len(node_types)
    parts = np.split(sources, np.cumsum(in_degrees)[:-1])
    again = zip(node_types.tolist(), cells.tolist(), names.tolist(), [part.tolist() for part in parts])
    assert np.array_equal(rows_of(*again), rows)
