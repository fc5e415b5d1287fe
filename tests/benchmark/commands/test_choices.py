"""The names in `choices`, which the command lines show, are those that the packages implement."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmark import choices
from benchmark.commands.run import _split_names
from benchmark.commands.training_options import _models, report
from benchmark.metrics import METRICS
from benchmark.training import PRESETS as PROTOCOLS
from benchmark.training.detection import DETECTION_METRICS
from deepnets.support import CLUSTERS, DeepNetsError
from generator import choices as generator_choices
from ghn_model import GHNConfig
from ghn_model import choices as ghn_choices
from ghn_model.tasks import get_task


def test_names_are_implemented() -> None:
    assert tuple(PROTOCOLS) == choices.PROTOCOLS
    assert {*CLUSTERS} == {*choices.BACKENDS} - {"threading", "loky", "sequential"}
    assert {*CLUSTERS} == {*generator_choices.BACKENDS} - {"loky"}
    assert {*ghn_choices.DEFAULT_METRICS, *DETECTION_METRICS, *choices.TEXT_METRICS} <= {*METRICS}
    assert get_task("text").metrics == choices.TEXT_METRICS
    for preset in ghn_choices.PRESETS:
        assert GHNConfig.preset(preset).hidden


def test_models_of_a_library_may_be_listed() -> None:
    assert _models(["torchvision:resnet18", "resnet50", "mine:Net", "other:Net"]) == [
        *("torchvision:resnet18", "torchvision:resnet50", "mine:Net", "other:Net")
    ]
    assert _models(["resnet18"]) == ["resnet18"]
    names = ["test", "", "timm:a", "b", "val", "family:x/wide", "deep", "torchvision:c", "torchvision:d"]
    assert _split_names(names) == ["test", "timm:a,b", "val", "family:x/wide", "deep", "torchvision:c", "torchvision:d"]


class Table:
    """Curves in memory."""

    def __init__(self, folder: object, *statuses: str) -> None:
        self.folder = self.path = folder
        self.statuses = statuses

    def table(self) -> pd.DataFrame:
        rows = [
            {"split": "test", "network": "", "index": i, "predictor": "random", "images": "digits", "status": status}
            for i, status in enumerate(self.statuses)
        ]
        return pd.DataFrame(rows).assign(reason="no", epoch=1, top1=50.0, num_params=1)


def test_a_run_in_which_every_training_failed_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr("benchmark.baselines.draw_curves", lambda *a: False)
    monkeypatch.setattr("benchmark.baselines.curves_text", lambda *a: "")
    folder = tmp_path_factory.mktemp("curves")
    report(Table(folder, "ok", "failed"), "top1")  # type: ignore[arg-type]
    with pytest.raises(DeepNetsError, match=r"^every training failed; .* gives the reasons, --retry-failed"):
        report(Table(folder, "failed", "failed"), "top1")  # type: ignore[arg-type]
