"""Configurations as records: encoding and decoding are inverse, and arbitrary records can be read safely."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepnets import GENOTYPES, NODE_TYPES, PRIMITIVES, ConfigError, NetworkConfig, build_graph
from deepnets.architecture import ARCHITECTURE, MAX_STEPS, NORMAL, NORMS, PADDING, REDUCE, decode, encode
from tests.support.strategies import configs, has_output

MEANINGFUL = [name for name in ARCHITECTURE.names or () if name not in ("ops", "states")]


def example() -> np.ndarray:
    return encode([NetworkConfig(GENOTYPES["DARTS"], 8)])


@settings(max_examples=200, deadline=None)
@given(st.lists(configs(max_steps=MAX_STEPS, max_cells=200, widths=(2, 8, 34, 65_528), max_fc_dim=65_535), max_size=3))
def test_inverse(networks: list[NetworkConfig]) -> None:
    records = encode(networks)
    assert records.shape == (len(networks),)
    assert records.dtype == ARCHITECTURE
    assert [decode(record) for record in records] == networks
    assert encode(decode(record) for record in records).tobytes() == records.tobytes()


def test_meaning_of_a_record() -> None:
    """The numbers are part of the file format; a change would change the meaning of existing files."""
    config = NetworkConfig(GENOTYPES["PDARTS"], 20, C=36, ks=5, stem_pool=True, norm="bn", fc_layers=2, fc_dim=300)
    record = encode([config])[0]
    plain = [int(record[name]) for name in MEANINGFUL if name != "concat"]
    assert list(ARCHITECTURE.names or ()) == [
        *("n_cells", "ks", "stem_type", "stem_pool", "norm", "preproc", "C_mult", "glob_avg", "fc_layers"),
        *("imagenet_stride", "C", "fc_dim", "concat", "steps", "ops", "states"),
    ]
    assert plain == [20, 5, 0, 1, 2, 1, 2, 1, 2, 4, 36, 300, 4]
    assert record["concat"].tolist() == [0b111100, 0b111100]
    for kind, genes in ((NORMAL, config.genotype.normal), (REDUCE, config.genotype.reduce)):
        assert record["ops"][kind].tolist() == [PRIMITIVES.index(op) for op, _ in genes] + [PADDING] * 12
        assert record["states"][kind].tolist() == [state for _, state in genes] + [PADDING] * 12
    assert (NORMAL, REDUCE, PADDING, ARCHITECTURE.itemsize) == (0, 1, 255, 100)


def test_any_mapping_of_the_fields_can_be_decoded() -> None:
    record = example()[0]
    assert decode({name: record[name] for name in ARCHITECTURE.names or ()}) == decode(record)
    with pytest.raises(ConfigError, match=r"norm: expected one of .*; got '#-1'"):
        decode({**{name: record[name] for name in ARCHITECTURE.names or ()}, "norm": -1})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n_cells", 0, "n_cells: expected an integer, 1 to 200; got 0"),
        ("n_cells", 201, "n_cells: expected an integer, 1 to 200; got 201"),
        ("steps", 0, "steps: expected an integer, 1 to 10; got 0"),
        ("steps", MAX_STEPS + 1, "steps: expected an integer, 1 to 10; got 11"),
        ("steps", 255, "steps: expected an integer, 1 to 10; got 255"),
        ("steps", 5, r"genotype normal\[8\]: unknown primitive '#255'"),
        ("norm", len(NORMS), "norm: expected one of None, bnorm, bn, bn-track; got '#4'"),
        ("stem_pool", 2, "stem_pool: expected true or false, got 2"),
        ("preproc", 2, "preproc: expected true or false, got 2"),
        ("glob_avg", 255, "glob_avg: expected true or false, got 255"),
        ("ks", 4, "ks: expected an integer, 3 or 5 or 7; got 4"),
        ("ops", len(PRIMITIVES), r"genotype normal\[0\]: unknown primitive '#15'"),
        ("states", 2, r"genotype normal\[0\] state: expected an integer, 0 to 1; got 2"),
        ("concat", 0, "genotype normal_concat: expected one or more states"),
        ("concat", 0b111101, "genotype normal_concat: expected an integer, 2 to 5; got 0"),
        ("concat", 1 << 15, "genotype normal_concat: expected an integer, 2 to 5; got 15"),
        ("C", 0, "C: expected an integer, 2 to 65535; got 0"),
        ("C", 65_535, "C: must be even"),
    ],
)
def test_invalid_records(field: str, value: int, message: str) -> None:
    record = example()
    record[field] = value
    with pytest.raises(ConfigError, match=message):
        decode(record[0])


def assert_safe(record: np.ndarray) -> None:
    """Check that a record is rejected, or has the same meaning for compiled code, which reads the record directly."""
    try:
        config = decode(record[0])
    except ConfigError:
        return
    again = encode([config])
    for name in MEANINGFUL:
        assert np.array_equal(again[name], record[name]), name
    pairs = 2 * config.genotype.steps
    for name in ("ops", "states"):
        assert np.array_equal(again[name][:, :, :pairs], record[name][:, :, :pairs])
    if config.n_cells < 20 and has_output(config):
        assert build_graph(config).node_types[0] == NODE_TYPES.index("input")


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=ARCHITECTURE.itemsize, max_size=ARCHITECTURE.itemsize))
def test_any_bytes_are_safe(content: bytes) -> None:
    assert_safe(np.frombuffer(content, ARCHITECTURE))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    configs(max_steps=3, max_cells=8),
    st.lists(st.tuples(st.integers(0, ARCHITECTURE.itemsize - 1), st.integers(0, 255) | st.integers(0, 4)), max_size=3),
)
def test_damaged_bytes_are_safe(config: NetworkConfig, damage: list[tuple[int, int]]) -> None:
    content = bytearray(encode([config]).tobytes())
    for place, value in damage:
        content[place] = value
    assert_safe(np.frombuffer(bytes(content), ARCHITECTURE))
