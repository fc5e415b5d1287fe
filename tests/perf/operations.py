"""The number of operations of a training step on a GPU, counted on the device `meta`, where nothing is computed.

The time of a step on a GPU depends on the number of its operations, since nearly all are small.  Views are not counted.
On `meta`, a step runs the same code as on a GPU, not that for a CPU.  Values cannot be read on `meta`, so that a step
without errors never waits for its device.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deepnets import DeepNets1M
from generator import BuildPlan, build_corpus
from ghn_model.config import GHNConfig
from ghn_model.ghn import GHN
from ghn_model.training import Recipe
from ghn_model.training.meta_batches import DrawnNetworks, meta_batches
from ghn_model.training.objective import Objective
from ghn_model.training.step_parts import PARTS
from tests.perf.timing import Row

PRESETS = ("ghn1", "ghn2", "ghn3-t")
STEPS = 4
META = torch.device("meta")
VIEWS = {
    *(
        "view",
        "t",
        "detach",
        "slice",
        "expand",
        "unsqueeze",
        "squeeze",
        "transpose",
        "permute",
        "_unsafe_view",
        "select",
    ),
    *("split", "split_with_sizes", "unbind", "as_strided", "alias", "diagonal", "_reshape_alias", "lift_fresh"),
    *("empty", "new_empty", "new_empty_strided", "empty_strided", "empty_like"),
}
"""What computes nothing."""
SEVERAL = {"slice_backward": 2, "select_backward": 2}
"""Operations of zeros that are filled in part.  (`_foreach_mul` by numbers that are tensors is one for each.)"""


class Operations(TorchDispatchMode):
    """Counts operations by part of the step and by name."""

    def __init__(self) -> None:
        super().__init__()
        self.by_part: Counter[str] = Counter()
        self.by_name: Counter[str] = Counter()
        self.part = ""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.partition("::")[2]
        if name.startswith("_record_function_enter"):
            self.part = args[0]
        elif not name.startswith("_record_function") and name not in VIEWS:
            count = len(args[0]) if name == "_foreach_mul" else SEVERAL.get(name, 1)
            self.by_part[self.part] += count
            self.by_name[name] += count
        return function(*args, **(kwargs or {}))


def operations() -> list[Row]:
    """Count the operations of a step with the published settings and images of the size of CIFAR-10."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        build_corpus(Path(folder), BuildPlan(splits=("train",), train_size=3_000, seed=0))
        for preset in PRESETS:
            config, recipe = GHNConfig.preset(preset, 10, 32), Recipe.preset(preset, "cifar10", meta_batch_size=8)
            nets = DrawnNetworks(DeepNets1M(folder, virtual_edges=config.virtual_edges))
            counted = count(config, recipe, nets)
            where = f"operations of a step of {preset}, 8 networks"
            rows.append((where, f"{sum(counted.values()) / STEPS:,.0f}", ""))
            rows += [(f"  {part}", f"{counted[part] / STEPS:,.0f}", "") for part in PARTS if counted[part]]
    return rows


def count(config: GHNConfig, recipe: Recipe, nets: DrawnNetworks) -> Counter[str]:
    """Count the operations of some steps, by part."""
    ghn = GHN(config).to(META).train()
    objective = Objective(32, recipe.label_smoothing, recipe.predicted_param_decay)
    images = torch.empty(recipe.batch_size, 3, 32, 32, device=META)
    labels = torch.empty(recipe.batch_size, dtype=torch.int64, device=META)
    batches = meta_batches(nets, ghn, recipe.meta_batch_size, for_gpu=True)
    counter = Operations()
    for _ in range(STEPS):
        batch = next(batches).to(META)
        with counter:
            objective.backward(ghn, batch, images, labels)
        ghn.zero_grad(set_to_none=True)
    return counter.by_part
