"""The example of property prediction learns from a corpus and a folder of results."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from deepnets import DeepNets1M
from tests.support.made_up_results import row, run, write

EXAMPLE = Path(__file__).parents[2] / "examples" / "gin.py"


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gin", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_parameters_and_accuracies_are_predicted(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    rows, runs = [], {}
    for split in ("val", "test"):
        nets = DeepNets1M(corpus, split=split, num_nets=100)
        digest = nets.file.content_digest
        runs[split] = {**run("made up", split, 100), "corpus": digest}
        noise = np.random.default_rng(0).normal(scale=2.0, size=100)
        accuracies = np.clip(95 - nets.num_nodes / 10 + noise, 0, 100)  # deeper networks are worse
        rows += [row(split, "made up", split, index, float(value)) for index, value in enumerate(accuracies)]
        nets.close()
    write(tmp_path / "results", rows, runs)
    parameters, accuracy = load_example().main(str(corpus), str(tmp_path / "results"), epochs=20)
    assert parameters > 0.15
    assert accuracy > 0.4
