"""Runs on corrupted images: rows, the mean corruption accuracy in tables and pages, and what stays as it was."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmark.commands.run import add_arguments
from benchmark.report import leaderboard_text, write_report
from benchmark.results import Machine, corruption_boards, mean_corruption_boards, read_results, run
from benchmark.results.store import COLUMNS
from deepnets.support import ConfigError, MissingDataError, Parser
from tests.support.image_folders import write_folder
from tests.support.small_corpus import write_small_corpus

TWO = ("contrast", "fog:3")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a folder of images, and results on them."""
    folder = tmp_path_factory.mktemp("corruptions")
    (folder / "data").mkdir()
    write_small_corpus(folder / "data", "test")
    write_folder(folder / "images", classes=3, images=20, side=16)
    evaluate(folder)
    return folder


def evaluate(folder: Path, out: str = "out", **options: object) -> Path:
    given = {"corruptions": TWO, "machine": Machine(workers=1), "limit": 2, **options}
    return run(
        ["random", "untrained:ghn2"], ["test"], images_of(folder), data=folder / "data", out=folder / out, **given
    )  # type: ignore[arg-type]


def images_of(folder: Path) -> str:
    return f"folder:{folder / 'images'}"


@pytest.mark.slow
def test_rows(place: Path) -> None:
    table = pd.read_csv(place / "out" / "networks.csv", keep_default_na=False)
    assert tuple(table.columns) == (*COLUMNS, "corruption")
    assert table["corruption"].value_counts().to_dict() == {"": 4, "contrast": 4, "fog:3": 4}
    sizes = table.groupby("corruption")["num_images"].unique().map(list).to_dict()
    assert sizes == {"": [9], "contrast": [45], "fog:3": [9]}
    assert (table["status"] == "ok").all()
    assert (place / "out" / "image_statistics.json").is_file()


@pytest.mark.slow
def test_resuming_evaluates_nothing_again(place: Path) -> None:
    before = (place / "out" / "networks.csv").read_bytes()
    evaluate(place)
    assert (place / "out" / "networks.csv").read_bytes() == before


@pytest.mark.slow
def test_results_without_corruption_are_kept_apart(place: Path) -> None:
    results = read_results(place / "out")
    assert len(results.rows) == 4
    assert len(results.corrupted) == 8
    (board,) = results.boards()
    assert (board.corruption, len(board.cells)) == ("", 2)


@pytest.mark.slow
def test_the_mean_corruption_accuracy(place: Path) -> None:
    table = pd.read_csv(place / "out" / "networks.csv", keep_default_na=False)
    corrupted = table[table["corruption"] != ""]
    expected = corrupted.groupby(["predictor", "index"])["top1"].mean().groupby("predictor").mean()
    boards = corruption_boards(read_results(place / "out"))
    assert [board.corruption for board in boards] == ["fog:3", "contrast"]  # the order of the paper
    (mean,) = mean_corruption_boards(boards)
    assert mean.num_corruptions == 2
    found = {predictor: cell.summary.mean for (predictor, _), cell in mean.cells.items()}
    assert found == pytest.approx(expected.to_dict())
    write_report(place / "out")
    written = pd.read_csv(place / "out" / "leaderboard.csv", keep_default_na=False)
    means = written[written["corruption"] == "mean"].set_index("method")["mean"]
    assert means.to_dict() == pytest.approx(expected.to_dict())
    assert set(written["corruption"]) == {"", "mean", "contrast", "fog:3"}


@pytest.mark.slow
def test_terminal_and_page_show_it(place: Path) -> None:
    text = leaderboard_text(place / "out")
    assert "mean over 2 corruptions: top-1 accuracy" in text
    page = write_report(place / "out").read_text()
    assert 'id="corruptions"' in page
    assert "mean over corruptions" in page
    assert "contrast" in page


@pytest.mark.slow
def test_a_network_that_fails_with_one_corruption_counts_as_failed(place: Path, tmp_path: Path) -> None:
    table = pd.read_csv(place / "out" / "networks.csv", keep_default_na=False, dtype=str)
    worst = (table["corruption"] == "fog:3") & (table["predictor"] == "random") & (table["index"] == "1")
    table.loc[worst, ["status", "reason", "top1", "top5"]] = ["failed", "no memory", "", ""]
    table.to_csv(tmp_path / "networks.csv", index=False)
    (tmp_path / "runs.json").write_text((place / "out" / "runs.json").read_text())
    results = read_results(tmp_path)
    (mean,) = mean_corruption_boards(corruption_boards(results))
    cell = next(cell for (predictor, _), cell in mean.cells.items() if predictor == "random")
    assert (cell.summary.failures, cell.summary.networks) == (1, 2)
    other = table[(table["predictor"] == "random") & (table["index"] == "0") & (table["corruption"] != "")]
    assert cell.summary.mean == pytest.approx(other["top1"].astype(float).mean() / 2)
    assert any("fog:3" in failure.where for failure in results.failures())


@pytest.mark.slow
def test_a_predictor_that_lacks_a_corruption_has_no_mean(place: Path, tmp_path: Path) -> None:
    table = pd.read_csv(place / "out" / "networks.csv", keep_default_na=False, dtype=str)
    table = table[~((table["corruption"] == "fog:3") & (table["predictor"] == "random"))]
    table.to_csv(tmp_path / "networks.csv", index=False)
    (mean,) = mean_corruption_boards(corruption_boards(read_results(tmp_path)))
    assert mean.predictors == ["untrained-ghn2"]


@pytest.mark.slow
def test_single_severities_do_not_count_beside_the_whole(place: Path) -> None:
    evaluate(place, "more", corruptions=("fog", "fog:3"))
    (mean,) = mean_corruption_boards(corruption_boards(read_results(place / "more")))
    assert mean.num_corruptions == 1
    table = pd.read_csv(place / "more" / "networks.csv", keep_default_na=False)
    whole = table[(table["corruption"] == "fog") & (table["predictor"] == "random")]
    cell = next(cell for (predictor, _), cell in mean.cells.items() if predictor == "random")
    assert cell.summary.mean == pytest.approx(whole["top1"].mean())


@pytest.mark.slow
def test_all_fifteen(place: Path) -> None:
    evaluate(place, "all", corruptions=("all",), limit=1)
    (mean,) = mean_corruption_boards(corruption_boards(read_results(place / "all")))
    assert mean.num_corruptions == 15
    assert "mean over 15 corruptions" in leaderboard_text(place / "all")


@pytest.mark.slow
def test_a_folder_without_corruptions_has_no_column(place: Path) -> None:
    path = evaluate(place, "clean", corruptions=(), limit=1)
    assert tuple(pd.read_csv(path).columns) == COLUMNS
    write_report(place / "clean")
    assert "corruption" not in pd.read_csv(place / "clean" / "leaderboard.csv").columns
    assert 'id="corruptions"' not in (place / "clean" / "report.html").read_text()


@pytest.mark.slow
def test_errors_come_before_anything_is_evaluated(place: Path) -> None:
    for options, error, message in (
        ({"corruptions": ["haze"]}, ConfigError, "corruption: unknown 'haze'"),
        ({"corruptions": [], "corruption_root": place}, ConfigError, "corruption_root: needs corruptions"),
        ({"corruption_root": place / "images"}, MissingDataError, "contrast.npy: no such file"),
    ):
        with pytest.raises(error, match=message):
            evaluate(place, "errors", **options)  # type: ignore[arg-type]
    assert not (place / "errors").exists()


def test_options_of_the_command() -> None:
    parser = Parser(prog="python -m benchmark")
    add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    options = parser.parse_args(
        ["run", "--corruptions", "fog", "snow:2", "--corruption-root", "C", "--no-class-layers"]
    )
    assert (options.corruptions, options.corruption_root) == (["fog", "snow:2"], Path("C"))
    assert options.no_class_layers
