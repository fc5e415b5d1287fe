"""Baselines fulfil the equations that define them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.evaluation import ImageInfo, PredictorContext, describe_predictor, open_networks, open_predictor
from benchmark.predictors import LSUVInit, MimeticInit, NearestCopy, OrthogonalInit, WeightSelection
from benchmark.predictors.weight_selection import select_elements
from deepnets import GENOTYPES, ConfigError, Graph, Network, NetworkConfig, build_graph, trace
from deepnets.data import load_images
from ghn_model.checkpoints import write_tensors

VIT = NetworkConfig(GENOTYPES["ViT"], 3, C=32, C_mult=1, preproc=False)
DARTS = NetworkConfig(GENOTYPES["DARTS"], 3, C=8)


def assert_complete(found: dict[str, Tensor], model: nn.Module, before: dict[str, Tensor]) -> None:
    """All parameters are there, with their shapes, and the network has not changed."""
    parameters = dict(model.named_parameters())
    assert {name: value.shape for name, value in found.items()} == {name: p.shape for name, p in parameters.items()}
    assert all(value.isfinite().all() and not value.requires_grad for value in found.values())
    assert all(torch.equal(before[name], parameter) for name, parameter in parameters.items())
    assert not any(found[name].data_ptr() == parameter.data_ptr() for name, parameter in parameters.items())


def predicted(predictor, config: NetworkConfig) -> tuple[Network, dict[str, Tensor], dict[str, Tensor]]:
    model = Network(config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    found = predictor(model, build_graph(config))
    assert_complete(found, model, before)
    return model, before, found


# --- orthogonal ---


def test_orthogonal_matrices() -> None:
    _, before, found = predicted(OrthogonalInit(gain=2.0), DARTS)
    matrices = [value.flatten(1) for name, value in found.items() if value.ndim > 1]
    for matrix in matrices:
        gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
        torch.testing.assert_close(gram, 4 * torch.eye(len(gram)), atol=1e-4, rtol=0)
    assert not found["classifier.0.bias"].any()
    norms = [name for name in found if ".bn." in name]
    assert all(torch.equal(found[name], before[name]) for name in norms)


def test_orthogonal_matrices_leave_positions_alone() -> None:
    _, before, found = predicted(OrthogonalInit(), VIT)
    assert torch.equal(found["pos_enc.weight"], before["pos_enc.weight"])


# --- mimetic ---


def products(found: dict[str, Tensor], prefix: str, heads: int) -> tuple[list[Tensor], Tensor]:
    """W_query W_key^T of each head, and W_value W_projection, from the transposed matrices of PyTorch."""
    query, key, value = found[f"{prefix}.to_qkv.weight"].chunk(3)
    projection = found[f"{prefix}.to_out.0.weight"]
    pairs = zip(query.chunk(heads), key.chunk(heads))
    return [q.T @ k for q, k in pairs], value.T @ projection.T


def test_mimetic_products_without_noise() -> None:
    _, _, found = predicted(MimeticInit(alpha_qk=0.0, alpha_vp=0.0), VIT)
    scores, mixing = products(found, "cells.0._ops.1", 8)
    torch.testing.assert_close(mixing, -0.4 * torch.eye(32), atol=1e-5, rtol=0)
    for product in scores:  # the identity, projected to the 4 dimensions of a head
        torch.testing.assert_close(product, product.T, atol=1e-5, rtol=0)
        values = torch.linalg.eigvalsh(product)
        torch.testing.assert_close(values[-4:], torch.full((4,), 0.7), atol=1e-5, rtol=0)
        torch.testing.assert_close(values[:-4], torch.zeros(28), atol=1e-5, rtol=0)


def test_mimetic_products_resemble_the_identity() -> None:
    torch.manual_seed(0)
    config = VIT.replace(C=64)
    _, before, found = predicted(MimeticInit(), config)
    scores, mixing = products(found, "cells.0._ops.1", 8)
    assert float(mixing.diagonal().mean()) == pytest.approx(-0.4, abs=0.05)
    noise = mixing - torch.diag(mixing.diagonal())
    assert float(noise.square().sum() / (64 * 63)) == pytest.approx(0.4**2 / 64, rel=0.15)
    assert all(float(product.trace()) > 0 for product in scores)
    assert torch.equal(found["classifier.0.weight"], before["classifier.0.weight"])
    untouched, _, same = predicted(MimeticInit(), DARTS)
    assert all(torch.equal(same[name], parameter) for name, parameter in untouched.named_parameters())


class Separate(nn.Module):
    """Attention with three matrices, whose output is added to its input."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.num_heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.fc = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.fc((x + self.o(mixed)).mean(1))


def test_mimetic_attention_with_three_matrices() -> None:
    model = Separate()
    found = MimeticInit(alpha_qk=0.0, alpha_vp=0.0)(model, trace(model, torch.zeros(1, 5, 16)))
    product = found["v.weight"].T @ found["o.weight"].T
    torch.testing.assert_close(product, -0.4 * torch.eye(16), atol=1e-5, rtol=0)
    scores = found["q.weight"][:8].T @ found["k.weight"][:8]
    assert float(scores.trace()) == pytest.approx(8 * 0.7, abs=1e-4)


def test_mimetic_attention_of_pytorch() -> None:
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    found = MimeticInit(alpha_vp=0.0)(model, trace(model, torch.zeros(1, 5, 16)))
    product = found["self_attn.in_proj_weight"][32:].T @ found["self_attn.out_proj.weight"].T
    torch.testing.assert_close(product, -0.4 * torch.eye(16), atol=1e-5, rtol=0)


def test_unknown_heads_keep_their_values() -> None:
    model = Separate()
    graph = trace(model, torch.zeros(1, 5, 16))
    del model.num_heads
    found = MimeticInit()(model, graph)
    assert all(torch.equal(found[name], parameter) for name, parameter in model.named_parameters())


# --- lsuv ---


def test_outputs_of_every_layer_have_unit_variance() -> None:
    images = load_images("digits", "train")
    predictor = LSUVInit.from_images(images)
    model, _, found = predicted(predictor, DARTS.replace(norm=None))
    batch = predictor._images
    variances = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, i, o, name=name: variances.__setitem__(name, float(o.var())))
    with torch.no_grad():
        functional_call(model, found, (batch,))
    assert len(variances) > 20
    assert all(value == pytest.approx(1.0, abs=1e-3) for value in variances.values())


def test_layers_without_signal_stay_finite() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x * 0) + self.a(x)

    model = Gated()
    found = LSUVInit(torch.randn(32, 4))(model, trace(model, torch.zeros(1, 4)))
    assert all(value.isfinite().all() for value in found.values())


# --- select ---


def test_elements_are_evenly_spaced() -> None:
    weight = torch.arange(6 * 9).reshape(6, 9)
    assert torch.equal(select_elements(weight, (3, 3)), weight[::2, ::3])
    assert torch.equal(select_elements(weight, (6, 9)), weight)
    assert select_elements(torch.arange(10), (4,)).tolist() == [0, 3, 6, 9]


def test_a_network_selects_from_a_wider_and_deeper_one() -> None:
    large = Network(DARTS.replace(C=16, n_cells=3))
    trained = {name: torch.full_like(value, i) for i, (name, value) in enumerate(large.named_parameters())}
    model, _, found = predicted(WeightSelection(trained), DARTS)
    for name in dict(model.named_parameters()):
        assert torch.equal(found[name], torch.full_like(found[name], list(trained).index(name))), name


def test_classes_must_agree() -> None:
    large = Network(DARTS.replace(C=16), num_classes=100)
    _, before, found = predicted(WeightSelection(large.state_dict()), DARTS)
    assert torch.equal(found["classifier.0.weight"], before["classifier.0.weight"])
    assert torch.equal(found["stem.0.weight"], large.state_dict()["stem.0.weight"][::2])


def test_other_names_are_matched_in_order() -> None:
    large, small = (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)),
    )
    trained = {f"body.{name}": tensor for name, tensor in large.state_dict().items()}
    found = WeightSelection(trained)(small, trace(small, torch.zeros(1, 3, 8, 8)))
    assert torch.equal(found["0.weight"], large[0].weight[::2])


# --- copy ---


def save(folder: Path, name: str, model: nn.Module) -> dict[str, Tensor]:
    folder.mkdir(exist_ok=True)
    state = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
    write_tensors(folder / f"{name}.safetensors", state, {})
    return state


class Named:
    name = "test"

    def name_of(self, index: int) -> str:
        return ""


def at(graph: Graph, index: int) -> Graph:
    return graph.replace(index=index)


def test_the_nearest_network_is_copied(tmp_path: Path) -> None:
    save(tmp_path / "states", "val-0", Network(DARTS.replace(C=16)))
    twin = save(tmp_path / "states", "val-1", Network(DARTS))
    predictor = NearestCopy(tmp_path / "states", Named())
    found = predictor(Network(DARTS), at(build_graph(DARTS), 0))
    assert all(torch.equal(found[name], twin[name]) for name in found)


def test_the_network_itself_is_not_copied(tmp_path: Path) -> None:
    save(tmp_path / "states", "test-4", Network(DARTS))
    other = save(tmp_path / "states", "test-5", Network(DARTS.replace(n_cells=4)))
    predictor = NearestCopy(tmp_path / "states", Named())
    found = predictor(Network(DARTS), at(build_graph(DARTS), 4))
    assert torch.equal(found["stem.0.weight"], other["stem.0.weight"])
    (tmp_path / "states" / "test-5.safetensors").unlink()
    with pytest.raises(ConfigError, match="has no trained network other than test-4"):
        NearestCopy(tmp_path / "states", Named())(Network(DARTS), at(build_graph(DARTS), 4))


def test_parameters_of_other_shapes_keep_their_values(tmp_path: Path) -> None:
    trained = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    save(tmp_path / "states", "a", trained)
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    before = model.state_dict()
    found = NearestCopy(tmp_path / "states")(model, trace(model, torch.zeros(1, 4)))
    assert torch.equal(found["1.weight"], trained[0].weight)
    assert torch.equal(found["3.weight"], before["3.weight"])


# --- by name ---


@pytest.fixture
def context() -> PredictorContext:
    networks = open_networks("predefined", data="data", num_classes=10, image_size=32)
    return PredictorContext(networks, ImageInfo("digits", 10, 32))  # no images, as in a run


def test_kinds_by_name(context: PredictorContext, tmp_path: Path) -> None:
    save(tmp_path / "states", "val-1", Network(DARTS))
    specs = ["orthogonal", "orthogonal:1.5", "mimetic", "lsuv"]
    specs += [f"select:{tmp_path}/states/val-1.safetensors", f"copy:{tmp_path}/states"]
    model, graph = Network(DARTS), build_graph(DARTS)
    infos = [describe_predictor(spec) for spec in specs]
    for info in infos:
        assert open_predictor(info, context)(model, graph).keys() == dict(model.named_parameters()).keys()
        assert info.about
    assert [info.label for info in infos] == [*specs[:4], "select-val-1", "copy-states"]
    assert all(info.digest for info in infos[4:])


WRONG = {
    "orthogonal:x": "expected a gain, as in orthogonal:1.4, got 'x'",
    "orthogonal:-1": "expected a gain above 0, got -1",
    "orthogonal:nan": "expected a gain above 0, got nan",
    "mimetic:2": "mimetic:2: expected mimetic, without an argument",
    "lsuv:2": "lsuv:2: expected lsuv, without an argument",
    "select": "expected select:FILE",
    "select:missing.pt": "no such file: 'missing.pt'",
    "copy": "expected copy:FOLDER",
    "copy:missing": "'missing' is not a folder",
}


@pytest.mark.parametrize("spec", WRONG)
def test_errors_come_before_the_evaluation(spec: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[spec]):
        describe_predictor(spec)


def test_a_folder_without_states(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no saved state"):
        describe_predictor(f"copy:{tmp_path}")


class Conv1D(nn.Module):
    """The linear layer of Transformers' GPT-2, whose weight has a row per input."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])


class GPT(Separate):
    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__(width, heads)
        del self.q, self.k, self.v, self.o
        self.c_attn, self.c_proj = Conv1D(3 * width, width), Conv1D(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.c_attn(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.fc((x + self.c_proj(mixed)).mean(1))


def test_mimetic_attention_of_gpt_2() -> None:
    model = GPT()
    found = MimeticInit(alpha_qk=0.0, alpha_vp=0.0)(model, trace(model, torch.zeros(1, 5, 16)))
    query, key, value = found["c_attn.weight"].chunk(3, 1)
    torch.testing.assert_close(value @ found["c_proj.weight"], -0.4 * torch.eye(16), atol=1e-5, rtol=0)
    scores = query[:, :8] @ key[:, :8].T
    assert float(scores.trace()) == pytest.approx(8 * 0.7, abs=1e-4)


def test_states_of_unfinished_trainings_are_not_copied(tmp_path: Path) -> None:
    other = save(tmp_path / "states", "test-5", Network(DARTS))
    save(tmp_path / "states", "test-4.state", Network(DARTS))
    found = NearestCopy(tmp_path / "states", Named())(Network(DARTS), at(build_graph(DARTS), 4))
    assert torch.equal(found["stem.0.weight"], other["stem.0.weight"])
    (tmp_path / "states" / "test-5.safetensors").unlink()
    with pytest.raises(ConfigError, match="the folder has no saved state"):
        describe_predictor(str(tmp_path / "states"))
