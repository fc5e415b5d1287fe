"""Architecture search: rankings against those of scikit-learn's regressor, and the command."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.analyses import PUBLISHED_BEST, graph_statistics, properties, search
from benchmark.commands import search as search_command
from deepnets import ConfigError, DeepNets1M, MissingDataError
from deepnets.support import Parser
from ghn_model import GHN, GHNConfig
from tests.support.made_up_results import row, run, write

SMALL = {"C": (1, 10), "epsilon": (0.1,), "gamma": ("auto", 0.5)}


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid itself is tested with the regressor."""
    monkeypatch.setattr(properties, "GRID", SMALL)


def data(n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 3))
    return vectors, 60 + 6 * vectors[:, 0] - 4 * vectors[:, 2] ** 2 + rng.normal(size=n)


@pytest.mark.parametrize(("name", "sign"), [("val_acc", -1), ("val_acc_noise", -1), ("time", 1), ("converge_time", 1)])
def test_the_ranking(name: str, sign: int) -> None:
    """Parameters from `val` alone, fitted on `val` and `test`, the best first."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVR

    val, test = data(25, 1), data(15, 2)
    features, _ = data(50, 3)
    networks = pd.DataFrame({"index": np.arange(100, 150), "num_params": 5})
    found = search(name, val, test, features, networks)
    chosen = GridSearchCV(SVR(), {key: list(values) for key, values in SMALL.items()}, cv=5).fit(*val).best_params_
    assert found.parameters == chosen
    both = (np.concatenate(parts) for parts in zip(val, test))
    predicted = SVR(**chosen).fit(*both).predict(features)
    order = np.argsort(sign * predicted)
    assert found.num_fitted == 40
    assert list(found.ranking) == ["index", "predicted", "num_params"]
    assert found.ranking["index"].tolist() == (100 + order).tolist()
    assert found.ranking["predicted"].to_numpy() == pytest.approx(predicted[order])
    assert found.best == 100 + order[0]


def test_equal_networks_keep_their_order() -> None:
    val, test = data(20, 1), data(10, 2)
    features = np.repeat(data(2, 3)[0], 4, axis=0)
    ranking = search("val_acc", val, test, features, pd.DataFrame({"index": range(8)})).ranking
    assert sorted(ranking["index"][:4]) == ranking["index"][:4].tolist()
    assert sorted(ranking["index"][4:]) == ranking["index"][4:].tolist()


def test_networks_without_a_target_are_left_out() -> None:
    (vectors, targets), (others, more) = data(20, 1), data(10, 2)
    features, networks = data(6, 3)[0], pd.DataFrame({"index": range(6)})
    expected = search("val_acc", (vectors[3:], targets[3:]), (others[:8], more[:8]), features, networks)
    targets[:3], more[8:] = math.nan, math.nan
    found = search("val_acc", (vectors, targets), (others, more), features, networks)
    assert found.num_fitted == 25
    pd.testing.assert_frame_equal(found.ranking, expected.ranking)


def test_invalid_searches() -> None:
    val, test = data(20, 1), data(10, 2)
    features, networks = data(6, 3)[0], pd.DataFrame({"index": range(6)})
    with pytest.raises(ConfigError, match="property: unknown 'size'; use one of val_acc"):
        search("size", val, test, features, networks)
    with pytest.raises(ConfigError, match="networks: expected one row for each of 6 vectors, got 5"):
        search("val_acc", val, test, features, networks[:5])
    with pytest.raises(ConfigError, match="training networks: 9 of 9 have a value to compare with, 10 or more"):
        search("val_acc", (val[0][:9], val[1][:9]), test, features, networks)
    with pytest.raises(ConfigError, match="val_acc: all 30 networks have the value 10; a regressor needs"):
        search("val_acc", (val[0], np.full(20, 10.0)), (test[0], np.full(10, 10.0)), features, networks)


# --- the command ---


@pytest.fixture(scope="module")
def folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results in which shallow networks are better, and a checkpoint."""
    folder = tmp_path_factory.mktemp("search")
    rows, runs = [], {}
    for split in ("val", "test"):
        nets = DeepNets1M(corpus, split, num_nets=40)
        depths = graph_statistics(nets)["depth"]
        runs[split] = run("mine", split, 40, corpus=nets.file.content_digest)
        part = "val" if split == "val" else "test"
        rows += [
            row(split, "mine", split, i, max(0.0, 90 - depths[i] / 4), part=part, evaluate_seconds=depths[i] / 50)
            for i in range(40)
        ]
    write(folder, rows, runs)
    torch.manual_seed(0)
    GHN(GHNConfig.preset("ghn2", hidden=16, max_shape=(16, 16, 11, 11))).save(folder / "small.safetensors")
    return folder


def call(folder: Path, data: Path, out: Path, *more: str) -> None:
    parser = Parser(prog="benchmark")
    search_command.add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    common = ["--results", folder, "--cache", folder / "vectors", "--jobs", "1", "--quiet"]
    arguments = ["search", "--checkpoint", folder / "small.safetensors", "--data", data, "--out", out, *common, *more]
    options = parser.parse_args([str(argument) for argument in arguments])
    options.do(options)


@pytest.mark.slow
def test_search(folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    call(folder, corpus, tmp_path, "--limit", "60", "--top", "3")
    text = capsys.readouterr().out
    ranking = pd.read_csv(tmp_path / "ranking.csv")
    assert list(ranking) == ["index", "predicted", "num_params", "num_nodes"]
    assert sorted(ranking["index"]) == list(range(60))
    assert (ranking["predicted"].diff()[1:] <= 0).all()
    nets = DeepNets1M(corpus, "search")
    assert ranking["num_nodes"].tolist() == [nets[i].num_nodes for i in ranking["index"]]
    assert ranking["num_params"].tolist() == nets.table["num_params"][ranking["index"]].tolist()
    assert "fitted on 80 networks (C " in text
    assert f"the best of 60 is network {ranking['index'][0]}." in text
    assert f"{PUBLISHED_BEST:,} of the published corpus" in text
    assert len([line for line in text.splitlines() if line.strip()[:1].isdigit()]) == 3
    # Shallow networks were better in the results, and the embeddings depend on the depth.
    depths = [nets[i].levels.max() for i in ranking["index"]]
    assert np.mean(depths[:20]) < np.mean(depths[40:])
    for name in ("search.png", "best.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "ranking.csv").read_bytes()
    call(folder, corpus, tmp_path, "--limit", "60")
    assert (tmp_path / "ranking.csv").read_bytes() == first


def test_search_without_matplotlib(
    folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    call(folder, corpus, tmp_path, "--limit", "60", "--property", "time", "--top", "1")
    assert "matplotlib is not installed" in capsys.readouterr().out.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["ranking.csv"]


def test_search_without_the_split(folder: Path, corpus: Path, tmp_path: Path) -> None:
    for split in ("val", "test"):
        (tmp_path / f"deepnets1m_{split}.h5").symlink_to(corpus / f"deepnets1m_{split}.h5")
    with pytest.raises(MissingDataError, match=r"deepnets1m_search.h5: no such file; build it with `deepnets build"):
        call(folder, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_property_without_results(folder: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 of 40 have a value to compare with, 10 or more are needed"):
        call(folder, corpus, tmp_path, "--limit", "60", "--property", "val_acc_noise")


def test_the_smallest_values_of_other_metrics_are_best() -> None:
    val, test, (features, _) = data(25, 1), data(15, 2), data(50, 3)
    networks = pd.DataFrame({"index": np.arange(50)})
    usual = search("val_acc", val, test, features, networks).ranking
    errors = search("val_acc", val, test, features, networks, smaller_is_better=True).ranking
    assert errors["index"].tolist() == usual["index"].tolist()[::-1]
