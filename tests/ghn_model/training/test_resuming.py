"""What a training compares with the state that it resumes: options, networks, budgets, and damaged states."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from deepnets import DeepNets1M
from deepnets.support import CheckpointError, ConfigError
from ghn_model.checkpoints import TensorFile, write_tensors
from ghn_model.training import Budget, CheckpointPolicy, Distributed, train
from ghn_model.training.resuming import ADDED
from ghn_model.training.state import read_identity
from tests.support.own_hypernetworks import Scales
from tests.support.training_runs import small_config, small_recipe, stream, train_here


def test_resuming_with_other_options_is_an_error(corpus: Path, tmp_path: Path) -> None:
    train_here(corpus, tmp_path, steps=1)
    with pytest.raises(ConfigError, match=r"another recipe \(batch_size 4, not 6\)"):
        train_here(corpus, tmp_path, steps=2, batch_size=6)


def test_resuming_with_other_networks_is_an_error(corpus: Path, tmp_path: Path) -> None:
    """Their number, the rule of their widths, and, for hypernetworks that do not choose it, virtual edges."""

    def resumed(hypernetwork: Any, **options: Any) -> None:
        out = tmp_path / type(hypernetwork).__name__
        recipe = small_recipe()
        nets = DeepNets1M(corpus, **{"num_nets": 300, **options})
        arguments = recipe, stream(recipe.images_per_step), nets
        train(out, hypernetwork, *arguments, budget=Budget(steps=1), distributed=Distributed("cpu"), quiet=True)

    own = Scales()
    for hypernetwork in (small_config(), own):
        resumed(hypernetwork)
        resumed(hypernetwork)
        for name, value in (("num_nets", 299), ("seed", 7), ("wider_nets", True)):
            with pytest.raises(ConfigError, match=f"another {'width_' * (name == 'seed')}{name} "):
                resumed(hypernetwork, **{name: value})
    with pytest.raises(ConfigError, match=r"another virtual_edges \(50, not 7\)"):
        resumed(own, virtual_edges=7)
    resumed(small_config(), virtual_edges=7)  # a GHN has its own


def test_states_of_earlier_versions_do_not_tell_the_number_of_networks(corpus: Path, tmp_path: Path) -> None:
    path = train_here(corpus, tmp_path, steps=1).parent / "state.safetensors"
    file = TensorFile(path)
    about = json.loads(file.metadata["about"])
    about = {name: value for name, value in about.items() if name not in ADDED}
    texts = {name: file.metadata[name] for name in ("format", "format_version", "moment")}
    write_tensors(path, file.tensors, {**texts, "about": json.dumps(about)})
    train_here(corpus, tmp_path, steps=2)
    assert ADDED - {"virtual_edges", "image_fingerprint"} <= read_identity(path).keys()


def test_the_number_of_epochs_is_a_budget(corpus: Path, tmp_path: Path) -> None:
    train_here(corpus, tmp_path, steps=1, epochs=1)
    train_here(corpus, tmp_path, steps=2, epochs=2)
    assert list(csv.DictReader((tmp_path / "log.csv").open()))[-1]["step"] == "2"


def test_damaged_states_are_an_error(corpus: Path, tmp_path: Path) -> None:
    train_here(corpus, tmp_path, steps=1)
    path = tmp_path / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256"):
        train_here(corpus, tmp_path, steps=2)
    path.write_bytes(content[:1000])
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        train_here(corpus, tmp_path, steps=2)
    path.write_bytes((tmp_path / "ghn.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="not the state of a training"):
        train_here(corpus, tmp_path, steps=2)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Budget, "minutes", math.inf),
        (Budget, "minutes", math.nan),
        (Budget, "steps", 0),
        (CheckpointPolicy, "log_steps", 0),
        (CheckpointPolicy, "steps", 0),
        (CheckpointPolicy, "minutes", -1),
        (CheckpointPolicy, "stop_after", math.nan),
    ],
)
def test_budgets_and_policies_are_checked(kind: Any, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name}: expected"):
        kind(**{name: value})
