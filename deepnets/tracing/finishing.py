"""From the nodes of a run to a `Graph`: the vocabulary, the order, and the classification layer.

Nodes are contracted after the run where this depends on later nodes: the pooling of a squeeze-excite block differs from
a global pooling only by the product that follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from deepnets.architecture import NODE_TYPES
from deepnets.graph import Graph, ParameterSlot, Slots
from deepnets.tracing.language import name_norms, place_output_matrix
from deepnets.tracing.recorder import Node, ancestors
from deepnets.tracing.vocabularies import apply_vocabulary

__all__ = ["finish", "main_output", "move_to_live"]


def finish(nodes: list[Node], output: int, parameters: Sequence[ParameterSlot], vocabulary: str) -> Graph:
    """Build the graph from the nodes of a run.

    Parameters
    ----------
    nodes : list of Node
        In the order of execution.  They are changed.
    output : int
        The node of the network's output.
    parameters : sequence of ParameterSlot
        All parameters of the network; their roles are used for those without a node.
    vocabulary : str
        One of `deepnets.tracing.VOCABULARIES`.

    Returns
    -------
    Graph
        The graph, with the output last.

    Raises
    ------
    TraceError
        If the vocabulary has no node for any part of the network.

    Examples
    --------
    >>> nodes = [Node("input", []), Node("conv", [0], [ParameterSlot("weight", (8, 3, 3, 3), "weight")])]
    >>> finish(nodes, 1, [ParameterSlot("weight", (8, 3, 3, 3), "weight")], "complete")
    Graph(2 nodes, 1 edges)
    """
    if vocabulary == "logah":
        name_norms(nodes, parameters)
    output = apply_vocabulary(nodes, output, vocabulary)
    order = _ordered(nodes, output)
    if vocabulary != "ppuda":
        order = _classifier_last(nodes, order)
    if vocabulary == "logah":
        order = place_output_matrix(nodes, order)
    position = {node: place for place, node in enumerate(order)}
    kept = [nodes[node] for node in order]
    sources = [sorted(position[source] for source in node.sources) for node in kept]
    slots = _class_roles(kept, published=vocabulary != "complete")
    cells = [node.cell for node in kept]
    if any(after < before for before, after in pairwise(cells)) or max(cells) > 255:
        cells = [0] * len(kept)  # cells that do not run one after the other are ignored
    used = {slot.name for node in slots for slot in node}
    types = np.array([NODE_TYPES.index(node.type) for node in kept], np.uint8)
    unused = tuple(slot for slot in parameters if slot.name not in used)
    return Graph(
        types,
        cells,
        [len(node) for node in sources],
        np.array([source for node in sources for source in node], np.int32),
        slots=partial(Slots, tuple(slots), unused, types),
        windows=np.array([node.window for node in kept], np.uint8),
    )


def main_output(nodes: Sequence[Node], returned: Sequence[int], scalars: Sequence[bool] = ()) -> int:
    """Return the node that is the output of a network that returns several tensors.

    It is the first one, or the last one that is computed from it.  The first rule selects the logits of networks that
    also return those of auxiliary heads; the second selects the pooled features of networks that return all features
    first.  Scalars next to other tensors, such as losses, are not the output, unless they need parameters that the
    output does not need.

    Parameters
    ----------
    nodes : sequence of Node
        In the order of execution.
    returned : sequence of int
        The nodes of the tensors that the network returns, in this order.
    scalars : sequence of bool, optional
        For each of them, whether the tensor has no axes.  By default, all have axes.

    Examples
    --------
    >>> nodes = [Node("input", []), Node("conv", [0]), Node("glob_avg", [1]), Node("conv", [0])]
    >>> main_output(nodes, [1, 2]), main_output(nodes, [1, 3])
    (2, 1)
    """
    tensors = [node for node, scalar in zip(returned, scalars or [False] * len(returned)) if not scalar] or returned
    output = _last_of(nodes, tensors)
    after = _computed_from(nodes, output)
    needed: set[int] = set()  # by the tensors that the network returns
    for number in range(len(nodes) - 1, output, -1):
        if number in returned or number in needed:
            needed.update((number, *nodes[number].sources))
    if any(nodes[number].slots for number in (after & needed) - {output}):
        output = max(after & set(returned))
    return output


def move_to_live(nodes: Sequence[Node], output: int) -> set[str]:
    """Move parameters of nodes that the output is not computed from to the next use that it is computed from.

    Parameters
    ----------
    nodes : sequence of Node
        In the order of execution.  They are changed.
    output : int
        The node of the network's output.

    Returns
    -------
    set of str
        The names of the parameters of nodes that the output is computed from.

    Examples
    --------
    >>> slot = ParameterSlot("weight", (8, 3, 3, 3), "weight")
    >>> nodes = [Node("input", []), Node("conv", [0], [slot]), Node("conv", [0], reused=[slot])]
    >>> move_to_live(nodes, 2), nodes[1].slots, nodes[2].slots == [slot]
    ({'weight'}, [], True)
    """
    live = ancestors(nodes, [output])
    reused = {slot.name: (number, slot) for number in sorted(live, reverse=True) for slot in nodes[number].reused}
    if reused:
        for dead in set(range(len(nodes))) - live:
            for slot in nodes[dead].slots:
                if slot.name in reused:
                    user, its_slot = reused[slot.name]
                    nodes[user].slots.append(its_slot)
            nodes[dead].slots = [slot for slot in nodes[dead].slots if slot.name not in reused]
    return {slot.name for number in live for slot in nodes[number].slots}


def _last_of(nodes: Sequence[Node], returned: Sequence[int]) -> int:
    """Return the last of several nodes that is computed from the first one."""
    return max(_computed_from(nodes, returned[0]).intersection(returned))


def _computed_from(nodes: Sequence[Node], start: int) -> set[int]:
    """Return a node and all nodes that are computed from it."""
    after = {start}
    for number in range(start + 1, len(nodes)):
        if after.intersection(nodes[number].sources):
            after.add(number)
    return after


def _ordered(nodes: list[Node], output: int) -> list[int]:
    """Return the nodes in the order of execution, with the output last.

    Nodes that are computed from the output are removed.  Other nodes that run after the output are moved before the
    chain of layers that leads only to the output, so that this chain stays together.
    """
    there = [number for number, node in enumerate(nodes) if node.type]
    after = _computed_from(nodes, output)
    there = [number for number in there if number == output or number not in after]
    uses = Counter(source for number in there for source in nodes[number].sources)
    end = there.index(output)
    start = end
    while start and nodes[there[start]].sources == [there[start - 1]] and uses[there[start - 1]] == 1:
        start -= 1
    return there[:start] + there[end + 1 :] + there[start : end + 1]


def _classifier_last(nodes: list[Node], order: list[int]) -> list[int]:
    """Swap a final global pooling with the pointwise classification layer before it, which gives the same result.

    Networks of this kind, such as SqueezeNet, then end like all others, as in the graphs of GHN-3.  In those of PPUDA,
    the pooling stays last, and the layer before it is one like the others.
    """
    pool = order[-1]
    if nodes[pool].type != "glob_avg" or len(nodes[pool].sources) != 1:
        return order
    (layer,) = nodes[pool].sources
    chain = []
    targets = Counter(source for number in order for source in {*nodes[number].sources})
    while nodes[layer].type in ("conv", "bias") and targets[layer] == 1 and len(nodes[layer].sources) == 1:
        chain.append(layer)
        if nodes[layer].type == "conv":
            break
        (layer,) = nodes[layer].sources
    if not chain or nodes[chain[-1]].type != "conv":
        return order
    slots = nodes[chain[-1]].slots
    if not slots or any(size > 1 for size in slots[0].shape[2:]):  # a layer that is used twice has slots once
        return order
    chain.reverse()
    nodes[pool].sources = nodes[chain[0]].sources
    nodes[chain[0]].sources = [pool]
    return [number for number in order if number not in (pool, *chain)] + [pool, *chain]


def _class_roles(nodes: list[Node], published: bool) -> list[tuple[ParameterSlot, ...]]:
    """Return the slots of all nodes, with the roles `class_weight` and `class_bias` for the classification layer.

    The published tools take the last two nodes; here, they must be a weight and its bias, with as many rows.  A weight
    that is stored as (inputs, outputs), for example that of a transposed convolution, has its classes in the columns.
    """
    slots = [tuple(node.slots) for node in nodes]
    if len(nodes) < 2:
        return slots
    weight, bias = nodes[-2:]
    rows = {slot.shape[:1] for slot in (*weight.slots[:1], *bias.slots[:1])}  # a shared weight has no slot here
    whole = bias.type == "bias" and weight.type == "conv" and len(rows) <= 1
    if whole or published:
        for place, node, role in ((-2, weight, "weight"), (-1, bias, "bias")):
            if node.type == ("conv" if role == "weight" else "bias"):
                slots[place] = tuple(
                    slot._replace(role=f"class_{role}") if slot.role == role else slot for slot in slots[place]
                )
    return slots
