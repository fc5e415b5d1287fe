"""Training on other devices: on `meta`, which shows that no step synchronizes, and on a GPU, if there is one.

Where possible, the tests for a GPU run on the CPU, too, so that they are tested on machines without a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deepnets import DeepNets1M
from ghn_model import GHN, describe
from ghn_model.config import GHNConfig
from ghn_model.encoders import GatedGNN
from ghn_model.training import Distributed, Recipe
from ghn_model.training.meta_batches import DrawnNetworks, MetaBatch, meta_batches
from ghn_model.training.objective import Objective
from ghn_model.training.optimization import Optimization
from tests.ghn_model.encoders.test_gated_gnn import LevelGNN
from tests.perf.operations import META, Operations
from tests.support.training_runs import ROOT, TIMEOUT, command, small_config, tensors

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_GPU)]


def prepared(corpus: Path, config: GHNConfig, count: int = 2, largest: int = 100_000) -> MetaBatch:
    nets = DrawnNetworks(DeepNets1M(corpus, virtual_edges=config.virtual_edges), max_params=largest, max_nodes=120)
    return next(meta_batches(nets, GHN(config), count, for_gpu=True))


def some_images(device: str | torch.device = "cpu", count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(count, 3, 32, 32, generator=generator), torch.arange(count) % 10
    return images.to(device), labels.to(device)


# --- no synchronization ---


@pytest.mark.sampled(8)
@pytest.mark.parametrize("preset", ["mlp", "ghn1", "ghn2", "ghn3-t"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_reads_nothing_from_its_device(corpus: Path, preset: str, precision: str) -> None:
    """Tensors on `meta` have no values, so a step that runs there cannot wait for values on a GPU."""
    config, recipe = small_config(preset), Recipe.preset(preset, precision=precision, ema_decay=0.9)
    ghn = GHN(config).to(META).train()
    ranks = Distributed("cpu")
    ranks.device = META
    recipe_of_optimizer = recipe.replace(optimizer="adam")
    optimization = Optimization(ghn, recipe_of_optimizer, ranks)
    optimization.optimizer.step = lambda closure=None: None  # type: ignore[method-assign]  # fused, there is none for meta
    objective = Objective(32, 0.1, 1e-3)
    batch = prepared(corpus, config).to(META)
    images, labels = some_images(META)
    with Operations() as counter:
        outcome = objective.backward(ghn, batch, images, labels, scale=optimization.scale)
        figures = torch.stack([outcome.loss.float(), outcome.tally / outcome.answers, outcome.log_norm])
        failed, norm = optimization.step(figures)
    assert {tensor.device for tensor in (outcome.loss, outcome.tally, failed, norm)} == {META}
    assert counter.by_part["networks backward"] > counter.by_part["networks forward"] > 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize("virtual_edges", [1, 50])
def test_the_number_of_operations_grows_by_a_constant_per_level(corpus: Path, virtual_edges: int) -> None:
    """Each level of a graph takes ten operations forward and seven backward, whatever the number of nodes."""
    config = small_config("ghn2").replace(virtual_edges=virtual_edges)
    ghn = GHN(config).to(META)
    found = []
    for largest in (60_000, 100_000):
        ghn.zero_grad()
        batch = prepared(corpus, config, 3, largest).to(META)
        inputs = batch.inputs
        x = torch.zeros(len(inputs.node_types), config.hidden, device=META, requires_grad=True)
        with Operations() as there:
            result = ghn.gnn(x, inputs)
        with Operations() as back:
            result.backward(torch.ones_like(result))
        levels = sum(len(sweep.levels) for sweep in inputs.encoder_inputs)
        found.append((sum(there.by_name.values()) - 10 * levels, sum(back.by_name.values()) - 7 * levels))
    assert found[0] == found[1]
    assert max(found[0]) < 150


# --- the same results ---


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("preset", ["ghn1", "ghn2", "ghn3-t"])
def test_gradients_by_levels_are_those_of_a_cpu(
    corpus: Path, device: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision, since rounding errors grow on the way through a deep network and back."""
    torch.manual_seed(4)
    config = small_config(preset)
    ghn, batch, objective = (
        GHN(config).double().train(),
        prepared(corpus, config),
        Objective(predicted_param_decay=1e-3),
    )
    images, labels = some_images()
    images = images.double()
    torch.manual_seed(5)
    objective.backward(ghn, MetaBatch.of(ghn, batch.graphs), images, labels)
    expected = [parameter.grad.clone() for parameter in ghn.parameters() if parameter.grad is not None]
    ghn.zero_grad()
    ghn.to(device)
    monkeypatch.setattr(GatedGNN, "forward", LevelGNN.forward)
    torch.manual_seed(5)
    objective.backward(ghn, batch.to(torch.device(device)), images.to(device), labels.to(device))
    found = [parameter.grad.cpu() for parameter in ghn.parameters() if parameter.grad is not None]
    assert len(found) == len(expected) > 10
    for ours, reference in zip(found, expected, strict=True):
        assert (ours - reference).abs().max() <= 1e-6 * reference.abs().max()


@pytest.mark.parametrize("device", DEVICES)
def test_predictions_are_those_of_a_cpu(corpus: Path, device: str) -> None:
    torch.manual_seed(5)
    ghn, net = GHN(small_config()).eval(), DeepNets1M(corpus).network(0)
    expected = ghn.predict(net)
    found = ghn.to(device).predict(net)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].device.type == device
        assert (found[name].cpu() - tensor).abs().max() <= 1e-4 * tensor.abs().max() + 1e-6


@NO_GPU
def test_a_step_on_a_gpu_does_not_wait(corpus: Path) -> None:
    config, recipe = small_config(), Recipe.preset("ghn2", ema_decay=0.9)
    ghn, ranks = GHN(config).cuda().train(), Distributed("cuda")
    optimization = Optimization(ghn, recipe, ranks)
    batches = [prepared(corpus, config).to(torch.device("cuda")) for _ in range(2)]
    images, labels = some_images("cuda")
    for number, batch in enumerate(batches):
        torch.cuda.set_sync_debug_mode("error" if number else "default")  # libraries are loaded in the first step
        try:
            outcome = Objective().backward(ghn, batch, images, labels)
            optimization.step(torch.stack([outcome.loss, outcome.tally / outcome.answers, outcome.log_norm]))
        finally:
            torch.cuda.set_sync_debug_mode("default")


# --- whole runs ---


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_resumes_on_every_device(corpus: Path, tmp_path: Path, device: str, processes: int) -> None:
    """One process, or two that share the device; half precision, averages of weights."""
    words = command(corpus, tmp_path, images="digits", steps=4, ema_decay=0.9, precision="bf16", save_steps=1)
    words[words.index("--device") + 1] = device
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for steps, extra in ((1, ["--stop-after", "1e-9"]), (4, [])):
        done = subprocess.run(
            [sys.executable, *(launch if processes > 1 else []), *words, *extra],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert describe(tmp_path / "ghn.safetensors").metadata["steps"] == steps
    assert all(tensor.isfinite().all() for tensor in tensors(tmp_path / "ghn.safetensors").values())
