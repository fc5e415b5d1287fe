"""From the nodes of a run to a `Graph`: what is contracted, in which order nodes come, what the last layer is.

Nodes are contracted here, rather than never written down, where later nodes decide: the pooling inside a squeeze-excite
is told from a global pooling by the product that it ends in, and the published vocabulary leaves out whole types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from deepnets.architecture import NODE_TYPES, PUBLISHED_NODE_TYPES
from deepnets.graph import Graph, ParameterSlot, Slots
from deepnets.support import TraceError
from deepnets.tracing.recorder import Node

__all__ = ["VOCABULARIES", "finish", "main_output"]

VOCABULARIES = ("complete", "published")

_MERGES = ("sum", "concat", "mul")
_RENAMED = {"embed": "pos_enc", "mul": "cse"}  # what the published tools take them for


def finish(nodes: list[Node], output: int, parameters: Sequence[ParameterSlot], vocabulary: str) -> Graph:
    """The graph of what a run has written down.

    Parameters
    ----------
    nodes
        In the order of execution.  Changed.
    output
        The node of the network's output.
    parameters
        All parameters of the network, with the roles of those that turn out to have no node.
    vocabulary
        One of `VOCABULARIES`.
    """
    _contract_squeezes(nodes)
    if vocabulary == "published":
        output = _publish(nodes, output)
    order = _ordered(nodes, output)
    order = _classifier_last(nodes, order)
    position = {node: place for place, node in enumerate(order)}
    kept = [nodes[node] for node in order]
    sources = [sorted(position[source] for source in node.sources) for node in kept]
    slots = _class_roles(kept, published=vocabulary == "published")
    cells = [node.cell for node in kept]
    if any(after < before for before, after in pairwise(cells)) or max(cells) > 255:
        cells = [0] * len(kept)  # cells that do not come one after the other are none
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


def main_output(nodes: Sequence[Node], returned: Sequence[int]) -> int:
    """Which of the nodes that a network returns is its output: the first, or what it also returns that comes of it.

    So the logits before those of auxiliary heads, and what was pooled of the features that are returned beside it.
    """
    output = returned[0]
    after = {output}
    for number in range(output + 1, len(nodes)):
        if after.intersection(nodes[number].sources):
            after.add(number)
            output = number if number in returned else output
    return output


def _remove(nodes: list[Node], gone: set[int]) -> list[tuple[int, ...]]:
    """Join the sources of every node of a set to its targets; what stands for each node afterwards.

    A sum, concatenation or product that is left with one source is contracted as well.  Numbers stay.
    """
    stands_for: list[tuple[int, ...]] = []
    for number, node in enumerate(nodes):
        before = len(node.sources)
        node.sources = sorted({origin for source in node.sources for origin in stands_for[source]})
        merged = node.type in (*_MERGES, "cse") and before > 1 and len(node.sources) <= 1
        if number in gone or merged:
            gone.add(number)
            stands_for.append(tuple(node.sources))
        else:
            stands_for.append((number,))
    for number in gone:
        nodes[number].type = ""
        nodes[number].sources = []
    return stands_for


def _contract_squeezes(nodes: list[Node]) -> None:
    """Contract the poolings that only gate their own source (squeeze-excite), or are only added to it."""
    targets: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        for source in node.sources:
            targets[source].append(number)
    gone = set()
    for pool, node in enumerate(nodes):
        if node.type != "glob_avg" or not targets[pool]:
            continue
        source = node.sources[0]
        if all(nodes[target].type in ("sum", "cse") and source in nodes[target].sources for target in targets[pool]):
            gone.add(pool)
            continue
        reached, stack = {pool}, [pool]
        gates = set()
        while stack:
            for target in targets[stack.pop()]:
                if nodes[target].type in ("cse", "mul") and source in nodes[target].sources:
                    gates.add(target)
                elif target not in reached:
                    reached.add(target)
                    stack.append(target)
        # every path leads into a product with the source
        if gates and all(targets[number] for number in reached):
            gone.add(pool)
    if gone:
        _remove(nodes, gone)


def _publish(nodes: list[Node], output: int) -> int:
    """Leave out what the published vocabulary has no word for; the output afterwards."""
    gone = set()
    for number, node in enumerate(nodes):
        node.type = _RENAMED.get(node.type, node.type)
        if node.type and node.type not in PUBLISHED_NODE_TYPES:
            gone.add(number)
            node.slots = []
    stands_for = _remove(nodes, gone)
    if not stands_for[output]:
        raise TraceError("the published vocabulary has no word for any part of this network")
    return stands_for[output][-1]


def _ordered(nodes: list[Node], output: int) -> list[int]:
    """The order of execution, with the output last.

    What is computed from the output, and not returned, is dropped.  What else was executed after it comes before the
    layers that lead to the output alone, so that these stay together.
    """
    there = [number for number, node in enumerate(nodes) if node.type]
    after = {output}
    for number in there[there.index(output) + 1 :]:
        if after.intersection(nodes[number].sources):
            after.add(number)
    there = [number for number in there if number == output or number not in after]
    uses = Counter(source for number in there for source in nodes[number].sources)
    end = there.index(output)
    start = end
    while start and nodes[there[start]].sources == [there[start - 1]] and uses[there[start - 1]] == 1:
        start -= 1
    return there[:start] + there[end + 1 :] + there[start : end + 1]


def _classifier_last(nodes: list[Node], order: list[int]) -> list[int]:
    """Move a final pooling before the pointwise classifier that it follows, with which it could trade places.

    So networks of this kind (SqueezeNet) end like all others, as in the published graphs.
    """
    pool = order[-1]
    if nodes[pool].type != "glob_avg":
        return order
    (layer,) = nodes[pool].sources
    chain = []
    targets = {source: sum(source in nodes[number].sources for number in order) for source in order}
    while nodes[layer].type in ("conv", "bias") and targets[layer] == 1 and len(nodes[layer].sources) == 1:
        chain.append(layer)
        if nodes[layer].type == "conv":
            break
        (layer,) = nodes[layer].sources
    if not chain or nodes[chain[-1]].type != "conv" or any(size > 1 for size in nodes[chain[-1]].slots[0].shape[2:]):
        return order
    chain.reverse()
    nodes[pool].sources = nodes[chain[0]].sources
    nodes[chain[0]].sources = [pool]
    return [number for number in order if number not in (pool, *chain)] + [pool, *chain]


def _class_roles(nodes: list[Node], published: bool) -> list[tuple[ParameterSlot, ...]]:
    """The slots of all nodes, those of the layer whose outputs are the classes marked as such.

    The published tools go by the place alone; here the layer's bias must be the output.
    """
    slots = [tuple(node.slots) for node in nodes]
    if len(nodes) < 2:
        return slots
    weight, bias = nodes[-2:]
    whole = bias.type == "bias" and weight.type == "conv"
    if whole or published:
        for place, node, role in ((-2, weight, "weight"), (-1, bias, "bias")):
            if node.type == ("conv" if role == "weight" else "bias"):
                slots[place] = tuple(
                    slot._replace(role=f"class_{role}") if slot.role == role else slot for slot in slots[place]
                )
    return slots
