"""The tables of LoGAH agree with each other and with the text of the paper; own trainings stand below them."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from benchmark.baselines import Curves
from benchmark.baselines.store import COLUMNS
from benchmark.literature import LOGAH_TABLES, WIDTH, best_trainings, logah_table, logah_text, read_trainings
from deepnets.support import ConfigError
from tests.benchmark.commands.test_published import command


def test_tables_agree_with_each_other() -> None:
    """Table 3 repeats the values of table 2 for ViT-B on CIFAR-100."""
    vits, batches = logah_table("logah-vit"), logah_table("logah-meta-batch")
    for row in ("random", "LoGAH-T, m1", "LoGAH-S, m1"):
        assert vits.loc[row, "CIFAR-100 ViT-B"] == batches.loc[row, "CIFAR-100 ViT-B"]


def test_tables_agree_with_the_text() -> None:
    vits = logah_table("logah-vit")
    assert vits.shape == (9, 6)
    assert vits["CIFAR-10 ViT-S"].idxmax() == "LoGAH-S, m1"
    assert vits.loc[["LoGAH-T, m1", "LoGAH-S, m1"], "CIFAR-10 ViT-S"].tolist() == [82.87, 86.09]
    assert vits["CIFAR-100 ViT-B"].idxmax() == "LoGAH-L, m1"
    assert vits.isna().sum().sum() == 4  # GHN-3-S and GHN-3-L were not trained on ImageNet
    text = logah_table("logah-text")
    assert (text.loc["random"] > text.loc["LoGAH-T, m2"]).all()
    diversity = logah_table("logah-diversity")
    assert (diversity["trained"] == diversity.max(axis=1)).all(), "trained networks are the most diverse"


@pytest.mark.parametrize("name", LOGAH_TABLES)
def test_texts_have_all_values_and_fit_the_terminal(name: str) -> None:
    text = logah_text(name)
    assert max(map(len, text.splitlines())) <= WIDTH
    digits = 3 if name == "logah-diversity" else 2
    for value in logah_table(name).to_numpy().ravel():
        assert math.isnan(value) or f"{value:.{digits}f}" in text


def row(
    label: str, network: str, epoch: int, top1: float, images: str = "cifar10", status: str = "ok"
) -> dict[str, object]:
    values = dict.fromkeys(COLUMNS, 0) | {"predictor": label, "split": "models", "network": network, "images": images}
    return values | {"epoch": epoch, "top1": top1, "status": status, "reason": ""}


ROWS = [
    row("random-lr0.1", "benchmark.training.vits:vit_s", 1, 50.0),
    row("random-lr0.1", "benchmark.training.vits:vit_s", 2, 81.25),
    row("random-lr0.2", "benchmark.training.vits:vit_s", 2, 80.0),
    row("random-lr5e-05", "benchmark.training.vits:vit_b", 2, 79.0),
    row("logah", "benchmark.training.vits:vit_s", 2, 85.0),
    row("logah", "benchmark.training.vits:vit_s", 3, 99.0, status="failed"),
    row("logah", "vit_b_16", 30, 61.5, images="imagenet"),
    row("logah", "resnet50", 2, 95.0),
    row("logah", "benchmark.training.vits:vit_s", 2, 97.0, images="digits"),
]


def test_own_trainings_are_the_best_over_learning_rates_and_epochs(tmp_path: Path) -> None:
    with Curves(tmp_path).opened() as curves:
        curves.append(ROWS)
    table = best_trainings(read_trainings(tmp_path))
    assert table.loc["random"].dropna().to_dict() == {"CIFAR-10 ViT-S": 81.25, "CIFAR-10 ViT-B": 79.0}
    assert table.loc["logah"].dropna().to_dict() == {"CIFAR-10 ViT-S": 85.0, "ImageNet ViT-B": 61.5}
    lines = logah_text("logah-vit", read_trainings(tmp_path)).splitlines()
    own = {line.split("  ")[0]: line.split()[2:] for line in lines if line.startswith("own: ")}
    assert own == {
        "own: random": ["81.25", "/", "79.00", "-", "/", "-", "-", "/", "-"],
        "own: logah": ["85.00", "/", "-", "-", "/", "-", "-", "/", "61.50"],
    }
    assert "95.00" not in "\n".join(lines)
    assert logah_text("logah-text", read_trainings(tmp_path)) == logah_text("logah-text")


def test_no_trainings() -> None:
    assert best_trainings(pd.DataFrame(columns=list(COLUMNS)).astype({"predictor": str})).empty


def test_the_command_needs_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Curves(tmp_path).opened() as curves:
        curves.append(ROWS)
    command("--table", "logah-vit", "--trainings", tmp_path)
    out = capsys.readouterr().out
    assert "LoGAH, table 2" in out
    assert "own: logah" in out
    assert "table 4" not in out
    command("--trainings", tmp_path / "absent")
    out = capsys.readouterr().out
    assert all(title.split(":")[0] in out for title in LOGAH_TABLES.values())
    assert not (tmp_path / "absent").exists()
    with pytest.raises(ConfigError, match="--published: the table accuracy needs the folder of published files"):
        command("--table", "accuracy")
    with pytest.raises(ConfigError, match="--published: the table accuracy needs the folder of published files"):
        command("--images", "cifar10")
