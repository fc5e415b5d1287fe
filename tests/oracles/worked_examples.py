"""Architectures with known answers (spec/deepnets-1m.md, sections 1.7 and 3.8).

The five small examples were derived by hand and agree with the tracer of the original release; the eleven `STREAM`
networks were made by its generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deepnets.architecture import Genotype, NetworkConfig

__all__ = ["EXAMPLES", "STREAM", "Example", "StreamNetwork", "example_parameters", "genes"]

_SHORT = {
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
}


def genes(text: str) -> list[tuple[str, int]]:
    """Read `"skip 0, sep3 1"`."""
    pairs = (pair.split() for pair in text.split(","))
    return [(_SHORT.get(op, op), int(state)) for op, state in pairs]


def _genotype(normal: str, concat: list[int], reduce: str) -> Genotype:
    return Genotype(normal=genes(normal), normal_concat=concat, reduce=genes(reduce), reduce_concat=concat)


@dataclass(frozen=True)
class Example:
    """One of the examples V1 to V5, with 10 classes.

    Attributes
    ----------
    nodes
        (type, parameter or "", cell) in canonical order, dead nodes left out; None if the specification lists none.
    edges
        Pairs of positions in `nodes`, or None.
    counts
        Numbers of nodes and edges.
    num_params
        Number of parameters for 32 and for 224 pixels.
    distances
        Number of ordered reachable pairs, the sum of their distances and the largest one.
    """

    config: NetworkConfig
    nodes: tuple[tuple[str, str, int], ...] | None
    edges: frozenset[tuple[int, int]] | None
    counts: tuple[int, int]
    num_params: tuple[int, int]
    distances: tuple[int, int, int]


def _nodes(text: str) -> tuple[tuple[str, str, int], ...]:
    """Parse lines `cell: type name | type name | type`, where names omit the prefix of the cell and `.weight`."""
    nodes = []
    for line in text.strip().splitlines():
        cell, _, items = line.partition(":")
        for item in items.split("|"):
            kind, _, name = item.strip().partition(" ")
            if name and not name.startswith(("stem", "pos_enc", "classifier")):
                name = f"cells.{int(cell)}.{name.replace('pre', 'preprocess')}"
            if name:
                name += ".bias" if kind == "bias" else ".weight"
            nodes.append((kind, name, int(cell)))
    return tuple(nodes)


def _edges(text: str) -> frozenset[tuple[int, int]]:
    return frozenset((int(a), int(b)) for a, b in (edge.split(">") for edge in text.split()))


EXAMPLES = {
    "V1": Example(
        NetworkConfig(
            _genotype("conv_3x3 0, skip 1", [2], "max 0, avg 1"), n_cells=4, norm=None, preproc=False, C_mult=1
        ),
        _nodes("""
            0: input | conv stem.0 | conv _ops.0.op.1 | sum
            1: max_pool | avg_pool | sum
            2: max_pool | avg_pool | sum
            3: conv _ops.0.op.1 | sum | glob_avg | conv classifier.0 | bias classifier.0
        """),
        _edges("0>1 1>2 1>3 1>4 2>3 3>5 3>7 4>6 5>6 6>8 6>10 7>9 8>9 9>11 10>11 11>12 12>13 13>14"),
        counts=(15, 18),
        num_params=(19626, 19626),
        distances=(95, 295, 8),
    ),
    "V2": Example(
        NetworkConfig(
            _genotype("conv_3x3 0, skip 1", [2], "skip 1, max 0"), n_cells=4, stem_type=1, norm="bnorm", fc_layers=2
        ),
        _nodes("""
            0: input | conv stem0.0 | bn stem0.1 | conv stem0.3 | bn stem0.4 | conv stem1.1 | bn stem1.2
            0: conv pre0.conv_1 | conv pre0.conv_2 | concat | bn pre0.bn | conv pre1.op.1 | bn pre1.op.2
            0: conv _ops.0.op.1 | bn _ops.0.op.2 | sum
            1: conv pre0.op.1 | bn pre0.op.2 | conv pre1.op.1 | bn pre1.op.2
            1: conv _ops.0.conv_1 | conv _ops.0.conv_2 | concat | bn _ops.0.bn | max_pool | sum
            2: conv pre0.conv_1 | conv pre0.conv_2 | concat | bn pre0.bn | conv pre1.op.1 | bn pre1.op.2
            2: conv _ops.0.conv_1 | conv _ops.0.conv_2 | concat | bn _ops.0.bn | max_pool | sum
            3: conv pre0.conv_1 | conv pre0.conv_2 | concat | bn pre0.bn | conv pre1.op.1 | bn pre1.op.2
            3: conv _ops.0.op.1 | bn _ops.0.op.2 | sum | glob_avg
            3: conv classifier.0 | bias classifier.0 | conv classifier.3 | bias classifier.3
        """),
        _edges("""
            0>1 1>2 2>3 3>4 4>5 4>7 4>8 5>6 6>11 6>16 7>9 8>9 9>10 10>13 11>12 12>15 13>14 14>15 15>18 15>26 15>27
            16>17 17>24 18>19 19>20 19>21 20>22 21>22 22>23 23>25 24>25 25>30 25>38 25>39 26>28 27>28 28>29 29>36
            30>31 31>32 31>33 32>34 33>34 34>35 35>37 36>37 37>42 38>40 39>40 40>41 41>44 42>43 43>46 44>45 45>46
            46>47 47>48 48>49 49>50 50>51
        """),
        counts=(52, 60),
        num_params=(272282, 272282),
        distances=(1088, 8364, 21),
    ),
    "V3": Example(
        NetworkConfig(_genotype("msa 1, cse 0", [2], "avg 0, skip 1"), n_cells=3, preproc=False, C_mult=1),
        _nodes("""
            0: input | conv stem0 | pos_enc pos_enc | sum
            0: ln _ops.0.ln1 | conv _ops.0.to_qkv | msa | conv _ops.0.to_out.0 | bias _ops.0.to_out.0 | sum
            0: ln _ops.0.ln2 | conv _ops.0.ff.net.0 | bias _ops.0.ff.net.0
            0: conv _ops.0.ff.net.3 | bias _ops.0.ff.net.3 | sum
            0: conv _ops.1.fc1 | bias _ops.1.fc1 | conv _ops.1.fc2 | bias _ops.1.fc2 | cse | sum
            1: avg_pool | sum
            2: avg_pool | sum | glob_avg | conv classifier.0 | bias classifier.0
        """),
        _edges("""
            0>1 1>3 2>3 3>4 3>9 3>16 3>20 3>22 4>5 5>6 6>7 7>8 8>9 9>10 9>15 10>11 11>12 12>13 13>14 14>15 15>21
            16>17 17>18 18>19 19>20 20>21 21>23 21>24 22>23 23>25 24>25 25>26 26>27 27>28
        """),
        counts=(29, 34),
        num_params=(12506, 38618),
        distances=(324, 1455, 12),
    ),
    "V4": Example(
        NetworkConfig(
            _genotype("none 0, conv_7x1_1x7 1, skip 2, none 0", [3], "max 1, conv_3x3 0, none 2, avg 1"),
            n_cells=4,
            stem_pool=True,
        ),
        _nodes("""
            0: input | conv stem.0 | bn stem.1 | max_pool
            0: conv pre1.op.1 | bn pre1.op.2 | conv _ops.1.op.1 | conv _ops.1.op.2 | bn _ops.1.op.3
            1: conv pre1.op.1 | bn pre1.op.2 | avg_pool
            2: conv pre1.op.1 | bn pre1.op.2 | avg_pool
            3: conv pre1.op.1 | bn pre1.op.2 | conv _ops.1.op.1 | conv _ops.1.op.2 | bn _ops.1.op.3
            3: glob_avg | conv classifier.0 | bias classifier.0
        """),
        frozenset((i, i + 1) for i in range(22)),
        counts=(23, 22),
        num_params=(485418, 475370),
        distances=(253, 2024, 22),
    ),
    "V5": Example(
        NetworkConfig(
            _genotype("none 0, none 1, sep3 0, skip 1", [2, 3], "dil5 1, none 0, skip 0, max 2"),
            n_cells=4,
            C_mult=1,
            glob_avg=False,
        ),
        nodes=None,
        edges=None,
        counts=(59, 68),
        num_params=(75178, 151658),
        distances=(1249, 10286, 23),
    ),
}


# One module per line, "prefix: name=shape ..."; bn8 is a norm of 8 channels, lin4x8 a linear layer with its bias.
_PARAMETERS = {
    "V1": """
        stem: 0=32x3x3x3
        cells.0._ops.0: op.1=32x32x3x3
        cells.3._ops.0: op.1=32x32x3x3
        classifier: 0=lin10x32
    """,
    "V2": """
        stem0: 0=16x3x3x3 1=bn16 3=32x16x3x3 4=bn32
        stem1: 1=32x32x3x3 2=bn32
        cells.0.preprocess0: conv_1=16x32x1x1 conv_2=16x32x1x1 bn=bn32
        cells.0.preprocess1: op.1=32x32x1x1 op.2=bn32
        cells.0._ops.0: op.1=32x32x3x3 op.2=bn32
        cells.1.preprocess0: op.1=64x32x1x1 op.2=bn64
        cells.1.preprocess1: op.1=64x32x1x1 op.2=bn64
        cells.1._ops.0: conv_1=32x64x1x1 conv_2=32x64x1x1 bn=bn64
        cells.2.preprocess0: conv_1=64x32x1x1 conv_2=64x32x1x1 bn=bn128
        cells.2.preprocess1: op.1=128x64x1x1 op.2=bn128
        cells.2._ops.0: conv_1=64x128x1x1 conv_2=64x128x1x1 bn=bn128
        cells.3.preprocess0: conv_1=64x64x1x1 conv_2=64x64x1x1 bn=bn128
        cells.3.preprocess1: op.1=128x128x1x1 op.2=bn128
        cells.3._ops.0: op.1=128x128x3x3 op.2=bn128
        classifier: 0=lin256x128 3=lin10x256
    """,
    "V3": """
        : stem0=32x3x3x3 pos_enc=1x32x11x11
        cells.0._ops.0: to_qkv=96x32 to_out.0=lin32x32 ln1=bn32 ln2=bn32 ff.net.0=lin32x32 ff.net.3=lin32x32
        cells.0._ops.1: fc1=lin16x32 fc2=lin32x16
        classifier: 0=lin10x32
    """,
    "V4": """
        stem: 0=96x3x3x3 1=bn96
        cells.0.preprocess0: op.1=32x96x1x1 op.2=bn32
        cells.0.preprocess1: op.1=32x96x1x1 op.2=bn32
        cells.0._ops.1: op.1=32x32x1x7 op.2=32x32x7x1 op.3=bn32
        cells.1.preprocess0: op.1=64x96x1x1 op.2=bn64
        cells.1.preprocess1: op.1=64x32x1x1 op.2=bn64
        cells.1._ops.1: op.1=64x64x3x3 op.2=bn64
        cells.2.preprocess0: conv_1=64x32x1x1 conv_2=64x32x1x1 bn=bn128
        cells.2.preprocess1: op.1=128x64x1x1 op.2=bn128
        cells.2._ops.1: op.1=128x128x3x3 op.2=bn128
        cells.3.preprocess0: conv_1=64x64x1x1 conv_2=64x64x1x1 bn=bn128
        cells.3.preprocess1: op.1=128x128x1x1 op.2=bn128
        cells.3._ops.1: op.1=128x128x1x7 op.2=128x128x7x1 op.3=bn128
        classifier: 0=lin10x128
    """,
    "V5": """
        stem: 0=96x3x3x3 1=bn96
        cells.0.preprocess0: op.1=32x96x1x1 op.2=bn32
        cells.0.preprocess1: op.1=32x96x1x1 op.2=bn32
        cells.0._ops.2: op.1=32x1x3x3 op.2=32x32x1x1 op.3=bn32 op.5=32x1x3x3 op.6=32x32x1x1 op.7=bn32
        cells.1.preprocess0: op.1=32x96x1x1 op.2=bn32
        cells.1.preprocess1: op.1=32x64x1x1 op.2=bn32
        cells.1._ops.0: op.1=32x1x5x5 op.2=32x32x1x1 op.3=bn32
        cells.1._ops.2: conv_1=16x32x1x1 conv_2=16x32x1x1 bn=bn32
        cells.2.preprocess0: conv_1=16x64x1x1 conv_2=16x64x1x1 bn=bn32
        cells.2.preprocess1: op.1=32x64x1x1 op.2=bn32
        cells.2._ops.0: op.1=32x1x5x5 op.2=32x32x1x1 op.3=bn32
        cells.2._ops.2: conv_1=16x32x1x1 conv_2=16x32x1x1 bn=bn32
        cells.3.preprocess0: conv_1=16x64x1x1 conv_2=16x64x1x1 bn=bn32
        cells.3.preprocess1: op.1=32x64x1x1 op.2=bn32
        cells.3._ops.2: op.1=32x1x3x3 op.2=32x32x1x1 op.3=bn32 op.5=32x1x3x3 op.6=32x32x1x1 op.7=bn32
        classifier: 0=lin10x4096
    """,
}


def example_parameters(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Return (name, shape) of the parameters of an example, for 32 pixels, in the order of registration."""
    for line in _PARAMETERS[name].strip().splitlines():
        prefix, _, layers = line.strip().partition(":")
        for layer in layers.split():
            layer_name, _, shape = layer.partition("=")
            sizes = tuple(map(int, shape.lstrip("bnli").split("x")))
            parameter = f"{prefix}.{layer_name}".lstrip(".")
            yield f"{parameter}.weight", sizes
            if shape.startswith(("bn", "lin")):
                yield f"{parameter}.bias", sizes[:1]


@dataclass(frozen=True)
class StreamNetwork:
    """A network of the original generator, C = 32 and 10 classes; its attributes are those of `Example`."""

    config: NetworkConfig
    num_params: tuple[int, int]
    counts: tuple[int, int]
    distances: tuple[int, int, int]


def _stream(values: str, normal: str, concat: list[int], reduce: str, params: str, g: str, d: str) -> StreamNetwork:
    """Parse one row; `values` are L, stem_type, stem_pool, norm, preproc, fc_layers, glob_avg, ks, C_mult."""
    fields = values.split(",")
    return StreamNetwork(
        NetworkConfig(
            _genotype(normal, concat, reduce),
            n_cells=int(fields[0]),
            stem_type=int(fields[1]),
            stem_pool=fields[2] == "T",
            norm={"bn": "bnorm", "none": None}[fields[3]],
            preproc=fields[4] == "T",
            fc_layers=int(fields[5]),
            glob_avg=fields[6] == "T",
            ks=int(fields[7]),
            C_mult=int(fields[8]),
        ),
        num_params=tuple(map(int, params.split("/"))),
        counts=tuple(map(int, g.split("/"))),
        distances=tuple(map(int, d.split("/"))),
    )


# fmt: off
STREAM = {
    "val 0": _stream(
        "16,1,F,bn,T,1,T,5,2", "conv_1x1 1, msa 0, msa 2, cse 1", [2, 3], "max 0, max 1, max 0, skip 2",
        "1909818/1935930", "559/676", "146681/3308501/59",
    ),
    "val 1": _stream(
        "10,0,F,bn,T,2,T,5,2",
        "none 0, dil5 1, msa 1, sep5 2, max 2, conv_5x5 0, conv_3x3 0, dil5 3", [2, 3, 4, 5],
        "sep3 1, msa 0, avg 2, conv_1x1 0, conv_7x1_1x7 2, max 3, conv_1x1 1, skip 3",
        "3885802/3911914", "377/458", "65036/1122732/43",
    ),
    "val 2": _stream(
        "4,1,F,none,T,2,T,7,2", "conv_7x1_1x7 0, sep3 1, sep5 2, max 1", [2, 3], "none 0, max 1, none 0, max 2",
        "490682/490682", "53/62", "1273/10558/21",
    ),
    "val 3": _stream(
        "7,0,F,bn,T,2,T,3,2",
        "dil5 0, conv_5x5 1, avg 1, dil3 2, sep5 3, msa 1, avg 4, none 2", [2, 3, 4, 5],
        "skip 0, max 1, skip 0, avg 1, max 0, skip 3, max 4, none 3",
        "1884682/1910794", "213/264", "20541/267394/32",
    ),
    "test 0": _stream(
        "9,1,F,bn,T,2,T,5,2", "conv_1x1 1, msa 0", [2], "max 0, avg 1",
        "453866/479978", "156/178", "10304/131899/31",
    ),
    "test 1": _stream(
        "4,1,F,bn,T,1,T,7,2", "dil3 0, conv_7x7 1, dil5 1, sep5 0", [2, 3], "skip 1, conv_1x1 0, max 0, max 1",
        "1081626/1081626", "88/104", "2982/27377/22",
    ),
    "test 2": _stream(
        "8,1,F,bn,T,2,T,5,1", "conv_7x7 0, sep5 1", [2], "skip 0, avg 1",
        "369882/369882", "116/128", "5921/82630/34",
    ),
    "test 3": _stream(
        "13,1,F,bn,T,2,T,5,2", "dil3 0, sep3 1, msa 0, conv_1x1 2", [3], "max 1, max 0, avg 0, skip 2",
        "1072650/1098762", "346/393", "52885/1056147/54",
    ),
    "deep 1": _stream(
        "17,0,F,bn,T,1,T,3,1", "conv_1x1 0, conv_5x5 1, none 0, sep5 2", [3], "max 0, skip 1, none 0, avg 1",
        "506346/498346", "241/257", "27890/1048361/106",
    ),
    "search 1": _stream(
        "6,0,T,bn,F,2,T,5,1", "conv_7x7 0, msa 1", [2], "msa 0, sep5 1",
        "262474/288586", "107/124", "4963/44943/23",
    ),
    "bnfree 1": _stream(
        "4,0,F,none,T,1,T,7,2", "dil3 0, conv_7x7 1, dil5 1, sep5 0", [2, 3], "skip 1, conv_1x1 0, max 0, max 1",
        "1083818/1066218", "59/74", "1327/8568/17",
    ),
}
# fmt: on
