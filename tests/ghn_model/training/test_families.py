"""Training on families: the networks that are run, gradients, limits, resuming, the command."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepnets import DeepNets1M
from deepnets.families import Family, FamilyNetworks, FamilySplit
from deepnets.support import ConfigError
from ghn_model import GHN
from ghn_model.training import Budget, CheckpointPolicy, Distributed, Validation, train
from ghn_model.training.forward import accepts_any_size, run_graph
from ghn_model.training.meta_batches import DrawnNetworks, MetaBatch
from ghn_model.training.objective import Objective
from tests.support.training_runs import ROOT, small_config, small_recipe, stream, tensors

SMALL = Family(
    "small",
    "resnet",
    {"depths": {"repeat": 2, "of": [1, 2]}, "widths": {"repeat": 2, "of": {"from": 4, "to": 8}}},
    sizes=["widths"],
    splits={"train": FamilySplit(40, (0.3, 1.0)), "val": FamilySplit(4, (0.0, 0.3), distinct=True)},
)


class Dropping(nn.Module):
    """A network with dropout and a buffer."""

    offset: Tensor

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3 * 32 * 32, width), nn.Linear(width, num_classes)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("offset", torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.dropout(F.relu(self.first(x.flatten(1)) + self.offset)))
        return out


DROPPING = Family("dropping", Dropping, {"width": [64]}, sizes=["width"])


def parameters_of(model: nn.Module, scale: float = 0.1) -> dict[str, Tensor]:
    return {name: scale * torch.randn(p.shape) for name, p in model.named_parameters()}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["resnet-widths", "vits-1k"])
@pytest.mark.parametrize("training", [True, False])
def test_outputs(name: str, training: bool) -> None:
    """They are those of the module that holds the parameters, with batch norms that use the batch."""
    nets = FamilyNetworks(name, "val", num_classes=7)
    model, images = nets.build(0), torch.randn(3, 3, 32, 32)
    given = parameters_of(model)
    model.load_state_dict(given, strict=False)
    expected = model.train()(images)  # neither family has dropout
    torch.testing.assert_close(run_graph(nets[0], given, images, training=training), expected)


def test_dropout_and_buffers() -> None:
    nets = FamilyNetworks(DROPPING, "train", num_nets=1)
    model, images = nets.build(0), torch.randn(3, 3, 32, 32)
    given = parameters_of(model)
    model.load_state_dict(given, strict=False)
    torch.testing.assert_close(run_graph(nets[0], given, images, training=False), model.eval()(images))
    assert not torch.allclose(run_graph(nets[0], given, images), model(images))


def test_parameters_that_are_not_given() -> None:
    """They have the same initial values every time, and random numbers of the caller are not changed."""
    nets = FamilyNetworks("vits-1k", "val")
    given = parameters_of(nets.build(0))
    del given["class_token"]
    images = torch.randn(2, 3, 32, 32)
    state = torch.get_rng_state()
    first, second = (run_graph(nets[0], given, images) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    given["class_token"] = torch.zeros(1, 1, given["encoder.ln.weight"].numel())  # the initial value
    torch.testing.assert_close(run_graph(nets[0], given, images), first)


def test_random_numbers_of_gpus_are_not_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be the same in every step and process: only the state of the CPU is restored."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("a GPU was seeded"))
    nets = FamilyNetworks("vits-1k", "val")
    given = parameters_of(nets.build(1))
    del given["class_token"]
    run_graph(nets[1], given, torch.randn(2, 3, 32, 32))


def test_gradient() -> None:
    """The gradient for the hypernetwork is that of one backward pass through modules."""
    nets = FamilyNetworks(SMALL, "train")
    ghn = GHN(small_config())
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    graphs = [nets[0], nets[1]]
    assert not any(accepts_any_size(graph) for graph in graphs)
    outcome = Objective().backward(ghn, MetaBatch.of(ghn, graphs), images, labels)
    found = [p.grad for p in ghn.parameters()]
    ghn.zero_grad()
    loss = torch.zeros(())
    for place, parameters in enumerate(ghn(graphs)):
        with torch.device("meta"):
            model = nets.build(place)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = module.running_var = module.num_batches_tracked = None
                module.track_running_stats = False
        logits = torch.func.functional_call(model, parameters, images)
        loss = loss + F.cross_entropy(logits, labels) / 2
    loss.backward()
    torch.testing.assert_close(outcome.loss, loss)
    for one, other in zip(found, (p.grad for p in ghn.parameters()), strict=True):
        if other is None:
            assert one is None
        else:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_limits() -> None:
    """Networks beyond a limit are replaced by later ones; without any, one error says so."""
    nets = FamilyNetworks(SMALL, "train")
    sizes = [nets.num_params(i) for i in range(len(nets))]
    limit = sorted(sizes)[10]
    drawn = DrawnNetworks(nets, max_params=limit)
    assert len(drawn) == len(nets)
    for position in range(len(nets)):
        graph = drawn[position, 0]
        later = [*range(position, len(nets)), *range(position)]
        assert graph.index == next(i for i in later if sizes[i] <= limit)
    nodes = nets.num_nodes
    few = DrawnNetworks(nets, max_nodes=int(nodes.min()))
    assert {few[position, 0].num_nodes for position in range(10)} == {nodes.min()}
    with pytest.raises(
        ConfigError, match=r"FamilyNetworks\(small/train, 40 networks\): among 40 networks, none has at"
    ):
        DrawnNetworks(nets, max_params=10)[0, 0]


def trained(out: Path, steps: int, **options: Any) -> Path:
    recipe = small_recipe(max_params=0, max_nodes=0, seed=options.pop("seed", 0))
    return train(
        out,
        small_config(),
        recipe,
        stream(recipe.images_per_step, recipe.seed),
        options.pop("nets", FamilyNetworks(SMALL, "train")),
        budget=Budget(steps=steps),
        checkpoints=options.pop("checkpoints", CheckpointPolicy(log_steps=2)),
        distributed=Distributed("cpu"),
        quiet=True,
        **options,
    )


@pytest.mark.slow
def test_resuming(tmp_path: Path) -> None:
    """An interrupted training gives the same weights bit for bit; another family is refused."""
    whole = trained(tmp_path / "whole", 6)
    for _ in range(6):  # one step at a time
        parts = trained(tmp_path / "parts", 6, checkpoints=CheckpointPolicy(log_steps=2, stop_after=1e-9))
    first, second = tensors(whole), tensors(parts)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ConfigError, match="corpus"):
        trained(tmp_path / "parts", 8, nets=FamilyNetworks(SMALL, "train", widths=[4, 4]))


def test_validation(tmp_path: Path) -> None:
    nets = FamilyNetworks(SMALL, "val")
    images, labels = stream(8).at(0)
    validation = Validation(list(nets), [(images, labels)], every=2)
    trained(tmp_path, 4, validation=validation)
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(0 <= float(row["top1"]) <= 100 for row in rows)


@pytest.mark.slow
def test_worker_processes_give_the_same(tmp_path: Path) -> None:
    first, second = (tensors(trained(tmp_path / str(workers), 4, workers=workers)) for workers in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def command(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "ghn_model", "train", "--images", "digits", "--steps", "2", "--device", "cpu"]
    words += ["--hidden", "8", "--max-shape", "16", "16", "5", "5", "--batch-size", "4", "--quiet"]
    words += ["--data", str(folder / "data"), *more]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment(), check=False)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(
        '{"name": "tiny", "model": "resnet", "sizes": ["widths"],'
        ' "rule": {"depths": {"repeat": 2, "of": [1]}, "widths": {"repeat": 2, "of": [4, 8, 16]}},'
        ' "splits": {"train": {"size": 9, "part": [0.4, 1]}, "val": {"size": 2, "part": [0, 0.4], "distinct": true}}}'
    )
    done = command(tmp_path, "--networks", "family:tiny.json", "--validate-every", "2", "--validate-images", "20")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "ghn2-digits-tiny"
    assert (run / "ghn.safetensors").exists()
    assert len((run / "curve.csv").read_text().splitlines()) == 2
    assert list((tmp_path / "data" / "families").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("family:resnet-widht", "family: unknown 'resnet-widht'"),
        ("family:gpts-1k", "the networks of gpts-1k process text, not images"),
        ("test", "expected train or family:NAME, got 'test'"),
        ("family:none.json", "none.json: no such file"),
    ],
)
def test_command_errors(tmp_path: Path, name: str, message: str) -> None:
    done = command(tmp_path, "--networks", name)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_language_models() -> None:
    """Inputs are keyword arguments; gradients reach all parameters, and rotary encodings have their values."""
    pytest.importorskip("transformers")
    for name in ("gpt2-widths", "llamas-1k"):
        nets = FamilyNetworks(
            name, "val", vocab_size=50, context_length=16, **({} if "llama" in name else {"layers": 1})
        )
        model = nets.build(0)
        given = {n: p.requires_grad_() for n, p in parameters_of(model).items()}
        words = {"input_ids": torch.randint(0, 50, (2, 9))}
        logits = run_graph(nets[0], given, words, training=False).logits
        model.load_state_dict({n: p.detach() for n, p in given.items()}, strict=False)
        torch.testing.assert_close(logits, model.eval()(**words).logits)
        logits.logsumexp(-1).sum().backward()
        assert all(p.grad is not None and p.grad.any() for n, p in given.items() if "wpe" not in n)
    graph = DeepNets1M(split="predefined")[1]
    with pytest.raises(ConfigError, match="inputs: expected images, got dict"):
        run_graph(graph, {}, words)


def test_networks_with_other_outputs_than_classes(tmp_path: Path) -> None:
    """With 1,000 outputs, the loss of ten classes would have a value."""

    def make(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))

    nets = FamilyNetworks(Family("wrong", make, {"width": [8, 16]}), "train")
    with pytest.raises(ConfigError, match=r"model: expected outputs of shape \(\d+, 10\), .*, got shape \(\d+, 1000\)"):
        train(
            tmp_path,
            small_config(),
            small_recipe(),
            stream(small_recipe().images_per_step),
            nets,
            budget=Budget(steps=1),
            quiet=True,
        )
