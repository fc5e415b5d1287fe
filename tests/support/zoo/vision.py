"""Small convolutional models, one for each feature of tracing."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.zoo.case import Case, Parts, image, parameter

__all__ = ["VISION"]


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **{"bias": False, **options})


def plain() -> nn.Module:
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    features = (conv(3, 8, bias=True), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), conv(8, 8), nn.AvgPool2d(2))
    return nn.Sequential(*features, *head)


def functional(self: Any, x: Tensor) -> Tensor:
    x = F.conv2d(x, self.weight, self.bias, padding=1)
    x = F.batch_norm(x, None, None, self.norm_weight, self.norm_bias, training=True)
    x = F.adaptive_avg_pool2d(F.max_pool2d(F.relu(x), 2), 1).reshape(len(x), -1)
    return F.linear(x, self.head_weight, self.head_bias)


FUNCTIONAL_PARTS = {
    "weight": (8, 3, 3, 3),
    "bias": (8,),
    "norm_weight": (8,),
    "norm_bias": (8,),
    "head_weight": (10, 8),
    "head_bias": (10,),
}


def dense_block(self: Any, x: Tensor) -> Tensor:
    features = [x]
    for layer in self.layers:
        features.append(layer(torch.cat(features, 1)))
    return torch.cat(features, 1)


def in_place(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    y = self.b(x).relu_()
    x += y
    x.mul_(2).clamp_(max=6)
    return self.c(x)


def in_place_on_a_view(self: Any, x: Tensor) -> Tensor:
    x = self.a(x)
    y = self.b(x)
    half = x[:, :4]
    half.add_(y)
    return self.c(x)  # uses the result of the addition


def slice_assignment(self: Any, x: Tensor) -> Tensor:
    result = torch.zeros(len(x), 16, *x.shape[2:], dtype=x.dtype, device=x.device)
    result[:, :8] = self.a(x)
    result[:, 8:] = self.b(x)
    return self.c(result)


def assignment_out(self: Any, x: Tensor) -> Tensor:
    a, b = self.a(x), self.b(x)
    result = torch.empty_like(a)
    with torch.no_grad():
        torch.add(a, b, out=result)
    return self.c(result)


def squeeze_excite_linear(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    gate = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3))))))
    x = x * gate[:, :, None, None]
    return self.head(x.mean((2, 3)))


def squeeze_excite_conv(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    gate = F.hardsigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))
    return self.head((gate * x).mean((2, 3)))


def pooled_branch(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    pooled = self.pooled(F.adaptive_avg_pool2d(x, 1))
    return torch.cat([self.local(x), F.interpolate(pooled, x.shape[2:], mode="bilinear")], 1)


def shuffled(self: Any, x: Tensor) -> Tensor:
    left, right = self.stem(x).chunk(2, 1)
    x = torch.cat([left, self.branch(right)], 1)
    B, C, H, W = x.shape
    x = x.view(B, 2, C // 2, H, W).transpose(1, 2).reshape(B, C, H, W)
    return self.head(x.mean([2, 3]))


def global_filter(self: Any, x: Tensor) -> Tensor:
    """A learned filter of frequencies, as in GFNet."""
    x = self.stem(x)
    spectrum = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(self.filter)
    return self.head(torch.fft.irfft2(spectrum, s=x.shape[2:], norm="ortho"))


def spatial_gate(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    statistics = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    return self.head(x * torch.sigmoid(self.gate(statistics)))


def generalized_mean(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x).clamp(min=1e-6)
    return self.head(x.pow(self.power).mean((2, 3)).pow(1 / self.power))


def dynamic_convolution(self: Any, x: Tensor) -> Tensor:
    """A convolution whose weight is a mixture that depends on the data, as in CondConv."""
    x = self.stem(x)
    B, C, H, W = x.shape
    routing = torch.sigmoid(self.router(x.mean((2, 3))))
    weight = (routing @ self.experts).view(B * 8, C, 3, 3)
    x = F.conv2d(x.reshape(1, B * C, H, W), weight, padding=1, groups=B).view(B, 8, H, W)
    return self.head(x)


def two_convs(**more: Any) -> dict[str, Any]:
    return {"a": conv(3, 8), "b": conv(8, 8), "c": conv(8, 4), **more}


VISION = {
    "plain": Case(
        *(plain, image()),
        types="input conv bias bn max_pool conv avg_pool glob_avg conv bias",
        edges="0>1 1>2 2>3 3>4 4>5 5>6 6>7 7>8 8>9",
    ),
    "functional": Case(
        lambda: Parts(functional, **{name: parameter(*shape) for name, shape in FUNCTIONAL_PARTS.items()}),
        image(),
        types="input conv bias bn max_pool glob_avg conv bias",
        edges="0>1 1>2 2>3 3>4 4>5 5>6 6>7",
    ),
    "grouped and dilated": Case(
        lambda: nn.Sequential(
            *(conv(3, 8), conv(8, 8, groups=8), conv(8, 8, dilation=2), conv(8, 8, groups=2, dilation=2)),
            *(nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
        ),
        image(),
        types="input conv sep_conv conv dil_conv bn",
    ),
    "residual": Case(
        lambda: Parts(lambda self, x: self.c((y := self.a(x)) + self.b(F.relu(y))), **two_convs()),
        image(),
        types="input conv conv sum conv",
        edges="0>1 1>2 1>3 2>3 3>4",
    ),
    "sums of one source": Case(
        lambda: Parts(lambda self, x: (y := self.a(x)) + y + y.relu() + torch.cat([y, y], 1)[:, 4:12], a=conv(3, 8)),
        image(),
        types="input conv",
    ),
    "concatenation": Case(
        lambda: Parts(
            lambda self, x: self.c(torch.cat((self.a(x), self.b(x), x), 1)), a=conv(3, 4), b=conv(3, 4), c=conv(11, 4)
        ),
        image(),
        types="input conv conv concat conv",
        edges="0>1 0>2 0>3 1>3 2>3 3>4",
    ),
    "stack": Case(
        lambda: Parts(lambda self, x: torch.stack((self.a(x), self.b(x))).flatten(0, 1), a=conv(3, 4), b=conv(3, 4)),
        image(),
        types="input conv conv concat",
    ),
    "dense block": Case(
        lambda: Parts(dense_block, layers=nn.ModuleList(conv(3 + 4 * i, 4) for i in range(3))),
        image(),
        types="input conv concat conv concat conv concat",
        edges="0>1 0>2 1>2 2>3 0>4 1>4 3>4 4>5 0>6 1>6 3>6 5>6",
    ),
    "in place": Case(
        lambda: Parts(in_place, **two_convs()),
        image(),
        types="input conv conv sum conv",
        edges="0>1 1>2 1>3 2>3 3>4",
    ),
    "in place on a view": Case(
        lambda: Parts(in_place_on_a_view, a=conv(3, 8), b=conv(8, 4), c=conv(8, 4)),
        image(),
    ),
    "in place on the input": Case(
        lambda: Parts(lambda self, x: self.a(x.sub_(0.5).div_(2)), a=conv(3, 8)), image(), types="input conv"
    ),
    "slice assignment": Case(
        lambda: Parts(slice_assignment, a=conv(3, 8), b=conv(3, 8), c=conv(16, 4)),
        image(),
        types="input conv conv concat conv",
        edges="0>1 0>2 1>3 2>3 3>4",
    ),
    "out": Case(
        lambda: Parts(assignment_out, a=conv(3, 8), b=conv(3, 8), c=conv(8, 4)),
        image(),
        types="input conv conv sum conv",
        edges="0>1 0>2 1>3 2>3 3>4",
        by_autograd=False,
    ),
    "squeeze-excite, linear": Case(
        lambda: Parts(
            squeeze_excite_linear, stem=conv(3, 8), reduce=nn.Linear(8, 4), expand=nn.Linear(4, 8), head=nn.Linear(8, 5)
        ),
        image(),
        types="input conv conv bias conv bias cse glob_avg conv bias",
        edges="0>1 1>2 2>3 3>4 4>5 1>6 5>6 6>7 7>8 8>9",
    ),
    "squeeze-excite, convolution": Case(
        lambda: Parts(
            squeeze_excite_conv,
            stem=conv(3, 8),
            reduce=conv(8, 4, 1),
            expand=conv(4, 8, 1, bias=True),
            head=nn.Linear(8, 5),
        ),
        image(),
        types="input conv conv conv bias cse glob_avg conv bias",
        edges="0>1 1>2 2>3 3>4 1>5 4>5 5>6 6>7 7>8",
    ),
    "pooled branch": Case(
        lambda: Parts(pooled_branch, stem=conv(3, 8), pooled=conv(8, 4, 1), local=conv(8, 4)),
        image(),
        types="input conv glob_avg conv conv concat",
        edges="0>1 1>2 2>3 1>4 3>5 4>5",
    ),
    "gate of equal shape": Case(
        lambda: Parts(lambda self, x: self.a(x) * torch.sigmoid(self.b(x)), a=conv(3, 8), b=conv(3, 8)),
        image(),
        types="input conv conv mul",
        edges="0>1 0>2 1>3 2>3",
    ),
    "gated linear unit": Case(
        lambda: nn.Sequential(conv(3, 16), nn.GLU(1), conv(8, 4)), image(), types="input conv conv"
    ),
    "spatial gate": Case(
        lambda: Parts(spatial_gate, stem=conv(3, 8), gate=conv(2, 1, 7), head=conv(8, 4)),
        image(),
        types="input conv conv cse conv",
    ),
    "shuffled channels": Case(
        lambda: Parts(shuffled, stem=conv(3, 8), branch=conv(4, 4), head=nn.Linear(8, 5)),
        image(),
        types="input conv conv concat glob_avg conv bias",
        edges="0>1 1>2 1>3 2>3 3>4 4>5 5>6",
    ),
    "one dimension": Case(
        lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.MaxPool1d(2), nn.Conv1d(8, 4, 3, groups=4)),
        lambda: torch.randn(2, 3, 32),
        types="input conv bias bn max_pool sep_conv bias",
    ),
    "three dimensions": Case(
        lambda: nn.Sequential(nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.AvgPool3d(2), nn.Conv3d(8, 4, 1, bias=False)),
        lambda: torch.randn(2, 3, 6, 8, 8),
        types="input conv bias bn avg_pool conv",
    ),
    "transposed": Case(
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2, bias=False)),
        image(),
        types="input conv bias conv",
    ),
    "prelu": Case(lambda: nn.Sequential(conv(3, 8), nn.PReLU(8), conv(8, 4), nn.PReLU()), image()),
    "bilinear": Case(
        lambda: Parts(
            lambda self, x: self.join(self.a(x.mean((2, 3))), self.b(x.amax((2, 3)))),
            a=nn.Linear(3, 4),
            b=nn.Linear(3, 5),
            join=nn.Bilinear(4, 5, 6),
        ),
        image(),
    ),
    "frequency filter": Case(
        lambda: Parts(global_filter, stem=conv(3, 8), filter=parameter(8, 16, 9, 2), head=conv(8, 4)),
        image(),
        types="input conv scale conv",
    ),
    "generalized mean": Case(
        lambda: Parts(generalized_mean, stem=conv(3, 8), power=nn.Parameter(3 * torch.ones(1)), head=nn.Linear(8, 4)),
        image(),
    ),
    "dynamic convolution": Case(
        lambda: Parts(
            dynamic_convolution,
            stem=conv(3, 8),
            router=nn.Linear(8, 4),
            experts=parameter(4, 8 * 8 * 9),
            head=conv(8, 4),
        ),
        image(),
    ),
    "mean with the names of numpy": Case(
        lambda: Parts(
            lambda self, x: self.head(self.stem(x).mean(axis=(2, 3), keepdims=False)),
            stem=conv(3, 8),
            head=nn.Linear(8, 4, bias=False),
        ),
        image(),
        types="input conv glob_avg conv",
        edges="0>1 1>2 2>3",
    ),
    "power mean of windows": Case(
        lambda: Parts(lambda self, x: self.head(F.lp_pool2d(self.stem(x), 3.0, 4)), stem=conv(3, 8), head=conv(8, 4)),
        image(),
        types="input conv avg_pool conv",
    ),
    "spatial transformer at the end": Case(
        lambda: Parts(
            lambda self, x: F.adaptive_avg_pool2d(
                F.grid_sample(self.content(x), self.place(x).permute(0, 2, 3, 1), align_corners=False), 1
            ),
            content=conv(3, 8),
            place=conv(3, 2),
        ),
        image(),
    ),
}
