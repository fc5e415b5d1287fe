"""Accuracies of a folder of results as targets of networks."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmark.analyses import read_accuracies
from benchmark.report import leaderboard_text, write_report
from benchmark.results import read_results
from deepnets import ConfigError, DeepNets1M
from tests.support.made_up_results import row, run, write


def folder_of(folder: Path, *rows: dict) -> Path:
    predictors = {each["run"]: run(each["predictor"], each["split"], 2) for each in rows}
    return write(folder, list(rows), predictors)


def test_networks_without_a_value_are_left_out(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        row("a", "mine", "predefined", 1, 62.5),
        row("a", "mine", "predefined", 0, None),
        row("b", "mine", "predefined", 1, 31.0, noise=0.08),
        row("c", "mine", "test", 7, 12.0),
    )
    found = read_accuracies(folder, DeepNets1M(split="predefined"))
    assert found["top1"].to_dict() == {1: 62.5}
    assert found["top5"].to_dict() == {1: 92.5}
    assert found.index.name == "index"


def test_one_predictor_is_chosen(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, row("a", "mine", "predefined", 1, 62.5), row("b", "other", "predefined", 1, 50.0))
    nets = DeepNets1M(split="predefined")
    with pytest.raises(ConfigError, match="has results of predefined for mine, other; choose one"):
        read_accuracies(folder, nets)
    assert read_accuracies(folder, nets, predictor="other")["top1"].tolist() == [50.0]


def test_results_as_targets(tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    nets = DeepNets1M(split="predefined")
    folder = folder_of(tmp_path, row("a", "mine", "predefined", 1, 62.5))
    dataset = nets.to_pyg(targets=("num_params", "top1"), table=read_accuracies(folder, nets))
    assert dataset[1].y.tolist() == [[1012234.0, 62.5]]


def test_results_of_another_corpus(corpus: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, row("a", "mine", "val", 1, 62.5))
    with pytest.raises(ConfigError, match="contains other networks than run a"):
        read_accuracies(folder, DeepNets1M(corpus, split="val"))


def test_metrics_that_are_not_registered(tmp_path: Path) -> None:
    """They are targets, too; a report cannot show them, and says so."""
    folder = folder_of(tmp_path, row("a", "mine", "predefined", 1, 62.5))
    table = pd.read_csv(folder / "networks.csv", dtype=str, keep_default_na=False)
    table.assign(unheard_of="0.25", note="a text").to_csv(folder / "networks.csv", index=False)
    runs = {"a": run("mine", "predefined", 1, task="sure", metric="unheard_of"), "b": {"metric": ["not", "trusted"]}}
    (folder / "runs.json").write_text(json.dumps(runs))
    found = read_accuracies(folder, DeepNets1M(split="predefined"))
    assert found.to_dict("list") == {"top1": [62.5], "top5": [92.5], "unheard_of": [0.25]}
    remark = "Runs state the metric unheard_of, which is not registered here; show it with --metric module:attribute."
    assert read_results(folder).unregistered() == [remark]
    assert f"! {remark}"[:97] in leaderboard_text(folder)
    assert remark in write_report(folder).read_text(encoding="utf-8")
