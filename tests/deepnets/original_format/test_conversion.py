"""Import and export of whole splits: which file is read, widths that files lack, and splits that are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deepnets import DeepNets1M
from deepnets.__main__ import main
from deepnets.architecture import encode
from deepnets.corpus import CorpusFile, compute_statistics, find_shared_networks, write_corpus
from deepnets.graph import count_parameters
from deepnets.original_format import export_official, find_official, import_official, list_splits, read_official
from deepnets.support import ConfigError, FormatError, MissingDataError, corpus_path
from generator import BuildPlan, Workers, build_corpus
from tests.support.original_files import edit_json, metadata, random_graphs, written


def moved(path: Path, name: str) -> Path:
    """Rename an HDF5 file and its metadata."""
    target = path.with_name(f"{name}.hdf5")
    metadata(path).rename(metadata(target))
    return path.rename(target)


def corpus(folder: Path, **splits: list[Any]) -> Path:
    """Write corpus files of graphs, as if they were imported."""
    folder.mkdir(exist_ok=True)
    for split, graphs in splits.items():
        records = encode([graph.config for graph in graphs])
        statistics, rows = compute_statistics(records)
        statistics["candidate"] = np.arange(len(records))
        columns = {name: part[name] for part in (records, statistics) for name in part.dtype.names or ()}
        write_corpus(corpus_path(folder, split), {"split": split, "size": len(records)}, columns, [rows])
    return folder


# --- which file is read ---


@pytest.mark.parametrize("other", ["aaa", "deepnets1m_val", "zzz"])
def test_the_evaluation_file_is_read_whatever_the_others_are_called(tmp_path: Path, other: str) -> None:
    theirs, merged = random_graphs(2, seed=1), random_graphs(3, seed=2)
    moved(written(tmp_path, theirs), other)
    written(tmp_path, merged)
    assert find_official(tmp_path) == {"val": tmp_path / "deepnets1m_eval.hdf5"}
    import_official(tmp_path, tmp_path / "out", "val")
    assert len(DeepNets1M(tmp_path / "out", "val")) == 3
    main(["import", str(tmp_path), "--out", str(tmp_path / "again")])
    assert len(DeepNets1M(tmp_path / "again", "val")) == 3


def test_files_of_single_splits(tmp_path: Path) -> None:
    """The original generator writes them; a split that only one file holds is found there."""
    moved(written(tmp_path, random_graphs(2, seed=1), "deep"), "deepnets1m_deep")
    written(tmp_path, random_graphs(3, seed=2), "val")
    assert {split: path.stem for split, path in find_official(tmp_path).items()} == {
        "deep": "deepnets1m_deep",
        "val": "deepnets1m_eval",
    }
    import_official(tmp_path, tmp_path / "out", "deep")
    assert len(DeepNets1M(tmp_path / "out", "deep")) == 2


def test_two_files_of_one_split_are_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        moved(written(tmp_path, random_graphs(1)), name)
    with pytest.raises(ConfigError, match=r"a\.hdf5, b\.hdf5 hold the split val; name one of the files"):
        find_official(tmp_path)
    with pytest.raises(MissingDataError, match="holds no"):
        find_official(tmp_path / "nowhere")


# --- widths ---


def test_evaluation_networks_without_widths_get_those_of_the_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The smallest width, 32 plus a multiple of 16, with 2.5 million parameters; found here by trying all."""
    graphs = random_graphs(12, seed=5, fc_dim=256)
    path = written(tmp_path, graphs)

    def forget(content: Any) -> None:
        for entry in content["val"]["nets"][:10]:
            del entry["C"]

    edit_json(path, forget)
    main(["import", str(path), "--out", str(tmp_path / "out")])
    assert "note: 10 networks have no width in the file" in capsys.readouterr().out
    nets = DeepNets1M(tmp_path / "out", "val")
    for i, graph in enumerate(graphs):
        C = 32
        while i < 10 and count_parameters(graph.config.replace(C=C)) < 2_500_000:
            C += 16
        expected = graph.config.replace(C=C) if i < 10 else graph.config
        assert nets.config(i) == expected
        assert nets.table["num_params"][i] == count_parameters(expected)
    main(["verify", str(tmp_path / "out")])
    main(["info", str(tmp_path / "out")])
    assert "widths of 10 networks chosen for 2.5 million parameters" in capsys.readouterr().out


def test_widths_of_train_are_drawn_later(tmp_path: Path) -> None:
    written(tmp_path, random_graphs(3), "train")
    report = import_official(tmp_path, tmp_path / "out", "train")
    assert report.widths_chosen == 0
    assert "width" not in str(report)


def test_drawn_widths_of_train_do_not_change_the_widths_that_are_drawn(tmp_path: Path) -> None:
    """The rules read the numbers of parameters at C = 32 and fc_dim = 256, which are counted here."""
    graphs = random_graphs(12, seed=3, fc_layers=2)
    assert len({(graph.config.C, graph.config.fc_dim) for graph in graphs}) > 6
    path = written(tmp_path, graphs, "train")

    def remember(content: Any) -> None:
        for graph, entry in zip(graphs, content["train"]["nets"]):
            entry["C"], entry["fc_dim"] = graph.config.C, graph.config.fc_dim

    edit_json(path, remember)
    import_official(tmp_path, tmp_path / "out", "train")
    with CorpusFile(corpus_path(tmp_path / "out", "train")) as file:
        expected = [count_parameters(graph.config.replace(C=32, fc_dim=256)) for graph in graphs]
        assert file.column("num_params").tolist() == expected
    main(["verify", str(tmp_path / "out")])


# --- splits that are kept ---


def content(path: Path, split: str) -> tuple[Any, list[bytes]]:
    """Return the metadata and the arrays of a split."""
    with h5py.File(path) as file:
        arrays = [file[split][name][key][()].tobytes() for name in sorted(file[split]) for key in ("adj", "nodes")]
    return json.loads(metadata(path).read_text())[split], arrays


def test_exporting_one_split_keeps_the_others(tmp_path: Path) -> None:
    data = corpus(tmp_path / "data", **{s: random_graphs(3, seed=i) for i, s in enumerate(("val", "test", "deep"))})
    out = tmp_path / "out"
    (path,) = export_official(data, out, ["val", "test"])
    before = {split: content(path, split) for split in ("val", "test")}
    assert export_official(data, out, ["deep"]) == (path,)
    assert set(list_splits(path)) == {"val", "test", "deep"}
    assert {split: content(path, split) for split in before} == before
    for split in ("val", "test", "deep"):
        with read_official(path, split) as networks:
            assert networks.report().exact == 3
    with pytest.raises(ConfigError, match="already exists, with the split test; leave out this split, or replace it"):
        export_official(data, out, ["test"])
    corpus(data, test=random_graphs(2, seed=9))
    export_official(data, out, ["test"], overwrite=True)
    assert content(path, "val") == before["val"]
    assert len(read_official(path, "test")) == 2
    assert sorted(out.glob("deepnets1m_*")) == [path, metadata(path)]


def test_a_kept_split_may_be_that_of_another_program(tmp_path: Path) -> None:
    """Its words, unknown keys and defects are copied as they are."""
    path = written(tmp_path / "out", random_graphs(2, seed=1))

    def change(metadata: Any) -> None:
        metadata["val"]["nets"][0]["colour"] = "red"
        words = metadata["val"]["meta"]["unique_op_names"]
        words[str(len(words))] = "nobody.knows"

    edit_json(path, change)
    before = content(path, "val")
    export_official(corpus(tmp_path / "data", deep=random_graphs(2)), tmp_path / "out", ["deep"])
    assert content(path, "val") == before


def test_a_damaged_file_is_not_changed(tmp_path: Path) -> None:
    path = written(tmp_path / "out", random_graphs(2, seed=1))
    metadata(path).write_text("{")
    data = corpus(tmp_path / "data", deep=random_graphs(2))
    before = path.read_bytes()
    with pytest.raises(FormatError):
        export_official(data, tmp_path / "out", ["deep"])
    assert path.read_bytes() == before
    assert metadata(path).read_text() == "{"


@pytest.mark.parametrize("read", [read_official, lambda folder, split: import_official(folder, folder / "new", split)])
def test_a_folder_is_searched_for_a_split_in_the_same_way_everywhere(tmp_path: Path, read: Any) -> None:
    moved(written(tmp_path, random_graphs(2), split="val"), "deepnets1m_val")
    written(tmp_path, random_graphs(3), split="test")  # deepnets1m_eval.hdf5, without val
    assert getattr(read(tmp_path, "val"), "networks", 2) == 2
    if read is read_official:
        assert len(read(tmp_path, "val")) == 2
        assert len(read(tmp_path, "test")) == 3


def test_an_empty_split_cannot_be_imported(tmp_path: Path) -> None:
    written(tmp_path, [], split="val")
    with pytest.raises(FormatError, match=r"eval\.hdf5: the split val holds no networks; leave it out"):
        import_official(tmp_path, tmp_path / "new", "val")
    with pytest.raises(ConfigError, match="check: expected"):
        import_official(tmp_path, tmp_path / "new", "val", check=-1)


def test_graphs_in_another_order_are_defects_when_they_are_compared(tmp_path: Path) -> None:
    path = written(tmp_path, random_graphs(3), split="val")
    with h5py.File(path, "r+") as file:
        adjacency = file["val/1/adj"]
        adjacency[...] = adjacency[...].T
    report = import_official(path, tmp_path / "new", "val")
    assert (report.networks, report.exact, report.defects["unrecognised"]) == (3, 2, 1)
    assert len(DeepNets1M(tmp_path / "new", "val")) == 3


def test_a_folder_holds_one_corpus(tmp_path: Path) -> None:
    written(tmp_path, random_graphs(2), split="val")
    build_corpus(tmp_path / "new", BuildPlan(splits=("search",), search_size=3), workers=Workers(num_workers=1))
    with pytest.raises(ConfigError, match=r"search\.h5: belongs to a corpus that was generated; .*into another"):
        import_official(tmp_path, tmp_path / "new", "val")
    assert [path.name for path in (tmp_path / "new").glob("*.h5")] == ["deepnets1m_search.h5"]


# --- networks in two splits ---


def test_verify_says_when_test_networks_are_in_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The widths differ, and so does the order of the networks."""
    graphs = random_graphs(6, seed=3)
    train = [graphs[4], graphs[1], *random_graphs(3, seed=4)]
    data = corpus(tmp_path / "data", test=graphs[:5], train=train, wide=graphs[:2])
    (found,) = find_shared_networks(data)
    assert (found.split, found.other, found.shared, found.networks) == ("test", "train", 2, 5)
    main(["verify", "--quick", str(data)])
    assert f"{data}: note: 2 of 5 networks of test are in train, too" in capsys.readouterr().out
    shutil.rmtree(data)
    corpus(data, test=graphs[:3], train=graphs[3:])
    main(["verify", "--quick", str(data)])
    assert "note" not in capsys.readouterr().out
