"""The tables of LoGAH agree with each other and with the text of the paper; own trainings stand below them."""

from __future__ import annotations

import math
import os
import re
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


SPECIFICATION = Path(
    os.environ.get("DEEPNETS_LOGAH_TABLES", Path(__file__).parents[4] / "shared" / "spec" / "logah.md")
)


def numbers(text: str) -> list[float]:
    """The numbers of a text that stand alone; a dash is a missing one."""
    return [
        math.nan if word in "–-" else float(word) for word in re.findall(r"(?<!\S)(?:\d+(?:\.\d+)?|[–-])(?!\S)", text)
    ]


def transcribed() -> dict[str, dict[tuple[str, str], float]]:
    """The values of tables 2 to 5 by row and column, from another transcription of the paper."""
    if not SPECIFICATION.is_file():
        pytest.skip("needs the transcribed tables: DEEPNETS_LOGAH_TABLES=FILE")
    text = SPECIFICATION.read_text(encoding="utf-8").partition("\n## 9.")[2].partition("\n## ")[0]
    vits: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or set(line) <= set("|-") or cells[0] == "initialisation":
            continue
        for images, cell in zip(("CIFAR-10", "CIFAR-100", "ImageNet"), cells[1:], strict=True):
            pair = numbers(cell) if "–" in cell else numbers(cell.replace("/", " "))
            for net, value in zip(("ViT-S", "ViT-B"), pair * (3 - len(pair)), strict=True):
                vits[cells[0], f"{images} {net}"] = value
    sizes = {"random": "random", "T": "LoGAH-T", "S": "LoGAH-S"}

    def part(start: str) -> str:
        return text.partition(start)[2].partition("\nTable")[0].partition("\nText to")[0].partition("\nFigure")[0]

    batches: dict[tuple[str, str], float] = {}
    for group in part("Table 3, CIFAR-100, ViT-B / ViT-L:").strip(" .").split(";"):
        label, _, rest = group.strip().partition(" ")
        for each in rest.split(","):
            m, pair_text = re.fullmatch(r"\s*(m\d )?(.*)", each).groups()  # type: ignore[union-attr]
            row_label = f"{sizes[label]}, {m.strip()}" if m else sizes[label]
            for net, value in zip(("ViT-B", "ViT-L"), numbers(pair_text.replace("/", " ")), strict=True):
                batches[row_label, f"CIFAR-100 {net}"] = value
    texts: dict[tuple[str, str], float] = {}
    for group in part("Table 4, perplexity:").strip(" .").split(";"):
        head, _, rest = group.partition(":")
        data, first, second = re.fullmatch(r"\s*(\S+) (GPT-2-\w) / (\w)\s*", head).groups()  # type: ignore[union-attr]
        for each in rest.split(","):
            label, pair_text = re.fullmatch(r"\s*(random|[TS] m2) (.*)", each).groups()  # type: ignore[union-attr]
            size, _, m = label.partition(" ")
            for net, value in zip((first, f"GPT-2-{second}"), numbers(pair_text.replace("/", " ")), strict=True):
                texts[sizes[size] + (f", {m}" if m else ""), f"{data} {net}"] = value
    diversity: dict[tuple[str, str], float] = {}
    net = ""
    pattern = r"((?:ViT|GPT-2)-\w[^(,;:]*)?\((\d+),(\d+)\) N / (N|–) / N / N(?: \(GHN-3-S N\))?"
    pattern = pattern.replace("(N|–)", r"(\d\.\d+|–)").replace("N", r"(\d\.\d+)").replace(r"GH(\d\.\d+)", "GHN")
    for name, *values in re.findall(pattern, part("Table 5,")):
        net = re.sub(r"^(ViT-\w|GPT-2-\w) (?=\w)", r"\1, ", name.strip()) or net
        rows, columns, trained, ghn3_t, logah_t, logah_s, ghn3_s = values
        found = {"trained": trained, "GHN-3-T": ghn3_t, "GHN-3-S": ghn3_s, "LoGAH-T": logah_t, "LoGAH-S": logah_s}
        for column, value in found.items():
            diversity[f"{net}, {rows} x {columns}", column] = math.nan if value in ("", "–") else float(value)
    return {"logah-vit": vits, "logah-meta-batch": batches, "logah-text": texts, "logah-diversity": diversity}


@pytest.mark.parametrize("name", LOGAH_TABLES)
def test_every_value_is_the_one_of_another_transcription(name: str) -> None:
    expected, table = transcribed()[name], logah_table(name)
    own = {(str(label), column): float(table.loc[label, column]) for label in table.index for column in table.columns}
    assert own.keys() == expected.keys()
    assert own == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("logah-vit", "orthogonal", [80.11, 84.24, 58.97, 57.48, 63.15, 63.86]),
        ("logah-vit", "GHN-3-T, m1", [81.29, 78.18, 56.33, 56.70, 38.79, 31.89]),
        ("logah-vit", "GHN-3-S, m1", [83.61, 82.57, 57.37, 59.93, math.nan, math.nan]),
        ("logah-vit", "GHN-3-L, m1", [84.69, 82.84, 57.48, 56.57, math.nan, math.nan]),
        ("logah-vit", "LoGAH-L, m1", [83.22, 84.40, 62.19, 63.47, 63.00, 63.70]),
        ("logah-meta-batch", "LoGAH-T, m4", [60.61, 59.88]),
        ("logah-meta-batch", "LoGAH-T, m8", [51.12, 50.39]),
        ("logah-meta-batch", "LoGAH-S, m4", [55.00, 54.62]),
        ("logah-meta-batch", "LoGAH-S, m8", [51.58, 51.61]),
        ("logah-text", "random", [250, 350, 22.32, 32.41]),
        ("logah-text", "LoGAH-T, m2", [227, 219, 18.79, 27.18]),
        ("logah-text", "LoGAH-S, m2", [238, 284, 19.89, 24.08]),
        ("logah-diversity", "ViT-S, CIFAR-100, 1536 x 384", [0.647, 0.191, 0.290, 0.284, 0.442]),
        ("logah-diversity", "ViT-L, 3072 x 1024", [0.842, 0.420, math.nan, 0.385, 0.329]),
        ("logah-diversity", "GPT-2-M, 1024 x 4096", [0.894, math.nan, math.nan, 0.393, 0.496]),
    ],
)
def test_published_rows(name: str, label: str, values: list[float]) -> None:
    assert logah_table(name).loc[label].tolist() == pytest.approx(values, rel=0, abs=0, nan_ok=True)


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
