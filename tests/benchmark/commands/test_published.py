"""The command `published`: tables of the published results, and of our own for comparison."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from benchmark.commands import published as published_command
from benchmark.literature import WIDTH, read_own_results
from benchmark.literature.files import FILES
from benchmark.literature.own_results import own_accuracies
from benchmark.literature.text import decimal
from deepnets.support import ConfigError, Parser
from tests.support.made_up_published import write_made_up

EPOCHS = (1, 5, 10, 20, 30, 40, 50)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four files, made up."""
    return write_made_up(tmp_path_factory.mktemp("published"))


COLUMNS = (
    "run,predictor,split,images,part,noise,index,network,num_nodes,num_params,depth,top1,top5,num_images,batch_size,"
    "batch_norm,graph_seconds,build_seconds,predict_seconds,evaluate_seconds,memory_mb,status,reason"
)


def ours_row(run: str, predictor: str, split: str, images: str, index: int, top1: float | None, **more: Any) -> str:
    """A line of `networks.csv`; top5 is top1 + 10, and there is no accuracy where the network failed."""
    values: dict[str, Any] = {"part": "val" if split == "val" else "test", "noise": 0.0, "network": "", **more}
    values |= {"run": run, "predictor": predictor, "split": split, "images": images, "index": index}
    values |= {
        "num_nodes": 9,
        "num_params": 1000,
        "depth": 5,
        "num_images": 100,
        "batch_size": 64,
        "batch_norm": "batch",
    }
    fine = top1 is not None
    values |= {"top1": top1 if fine else "", "top5": top1 + 10 if top1 is not None else ""}
    values |= {"status": "ok" if fine else "failed", "reason": "" if fine else "it broke"}
    return ",".join(str(values.get(name, 1.0)) for name in COLUMNS.split(","))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of ours: two predictors, a run that was repeated, failures, noise, other images."""
    old, new = "a" * 12, "b" * 12
    rows = [ours_row(new, "ghn2-mine", "test", "cifar10", i, top1) for i, top1 in enumerate((50.0, 70.0, None, 60.0))]
    rows += [ours_row(old, "ghn2-mine", "test", "cifar10", i, 1.0) for i in range(4)]
    rows += [ours_row(new, "ghn2-mine", "deep", "cifar10", i, None) for i in range(2)]
    rows += [ours_row(new, "ghn2-mine", "val", "cifar10", i, 33.0 + i) for i in range(2)]
    rows += [ours_row(new, "ghn2-mine", "predefined", "cifar10", 0, 12.25, network="resnet50")]
    rows += [ours_row(new, "ghn2-mine", "test", "cifar10", i, 20.5, noise=0.08) for i in range(2)]
    rows += [ours_row(new, "ghn2-mine", "test", "cifar10", i, 21.5, noise=0.5) for i in range(2)]
    rows += [ours_row(new, "my_module_with_a_long_name:predict", "test", "imagenet", i, 5.5) for i in range(2)]
    rows += [ours_row(new, "ghn2-mine", "torchvision", "imagenet", 0, 7.0, network="resnet50")]
    rows += [ours_row(new, "ghn2-mine", "torchvision", "imagenet", 1, None, network="resnet18")]
    rows += [ours_row(new, "ghn2-mine", "torchvision", "imagenet", 2, 9.0, network="newer_model")]
    rows += [ours_row(new, "random", "test", "digits", i, 10.0 + i) for i in range(3)]
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "networks.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    runs = {old: {"started": "2026-01-01T00:00:00"}, new: {"started": "2026-01-02T00:00:00"}}
    (folder / "runs.json").write_text(json.dumps(runs))
    return folder


def command(*arguments: Any) -> None:
    parser = Parser(prog="python -m benchmark")
    published_command.add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    options = parser.parse_args(["published", *map(str, arguments)])
    options.do(options)


def test_ours_are_summarized_as_the_published_ones(results: Path) -> None:
    ours = read_own_results(results)
    assert ours is not None
    table = own_accuracies(ours, "cifar10", "top1").set_index("split")
    row = table.loc["test"]
    assert (row["mean"], row["best"], row["best_index"], row["networks"], row["failures"]) == (45, 70, 1, 4, 1)
    assert row["successful_mean"] == 60
    assert row["standard_error"] == pytest.approx(math.sqrt((15**2 + 25**2 + 5**2 + 45**2) / 4 / 4))
    assert table.loc["deep", "mean"] == 0
    assert math.isnan(table.loc["deep", "successful_mean"])
    assert table.loc["deep", "failures"] == 2
    assert list(own_accuracies(ours, "imagenet", "top5")["mean"]) == [15.5]


@pytest.mark.slow
def test_the_command_shows_ours_below_the_published_ones(
    folder: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(folder, "--results", results)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= WIDTH
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("CIFAR-10, test images, top-1 in percent: mean"))
    table = lines[start + 2 : lines.index("", start + 2)]
    assert [line.split("  ")[0] for line in table[2:-3]] == ["MLP", "GHN-1", "GHN-2", *(f"SGD {n} ep" for n in EPOCHS)]
    assert table[-3].split() == ["ghn2-mine", "45.00±13.46", "70.00", "-", "0.00±0.00", "-", "-", "12.25", "/", "-"]
    assert table[-1].split() == ["without", "them", "60.00", "-", "-", "-", "-", "12.25", "/", "-"]
    assert table[-2].split() == [*("failed", "1", "of", "4", "-", "2", "of", "2", "-", "-", "0", "of", "1")]
    assert "70.00 #1" in out
    assert re.search(r"33\.50±0\.35 +34\.00", out), "networks of val, validation images"
    assert "20.50±0.00" in out, "noisy images"
    assert "my_module_…redict" in out
    assert re.search(r"15\.50±0\.00 +15\.50", out), "top-5 on ImageNet"
    common = next(line for line in lines if line.startswith("ghn2-mine") and line.split()[-2:] == ["2", "1"])
    assert common.split()[:2] == ["ghn2-mine", "3.500"], "a model that failed counts as 0"
    assert "Own results on digits, top-1 in percent, without published results to compare with: test images" in out
    assert re.search(r"11\.00±0\.47 +12\.00", out)
    assert "own results with noise levels without published results are not shown: 0.5 on cifar10" in out
    assert "1.00±0.00" not in out.replace("11.00", ""), "the older run does not count"


@pytest.mark.slow
def test_the_command_shows_one_table(folder: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(folder, "--results", results, "--table", "accuracy", "--images", "imagenet", "--metric", "top1")
    out = capsys.readouterr().out
    assert "ImageNet, test images, top-5 in percent (own results top-1): mean" in out
    assert re.search(r"5\.50±0\.00 +5\.50", out)
    assert "CIFAR" not in out
    assert "digits" not in out
    command(folder, "--results", results, "--table", "each-model")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith(("resnet50", "resnet18", "model3 "))] == [
        "-",
        "0.000",
        "7.000",
    ]
    command(folder, "--table", "known-issues", "--results", results)
    assert "copies of the curves of the first networks of test" in " ".join(capsys.readouterr().out.split())


def test_the_command_without_results_or_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_made_up(tmp_path / "some", "ghn3")
    command(tmp_path / "some", "--results", tmp_path / "absent")
    out = capsys.readouterr().out
    assert f"note: {FILES['cifar10'].name} is not in" in out
    assert "note: there are no own results" in out
    assert "ImageNet, 74 models of torchvision" in out
    with pytest.raises(ConfigError, match=r"--table: nothing in .* is about accuracy on cifar10"):
        command(tmp_path / "some", "--images", "cifar10", "--table", "accuracy")


def test_ours_on_images_whose_file_is_missing(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = write_made_up(results.parent / "some", "ghn3")
    command(some, "--results", results)
    out = capsys.readouterr().out
    assert "Own results on cifar10, top-1 in percent, without published results to compare with: test images" in out
    assert "45.00±13.46" in out


def test_options_of_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(folder, "--table", "colours")
    assert "invalid choice: 'colours'" in capsys.readouterr().err


def test_decimals_are_rounded_once_and_halves_up() -> None:
    assert [decimal(value) for value in (15.784999999999997, 15.785, 0.5549, -0.005, math.nan)] == [
        *("15.79", "15.79", "0.55", "-0.01", "-")
    ]
    assert decimal(280.1651, 3) == "280.165"
