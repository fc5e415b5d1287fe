"""The forward pass of a network as a function of its state dict, written from spec/deepnets-1m.md, section 2.

It has no modules and shares no code with `deepnets`.  It is slow, but simple enough to be checked by reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.architecture import NetworkConfig

__all__ = ["functional_forward"]


def functional_forward(
    config: NetworkConfig, state: dict[str, Tensor], images: Tensor, *, training: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return the logits and, in training and with an auxiliary head in the state dict, the auxiliary logits.

    There is no dropout in training, and no drop path.
    """
    return _Forward(config, state, images.shape[-1] == 32, training).run(images)


@dataclass
class _Forward:
    config: NetworkConfig
    state: dict[str, Tensor]
    small: bool
    training: bool

    def run(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        config = self.config
        L = config.n_cells
        outputs: list[Tensor | None] = list(self.stem(images))
        for k in range(L):
            outputs.append(self.cell(k, outputs[-2], outputs[-1]))
        x = outputs[-1]
        x = x.sum((2, 3)) / (x.shape[2] * x.shape[3]) if config.glob_avg else x.reshape(len(x), -1)
        for i in range(config.fc_layers):
            x = self.linear(f"classifier.{3 * i}", x if i == 0 else x.clamp(min=0))
        auxiliary = None
        if self.training and "auxiliary_head.classifier.weight" in self.state:
            auxiliary = self.auxiliary_head(outputs[2 + 2 * L // 3])
        return x, auxiliary

    # ----- layers -----

    def conv(self, name: str, x: Tensor, stride: int | tuple[int, int] = 1, padding=0, dilation: int = 1) -> Tensor:
        weight = self.state[name + ".weight"]
        return F.conv2d(x, weight, None, stride, padding, dilation, groups=x.shape[1] // weight.shape[1])

    def linear(self, name: str, x: Tensor) -> Tensor:
        y = x @ self.state[name + ".weight"].T
        return y + self.state[name + ".bias"] if name + ".bias" in self.state else y

    def norm(self, name: str, x: Tensor) -> Tensor:
        if self.config.norm is None:
            return x
        if self.config.norm == "bn-track" and not self.training:
            mean, var = self.state[name + ".running_mean"], self.state[name + ".running_var"]
        else:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return x * self.state[name + ".weight"][:, None, None] + self.state[name + ".bias"][:, None, None]

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x * self.state[name + ".weight"] + self.state[name + ".bias"]

    def factorized_reduce(self, name: str, x: Tensor) -> Tensor:
        x = x.relu()
        parts = [self.conv(f"{name}.conv_1", x, 2), self.conv(f"{name}.conv_2", x[:, :, 1:, 1:], 2)]
        return self.norm(f"{name}.bn", torch.cat(parts, 1))

    # ----- parts -----

    def stem(self, x: Tensor) -> tuple[Tensor, Tensor]:
        config, half = self.config, self.config.ks // 2
        if "msa" in [op for op, _ in config.genotype.normal + config.genotype.reduce]:
            x = self.conv("stem0", x, 3, 1) if self.small else self.conv("stem0", x, 16)
            x = x + self.state["pos_enc.weight"]
            return x, x
        if config.stem_type == 0:
            x = self.norm("stem.1", self.conv("stem.0", x, 1 if self.small else config.imagenet_stride, half))
            x = F.max_pool2d(x, 3, 2, 1) if config.stem_pool else x
            return x, x
        stride = 1 if self.small else 2
        x = self.norm("stem0.1", self.conv("stem0.0", x, stride, half)).relu()
        s0 = self.norm("stem0.4", self.conv("stem0.3", x, stride, 1)).relu_()
        return s0, self.norm("stem1.2", self.conv("stem1.1", s0, 2, 1))

    def cell(self, k: int, s0: Tensor | None, s1: Tensor | None) -> Tensor | None:
        config, genotype = self.config, self.config.genotype
        is_vit = "pos_enc.weight" in self.state
        reductions = {config.n_cells // 3, 2 * config.n_cells // 3} - {0}
        genes = genotype.reduce if k in reductions else genotype.normal
        concat = genotype.reduce_concat if k in reductions else genotype.normal_concat
        halve = not is_vit and (config.stem_type == 1 if k == 0 else k - 1 in reductions)
        states = [self.preprocess(f"cells.{k}.preprocess0", s0, halve), self.preprocess(f"cells.{k}.preprocess1", s1)]
        for i in range(len(genes) // 2):
            total = None
            for j in (2 * i, 2 * i + 1):
                op, source = genes[j]
                if op == "none" or states[source] is None:
                    continue
                stride = 2 if k in reductions and source < 2 and not is_vit else 1
                y = self.operation(op, f"cells.{k}._ops.{j}", states[source], stride)
                total = y if total is None else total + y
            states.append(total)
        kept = [states[i] for i in concat]
        like = next((state for state in kept if state is not None), None)
        if like is None:
            return None
        return torch.cat([like * 0 if state is None else state for state in kept], 1)

    def preprocess(self, name: str, x: Tensor | None, halve: bool = False) -> Tensor | None:
        if x is None:
            return None
        if not self.config.preproc:
            return x[:, :, ::2, ::2] if halve else x
        if halve:
            return self.factorized_reduce(name, x)
        return self.norm(f"{name}.op.2", self.conv(f"{name}.op.1", x.relu()))

    def operation(self, op: str, name: str, x: Tensor, stride: int) -> Tensor:
        if op == "max_pool_3x3":
            return F.max_pool2d(x, 3, stride, 1)
        if op == "avg_pool_3x3":  # the padding is not included in the average
            return F.avg_pool2d(x, 3, stride, 1) / F.avg_pool2d(torch.ones_like(x), 3, stride, 1)
        if op == "skip_connect":
            return x if stride == 1 else self.factorized_reduce(name, x)
        if op == "msa":
            return self.attention(name, x)
        if op == "cse":
            gate = self.linear(f"{name}.fc2", self.linear(f"{name}.fc1", x.mean((2, 3))).relu())
            gate = gate * (gate + 3).clamp(0, 6) / 6
            return (x * gate[..., None, None])[..., ::stride, ::stride]
        x = x.relu()
        if op == "conv_7x1_1x7":
            x = self.conv(f"{name}.op.1", x, (1, stride), (0, 3))
            return self.norm(f"{name}.op.3", self.conv(f"{name}.op.2", x, (stride, 1), (3, 0)))
        k = int(op[-1])
        if op.startswith("sep_conv"):
            x = self.conv(f"{name}.op.2", self.conv(f"{name}.op.1", x, stride, k // 2))
            x = self.norm(f"{name}.op.3", x).relu()
            return self.norm(f"{name}.op.7", self.conv(f"{name}.op.6", self.conv(f"{name}.op.5", x, 1, k // 2)))
        if op.startswith("dil_conv"):
            x = self.conv(f"{name}.op.1", x, stride, k - 1, 2)
            return self.norm(f"{name}.op.3", self.conv(f"{name}.op.2", x))
        return self.norm(f"{name}.op.2", self.conv(f"{name}.op.1", x, stride, k // 2))

    def attention(self, name: str, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        t = torch.stack([x[:, :, h, w] for h in range(H) for w in range(W)], 1)  # (B, T, C)
        qkv = self.linear(f"{name}.to_qkv", self.layer_norm(f"{name}.ln1", t)).reshape(B, H * W, 3, 8, C // 8)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        weights = (torch.einsum("bihd,bjhd->bhij", q, k) * (C // 8) ** -0.5).softmax(-1)
        attended = torch.einsum("bhij,bjhd->bihd", weights, v).reshape(B, H * W, C)
        u = t + self.linear(f"{name}.to_out.0", attended)
        hidden = self.linear(f"{name}.ff.net.0", self.layer_norm(f"{name}.ln2", u))
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        return (u + self.linear(f"{name}.ff.net.3", hidden)).transpose(1, 2).reshape(B, C, H, W)

    def auxiliary_head(self, x: Tensor) -> Tensor:
        name, low = "auxiliary_head.features", self.config.stem_type == 1 or self.config.stem_pool
        if self.small and "pos_enc.weight" in self.state:
            x = F.adaptive_avg_pool2d(x, 8)
        x = x.relu()
        window, stride = ((2, 2) if low else (5, 3)) if self.small else (5, 2)
        x = F.avg_pool2d(x, window, stride)
        x = self.norm(f"{name}.3", self.conv(f"{name}.2", x)).relu()
        x = self.conv(f"{name}.5", x)
        x = (self.norm(f"{name}.6", x) if self.small else x).relu()
        return self.linear("auxiliary_head.classifier", x.mean((2, 3)))
