"""User-defined encoders and decoders: training, files, predictions and evaluation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deepnets import GENOTYPES, GraphBatch, Network, NetworkConfig, build_graph
from deepnets.support import CheckpointError, ConfigError
from ghn_model import DECODERS, ENCODERS, GHN, GHNConfig, PreparedBatch, register_decoder, register_encoder
from ghn_model.checkpoints import save_checkpoint
from tests.support.training_runs import train_here

ROOT = Path(__file__).parents[2]
SMALL = {"hidden": 8, "max_shape": (16, 16, 3, 3)}
DARTS = NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8)

PLUGIN = '''
import torch


class MeanEncoder(torch.nn.Module):
    """Adds the mean of all nodes of a graph to each of its nodes."""

    def __init__(self, config):
        super().__init__()
        self.linear = torch.nn.Linear(config.hidden, config.hidden)
        self.scale = config.options.get("scale", 1.0)

    def prepare(self, graphs):
        sizes = torch.tensor([graph.num_nodes for graph in graphs])
        return {"graph": torch.repeat_interleave(torch.arange(len(graphs)), sizes), "sizes": sizes}

    def forward(self, x, batch):
        graph, sizes = batch.encoder_inputs["graph"], batch.encoder_inputs["sizes"]
        sums = x.new_zeros(len(sizes), x.shape[1]).index_add(0, graph, x)
        return x + self.scale * self.linear(sums / sizes[:, None])[graph]


class ChannelDecoder(torch.nn.Module):
    """One value per pair of channels."""

    def __init__(self, config):
        super().__init__()
        self.channels = config.max_shape[0]
        self.classes = torch.nn.Linear(config.hidden, config.num_classes * self.channels)
        self.linear = torch.nn.Linear(config.hidden, self.channels * self.channels)

    def forward(self, x, rows, columns, height, width):
        maps = self.linear(x).view(len(x), self.channels, self.channels, 1, 1)
        return maps[:, :rows, :columns].expand(-1, -1, -1, height, width)

    def class_weights(self, x):
        return self.classes(x).view(len(x), -1, self.channels)
'''

TRAIN = """
import sys
from deepnets import DeepNets1M
from ghn_model import GHNConfig, PreparedBatch, GHN
import torch
from torch import nn
import torch.nn.functional as F
from deepnets.architecture import run_network
from deepnets import GENOTYPES, NetworkConfig, build_graph

config = GHNConfig(hypernet="my_parts:MeanEncoder", decoder="my_parts:ChannelDecoder", hidden=8,
                   max_shape=(16, 16, 3, 3), options={"scale": 0.5})
torch.manual_seed(0)
ghn = GHN(config).train()
optimizer = torch.optim.Adam(ghn.parameters(), 1e-2)
architecture = NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8)
batch = ghn.prepare([build_graph(architecture)] * 2)
images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
losses = []
for _ in range(6):
    logits = torch.cat([run_network(architecture, parameters, images) for parameters in ghn(batch)])
    loss = F.cross_entropy(logits, labels.repeat(2))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
ghn.eval().save("mine.safetensors", {"steps": 6})
loaded = GHN.from_pretrained("mine.safetensors")  # the parts were named by the configuration above
assert loaded.config == config and loaded.gnn.scale == 0.5
"""


def program(folder: Path, *words: str, plugins: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1", "DEEPNETS_PLUGINS": plugins}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_user_defined_parts_from_training_to_evaluation(tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text(PLUGIN)
    trained = program(tmp_path, "-c", TRAIN)
    assert trained.returncode == 0, trained.stderr
    words = ["-m", "ghn_model", "predict", "--model", "my_net:net", "--checkpoint", "mine.safetensors", "--out", "out"]
    (tmp_path / "my_net.py").write_text(
        "from deepnets import *\ndef net(): return Network(NetworkConfig(GENOTYPES['DARTS'], n_cells=2, C=8))\n"
    )
    refused = program(tmp_path, *words)
    assert refused.returncode == 1
    assert "its hypernet 'my_parts:MeanEncoder' is code outside this package" in refused.stderr
    predicted = program(tmp_path, *words, plugins="my_parts")
    assert predicted.returncode == 0, predicted.stderr
    info = program(tmp_path, "-m", "ghn_model", "info", "mine.safetensors", plugins="my_parts")
    assert "hypernet my_parts:MeanEncoder" in info.stdout
    evaluation = "from benchmark import evaluate\n" + (
        "table = evaluate('mine.safetensors', split='predefined', images='digits', limit=1)\n"
        "assert table['status'].tolist() == ['ok'], table.to_string()\n"
    )
    evaluated = program(tmp_path, "-c", evaluation, plugins="my_parts")
    assert evaluated.returncode == 0, evaluated.stderr


def encoder(config: GHNConfig) -> torch.nn.Module:
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(PLUGIN, namespace)
    return namespace["MeanEncoder"](config)


def decoder(config: GHNConfig) -> torch.nn.Module:
    namespace: dict[str, type[torch.nn.Module]] = {}
    exec(PLUGIN, namespace)
    return namespace["ChannelDecoder"](config)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> GHNConfig:
    """The configuration of a hypernetwork whose parts are registered for one test."""
    for registry in (ENCODERS, DECODERS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    register_encoder("mean", encoder)
    register_decoder("channels", decoder)
    return GHNConfig(hypernet="mean", decoder="channels", options={"scale": 2.0}, **SMALL)


def test_registered_parts_load_back(registered: GHNConfig, tmp_path: Path) -> None:
    ghn = GHN(registered)
    loaded = GHN.from_pretrained(ghn.save(tmp_path / "ghn.safetensors"))
    assert loaded.config == registered
    assert loaded.gnn.scale == 2.0
    model = Network(DARTS)
    expected, found = ghn.predict(model), loaded.predict(model)
    assert list(expected) == parameter_names()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_registered_parts_are_trained(corpus: Path, registered: GHNConfig, tmp_path: Path) -> None:
    path = train_here(corpus, tmp_path, steps=2, hypernetwork=registered)
    loaded = GHN.from_pretrained(path)
    assert loaded.config == registered
    assert list(loaded.predict(Network(DARTS))) == parameter_names()


class Unusual(torch.nn.Module):
    """An encoder with numbers of several types, whose constructor reads values of tensors."""

    requires_inputs = False

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.linear = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(config.hidden, config.hidden))
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        for dtype in (torch.float64, torch.bfloat16, torch.float16):
            self.register_buffer(f"of_{torch.finfo(dtype).dtype}", torch.tensor(0.5, dtype=dtype))

    def prepare(self, graphs: GraphBatch) -> None:
        """Nothing."""

    def forward(self, x: torch.Tensor, batch: PreparedBatch) -> torch.Tensor:
        found: torch.Tensor = x + self.rates[2] * self.linear(x)
        return found


def test_unusual_encoders_are_trained_and_load_back(
    corpus: Path, registered: GHNConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_encoder("unusual", Unusual)
    ghn = GHN(registered.replace(hypernet="unusual"))
    loaded = GHN.from_pretrained(ghn.save(tmp_path / "ghn.safetensors"))
    expected, found = ghn.state_dict(), loaded.state_dict()
    assert [(name, value.dtype) for name, value in found.items()] == [(n, v.dtype) for n, v in expected.items()]
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    path = train_here(corpus, tmp_path / "run", steps=1, hypernetwork=ghn.config)
    assert list(GHN.from_pretrained(path).predict(Network(DARTS))) == parameter_names()
    monkeypatch.setattr(Unusual, "get_extra_state", lambda _: {"a": 1}, raising=False)
    with pytest.raises(ConfigError, match=r"gnn\._extra_state: is no tensor"):
        ghn.save(tmp_path / "other.safetensors")


def parameter_names() -> list[str]:
    return [slot.name for slots in build_graph(DARTS).parameters for slot in slots]


def test_graphs_do_not_affect_each_other(registered: GHNConfig) -> None:
    ghn, other = GHN(registered), NetworkConfig(GENOTYPES["ViT"], n_cells=1, C=16, C_mult=1, preproc=False)
    together = ghn([build_graph(DARTS), build_graph(other)])
    (alone,) = ghn(build_graph(other))
    assert all(torch.allclose(together[1][name], tensor, atol=1e-6) for name, tensor in alone.items())


def test_duplicates_and_unknown_names_are_refused(registered: GHNConfig) -> None:
    with pytest.raises(ConfigError, match="'mean' is already registered"):
        register_encoder("mean", decoder)
    with pytest.raises(ConfigError, match=r"expected one of gatedgnn, mlp, graphormer, .*mean, or module:attribute"):
        GHNConfig(hypernet="unknown")
    with pytest.raises(ConfigError, match="no_such_module cannot be imported"):
        GHN(GHNConfig(hypernet="no_such_module:Encoder"))
    with pytest.raises(ConfigError, match="options: expected JSON values"):
        registered.replace(options={"scale": object()})
    with pytest.raises(ConfigError, match="options: expected a mapping with string keys"):
        registered.replace(options={3: 4})


def test_loading_a_file_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of modules in files are not imported, and functions of imported modules are not called."""
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    ghn = GHN(GHNConfig(**SMALL))
    for field, value in (("hypernet", "hostile:Encoder"), ("decoder", "os:system"), ("hypernet", "builtins:exec")):
        ghn.config = GHNConfig(**SMALL, **{field: value})
        path = save_checkpoint(ghn, tmp_path / "ghn.safetensors")
        with pytest.raises(CheckpointError, match=f"its {field} '{value}' is code outside this package"):
            GHN.from_pretrained(path)
    assert "hostile" not in sys.modules


@pytest.mark.slow
def test_files_with_unregistered_parts_are_an_error(registered: GHNConfig, tmp_path: Path) -> None:
    path = GHN(registered).save(tmp_path / "ghn.safetensors")
    done = program(tmp_path, "-m", "ghn_model", "info", str(path))
    assert done.returncode == 1
    assert "hypernet: expected one of gatedgnn, mlp, graphormer" in done.stderr
    assert len(done.stderr.splitlines()) == 1
