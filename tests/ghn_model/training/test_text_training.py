"""Training on texts: batches, networks that are run from their graphs, gradients, and whole runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.data import TextSet
from deepnets.families import Family, FamilyNetworks, FamilySplit
from deepnets.support import ConfigError
from ghn_model import GHN, GHNConfig
from ghn_model.tasks import NextToken
from ghn_model.training import (
    Budget,
    CheckpointPolicy,
    Distributed,
    Recipe,
    Schedule,
    TextStream,
    Validation,
    train,
)
from ghn_model.training.forward import run_graph
from ghn_model.training.hypernetwork import read_metadata
from ghn_model.training.meta_batches import MetaBatch
from ghn_model.training.objective import Objective

TOKENS = 11
CONFIG: dict[str, Any] = {
    "hidden": 16,
    "heads": 2,
    "layers": 1,
    "rank": 4,
    "factor_rows": 512,
    "max_shape": (64, 64, 16, 16),
    "init": "small",
}


def config(**changes: Any) -> GHNConfig:
    return GHNConfig.preset("logah-t", task="text", **{**CONFIG, **changes})


def counting(length: int = 400, sequence_length: int = 8) -> TextSet:
    """A text whose next token follows from the last one."""
    return TextSet("counting", "train", torch.arange(length) % TOKENS, TOKENS, sequence_length=sequence_length)


@pytest.fixture(scope="module")
def nets() -> FamilyNetworks:
    """Four tiny language models of two depths."""
    pytest.importorskip("transformers")
    family = Family(
        "tiny-gpts",
        "gpt2",
        {"layers": [1, 2], "width": [8, 12, 16], "heads": [2]},
        sizes=("width", "heads"),
        arguments={"vocab_size": TOKENS, "context_length": 16, "dropout": 0.1, "tied": False},
        splits={"train": FamilySplit(4, distinct=True)},
        task="text",
    )
    return FamilyNetworks(family, "train", virtual_edges=50)


# --- batches ---


def test_batches_are_a_function_of_seed_and_step() -> None:
    one, other = (TextStream(counting(), 4, seed=3) for _ in range(2))
    last = one.at(25)
    for step in range(25):
        one.at(step)
    assert all(torch.equal(a, b) for a, b in zip(last, one.at(25)))
    assert all(torch.equal(a, b) for a, b in zip(last, other.at(25)))
    assert not torch.equal(last[0], TextStream(counting(), 4, seed=4).at(25)[0])


def test_a_pass_covers_the_text_and_passes_differ() -> None:
    text = TextSet("numbers", "train", torch.arange(100), 100, sequence_length=6)
    stream = TextStream(text, 5)
    starts = []
    for epoch in range(8):
        seen = torch.cat([stream.at(epoch * stream.per_epoch + step)[0] for step in range(stream.per_epoch)])
        assert len(seen.flatten().unique()) == seen.numel()  # no token twice in a pass
        assert seen.numel() > 80
        starts.append(int(seen.min()))
    assert len(set(starts)) > 2
    tokens, targets = stream.at(3)
    assert torch.equal(targets, tokens + 1)


@pytest.mark.parametrize("length", range(9, 40))
def test_windows_of_short_texts_stay_inside(length: int) -> None:
    stream = TextStream(TextSet("numbers", "train", torch.arange(length), 100, sequence_length=8), 1)
    for step in range(4 * stream.per_epoch):
        tokens, targets = stream.at(step)
        assert tokens.shape == targets.shape == (1, 8)
        assert torch.equal(targets, tokens + 1)


def test_a_text_with_too_few_sequences() -> None:
    with pytest.raises(ConfigError, match="batch_size: counting has only 4 sequences"):
        TextStream(counting(40), 5)


# --- networks ---


def test_networks_run_as_the_module_with_these_values(nets: FamilyNetworks) -> None:
    tokens = torch.arange(16).view(2, 8) % TOKENS
    for index in (0, 1):
        graph = nets[index]
        model = nets.build(index).eval()
        parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
        expected = model(tokens).logits
        shuffled = {name: torch.randn_like(tensor) for name, tensor in parameters.items()}
        run_graph(graph, shuffled, tokens)  # leaves nothing behind
        found = run_graph(graph, parameters, tokens, training=False).logits
        assert torch.allclose(found, expected, atol=1e-6)


def test_running_a_network_draws_no_random_numbers_but_dropout(nets: FamilyNetworks) -> None:
    """A training that resumes must see the same dropout, whatever networks it has seen before."""
    from ghn_model.training import forward

    graph = nets[0]
    parameters = {slot.name: torch.randn(slot.shape) for slots in graph.parameters for slot in slots}
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    forward._models.clear()
    outputs = []
    for _ in range(2):
        torch.manual_seed(5)
        outputs.append(run_graph(graph, parameters, tokens).logits)
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], run_graph(graph, parameters, tokens, training=False).logits)


def test_gradients_are_those_of_one_backward_pass(nets: FamilyNetworks) -> None:
    torch.manual_seed(0)
    ghn = GHN(config()).train()
    still = FamilyNetworks(nets.family, "train", virtual_edges=50, dropout=0.0)
    graphs = [still[0], still[1]]
    tokens, targets = TextStream(counting(), 3).at(0)
    batch = MetaBatch.of(ghn, graphs)
    outcome = Objective(label_smoothing=0.1, task=NextToken()).backward(ghn, batch, tokens, targets)
    found = {name: parameter.grad for name, parameter in ghn.named_parameters()}
    ghn.zero_grad()
    losses, tally = [], 0.0
    for graph, parameters in zip(graphs, ghn(graphs)):
        logits = torch.func.functional_call(graph.network.build(), parameters, (tokens,)).logits.flatten(0, 1)
        losses.append(F.cross_entropy(logits, targets.flatten(), label_smoothing=0.1))
        tally += F.cross_entropy(logits.detach(), targets.flatten(), reduction="sum").item()
    loss = torch.stack(losses).mean()
    loss.backward()
    assert outcome.answers == 2 * 3 * 8
    assert outcome.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert outcome.tally.item() == pytest.approx(tally, rel=1e-5)
    for name, parameter in ghn.named_parameters():
        assert (found[name] is None) == (parameter.grad is None), name
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, rtol=1e-3, atol=1e-6), name  # type: ignore[arg-type]


# --- runs ---


def recipe(**changes: Any) -> Recipe:
    values = {"batch_size": 4, "lr": 3e-3, "schedule": Schedule("cosine", warmup=0.05)}
    return Recipe.preset("logah-t", "python", task="text", **{**values, **changes})


def run(out: Path, nets: FamilyNetworks, steps: int, **options: Any) -> Path:
    given: dict[str, Any] = {"task": "text", "distributed": Distributed("cpu"), "quiet": True, **options}
    checkpoints = given.pop("checkpoints", CheckpointPolicy(log_steps=2))
    stream = given.pop("stream", None) or TextStream(counting(), 4)
    budget = Budget(steps=steps)
    return train(out, config(), recipe(), stream, nets, budget=budget, checkpoints=checkpoints, **given)


def weights(path: Path) -> dict[str, Tensor]:
    return GHN.from_pretrained(path).state_dict()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(nets: FamilyNetworks, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", nets, 6)
    policy = CheckpointPolicy(log_steps=2, stop_after=1e-9)  # one step at a time
    while True:
        path = run(tmp_path / "parts", nets, 6, checkpoints=policy)
        if read_metadata(path)["steps"] == 6:
            break
    assert read_metadata(path)["task"] == "text"
    one, other = weights(whole), weights(path)
    assert all(torch.equal(one[name], other[name]) for name in one)
    logs = [rows_of(tmp_path / name / "log.csv") for name in ("whole", "parts")]
    for column in ("step", "loss", "perplexity", "gradient_norm"):
        assert [row[column] for row in logs[0]] == [row[column] for row in logs[1]]
    assert "top1" not in logs[0][0]
    assert "sequences_per_s" in logs[0][0]


def test_validation_measures_the_perplexity(nets: FamilyNetworks, tmp_path: Path) -> None:
    batches = list(counting(100).batches(4))
    graphs = [nets[0], nets[1]]
    validation = Validation(graphs, batches, every=2, task=NextToken())
    path = run(tmp_path, nets, 2, validation=validation)
    ghn = GHN.from_pretrained(path)
    expected = []
    for graph in graphs:
        model = graph.network.build().eval()
        (parameters,) = ghn([graph])
        losses = [
            F.cross_entropy(
                torch.func.functional_call(model, parameters, (tokens,)).logits.flatten(0, 1),
                targets.flatten(),
                reduction="none",
            ).detach()
            for tokens, targets in batches
        ]
        expected.append(torch.cat(losses).double().mean().exp().item())
    (row,) = rows_of(tmp_path / "curve.csv")
    assert float(row["perplexity"]) == pytest.approx(sum(expected) / 2, rel=1e-3)
    assert row["failed"] == "0"


def test_networks_without_finite_outputs_have_no_perplexity(nets: FamilyNetworks) -> None:
    class Broken(torch.nn.Module):
        def forward(self, graphs: Any) -> list[dict[str, Tensor]]:
            return [
                {slot.name: torch.full(slot.shape, float("nan")) for slots in graph.parameters for slot in slots}
                for graph in graphs
            ]

    validation = Validation([nets[0]], list(counting(100).batches(4)), task=NextToken())
    values, failed = validation.values(Broken(), Distributed("cpu"))
    assert values.isnan().all()
    assert failed.tolist() == [1]


def test_tasks_networks_and_data_must_fit(nets: FamilyNetworks, corpus: Path, tmp_path: Path) -> None:
    from deepnets import DeepNets1M

    with pytest.raises(ConfigError, match="know 11 tokens, but the tokenizer of big has 12"):
        run(
            tmp_path,
            nets,
            1,
            stream=TextStream(TextSet("big", "train", torch.arange(99) % 12, 12, sequence_length=8), 2),
        )
    with pytest.raises(ConfigError, match="at most 16 tokens"):
        run(tmp_path, nets, 1, stream=TextStream(counting(400, 17), 2))
    with pytest.raises(ConfigError, match="texts need language models"):
        run(tmp_path, DeepNets1M(corpus), 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="classification is for images"):
        run(tmp_path, nets, 1, task="classification")
    with pytest.raises(ConfigError, match="task: unknown"):
        run(tmp_path, nets, 1, task="speech")
    assert not (tmp_path / "state.safetensors").exists()


@pytest.mark.slow
def test_training_on_texts_beats_random_parameters_on_unseen_sizes(nets: FamilyNetworks, tmp_path: Path) -> None:
    """The sequence of the text is deterministic: its perplexity is 1 at best, and 11 without any knowledge."""
    path = run(tmp_path, nets, 400)
    ghn = GHN.from_pretrained(path)
    unseen = FamilyNetworks(nets.family, "train", virtual_edges=50, width=20)
    values, random = [], []
    for index in range(len(unseen)):
        model = unseen.build(index).eval()
        (parameters,) = ghn([unseen[index]])
        tokens, targets = next(counting(400).batches(16))
        for found, given in ((values, parameters), (random, dict(model.named_parameters()))):
            logits = torch.func.functional_call(model, given, (tokens,)).logits.detach()
            found.append(F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item())
    assert max(values) < min(random) - 0.2
