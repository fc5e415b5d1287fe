"""`finetune --task text`: rows, options, and the recipe of GPT-2."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from benchmark.baselines import COLUMNS, TEXT_COLUMNS, Curves
from benchmark.commands.sgd import add_arguments
from benchmark.literature import best_perplexities, logah_text, read_trainings
from benchmark.training import SGDRecipe, evaluate_trained, train_network
from deepnets.data import open_texts
from deepnets.support import ConfigError, DeepNetsError, Parser
from ghn_model import GHN, GHNConfig, save_checkpoint
from ghn_model.checkpoints import TensorFile
from tests.support.sgd_trainings import command

SPLIT = "family:gpt2-widths/test"
WORDS = ["finetune", "--task", "text", "--split", SPLIT, "--index", "0,3", "--epochs", "2", "--sequence-length", "16"]


@pytest.fixture(autouse=True)
def language() -> None:
    pytest.importorskip("transformers")


@pytest.fixture
def texts(tmp_path: Path) -> str:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, size in (("train", 2000), ("val", 600), ("test", 400)):
        whole = bytes(open_texts("python", "train").tokens[:size].tolist())
        (folder / f"{name}.txt").write_bytes(whole)
    return f"text:{folder}"


@pytest.mark.slow
def test_rows_states_and_the_table(texts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    small = {"hidden": 8, "heads": 2, "layers": 1, "rank": 2, "factor_rows": 1024, "max_shape": (256, 256, 16, 16)}
    save_checkpoint(GHN(GHNConfig.preset("logah-t", task="text", **small)), tmp_path / "logah.safetensors")
    out = tmp_path / "out"
    words = [*WORDS, "--texts", texts, "--out", out, "--quiet", "--init", "random", tmp_path / "logah.safetensors"]
    command(*words, "--lrs", "1e-3", "1e-2")
    printed = capsys.readouterr().out
    table = Curves(out, TEXT_COLUMNS).table()
    assert set(table["predictor"]) == {f"{name}-lr{rate}" for name in ("random", "logah") for rate in ("0.001", "0.01")}
    assert (table["status"] == "ok").all()
    assert table["epoch"].tolist() == [1, 2] * 8
    last = table[table["epoch"] == 2]
    assert last["perplexity"].between(100, 400).all()  # random guesses among 256 bytes: 256
    assert f"{SPLIT}, {texts}: perplexity, mean ± standard error" in printed
    from deepnets.families import FamilyNetworks

    nets = FamilyNetworks("gpt2-widths", "test")
    state = TensorFile(next((out / "random-lr0.01").glob("*-3.safetensors"))).tensors
    test = open_texts(texts, "test", sequence_length=16)
    expected = last[(last["predictor"] == "random-lr0.01") & (last["index"] == 3)]["perplexity"].item()
    assert evaluate_trained(nets.build(3), state, test, task="text")["perplexity"] == pytest.approx(expected, rel=1e-5)
    before = (out / "curves.csv").read_bytes()
    command(*words, "--lrs", "1e-3", "1e-2")  # nothing is left to do
    assert (out / "curves.csv").read_bytes() == before
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_is_the_plain_one_of_the_recipe(texts: str) -> None:
    """Against a loop written here: AdamW, cosine by epoch, linear warm-up by step."""
    from deepnets.families import FamilyNetworks

    train = open_texts(texts, "train", sequence_length=16)
    model = FamilyNetworks("gpt2-widths", "test").build(0)
    recipe = SGDRecipe.preset("logah-gpt2", epochs=3, lr=1e-2, batch_size=32, warmup_steps=6)
    trained = train_network(model, train, recipe, task="text", seed=5)

    net = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1.0, weight_decay=1e-2)
    order = torch.Generator().manual_seed(int(np.random.Philox(key=5).random_raw(3)[0]) >> 1)
    step = 0
    losses = []
    for epoch in range(3):
        total = torch.zeros((), dtype=torch.float64)
        for rows in torch.randperm(len(train), generator=order).split(32):
            tokens, targets = train.windows(16 * rows)
            step += 1
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * epoch / 3)) / 2 * min(1, step / 6)
            loss = F.cross_entropy(net(tokens).logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            total += loss.detach().double() * targets.numel()
        losses.append(float(total) / (16 * len(train)))
    assert step > 6
    assert trained.curve["loss"].tolist() == pytest.approx(losses, rel=1e-5)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(trained.state[name], tensor, rtol=1e-4, atol=1e-6)


def test_the_published_recipe() -> None:
    recipe = SGDRecipe.preset("logah-gpt2")
    assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.epochs) == ("adamw", 3e-6, 1e-2, 100)
    assert (recipe.warmup_steps, recipe.batch_size) == (500, 4 * 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "test"], "--split: expected family:NAME of language models"),
        (["--split", "family:resnet-widths"], "resnet-widths"),
        (["--model", "torchvision:resnet18"], "--model: is for images"),
        (["--images", "cifar10"], "--images: is for images"),
        (["--image-root", "x"], "--image-root: is for images"),
        (["--shots", "3"], "--shots: is for images"),
        (["--mixup", "0.2"], "--mixup: is for images"),
        (["--protocol", "cifar10"], "--protocol: cifar10 is for images; --task text has logah-gpt2"),
        (["--metric", "ap"], "--metric: --task text has perplexity, top1, top5, got ap"),
        (["--texts", "text:/no/such"], "/no/such"),
        (["--texts", "nothing"], "nothing"),
        (["--tokenizer", "/no/such"], "/no/such"),
        (["--image-split", "val", "--train-on", "trainval"], "--train-on: trainval contains"),
        (["--test-images", "3"], "--test-images: is for --task detection"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    split = [] if "--split" in words or "--model" in words else ["--split", SPLIT]
    with pytest.raises(DeepNetsError, match=message):
        command("finetune", "--task", "text", *split, *words, "--out", tmp_path / "out", "--quiet")
    assert not (tmp_path / "out" / "curves.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--texts", "python"], "--texts: is for --task text"),
        (["--sequence-length", "8"], "--sequence-length: is for --task text"),
        (["--protocol", "logah-gpt2"], "--protocol: logah-gpt2 is for finetune --task text"),
        (["--metric", "perplexity"], "--metric: perplexity is for other tasks; classification has top1, top5"),
        (["--task", "detection", "--texts", "python"], "--texts: is for --task text"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_tasks_refuse_options_of_texts(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        command("finetune", *words)


def test_sgd_has_no_tasks() -> None:
    parser = Parser(prog="python -m benchmark")
    add_arguments(parser.add_subparsers(required=True, parser_class=Parser))
    assert parser.parse_args(["sgd"]).task == "classification"


def row(predictor: str, network: str, perplexity: float, images: str) -> dict[str, object]:
    values = dict.fromkeys(TEXT_COLUMNS, "")
    values |= {"predictor": predictor, "split": "family:gpts-1k/published", "index": 0, "network": network}
    return values | {"images": images, "epoch": 1, "num_params": 1, "status": "ok", "perplexity": perplexity}


def test_own_trainings_stand_below_the_published_ones(tmp_path: Path) -> None:
    with Curves(tmp_path, TEXT_COLUMNS).opened() as curves:
        curves.append(
            [
                row("logah-lr3e-06", "gpt2-s", 240.0, "wikitext:/data/wikitext-2"),
                row("logah-lr1e-05", "gpt2-s", 230.5, "wikitext:/data/wikitext-2"),
                row("logah", "gpt2-l", 25.0, "wikitext:/data/WikiText-103-raw"),
                row("logah", "gpt2-s", 10.0, "text:/data/mine"),
                row("logah", "gpt2-s", 10.0, "wikitext:/data/wikitext-2000"),
            ]
        )
    table = best_perplexities(read_trainings(tmp_path))
    assert table.loc["logah"].to_dict() == {"WikiText-2 GPT-2-S": 230.5, "WikiText-103 GPT-2-L": 25.0}
    last = logah_text("logah-text", read_trainings(tmp_path)).splitlines()[-1]
    assert last.split() == ["own:", "logah", "230.50", "-", "-", "25.00"]
    assert logah_text("logah-vit", read_trainings(tmp_path)) == logah_text("logah-vit")
    assert best_perplexities(pd.DataFrame(columns=list(TEXT_COLUMNS)).astype(str)).empty
    assert set(TEXT_COLUMNS) - set(COLUMNS) == {"perplexity"}
