"""A corpus of a few small networks that are quick to evaluate, and a module of predictors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deepnets import GENOTYPES, NetworkConfig
from deepnets.architecture import encode
from deepnets.corpus import compute_statistics, write_corpus

CONFIG = NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=2)
CONFIGS = (CONFIG, CONFIG.replace(norm=None), CONFIG.replace(C=4), CONFIG.replace(n_cells=4))

MODULE = '''
import os, signal, sys, time
import torch
from torch import nn

def zeros(model, graph):
    """Nothing at all."""
    return {name: torch.zeros_like(tensor) for name, tensor in model.named_parameters()}

def initial(model, graph):
    return dict(model.named_parameters())

def noisy(model, graph):
    return {name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in model.named_parameters()}

def raises(model, graph):
    raise RuntimeError("no\\\\nidea, <b>really</b>")

def hangs(model, graph):
    while True:
        time.sleep(1)

def hangs_on_the_second(model, graph):
    return hangs(model, graph) if graph.index == 1 else zeros(model, graph)

def dies(model, graph):
    os.kill(os.getpid(), signal.SIGKILL)

def exits(model, graph):
    sys.exit(3)

def leaves(model, graph):
    os._exit(7)

def eats(model, graph):
    return [torch.ones(50_000_000) for _ in range(1_000)]

def talks(model, graph):
    print('{"row": {"top1": 100}, "done": true}', flush=True)
    os.write(1, b'{"row": {}, "done": true}\\\\n')
    return zeros(model, graph)

def nan(model, graph):
    return {name: torch.full_like(tensor, float("nan")) for name, tensor in model.named_parameters()}

def lacks(model, graph):
    return dict(list(zeros(model, graph).items())[1:])

def adds(model, graph):
    return {**zeros(model, graph), "more": torch.zeros(1)}

def wrong_shape(model, graph):
    return {name: tensor[..., None] for name, tensor in zeros(model, graph).items()}

def slow(model, graph):
    time.sleep(0.4)
    return noisy(model, graph)

class Counts:
    """A class is made without arguments."""
    def __call__(self, model, graph):
        return zeros(model, graph)

number = 3
'''


def write_small_corpus(folder: Path, *splits: str) -> Path:
    """Write splits of four small networks into a folder."""
    records = encode(CONFIGS)
    statistics, rows = compute_statistics(records)
    statistics["candidate"] = np.arange(len(records))
    columns = {name: part[name] for part in (records, statistics) for name in part.dtype.names or ()}
    for split in splits or ("test",):
        write_corpus(folder / f"deepnets1m_{split}.h5", {"split": split, "seed": 0}, columns, [rows])
    return folder


def write_predictors(folder: Path) -> Path:
    """Write the module `plugged_in` into a folder."""
    path = folder / "plugged_in.py"
    path.write_text(MODULE.replace("\\\\n", "\\n"))
    return path
