"""What surrounds a training: random numbers and precisions of the process, small sets, weights of other types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from deepnets import DeepNets1M
from ghn_model import GHN, describe
from ghn_model.training import Budget, train
from ghn_model.training.objective import Objective
from ghn_model.training.runs import single_precision
from tests.support.training_runs import small_config, small_recipe, stream, train_here


def test_global_state_is_restored(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train_here(corpus, tmp_path, steps=1, precision="tf32")
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.backends.cuda.matmul.allow_tf32


def test_single_precision_of_gpus() -> None:
    """PyTorch uses TF32 for convolutions by default; users may have chosen a precision with newer functions."""
    cudnn: Any = torch.backends.cudnn
    backends = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)

    def current() -> list[str]:
        return [backend.fp32_precision for backend in backends]

    before = current()
    try:
        for given in ("none", "tf32"):
            torch.backends.cuda.matmul.fp32_precision = given
            found = current()
            for wanted in ("ieee", "tf32"):
                with single_precision(wanted):
                    assert current() == [wanted] * 3
                assert current() == found
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def test_init_in_bfloat16(corpus: Path, tmp_path: Path) -> None:
    init = GHN(small_config()).bfloat16()
    path = train_here(corpus, tmp_path, steps=1, options={"init": init})
    assert len(describe(path).metadata["init"]) == 64


def test_the_last_networks_of_a_small_set_get_as_many_images(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    backward = Objective.backward

    def counted(self: Objective, hypernetwork: Any, batch: Any, images: Any, labels: Any, **options: Any) -> Any:
        seen.append((len(batch.graphs), len(labels)))
        return backward(self, hypernetwork, batch, images, labels, **options)

    monkeypatch.setattr(Objective, "backward", counted)
    recipe = small_recipe(share_images=False, max_params=0, max_nodes=0)
    images, nets = stream(recipe.images_per_step), DeepNets1M(corpus, num_nets=3)
    train(tmp_path, small_config(), recipe, images, nets, budget=Budget(steps=2), quiet=True, loggers=())
    assert seen == [(2, 8), (1, 4)]
