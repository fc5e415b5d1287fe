"""`GHN`: a graph hypernetwork (MLP, GHN-1 to GHN-3, LoGAH), which predicts all parameters of a network from its graph.

graph -> node types and shapes -> node embeddings -> encoder -> node embeddings -> decoders -> {name: tensor}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepnets.architecture import NODE_TYPE_ROWS, Repeated
from deepnets.graph import Graph, GraphBatch
from deepnets.support import ConfigError
from ghn_model.collation import collate_graphs
from ghn_model.config import GHNConfig
from ghn_model.decoders import (
    Decoders,
    Parameters,
    decode_batch,
    decode_blocks,
    make_decoder,
    make_vector_decoders,
    output_layers,
)
from ghn_model.encoders import Encoder, ShapeEncoder, make_encoder
from ghn_model.initialization import initialize_weights
from ghn_model.networks import check_parameters, graphs_of, use_batch_statistics, writable_parameters
from ghn_model.persistence import Persistent
from ghn_model.precision import in_usual_precision
from ghn_model.prediction import Prediction, warn_of_classes, warn_of_kept, write_parameters
from ghn_model.prepared_batch import PreparedBatch
from ghn_model.variation import vary

__all__ = ["GHN", "Parameters"]


class GHN(Persistent):
    """A graph hypernetwork.

    Parameters
    ----------
    config
        The configuration, or the name of a published one (`ghn_model.PRESETS`) for CIFAR-10; available as attribute.
        The weights are random; `GHN.from_pretrained` loads trained ones.

    Raises
    ------
    ConfigError
        If `config` is neither, or names an encoder or decoder that cannot be imported.

    Examples
    --------
    >>> from deepnets import GENOTYPES, Network, NetworkConfig
    >>> model = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16))
    >>> ghn = GHN(GHNConfig.preset("ghn2", num_classes=10))
    >>> parameters = ghn.predict(model)
    >>> len(parameters) == len(list(model.parameters()))
    True
    """

    def __init__(self, config: GHNConfig | str) -> None:
        super().__init__()
        config = GHNConfig.preset(config) if isinstance(config, str) else config
        if not isinstance(config, GHNConfig):
            raise ConfigError(f"config: expected a GHNConfig or the name of a preset, got {type(config).__name__}")
        self.config = config
        if config.layernorm:
            self.ln = nn.LayerNorm(config.hidden)
        # The official checkpoints call this table `embed`, which is also the name of a method.
        self._modules["embed"] = nn.Embedding(1 + max(NODE_TYPE_ROWS[config.node_types]), config.hidden)
        sizes = config.num_classes, max(config.max_shape[2:]), config.channel_sizes
        self.shape_enc = ShapeEncoder(config.hidden, *sizes)
        self.gnn = make_encoder(config)
        self.decoder = make_decoder(config)
        self.decoder_1d, self.bias_class = make_vector_decoders(config)
        if config.init == "small" or config.hypernet == "graphormer":
            initialize_weights(self, output_layers(config, self.decoder, self.decoder_1d))

    @in_usual_precision
    def forward(
        self, graphs: PreparedBatch | GraphBatch | Sequence[Graph] | Graph, *, predict_class_layers: bool = True
    ) -> list[Parameters]:
        """Predict the parameters of networks, differentiably with respect to the weights of the hypernetwork.

        Parameters
        ----------
        graphs
            One or more graphs, a batch from `DeepNets1M.loader`, or a batch from `prepare`.
        predict_class_layers
            Whether to predict the layers whose outputs are the classes, too; a prepared batch has its own setting.

        Returns
        -------
        One dict per graph, with a contiguous tensor for every parameter that a node of the graph has, on the device and
        of the dtype of the hypernetwork.  Tensors of equal shapes share memory; do not change them in place.

        Raises
        ------
        ConfigError
            If there is no graph, or a graph does not know its parameters.

        Examples
        --------
        >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
        >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
        >>> parameters, _ = GHN("ghn2")([graph, graph])
        >>> parameters["classifier.0.weight"].requires_grad
        True
        """
        batch = graphs if isinstance(graphs, PreparedBatch) else self.prepare(graphs, predict_class_layers)
        embeddings = self.encode(batch)
        return decode_batch(batch.to(embeddings.device), embeddings, self._decoders, self.config)

    @in_usual_precision
    def predict_blocks(self, graphs: PreparedBatch | Sequence[Graph] | Graph) -> list[dict[str, Tensor | Repeated]]:
        """Predict as `forward`, without repeating what is decoded.

        Parameters
        ----------
        graphs
            One or more graphs, or a batch from `prepare`.

        Returns
        -------
        As `forward`, with `deepnets.architecture.Repeated` in place of tensors that repeat a block.  `run_network`
        takes both.

        Examples
        --------
        >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
        >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=128))
        >>> (parameters,) = GHN("ghn2").predict_blocks(graph)
        >>> weight = parameters["stem.0.weight"]
        >>> weight.shape, weight.block.shape
        (torch.Size([384, 3, 3, 3]), torch.Size([64, 3, 3, 3]))
        """
        batch = graphs if isinstance(graphs, PreparedBatch) else self.prepare(graphs)
        embeddings = self.encode(batch)
        return decode_blocks(batch.to(embeddings.device), embeddings, self._decoders, self.config)

    def prepare(
        self,
        graphs: GraphBatch | Sequence[Graph] | Graph,
        predict_class_layers: bool = True,
        encoder_inputs: bool = True,
    ) -> PreparedBatch:
        """Compute everything that `forward` needs to know about graphs and that does not depend on weights.

        Parameters
        ----------
        graphs, predict_class_layers
            As in `forward`.
        encoder_inputs
            Whether to prepare the inputs of the encoder, too; otherwise `forward` does if necessary.

        Returns
        -------
        The batch, on the CPU; its method `to` copies it to another device.

        Examples
        --------
        >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
        >>> ghn = GHN("ghn2")
        >>> batch = ghn.prepare(build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8)))
        >>> (parameters,) = ghn(batch)
        """
        encoder = cast(Encoder, self.gnn) if encoder_inputs else None
        return collate_graphs(graphs, self.config, encoder, predict_class_layers)

    @in_usual_precision
    def encode(self, graphs: PreparedBatch | GraphBatch | Sequence[Graph] | Graph) -> Tensor:
        """Compute the embeddings `(N, hidden)` of the N nodes of all graphs, as the decoders read them.

        Parameters
        ----------
        graphs
            As in `forward`.

        Examples
        --------
        >>> from deepnets import GENOTYPES, NetworkConfig, build_graph
        >>> graph = build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8))
        >>> GHN("ghn2").encode(graph).shape == (graph.num_nodes, 32)
        True
        """
        batch = graphs if isinstance(graphs, PreparedBatch) else self.prepare(graphs, encoder_inputs=False)
        if batch.encoder_inputs is None and getattr(self.gnn, "requires_inputs", True):
            batch = replace(batch, encoder_inputs=cast(Encoder, self.gnn).prepare(batch.graphs))
        table: nn.Embedding = self._modules["embed"]  # type: ignore[assignment]
        batch = batch.to(table.weight.device)
        x: Tensor = table(batch.node_types) + self.shape_enc(batch.shapes)  # (N, hidden)
        x = self.gnn(x, batch)
        return self.ln(x) if self.config.layernorm else x

    @in_usual_precision
    @torch.no_grad()
    def predict(
        self,
        model: nn.Module | Sequence[nn.Module],
        input: Any = None,
        *,
        graph: Graph | Sequence[Graph] | None = None,
        predict_class_layers: bool = True,
        vocabulary: str | None = None,
    ) -> Any:
        """Predict the parameters of a network, or of several networks at once.  The networks are not changed.

        Parameters
        ----------
        model
            Any `torch.nn.Module`, or a list of modules.  Only the shapes of its parameters matter; they may be on the
            ``meta`` device.
        input
            Example input for `deepnets.trace`, for every module; most image classifiers need none.
        graph
            The graph of each module, if you already have it; the module is then not traced.  A module without
            parameters, such as ``nn.Identity()``, can take the place of a network that you have not built.
        predict_class_layers
            Whether to predict the layers of the classes, too; a warning is logged if there are other classes.
        vocabulary
            The operations that are nodes of a traced graph, as in `deepnets.trace`; default: `config.vocabulary`.

        Returns
        -------
        A `Prediction`: a dict from parameter names, as in `named_parameters()`, to new contiguous tensors without
        gradients, on the device of the hypernetwork; for a list of modules, a list.  Parameters that do not affect the
        output of the network, or that the vocabulary has no node for, are missing; its attribute `kept` lists them.

        Raises
        ------
        ConfigError
            If the arguments do not fit together, such as a graph of another network.
        TraceError
            If a network cannot be traced.

        Examples
        --------
        >>> from deepnets import GENOTYPES, Network, NetworkConfig
        >>> ghn = GHN.from_pretrained("ghn2-digits")
        >>> model = Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16))
        >>> parameters = ghn.predict(model)
        >>> parameters["classifier.0.weight"].shape == model.classifier[0].weight.shape
        True
        >>> mlp = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
        >>> list(ghn.predict(mlp, torch.zeros(1, 8)))
        ['0.weight', '0.bias', '2.weight', '2.bias']
        """
        graphs = graphs_of(model, input, graph, vocabulary, self.config.vocabulary)
        if graph is not None:
            for each, given in zip(model if isinstance(model, Sequence) else [model], graphs):
                if targets := dict(each.named_parameters()):
                    check_parameters(given, targets)
        warn_of_classes(graphs, self.config, predict_class_layers)
        batch = self.prepare(graphs, predict_class_layers, encoder_inputs=False)
        embeddings = self.encode(batch)
        decoded = decode_batch(batch.to(embeddings.device), embeddings, self._decoders, self.config, separate=True)
        if isinstance(model, Sequence):
            return [Prediction(*each, self.config) for each in zip(decoded, model, graphs)]
        return Prediction(decoded[0], model, graphs[0], self.config)

    @in_usual_precision
    @torch.no_grad()
    def initialize(
        self,
        model: nn.Module,
        input: Any = None,
        *,
        graph: Graph | None = None,
        predict_class_layers: bool = True,
        vocabulary: str | None = None,
        noise: float = 0.0,
        orthogonal_from: int | None = None,
        batch_statistics: bool = False,
    ) -> nn.Module:
        """Write predicted parameters into a network, in place.

        Parameters
        ----------
        model, input, graph, predict_class_layers, vocabulary
            As in `predict`, for one module.  Values are converted to the dtype and device of each parameter.  A warning
            is logged if parameters keep their values because the vocabulary has no node for them.
        noise, orthogonal_from
            As in `ghn_model.vary`, which is applied to the predicted tensors, to start fine-tuning from them.
        batch_statistics
            Whether to apply `use_batch_statistics`.  The running statistics of a network are wrong for new parameters.

        Returns
        -------
        The model.

        Raises
        ------
        ConfigError
            If the model is no module, has parameters on the ``meta`` device, or the graph does not fit it.
        TraceError
            If the network cannot be traced.

        Examples
        --------
        >>> from deepnets import GENOTYPES, Network, NetworkConfig
        >>> ghn = GHN.from_pretrained("ghn2-digits")
        >>> model = ghn.initialize(Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16)), batch_statistics=True)
        >>> model.eval()(torch.rand(8, 3, 32, 32)).shape
        torch.Size([8, 10])
        """
        targets = writable_parameters(model)
        graphs = graphs_of(model, input, graph, vocabulary, self.config.vocabulary)
        check_parameters(graphs[0], targets)
        if graph is None:
            warn_of_kept(model, graphs[0], vocabulary or self.config.vocabulary)
        if noise or orthogonal_from is not None:
            predicted = self.predict(model, graph=graphs[0], predict_class_layers=predict_class_layers)
            for name, tensor in vary(model, predicted, noise=noise, orthogonal_from=orthogonal_from).items():
                targets[name].copy_(tensor)
        else:
            warn_of_classes(graphs, self.config, predict_class_layers)
            batch = self.prepare(graphs, predict_class_layers, encoder_inputs=False)
            embeddings = self.encode(batch)
            write_parameters(batch.to(embeddings.device), embeddings, self._decoders, self.config, targets)
        return use_batch_statistics(model) if batch_statistics else model

    @in_usual_precision
    @torch.no_grad()
    def embed(
        self,
        model: nn.Module | Sequence[nn.Module],
        input: Any = None,
        *,
        graph: Graph | Sequence[Graph] | None = None,
        vocabulary: str | None = None,
    ) -> Tensor:
        """Represent an architecture by a vector: the mean of its node embeddings (NeurIPS 2021, section 5.3).

        Parameters
        ----------
        model, input, graph, vocabulary
            As in `predict`.

        Returns
        -------
        `(hidden,)`, or `(B, hidden)` for a list of B modules.

        Examples
        --------
        >>> from deepnets import GENOTYPES, Network, NetworkConfig
        >>> ghn = GHN.from_pretrained("ghn2-digits")
        >>> ghn.embed(Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16))).shape
        torch.Size([32])
        """
        graphs = graphs_of(model, input, graph, vocabulary, self.config.vocabulary)
        nodes = torch.split(self.encode(graphs), [graph.num_nodes for graph in graphs])
        means = torch.stack([part.mean(0) for part in nodes])
        return means if isinstance(model, Sequence) else means[0]

    @property
    def _decoders(self) -> Decoders:
        return Decoders(self.decoder, self.decoder_1d, self.bias_class)
