"""Validation during training, resuming with it, and starting from the weights of another hypernetwork."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from deepnets import DeepNets1M, Graph, build_graph
from deepnets.architecture import run_network
from deepnets.support import ConfigError
from ghn_model import GHN, describe
from ghn_model.checkpoints.tensor_files import DIGEST, content_digest
from ghn_model.encoders import channel_rows
from ghn_model.tasks import Classification, Metric
from ghn_model.training import CheckpointPolicy, Distributed, Validation
from ghn_model.training.schedules import Schedule
from ghn_model.training.validation import CURVE
from tests.support.training_runs import small_config, stream, tensors, train_here

ONE_STEP = CheckpointPolicy(log_steps=2, stop_after=1e-9)
"""Ends a call after each step."""

FROZEN: dict[str, Any] = {"lr": 0.0, "schedule": Schedule("constant")}  # a warm-up would start above 0


def curve(out: Path) -> list[dict[str, str]]:
    with (out / "curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def columns(rows: list[dict[str, str]], *names: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def small_graphs(corpus: Path, count: int) -> list[Graph]:
    nets = DeepNets1M(corpus, "val")
    order = sorted(range(len(nets)), key=lambda number: int(nets.num_nodes[number]))
    return [build_graph(nets[number].config.replace(C=8, fc_dim=8)) for number in order[:count]]


@pytest.fixture
def validation(corpus: Path) -> Validation:
    images = stream(batch_size=12)
    return Validation(small_graphs(corpus, 3), [images.at(step) for step in range(2)], every=2)


@pytest.mark.slow
def test_resumed_runs_have_the_same_curve(corpus: Path, tmp_path: Path, validation: Validation) -> None:
    """Curve and weights are equal bit for bit, whether a training has one call or one per step."""
    options = {"ema_decay": 0.9, "options": {"validation": validation}}
    train_here(corpus, tmp_path / "whole", steps=3, **options)
    for _ in range(3):
        train_here(corpus, tmp_path / "parts", steps=3, checkpoints=ONE_STEP, **options)
    for name in ("state.safetensors", "ghn.safetensors"):
        whole, parts = tensors(tmp_path / "whole" / name), tensors(tmp_path / "parts" / name)
        assert all(torch.equal(whole[key], parts[key]) for key in whole)
    names = ("step", "networks", "top1", "standard_error", "failed")
    rows = curve(tmp_path / "whole")
    assert columns(rows, "step", "networks") == [("2", "4"), ("3", "6")]
    assert columns(rows, *names) == columns(curve(tmp_path / "parts"), *names)
    seconds = [float(row["core_seconds"]) for row in curve(tmp_path / "parts")]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_validation_does_not_change_the_training(corpus: Path, tmp_path: Path, validation: Validation) -> None:
    train_here(corpus, tmp_path / "with", steps=4, options={"validation": validation})
    train_here(corpus, tmp_path / "without", steps=4)
    for name, tensor in tensors(tmp_path / "with" / "state.safetensors").items():
        assert torch.equal(tensor, tensors(tmp_path / "without" / "state.safetensors")[name])
    assert not (tmp_path / "without" / "curve.csv").exists()


@pytest.mark.slow
def test_rows_after_the_resumed_step_are_removed(corpus: Path, tmp_path: Path, validation: Validation) -> None:
    """A run that was killed may have written rows after it saved its state."""
    options = {"options": {"validation": validation}}
    train_here(corpus, tmp_path, steps=4, **options)
    expected = curve(tmp_path)
    with (tmp_path / "curve.csv").open("a", newline="") as file:
        csv.writer(file).writerows([[6, 12, 1, 1, 99, 0, 0], ["", "", ""]])
    train_here(corpus, tmp_path, steps=6, **options)
    rows = curve(tmp_path)
    assert rows[:2] == expected
    assert columns(rows, "step") == [("2",), ("4",), ("6",)]
    assert rows[-1]["top1"] != "99"


def test_a_finished_run_is_validated_later(corpus: Path, tmp_path: Path, validation: Validation) -> None:
    """Once, with the same result as during the training, and without changing its files."""
    options = {"options": {"validation": validation}}
    train_here(corpus, tmp_path / "whole", steps=1, **options)
    before = train_here(corpus, tmp_path / "later", steps=1).read_bytes()
    for _ in range(2):
        after = train_here(corpus, tmp_path / "later", steps=1, **options)
        names = ("step", "networks", "top1", "standard_error", "failed")
        assert columns(curve(tmp_path / "later"), *names) == columns(curve(tmp_path / "whole"), *names)
    assert after.read_bytes() == before


def test_accuracies_are_those_of_the_averaged_weights(corpus: Path, tmp_path: Path, validation: Validation) -> None:
    path = train_here(corpus, tmp_path, steps=4, ema_decay=0.5, lr=0.05, options={"validation": validation})
    ghn = GHN.from_pretrained(path)
    correct = []
    for graph in validation.graphs:
        with torch.no_grad():
            predicted = ghn(graph)[0]
            logits = [run_network(graph.config, predicted, images, training=False) for images, _ in validation.batches]
        answers = torch.cat([part.argmax(1) for part in logits])
        correct.append((answers == torch.cat([labels for _, labels in validation.batches])).double().mean())
    top1 = 100 * torch.stack(correct)
    (row,) = [row for row in curve(tmp_path) if row["step"] == "4"]
    assert float(row["top1"]) == pytest.approx(float(top1.mean()), abs=1e-3)
    assert float(row["standard_error"]) == pytest.approx(float(top1.std(correction=0) / 3**0.5), abs=1e-3)


def test_failed_networks_count_as_zero(corpus: Path) -> None:
    images = stream(batch_size=12)

    class NotFinite(nn.Linear):
        def forward(self, graphs: list[Graph]) -> list[dict[str, torch.Tensor]]:  # type: ignore[override]
            assert not self.training
            return [
                {s.name: torch.full(s.shape, torch.inf) for slots in graph.parameters for s in slots}
                for graph in graphs
            ]

    hypernetwork = NotFinite(1, 1)
    accuracies, failed = Validation(small_graphs(corpus, 2), [images.at(0)]).values(hypernetwork, Distributed("cpu"))
    assert accuracies.tolist() == [0.0, 0.0]
    assert failed.tolist() == [1.0, 1.0]
    assert hypernetwork.training


def test_images_with_outputs_that_are_not_finite_are_wrong_answers(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = stream(batch_size=12).at(0)
    logits = torch.eye(10)[labels]
    logits[0, labels[0]], logits[1, labels[1]], logits[2, (labels[2] + 1) % 10] = torch.nan, torch.inf, -torch.inf
    monkeypatch.setattr("ghn_model.training.validation.run_network", lambda *_, **__: logits)
    validation = Validation(small_graphs(corpus, 1), [(images, labels)])
    accuracies, failed = validation.values(GHN(small_config()), Distributed("cpu"))
    assert accuracies.tolist() == [75.0]
    assert failed.tolist() == [1.0]

    class Errors(Classification):
        @property
        def metric(self) -> Metric:
            return Metric("errors", "", "%", lambda logits, labels: labels, higher_is_better=False, maximum=100.0)

        def tallies(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return logits.argmax(1) != labels

    values, _ = replace(validation, task=Errors()).values(GHN(small_config()), Distributed("cpu"))
    assert values.tolist() == [25.0]  # the worst value of errors is not that of their sum, 0


def test_processes_share_the_networks(corpus: Path, validation: Validation) -> None:
    """The accuracies of both processes add up to those of one."""

    class OneOfTwo(Distributed):
        def average(self, tensors: Any) -> None:
            """Divide by two, as an all-reduce with a process that has zeros does."""
            for tensor in tensors:
                tensor /= 2

    ghn = GHN(small_config()).train()
    whole, _ = validation.values(ghn, Distributed("cpu"))
    shares = []
    for rank in range(2):
        distributed = OneOfTwo("cpu")
        distributed.rank, distributed.world_size = rank, 2
        shares.append(validation.values(ghn, distributed)[0])
    assert torch.equal(sum(shares), whole)  # type: ignore[arg-type]


def test_validations_are_checked() -> None:
    with pytest.raises(ConfigError, match="graphs: expected at least one"):
        Validation([], [])
    assert CURVE[0] == "step"


# --- weights of another hypernetwork ---


def test_init_copies_weights_with_a_new_optimizer(corpus: Path, tmp_path: Path) -> None:
    source = GHN.from_pretrained(train_here(corpus, tmp_path / "source", steps=3))
    path = train_here(corpus, tmp_path / "new", steps=1, **FROZEN, options={"init": source})
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in tensors(path).items())
    state = tensors(tmp_path / "new" / "state.safetensors")
    assert {float(tensor) for name, tensor in state.items() if name.startswith("optimizer.step.")} == {1.0}
    # Resuming needs no `init`, but refuses another one.
    train_here(corpus, tmp_path / "new", steps=2, **FROZEN)
    with pytest.raises(ConfigError, match="another init"):
        train_here(corpus, tmp_path / "new", steps=3, **FROZEN, options={"init": GHN(small_config())})
    train_here(corpus, tmp_path / "random", steps=1)
    with pytest.raises(ConfigError, match="another init"):
        train_here(corpus, tmp_path / "random", steps=2, options={"init": source})


def test_init_with_another_number_of_classes(corpus: Path, tmp_path: Path) -> None:
    """Tensors whose shape depends on it keep their random values, which the seed decides."""
    source = GHN(small_config(num_classes=7))
    trained = GHN.from_pretrained(train_here(corpus, tmp_path / "a", steps=1, **FROZEN, options={"init": source}))
    random = GHN.from_pretrained(train_here(corpus, tmp_path / "b", steps=1, **FROZEN))
    kept = copied = 0
    for name, tensor in trained.state_dict().items():
        if name == "shape_enc.embed_channel.weight":  # its rows are numbered by the sizes in the table
            sizes = [1, 3, 8, 16, 64, 256, 4096]
            new, old = (channel_rows(sizes, classes) for classes in (10, 7))
            assert torch.equal(tensor[new], source.state_dict()[name][old])
        elif tensor.shape == source.state_dict()[name].shape:
            assert torch.equal(tensor, source.state_dict()[name])
            copied += 1
        else:
            assert torch.equal(tensor, random.state_dict()[name])
            kept += 1
    assert copied > kept > 0
    with pytest.raises(ConfigError, match="init: has no tensor"):
        train_here(corpus, tmp_path / "c", options={"init": {"weight": torch.zeros(3)}})


# --- files of the previous version ---


def test_states_of_the_previous_version_resume(corpus: Path, tmp_path: Path) -> None:
    """Old names in the recipe, no names of later fields, no processor time, and no number of networks."""
    out = tmp_path / "old"
    later = {"beta2": 0.999, "network_norm": "none", "low_resolution": 0.0, "share_images": True}
    train_here(corpus, out, steps=2, **later)
    with safe_open(out / "state.safetensors", framework="pt") as file:
        texts = {name: text for name, text in file.metadata().items() if name != DIGEST}
    about = json.loads(texts["about"])
    names = {
        "lr": "learning_rate",
        "meta_batch_size": "meta_batch",
        "batch_size": "batch",
        "clip_grad": "clip",
        "predicted_param_decay": "penalty",
        "ema_decay": "average",
    }
    recipe = {names.get(name, name): value for name, value in about["recipe"].items()}
    for name in later:
        del recipe[name]
    about["recipe"] = {**recipe, "compile": False, "channels_last": True}
    later_numbers = {"core_seconds", "networks"}
    moment = {name: value for name, value in json.loads(texts["moment"]).items() if name not in later_numbers}
    texts |= {"about": json.dumps(about), "moment": json.dumps(moment)}
    content = tensors(out / "state.safetensors")
    save_file(content, out / "state.safetensors", {**texts, DIGEST: content_digest(content, texts)})
    path = train_here(corpus, out, steps=3, **later)
    assert (describe(path).metadata["steps"], describe(path).metadata["networks"]) == (3, 6)
    assert "lr" in describe(path).metadata["recipe"]


def test_validations_for_other_classes(corpus: Path, tmp_path: Path, validation: Validation) -> None:
    """A curve of networks or images with other classes would have plausible numbers."""
    three = [build_graph(graph.config, num_classes=3) for graph in validation.graphs]
    with pytest.raises(
        ConfigError, match=r"model: expected outputs of shape \(12, 10\), .* of plain, got .* \(12, 3\)"
    ):
        train_here(corpus, tmp_path / "a", options={"validation": Validation(three, validation.batches)})
    images, labels = validation.batches[0]
    others = Validation(validation.graphs, [(images, labels.clamp(max=0) + 10)])
    with pytest.raises(ConfigError, match=r"validation: expected labels below 10, .* of plain, got 10"):
        train_here(corpus, tmp_path / "b", options={"validation": others})
    once = Validation(iter(validation.graphs), iter(validation.batches))  # type: ignore[arg-type]
    ghn = GHN(small_config())
    values = [once.values(ghn, Distributed("cpu"))[0] for _ in range(2)]
    assert torch.equal(*values)
    assert values[0].isfinite().all()
