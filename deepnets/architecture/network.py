"""`Network`: the PyTorch network of a configuration (Knyazev et al., NeurIPS 2021, section 3 and appendix A).

    images ─▶ stem ─▶ cell 0 ─▶ ... ─▶ cell L-1 ─▶ pooling ─▶ classifier ─▶ logits
                             └▶ auxiliary head (optional)

Every cell reads the outputs of the two previous cells.  The two reduction cells, at one third and two thirds of the
depth, halve the resolution and multiply the width.  Networks with attention (`msa`) divide the image into patches and
have constant resolution.

The output of a cell can be absent (None), because the primitive `none` has no output; see `deepnets.architecture.cell`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets.architecture.cell import Cell
from deepnets.architecture.config import NetworkConfig, checked_task
from deepnets.architecture.genotype import Gene
from deepnets.architecture.operations import Norm, norm_layer
from deepnets.architecture.vocabulary import IMAGE_SIZES, has_cifar_stem
from deepnets.support import ConfigError

__all__ = ["AuxiliaryHead", "Network"]

CIFAR, IMAGENET = IMAGE_SIZES
"""Image sizes of the published networks, in pixels."""


class Network(nn.Module):
    """The network of a configuration, with PyTorch's default initialisation.

    Names and order of the parameters are those of the original release: `stem*`, `pos_enc.weight`,
    `cells.{k}.preprocess0.*`, `cells.{k}.preprocess1.*`, `cells.{k}._ops.{j}.*`, `auxiliary_head.*`, `classifier.*`.

    Parameters
    ----------
    config
        The architecture.
    num_classes
        Number of logits.
    image_size
        Height and width of the images, 16 to 512.  Up to 64 pixels, the network has the stem of CIFAR-10, which keeps
        most of the resolution; above, that of ImageNet (`deepnets.architecture.has_cifar_stem`).
    auxiliary
        Whether to attach a second classifier for training to the second reduction cell (Liu et al., ICLR 2019).
    drop_path
        Probability that the output of an operation is set to zero for a sample in training, at least 0 and below 1.

    Attributes
    ----------
    config, num_classes, image_size, auxiliary
        The arguments.
    drop_path : float
        The argument.  It can be changed at any time.

    Raises
    ------
    ConfigError
        If an argument is not allowed, or if `none` operations cut every path to the output or to the auxiliary head.

    Examples
    --------
    >>> import torch
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> config = NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16)
    >>> Network(config)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        config: NetworkConfig,
        num_classes: int = 10,
        image_size: int = CIFAR,
        *,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(config, NetworkConfig):
            raise ConfigError(
                f"config: expected a NetworkConfig, got {type(config).__name__}; for a genotype, use "
                "Network(NetworkConfig(genotype, n_cells=8, C=32))"
            )
        num_classes, image_size = checked_task(num_classes, image_size)
        if not 0 <= drop_path < 1:
            raise ConfigError(f"drop_path: expected a probability of at least 0 and below 1, got {drop_path!r}")
        _check_output(config, auxiliary)
        self.config = config
        self.num_classes = num_classes
        self.image_size = image_size
        self.auxiliary = auxiliary
        self.drop_path = drop_path

        norm = norm_layer(config.norm)
        stem_width = self._add_stem(norm)
        self.cells, widths = _cells(config, stem_width, norm)
        if auxiliary:
            self.auxiliary_head = AuxiliaryHead(widths[_auxiliary_cell(config)], config, num_classes, image_size, norm)
        self.global_pooling = nn.AdaptiveAvgPool2d(1) if config.glob_avg else nn.Identity()
        pixels = 1 if config.glob_avg else _final_side(config, image_size) ** 2
        self.classifier = _classifier(widths[-1] * pixels, config, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify images.

        Parameters
        ----------
        images
            (B, 3, image_size, image_size).

        Returns
        -------
        Tensor or tuple of two tensors
            The logits, (B, num_classes).  In training mode, a network with an auxiliary head returns the pair (logits,
            auxiliary logits), each of this shape.
        """
        features, auxiliary_input = self._run_cells(images)
        logits = self._classify(self.global_pooling(features).flatten(1))
        if self.auxiliary and self.training:
            return logits, self.auxiliary_head(auxiliary_input)
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Compute the output of the last cell, for example as the backbone of a detector.

        Parameters
        ----------
        images
            (B, 3, height, width).  The size need not be `image_size`; a positional encoding is resized.

        Returns
        -------
        Tensor
            (B, C, H, W).

        Examples
        --------
        >>> import torch
        >>> from deepnets import GENOTYPES, NetworkConfig
        >>> Network(NetworkConfig(GENOTYPES["DARTS"], n_cells=4, C=16)).features(torch.zeros(1, 3, 64, 48)).shape
        torch.Size([1, 256, 16, 12])
        """
        return self._run_cells(images)[0]

    def _run_cells(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The outputs of the last cell and of the one that the auxiliary head reads."""
        s0, s1 = self._run_stem(images)
        auxiliary_input = None
        for k, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, self.drop_path if self.training else 0.0)
            if k == _auxiliary_cell(self.config):
                auxiliary_input = s1
        return s1, auxiliary_input

    def _add_stem(self, norm: Norm) -> int:
        """Register the layers before the cells and return their width.

        They are children of the network itself, because that determines the names of their parameters.
        """
        C, ks, small = self.config.C, self.config.ks, has_cifar_stem(self.image_size)
        if self.config.is_vit:
            patch, padding = (3, 1) if small else (16, 0)
            side = (self.image_size + 2 * padding - patch) // patch + 1
            self.stem0: nn.Module = nn.Conv2d(3, C, patch, patch, padding, bias=False)
            self.pos_enc = PositionalEncoding(C, side)
            return C
        if self.config.stem_type == 0:
            width = 3 * C if small and self.config.preproc else C
            self.stem = nn.Sequential(
                nn.Conv2d(3, width, ks, 1 if small else self.config.imagenet_stride, ks // 2, bias=False),
                norm(width),
                nn.MaxPool2d(3, 2, padding=1) if self.config.stem_pool else nn.Identity(),
            )
            return width
        stride = 1 if small else 2
        self.stem0 = nn.Sequential(
            *(nn.Conv2d(3, C // 2, ks, stride, ks // 2, bias=False), norm(C // 2), nn.ReLU()),
            *(nn.Conv2d(C // 2, C, 3, stride, 1, bias=False), norm(C)),
        )
        self.stem1 = nn.Sequential(nn.ReLU(), nn.Conv2d(C, C, 3, 2, 1, bias=False), norm(C))
        return C

    def _run_stem(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.is_vit:
            patches = self.pos_enc(self.stem0(images))
            return patches, patches
        if self.config.stem_type == 0:
            features = self.stem(images)
            return features, features
        # The original applies the first ReLU of stem1 in place, so cell 0 reads rectified features.  This makes a
        # difference without preprocessing, which starts with a ReLU.
        s0 = F.relu(self.stem0(images))
        return s0, self.stem1(s0)

    def _classify(self, features: Tensor) -> Tensor:
        """Logits of features (B, f), without autocast, because they can be large with predicted parameters."""
        device = features.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                dtype = next((parameter.dtype for parameter in self.classifier.parameters()), torch.float32)
                logits: Tensor = self.classifier(features.to(dtype))
        else:
            logits = self.classifier(features)
        return logits


class PositionalEncoding(nn.Module):
    """Add a learned value to every channel of every pixel: (B, C, side, side) -> (B, C, side, side).

    Parameters
    ----------
    C
        Number of channels.
    side
        Height and width of the feature map.

    Examples
    --------
    >>> PositionalEncoding(8, side=11)(torch.zeros(1, 8, 11, 11)).shape
    torch.Size([1, 8, 11, 11])
    """

    def __init__(self, C: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, C, side, side))
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Add the encoding to x, (B, C, H, W); if the size is another one than `side`, it is interpolated."""
        weight: Tensor = self.weight
        if x.shape[-2:] != weight.shape[-2:]:
            weight = F.interpolate(weight, x.shape[-2:], mode="bilinear", align_corners=False)
        return x + weight


class AuxiliaryHead(nn.Module):
    """A second classifier for training, which reads the features after two thirds of the depth.

    Unlike the original, it does not rectify these features in place.  If its convolutions leave more than one pixel,
    for which the original fails, the mean of the pixels is classified.

    Parameters
    ----------
    width
        Channels of the features.
    config, num_classes, image_size
        As in `Network`.
    norm
        Constructor of the norm.

    Examples
    --------
    >>> from deepnets import GENOTYPES, NetworkConfig
    >>> config = NetworkConfig(GENOTYPES["DARTS"], n_cells=4)
    >>> head = AuxiliaryHead(64, config, 10, 32, norm_layer("bnorm"))
    >>> head(torch.zeros(2, 64, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, width: int, config: NetworkConfig, num_classes: int, image_size: int, norm: Norm) -> None:
        super().__init__()
        small = has_cifar_stem(image_size)
        low_resolution = config.stem_type == 1 or config.stem_pool
        window, stride = (5, 2) if not small else (2, 2) if low_resolution else (5, 3)
        side = 7 if not small else 4 if low_resolution else 8
        self.resize: nn.Module = nn.Identity()
        if small and config.is_vit:
            self.resize = nn.AdaptiveAvgPool2d(8)
        elif image_size not in IMAGE_SIZES:
            self.resize = nn.AdaptiveAvgPool2d(side)  # the features of the published size
        self.features = nn.Sequential(
            *(nn.ReLU(), nn.AvgPool2d(window, stride, count_include_pad=False)),
            *(nn.Conv2d(width, 128, 1, bias=False), norm(128), nn.ReLU()),
            *(nn.Conv2d(128, 768, 2, bias=False), norm(768) if small else nn.Identity(), nn.ReLU()),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits, (B, num_classes), of features, (B, width, H, W)."""
        features = self.features(self.resize(x))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def _cells(config: NetworkConfig, stem_width: int, norm: Norm) -> tuple[nn.ModuleList, list[int]]:
    """The cells, and the number of channels of the output of each."""
    cells, widths = nn.ModuleList(), [stem_width, stem_width]
    width = config.C
    halve = config.stem_type == 1
    for k in range(config.n_cells):
        reduction = k in config.reduction_cells
        if reduction:
            width *= config.C_mult
        genes, concat = _genes(config, k)
        cells.append(
            Cell(
                genes,
                concat,
                (widths[-2], widths[-1]),
                width,
                norm,
                preproc=config.preproc,
                halve=halve and not config.is_vit,
                stride=2 if reduction and not config.is_vit else 1,
            )
        )
        widths.append(len(concat) * width)
        halve = reduction
    return cells, widths[2:]


def _classifier(features: int, config: NetworkConfig, num_classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    widths = [features] + [config.fc_dim] * (config.fc_layers - 1)
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))


def _final_side(config: NetworkConfig, image_size: int) -> int:
    """Height and width of the last feature map of a network without attention."""
    small = has_cifar_stem(image_size)
    if config.stem_type == 1:
        stem_stride = 2 if small else 8
    else:
        stem_stride = (1 if small else config.imagenet_stride) * (2 if config.stem_pool else 1)
    return -(-image_size // (4 * stem_stride))  # two reduction cells; every strided layer rounds up


def _genes(config: NetworkConfig, k: int) -> tuple[Sequence[Gene], Sequence[int]]:
    """The genes and the concatenation of cell k."""
    genotype = config.genotype
    if k in config.reduction_cells:
        return genotype.reduce, genotype.reduce_concat
    return genotype.normal, genotype.normal_concat


def _auxiliary_cell(config: NetworkConfig) -> int:
    return 2 * config.n_cells // 3


def _check_output(config: NetworkConfig, auxiliary: bool) -> None:
    present = _present_outputs(config)
    if not present[-1]:
        raise ConfigError(
            "genotype: the network has no output, because `none` cuts every path from the input; replace a `none`"
        )
    if auxiliary and not present[_auxiliary_cell(config)]:
        raise ConfigError(
            f"auxiliary: cell {_auxiliary_cell(config)}, which the auxiliary head reads, has no output because of "
            "`none`; build this network without the auxiliary head"
        )


def _present_outputs(config: NetworkConfig) -> list[bool]:
    """For every cell, whether it has an output."""
    present = [True, True]
    for k in range(config.n_cells):
        genes, concat = _genes(config, k)
        states = present[-2:]
        for (op1, state1), (op2, state2) in zip(genes[::2], genes[1::2]):
            states.append((op1 != "none" and states[state1]) or (op2 != "none" and states[state2]))
        present.append(any(states[i] for i in concat))
    return present[2:]
