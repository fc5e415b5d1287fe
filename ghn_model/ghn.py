"""`GHN`: a graph hypernetwork, which reads the graph of a network and predicts all of its parameters.

    graph ── node types, shapes ──▶ embeddings ── encoder ──▶ embeddings ── decoders ──▶ {name: tensor}

One class for MLP, GHN-1, GHN-2 (Knyazev et al., NeurIPS 2021) and GHN-3 (Knyazev et al., ICML 2023): a `GHNConfig` says
which encoder (`gated_gnn`, `graphormer`) and which decoder (`decoders`) it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepnets.architecture import PUBLISHED_NODE_TYPES, PUBLISHED_TYPE_OF, Network
from deepnets.graph import Graph, GraphBatch, build_graph
from deepnets.support import ConfigError
from deepnets.tracing import trace
from ghn_model.config import GHNConfig
from ghn_model.decoders import Assembler, Plan, Sink, Wanted, tile
from ghn_model.encoders import GatedGNN, Graphormer, NodeMLP, ShapeEncoder, shape_indices
from ghn_model.prepared_batch import Prepared, check_fit, checked_graphs, shown

__all__ = ["GHN", "Parameters", "Prepared", "graph_of", "use_batch_statistics"]

Parameters = dict[str, Tensor]
"""Predicted tensors by the names that `named_parameters()` has for them."""


class GHN(Assembler):
    """A graph hypernetwork.

    Parameters
    ----------
    config
        What it is made of, or the name of a preset (`ghn_model.PRESETS`, for CIFAR-10).

    Examples
    --------
    >>> import torch
    >>> from torchvision.models import resnet18                              # doctest: +SKIP
    >>> ghn = GHN(GHNConfig.preset("ghn2", num_classes=1000, image_size=224))  # doctest: +SKIP
    >>> parameters = ghn.predict(resnet18())                                 # doctest: +SKIP
    >>> len(parameters), parameters["conv1.weight"].shape                    # doctest: +SKIP
    (62, torch.Size([64, 3, 7, 7]))
    """

    def __init__(self, config: GHNConfig | str) -> None:
        config = GHNConfig.preset(config) if isinstance(config, str) else config
        if not isinstance(config, GHNConfig):
            raise ConfigError(f"config: expected a GHNConfig or the name of a preset, got {type(config).__name__}")
        super().__init__(config)
        hidden, side = config.hidden, config.max_shape[2]
        if config.layernorm:
            self.ln = nn.LayerNorm(hidden)
        # `embed` is what the published files call this table, and what users call to embed a network.
        self._modules["embed"] = nn.Embedding(len(PUBLISHED_NODE_TYPES), hidden)
        self.shape_enc = ShapeEncoder(hidden, config.num_classes, side)
        self.gnn = _encoder(config)
        self._add_decoders()
        self.apply(_draw_tables)
        self._scale_last_layers()

    # --- prediction ---

    def forward(
        self, graphs: Prepared | GraphBatch | Sequence[Graph] | Graph, *, predict_class_layers: bool = True
    ) -> list[Parameters]:
        """Predict the parameters of networks, differentiably.

        Parameters
        ----------
        graphs
            One or more graphs, or what `prepare` has made of them (with or without the layers of classes).
        predict_class_layers
            Whether to predict the layer whose outputs are the classes, too.

        Returns
        -------
        One dict per graph: for every parameter that a node stands for a tensor of its shape, on the device and of the
        type of the hypernetwork.  Tensors may be views of others.

        Raises
        ------
        ConfigError
            If there is no graph, or one that does not know its parameters.
        """
        prepared = graphs if isinstance(graphs, Prepared) else self.prepare(graphs, predict_class_layers)
        results = _empty_results(prepared.graphs)

        def collect(run: Sequence[Wanted], blocks: Tensor) -> None:
            for wanted, values in zip(run, tile(blocks, (len(run), *run[0].slot.shape))):
                results[wanted.graph][wanted.slot.name] = values

        self.assemble(prepared.plan, self._encoded(prepared), collect)
        return [_in_order(result) for result in results]

    def prepare(
        self, graphs: GraphBatch | Sequence[Graph] | Graph, predict_class_layers: bool = True, schedule: bool = True
    ) -> Prepared:
        """Everything that `forward` needs to know about graphs and that does not depend on weights.

        Parameters
        ----------
        graphs, predict_class_layers
            As in `forward`.
        schedule
            Whether to prepare the encoder, too; it prepares itself, where that is not done.

        Returns
        -------
        What `forward` takes in the place of the graphs, on the CPU; its method `to` takes it to a GPU.
        """
        graphs = checked_graphs(graphs)
        rows = [shape_indices(graph, self.config.num_classes, self.config.max_shape[2]) for graph in graphs]
        return Prepared(
            graphs,
            torch.from_numpy(_PUBLISHED[np.concatenate([graph.node_types for graph in graphs])]),
            torch.from_numpy(np.concatenate(rows)),
            self.gnn.schedule(graphs) if schedule else None,  # type: ignore[operator]
            Plan.of(graphs, self.config, predict_class_layers),
        )

    def encode(self, graphs: Prepared | GraphBatch | Sequence[Graph] | Graph) -> Tensor:
        """Embeddings of all nodes of all graphs, `(N, hidden)`, as decoders read them."""
        return self._encoded(graphs if isinstance(graphs, Prepared) else self.prepare(graphs))

    def _encoded(self, prepared: Prepared) -> Tensor:
        table: nn.Embedding = self._modules["embed"]  # type: ignore[assignment]
        prepared = prepared.to(table.weight.device)
        x: Tensor = table(prepared.node_types) + self.shape_enc(prepared.shapes)  # (N, hidden)
        x = self.gnn(x, prepared.graphs, prepared.schedule)
        return self.ln(x) if self.config.layernorm else x

    @torch.no_grad()
    def predict(
        self,
        model: nn.Module | Sequence[nn.Module],
        input: Any = None,
        *,
        graph: Graph | Sequence[Graph] | None = None,
        predict_class_layers: bool = True,
    ) -> Any:
        """Predict the parameters of a network, or of several at once; the networks are left as they are.

        Parameters
        ----------
        model
            Any module, or a list of modules; their own parameters are not looked at and may be on `meta`.
        input
            As for `deepnets.trace`, for all of them; not needed for `deepnets.Network` and most classifiers of images.
        graph
            The graph of each, if it is known already.
        predict_class_layers
            As in `forward`.

        Returns
        -------
        A dict (a list of dicts, for a list of modules) from names, those of `named_parameters()`, to tensors of their
        own.  Parameters that no data reaches are missing.

        Raises
        ------
        TraceError
            If a network has no graph.
        """
        several = isinstance(model, Sequence)
        graphs = self._graphs(model, input, graph)
        results = _empty_results(graphs)

        def collect(run: Sequence[Wanted], blocks: Tensor) -> None:
            for wanted, block in zip(run, blocks):
                tensor = block.new_empty(wanted.slot.shape)
                results[wanted.graph][wanted.slot.name] = tile(block, wanted.slot.shape, out=tensor)

        self._predicted(graphs, predict_class_layers, collect)
        ordered = [_in_order(result) for result in results]
        return ordered if several else ordered[0]

    @torch.no_grad()
    def initialize(
        self,
        model: nn.Module,
        input: Any = None,
        *,
        graph: Graph | None = None,
        predict_class_layers: bool = True,
        noise: float = 0.0,
        orthogonal_from: int | None = None,
        batch_statistics: bool = False,
    ) -> nn.Module:
        """Write predicted parameters into a network.

        Parameters
        ----------
        model, input, graph, predict_class_layers
            As in `predict`.  Values are converted to the type and device of each parameter.
        noise, orthogonal_from
            What `ghn_model.vary` does to predicted tensors before fine-tuning: the size of the noise that makes copies
            differ, and the number of the first layer whose weight is made orthogonal.
        batch_statistics
            Whether batch norms are to normalise by the batch in evaluation, too.  With running statistics, which nobody
            has gathered for the new parameters, predictions only become useful by training.

        Returns
        -------
        The model.
        """
        targets = dict(model.named_parameters())
        if any(parameter.device.type == "meta" for parameter in targets.values()):
            raise ConfigError("model: has parameters on the meta device, which hold no values; call to_empty() first")
        graphs = self._graphs(model, input, graph)
        check_fit(graphs[0], targets)
        if noise or orthogonal_from is not None:
            from ghn_model.variation import vary

            predicted = self.predict(model, graph=graphs[0], predict_class_layers=predict_class_layers)
            for name, tensor in vary(model, predicted, noise=noise, orthogonal_from=orthogonal_from).items():
                targets[name].copy_(tensor)
        else:

            def write(run: Sequence[Wanted], blocks: Tensor) -> None:
                for wanted, block in zip(run, blocks):
                    tile(block, wanted.slot.shape, out=targets[wanted.slot.name])

            self._predicted(graphs, predict_class_layers, write)
        if batch_statistics:
            use_batch_statistics(model)
        return model

    @torch.no_grad()
    def embed(
        self,
        model: nn.Module | Sequence[nn.Module],
        input: Any = None,
        *,
        graph: Graph | Sequence[Graph] | None = None,
    ) -> Tensor:
        """Represent an architecture by a vector, or several by one each: the mean of its nodes' embeddings.

        Parameters
        ----------
        model, input, graph
            As in `predict`.

        Returns
        -------
        `(hidden,)`, or `(B, hidden)` for a list of modules.  Distances between vectors say how alike architectures are
        to the hypernetwork (NeurIPS 2021, section 5.3).
        """
        graphs = self._graphs(model, input, graph)
        nodes = torch.split(self.encode(graphs), [graph.num_nodes for graph in graphs])
        means = torch.stack([part.mean(0) for part in nodes])
        return means if isinstance(model, Sequence) else means[0]

    # --- files ---

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, *, device: torch.device | str = "cpu", num_classes: int | None = None
    ) -> GHN:
        """Load a bundled hypernetwork by name, or one from a file: of this toolkit, or of the original releases.

        Parameters
        ----------
        name_or_path
            One of `ghn_model.list_pretrained()`, or a file.
        device
            Where it is to be.
        num_classes
            What it must have been trained for; by default anything will do.

        Raises
        ------
        CheckpointError
            If there is none, or the file is not what it should be.
        """
        from ghn_model.checkpoints import load_checkpoint

        return load_checkpoint(name_or_path, device=device, num_classes=num_classes)

    def save(self, path: str | Path) -> None:
        """Write the hypernetwork into a file (safetensors, the configuration in its metadata), atomically."""
        from ghn_model.checkpoints import save_checkpoint

        save_checkpoint(self, path)

    # --- parts ---

    def _scale_last_layers(self) -> None:
        """Small first predictions: the last layers of decoders begin with a fifth of their weights, without biases."""
        parts = ("decoder_1d.fc.2", "decoder.class_layer_predictor.1")
        last = "decoder.conv.2" if self.config.decoder == "conv" else "decoder.mlp.fc.2"
        with torch.no_grad():
            for name in (*parts, last):
                self.get_parameter(f"{name}.weight").div_(5)
                self.get_parameter(f"{name}.bias").zero_()

    def _predicted(self, graphs: Sequence[Graph], class_layers: bool, sink: Sink) -> None:
        prepared = self.prepare(graphs, class_layers, schedule=False)
        self.assemble(prepared.plan, self._encoded(prepared), sink)

    def _graphs(
        self, model: nn.Module | Sequence[nn.Module], input: Any, graph: Graph | Sequence[Graph] | None
    ) -> list[Graph]:
        """The graphs of one or several modules."""
        models = list(model) if isinstance(model, Sequence) else [model]
        if not models or not all(isinstance(part, nn.Module) for part in models):
            raise ConfigError(f"model: expected a torch.nn.Module, or a list of them, got {shown(model)}")
        if graph is None:
            return [graph_of(part, input) for part in models]
        graphs = checked_graphs(graph)
        if len(graphs) != len(models):
            raise ConfigError(f"graph: expected one for each of {len(models)} models, got {len(graphs)}")
        return graphs


def graph_of(model: nn.Module, input: Any = None) -> Graph:
    """The graph of a network: built from its configuration, where it has one, else traced."""
    if type(model) is Network and not model.auxiliary:
        return build_graph(model.config, model.num_classes, model.image_size)
    return trace(model, input)


def use_batch_statistics(model: nn.Module) -> nn.Module:
    """Let all batch norms normalise by the batch, in evaluation, too (as the published evaluations do)."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return model


def _encoder(config: GHNConfig) -> nn.Module:
    if config.hypernet == "graphormer":
        return Graphormer(config.hidden, config.layers, config.heads, config.virtual_edges)
    if config.hypernet == "mlp":
        return NodeMLP(config.hidden)
    return GatedGNN(config.hidden, config.virtual_edges)


def _draw_tables(module: nn.Module) -> None:
    """Values of a new table of embeddings (ICML 2023): their variance adds up to 1."""
    if isinstance(module, nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=module.embedding_dim**-0.5)


def _empty_results(graphs: Sequence[Graph]) -> list[Parameters]:
    """A dict per graph with its parameters' names in the order of its nodes."""
    names = [[slot.name for slots in graph.parameters for slot in slots] for graph in graphs]
    return [dict.fromkeys(order) for order in names]  # type: ignore[misc]


def _in_order(result: Parameters) -> Parameters:
    """Without the names that were not asked for."""
    return {name: tensor for name, tensor in result.items() if tensor is not None}


_PUBLISHED = np.array(PUBLISHED_TYPE_OF)
