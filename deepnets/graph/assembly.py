"""The walk through an encoded architecture that writes its computational graph: compiled, torch-free.

Every tensor is known by the node that produced it, so an absent tensor (the result of `none`) has no node, a layer
behind it never receives data, and a sum of one present tensor is that tensor.  Layers are visited in the order in which
data flows: stem, cells, head.  What comes out is the graph in *canonical order*, topological and cell by cell.

The rules are those of Knyazev et al. (NeurIPS 2021), section 3 and appendix A, made exact; the data card states them.
`deepnets.graph.build` is what users call; the generator calls `assemble` in a loop.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.architecture import NORMAL, REDUCE
from deepnets.architecture import codes as names
from deepnets.support import compiled

__all__ = ["ABSENT", "NODE", "Tape", "assemble", "contains", "new_tape"]

ABSENT = -1  # a tensor that is never computed
_NO_INPUT = -2  # the source of the nodes that data starts from

# --- what the walk writes -------------------------------------------------------------------------------------------

NODE = np.dtype(
    [
        ("node_type", "u1"),
        ("cell", "u1"),
        ("in_degree", "u1"),
        ("name", "<u2"),  # index into names.NAMES
        # The shape of the parameter: all four of a convolution, the first two of a linear layer, the first of a vector.
        ("out", "<i4"),
        ("inputs", "<i4"),
        ("height", "<i4"),
        ("width", "<i4"),
    ],
    align=True,
)


class Tape(NamedTuple):
    """What one walk writes: nodes in canonical order, the sources of each (ascending), layers that get no data."""

    nodes: npt.NDArray[np.void]
    sources: npt.NDArray[np.int32]
    unused: npt.NDArray[np.void]
    counters: npt.NDArray[np.int64]


N_NODES, N_EDGES, N_UNUSED, N_PARAMETERS, _CELL = range(5)


MAX_OPERATION_NODES = 12
"""Most nodes that a primitive makes: those of attention.  Compiled code relies on it."""


def new_tape(n_cells: int, steps: int) -> Tape:
    """A tape long enough for every network of up to this many cells and steps."""
    # Per cell: preprocessing, two operations and a sum per step, a concatenation.
    per_cell = 2 * 4 + steps * (2 * MAX_OPERATION_NODES + 1) + 1
    capacity = 1 + 7 + n_cells * per_cell + 1 + 2 * names.MAX_CLASSIFIER_LAYERS
    # One edge into every node, and more into sums (one per step, two per msa), concatenations and products.
    more_edges = 1 + n_cells * (1 + steps * (1 + 2 * 2) + steps)
    return Tape(
        np.zeros(capacity, NODE),
        np.zeros(capacity + more_edges, np.int32),
        np.zeros(capacity, NODE),
        np.zeros(5, np.int64),
    )


# Small functions that take arrays rather than the tape are inlined, and with them the counting of references to arrays.


@compiled
def _describe(
    rows: npt.NDArray[np.void],
    n: int,
    node_type: int,
    cell: int,
    name: int,
    out: int,
    inputs: int,
    height: int,
    width: int,
) -> None:
    row = rows[n]
    row.node_type = node_type
    row.cell = cell
    row.name = name
    row.out = out
    row.inputs = inputs
    row.height = height
    row.width = width


@compiled
def _connect(
    nodes: npt.NDArray[np.void],
    sources: npt.NDArray[np.int32],
    counters: npt.NDArray[np.int64],
    node: int,
    source: int,
) -> None:
    """The first edge into a node, if it has any."""
    row = nodes[node]
    if source == _NO_INPUT:
        row.in_degree = 0
    else:
        row.in_degree = 1
        edge = counters[N_EDGES]
        sources[edge] = source
        counters[N_EDGES] = edge + 1


@compiled
def _append(tape: Tape, node_type: int, source: int) -> int:
    """The next node, without parameters, with one source or none."""
    counters = tape.counters
    n = counters[N_NODES]
    counters[N_NODES] = n + 1
    _describe(tape.nodes, n, node_type, counters[_CELL], node_type, 0, 0, 0, 0)
    _connect(tape.nodes, tape.sources, counters, n, source)
    return n  # type: ignore[no-any-return]


@compiled
def _plain(tape: Tape, node_type: int, source: int) -> int:
    """A node without parameters; none behind an absent tensor."""
    return ABSENT if source == ABSENT else _append(tape, node_type, source)


@compiled
def _layer(
    tape: Tape, node_type: int, name: int, source: int, out: int, inputs: int = 0, height: int = 0, width: int = 0
) -> int:
    """A node with a parameter; where no data arrives, the parameter is only noted and counted."""
    counters = tape.counters
    tensors = 2 if node_type in (names.NORM, names.LN) else 1  # the weight and the bias of a norm are one node
    counters[N_PARAMETERS] += tensors * out * max(inputs, 1) * max(height, 1) * max(width, 1)
    if source == ABSENT:
        n = counters[N_UNUSED]
        counters[N_UNUSED] = n + 1
        _describe(tape.unused, n, node_type, counters[_CELL], name, out, inputs, height, width)
        return ABSENT
    n = counters[N_NODES]
    counters[N_NODES] = n + 1
    _describe(tape.nodes, n, node_type, counters[_CELL], name, out, inputs, height, width)
    _connect(tape.nodes, tape.sources, counters, n, source)
    return n  # type: ignore[no-any-return]


@compiled
def _join(tape: Tape, node_type: int, a: int, b: int) -> int:
    """A sum, product or concatenation of two tensors; where one is absent, or both are the same, there is just one."""
    if a in (ABSENT, b):
        return b
    if b == ABSENT:
        return a
    node = _append(tape, node_type, min(a, b))
    _add_source(tape, node, max(a, b))
    return node


@compiled
def _add_source(tape: Tape, node: int, source: int) -> None:
    """One more edge into the last node; sources are added in increasing order."""
    tape.nodes[node].in_degree += 1
    tape.sources[tape.counters[N_EDGES]] = source
    tape.counters[N_EDGES] += 1


@compiled
def _concatenate(tape: Tape, tensors: npt.NDArray[np.int64]) -> int:
    """The concatenation of the distinct tensors that are present; of a single one, that one itself.

    Absent tensors are filled up with zeros, which leaves no trace in the graph.
    """
    tensors.sort()
    node = first = previous = ABSENT
    for tensor in tensors:
        if tensor == previous:  # the same again, or absent
            continue
        if first == ABSENT:
            first = tensor
        else:
            if node == ABSENT:
                node = _append(tape, names.CONCAT, first)
            _add_source(tape, node, tensor)
        previous = tensor
    return first if node == ABSENT else node


@compiled
def _linear(tape: Tape, name: int, x: int, out: int, inputs: int) -> int:
    x = _layer(tape, names.CONV, name, x, out, inputs)
    return _layer(tape, names.BIAS, name + 1, x, out)


@compiled
def _convolution(tape: Tape, name: int, x: int, out: int, inputs: int, kernel: int, norm: bool) -> int:
    x = _layer(tape, names.CONV, name, x, out, inputs, kernel, kernel)
    return _layer(tape, names.NORM, name + 1, x, out) if norm else x


@compiled
def _separable(tape: Tape, kind: int, name: int, x: int, out: int, inputs: int, kernel: int, norm: bool) -> int:
    """A depthwise and a pointwise convolution, and a norm."""
    x = _layer(tape, kind, name, x, inputs, 1, kernel, kernel)
    return _convolution(tape, name + 1, x, out, inputs, 1, norm)


@compiled
def _factorized_reduce(tape: Tape, group: int, x: int, out: int, inputs: int, norm: bool) -> int:
    """Halve the resolution: two strided 1x1 convolutions on shifted grids, concatenated."""
    first_half = _layer(tape, names.CONV, group + names.CONV_1, x, out // 2, inputs, 1, 1)
    second_half = _layer(tape, names.CONV, group + names.CONV_2, x, out // 2, inputs, 1, 1)
    y = _join(tape, names.CONCAT, first_half, second_half)
    return _layer(tape, names.NORM, group + names.BN, y, out) if norm else y


@compiled
def _squeeze_excite(tape: Tape, group: int, x: int, width: int) -> int:
    """Channel-wise attention: scale every channel by a small network of all channels' means (the means are no node)."""
    gate = _linear(tape, group + names.FC1, x, width // 2, width)
    gate = _linear(tape, group + names.FC2, gate, width, width // 2)
    return _join(tape, names.CSE, x, gate)


@compiled
def _attention(tape: Tape, group: int, x: int, width: int) -> int:
    """A pre-norm transformer block of eight heads."""
    y = _layer(tape, names.LN, group + names.LN1, x, width)
    y = _layer(tape, names.CONV, group + names.TO_QKV, y, 3 * 8 * (width // 8), width)
    y = _plain(tape, names.MSA, y)
    y = _linear(tape, group + names.TO_OUT, y, width, 8 * (width // 8))
    x = _join(tape, names.SUM, x, y)
    y = _layer(tape, names.LN, group + names.LN2, x, width)
    y = _linear(tape, group + names.FF0, y, width, width)
    y = _linear(tape, group + names.FF3, y, width, width)
    return _join(tape, names.SUM, x, y)


@compiled
def _operation(tape: Tape, op: int, group: int, x: int, width: int, strided: bool, norm: bool) -> int:
    """One primitive of a genotype.  Widths in and out are equal: preprocessing sees to that."""
    w = width
    if op == names.NONE:
        return ABSENT
    if op == names.MAX:
        return _plain(tape, names.MAX_POOL, x)
    if op == names.AVG:
        return _plain(tape, names.AVG_POOL, x)
    if op == names.SKIP:
        return _factorized_reduce(tape, group, x, w, w, norm) if strided else x
    if op in (names.SEP3, names.SEP5):
        kernel = 3 if op == names.SEP3 else 5
        x = _separable(tape, names.SEP_CONV, group + names.OP_1, x, w, w, kernel, norm)
        return _separable(tape, names.SEP_CONV, group + names.OP_5, x, w, w, kernel, norm)
    if op in (names.DIL3, names.DIL5):
        return _separable(tape, names.DIL_CONV, group + names.OP_1, x, w, w, 3 if op == names.DIL3 else 5, norm)
    if op == names.C71:
        x = _layer(tape, names.CONV, group + names.OP_1, x, w, w, 1, 7)
        x = _layer(tape, names.CONV, group + names.OP_2, x, w, w, 7, 1)
        return _layer(tape, names.NORM, group + names.OP_3, x, w) if norm else x
    if op == names.SQUEEZE:
        return _squeeze_excite(tape, group, x, w)
    if op == names.ATTENTION:
        return _attention(tape, group, x, w)
    if op not in (names.C1, names.C3, names.C5, names.C7):
        raise ValueError("a primitive without a case in the walk")
    kernel = 1 if op == names.C1 else (3 if op == names.C3 else (5 if op == names.C5 else 7))
    return _convolution(tape, group + names.OP_1, x, w, w, kernel, norm)


@compiled
def contains(net: Any, op: int) -> bool:
    """Whether a primitive (an index) occurs in either kind of cell of an encoded architecture."""
    for kind in (NORMAL, REDUCE):
        for j in range(2 * net.steps):
            if net.ops[kind, j] == op:
                return True
    return False


@compiled
def _bits(mask: int) -> int:
    n = 0
    while mask:
        n += mask & 1
        mask >>= 1
    return n


@compiled
def assemble(net: Any, C: int, fc_dim: int, num_classes: int, image_size: int, tape: Tape) -> int:
    """Walk one encoded architecture and write its graph onto the tape.

    Parameters
    ----------
    net
        A record of `ARCHITECTURE`, from a valid config.
    C, fc_dim
        Width and hidden classifier width, in place of the record's own.
    num_classes, image_size
        Outputs of the classifier, side of the images (one of `IMAGE_SIZES`).
    tape
        Overwritten; made by `new_tape` for at least as many cells and steps.

    Returns
    -------
    The number of parameters the network has, those of dead and unused layers included, or -1 if it has no output
    because `none` cut every path.
    """
    tape.counters[:] = 0
    n_cells = net.n_cells
    preproc = net.preproc == 1
    norm = net.norm != 0
    small = image_size == 32
    vit = contains(net, names.ATTENTION)

    # Stem: s0 and s1 are the two tensors that the next cell reads, c0 and c1 their channels.
    x = _append(tape, names.INPUT, _NO_INPUT)
    c0 = c1 = C
    if vit:
        patch, grid = (3, 11) if small else (16, 14)
        x = _layer(tape, names.CONV, names.PATCH, x, C, 3, patch, patch)
        position = _layer(tape, names.POS_ENC, names.POSITION, _NO_INPUT, 1, C, grid, grid)
        s0 = s1 = _join(tape, names.SUM, x, position)
    elif net.stem_type == 0:
        c0 = c1 = 3 * C if preproc and small else C
        x = _convolution(tape, names.STEM_0, x, c0, 3, net.ks, norm)
        s0 = s1 = _plain(tape, names.MAX_POOL, x) if net.stem_pool == 1 else x
    else:
        x = _convolution(tape, names.STEM0_0, x, C // 2, 3, net.ks, norm)
        s0 = _convolution(tape, names.STEM0_3, x, C, C // 2, 3, norm)
        s1 = _convolution(tape, names.STEM1_1, s0, C, C, 3, norm)

    # Cells.  `halved`: s0 is twice as large as s1, because the layer between them is strided.
    width = C
    halved = net.stem_type == 1 and not vit
    states = np.empty(2 + net.steps, np.int64)
    chosen = np.empty(net.steps, np.int64)
    for cell in range(n_cells):
        tape.counters[_CELL] = cell
        reduction = cell > 0 and cell in (n_cells // 3, 2 * n_cells // 3)
        kind = REDUCE if reduction else NORMAL
        if reduction:
            width *= net.C_mult
        states[0], states[1] = s0, s1
        if preproc:
            if halved:
                states[0] = _factorized_reduce(tape, names.PREPROCESS, s0, width, c0, norm)
            else:
                states[0] = _convolution(tape, names.PREPROCESS + names.OP_1, s0, width, c0, 1, norm)
            states[1] = _convolution(
                tape, names.PREPROCESS + names.PREPROCESS_STRIDE + names.OP_1, s1, width, c1, 1, norm
            )
        for step in range(net.steps):
            total = ABSENT
            for j in (2 * step, 2 * step + 1):
                state = net.states[kind, j]
                strided = reduction and state < 2 and not vit
                group = names.OPERATION + j * names.OPERATION_STRIDE
                y = _operation(tape, net.ops[kind, j], group, states[state], width, strided, norm)
                total = _join(tape, names.SUM, total, y)
            states[2 + step] = total
        count = 0
        for state in range(2, len(states)):
            if net.concat[kind] >> state & 1:
                chosen[count] = states[state]
                count += 1
        s0, s1 = s1, _concatenate(tape, chosen[:count])
        c0, c1 = c1, count * width
        halved = reduction and not vit

    # Head.
    x, features = s1, c1
    if net.glob_avg == 1:
        x = _plain(tape, names.GLOB_AVG, x)
    else:
        side = 4 if small else 7
        if net.stem_type == 0:
            side *= 1 if net.stem_pool == 1 else 2
            side *= 1 if small else 4 // net.imagenet_stride
        features *= side * side
    for i in range(net.fc_layers):
        last = i == net.fc_layers - 1
        out = num_classes if last else fc_dim
        x = _linear(tape, names.CLASSIFIER + 2 * i, x, out, features)
        features = out
    return -1 if x == ABSENT else tape.counters[N_PARAMETERS]
