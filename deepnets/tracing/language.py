"""Graphs of language models as the code of LoGAH makes them, for the vocabulary "logah".

They differ from the graphs of GHN-3 in these places:

- RMS norms, gates (products of two tensors of the same shape) and rotary position encodings are nodes;
- tables of learned positions read the input;
- in a model with learned positions, such as GPT-2, the output matrix reads the input, and nothing reads it;
- a matrix that is both the embedding and the output matrix is a `conv` node in the place of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

from deepnets.graph import ParameterSlot
from deepnets.tracing.recorder import INPUT, Node

__all__ = ["arrange_language_model", "merge_rotations", "name_norms", "place_output_matrix"]


def name_norms(nodes: Sequence[Node], parameters: Sequence[ParameterSlot]) -> None:
    """Turn multiplications by the weight of an RMS norm into `rms` nodes, in place.

    Parameters
    ----------
    nodes : sequence of Node
        The nodes of a run.
    parameters : sequence of ParameterSlot
        All parameters of the network; those of norms have the role `norm_weight`.

    Examples
    --------
    >>> slot = ParameterSlot("norm.weight", (8,), "scale")
    >>> nodes = [Node("input", []), Node("scale", [0], [slot])]
    >>> name_norms(nodes, [slot._replace(role="norm_weight")])
    >>> nodes[1].type, nodes[1].slots[0].role
    ('rms', 'norm_weight')
    """
    norms = {slot.name for slot in parameters if slot.role == "norm_weight"}
    for node in nodes:
        if node.type == "scale" and node.slots and node.slots[0].name in norms:
            node.type = "rms"
            node.slots = [slot._replace(role="norm_weight") for slot in node.slots]


def merge_rotations(nodes: Sequence[Node], output: int) -> int:
    """Merge every rotary position encoding into one `rot` node, in place, and return the output node.

    The encoding of queries x is ``x * cos + concatenate(-x[half:], x[:half]) * sin``.  Its negation was recorded as a
    `rot` node.  The concatenation and the sum are contracted; other negations are, too.

    Examples
    --------
    >>> nodes = [Node("input", []), Node("conv", [0]), Node("rot", [1]), Node("concat", [1, 2]), Node("sum", [1, 3])]
    >>> merge_rotations(nodes, 4), [node.type for node in nodes]
    (2, ['input', 'conv', 'rot', '', ''])
    """
    rotary = {number for number, node in enumerate(nodes) if node.type == "rot" and _is_rotary(nodes, number)}
    stands_for: dict[int, int] = {}
    for number, node in enumerate(nodes):
        node.sources = sorted({stands_for.get(source, source) for source in node.sources})
        if node.type == "rot" and number not in rotary:
            stands_for[number] = node.sources[0]
        elif node.type in ("concat", "sum") and (rotation := _rotation(nodes, node)) is not None:
            stands_for[number] = rotation
        else:
            continue
        node.type, node.sources = "", []
    return stands_for.get(output, output)


def _is_rotary(nodes: Sequence[Node], rotation: int) -> bool:
    """Whether a negated tensor is concatenated with the tensor itself."""
    expected = sorted([rotation, *nodes[rotation].sources])
    return any(node.type == "concat" and node.sources == expected for node in nodes)


def _rotation(nodes: Sequence[Node], node: Node) -> int | None:
    """The `rot` node that a node combines with the source of that node."""
    for source in node.sources:
        if nodes[source].type == "rot" and node.sources == sorted([source, *nodes[source].sources]):
            return source
    return None


def arrange_language_model(nodes: Sequence[Node], output: int) -> int:
    """Connect embeddings, positions and the output matrix of a language model, in place, and return the output node.

    Networks without an embedding of integer inputs are not changed.

    Examples
    --------
    A model with learned positions; the output matrix reads the input, and the norm becomes the output:

    >>> table, matrix = ParameterSlot("embed.weight", (9, 4), "embed"), ParameterSlot("head.weight", (9, 4), "weight")
    >>> positions = ParameterSlot("positions.weight", (5, 4), "pos_enc")
    >>> nodes = [Node("input", []), Node("embed", [0], [table]), Node("pos_enc", [], [positions])]
    >>> nodes += [Node("sum", [1, 2]), Node("ln", [3]), Node("conv", [4], [matrix])]
    >>> arrange_language_model(nodes, 5), nodes[2].sources, nodes[5].sources
    (4, [0], [0])
    """
    tables = [node for node in nodes if node.type == "embed" and node.slots]
    if not tables:
        return output
    positions = [node for node in nodes if node.type == "pos_enc" and node.slots and not node.sources]
    for node in positions:
        node.sources = [INPUT]
    head = nodes[output]
    if head.type != "conv" or len(head.sources) != 1:
        return output
    (before,) = head.sources
    if not head.slots and len(tables) == 1:
        (table,) = tables
        table.type = "conv"
        table.slots = [slot._replace(role="weight") for slot in table.slots]
        head.type, head.sources = "", []
        return before
    if head.slots and positions:
        head.sources = [INPUT]
        return before
    return output


def place_output_matrix(nodes: Sequence[Node], order: list[int]) -> list[int]:
    """Return an order in which an output matrix that nothing reads comes before the first sum.

    Examples
    --------
    >>> nodes = [Node("input", []), Node("embed", [0]), Node("sum", [1, 0]), Node("ln", [2]), Node("conv", [0])]
    >>> place_output_matrix(nodes, [0, 1, 2, 4, 3])
    [0, 1, 4, 2, 3]
    """
    read = {source for number in order for source in nodes[number].sources}
    heads = [
        number
        for number in order[:-1]
        if nodes[number].type == "conv" and nodes[number].sources == [INPUT] and number not in read
    ]
    others = [number for number in order if number not in heads]
    first = next((place for place, number in enumerate(others) if nodes[number].type == "sum"), None)
    return order if first is None or not heads else others[:first] + heads + others[first:]
