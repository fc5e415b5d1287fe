"""Predictions of LoGAH: against an independent implementation, and against those of the original code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepnets import GENOTYPES, NODE_TYPES, Graph, NetworkConfig, build_graph, trace
from ghn_model import GHN, GHNConfig
from tests.ghn_model.test_exactness import Odd, assert_close
from tests.oracles.naive_logah import list_logah_shapes, naive_logah_predict, original_state, random_logah_state
from tests.support.logah_predictions import config_of, error_of, hypernetworks, network, text_models, vision_transformer

SMALL: dict[str, Any] = {
    "hypernet": "graphormer",
    "decoder": "lowrank",
    "window": "centre",
    "hidden": 16,
    "layers": 2,
    "heads": 4,
    "rank": 6,  # does not divide the number of rows
    "factor_rows": 4608,
    "max_shape": (32, 32, 16, 16),
    "num_classes": 100,
    "vector_decoder": False,
}
TEXT: dict[str, Any] = {"node_types": "language", "channel_sizes": (32000, 50257, 128256), "virtual_edges": 250}
VARIANTS: dict[str, dict[str, Any]] = {
    "images": {},
    "without normalization": {"weight_norm": False},
    "fan_out": {"normalization": "fan_out"},
    "decoder of vectors": {"vector_decoder": True},
    "more channels": {"max_shape": (100, 100, 16, 16), "rank": 5, "factor_rows": 40000},
    "text": {**TEXT, "normalization": "std", "initializer_range": 0.1},
    "text of the paper": {"channel_sizes": (50257,), "normalization": "fan_in_residual"},
}
LIMIT = 1e-4
"""Largest relative difference to the stored predictions of the original."""


def made(**changes: Any) -> GHN:
    config = GHNConfig(**{**SMALL, **changes})
    ghn = GHN(config)
    ghn.load_state_dict(
        random_logah_state(
            seed=3,
            hidden=config.hidden,
            layers=config.layers,
            heads=config.heads,
            rank=config.rank,
            factor_rows=config.factor_rows,
            num_classes=config.num_classes,
            vector_decoder=config.vector_decoder,
            types=18 if config.node_types == "language" else 15,
            further_sizes=len(config.channel_sizes),
        )
    )
    return ghn.eval()


def expected(ghn: GHN, graphs: list[Graph]) -> list[dict[str, Tensor]]:
    config = ghn.config
    names = ("virtual_edges", "layernorm", "weight_norm", "heads", "num_classes", "max_shape", "rank", "factor_rows")
    names += ("vector_decoder", "normalization", "initializer_range", "node_types", "channel_sizes")  # type: ignore[assignment]
    state = {name: tensor.double() for name, tensor in ghn.state_dict(keep_vars=True).items()}
    return naive_logah_predict(state, graphs, **{name: getattr(config, name) for name in names})


@cache
def traced(name: str) -> Graph:
    """Return the graph of a small network."""
    if name == "DARTS":
        return build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=3, C=20), 100, 32)
    if name == "odd":
        return trace(Odd(), torch.empty(1, 3, 2, 8, 8))
    if name == "ViT":
        return trace(vision_transformer(p=4, l=2, h=2, d=36), torch.empty(1, 3, 32, 32), vocabulary="logah")
    transformers = text_models()
    words = {"input_ids": torch.zeros(1, 8, dtype=torch.int64)}
    if name == "GPT-2":
        config = transformers.GPT2Config(
            n_layer=2, n_embd=24, n_head=2, vocab_size=9000, n_positions=50, tie_word_embeddings=False
        )
        with torch.device("meta"):
            model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            num_hidden_layers=2,
            hidden_size=24,
            intermediate_size=80,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=60000,
            tie_word_embeddings=name == "Llama, tied",
        )
        with torch.device("meta"):
            model = transformers.LlamaForCausalLM(config)
    return trace(model, words, vocabulary="logah")


CASES = [
    *((variant, name) for variant in VARIANTS for name in ("DARTS", "odd")),
    *((variant, "ViT") for variant in ("images", "decoder of vectors", "more channels")),
    *((variant, "GPT-2") for variant in ("text", "text of the paper", "fan_out")),
    *((variant, name) for variant in ("text", "text of the paper") for name in ("Llama", "Llama, tied")),
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("variant", "name"), CASES)
def test_every_tensor(variant: str, name: str) -> None:
    ghn, graph = made(**VARIANTS[variant]), traced(name)
    assert graph.unused == () or name == "ViT"
    with torch.no_grad():
        (reference,) = expected(ghn, [graph])
    assert_close(ghn.predict(nn.Identity(), graph=graph), reference)
    (with_gradients,) = ghn(graph)
    assert_close({key: tensor.detach() for key, tensor in with_gradients.items()}, reference)


def test_batches_of_graphs() -> None:
    ghn, graphs = made(), [traced(name) for name in ("ViT", "DARTS", "odd", "ViT")]
    with torch.no_grad():
        references = expected(ghn, graphs)
    for result, reference in zip(ghn.predict([nn.Identity()] * 4, graph=graphs), references):
        assert_close(result, reference)
    for result, reference in zip(ghn(graphs), references):
        assert_close({name: tensor.detach() for name, tensor in result.items()}, reference)


@pytest.mark.parametrize("variant", ["images", "text", "decoder of vectors"])
def test_gradients(variant: str) -> None:
    """Gradients of the sum of squares of all predicted tensors, for every weight that is used."""
    changes = {
        **VARIANTS[variant],
        "max_shape": (12, 12, 16, 16),
        "factor_rows": 120,
        "hidden": 8,
        "heads": 2,
        "rank": 3,
    }
    ghn = made(**changes).double()
    graphs = [build_graph(NetworkConfig(GENOTYPES["DARTS"], n_cells=2, C=8), 100, 32)]

    def gradients(results: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        ghn.zero_grad()
        sum(tensor.square().sum() for result in results for tensor in result.values()).backward()  # type: ignore[union-attr]
        return {name: parameter.grad for name, parameter in ghn.named_parameters() if parameter.requires_grad}  # type: ignore[misc]

    reference, result = gradients(expected(ghn, graphs)), gradients(ghn(graphs))
    for name, gradient in reference.items():
        assert torch.allclose(result[name], gradient, rtol=1e-6, atol=1e-9), name


def test_networks_of_any_dtype_and_layout_are_initialized() -> None:
    ghn = made()
    model = nn.Sequential(nn.Conv2d(3, 80, 1), nn.Conv2d(80, 90, 3), nn.Flatten(), nn.Linear(360, 50))
    image = torch.zeros(1, 3, 4, 4)
    predicted = ghn.predict(model, image)
    for changed in (model.half(), model.double(), model.float().to(memory_format=torch.channels_last)):
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.fill_(float("nan"))
        graph = trace(model.float(), image) if changed is not model else None
        ghn.initialize(changed, image.to(next(changed.parameters()).dtype), graph=graph)
        for name, parameter in changed.named_parameters():
            assert torch.allclose(parameter.float(), predicted[name], rtol=1e-3, atol=1e-4), name


def test_class_layers_can_be_left_out() -> None:
    ghn, graph = made(), traced("ViT")
    some, every = ghn([graph], predict_class_layers=False)[0], ghn(graph)[0]
    assert every.keys() - some.keys() == {"heads.head.weight", "heads.head.bias"}
    assert all(torch.equal(tensor, every[name]) for name, tensor in some.items())


def test_kernels_that_are_larger_than_the_factors() -> None:
    """The original code cannot predict them; here, fewer channels are decoded and repeated."""
    ghn = made(max_shape=(32, 32, 16, 16), factor_rows=64)
    model = nn.Sequential(nn.Conv2d(3, 40, 7), nn.Conv1d(40, 40, 9), nn.Conv2d(3, 3, 11))
    for layer, image in zip(model, (torch.zeros(1, 3, 9, 9), torch.zeros(1, 40, 9), torch.zeros(1, 3, 11, 11))):
        predicted = ghn.predict(layer, image)
        assert predicted["weight"].shape == layer.weight.shape  # type: ignore[union-attr]
        assert all(tensor.isfinite().all() for tensor in predicted.values())
        assert predicted.report()["block"].map(len).min() > 0


def test_report() -> None:
    table = made().predict(nn.Identity(), graph=traced("ViT")).report().set_index("parameter")
    assert table["source"]["heads.head.weight"] == "tiled map"
    assert table["block"]["heads.head.weight"] == (32, 32)
    assert table["source"]["encoder.ln.weight"] == "tiled vector"
    assert table["block"]["encoder.ln.weight"] == (32,)  # 36 elements: at most 32, and those of a kernel are not cut
    assert table["block"]["conv_proj.weight"] == (32, 3, 4, 4)


# --- predictions of the original --------------------------------------------------------------------------------------

STORED = [
    *(("logah_t_c100", f"vit:{args}") for args in ("{}", '{"l": 2, "d": 384, "h": 6}', '{"l": 1, "d": 768, "h": 12}')),
    ("logah_t_c100", 'vit:{"l": 1, "d": 192, "h": 3, "p": 4}'),
    *(("logah_t_c100", f"tv:{name}") for name in ("resnet18", "mobilenet_v2", "vgg11_bn")),
    ("logah_t_gpt", 'gpt2:{"n_embd": 72, "n_layer": 2, "n_head": 8}'),
    ("logah_t_gpt", 'gpt2:{"n_embd": 176, "n_layer": 1, "n_head": 8}'),
    ("logah_t_gpt", 'gpt2:{"n_embd": 768, "n_layer": 1, "n_head": 12, "vocab_size": 5000}'),
]


def stored_hypernetwork(name: str, folder: Path) -> GHN:
    """Return a stored hypernetwork, loaded from a file as the original code writes it."""
    entry = hypernetworks()[name]
    state = original_state({key: tuple(shape) for key, shape in entry["keys"]}, entry["seed"])
    state |= {second: state[first] for second, first in entry["alias"].items()}
    config = {**entry["config"], "max_shape": tuple(entry["config"]["max_shape"])}
    torch.save({"state_dict": state, "config": config, "epoch": 0, "step": 0, "ema_state_dict": None}, folder / "x.pt")
    ghn = GHN.from_pretrained(folder / "x.pt")
    assert ghn.config == config_of(entry).replace(vocabulary="logah")
    assert sum(parameter.numel() for parameter in ghn.parameters()) == entry["parameters"]
    return ghn


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("hypernetwork", "name"), STORED)
def test_the_predictions_of_the_original(hypernetwork: str, name: str, tmp_path: Path) -> None:
    entry = hypernetworks()[hypernetwork]["models"][name]
    ghn = stored_hypernetwork(hypernetwork, tmp_path)
    assert ghn.config.virtual_edges == entry["cutoff"]
    model, example = network(name, entry)
    predicted = ghn.predict(model, example)
    assert set(predicted) == entry["params"].keys() - {"class_token"}
    for key, tensor in predicted.items():
        assert error_of(tensor, entry["params"][key]) <= LIMIT, key


def test_all_stored_predictions_are_tested() -> None:
    assert {(name, model) for name, entry in hypernetworks().items() for model in entry["models"]} == set(STORED)


@pytest.mark.parametrize(("hypernetwork", "name"), STORED)
def test_the_graphs_of_the_original(hypernetwork: str, name: str) -> None:
    """Equal up to the order of branches."""
    entry = hypernetworks()[hypernetwork]["models"][name]
    stored = entry["graph"]
    graph = trace(*network(name, entry), vocabulary="logah")
    assert graph.num_nodes == entry["nodes"]
    assert int(graph.distances(entry["cutoff"]).max()) == stored["max_distance"]

    def labels(types: list[str], names: list[str], edges: list[list[int]]) -> list[str]:
        """Describe every node by its type, its parameter, and those of the nodes around it."""
        own = [f"{kind} {name}" for kind, name in zip(types, names)]
        into: list[list[str]] = [[] for _ in own]
        out: list[list[str]] = [[] for _ in own]
        for source, target in edges:
            into[target].append(own[source])
            out[source].append(own[target])
        return sorted(f"{a} <- {sorted(b)} -> {sorted(c)}" for a, b, c in zip(own, into, out))

    parameters = set(entry["params"])
    names = [name if name in parameters else "" for name in stored["names"]]
    ours = [slots[0].name if slots else "" for slots in graph.parameters]
    types = [NODE_TYPES[kind] for kind in graph.node_types]
    assert labels(types, ours, graph.edges.tolist()) == labels(stored["types"], names, stored["edges"])
    if not name.startswith("tv:resnet"):
        assert (types, sorted(graph.edges.tolist())) == (stored["types"], sorted(stored["edges"]))


def test_weights_of_the_stored_predictions() -> None:
    """The state dict has the published order, on which the random weights depend."""
    for entry in hypernetworks().values():
        types, further = dict(map(tuple, entry["keys"]))["embed.weight"][0], 3 if entry["class"] != "GHN3" else 0
        shapes = list_logah_shapes(
            hidden=64,
            layers=3,
            heads=8,
            rank=32,
            factor_rows=32768,
            num_classes=entry["config"].get("num_classes", 10),
            types=types,
            further_sizes=further,
        )
        assert [[name, list(shape)] for name, shape in shapes.items()] == entry["keys"]
