"""`run_network`: the forward pass of a network with given parameters, without building a module.

Training a hypernetwork runs every network once with predicted parameters.  Building an `nn.Module` would take up to a
tenth of the training step, so this function calls PyTorch's functions directly.  It computes the same operations as
`deepnets.Network` in training mode, in the same order; the tests compare the results bitwise.

Two optimizations do not change the results: the ReLU of a state is computed once for all operations that read it, and
operations without a path to the output are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import deepnets.architecture.channel_functions  # noqa: F401  registers layers
from deepnets.architecture.cell import concatenate
from deepnets.architecture.channels import Channels, Index
from deepnets.architecture.compact_tensor import Repeated, whole
from deepnets.architecture.config import NetworkConfig
from deepnets.architecture.depthwise import depthwise_conv2d
from deepnets.architecture.genotype import Genotype
from deepnets.architecture.operations import ATTENTION_HEADS, shifted
from deepnets.architecture.vocabulary import INPUT_STATES, has_cifar_stem
from deepnets.support import ConfigError

__all__ = ["run_network"]


def run_network(
    config: NetworkConfig,
    parameters: Mapping[str, Tensor | Repeated],
    images: Tensor,
    *,
    image_size: int = 32,
    training: bool = True,
) -> Tensor:
    """Compute the logits of a network with given parameters, as `Network(config)` does in training mode.

    Parameters
    ----------
    config
        The architecture.
    parameters
        Tensors, with the names of `Network(config).named_parameters()`.  Parameters without influence on the output
        can be missing.  With parameters that are `Repeated`, equal channels are computed once.
    images
        `(B, 3, H, W)`.
    image_size
        Image size of the network, 16 to 512, which determines its stem, as in `Network`.  Networks with global average
        pooling and without positional encoding accept images of other sizes, too.
    training
        Whether the classifier applies dropout.  Batch norms always use the statistics of the batch.

    Returns
    -------
    Tensor
        Logits, `(B, num_classes)`.  On a CPU, those of networks with separable or dilated convolutions can be
        differentiated once: second derivatives raise a `RuntimeError`.

    Raises
    ------
    KeyError
        If a parameter is missing.
    ConfigError
        If the network has no output.

    Examples
    --------
    >>> import torch
    >>> from deepnets import GENOTYPES, Network, NetworkConfig
    >>> from deepnets.architecture import run_network
    >>> config = NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16)
    >>> network, images = Network(config), torch.randn(2, 3, 32, 32)
    >>> torch.equal(network(images), run_network(config, dict(network.named_parameters()), images))
    True
    """
    x: Any = images
    if any(isinstance(each, Repeated) for each in parameters.values()):
        x = Channels(images, Index.identity(images.shape[1]))
    logits: Tensor = whole(_Pass(config, parameters, has_cifar_stem(image_size), training).logits(x))
    return logits


class _Pass:
    """One forward pass through a network."""

    def __init__(self, config: NetworkConfig, parameters: Mapping[str, Any], small: bool, training: bool) -> None:
        self.config, self.parameters, self.small, self.training = config, parameters, small, training

    def conv(
        self,
        name: str,
        x: Tensor,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> Tensor:
        weight = self.parameters[f"{name}.weight"]
        whole_tensors = isinstance(x, Tensor) and isinstance(weight, Tensor)  # not those with repeated channels
        if whole_tensors and x.is_cuda and weight.shape[2:] == (1, 1) and groups == 1:
            return _pointwise(weight, x, stride)
        return F.conv2d(x, weight, None, stride, padding, dilation, groups)

    def depthwise(self, name: str, x: Tensor, stride: int, kernel: int, dilation: int = 1) -> Tensor:
        # Where the backward pass of PyTorch is slow on a CPU.
        large = (dilation > 1 or kernel > 3) and torch.is_grad_enabled()
        if large and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and _is_compiled_for(x):
            return depthwise_conv2d(x, self.parameters[f"{name}.weight"], stride, dilation)
        return self.conv(name, x, stride, dilation * (kernel // 2), dilation, x.shape[1])

    def norm(self, name: str, x: Tensor) -> Tensor:
        if self.config.norm is None:
            return x
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        # On a CPU, the backward pass of PyTorch 2.13 reads a weight as if it were contiguous, and reads memory behind
        # it when it is not, for example a constant that was expanded.
        return F.batch_norm(x, None, None, weight.contiguous(), bias.contiguous(), training=True)

    def linear(self, name: str, x: Tensor, bias: bool = True) -> Tensor:
        return F.linear(x, self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"] if bias else None)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"])

    def logits(self, images: Tensor) -> Tensor:
        config = self.config
        s0: Tensor | None
        s1: Tensor | None
        s0, s1 = self.stem(images)
        halve = config.stem_type == 1
        for k in range(config.n_cells):
            s0, s1 = s1, self.cell(k, s0, s1, halve)
            halve = k in config.reduction_cells
        if s1 is None:
            raise ConfigError("genotype: the network has no output, because `none` cuts every path from the input")
        features = (F.adaptive_avg_pool2d(s1, 1) if config.glob_avg else s1).flatten(1)
        device = features.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):  # as in `Network`, logits have the type of the parameters
                return self.classify(features.to(self.parameters["classifier.0.weight"].dtype))
        return self.classify(features)

    def classify(self, x: Tensor) -> Tensor:
        for layer in range(self.config.fc_layers):
            if layer:
                x = F.dropout(F.relu(x), 0.5, self.training)
            x = self.linear(f"classifier.{3 * layer}", x)
        return x

    def stem(self, images: Tensor) -> tuple[Tensor, Tensor]:
        config, small = self.config, self.small
        if config.is_vit:
            patch, padding = (3, 1) if small else (16, 0)
            patches = self.conv("stem0", images, patch, padding) + self.parameters["pos_enc.weight"]
            return patches, patches
        if config.stem_type == 0:
            stride = 1 if small else config.imagenet_stride
            x = self.norm("stem.1", self.conv("stem.0", images, stride, config.ks // 2))
            if config.stem_pool:
                x = F.max_pool2d(x, 3, 2, 1)
            return x, x
        stride = 1 if small else 2
        x = F.relu(self.norm("stem0.1", self.conv("stem0.0", images, stride, config.ks // 2)))
        x = F.relu(self.norm("stem0.4", self.conv("stem0.3", x, stride, 1)))
        return x, self.norm("stem1.2", self.conv("stem1.1", x, 2, 1))

    def cell(self, k: int, s0: Tensor | None, s1: Tensor | None, halve: bool) -> Tensor | None:
        config = self.config
        reduction = k in config.reduction_cells
        genotype = config.genotype
        genes, concat = (
            (genotype.reduce, genotype.reduce_concat) if reduction else (genotype.normal, genotype.normal_concat)
        )
        used = _used_states(genotype, reduction)
        stride = 2 if reduction and not config.is_vit else 1
        states: list[Tensor | None] = [
            None
            if s0 is None or not used[0]
            else self.input(f"cells.{k}.preprocess0", s0, halve and not config.is_vit),
            None if s1 is None or not used[1] else self.input(f"cells.{k}.preprocess1", s1, False),
        ]
        rectified: dict[int, Tensor] = {}
        for j in range(0, len(genes), 2):
            total: Tensor | None = None
            for i in (j, j + 1) if used[INPUT_STATES + j // 2] else ():
                primitive, source = genes[i]
                x = states[source]
                if x is None or primitive == "none":
                    continue
                if primitive in RECTIFYING or (primitive == "skip_connect" and stride == 2 and source < INPUT_STATES):
                    if source not in rectified:
                        rectified[source] = F.relu(x)
                    x = rectified[source]
                y = self.operation(f"cells.{k}._ops.{i}", primitive, x, stride if source < INPUT_STATES else 1)
                total = y if total is None else total + y
            states.append(total)
        return concatenate([states[i] for i in concat])

    def input(self, name: str, x: Tensor, halve: bool) -> Tensor:
        if not self.config.preproc:
            return x[:, :, ::2, ::2] if halve else x
        x = F.relu(x)
        return self.halved(name, x) if halve else self.norm(f"{name}.op.2", self.conv(f"{name}.op.1", x))

    def halved(self, name: str, x: Tensor) -> Tensor:
        """`FactorizedReduce`, without its ReLU."""
        halves = [self.conv(f"{name}.conv_1", x, 2), self.conv(f"{name}.conv_2", shifted(x), 2)]
        return self.norm(f"{name}.bn", torch.cat(halves, dim=1))

    def operation(self, name: str, primitive: str, x: Tensor, stride: int) -> Tensor:
        """Compute one primitive.  The input of primitives in `RECTIFYING` is the result of a ReLU."""
        kind, _, kernel = primitive.rpartition("_")
        size = int(kernel[0]) if kernel[0].isdigit() else 0
        if primitive == "skip_connect":
            return x if stride == 1 else self.halved(name, x)
        if kind == "max_pool":
            return F.max_pool2d(x, size, stride, 1)
        if kind == "avg_pool":
            return F.avg_pool2d(x, size, stride, 1, count_include_pad=False)
        if primitive == "conv_7x1_1x7":
            x = self.conv(f"{name}.op.1", x, (1, stride), (0, 3))
            return self.norm(f"{name}.op.3", self.conv(f"{name}.op.2", x, (stride, 1), (3, 0)))
        if kind == "conv":
            return self.norm(f"{name}.op.2", self.conv(f"{name}.op.1", x, stride, size // 2))
        if kind == "sep_conv":
            x = self.depthwise(f"{name}.op.1", x, stride, size)
            x = F.relu(self.norm(f"{name}.op.3", self.conv(f"{name}.op.2", x)))
            x = self.depthwise(f"{name}.op.5", x, 1, size)
            return self.norm(f"{name}.op.7", self.conv(f"{name}.op.6", x))
        if kind == "dil_conv":
            x = self.depthwise(f"{name}.op.1", x, stride, size, dilation=2)
            return self.norm(f"{name}.op.3", self.conv(f"{name}.op.2", x))
        if primitive == "cse":
            gate = F.hardswish(self.linear(f"{name}.fc2", F.relu(self.linear(f"{name}.fc1", x.mean(dim=(2, 3))))))
            return (x * gate[:, :, None, None])[:, :, ::stride, ::stride]
        return self.attention(name, x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        """Compute the primitive `msa`."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, H * W, C)
        qkv = self.linear(f"{name}.to_qkv", self.layer_norm(f"{name}.ln1", tokens), bias=False)
        q, k, v = (_heads(part) for part in qkv.chunk(3, dim=2))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.linear(f"{name}.to_out.0", attended)
        inner = F.gelu(self.linear(f"{name}.ff.net.0", self.layer_norm(f"{name}.ln2", tokens)))
        tokens = tokens + self.linear(f"{name}.ff.net.3", inner)
        return tokens.transpose(1, 2).reshape(x.shape)


def _is_compiled_for(x: Tensor) -> bool:
    """Return whether the compiled backward pass takes a tensor: neither half precision, nor `torch.func`."""
    return x.dtype in (torch.float32, torch.float64) and not torch._C._are_functorch_transforms_active()


RECTIFYING = frozenset(
    [
        *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7"),
        *("conv_1x1", "conv_3x3", "conv_5x5", "conv_7x7"),
    ]
)
"""Primitives that start with a ReLU."""


@lru_cache(1024)
def _used_states(genotype: Genotype, reduction: bool) -> tuple[bool, ...]:
    """For every state of a cell, whether the output of the cell depends on it."""
    genes, concat = (
        (genotype.reduce, genotype.reduce_concat) if reduction else (genotype.normal, genotype.normal_concat)
    )
    used = [False] * (INPUT_STATES + len(genes) // 2)
    for state in concat:
        used[state] = True
    for j in reversed(range(len(genes) // 2)):
        if used[INPUT_STATES + j]:
            for primitive, source in genes[2 * j : 2 * j + 2]:
                used[source] |= primitive != "none"
    return tuple(used)


def _pointwise(weight: Tensor, x: Tensor, stride: int | tuple[int, int]) -> Tensor:
    """Compute a 1x1 convolution as a matrix product.

    On GPUs, cuDNN plans every convolution of a new shape, which takes the host longer than the product takes the GPU.
    Networks of different widths have few shapes in common.
    """
    if stride != 1:
        x = x[:, :, ::2, ::2]
    products = torch.matmul(weight.flatten(1), x.flatten(2))  # (B, C_out, H * W)
    return products.view(x.shape[0], -1, *x.shape[2:])


def _heads(tokens: Tensor) -> Tensor:
    return tokens.reshape(*tokens.shape[:2], ATTENTION_HEADS, -1).transpose(1, 2)  # (B, 8, H * W, C / 8)
