"""The vocabulary "logah": the graphs of GHN-3 for images, and those of language models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepnets import NODE_TYPES, Graph, trace
from tests.support.logah_predictions import text_models, vision_transformer


def kinds(graph: Graph) -> list[str]:
    return [NODE_TYPES[kind] for kind in graph.node_types]


def names(graph: Graph) -> list[str]:
    return [slots[0].name if slots else "" for slots in graph.parameters]


def language_model(name: str, **options: Any) -> nn.Module:
    """Return a GPT-2 or a Llama on the device `meta`."""
    transformers = text_models()
    sizes: dict[str, Any] = {"vocab_size": 60, "tie_word_embeddings": False, "attn_implementation": "eager"}
    if name == "GPT2":
        config = transformers.GPT2Config(**{**sizes, "n_embd": 16, "n_head": 2, "n_positions": 20, **options})
    else:
        sizes |= {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
        config = transformers.LlamaConfig(**{**sizes, **options})
    with torch.device("meta"):
        model: nn.Module = getattr(transformers, f"{name}LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")(
            config
        )
    return model


def traced(model: nn.Module, vocabulary: str = "logah") -> Graph:
    return trace(model, {"input_ids": torch.zeros(1, 8, dtype=torch.int64)}, vocabulary=vocabulary)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_gpt2(blocks: int) -> None:
    graph = traced(language_model("GPT2", n_layer=blocks))
    assert (graph.num_nodes, graph.num_edges) == (13 * blocks + 6, 15 * blocks + 6)
    assert kinds(graph)[:5] == ["input", "pos_enc", "pos_enc", "conv", "sum"]
    assert names(graph)[:4] == ["", "transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"]
    block = ["ln", "conv", "bias", "msa", "conv", "bias", "sum", "ln", "conv", "bias", "conv", "bias", "sum"]
    assert kinds(graph)[5:] == [*blocks * block, "ln"]
    assert graph.edges.tolist()[:5] == [[0, 1], [0, 2], [0, 3], [1, 4], [2, 4]]
    assert not any(source == 3 for source, _ in graph.edges.tolist())  # nothing reads the output matrix
    assert names(graph)[-1] == "transformer.ln_f.weight"
    assert graph.unused == ()
    assert not any(slot.role.startswith("class_") for slots in graph.parameters for slot in slots)
    assert 2 * blocks + 9 == int(graph.distances(250).max())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("tied", [False, True])
def test_llama(blocks: int, tied: bool, attention: str) -> None:
    options = {"num_hidden_layers": blocks, "tie_word_embeddings": tied, "attn_implementation": attention}
    graph = traced(language_model("Llama", **options))
    nodes, edges = (3, 2) if tied else (4, 3)
    assert (graph.num_nodes, graph.num_edges) == (15 * blocks + nodes, 20 * blocks + edges)
    first = ["rms", "conv", "conv", "conv", "rot", "rot", "msa", "conv", "sum"]
    block = [*first, "rms", "conv", "conv", "mul", "conv", "sum"]
    ends = ["rms"] if tied else ["rms", "conv"]
    assert kinds(graph) == ["input", "conv" if tied else "pos_enc", *blocks * block, *ends]
    assert graph.unused == ()
    roles = {slot.name: slot.role for slots in graph.parameters for slot in slots}
    assert roles["model.embed_tokens.weight"] == ("weight" if tied else "embed")
    assert roles["model.norm.weight"] == "norm_weight"
    own = [[source - 1, target - 1] for source, target in graph.edges.tolist() if 1 < target <= 16]
    assert own == [
        *([0, 1], [1, 2], [1, 3], [1, 4], [2, 5], [3, 6], [4, 7], [5, 7], [6, 7], [7, 8], [0, 9], [8, 9], [9, 10]),
        *([10, 11], [10, 12], [11, 13], [12, 13], [13, 14], [9, 15], [14, 15]),
    ]


def test_a_matrix_that_is_tied_in_a_gpt2() -> None:
    graph = traced(language_model("GPT2", n_layer=1, tie_word_embeddings=True))
    assert kinds(graph)[:4] == ["input", "conv", "pos_enc", "sum"]
    assert graph.parameters[1][0][::2] == ("transformer.wte.weight", "weight")
    assert graph.unused == ()


def test_other_vocabularies_have_no_such_nodes() -> None:
    model = language_model("Llama", num_hidden_layers=1)
    complete, ghn3 = traced(model, "complete"), traced(model, "ghn3")
    assert not {"rot", "rms"} & set(kinds(complete))
    assert complete.unused == ()
    assert not {"rot", "rms", "mul", "scale"} & set(kinds(ghn3))
    assert "cse" in kinds(ghn3)


def test_images_have_the_graphs_of_ghn3() -> None:
    model, image = vision_transformer(l=1), torch.empty(1, 3, 32, 32)
    for blocks in (1, 2, 3):
        model = vision_transformer(l=blocks)
        graph, reference = (trace(model, image, vocabulary=name) for name in ("logah", "ghn3"))
        assert (graph.num_nodes, graph.num_edges) == (13 * blocks + 8, 15 * blocks + 7)
        assert kinds(graph) == kinds(reference)
        assert graph.edges.tolist() == reference.edges.tolist()
        assert [slot.name for slot in graph.unused] == ["class_token"]
        assert graph.parameters[-1][0].role == "class_bias"


class Negations(nn.Module):
    """Negations that are not part of a rotary position encoding, and one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(-x)
        y = -self.second(x)
        left, right = x.chunk(2, dim=-1)
        turned = x * 0.5 + torch.cat([-right, left], dim=-1) * 0.3
        return turned + (-y)


def test_negations() -> None:
    graph = trace(Negations(), torch.zeros(2, 8), vocabulary="logah")
    assert kinds(graph) == ["input", "conv", "conv", "rot", "sum"]
    assert graph.edges.tolist() == [[0, 1], [1, 2], [1, 3], [2, 4], [3, 4]]
    for vocabulary in ("complete", "ghn3"):
        assert kinds(trace(Negations(), torch.zeros(2, 8), vocabulary=vocabulary)) == ["input", "conv", "conv", "sum"]
