"""Hypernetworks of the user's own that predict something wrong: one error, before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepnets import DeepNets1M, Graph
from deepnets.support import ConfigError
from ghn_model.training import Schedule
from ghn_model.training.checking import check_hypernetwork, varied_networks
from ghn_model.training.meta_batches import DrawnNetworks
from tests.support.training_runs import tensors, train_here

Parameters = dict[str, Tensor]


class Changed(nn.Module):
    """Predicts a learned constant, and then changes the parameters of one network."""

    def __init__(self, change: Callable[[Graph, Parameters], Any]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.change = change

    def forward(self, graphs: Sequence[Graph]) -> Any:
        found = []
        for graph in graphs:
            slots = [slot for node in graph.parameters for slot in node]
            parameters = {slot.name: self.scale * torch.ones(slot.shape) for slot in slots}
            changed = self.change(graph, parameters)
            found.append(parameters if changed is None else changed)
        return found


def first_kernel(graph: Graph) -> str:
    return next(slot.name for node in graph.parameters for slot in node if len(slot.shape) == 4)


def transposed(graph: Graph, parameters: Parameters) -> None:
    parameters[first_kernel(graph)] = parameters[first_kernel(graph)].transpose(0, 1)


def missing(graph: Graph, parameters: Parameters) -> None:
    del parameters[first_kernel(graph)]


def broken(graph: Graph, parameters: Parameters) -> None:
    parameters[first_kernel(graph)][0, 0, 0, 0] = torch.nan


def doubled(graph: Graph, parameters: Parameters) -> None:
    parameters[first_kernel(graph)] = parameters[first_kernel(graph)].double()


def detached(graph: Graph, parameters: Parameters) -> Parameters:
    return {name: tensor.detach() for name, tensor in parameters.items()}


def renamed(graph: Graph, parameters: Parameters) -> None:
    parameters["stem.weight"] = parameters[first_kernel(graph)]


def unnamed(graph: Graph, parameters: Parameters) -> list[Tensor]:
    return list(parameters.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (transposed, r"KERNEL: expected floating-point numbers of shape \(\d+, 3, 3, 3\), got torch.float32 \(3, "),
        (missing, r"parameters: 1 of \d+ are missing: KERNEL"),
        (broken, r"parameters: 1 are not finite: KERNEL"),
        (doubled, r"KERNEL: expected torch.float32, got torch.float64"),
        (renamed, r"parameters: the network has no parameter named stem\.weight"),
        (unnamed, r"parameters: expected a dict of tensors, got list"),
        (detached, r"no predicted parameter depends on the weights of the hypernetwork .*no_grad"),
    ],
)
def test_a_wrong_prediction_is_an_error_before_the_first_step(
    corpus: Path, tmp_path: Path, change: Callable[[Graph, Parameters], Any], message: str
) -> None:
    message = message.replace("KERNEL", r"stem[\w.]*weight")
    steps: list[int] = []
    with pytest.raises(ConfigError, match=rf"^Changed: network \d+ of train: .*{message}"):
        train_here(corpus, tmp_path, hypernetwork=lambda: Changed(change), options={"after_step": steps.append})
    assert not steps
    assert not (tmp_path / "state.safetensors").exists()
    assert not (tmp_path / "log.csv").exists()


def test_forward_must_return_a_list(corpus: Path, tmp_path: Path) -> None:
    class Single(Changed):
        def forward(self, graphs: Sequence[Graph]) -> Any:
            return super().forward(graphs)[0]

    with pytest.raises(ConfigError, match=r"^Single: forward: expected a list with a dict for each of 1 graphs, got d"):
        train_here(corpus, tmp_path, hypernetwork=lambda: Single(lambda graph, parameters: None))


def test_an_error_in_one_kind_of_networks_is_found_before_the_training(corpus: Path, tmp_path: Path) -> None:
    """Attention occurs in a minority of the networks; at least one of them is checked."""

    def without_attention(graph: Graph, parameters: Parameters) -> None:
        for name in [name for name in parameters if "to_qkv" in name]:
            del parameters[name]

    with pytest.raises(ConfigError, match=r"missing: cells\..*to_qkv\.weight"):
        train_here(corpus, tmp_path, hypernetwork=lambda: Changed(without_attention))


def test_the_checked_networks_have_all_kinds_of_parameters(corpus: Path) -> None:
    nets = DrawnNetworks(DeepNets1M(corpus))

    def kinds(graphs: Sequence[Graph]) -> set[Any]:
        slots = [slot for graph in graphs for node in graph.parameters for slot in node]
        return {(slot.role, len(slot.shape), slot.shape[2:4]) for slot in slots}

    chosen = varied_networks(nets)
    assert len(chosen) < 40
    assert kinds(chosen) == kinds([nets[position, 0] for position in range(128)])


def test_the_check_changes_nothing(corpus: Path) -> None:
    """Neither buffers and random numbers, nor whether the hypernetwork is in training mode."""

    class Counting(Changed):
        def __init__(self) -> None:
            super().__init__(lambda graph, parameters: None)
            self.norm = nn.BatchNorm1d(4)

        def forward(self, graphs: Sequence[Graph]) -> Any:
            self.norm(torch.randn(8, 4))
            return super().forward(graphs)

    hypernetwork = Counting().train()
    before = {name: tensor.clone() for name, tensor in hypernetwork.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    check_hypernetwork(hypernetwork, [DeepNets1M(corpus)[0]])
    assert torch.equal(torch.randn(3), expected)
    assert hypernetwork.training
    assert hypernetwork.norm.training
    assert all(torch.equal(before[name], tensor) for name, tensor in hypernetwork.state_dict().items())


def test_constants_are_allowed(corpus: Path, tmp_path: Path) -> None:
    """Tensors that do not depend on weights, such as biases of 0, get no gradients."""

    def without_biases(graph: Graph, parameters: Parameters) -> None:
        for name, tensor in parameters.items():
            if tensor.dim() == 1:
                parameters[name] = torch.zeros(tensor.shape)

    for decay in (0.0, 1e-3):
        out = tmp_path / str(decay)
        changes = {"ema_decay": 0.0, "predicted_param_decay": decay, "schedule": Schedule("constant")}
        path = train_here(corpus, out, steps=2, hypernetwork=lambda: Changed(without_biases), **changes)
        assert float(tensors(path)["scale"]) != pytest.approx(0.1)


class Keeping(Changed):
    """Keeps what it has computed, as old hooks of PyTorch do, too."""

    def __init__(self) -> None:
        super().__init__(lambda graph, parameters: None)

    def forward(self, graphs: Sequence[Graph]) -> Any:
        self.last = 2 * self.scale
        return super().forward(graphs)


class KeepingPrepared(Keeping):
    def prepare(self, graphs: Sequence[Graph]) -> Any:
        return list(graphs)


@pytest.mark.parametrize("kind", [Keeping, KeepingPrepared])
def test_hypernetworks_may_keep_tensors(corpus: Path, tmp_path: Path, kind: type[Keeping]) -> None:
    """Tensors with a history cannot be copied."""
    path = train_here(corpus, tmp_path, steps=1, hypernetwork=kind)
    assert path.name == "hypernetwork.safetensors"
