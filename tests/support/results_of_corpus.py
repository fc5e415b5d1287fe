"""Made-up results on the networks of a corpus, whose accuracies follow from the depths of the networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmark.analyses import graph_statistics
from deepnets import DeepNets1M
from tests.support.made_up_results import row, run, write

__all__ = ["results"]


def results(folder: Path, data: Path, networks: int = 24, **changes: Any) -> Path:
    """Results of a predictor that fails on network 1 and is better the deeper networks are, clean and noisy."""
    rows, runs = [], {}
    rng = np.random.default_rng(0)
    for split in ("val", "test"):
        nets = DeepNets1M(data, split, num_nets=networks)
        depths = graph_statistics(nets)["depth"]
        for part in ("val", "test") if split == "val" else ("test",):
            for noise in (0.0, 0.08):
                name = f"{split}-{part}-{noise}"
                runs[name] = run("mine", split, networks, noise=noise, part=part, corpus=nets.file.content_digest)
                runs[name].update(changes)
                for i in range(networks):
                    top1 = None if i == 1 else float(np.clip(depths[i] / 3 + rng.normal() + 100 * noise, 0, 100))
                    rows.append(row(name, "mine", split, i, top1, part=part, noise=noise, depth=depths[i]))
    return write(folder, rows, runs)
