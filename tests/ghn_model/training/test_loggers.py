"""Loggers receive every row of the log, are closed in any case, and a missing package is one error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from deepnets.support import ConfigError, MissingDependencyError
from ghn_model.training.log import Log
from ghn_model.training.loggers import LOGGERS, LoggedRun, open_loggers

ROW = {"step": 3, "loss": 2.5, "top1": 10.0, "networks_per_s": 4.0, "gpu_busy": None, "skipped": 0}


class Recorder:
    made: list[Recorder] = []

    def __init__(self, run: LoggedRun) -> None:
        self.run, self.rows, self.closed = run, [], 0
        Recorder.made.append(self)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append((step, dict(values)))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def forget() -> None:
    Recorder.made = []


def test_rows_of_the_log(tmp_path: Path) -> None:
    log = Log(tmp_path, step=2, quiet=True, loggers=[Recorder], settings={"images": "digits"})
    log.write(ROW)
    log.close()
    (recorder,) = Recorder.made
    assert recorder.run == LoggedRun(tmp_path, 2, {"images": "digits"})
    assert recorder.rows == [(3, {"loss": 2.5, "top1": 10.0, "networks_per_s": 4.0, "skipped": 0})]
    assert recorder.closed == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


def test_names_modules_and_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_logger.py").write_text("from tests.ghn_model.training.test_loggers import Recorder as R\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = LoggedRun(tmp_path)
    assert [type(each).__name__ for each in open_loggers(["mine_logger:R", Recorder], run)] == ["Recorder", "Recorder"]
    with pytest.raises(ConfigError, match="logger: unknown 'tensorbord'; use one of tensorboard, wandb"):
        open_loggers(["tensorbord"], run)
    with pytest.raises(ConfigError, match="expected a sequence of names"):
        open_loggers("wandb", run)
    assert list(LOGGERS) == ["tensorboard", "wandb"]


def test_loggers_that_were_made_are_closed_if_another_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected methods"):
        open_loggers([Recorder, lambda run: object()], LoggedRun(tmp_path))
    assert [each.closed for each in Recorder.made] == [1]


@pytest.mark.slow
def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for name in ("wandb", "tensorboard"):
        with pytest.raises(MissingDependencyError, match=f"pip install {name}") as caught:
            Log(tmp_path, quiet=True, loggers=[name])
        assert caught.value.name == name


@pytest.mark.slow
def test_packages_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(MissingDependencyError, match=r"wandb cannot be imported: .*no_such_dependency"):
        Log(tmp_path, quiet=True, loggers=["wandb"])


@pytest.mark.slow
def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            calls.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def close(self) -> None:
            calls.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = Log(tmp_path, step=2, quiet=True, loggers=["tensorboard"])
    log.write(ROW)
    log.close()
    assert calls[0] == (str(tmp_path / "tensorboard"), 3)  # the row of step 2 was written before the interruption
    assert ("loss", 2.5, 3) in calls
    assert calls[-1] == "closed"
    assert all("gpu_busy" not in call for call in calls)


@pytest.mark.parametrize(("mode", "expected"), [(None, "offline"), ("online", "online")])
def test_weights_and_biases_is_offline_by_default(
    mode: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finished")
    )

    def init(**options: Any) -> Any:
        calls.append(options)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    log = Log(tmp_path, quiet=True, loggers=["wandb"], settings={"images": "digits"})
    log.write(ROW)
    log.close()
    options, (step, values), last = calls
    assert options["mode"] == expected
    assert (options["dir"], options["config"]) == (str(tmp_path), {"images": "digits"})
    assert options["name"] == options["group"] == tmp_path.name
    assert (step, values["loss"], last) == (3, 2.5, "finished")
