"""Small networks and hypernetworks, and short trainings of them by the command `sgd`."""

from __future__ import annotations

import torch

from benchmark.commands import sgd as sgd_command
from deepnets import GENOTYPES, NetworkConfig
from deepnets.support import Parser
from ghn_model import GHN, GHNConfig

CONFIG = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=2)
SHORT = ["--shots", "3", "--epochs", "2", "--batch-size", "16", "--evaluate-after", "1", "--quiet"]
MODULE = """
import os, time
from torch import nn

def plain(num_classes):
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(24, num_classes)),
    )

second = plain

def slow(num_classes):
    if "SGD_TEST_WAITS" in os.environ:
        time.sleep(600)
    return plain(num_classes)

def broken(num_classes):
    raise RuntimeError("no\\nsuch, luck")
"""


def command(*words: object) -> None:
    parser = Parser(prog="python -m benchmark")
    sgd_command.add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    options = parser.parse_args([str(word) for word in words])
    options.do(options)


def small_ghn(num_classes: int = 10, seed: int = 0) -> GHN:
    torch.manual_seed(seed)
    config = GHNConfig.preset("ghn2", num_classes).to_dict() | {"hidden": 8, "max_shape": (16, 16, 3, 3)}
    return GHN(GHNConfig.from_dict(config))
