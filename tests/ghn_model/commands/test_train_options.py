"""The options of `train` that configure the hypernetwork, and trainings from official files."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from deepnets.support import ConfigError
from ghn_model import GHN, GHNConfig, describe
from ghn_model.__main__ import main
from ghn_model.checkpoints import DIGEST, TensorFile, grow_tables, write_tensors
from ghn_model.commands import profile, train
from ghn_model.commands.hypernetwork_options import config_from
from ghn_model.commands.task_data import open_validation
from ghn_model.commands.train import opened, recipe_from
from ghn_model.training import CheckpointPolicy, Recipe
from ghn_model.training.state import read_identity
from tests.oracles.naive_ghn import random_state_dict
from tests.support.training_runs import command, small_config, train_here


def parsed(words: str, module: Any = train) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser.add_subparsers())
    return parser.parse_args([module.__name__.rpartition(".")[2], *shlex.split(words)])


def trained(corpus: Path, out: Path, words: str = "", **options: object) -> Path:
    """Train in this process with the command line."""
    given = command(corpus, out, images="digits", **{"steps": 1, "ema_decay": 0, **options})
    main([*given[2:], *shlex.split(words)])
    return out / "ghn.safetensors"


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("", {}),
        ("--preset ghn1", {"virtual_edges": 1, "layernorm": False, "weight_norm": False}),
        ("--hidden 64", {"hidden": 64}),
        ("--max-shape 64 32 11 7", {"max_shape": (64, 32, 11, 7)}),
        ("--hypernet mlp --decoder mlp", {"hypernet": "mlp", "decoder": "mlp"}),
        ("--hypernet graphormer --layers 2 --heads 4", {"hypernet": "graphormer", "layers": 2, "heads": 4}),
        ("--no-layernorm --no-weight-norm", {"layernorm": False, "weight_norm": False}),
        ("--preset ghn1 --ln --norm", {"virtual_edges": 1}),
        ("--virtual-edges 5 --window centre", {"virtual_edges": 5, "window": "centre"}),
        ("--vocabulary published", {"vocabulary": "ghn3"}),
        ("--weight-init small", {"init": "small"}),
        ("--dirac --width-invariant", {"dirac": True, "width_invariant": True}),
        (
            "--decoder lowrank --rank 4 --factor-rows 256 --no-vector-decoder --normalization std "
            "--initializer-range 0.1 --node-types language --channel-sizes 50257 32000",
            {
                "decoder": "lowrank",
                "rank": 4,
                "factor_rows": 256,
                "vector_decoder": False,
                "normalization": "std",
                "initializer_range": 0.1,
                "node_types": "language",
                "channel_sizes": (32000, 50257),
            },
        ),
        (
            "--hypernet mine:Encoder --hypernet-option depth=3 --hypernet-option 'kind=[1, 2]'",
            {"hypernet": "mine:Encoder", "options": {"depth": 3, "kind": [1, 2]}},
        ),
    ],
)
def test_fields_of_the_configuration(words: str, changes: dict[str, Any]) -> None:
    for module in (train, profile):
        options = parsed(f"--images cifar10 --recipe published {words}", module)
        assert config_from(options, 10, 32) == GHNConfig(**changes)
    start = GHNConfig(hidden=48, num_classes=7, vocabulary="ppuda")
    if not words.startswith("--preset"):
        assert config_from(options, 10, 32, start) == start.replace(num_classes=10, **changes)


def test_every_field_has_an_option() -> None:
    options = vars(parsed("")).keys()
    names = {"init": "weight_init", "options": "hypernet_option"}
    fields = {each.name for each in dataclasses.fields(GHNConfig)}
    assert {names.get(field, field) for field in fields - {"num_classes"}} <= options


def test_hypernetworks_for_cpus() -> None:
    """The recipe for CPUs changes the hypernetwork, too."""
    changes: dict[str, Any] = {"init": "small", "dirac": True, "width_invariant": True, "max_shape": (16, 16, 11, 11)}
    for words, device, expected in (
        ("--images cifar10", "cuda", {}),
        ("--images cifar10", "cpu", changes),
        ("--images cifar10 --recipe published", "cpu", {}),
        ("--images cifar10 --recipe cpu", "cuda", changes),
        ("--images cifar10 --networks family:resnet-widths", "cpu", {}),
        ("--images digits", "cpu", changes),
        ("--images digits", "cuda", changes),
        ("--images digits --recipe published", "cpu", {}),
        ("--images digits --weight-init published", "cpu", {**changes, "init": "published"}),
        ("--images digits --networks family:resnet-widths", "cpu", {"init": "small"}),
        ("--images cifar10 --weight-init published", "cpu", {**changes, "init": "published"}),
        ("--images cifar10 --no-dirac", "cpu", {**changes, "dirac": False}),
        ("--images cifar10 --max-shape 32 32 11 11", "cpu", {**changes, "max_shape": (32, 32, 11, 11)}),
    ):
        assert config_from(parsed(words), 10, 32, device=device) == GHNConfig(**expected), words
    assert config_from(parsed("--images imagenet --recipe cpu"), 1000, 224).max_shape == (16, 16, 16, 16)
    assert config_from(parsed("--preset logah-t --images cifar10"), 10, 32) == GHNConfig.preset("logah-t")
    small = GHNConfig.preset("logah-t", init="small")
    assert config_from(parsed("--preset logah-t --images digits"), 10, 32) == small


@pytest.mark.parametrize("module", [train, profile])
@pytest.mark.parametrize(
    ("words", "device", "kind"),
    [
        ("", "cpu", "cpu"),
        ("", "cuda", "published"),
        ("--recipe published", "cpu", "published"),
        ("--recipe cpu", "cuda", "cpu"),
    ],
)
def test_the_recipe_depends_on_the_device(module: Any, words: str, device: str, kind: str) -> None:
    recipe = recipe_from(parsed(f"--images cifar10 --seed 7 {words}", module), device)
    assert recipe == Recipe.preset("ghn2", kind=kind, seed=7)


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("--images digits", 0),
        ("--images digits --recipe published --preset logah-t", 0),
        ("--images digits --hypernetwork mine:Net", 100_000),
        ("--images cifar10 --hypernetwork mine:Net", 100_000),
        ("--images cifar10 --hypernetwork mine:Net --max-params 0", 0),
        ("--images cifar10 --hypernetwork mine:Net --recipe published", 0),
        ("--images digits --hypernetwork mine:Net --networks family:resnet-widths", 0),
        ("--images digits --preset logah-t", 100_000),
    ],
)
def test_sizes_of_networks_on_a_cpu(words: str, limit: int) -> None:
    """Only predictions with equal channels, which are computed once, make large networks as fast as small ones."""
    assert recipe_from(parsed(words), "cpu").max_params == limit


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--hidden 30", "hidden: must be a multiple of 4"),
        ("--hypernet gnn", "hypernet: expected one of gatedgnn, mlp, graphormer"),
        ("--hypernet graphormer --heads 5", "heads: must divide hidden"),
        ("--virtual-edges 1000", "virtual_edges: expected an integer"),
        ("--hypernetwork a:b --hidden 8 --ln", "--hidden, --layernorm: cannot be set for a hypernetwork of your own"),
        ("--hypernetwork a:b --weight-init small", "--weight-init: cannot be set for a hypernetwork of your own"),
    ],
)
def test_values_that_are_refused(tmp_path: Path, words: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        main(["train", "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu", *shlex.split(words)])
    assert str(raised.value).startswith(message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", ["--max-shape 64 64 11", "--max-shape 64 64 0 11", "--vocabulary x", "--heads two"])
def test_words_that_are_refused(capsys: pytest.CaptureFixture[str], words: str) -> None:
    with pytest.raises(SystemExit):
        main(["train", *shlex.split(words)])
    assert words.split()[0] in capsys.readouterr().err


def test_training_with_other_shapes(corpus: Path, tmp_path: Path) -> None:
    words = "--hidden 8 --max-shape 16 8 7 3 --virtual-edges 3 --no-weight-norm"
    config = describe(trained(corpus, tmp_path / "run", words)).config
    assert (config.hidden, config.max_shape, config.virtual_edges) == (8, (16, 8, 7, 3), 3)
    assert (config.weight_norm, config.init) == (False, "small")
    with pytest.raises(ConfigError, match=r"another config \(hidden 8, not 12\)"):
        trained(corpus, tmp_path / "run", words.replace("8", "12", 1), steps=2)


@pytest.mark.parametrize("kind", ["ppuda", "ghn3"])
def test_start_from_an_official_file(corpus: Path, tmp_path: Path, kind: str) -> None:
    sizes: dict[str, Any] = {"hidden": 8, "max_shape": (16, 16, 11, 11)}
    if kind == "ghn3":
        sizes |= {"hypernet": "graphormer", "layers": 1, "heads": 2}
    state = random_state_dict(**sizes)
    torch.save({"state_dict": state}, tmp_path / "official.pt")
    words = f"--init {tmp_path / 'official.pt'} --lr 1e-9 --clip-grad 0"
    ghn = GHN.from_pretrained(trained(corpus, tmp_path / "run", words))
    assert ghn.config.vocabulary == kind
    assert ghn.config == GHN.from_pretrained(tmp_path / "official.pt").config
    for name, tensor in ghn.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=2e-5)  # one step of Adam with a rate of 1e-5
    assert "init" in read_identity(tmp_path / "run" / "state.safetensors")


def test_runs_of_earlier_versions_resume(corpus: Path, tmp_path: Path) -> None:
    """They did not record the initial weights, which were small for every preset."""
    config = small_config(init="small")
    whole = TensorFile(train_here(corpus, tmp_path / "whole", steps=2, hypernetwork=config)).tensors
    one_step = CheckpointPolicy(stop_after=1e-9)
    train_here(corpus, tmp_path / "run", steps=2, hypernetwork=config, checkpoints=one_step)
    path = tmp_path / "run" / "state.safetensors"
    file = TensorFile(path)
    identity = json.loads(file.metadata["about"])
    del identity["config"]["init"], identity["config"]["vocabulary"]
    texts = {name: text for name, text in file.metadata.items() if name != DIGEST}
    write_tensors(path, dict(file.tensors), {**texts, "about": json.dumps(identity)})
    resumed = train_here(corpus, tmp_path / "run", steps=2, hypernetwork=small_config(init="published"))
    assert describe(resumed).config == config
    assert all(torch.equal(tensor, whole[name]) for name, tensor in TensorFile(resumed).tensors.items())
    assert read_identity(path)["config"] == config.to_dict()


def test_training_and_resuming_logah(corpus: Path, tmp_path: Path) -> None:
    """Training changes all weights that are used; it starts from weights for another number of classes, by value."""
    words = "--preset logah-t --hidden 8 --heads 2 --layers 1 --rank 3 --factor-rows 256 --max-shape 32 32 16 16"
    path = trained(corpus, tmp_path / "run", words, steps=2)
    ghn = GHN.from_pretrained(path)
    assert (ghn.config.decoder, ghn.config.vector_decoder) == ("lowrank", False)
    other = GHN(ghn.config.replace(num_classes=100))
    other.save(tmp_path / "other.safetensors")
    words = f"--init {tmp_path / 'other.safetensors'} --lr 1e-9 --clip-grad 0"
    started = GHN.from_pretrained(trained(corpus, tmp_path / "second", words))
    assert started.config == ghn.config
    name = "shape_enc.embed_channel.weight"
    expected = grow_tables(other.state_dict(), other.config, ghn.config)
    torch.testing.assert_close(started.state_dict()[name], expected[name], rtol=0, atol=2e-5)
    assert not torch.equal(expected[name], other.state_dict()[name])
    trained(
        corpus,
        tmp_path / "run",
        "--preset logah-t --hidden 8 --heads 2 --layers 1 --rank 3 --factor-rows 256 --max-shape 32 32 16 16",
        steps=3,
    )
    assert describe(path).metadata["steps"] == 3
    again = GHN.from_pretrained(path).state_dict()
    for key, parameter in ghn.named_parameters():
        if parameter.requires_grad and key != "gnn.0.input_dist_embed.weight":
            assert not torch.equal(parameter, again[key]), key


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        ("--images digits --networks family:resnet-widths --validate-images 129", [64, 65]),
        ("--images digits --networks family:resnet-widths --validate-images 1", [1]),
        (
            "--preset logah-t --task text --networks family:gpt2-widths --validate-images 20 --batch-size 6",
            [6, 6, 6, 2],
        ),
    ],
)
def test_batches_of_validation(tmp_path: Path, words: str, sizes: list[int]) -> None:
    """A batch norm has no statistics of a single image; sequences take more memory than images."""
    pytest.importorskip("transformers")
    given = f"--validate-every 1 --validate-networks 1 --threads 1 --data {tmp_path} --out {tmp_path / 'run'} {words}"
    options = parsed(given)
    with opened(options) as found:
        validation = open_validation(options, found.config, found.recipe, found.data, found.distributed)
    assert validation is not None
    assert [len(targets) for _, targets in validation.batches] == sizes
