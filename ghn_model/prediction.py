"""`Prediction`: predicted parameters, with the parameters that keep their values and the origin of each tensor."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deepnets.architecture import NODE_TYPES
from deepnets.graph import Graph
from ghn_model.class_layers import class_layers
from ghn_model.config import GHNConfig
from ghn_model.decoders import Decoders, Parameters, block_shapes, decode_parameters, plan_decoding, tile
from ghn_model.encoders import axes_of
from ghn_model.prepared_batch import ParameterRequest, PreparedBatch

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Prediction", "warn_of_classes", "warn_of_kept", "write_parameters"]

log = logging.getLogger(__name__)

_VECTORS = ("weight", "bias", "token")
_CLASS_LAYER = "class layer"


class Prediction(dict[str, Tensor]):
    """The parameters that `GHN.predict` returns: a dict from names to tensors.

    Parameters
    ----------
    tensors
        The predicted tensors by name.
    model, graph
        The network and its graph.
    config
        Configuration of the hypernetwork.

    Attributes
    ----------
    kept : dict of str to Tensor
        The parameters of the network that are not predicted, in its order, and the values that they keep: those without
        a node in the graph, and the layers of the classes if they were left out.
    graph : Graph
        The graph.

    Notes
    -----
    Pickles and copies of it are ordered dicts, which `torch.save` and `torch.load` accept.

    Examples
    --------
    The layer scales of a ConvNeXt have no node in the graphs of GHN-3:

    >>> from ghn_model import GHN
    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = nn.Parameter(torch.full((8, 1, 1), 1e-6))
    ...         self.conv, self.fc = nn.Conv2d(3, 8, 3, bias=False), nn.Linear(8, 10)
    ...
    ...     def forward(self, x):
    ...         return self.fc((self.conv(x) * self.scale).mean((2, 3)))
    >>> ghn = GHN.from_pretrained("ghn2-digits")
    >>> parameters = ghn.predict(Block(), torch.zeros(1, 3, 8, 8), vocabulary="ghn3")
    >>> list(parameters), list(parameters.kept)
    (['conv.weight', 'fc.weight', 'fc.bias'], ['scale'])
    >>> parameters.report()[["parameter", "node_type", "source", "block"]]
         parameter node_type       source         block
    0        scale                   kept            ()
    1  conv.weight      conv          map  (8, 3, 3, 3)
    2    fc.weight      conv  class layer       (10, 8)
    3      fc.bias      bias  class layer         (10,)
    """

    def __init__(self, tensors: Parameters, model: nn.Module, graph: Graph, config: GHNConfig) -> None:
        super().__init__(tensors)
        self.graph = graph
        self.kept = {name: tensor.detach() for name, tensor in model.named_parameters() if name not in tensors}
        self._order = [name for name, _ in model.named_parameters()]
        self._config = config

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), None, None, iter(self.items())  # which `torch.load` accepts, unlike a call of `dict`

    def report(self) -> pd.DataFrame:
        """Describe every parameter of the network, in its order.

        Returns
        -------
        pandas.DataFrame
            One row per parameter, with the columns

            - `parameter`, `shape`: its name and shape,
            - `node`, `node_type`: index and type of its node in the graph; -1 and "" for none,
            - `source`: "map", the decoder of kernels and matrices; "vector", the decoder of norms and biases; "class
              layer", the decoder of classifiers; the same with "tiled" in front of it if the decoded block is smaller
              than the tensor and repeated, or with "enlarged" if the kernel is larger than the largest decoded one;
              "kept" if it is not predicted; "" for a tensor without elements,
            - `block`: the shape of the decoded block; () for a parameter that is not predicted,
            - `norm`: its Euclidean norm, NaN for a parameter on the `meta` device,
            - `reason`: why it is not predicted, or "".
        """
        import pandas as pd

        nodes = {slot.name: node for node, slots in enumerate(self.graph.parameters) for slot in slots}
        origins = dict(_origins(self.graph, self._config))
        rows = []
        for name in dict.fromkeys((*self._order, *self)):
            node = nodes.get(name, -1)
            tensor = self[name] if name in self else self.kept[name]
            source, block = origins.get(name, ("", ())) if name in self else ("kept", ())
            rows.append(
                {
                    "parameter": name,
                    "shape": tuple(tensor.shape),
                    "node": node,
                    "node_type": "" if node < 0 else NODE_TYPES[self.graph.node_types[node]],
                    "source": source,
                    "block": block,
                    "norm": float("nan") if tensor.is_meta else float(torch.linalg.vector_norm(tensor.float())),
                    "reason": "" if name in self else _CLASS_LAYER if node >= 0 else "no node in the graph",
                }
            )
        columns = ["parameter", "shape", "node", "node_type", "source", "block", "norm", "reason"]
        return pd.DataFrame(rows, columns=columns)


def _origins(graph: Graph, config: GHNConfig) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """The source and the shape of the decoded block of every parameter of a graph."""
    for group in plan_decoding([graph], config):
        for run, block in zip(group.runs, block_shapes(group, config)):
            slot = run[0].slot
            source = _CLASS_LAYER if group.kind.startswith("class_") else "map"
            if group.kind in _VECTORS:
                source = "vector"
            if block != tuple(slot.shape):
                source = f"tiled {source}"
            elif group.kind == "map" and group.window[2:] != axes_of(slot)[2:]:
                source = "enlarged map"
            for request in run:
                yield request.slot.name, (source, block)


def write_parameters(
    batch: PreparedBatch, embeddings: Tensor, decoders: Decoders, config: GHNConfig, targets: Mapping[str, Tensor]
) -> None:
    """Decode the parameters of a network and write them into tensors, without a copy of full size.

    Parameters
    ----------
    batch, embeddings, decoders, config
        As in `ghn_model.decoders.decode_batch`, for one network.
    targets
        A tensor for every parameter by name, of any dtype and device; they are changed in place.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> from ghn_model import GHN
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
    >>> ghn = GHN("ghn2")
    >>> batch = ghn.prepare(graph)
    >>> targets = {slot.name: torch.zeros(slot.shape) for slots in graph.parameters for slot in slots}
    >>> decoders = Decoders(ghn.decoder, ghn.decoder_1d, ghn.bias_class)
    >>> with torch.no_grad():
    ...     write_parameters(batch, ghn.encode(batch), decoders, ghn.config, targets)
    >>> bool(targets["classifier.0.weight"].any())
    True
    """

    def write(run: Sequence[ParameterRequest], blocks: Tensor) -> None:
        for request, block in zip(run, blocks):
            tile(block, request.slot.shape, out=targets[request.slot.name])

    def target(request: ParameterRequest) -> Tensor:
        return targets[request.slot.name]

    decode_parameters(batch.decoding_plan, embeddings, decoders, config, write, target)


def warn_of_classes(graphs: Sequence[Graph], config: GHNConfig, predict_class_layers: bool) -> None:
    """Log a warning if the layers of the classes are predicted for another number of classes than was trained.

    Such a prediction is a repeated or truncated one, and the network cannot classify with it.

    Parameters
    ----------
    graphs
        Graphs of the networks.
    config
        Configuration of the hypernetwork.
    predict_class_layers
        Whether these layers are predicted.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
    >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8), num_classes=10)
    >>> warn_of_classes([graph], GHNConfig(num_classes=10), True)
    """
    if not predict_class_layers or config.for_texts:  # the classes are tokens
        return
    names = [class_layers(graph) for graph in graphs]
    slots = {s for graph, own in zip(graphs, names) for node in graph.parameters for s in node if s.name in own}
    # Some weights are stored as (inputs, outputs); the bias tells it, and without one either axis can be the classes.
    numbers = {slot.numel for slot in slots if "bias" in slot.role} or {config.num_classes}
    found = {
        slot.shape[1] if slot.shape[0] not in numbers and slot.shape[1] in numbers else slot.shape[0]
        for slot in slots
        if "weight" in slot.role and len(slot.shape) > 1
    }
    others = sorted(found - {config.num_classes})
    if others:
        log.warning(
            "the layers of the classes are predicted for %s classes, by a hypernetwork that was trained for %d; to "
            "leave them as they are, use predict_class_layers=False (--no-class-layers)",
            " and ".join(f"{number:,}" for number in others),
            config.num_classes,
        )


def warn_of_kept(model: nn.Module, graph: Graph, vocabulary: str) -> None:
    """Log a warning if the graph in a vocabulary of the originals lacks some parameters, which keep their values.

    Examples
    --------
    >>> from deepnets import trace
    >>> model = nn.Linear(2, 2)
    >>> warn_of_kept(model, trace(model, torch.zeros(1, 2), vocabulary="ghn3"), "ghn3")
    """
    if vocabulary == "complete" or not graph.unused:
        return
    names = [slot.name for slot in graph.unused]
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    log.warning(
        "%s: not in the graph of the vocabulary %r, so parameters keep their values: %s (%d)",
        type(model).__name__,
        vocabulary,
        some,
        len(names),
    )
