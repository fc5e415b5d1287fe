"""Tasks: their losses and metrics against formulas, the registry, and outputs of other shapes."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deepnets.support import ConfigError
from ghn_model.tasks import METRICS, TASKS, Classification, LogitTask, NextToken, Task, get_logit_task, get_task

MODULE = """
from ghn_model.tasks import Classification, Task

class Hinge(Classification):
    name, title = "hinge", "classification with a hinge loss"

    def loss(self, output, targets, *, label_smoothing=0.0):
        logits = self.logits(output, targets)
        margins = 1 + logits - logits.gather(1, targets[:, None])
        return margins.clamp(min=0).sum(1).mean() - 1

class Unfinished(Task):
    pass

TASK = Hinge()
"""


def naive_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> float:
    """The formula, in double precision."""
    classes = logits.shape[-1]
    wanted = torch.full(logits.shape, smoothing / classes, dtype=torch.float64)
    for row, label in enumerate(labels.tolist()):
        wanted[row, label] += 1 - smoothing
    shares = logits.double().exp()
    return float(-(wanted * (shares / shares.sum(1, keepdim=True)).log()).sum(1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_the_formula(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    expected = naive_cross_entropy(logits, labels, smoothing)
    assert Classification().loss(logits, labels, label_smoothing=smoothing).item() == pytest.approx(expected)
    sequences = NextToken().loss(logits.view(2, 3, 5), labels.view(2, 3), label_smoothing=smoothing)
    assert sequences.item() == pytest.approx(expected)


def test_perplexity_is_that_of_all_tokens_together() -> None:
    """A mean of perplexities of batches, or of sequences, would differ."""
    torch.manual_seed(1)
    logits, labels = 3 * torch.randn(4, 8, 11), torch.randint(11, (4, 8))
    task = NextToken()
    tallies = task.tallies(task.logits(logits, labels), task.labels(labels))
    probabilities = [logits[b, t].softmax(0)[labels[b, t]].item() for b in range(4) for t in range(8)]
    expected = math.prod(probabilities) ** (-1 / 32)
    assert task.value(tallies.sum(), 32) == pytest.approx(expected, rel=1e-5)
    assert task.metric.value(float(tallies.mean())) == pytest.approx(expected, rel=1e-5)
    assert not task.metric.higher_is_better
    assert task.metric.worst is None


def test_accuracy_counts_labels_with_the_largest_logit() -> None:
    task = Classification()
    tallies = task.tallies(torch.eye(4), torch.tensor([0, 1, 2, 0]))
    assert tallies.tolist() == [True, True, True, False]
    assert task.value(tallies.sum().item(), 4) == 75.0
    assert task.metric is METRICS["top1"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_are_in_single_precision(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 5).to(dtype)
    loss = Classification().loss(logits, torch.tensor([0, 1, 2]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive_cross_entropy(logits.float(), torch.tensor([0, 1, 2])), rel=1e-5)


def test_outputs_of_models_of_transformers() -> None:
    targets = torch.zeros(2, 3, dtype=torch.int64)
    logits = torch.randn(2, 3, 7)
    for output in (logits, (logits, "cache"), SimpleNamespace(logits=logits)):
        assert torch.equal(NextToken().logits(output, targets), logits.reshape(6, 7))


@pytest.mark.parametrize("output", [torch.zeros(3, 7), torch.zeros(2, 4, 7), torch.zeros(2, 3), (), None, "logits"])
def test_outputs_that_are_no_logits(output: Any) -> None:
    with pytest.raises(ConfigError, match="expected outputs of shape"):
        NextToken().logits(output, torch.zeros(2, 3, dtype=torch.int64))


def test_the_number_of_classes_is_that_of_the_data() -> None:
    data = SimpleNamespace(num_classes=7, name="mine")
    with pytest.raises(ConfigError, match=r"\(2, 7\), for the classes of mine, got shape \(2, 6\)"):
        Classification().logits(torch.zeros(2, 6), torch.zeros(2, dtype=torch.int64), data)


def test_the_registry() -> None:
    assert list(TASKS)[:2] == ["classification", "text"]
    assert isinstance(get_task("classification"), Classification)
    assert get_task("text") is get_task("text")
    with pytest.raises(ConfigError, match="classification, text"):
        get_task("segmentation")
    with pytest.raises(ConfigError, match=r"expected a ghn_model\.tasks\.Task"):
        get_task("math:pi")
    for task in map(get_task, TASKS):
        assert all(name in METRICS for name in task.metrics)
        assert TASKS[task.name] is task


def test_a_task_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_task.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("my_task:TASK", "my_task:Hinge"):
        task = get_logit_task(name)
        assert task.name == "hinge"
        assert float(task.loss(torch.tensor([[2.0, 0.5]]), torch.tensor([0]))) == 0.0
        assert float(task.loss(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))) == 1.0
    with pytest.raises(ConfigError, match="Unfinished"):
        get_task("my_task:Unfinished")


def test_tasks_without_logits_are_not_trained() -> None:
    class Boxes(Task):
        name, title, metrics = "boxes", "boxes", ("top1",)

        def loss(self, output: Any, targets: Any, *, label_smoothing: float = 0.0) -> Tensor:
            return F.mse_loss(output, targets)

    assert not isinstance(Boxes(), LogitTask)
    with pytest.raises(ConfigError, match="boxes"):
        get_logit_task(Boxes())
    with pytest.raises(ConfigError, match="no data sets"):
        Boxes().open_data("digits", "train")
