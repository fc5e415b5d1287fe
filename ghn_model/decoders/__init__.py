"""Decoders of a hypernetwork: they turn the embedding of a node into the values of its parameters.

modules   the decoders as torch modules
low_rank  the decoder of LoGAH
plan      which decoder produces which parameter
assembly  the parameters of a plan, decoded and brought to their shapes
tiling    normalization of decoded values, which are repeated
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from deepnets.architecture import tile
from ghn_model.config import GHNConfig
from ghn_model.decoders.assembly import (
    Decoders,
    Parameters,
    Sink,
    block_shapes,
    decode_batch,
    decode_blocks,
    decode_parameters,
)
from ghn_model.decoders.low_rank import LowRankDecoder, VectorPlaceholders
from ghn_model.decoders.modules import ClassHead, ConvDecoder, MLPDecoder, VectorDecoder
from ghn_model.decoders.plan import plan_decoding
from ghn_model.decoders.tiling import gain
from ghn_model.registry import DECODERS, Factory, find_part

__all__ = [
    "DECODERS",
    "ClassHead",
    "ConvDecoder",
    "Decoder",
    "Decoders",
    "LowRankDecoder",
    "MLPDecoder",
    "Parameters",
    "Sink",
    "VectorDecoder",
    "block_shapes",
    "decode_batch",
    "decode_blocks",
    "decode_parameters",
    "gain",
    "make_decoder",
    "make_vector_decoders",
    "output_layers",
    "plan_decoding",
    "register_decoder",
    "tile",
]


class Decoder(Protocol):
    """What a hypernetwork expects of its decoder, besides being a `torch.nn.Module`.

    Vectors, such as biases, and the biases of classifiers are not decoded by it but by `VectorDecoder` (except by
    "lowrank", with `GHNConfig.vector_decoder` set to False).  A decoder may
    have a method `output_layers()` that returns its last linear layers; with the initial values of GHN-3
    (`GHNConfig.init`), the hypernetwork divides their weights by 5 and sets their biases to 0.  It may also have a
    method `decode_windows`, as `ConvDecoder`, which decodes several windows faster than one by one.

    Examples
    --------
    A decoder that produces one value per output and input channel:

    >>> import torch
    >>> class ChannelDecoder(torch.nn.Module):
    ...     def __init__(self, config):
    ...         super().__init__()
    ...         self.channels, self.num_classes = config.max_shape[0], config.num_classes
    ...         self.linear = torch.nn.Linear(config.hidden, self.channels * self.channels)
    ...
    ...     def forward(self, x, rows, columns, height, width):
    ...         maps = self.linear(x).view(len(x), self.channels, self.channels, 1, 1)
    ...         return maps[:, :rows, :columns].expand(-1, -1, -1, height, width)
    ...
    ...     def class_weights(self, x):
    ...         return self(x, 1, self.channels, 1, 1)[..., 0, 0].expand(-1, self.num_classes, -1)
    >>> from deepnets import GENOTYPES, Network, NetworkConfig
    >>> from ghn_model import GHN, GHNConfig, register_decoder
    >>> register_decoder("example-channels", ChannelDecoder)
    >>> ghn = GHN(GHNConfig(decoder="example-channels", hidden=8))
    >>> ghn.predict(Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8)))["classifier.0.weight"].shape[0]
    10
    """

    def __call__(self, x: Tensor, rows: int, columns: int, height: int, width: int) -> Tensor:
        """Decode a window of the map of each node.

        Parameters
        ----------
        x
            `(n, hidden)`, embeddings of nodes.
        rows, columns, height, width
            Output channels, input channels, height and width of the window, at most those of `GHNConfig.max_shape`.

        Returns
        -------
        `(n, rows, columns, height, width)`.
        """

    def class_weights(self, x: Tensor) -> Tensor:
        """Decode the weights of classifiers.

        Parameters
        ----------
        x
            `(n, hidden)`, embeddings of nodes.

        Returns
        -------
        `(n, num_classes, input channels)`, with at most `GHNConfig.max_shape[1]` input channels.
        """


def register_decoder(name: str, factory: Factory) -> None:
    """Make a decoder available as a value of `GHNConfig.decoder`.

    Parameters
    ----------
    name
        The value.
    factory
        Called with the `GHNConfig`; returns a module that fulfils `Decoder`.

    Raises
    ------
    ConfigError
        If another decoder has this name.

    Examples
    --------
    >>> from ghn_model import GHNConfig
    >>> register_decoder("example-mlp", lambda config: MLPDecoder(config.hidden, config.max_shape, config.num_classes))
    >>> GHNConfig(decoder="example-mlp").decoder
    'example-mlp'
    """
    DECODERS.register(name, factory)


def make_decoder(config: GHNConfig) -> nn.Module:
    """Make the decoder of a configuration, with random weights.

    Raises
    ------
    ConfigError
        If the decoder is given as ``"module:attribute"`` and cannot be imported.

    Examples
    --------
    >>> from ghn_model import GHNConfig
    >>> make_decoder(GHNConfig(hidden=8)).max_shape
    (64, 64, 11, 11)
    """
    return find_part(DECODERS, config.decoder)(config)


def make_vector_decoders(config: GHNConfig) -> tuple[nn.Module, nn.Module]:
    """Make the decoder of vectors and the head for the biases of classifiers, with random weights.

    Without a decoder of vectors (`GHNConfig.vector_decoder`), they are two modules with one unused weight each, which
    the published LoGAH has, too.

    Examples
    --------
    >>> from ghn_model import GHNConfig
    >>> [type(module).__name__ for module in make_vector_decoders(GHNConfig(hidden=8))]
    ['VectorDecoder', 'ClassHead']
    """
    if not config.vector_decoder:
        return VectorPlaceholders(first=0), VectorPlaceholders(first=1)
    return VectorDecoder(config.hidden, config.vector_size), ClassHead(config.vector_size, config.num_classes)


def output_layers(config: GHNConfig, decoder: nn.Module, vectors: nn.Module) -> list[nn.Module]:
    """The last layers of the decoders, which GHN-3 initializes with small weights, and LoGAH only for vectors.

    Examples
    --------
    >>> from ghn_model import GHNConfig
    >>> config = GHNConfig(hidden=8)
    >>> len(output_layers(config, make_decoder(config), make_vector_decoders(config)[0]))
    3
    """
    layers = [vectors.fc[2]] if isinstance(vectors, VectorDecoder) else []
    if config.init == "small" or not isinstance(decoder, LowRankDecoder):
        layers += getattr(decoder, "output_layers", tuple)()
    return layers


def _conv(config: GHNConfig) -> nn.Module:
    return ConvDecoder(config.hidden, config.max_shape, config.num_classes, config.window)


def _mlp(config: GHNConfig) -> nn.Module:
    return MLPDecoder(config.hidden, config.max_shape, config.num_classes)


def _low_rank(config: GHNConfig) -> nn.Module:
    return LowRankDecoder(config.hidden, config.rank, config.factor_rows)
