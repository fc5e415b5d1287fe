"""Assemble the computational graph of an encoded architecture: compiled code without torch.

Every tensor is represented by the node that computes it.  An *absent* tensor, the result of the operation `none`, has
no node: a layer that would read it receives no data, and a sum with one present tensor is that tensor.  Layers are
visited in the order of the data flow: stem, cells, head.  The result is the graph in *canonical order*, which is
topological and cell by cell.

The rules follow Knyazev et al. (NeurIPS 2021), section 3 and appendix A; the data card states them exactly.  Users call
`deepnets.graph.build`; the generator calls `assemble` in a loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepnets.architecture import NORMAL, REDUCE
from deepnets.architecture import codes as names
from deepnets.architecture.vocabulary import MAX_CIFAR_SIZE
from deepnets.graph.buffer import (
    ABSENT,
    CELL,
    N_PARAMETERS,
    NO_INPUT,
    GraphBuffer,
    append_layer,
    append_node,
    append_plain,
    concatenate,
    join,
)
from deepnets.support import compiled

__all__ = ["assemble", "contains"]


@compiled
def _linear(buffer: GraphBuffer, name: int, x: int, out: int, inputs: int) -> int:
    x = append_layer(buffer, names.CONV, name, x, out, inputs)
    return append_layer(buffer, names.BIAS, name + 1, x, out)


@compiled
def _convolution(buffer: GraphBuffer, name: int, x: int, out: int, inputs: int, kernel: int, norm: bool) -> int:
    x = append_layer(buffer, names.CONV, name, x, out, inputs, kernel, kernel)
    return append_layer(buffer, names.NORM, name + 1, x, out) if norm else x


@compiled
def _separable(
    buffer: GraphBuffer, kind: int, name: int, x: int, out: int, inputs: int, kernel: int, norm: bool
) -> int:
    """Add a depthwise convolution, a pointwise convolution and a norm."""
    x = append_layer(buffer, kind, name, x, inputs, 1, kernel, kernel)
    return _convolution(buffer, name + 1, x, out, inputs, 1, norm)


@compiled
def _factorized_reduce(buffer: GraphBuffer, group: int, x: int, out: int, inputs: int, norm: bool) -> int:
    """Add a layer that halves the resolution: the concatenation of two strided 1x1 convolutions."""
    first_half = append_layer(buffer, names.CONV, group + names.CONV_1, x, out // 2, inputs, 1, 1)
    second_half = append_layer(buffer, names.CONV, group + names.CONV_2, x, out // 2, inputs, 1, 1)
    y = join(buffer, names.CONCAT, first_half, second_half)
    return append_layer(buffer, names.NORM, group + names.BN, y, out) if norm else y


@compiled
def _squeeze_excite(buffer: GraphBuffer, group: int, x: int, width: int) -> int:
    """Add squeeze-and-excitation.  The mean over pixels has no node."""
    gate = _linear(buffer, group + names.FC1, x, width // 2, width)
    gate = _linear(buffer, group + names.FC2, gate, width, width // 2)
    return join(buffer, names.CSE, x, gate)


@compiled
def _attention(buffer: GraphBuffer, group: int, x: int, width: int) -> int:
    """Add a pre-norm transformer block with eight heads."""
    y = append_layer(buffer, names.LN, group + names.LN1, x, width)
    y = append_layer(buffer, names.CONV, group + names.TO_QKV, y, 3 * 8 * (width // 8), width)
    y = append_plain(buffer, names.MSA, y)
    y = _linear(buffer, group + names.TO_OUT, y, width, 8 * (width // 8))
    x = join(buffer, names.SUM, x, y)
    y = append_layer(buffer, names.LN, group + names.LN2, x, width)
    y = _linear(buffer, group + names.FF0, y, width, width)
    y = _linear(buffer, group + names.FF3, y, width, width)
    return join(buffer, names.SUM, x, y)


@compiled
def _operation(buffer: GraphBuffer, op: int, group: int, x: int, width: int, strided: bool, norm: bool) -> int:
    """Add one primitive.  Its input and its output have the same width."""
    w = width
    if op == names.NONE:
        return ABSENT
    if op == names.MAX:
        return append_plain(buffer, names.MAX_POOL, x)
    if op == names.AVG:
        return append_plain(buffer, names.AVG_POOL, x)
    if op == names.SKIP:
        return _factorized_reduce(buffer, group, x, w, w, norm) if strided else x
    if op in (names.SEP3, names.SEP5):
        kernel = 3 if op == names.SEP3 else 5
        x = _separable(buffer, names.SEP_CONV, group + names.OP_1, x, w, w, kernel, norm)
        return _separable(buffer, names.SEP_CONV, group + names.OP_5, x, w, w, kernel, norm)
    if op in (names.DIL3, names.DIL5):
        return _separable(buffer, names.DIL_CONV, group + names.OP_1, x, w, w, 3 if op == names.DIL3 else 5, norm)
    if op == names.C71:
        x = append_layer(buffer, names.CONV, group + names.OP_1, x, w, w, 1, 7)
        x = append_layer(buffer, names.CONV, group + names.OP_2, x, w, w, 7, 1)
        return append_layer(buffer, names.NORM, group + names.OP_3, x, w) if norm else x
    if op == names.SQUEEZE:
        return _squeeze_excite(buffer, group, x, w)
    if op == names.ATTENTION:
        return _attention(buffer, group, x, w)
    if op not in (names.C1, names.C3, names.C5, names.C7):
        raise ValueError("the primitive is unknown to the assembly")
    kernel = 1 if op == names.C1 else (3 if op == names.C3 else (5 if op == names.C5 else 7))
    return _convolution(buffer, group + names.OP_1, x, w, w, kernel, norm)


@compiled
def contains(net: Any, op: int) -> bool:
    """Whether a primitive occurs in an encoded architecture.

    Parameters
    ----------
    net
        A record of `deepnets.architecture.ARCHITECTURE`.
    op
        Index into `deepnets.architecture.PRIMITIVES`.

    Returns
    -------
    bool

    Examples
    --------
    >>> from deepnets import GENOTYPES, PRIMITIVES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> contains(encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])[0], PRIMITIVES.index("msa"))
    False
    """
    for kind in (NORMAL, REDUCE):
        for j in range(2 * net.steps):
            if net.ops[kind, j] == op:
                return True
    return False


@compiled
def assemble(net: Any, C: int, fc_dim: int, num_classes: int, image_size: int, buffer: GraphBuffer) -> int:
    """Write the graph of an encoded architecture into a buffer.

    Compiled code does not check its arguments: pass valid records only.

    Parameters
    ----------
    net
        A record of `deepnets.architecture.ARCHITECTURE` that `deepnets.architecture.decode` accepts.
    C, fc_dim
        Width of the network and of hidden classifier layers, in place of those in the record.
    num_classes
        Number of outputs of the classifier.
    image_size
        Height and width of the images, 16 to 512.
    buffer
        Overwritten.  Made by `new_graph_buffer` for at least as many cells and steps.

    Returns
    -------
    int
        Number of parameters of the network, including dead and unused layers, or -1 if the network has no output
        because `none` operations cut every path to it.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> from deepnets.architecture import encode
    >>> from deepnets.graph import new_graph_buffer
    >>> buffer = new_graph_buffer(n_cells=4, steps=4)
    >>> net = encode([NetworkConfig(GENOTYPES["DARTS"], n_cells=4)])[0]
    >>> bool(assemble(net, 32, 256, 10, 32, buffer) == buffer.counters[N_PARAMETERS])
    True
    """
    buffer.counters[:] = 0
    n_cells = net.n_cells
    preproc = net.preproc == 1
    norm = net.norm != 0
    small = image_size <= MAX_CIFAR_SIZE
    vit = contains(net, names.ATTENTION)

    # Stem.  The next cell reads the tensors s0 and s1, which have c0 and c1 channels.
    x = append_node(buffer, names.INPUT, NO_INPUT)
    c0 = c1 = C
    if vit:
        patch = 3 if small else 16
        grid = (image_size + 2 - 3) // 3 + 1 if small else image_size // 16  # padding 1 and 0
        x = append_layer(buffer, names.CONV, names.PATCH, x, C, 3, patch, patch)
        position = append_layer(buffer, names.POS_ENC, names.POSITION, NO_INPUT, 1, C, grid, grid)
        s0 = s1 = join(buffer, names.SUM, x, position)
    elif net.stem_type == 0:
        c0 = c1 = 3 * C if preproc and small else C
        x = _convolution(buffer, names.STEM_0, x, c0, 3, net.ks, norm)
        s0 = s1 = append_plain(buffer, names.MAX_POOL, x) if net.stem_pool == 1 else x
    else:
        x = _convolution(buffer, names.STEM0_0, x, C // 2, 3, net.ks, norm)
        s0 = _convolution(buffer, names.STEM0_3, x, C, C // 2, 3, norm)
        s1 = _convolution(buffer, names.STEM1_1, s0, C, C, 3, norm)

    # Cells.  `halved`: s0 has twice the resolution of s1, because the layer between them is strided.
    width = C
    halved = net.stem_type == 1 and not vit
    states = np.empty(2 + net.steps, np.int64)
    chosen = np.empty(net.steps, np.int64)
    for cell in range(n_cells):
        buffer.counters[CELL] = cell
        reduction = cell > 0 and cell in (n_cells // 3, 2 * n_cells // 3)
        kind = REDUCE if reduction else NORMAL
        if reduction:
            width *= net.C_mult
        states[0], states[1] = s0, s1
        if preproc:
            if halved:
                states[0] = _factorized_reduce(buffer, names.PREPROCESS, s0, width, c0, norm)
            else:
                states[0] = _convolution(buffer, names.PREPROCESS + names.OP_1, s0, width, c0, 1, norm)
            states[1] = _convolution(
                buffer, names.PREPROCESS + names.PREPROCESS_STRIDE + names.OP_1, s1, width, c1, 1, norm
            )
        for step in range(net.steps):
            total = ABSENT
            for j in (2 * step, 2 * step + 1):
                state = net.states[kind, j]
                strided = reduction and state < 2 and not vit
                group = names.OPERATION + j * names.OPERATION_STRIDE
                y = _operation(buffer, net.ops[kind, j], group, states[state], width, strided, norm)
                total = join(buffer, names.SUM, total, y)
            states[2 + step] = total
        count = 0
        for state in range(2, len(states)):
            if net.concat[kind] >> state & 1:
                chosen[count] = states[state]
                count += 1
        s0, s1 = s1, concatenate(buffer, chosen[:count])
        c0, c1 = c1, count * width
        halved = reduction and not vit

    # Head.
    x, features = s1, c1
    if net.glob_avg == 1:
        x = append_plain(buffer, names.GLOB_AVG, x)
    else:
        stride = 2 if small else 8
        if net.stem_type == 0:
            stride = (1 if small else net.imagenet_stride) * (2 if net.stem_pool == 1 else 1)
        side = -(-image_size // (4 * stride))  # two reduction cells; every strided layer rounds up
        features *= side * side
    for i in range(net.fc_layers):
        last = i == net.fc_layers - 1
        out = num_classes if last else fc_dim
        x = _linear(buffer, names.CLASSIFIER + 2 * i, x, out, features)
        features = out
    return -1 if x == ABSENT else buffer.counters[N_PARAMETERS]
