"""The command line `python -m deepnets`, in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deepnets import GENOTYPES, ConfigError, DeepNets1M, MissingDataError, NetworkConfig
from deepnets.__main__ import main
from deepnets.support import CheckpointError
from tests.support.small_corpus import CONFIG, write_small_corpus


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A corpus folder with two small splits."""
    folder = tmp_path / "data"
    folder.mkdir()
    return write_small_corpus(folder, "val", "test")


def test_info_describes_files_and_folders(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", str(data)])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        f"{data}/deepnets1m_val.h5",
        f"{data}/deepnets1m_test.h5",
    ]
    assert sum("4 networks" in line for line in lines) == 2
    main(["info", str(data / "deepnets1m_val.h5")])
    assert capsys.readouterr().out.splitlines() == lines[: len(lines) // 2]


def test_import_checks_all_splits_first(data: Path, tmp_path: Path) -> None:
    """Not after the hours that the splits before take."""
    main(["export", "--data", str(data), "--out", str(tmp_path / "original"), "--splits", "test", "val", "--quiet"])
    arguments = ["import", str(tmp_path / "original"), "--out", str(tmp_path / "out"), "--quiet", "--splits"]
    main([*arguments, "val"])
    with pytest.raises(ConfigError, match=r"deepnets1m_val.h5: already exists; name the other splits"):
        main([*arguments, "test", "val"])
    assert [path.name for path in (tmp_path / "out").glob("*.h5")] == ["deepnets1m_val.h5"]


def test_export_and_import(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official, imported = tmp_path / "official", tmp_path / "imported"
    main(["export", str(official), "--data", str(data)])
    assert f"{official}/deepnets1m_eval.hdf5: " in capsys.readouterr().out
    main(["import", str(official), "--out", str(imported), "--splits", "val"])
    assert (
        "val: imported from deepnets1m_eval.hdf5; its graphs compared with their configurations:"
        in capsys.readouterr().out
    )
    nets, original = DeepNets1M(imported, "val"), DeepNets1M(data, "val")
    assert [nets[i] == original[i] for i in range(len(nets))] == [True] * 4


@pytest.mark.parametrize("source", ["--genotype", "--config", "--data"])
def test_draw(data: Path, tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.svg"
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG.to_dict()))
    value = {"--genotype": "DARTS", "--config": str(config), "--data": str(data)}[source]
    cells = ["--cells", "3"] if source == "--genotype" else []
    main(["draw", str(path), source, value, "--title", "Figure 1", *cells])
    assert "Figure 1</text>" in path.read_text()
    assert capsys.readouterr().out.startswith(f"{path}: Graph(")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            "info nowhere",
            CheckpointError,
            "^'nowhere': no such file, and the bundled hypernetworks are ",
        ),
        ("export out --data nowhere", MissingDataError, "^nowhere: holds no corpus files"),
        ("import . --out x", MissingDataError, r"^\.: holds no .hdf5 files of the original release"),
        ("draw a.png --config missing.json", ConfigError, "^missing.json: cannot be read: No such file"),
        ("draw a.png --config list.json", ConfigError, "^list.json: is not a NetworkConfig in JSON"),
        ("draw a.png --data data --index 4", ConfigError, "^--index: split test has the indices 0 to 3, got 4"),
        ("export out --data data --splits deep", ConfigError, "^--splits: unknown 'deep'; available are val, test"),
    ],
)
def test_errors(data: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, error: type, message: str) -> None:
    monkeypatch.chdir(data.parent)
    Path("list.json").write_text("{]")
    with pytest.raises(error, match=message):
        main(arguments.split())


def test_folders_may_follow_the_splits(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official, imported = str(tmp_path / "official"), tmp_path / "imported"
    main(["export", "--data", str(data), "--splits", "val", "test", official])
    main(["import", "--out", str(imported), "--splits", "val", official])
    assert [path.name for path in imported.glob("*.h5")] == ["deepnets1m_val.h5"]
    main(["import", "--out", str(tmp_path / "every"), "--splits", "all,val", official])
    assert len([*(tmp_path / "every").glob("*.h5")]) == 2
    with pytest.raises(ConfigError, match=r"^source: the folder .* is needed"):
        main(["import", "--splits", "val"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="tset"):  # a misspelt split, not a folder
        main(["export", "--data", str(data), "--splits", "val", "tset", "--out", "exported"])
    with pytest.raises(ConfigError, match=r"^--out: is needed"):
        main(["export", "--data", str(data), "--splits", "val", "tset"])
    assert not Path("tset").exists()


def test_larger_pictures_and_the_legend_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    small, large, legend = (tmp_path / f"{name}.svg" for name in ("small", "large", "legend"))
    main(["draw", str(small), "--genotype", "DARTS", "--cells", "3"])
    main(["draw", str(large), "--genotype", "DARTS", "--cells", "3", "--size", "60.5", "40"])
    assert "DARTS: " in small.read_text()
    assert "×3×3×3</text>" in large.read_text()
    assert "×3×3×3</text>" not in small.read_text()
    main(["draw", str(legend), "--legend-only"])
    assert "max_pool" in legend.read_text()
    assert capsys.readouterr().out.endswith("legend\n")


def test_genotypes_can_be_drawn() -> None:
    """Every named genotype is a valid network with the options of `draw --genotype`."""
    for name, genotype in GENOTYPES.items():
        vit = name == "ViT"
        assert NetworkConfig(genotype, 8, C_mult=1 if vit else 2, preproc=not vit)


def test_onnx_files_are_written_and_drawn(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("matplotlib")
    main(["onnx", str(tmp_path / "a.onnx"), "--data", str(data), "--split", "val", "--index", "2"])
    main(["draw", str(tmp_path / "a.svg"), "--onnx", str(tmp_path / "a.onnx")])
    written, drawn = capsys.readouterr().out.splitlines()
    assert written.partition(": ")[2] == drawn.partition(": ")[2]


def test_parquet_files_are_written(data: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    main(["parquet", str(out), "--data", str(data)])
    assert {path.name for path in (out / "data").iterdir()} == {
        "val-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
    }
    assert len(pandas.read_parquet(out / "data" / "test-00000-of-00001.parquet")) == 4
    with pytest.raises(ConfigError, match="--splits: unknown 'tset'"):
        main(["parquet", str(out), "--data", str(data), "--splits", "tset"])
    empty = tmp_path / "empty"
    main(["parquet", str(empty / "out"), "--data", str(empty), "--splits", "predefined"])
    assert len(pandas.read_parquet(empty / "out" / "data" / "predefined-00000-of-00001.parquet")) == 2


def test_genotypes_of_other_spaces_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    main(["draw", str(tmp_path / "a.svg"), "--genotype", text, "--cells", "3"])
    titles = set(re.findall("<title>(.*?)</title>", (tmp_path / "a.svg").read_text()))
    cell = [title for title in titles if title.startswith("conv cells.0._ops.")]
    assert sorted(title[-3:] for title in cell) == ["1×1", "3×3", "3×3"]  # the convolutions of the text
    assert "avg_pool" in titles
    with pytest.raises(ConfigError, match="genotype: expected a Genotype, a name"):
        main(["draw", str(tmp_path / "b.svg"), "--genotype", "DRATS"])
