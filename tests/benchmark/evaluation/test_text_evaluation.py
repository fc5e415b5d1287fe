"""Evaluation of language models on texts, from Python and by commands, and what reports say about it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmark import evaluate
from benchmark.__main__ import main
from benchmark.accuracy import score
from benchmark.commands.options import task_data
from benchmark.report import leaderboard_text
from benchmark.results import Machine, read_results, run
from benchmark.training import SGDRecipe, evaluate_trained, train_network
from deepnets.data import TextSet, open_texts
from deepnets.support import ConfigError
from ghn_model import GHN, GHNConfig

NETWORKS = "family:gpt2-widths"


@pytest.fixture(autouse=True)
def language() -> None:
    pytest.importorskip("transformers")


@pytest.fixture
def text() -> TextSet:
    """The first sequences of the embedded text."""
    whole = open_texts("python", "test", sequence_length=16)
    return TextSet("python", "test", whole.tokens[: 16 * 20 + 1], 256, sequence_length=16)


def perplexity_of(model: torch.nn.Module, text: TextSet) -> float:
    """The perplexity of all tokens, in one pass without batches."""
    tokens, targets = text.windows(16 * torch.arange(len(text)))
    with torch.no_grad():
        logits = model.eval()(tokens).logits
    return math.exp(F.cross_entropy(logits.flatten(0, 1).double(), targets.flatten()).item())


def test_perplexities_are_those_of_the_predicted_networks(text: TextSet) -> None:
    from deepnets.families import FamilyNetworks

    kept: dict[int, Any] = {}

    def predict(model: Any, graph: Any) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(graph.index)
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        kept[graph.index] = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        return kept[graph.index]

    table = evaluate(predict, NETWORKS, text, limit=2, task="text", batch_size=3)  # type: ignore[arg-type]
    assert table["status"].tolist() == ["ok", "ok"]
    assert table["num_images"].tolist() == [320, 320]
    nets = FamilyNetworks("gpt2-widths", "test")
    for index, row in enumerate(table.itertuples()):
        model = nets.build(index)
        model.load_state_dict(kept[index], strict=False)
        assert row.perplexity == pytest.approx(perplexity_of(model, text), rel=1e-4)
        assert 0 <= row.top1 <= row.top5 <= 100
    assert table.attrs["task"] == "text"


def test_a_hypernetwork_for_texts_predicts_networks_for_any_vocabulary(text: TextSet) -> None:
    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden": 8, "heads": 2, "layers": 1, "rank": 2, "factor_rows": 1024}
    ghn = GHN(GHNConfig.preset("logah-t", task="text", max_shape=(256, 256, 16, 16), **small)).eval()
    assert ghn.config.for_texts
    assert not GHNConfig.preset("logah-t").for_texts
    table = evaluate(ghn, NETWORKS, text, limit=1, task="text")  # type: ignore[arg-type]
    assert table["status"].tolist() == ["ok"], table["reason"].tolist()
    assert table["perplexity"].between(1, 1e6).all()


def test_networks_without_finite_outputs_have_no_perplexity(text: TextSet) -> None:
    scores = score(lambda tokens: torch.full((*tokens.shape, 256), math.nan), text, 4, task="text")  # type: ignore[arg-type]
    assert math.isnan(scores["perplexity"])
    assert (scores["top1"], scores.nonfinite_images, scores.images) == (0.0, 320, 320)
    huge = score(lambda tokens: 1e6 * torch.randn(*tokens.shape, 256), text, 4, task="text")  # type: ignore[arg-type]
    assert math.isnan(huge["perplexity"])  # the exponential is not a number of the computer


def test_outputs_for_another_vocabulary(text: TextSet) -> None:
    with pytest.raises(ConfigError, match=r"\(4, 16, 256\), for the classes of python"):
        score(lambda tokens: torch.zeros(*tokens.shape, 255), text, 4, task="text")  # type: ignore[arg-type]


def test_tasks_networks_and_data_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="process images"):
        evaluate("random", "family:resnet-widths", "python", task="text", limit=1)
    with pytest.raises(ConfigError, match="process text"):
        evaluate("random", NETWORKS, "digits", limit=1)
    with pytest.raises(ConfigError, match="noise"):
        evaluate("random", NETWORKS, "python", task="text", noise=0.1, limit=1)
    with pytest.raises(ConfigError, match="detection"):
        evaluate("random", NETWORKS, "python", task="detection", limit=1)
    with pytest.raises(ConfigError, match="language models"):
        evaluate("random", "test", "python", task="text", data=tmp_path, limit=1)


@pytest.mark.slow
def test_results_and_report_state_the_task(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_bytes(bytes(range(97, 123)) * 60)
    name = f"text:{tmp_path / 'corpus.txt'}"
    options = {"tokenizer": "bytes", "sequence_length": 16}
    given: dict[str, Any] = {"limit": 2, "machine": Machine(workers=1), "task": "text", "data_options": options}
    path = run(["random"], [NETWORKS], name, out=tmp_path / "out", **given)
    before = path.read_bytes()
    run(["random"], [NETWORKS], name, out=tmp_path / "out", **given)
    assert path.read_bytes() == before  # nothing is evaluated again
    results = read_results(tmp_path / "out")
    (about,) = results.runs.values()
    assert (about["task"], about["metric"], about["data_options"]) == ("text", "perplexity", options)
    (board,) = results.boards()
    assert {cell.metric for cell in board.cells.values()} == {"perplexity"}
    assert "perplexity" in leaderboard_text(tmp_path / "out")
    about["metric"] = "os:system"  # files of results are not trusted
    (board,) = results.boards()
    assert {cell.metric for cell in board.cells.values()} == {"top1"}
    longer = {**given, "data_options": {**options, "sequence_length": 8}}
    run(["random"], [NETWORKS], name, out=tmp_path / "out", **longer)
    assert len(read_results(tmp_path / "out").runs) == 2


@pytest.mark.slow
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--task", "text", "--predictors", "random", "--limit", "1", "--sequence-length", "32"]
    main([*words, "--workers", "1", "--out", str(tmp_path), "--data", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "python: perplexity" in shown
    page = next(tmp_path.glob("*.html")).read_text()
    assert "texts of\npython" in page or "texts of python" in page


def test_options_of_other_tasks() -> None:
    from argparse import Namespace

    given = {"images": "digits", "texts": None, "tokenizer": None, "sequence_length": None}
    assert task_data(Namespace(task="classification", **given)) == ("digits", None)
    with pytest.raises(ConfigError, match="--sequence-length: is for --task text"):
        task_data(Namespace(task="classification", **{**given, "sequence_length": 8}))
    with pytest.raises(ConfigError, match="--images: is for images"):
        task_data(Namespace(task="text", **{**given, "images": "cifar10"}))
    with pytest.raises(ConfigError, match="text:PATH"):
        task_data(Namespace(task="text", **{**given, "texts": "shakespeare"}))


def test_fine_tuning_of_a_language_model(text: TextSet) -> None:
    """The trainer of single networks knows tasks, too."""
    from deepnets.families import FamilyNetworks

    torch.manual_seed(0)
    model = FamilyNetworks("gpt2-widths", "test").build(0)
    before = perplexity_of(model, text)
    recipe = SGDRecipe(epochs=3, optimizer="adamw", lr=3e-3, batch_size=4, augment=False)
    trained = train_network(model, text, recipe, eval_images=text, task="text")  # type: ignore[arg-type]
    scores = evaluate_trained(model, trained.state, text, task="text")  # type: ignore[arg-type]
    assert scores["perplexity"] < 0.8 * before
    assert trained.curve["perplexity"].iloc[-1] == pytest.approx(scores["perplexity"], rel=1e-5)
    assert (trained.curve["loss"].diff().dropna() < 0).all()
