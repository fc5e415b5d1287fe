"""Saved states with a valid checksum that were made by somebody else, and damaged logs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepnets.support import CheckpointError
from ghn_model.checkpoints import DIGEST, TensorFile, write_tensors
from ghn_model.training.log import truncate_csv
from ghn_model.training.resuming import match_identity
from ghn_model.training.state import Progress, load_state, read_identity, save_state
from tests.support.limits import limited

Tensors = dict[str, Tensor]
Metadata = dict[str, str]


class Run:
    """A model of two layers after a few steps, and its state in a file."""

    def __init__(self, folder: Path, kind: Any = torch.optim.AdamW) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.optimizer = kind(self.model.parameters(), lr=0.1, fused=True)
        for _ in range(3):
            self.model(torch.randn(5, 3)).square().sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.averages = [parameter.detach().clone() + 1 for parameter in self.model.parameters()]
        self.extra = {"totals": torch.arange(5.0)}
        self.path = folder / "state.safetensors"
        save_state(self.path, *self.parts, Progress(7, 1.5, 2, 3.5, 14), {"seed": 0})  # type: ignore[arg-type]

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.model, self.optimizer, self.averages, self.extra

    def content(self) -> tuple[Tensors, Metadata]:
        file = TensorFile(self.path)
        tensors = {name: tensor.clone() for name, tensor in file.tensors.items()}
        return tensors, {name: text for name, text in file.metadata.items() if name != DIGEST}

    def numbers(self) -> list[Tensor]:
        state = self.optimizer.state.values()
        moments = [value for values in state for value in values.values()]
        return [t.clone() for t in (*self.model.state_dict().values(), *moments, *self.averages, *self.extra.values())]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def rewrite(run: Run, change: Callable[[Tensors, Metadata], object]) -> None:
    tensors, metadata = run.content()
    change(tensors, metadata)
    write_tensors(run.path, tensors, metadata)


def test_a_state_is_restored(tmp_path: Path) -> None:
    for kind in (torch.optim.Adam, torch.optim.AdamW):
        run = Run(tmp_path, kind)
        before = run.numbers()
        for tensor in (*run.model.state_dict().values(), *run.averages, *run.extra.values()):
            tensor.zero_()
        run.optimizer.state.clear()
        assert load_state(run.path, *run.parts) == (7, 1.5, 2, 3.5, 14)
        assert all(map(torch.equal, before, run.numbers()))
        assert read_identity(run.path) == {"seed": 0}


def put(name: str, value: Tensor | Callable[[Tensor], Tensor]) -> Callable[[Tensors, Metadata], object]:
    def change(tensors: Tensors, _: Metadata) -> None:
        tensors[name] = value(tensors[name]) if callable(value) else value

    return change


def drop(name: str) -> Callable[[Tensors, Metadata], object]:
    return lambda tensors, _: tensors.pop(name)


TENSORS: dict[str, Callable[[Tensors, Metadata], object]] = {
    **{
        f"{group} of {what}": put(name, change)
        for group, name in {
            "first moment": "optimizer.exp_avg.0.weight",
            "second moment": "optimizer.exp_avg_sq.0.weight",
            "moment of a bias": "optimizer.exp_avg.1.bias",
            "average": "average.0.weight",
            "weight": "weights.0.weight",
            "buffer": "weights.1.running_mean",
            "extra": "extra.totals",
        }.items()
        for what, change in {
            "another shape": torch.zeros(2),
            "no elements": torch.zeros(0),
            "more elements": torch.zeros(1000, 1000),
            "one more axis": lambda t: t[None].clone(),
            "another type": lambda t: t.long(),
            "half precision": lambda t: t.half(),
            "double precision": lambda t: t.double(),
        }.items()
    },
    "step of another shape": put("optimizer.step.0.weight", torch.zeros(1)),
    "step of another type": put("optimizer.step.0.weight", torch.tensor(3)),
    "negative step": put("optimizer.step.0.weight", torch.tensor(-3.0)),
    "step that is not a number": put("optimizer.step.0.weight", torch.tensor(float("nan"))),
    "infinite step": put("optimizer.step.1.bias", torch.tensor(float("inf"))),
    "no step": drop("optimizer.step.0.weight"),
    "no first moment": drop("optimizer.exp_avg.0.weight"),
    "no second moment": drop("optimizer.exp_avg_sq.1.bias"),
    "no weight": drop("weights.0.weight"),
    "no average": drop("average.1.bias"),
    "no extra": drop("extra.totals"),
    "an unknown moment": put("optimizer.max_exp_avg_sq.0.weight", torch.zeros(4, 3)),
    "an unknown parameter": put("optimizer.exp_avg.9.weight", torch.zeros(4, 3)),
    "an unknown group": put("other.0.weight", torch.zeros(4, 3)),
    "no group": put("weight", torch.zeros(4, 3)),
    "no name": put("optimizer", torch.zeros(4, 3)),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit_change_nothing(run: Run, case: str) -> None:
    before = run.numbers()
    rewrite(run, TENSORS[case])
    with pytest.raises(CheckpointError, match=f"^{run.path}: is not the state of this training: ") as caught:
        load_state(run.path, *run.parts)
    assert "\n" not in str(caught.value)
    assert all(map(torch.equal, before, run.numbers()))
    run.model(torch.randn(5, 3)).square().sum().backward()
    run.optimizer.step()


GOOD = {"step": 3, "seconds": 1.0, "skipped": 0, "core_seconds": 2}


@pytest.mark.parametrize(
    "moment",
    [
        *(json.dumps({**GOOD, "step": step}) for step in (-1, 10**30, 1.0, 1e300, "3", None, True, [3], {})),
        *(json.dumps({**GOOD, "seconds": seconds}) for seconds in (-1, "1", None, [1], 10**400, False)),
        json.dumps({**GOOD, "seconds": 0}).replace("0", "NaN", 1),
        json.dumps({**GOOD, "skipped": 1}).replace("1.0", "Infinity"),
        json.dumps({**GOOD, "skipped": 1.5}),
        json.dumps({**GOOD, "core_seconds": "many"}),
        json.dumps({**GOOD, "other": 1}),
        json.dumps({"seconds": 1.0}),
        '{"step": ' + "9" * 5_000 + "}",
        '{"step": ' + "[" * 100_000,
        *("[]", "3", "null", '"step"', "", "{", "nonsense", "[1, 2, 3, 4]"),
    ],
)
def test_progress_that_is_not_plausible(run: Run, moment: str) -> None:
    rewrite(run, lambda _, metadata: metadata.update(moment=moment))
    before = run.numbers()
    with pytest.raises(CheckpointError, match=f"^{run.path}: is not the state of this training: ") as caught:
        load_state(run.path, *run.parts)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert all(map(torch.equal, before, run.numbers()))


@pytest.mark.parametrize(
    "about",
    [
        *("[]", "3", "null", '"text"', "", "{", "[" * 100_000, "9" * 5_000),
        *(json.dumps({"recipe": recipe}) for recipe in (3, None, [1], "ghn2", {"lr": "x"}, {"lr": 1e999}, {"a": 1})),
        *(json.dumps({"recipe": {"schedule": value}}) for value in (3, {"a": 1}, {"kind": 3}, {"kind": []})),
        json.dumps({"recipe": {"seed": 10**400}}),
    ],
)
def test_identities_that_are_not_plausible(run: Run, about: str) -> None:
    rewrite(run, lambda _, metadata: metadata.update(about=about))
    with pytest.raises(CheckpointError, match=f"^{run.path}: does not describe its training") as caught:
        match_identity(run.path, run.model, {})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_pipe_is_not_a_state(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.path.unlink()
    os.mkfifo(run.path)
    for read in (lambda: load_state(run.path, *run.parts), lambda: read_identity(run.path)):
        assert limited(read).kind == "CheckpointError"


def test_another_number_of_threads_is_told(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(run, lambda _, metadata: metadata.update(about=json.dumps({"recipe": {}, "threads": 3})))
    recipe = {"recipe": {**__import__("ghn_model.training").training.Recipe().to_dict()}}
    match_identity(run.path, run.model, {**recipe, "threads": 3})
    match_identity(run.path, run.model, dict(recipe))
    assert not caplog.records
    match_identity(run.path, run.model, {**recipe, "threads": 1})
    (record,) = caplog.records
    assert "resumes with 1 threads instead of 3; the weights will differ, by rounding" in record.getMessage()


# --- logs ---


HEADER = "step,loss,top1\n"
ROWS = [f"{step},2.5,{step}\n" for step in (5, 10, 15, 20)]


@pytest.mark.parametrize(
    ("content", "steps"),
    [
        (HEADER + "".join(ROWS), [5, 10, 15, 20]),
        (HEADER + "".join(ROWS) + "2", [5, 10, 15, 20]),
        (HEADER + "".join(ROWS) + "2,3,4", [5, 10, 15, 20]),
        (HEADER + "".join(ROWS) + "25,2.5,1\n", [5, 10, 15, 20]),
        (HEADER + "".join(ROWS) + "\xff\xfe\n", [5, 10, 15, 20]),
        (HEADER + "".join(ROWS) + "4," * 40 + "\n", [5, 10, 15, 20]),
        (HEADER + "".join(ROWS) + '4,"' + "x" * 200_000 + "\n", [5, 10, 15, 20]),
        (HEADER + ROWS[0] + "\0\n" + ROWS[1], [5, 10]),
        (HEADER + ROWS[0] + "9" * 5_000 + ",1,2\n" + ROWS[1], [5, 10]),
        (HEADER + ROWS[1] + ROWS[0] + ROWS[2], [10, 15]),
        (HEADER + ROWS[0] + ROWS[0], [5]),
        (HEADER + "-5,1,1\n+6,1,1\n7.0,1,1\n\N{SUPERSCRIPT TWO},1,1\n\n,,\n" + ROWS[3], [20]),
        ("loss,top1\n2.5,1\n", []),
        ("", []),
        ("\0" * 1000, []),
    ],
)
def test_damaged_logs(tmp_path: Path, content: str, steps: list[int]) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content.encode("latin1" if "\xff" in content else "utf-8"))
    truncate_csv(path, ("step", "loss", "top1"), 20)
    lines = path.read_text().splitlines()
    assert lines[0] == HEADER.strip()
    assert [int(line.split(",")[0]) for line in lines[1:]] == steps


def test_a_log_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.csv")
    assert limited(lambda: truncate_csv(tmp_path / "log.csv", ("step",), 20)).kind == "CheckpointError"
