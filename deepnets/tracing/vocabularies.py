"""Vocabularies: which operations of a network are nodes of its graph.

complete  every parameter that receives data has a node; squeeze-excite blocks are `cse` nodes without a pooling node
ghn3      the graphs of the published GHN-3 code: the fifteen published types only
ppuda     the graphs of the published PPUDA code (MLP, GHN-1, GHN-2), which differ in poolings, gates and classifiers
logah     the graphs of the published LoGAH code: those of GHN-3 for images; for the differences see `language`

To contract a node is to connect its sources to its targets and to remove it.
"""

from __future__ import annotations

from deepnets.architecture import LANGUAGE_NODE_TYPES, PUBLISHED_NODE_TYPES, VOCABULARIES
from deepnets.support import ConfigError, TraceError
from deepnets.tracing.language import arrange_language_model, merge_rotations
from deepnets.tracing.recorder import Node

__all__ = ["VOCABULARIES", "apply_vocabulary", "check_vocabulary"]

_ALIASES = {"published": "ghn3"}
_MERGES = ("sum", "concat", "mul")
_RENAMED = {"embed": "pos_enc", "mul": "cse"}  # the types that the published tools use for them


def check_vocabulary(name: str) -> str:
    """Return the name of a vocabulary, for an alias the name that it stands for.

    Parameters
    ----------
    name : str
        One of `VOCABULARIES`, or "published".

    Raises
    ------
    ConfigError
        If there is no such vocabulary.

    Examples
    --------
    >>> check_vocabulary("published")
    'ghn3'
    """
    known = _ALIASES.get(name, name) if isinstance(name, str) else name
    if known not in VOCABULARIES:
        raise ConfigError(f"vocabulary: expected {', '.join(VOCABULARIES[:-1])} or {VOCABULARIES[-1]}, got {name!r}")
    return known


def apply_vocabulary(nodes: list[Node], output: int, vocabulary: str) -> int:
    """Contract the nodes that a vocabulary does not have; return the output node.

    Parameters
    ----------
    nodes : list of Node
        In the order of execution.  They are changed and keep their numbers; contracted nodes have an empty type.
    output : int
        The node of the network's output.
    vocabulary : str
        One of `VOCABULARIES`.

    Raises
    ------
    TraceError
        If the vocabulary has no node for any part of the network.

    Examples
    --------
    In a squeeze-excite block, GHN-3 sees the product, and PPUDA the pooling:

    >>> def block():
    ...     return [Node("input", []), Node("glob_avg", [0]), Node("conv", [1]), Node("cse", [0, 2]), Node("conv", [3])]
    >>> for vocabulary in ("ghn3", "ppuda"):
    ...     nodes = block()
    ...     _ = apply_vocabulary(nodes, 4, vocabulary)
    ...     print([(node.type, node.sources) for node in nodes if node.type])
    [('input', []), ('conv', [0]), ('cse', [0, 2]), ('conv', [3])]
    [('input', []), ('glob_avg', [0]), ('conv', [1]), ('conv', [0, 2])]
    """
    if vocabulary == "logah":
        output = arrange_language_model(nodes, merge_rotations(nodes, output))
    gone = _poolings_and_products(nodes) if vocabulary == "ppuda" else _squeezes(nodes)
    if gone:
        output = _last(_remove(nodes, gone)[output])
    if vocabulary == "complete":
        return output
    gone = set()
    types = LANGUAGE_NODE_TYPES if vocabulary == "logah" else PUBLISHED_NODE_TYPES
    for number, node in enumerate(nodes):
        if node.type not in types:
            node.type = _RENAMED.get(node.type, node.type)
        if node.type and node.type not in types:
            gone.add(number)
            node.slots = []
    return _last(_remove(nodes, gone)[output])


def _last(nodes: tuple[int, ...]) -> int:
    if not nodes:
        raise TraceError("the vocabulary has no node for any part of this network")
    return nodes[-1]


def _remove(nodes: list[Node], gone: set[int]) -> list[tuple[int, ...]]:
    """Contract nodes in place and return, for every node, the nodes that replace it (itself if it stays).

    A sum, concatenation or product with only one source left is contracted as well.  Nodes keep their numbers.
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


def _squeezes(nodes: list[Node]) -> set[int]:
    """Return the poolings whose every use is a product with, or a sum with, their own source (squeeze-excite)."""
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
        # every path ends in a product with the source
        if gates and all(targets[number] for number in reached):
            gone.add(pool)
    return gone


def _poolings_and_products(nodes: list[Node]) -> set[int]:
    """Return the means over the spatial axes, and the products whose gate is not the result of a hardswish.

    PPUDA has no nodes for them.  It recognizes squeeze-excite blocks by the hardswish that those of DeepNets-1M have.
    """
    return {
        number
        for number, node in enumerate(nodes)
        if (node.type == "glob_avg" and node.detail == "mean")
        or (node.type in ("cse", "mul") and node.detail != "hardswish")
    }
