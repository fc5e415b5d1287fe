"""`trace` on tiny models of Hugging Face's transformers, built from configurations."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn

from deepnets import NODE_TYPES, trace
from deepnets.support import import_torchvision
from tests.oracles.autograd_ancestry import ancestry_differences

transformers = pytest.importorskip("transformers")
with contextlib.suppress(ImportError):
    import_torchvision()  # transformers imports it, too, and does not know how to without a GPU

WORDS, LENGTH = 40, 7
TEXT = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = {**TEXT, "intermediate_size": 32, "max_position_embeddings": 32}
LLAMA = {**BERT, "num_key_value_heads": 1}
VISION = {**TEXT, "intermediate_size": 32, "image_size": 32, "patch_size": 8}
del VISION["vocab_size"]
BART = {
    "vocab_size": WORDS,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "max_position_embeddings": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5 = {"vocab_size": WORDS, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
CLIP = {"text_config": {**BERT, "projection_dim": 8}, "vision_config": {**VISION, "projection_dim": 8}}

# By the name of a model: its configuration and what is special in it.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "BertForSequenceClassification": ("BertConfig", BERT),
    "RobertaForMaskedLM": ("RobertaConfig", BERT),  # tied output, positions computed from the words
    "ElectraForTokenClassification": ("ElectraConfig", {**BERT, "embedding_size": 8}),
    "AlbertForSequenceClassification": ("AlbertConfig", {**BERT, "embedding_size": 8}),  # one layer, used twice
    "DistilBertForSequenceClassification": (
        "DistilBertConfig",
        {"vocab_size": WORDS, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 32},
    ),
    "GPT2LMHeadModel": (
        "GPT2Config",
        {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    ),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", BERT),  # attention beside the feed-forward network
    "OPTForCausalLM": (
        "OPTConfig",
        {**TEXT, "ffn_dim": 32, "max_position_embeddings": 32, "word_embed_proj_dim": 16},
    ),
    "BloomForCausalLM": ("BloomConfig", {"vocab_size": WORDS, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "LlamaForCausalLM": ("LlamaConfig", LLAMA),
    "MistralForCausalLM": ("MistralConfig", LLAMA),
    "Qwen3ForCausalLM": ("Qwen3Config", {**LLAMA, "head_dim": 8}),  # norms of queries and keys
    "GemmaForCausalLM": ("GemmaConfig", {**LLAMA, "head_dim": 8}),
    "ViTForImageClassification": ("ViTConfig", VISION),
    "DeiTForImageClassification": ("DeiTConfig", VISION),
    "Dinov2ForImageClassification": ("Dinov2Config", VISION),
    "BeitForImageClassification": ("BeitConfig", {**VISION, "use_relative_position_bias": True}),
    "SwinForImageClassification": ("SwinConfig", SWIN),
    "Swinv2ForImageClassification": ("Swinv2Config", SWIN),
    "BartForConditionalGeneration": ("BartConfig", BART),
    "T5ForConditionalGeneration": ("T5Config", T5),  # the table of the first layer serves all
    "MixtralForCausalLM": ("MixtralConfig", {**LLAMA, "num_local_experts": 3}),
    "MambaForCausalLM": ("MambaConfig", {**TEXT, "state_size": 4}),
    "DebertaV2ForSequenceClassification": (
        "DebertaV2Config",
        {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    ),
    "CLIPModel": ("CLIPConfig", {**CLIP, "projection_dim": 8}),
}


def make(name: str) -> nn.Module:
    config, options = MODELS[name]
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, name)(getattr(transformers, config)(**options))
    return model.eval()


def inputs_of(model: nn.Module) -> dict[str, torch.Tensor]:
    words = torch.randint(3, WORDS, (2, LENGTH))
    if isinstance(model, transformers.CLIPModel):
        return {"input_ids": words, "pixel_values": torch.randn(2, 3, 32, 32)}
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.randn(2, 3, 32, 32)}
    if model.config.is_encoder_decoder:
        return {"input_ids": words, "decoder_input_ids": words.flip(1)}
    return {"input_ids": words}


@pytest.mark.parametrize("name", MODELS)
def test_ancestry(name: str) -> None:
    model = make(name)
    inputs = inputs_of(model)
    graph = trace(model, inputs)
    assert ancestry_differences(graph, model, inputs) == []
    assert all(slot.name.endswith("mask_token") for slot in graph.unused)
    attentions = {"BartForConditionalGeneration": 6, "T5ForConditionalGeneration": 6, "MambaForCausalLM": 0}
    attentions |= dict.fromkeys(("SwinForImageClassification", "Swinv2ForImageClassification", "CLIPModel"), 4)
    assert [NODE_TYPES[kind] for kind in graph.node_types].count("msa") == attentions.get(name, 2)


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "ViTForImageClassification", "LlamaForCausalLM"])
def test_default_input(name: str) -> None:
    model = make(name)
    assert trace(model) == trace(model, inputs_of(model))
