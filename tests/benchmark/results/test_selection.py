"""Which rows are current for models of a library, and what a run describes after a second call."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmark.results.runner
from benchmark import Metric
from benchmark.commands import run as run_command
from benchmark.results import Machine, read_results, run
from deepnets.support import Parser
from tests.support import made_up_results as made
from tests.support.benchmark_runs import table_of

# --- models of a library ---

ACCURACIES = {"resnet18": 90.0, "mobilenet_v2": 50.0, "alexnet": 20.0}


def models(*runs: tuple[str, str, tuple[str, ...]], **about: Any) -> tuple[list[made.Row], dict[str, Any]]:
    """Rows and descriptions of runs, each of which evaluates the models in its own order."""
    rows, found = [], {}
    for hour, (name, predictor, names) in enumerate(runs):
        rows += [made.row(name, predictor, "torchvision", i, ACCURACIES[n], network=n) for i, n in enumerate(names)]
        corpus = f"torchvision 0.28.0: {','.join(names)}"
        found[name] = made.run(predictor, "torchvision", len(names), hour=hour, corpus=corpus) | about.get(name, {})
    return rows, found


def test_models_of_several_runs_are_shown_together(tmp_path: Path) -> None:
    rows, runs = models(("r1", "p", ("resnet18",)), ("r2", "p", ("mobilenet_v2", "alexnet")))
    found = read_results(made.write(tmp_path, rows, runs))
    assert found.rows[["network", "top1", "run"]].to_numpy().tolist() == [
        ["alexnet", 20.0, "r2"],
        ["mobilenet_v2", 50.0, "r2"],
        ["resnet18", 90.0, "r1"],
    ]
    (cell,) = found.boards()[0].cells.values()
    assert (cell.complete, cell.run_size, cell.split_size, cell.run) == (True, 3, 3, "r2")
    assert found.disagreements() == []


def test_a_model_counts_once_and_the_newest_run_wins(tmp_path: Path) -> None:
    rows, runs = models(("r1", "p", ("resnet18", "alexnet")), ("r2", "p", ("alexnet",)))
    rows[2]["top1"] = 21.0
    found = read_results(made.write(tmp_path, rows, runs))
    assert found.rows[["network", "top1"]].to_numpy().tolist() == [["alexnet", 21.0], ["resnet18", 90.0]]


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 32}, {"corpus": "torchvision 0.27.0: resnet18"}])
def test_runs_with_other_settings_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    rows, runs = models(("r1", "p", ("resnet18",)), ("r2", "p", ("alexnet",)), r1=change)
    assert read_results(made.write(tmp_path, rows, runs)).rows["network"].tolist() == ["alexnet"]


def test_models_are_compared_by_name(tmp_path: Path) -> None:
    """The order in a command does not matter."""
    rows, runs = models(("r1", "a", ("resnet18", "mobilenet_v2")), ("r2", "b", ("mobilenet_v2", "resnet18")))
    (board,) = read_results(made.write(tmp_path, rows, runs)).boards()
    (column,) = board.columns
    assert set(board.win_rates(column).values()) == {(0.0, 2)}


def test_an_interrupted_run_on_models_is_unfinished(tmp_path: Path) -> None:
    rows, runs = models(("r1", "p", ("resnet18", "alexnet")), ("r2", "p", ("mobilenet_v2",)))
    found = read_results(made.write(tmp_path, [rows[0], rows[2]], runs))
    (cell,) = found.boards()[0].cells.values()
    assert (len(cell.rows), cell.run_size, cell.complete) == (2, 3, False)


# --- runs, without evaluating ---


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Networks that are evaluated, each of which has made-up accuracies."""
    done: list[int] = []

    def evaluate_all(work: list[Any], machine: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for place, (job, index) in enumerate(work):
            done.append(index)
            yield place, {**job.empty_row(index), "top1": 50.0, "top5": 80.0, "num_images": 299}

    monkeypatch.setattr(benchmark.results.runner, "evaluate_all", evaluate_all)
    return done


def described(folder: Path) -> dict[str, Any]:
    (about,) = json.loads((folder / "runs.json").read_text()).values()
    return {name: about.get(name) for name in ("networks", "limit", "index")}


def test_a_narrower_call_does_not_narrow_the_description(data: Path, tmp_path: Path, evaluated: list[int]) -> None:
    options: dict[str, Any] = {"data": data, "out": tmp_path, "machine": Machine(workers=1)}
    run(["random"], ["test"], index="0:3", **options)
    run(["random"], ["test"], index="0", **options)
    assert described(tmp_path) == {"networks": 3, "limit": None, "index": [0, 1, 2]}
    run(["random"], ["test"], limit=2, **options)
    assert described(tmp_path)["networks"] == 3
    assert evaluated == [0, 1, 2]


def test_an_interrupted_second_call_is_unfinished(data: Path, tmp_path: Path, evaluated: list[int]) -> None:
    options: dict[str, Any] = {"data": data, "out": tmp_path, "machine": Machine(workers=1)}
    run(["random"], ["test"], index=[0], **options)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(["random"], ["test"], index=[1, 2], on_row=stop, **options)
    (cell,) = read_results(tmp_path).boards()[0].cells.values()
    assert (len(cell.rows), cell.run_size, cell.complete) == (2, 3, False)
    run(["random"], ["test"], index=[2], **options)
    (cell,) = read_results(tmp_path).boards()[0].cells.values()
    assert (len(cell.rows), cell.run_size, cell.complete) == (3, 3, True)
    assert described(tmp_path) == {"networks": 3, "limit": 3, "index": None}


def test_a_mistaken_large_call_can_be_narrowed(data: Path, tmp_path: Path, evaluated: list[int]) -> None:
    """What was asked for, but never evaluated, does not count."""
    options: dict[str, Any] = {"data": data, "out": tmp_path, "machine": Machine(workers=1)}

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(["random"], ["test"], on_row=stop, **options)
    run(["random"], ["test"], limit=1, **options)
    assert described(tmp_path) == {"networks": 1, "limit": 1, "index": None}
    run(["random"], ["test"], limit=2, **options)
    assert described(tmp_path) == {"networks": 2, "limit": 2, "index": None}


def test_nothing_is_evaluated_twice(data: Path, tmp_path: Path, evaluated: list[int]) -> None:
    options: dict[str, Any] = {"data": data, "out": tmp_path, "limit": 2, "machine": Machine(workers=1)}
    run(["random"], ["test", "test"], noise=(0.0, 0.1, 0.1), **options)
    assert evaluated == [0, 1, 0, 1]
    assert len(table_of(tmp_path)) == 4


def test_failed_networks_outside_of_a_call_keep_their_rows(data: Path, tmp_path: Path, evaluated: list[int]) -> None:
    options: dict[str, Any] = {"data": data, "out": tmp_path, "machine": Machine(workers=1)}
    run(["random"], ["test"], limit=2, **options)
    path = tmp_path / "networks.csv"
    path.write_text(path.read_text().replace(",ok,", ",failed,"))
    run(["random"], ["test"], index=[1], retry_failed=True, **options)
    assert table_of(tmp_path)[["index", "status"]].to_numpy().tolist() == [["0", "failed"], ["1", "ok"]]


def test_without_class_layers_is_another_run(data: Path, tmp_path: Path, evaluated: list[int]) -> None:
    """Also for predictors of any number of classes."""
    options: dict[str, Any] = {"data": data, "out": tmp_path, "limit": 1, "machine": Machine(workers=1)}
    for _ in range(2):
        run(["untrained:ghn2"], ["test"], **options)
        run(["untrained:ghn2"], ["test"], predict_class_layers=False, **options)
    assert evaluated == [0, 0]
    assert table_of(tmp_path)["run"].nunique() == 2


def test_a_run_from_python_states_the_equivalent_command(
    data: Path, tmp_path: Path, evaluated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments of the process, such as those of a notebook's kernel, would reproduce nothing."""
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "/home/anna/kernel.json"])
    options: dict[str, Any] = {"data": data, "out": tmp_path, "machine": Machine(workers=1), "seed": 3}
    run(["random", "o=orthogonal"], ["test"], index=[0, 2], predict_class_layers=False, **options)
    (command,) = {about["command"] for about in json.loads((tmp_path / "runs.json").read_text()).values()}
    assert command == (
        "deepnets bench --predictors random o=orthogonal --splits test --index 0,2 --seed 3 --no-class-layers "
        f"--data {data} --out {tmp_path}"
    )
    parser = Parser()
    run_command.add_arguments(parser.add_subparsers())
    parsed = parser.parse_args(["run", *shlex.split(command)[2:]])
    assert (parsed.index, parsed.no_class_layers, parsed.data) == (["0", "2"], True, data)
    loss = Metric("without_a_name", "loss", "", lambda logits, labels: logits[:, 0])
    run(["random"], ["test"], limit=1, metrics=[loss], **options)
    assert [about["command"] for about in json.loads((tmp_path / "runs.json").read_text()).values()][-1] == ""


def test_commands_of_texts_and_limits_of_families_can_be_parsed(tmp_path: Path, evaluated: list[int]) -> None:
    options: dict[str, Any] = {"out": tmp_path, "machine": Machine(workers=1)}
    run(["random"], ["family:gpt2-widths/test"], "python", task="text", limit={"family:gpt2-widths/test": 1}, **options)
    run(["random"], ["family:resnet-widths/test"], limit={"family:resnet-widths/test": 1}, **options)
    commands = [about["command"] for about in json.loads((tmp_path / "runs.json").read_text()).values()]
    assert "--task text --limit family=1" in commands[0]
    assert "--images" not in commands[0]
    for command in commands:
        parser = Parser()
        run_command.add_arguments(parser.add_subparsers())
        parsed = parser.parse_args(["run", *shlex.split(command)[2:]])
        assert parsed.limit == [("family", 1)]


def test_noise_is_the_same_as_an_integer(data: Path, tmp_path: Path, evaluated: list[int]) -> None:
    for noise in ([1.0], [1], [np.float32(1)]):
        run(["random"], ["test"], data=data, out=tmp_path, limit=2, machine=Machine(workers=1), noise=noise)
    assert evaluated == [0, 1]
    assert described(tmp_path)["networks"] == 2


def test_images_with_the_name_of_another_set_do_not_replace_it(
    data: Path, tmp_path: Path, evaluated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three names for loaders that return images of the name "digits", and one for those with a name of their own."""
    (tmp_path / "of_user_images.py").write_text(
        "from dataclasses import replace\nfrom deepnets.data import load_images\n"
        "def load(split, **options):\n    return load_images('digits', split, **options)\n"
        "def named(split, **options):\n    return replace(load(split, **options), name='own')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    options: dict[str, Any] = {"data": data, "out": tmp_path / "out", "machine": Machine(workers=1), "limit": 1}
    for images in ("digits", "of_user_images:load", "of_user_images:named"):
        run(["random"], ["test"], images, **options)
    results = read_results(tmp_path / "out")
    assert sorted(results.rows["images"]) == ["digits", "of_user_images:load", "own"]
    assert results.disagreements() == []


def test_data_of_different_sizes_disagree(tmp_path: Path) -> None:
    rows = [made.row(name, name, "test", 0, 50.0) for name in "ab"]
    runs = {name: made.run(name, "test", 1, num_images=size) for name, size in (("a", 299), ("b", 32))}
    found = read_results(made.write(tmp_path, rows, runs)).disagreements()
    assert found == ["digits: predictors were evaluated on different data (the numbers or digests differ)."]
    runs["a"] = made.run("a", "test", 1)  # of a version that did not state it
    assert read_results(made.write(tmp_path / "earlier", rows, runs)).disagreements() == []


def test_defaults_are_no_setting_of_their_own(tmp_path: Path) -> None:
    """Commands state the options of texts; Python programs need not."""
    rows = [made.row(name, name, "test", 0, 50.0) for name in "abc"]
    stated = {"a": {"tokenizer": "bytes", "sequence_length": 64}, "b": {}, "c": {"sequence_length": 32}}
    runs = {name: made.run(name, "test", 1, data_options=options) for name, options in stated.items()}
    boards = read_results(made.write(tmp_path, rows, runs)).boards()
    assert [(board.predictors, board.setting) for board in boards] == [(["a", "b"], ""), (["c"], "sequence_length 32")]
