"""Protocols by the command line: genotypes by name, recipes of timm, detection, interruptions and options."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmark.baselines import Curves, genotype_config
from benchmark.baselines.detection import DETECTION_COLUMNS
from benchmark.commands.sgd import add_arguments
from benchmark.commands.training_options import recipe_of
from benchmark.training import evaluate_trained, read_state
from deepnets import ConfigError, DeepNetsError, MissingDependencyError, Network
from deepnets.data import load_images
from deepnets.support import Parser
from ghn_model import save_checkpoint
from ghn_model.checkpoints import TensorFile
from tests.benchmark.commands.test_sgd_resuming import PROGRAM, ROOT, without_seconds
from tests.benchmark.training.detection.scenes import write_pedestrians
from tests.benchmark.training.test_protocols import needs_timm
from tests.support.sgd_trainings import command, small_ghn

TINY = ["--genotype", "DARTS", "--width", "4", "--cells", "3"]
FAST = ["--shots", "4", "--batch-size", "20", "--quiet"]


@pytest.mark.slow
def test_the_protocol_of_darts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(small_ghn(), tmp_path / "ghn.safetensors")
    out = tmp_path / "out"
    inits = ["random", f"mine={tmp_path / 'ghn.safetensors'}"]
    command("sgd", *TINY, "--protocol", "darts", "--epochs", "2", "--init", *inits, "--out", out, *FAST)
    assert "genotypes, digits: top1 in percent" in capsys.readouterr().out
    settings = Curves(out)._settings()["random on genotypes with digits"]
    assert settings["train"] == ["trainval", 40]
    names = ("cutout", "drop_path", "auxiliary_weight", "lr", "clip_grad")
    assert [settings[name] for name in names] == [16, 0.2, 0.4, 0.025, 5]
    table = Curves(out).table()
    assert table["network"].unique().tolist() == ["DARTS-C4-L3"]
    assert table["status"].eq("ok").all()
    model = Network(genotype_config("DARTS", 32, 4, 3))
    assert table["num_params"].eq(sum(parameter.numel() for parameter in model.parameters())).all()
    # The file has no auxiliary head, so that it can be evaluated, and trained again.
    state = read_state(out / "mine" / "genotypes-DARTS-C4-L3.safetensors")
    scores = evaluate_trained(model, state, load_images("digits", "test"))
    assert scores["top1"] == table[table["predictor"] == "mine"]["top1"].iloc[-1]
    again = ["--protocol", "darts", "--epochs", "2", "--init", f"on={out / 'mine'}"]
    command("sgd", *TINY, *again, "--out", out, *FAST)
    assert Curves(out).table()["status"].eq("ok").all()


@pytest.mark.parametrize(("size", "C", "n_cells", "stem"), [(32, 36, 20, 0), (224, 48, 14, 1)])
def test_genotypes_have_the_published_sizes(size: int, C: int, n_cells: int, stem: int) -> None:
    for name in ("DARTS", "PDARTS"):
        config = genotype_config(name, size)
        assert (config.C, config.n_cells, config.stem_type) == (C, n_cells, stem)
    with torch.device("meta"):
        models = Network(genotype_config("DARTS", 32)), Network(genotype_config("DARTS", 224), 1000, 224)
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    assert sizes == [3_349_342, 4_718_752]
    vit = genotype_config("ViT", 32, width=64)
    assert (vit.C, vit.n_cells, vit.C_mult, vit.preproc) == (64, 12, 1, False)


@pytest.mark.slow
@needs_timm
def test_the_protocol_of_ghn3(tmp_path: Path) -> None:
    save_checkpoint(small_ghn(), tmp_path / "ghn.safetensors")
    out = tmp_path / "out"
    changes = ["--epochs", "2", "--image-size", "32", "--init", tmp_path / "ghn.safetensors"]
    command("finetune", "--model", "timm:resnet10t", "--protocol", "ghn3-imagenet", *changes, "--out", out, *FAST)
    table = Curves(out).table()
    assert table["status"].tolist() == ["ok", "ok"]
    (settings,) = Curves(out)._settings().values()
    assert (settings["optimizer"], settings["loss"], settings["image_size"]) == ("lamb", "bce", 32)
    assert settings["rand_augment"] == "rand-m6-mstd0.5-inc1"


@pytest.mark.slow
@needs_timm
def test_options_change_the_recipe(tmp_path: Path) -> None:
    words = ["--optimizer", "lamb", "--loss", "bce", "--mixup", "0.2", "--cutmix", "0.5", "--rand-augment", "rand-m3"]
    words += ["--cutout", "4", "--drop-path", "0.1", "--auxiliary-weight", "0.3", "--warmup-epochs", "1"]
    command("sgd", *TINY, *words, "--epochs", "2", "--out", tmp_path, *FAST)
    (settings,) = Curves(tmp_path)._settings().values()
    for word, value in zip(words[::2], words[1::2], strict=True):
        assert str(settings[word[2:].replace("-", "_")]) == value
    assert Curves(tmp_path).table()["status"].eq("ok").all()


@needs_timm
@pytest.mark.parametrize(
    ("words", "config"),
    [
        ([], "rand-m6-mstd0.5-inc1"),
        (["--no-augment"], ""),
        (["--rand-augment", "none"], ""),
        (["--rand-augment", "rand-m3"], "rand-m3"),
    ],
)
def test_rand_augment_can_be_disabled(words: list[str], config: str) -> None:
    parser = Parser()
    add_arguments(parser.add_subparsers(parser_class=Parser))
    assert recipe_of(parser.parse_args(["sgd", *words]), "ghn3-imagenet").rand_augment == config


def test_folders_of_earlier_versions_can_be_continued(nets: Path) -> None:
    """Their settings lack the fields that recipes did not have."""
    import json

    out = nets / "out"
    words = ["sgd", "--out", out, "--epochs", "2", *FAST, "--model"]
    command(*words, "sgd_nets:plain")
    path = out / "settings.json"
    settings = json.loads(path.read_text())
    new = ("mixup", "cutmix", "cutout", "loss", "rand_augment", "drop_path", "auxiliary_weight", "warmup_epochs")
    for values in settings.values():
        for name in new:
            del values[name]
    path.write_text(json.dumps(settings))
    command(*words, "sgd_nets:plain", "sgd_nets:second")
    assert len(Curves(out).table()) == 4
    with pytest.raises(ConfigError, match=r"other settings \(cutout 0, not 4\)"):
        command(*words, "sgd_nets:plain", "--cutout", "4")


@pytest.mark.slow
def test_a_training_continues_after_a_sigkill_with_identical_results(tmp_path: Path) -> None:
    words = ["sgd", *TINY, "--protocol", "darts", "--epochs", "12", "--save-minutes", "0", *FAST, "--out"]
    words = [str(word) for word in words]
    command(*words, tmp_path / "whole")
    out, name = tmp_path / "killed", "genotypes-DARTS-C4-L3"
    state = out / "random" / f"{name}.state.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *words, str(out)], cwd=ROOT, env=environment)
    try:
        until = time.monotonic() + 240
        while not state.exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "curves.csv").exists()
    command(*words, out)
    assert without_seconds(out) == without_seconds(tmp_path / "whole")
    whole, continued = (
        TensorFile(folder / "random" / f"{name}.safetensors").tensors for folder in (tmp_path / "whole", out)
    )
    assert all(torch.equal(whole[key], continued[key]) for key in whole)
    assert not state.exists()
    seconds = pd.read_csv(out / "curves.csv")["seconds"]
    assert seconds.is_monotonic_increasing


@pytest.mark.slow
@needs_timm
def test_detection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(small_ghn(), tmp_path / "ghn.safetensors")
    root = write_pedestrians(tmp_path / "images", 6)
    words = ["finetune", "--task", "detection", "--image-root", root, "--test-images", "2", "--image-size", "64"]
    words += [*TINY, "--init", "random", f"mine={tmp_path / 'ghn.safetensors'}", "--epochs", "1", "--quiet"]
    command(*words, "--out", tmp_path / "out")
    assert "genotypes, penn-fudan: ap in percent" in capsys.readouterr().out
    curves = Curves(tmp_path / "out", DETECTION_COLUMNS)
    table = curves.table()
    assert tuple(table.columns) == DETECTION_COLUMNS
    assert table["status"].eq("ok").all()
    assert table["predictor"].tolist() == ["random", "mine"]
    assert table[["ap", "ap50", "ap75"]].notna().all(axis=None)
    before = (tmp_path / "out" / "curves.csv").read_text()
    command(*words, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "curves.csv").read_text() == before
    state = read_state(tmp_path / "out" / "mine" / "genotypes-DARTS-C4-L3.safetensors")
    assert any(name.startswith("backbone.net.cells.") for name in state)
    with pytest.raises(DeepNetsError, match=r"curves.csv: is no table"):  # not mixed with classification
        command("sgd", "--genotype", "DARTS", "--epochs", "1", "--out", tmp_path / "out", *FAST)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sgd", "--model", "sgd_nets:plain", "--width", "8"], "--width: is for networks of --genotype"),
        (["sgd", "--split", "test", "--cells", "8"], "--cells: is for networks of --genotype"),
        (["sgd", "--genotype", "DARTS", "--index", "1"], "--index: is for networks of a --split"),
        (["sgd", "--genotype", "DARTS", "DARTS"], "network: named twice: DARTS"),
        (["sgd", "--genotype", "DARTS", "--width", "3"], "C: must be even"),
        (["finetune", "--task", "detection", "--genotype", "DARTS", "--download"], "--download: is for classification"),
        (["sgd", "--genotype", "DARTS", "--protocol", "penn-fudan"], "penn-fudan is for finetune --task detection"),
        (
            ["sgd", "--genotype", "DARTS", "--drop-path", "1"],
            "drop_path: expected a number of at least 0 and less",
        ),
        (["finetune", "--genotype", "DARTS", "--test-images", "5"], "--test-images: is for --task detection"),
        (["finetune", "--task", "detection"], "--image-root: --task detection needs the folder with PNGImages"),
        (["finetune", "--task", "detection", "--image-root", "."], "has no folders PNGImages and PedMasks; unpack"),
        (["finetune", "--task", "detection", "--metric", "top1"], "--metric: --task detection has ap, ap50, ap75"),
        (["finetune", "--task", "detection", "--images", "cifar10"], "--images: --task detection reads Penn-Fudan"),
        (["finetune", "--genotype", "DARTS", "--metric", "ap"], "--metric: ap is for other tasks"),
        (["finetune", "--task", "detection", "--shots", "5"], "--shots: is for classification"),
        (["finetune", "--task", "detection", "--protocol", "darts"], "--protocol: darts is for classification"),
        (["finetune", "--task", "detection", "--image-root", ".", "--cutout", "8"], "cutout: is for classification"),
    ],
)
def test_options_are_checked(nets: Path, words: list[str], message: str) -> None:
    try:
        with pytest.raises(DeepNetsError, match=message) as caught:
            command(*words, "--out", nets / "out", "--data", nets)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--genotype", "DRTS"], "argument --genotype: invalid choice: 'DRTS'"),
        (["--genotype", "DARTS", "--split", "val"], "not allowed with argument"),
        (["--protocol", "dart"], "argument --protocol: invalid choice: 'dart'"),
        (["--mixup", "-1"], "argument --mixup: expected a number, 0 or more, got '-1'"),
    ],
)
def test_options_that_the_parser_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("sgd", *words)
    assert message in capsys.readouterr().err


def test_the_former_name_of_the_option_is_accepted(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--preset", "digits", "--epochs", "1", "--out", nets / "out"]
    command("sgd", "--model", "sgd_nets:plain", *words, *FAST)
    assert "--protocol" in capsys.readouterr().err
    assert Curves(nets / "out").table()["status"].tolist() == ["ok"]
