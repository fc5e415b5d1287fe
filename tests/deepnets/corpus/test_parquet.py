"""Parquet files hold the tables and graphs of the splits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepnets import ConfigError, DeepNets1M, MissingDataError, MissingDependencyError, NetworkConfig
from deepnets.corpus import export_parquet, parquet, write_parquet
from deepnets.support import import_torchvision


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "deepnets1m\[parquet\]"'):
        export_parquet("data", tmp_path, ["predefined"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("splits", [[], ["tset"]])
def test_unknown_splits(tmp_path: Path, splits: list[str]) -> None:
    with pytest.raises(ConfigError, match="splits: expected one or more of train, val"):
        export_parquet("data", tmp_path, splits)


def test_the_table_of_a_split(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    nets = DeepNets1M(corpus, split="bnfree")
    assert write_parquet(nets, tmp_path / "a.parquet") == 100
    found = pd.read_parquet(tmp_path / "a.parquet")
    expected = nets.table
    assert found["norm"].isna().all()
    pd.testing.assert_frame_equal(found[expected.columns].drop(columns="norm"), expected.drop(columns="norm"))
    assert found["index"].tolist() == list(range(100))
    assert [NetworkConfig.from_dict(json.loads(text)) for text in found["config"][:5]] == [
        nets.config(index) for index in range(5)
    ]


def test_graphs_in_several_groups(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "_ROWS", 4)
    nets = DeepNets1M(corpus, split="test", num_nets=10)
    write_parquet(nets, tmp_path / "a.parquet", graphs=True)
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    for index in (0, 4, 9):
        assert rows[index]["node_types"] == nets[index].node_types.tolist()
        assert rows[index]["cells"] == nets[index].cells.tolist()
        assert np.array_equal(np.transpose(rows[index]["edge_index"]), nets[index].edges)


@pytest.mark.parametrize("graphs", [True, False])
def test_splits_of_a_folder_have_the_same_columns(corpus: Path, tmp_path: Path, graphs: bool) -> None:
    pytest.importorskip("pyarrow")
    export_parquet(corpus, tmp_path, ["bnfree"], graphs=graphs)
    before = (tmp_path / "README.md").read_text()
    wrong = f"was written {'with' if graphs else 'without'} graphs; splits of one folder have the same columns"
    with pytest.raises(ConfigError, match=f"bnfree-00000-of-00001.parquet: {wrong}"):
        export_parquet(corpus, tmp_path, ["deep"], graphs=not graphs)
    assert len(list((tmp_path / "data").iterdir())) == 1
    assert (tmp_path / "README.md").read_text() == before
    export_parquet(corpus, tmp_path, ["deep"], graphs=graphs)
    export_parquet(corpus, tmp_path, ["bnfree", "deep"], graphs=not graphs, overwrite=True)
    assert len({tuple(pd.read_parquet(file)) for file in (tmp_path / "data").iterdir()}) == 1


def test_a_folder_for_hugging_face(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    yaml = pytest.importorskip("yaml")
    files = export_parquet(corpus, tmp_path, ["wide", "deep"])
    assert list(files) == ["wide", "deep"]
    header = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    declared = {entry["split"]: tmp_path / entry["path"] for entry in header["configs"][0]["data_files"]}
    assert declared == files
    assert len(pd.read_parquet(files["wide"])) == 100


def test_the_predefined_networks(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    try:
        import_torchvision()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    write_parquet(DeepNets1M(split="predefined"), tmp_path / "a.parquet", graphs=True)
    found = pd.read_parquet(tmp_path / "a.parquet")
    assert found["config"].map(bool).tolist() == [False, True]
    assert found["num_nodes"].tolist() == [len(types) for types in found["node_types"]]


def test_the_predefined_networks_have_the_columns_of_the_others(corpus: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    try:
        import_torchvision()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    files = export_parquet(corpus, tmp_path, ["test", "predefined"])
    schemas = [pq.read_schema(path).remove_metadata() for path in files.values()]
    assert schemas[0] == schemas[1]
    rows = pd.read_parquet(tmp_path / "data", dtype_backend="numpy_nullable").set_index("index")
    assert len(rows) == 502
    table = DeepNets1M(split="predefined").table
    exact = DeepNets1M(corpus, split="test").table["fingerprint"]
    assert {int(value) for value in rows["fingerprint"].dropna()} == {*exact.tolist(), int(table["fingerprint"][1])}
    assert table["num_params"].tolist() == [23520842, 1012234]
    assert table["fingerprint"].isna().tolist() == [True, False]


def test_files_of_others_are_kept_and_all_splits_are_declared(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    foreign = (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: wide\n    path: a.csv\n---\n\n# My project\n"
    )
    for text in ("# My project\n", foreign):
        (tmp_path / "README.md").write_text(text)
        with pytest.raises(ConfigError, match=r"README\.md: already exists, and is not that of an exported corpus"):
            export_parquet(corpus, tmp_path, ["wide"])
        assert (tmp_path / "README.md").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "README.md").unlink()
    export_parquet(corpus, tmp_path, ["wide"])
    export_parquet(corpus, tmp_path, ["deep"])
    declared = [line.strip() for line in (tmp_path / "README.md").read_text().splitlines() if "- split" in line]
    assert declared == ["- split: wide", "- split: deep"]
    with pytest.raises(ConfigError, match=r"wide-00000-of-00001\.parquet: already exists"):
        export_parquet(corpus, tmp_path, ["dense", "wide"])
    assert not (tmp_path / "data" / "dense-00000-of-00001.parquet").exists()
    export_parquet(corpus, tmp_path, ["wide"], overwrite=True)


def test_a_file_is_kept_if_a_split_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(MissingDataError, match="deepnets1m_val"):
        export_parquet(tmp_path, tmp_path / "out", ["val"])
    assert not (tmp_path / "out").exists()


def test_datasets_reads_the_folder(corpus: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export_parquet(corpus, tmp_path / "out", ["val", "wide"], graphs=True)
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in found.items()} == {"val": 500, "wide": 100}
