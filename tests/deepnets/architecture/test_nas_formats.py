"""Genotypes of other search spaces: the same cells, and clear errors for everything else."""

from __future__ import annotations

import itertools
from collections import namedtuple

import numpy as np
import pytest
import torch

from deepnets import GENOTYPES, ConfigError, Genotype, Network, NetworkConfig, parse_genotype
from deepnets.architecture.nas_formats import DARTS_OPERATIONS, NAS201_EDGES, NAS201_OPERATIONS

NATS = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|"
DARTS = GENOTYPES["DARTS"]


def text_of(genotype: Genotype, concat: str = "range(2, 6)") -> str:
    normal, reduce = list(genotype.normal), list(genotype.reduce)
    return f"Genotype(normal={normal}, normal_concat={concat}, reduce={reduce}, reduce_concat={concat})"


def test_darts_texts_and_named_tuples() -> None:
    assert parse_genotype(text_of(DARTS)) == DARTS
    assert parse_genotype(f"  {text_of(DARTS, '[2, 3, 4, 5]')}\n") == DARTS
    fields = ("normal", "normal_concat", "reduce", "reduce_concat")
    made = namedtuple("Genotype", fields)(list(DARTS.normal), range(2, 6), list(DARTS.reduce), range(2, 6))
    assert parse_genotype(made) == DARTS
    assert parse_genotype(DARTS.to_dict()) == parse_genotype("DARTS") == parse_genotype(DARTS) == DARTS


def test_compact_darts_genotypes() -> None:
    compact = tuple(
        tuple((state, DARTS_OPERATIONS.index(op)) for op, state in cell) for cell in (DARTS.normal, DARTS.reduce)
    )
    assert parse_genotype(compact) == DARTS
    assert parse_genotype(str(compact)) == DARTS


def test_numbers_and_arrays_of_numpy() -> None:
    """Search algorithms draw them."""
    numbers = [2, 2, 0, 4, 1, 3]
    for form in (np.array(numbers), list(np.array(numbers)), tuple(np.array(numbers, np.int8)), torch.tensor(numbers)):
        assert parse_genotype(form) == parse_genotype(numbers)
    cells = [[(state, DARTS_OPERATIONS.index(op)) for op, state in cell] for cell in (DARTS.normal, DARTS.reduce)]
    for compact in (np.array(cells), [np.array(cell) for cell in cells], [[*map(tuple, np.array(c))] for c in cells]):
        assert parse_genotype(compact) == DARTS
        assert type(parse_genotype(compact).normal[0][1]) is int
    for wrong in (np.array([0.5] * 6), np.array(3), np.array([True] * 6)):
        with pytest.raises(ConfigError, match="genotype: expected a Genotype"):
            parse_genotype(wrong)


def value_of(cell: torch.nn.Module, s1: torch.Tensor, operations: list[str]) -> torch.Tensor:
    """The output of a cell of NAS-Bench-201 by its definition: a node is the sum of the operations on its edges."""
    place = dict(zip(NAS201_EDGES, (0, 2, 4, 3, 5, 7)))  # positions of the operations in our cell
    nodes = [s1]
    for target in (1, 2, 3):
        terms = [
            cell._ops[place[source, target]](nodes[source])
            for source in range(target)
            if operations[NAS201_EDGES.index((source, target))] != "none"
        ]
        nodes.append(sum(terms, torch.zeros_like(s1)))
    return nodes[3]


SAMPLES = [[2, 0, 3, 4, 1, 2], [3, 2, 0, 2, 4, 0], [0, 2, 2, 3, 0, 4]]


@pytest.mark.parametrize("numbers", SAMPLES)
def test_a_cell_of_nats_bench_computes_what_its_text_says(numbers: list[int]) -> None:
    operations = [NAS201_OPERATIONS[number] for number in numbers]
    config = NetworkConfig(parse_genotype(numbers), n_cells=3, C=8, norm="bnorm")
    cell = Network(config).cells[0]
    s0, s1 = (torch.randn(2, inputs.op[1].in_channels, 8, 8) for inputs in (cell.preprocess0, cell.preprocess1))
    expected = value_of(cell, cell.preprocess1(s1), operations)
    torch.testing.assert_close(cell(s0, s1), expected)


def test_texts_and_numbers_agree() -> None:
    numbers = [2, 0, 3, 4, 1, 2]
    assert (
        parse_genotype(NATS)
        == parse_genotype(numbers)
        == parse_genotype(tuple(numbers))
        == parse_genotype("[2,0,3,4,1,2]")
    )


def test_every_architecture_with_an_output_is_a_network() -> None:
    for numbers in itertools.islice(itertools.product(range(5), repeat=6), 0, None, 613):
        genotype = parse_genotype(numbers)
        assert genotype.steps == 4
        assert genotype.normal_concat == (5,)
        NetworkConfig(genotype, n_cells=17, C=16)


WRONG = [
    "16:24:32:40:48",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|+|skip_connect~0|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~0|+|none~0|none~1|none~2|",
    "Genotype(normal=__import__('os').system('true'))",
    "Genotype(*[1])",
    "Genotype(normal=range(10**9))",
    "(" * 5000,
    "[" * 9000 + "]" * 9000,
    "",
    [2, 2, 0, 4, 1],
    [2, 2, 0, 4, 1, 5],
    [2, 2, 0, 4, 1, True],
    [[(0, 1)], [(0, 1)]],
    [[(0, 9)] * 8, [(0, 1)] * 8],
    [1, 2],
    None,
    3.5,
]


@pytest.mark.parametrize("genotype", WRONG, ids=lambda value: str(value)[:20])
def test_other_values_are_one_error(genotype: object) -> None:
    with pytest.raises(ConfigError, match="genotype"):
        parse_genotype(genotype)


def test_unknown_operations_are_named() -> None:
    with pytest.raises(ConfigError, match=r"has the operations .* got 'zeroize'"):
        parse_genotype(NATS.replace("none", "zeroize"))
    with pytest.raises(ConfigError, match="unknown primitive 'sep_conv_7x7'"):
        parse_genotype(text_of(DARTS).replace("sep_conv_3x3", "sep_conv_7x7"))
