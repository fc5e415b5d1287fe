"""Families of networks from packages that people use, small and with random weights, for checks of `trace`."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deepnets.support import import_torchvision

__all__ = ["FAMILIES", "Family", "families_of"]


class Family(NamedTuple):
    """A network: the package that it needs, and how to build it and its input."""

    package: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], Any]


def imported(package: str) -> Any:
    """Return a package; transformers and others import torchvision, which needs help without a GPU."""
    with contextlib.suppress(ImportError):
        import_torchvision()
    return importlib.import_module(package)


# --- transformers: one tiny configuration for all; a model takes the settings that it knows ---

SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "src_vocab_size", "tgt_vocab_size"), 40),
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "word_embed_proj_dim"), 16
    ),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_decoder_layers", "num_encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("intermediate_size", "d_ff", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim"), 32),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("d_kv", "head_dim"), 8),
    **dict.fromkeys(("pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id"), 1),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    "image_size": 32,
    "patch_size": 8,
    "state_size": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "attention_type": "original_full",  # of BigBird
    "rotary_dim": 4,
}
TEXT = (
    *("Albert:SequenceClassification", "Bert:SequenceClassification", "BigBird:MaskedLM", "Bloom:CausalLM"),
    *("Camembert:MaskedLM", "CodeGen:CausalLM", "Cohere:CausalLM", "ConvBert:MaskedLM", "CTRL:LMHeadModel"),
    *("Data2VecText:MaskedLM", "DebertaV2:MaskedLM", "DistilBert:MaskedLM", "Electra:MaskedLM", "Ernie:MaskedLM"),
    *("Falcon:CausalLM", "FNet:MaskedLM", "Gemma:CausalLM", "Gemma2:CausalLM", "Glm:CausalLM", "GPT2:LMHeadModel"),
    *("GPTBigCode:CausalLM", "GPTNeoX:CausalLM", "GPTJ:CausalLM", "Granite:CausalLM", "Llama:CausalLM"),
    *("Mamba:CausalLM", "MegatronBert:MaskedLM", "Mistral:CausalLM", "Mixtral:CausalLM", "MobileBert:MaskedLM"),
    *("MPNet:MaskedLM", "Mpt:CausalLM", "Olmo:CausalLM", "Olmo2:CausalLM", "OPT:CausalLM", "Persimmon:CausalLM"),
    *("Phi:CausalLM", "Phi3:CausalLM", "Qwen2:CausalLM", "Qwen3:CausalLM", "RemBert:MaskedLM", "Roberta:MaskedLM"),
    *("RoFormer:MaskedLM", "StableLm:CausalLM", "Starcoder2:CausalLM", "XLMRoberta:MaskedLM"),
)
SEQUENCES = (
    *("Bart:ConditionalGeneration", "BlenderbotSmall:ConditionalGeneration", "M2M100:ConditionalGeneration"),
    *("Marian:MTModel", "MBart:ConditionalGeneration", "MT5:ConditionalGeneration", "Pegasus:ConditionalGeneration"),
    *("T5:ConditionalGeneration", "UMT5:ConditionalGeneration"),
)
IMAGES = ("Beit", "ConvNext", "DeiT", "Dinov2", "ViT", "ViTMSN", "PoolFormer", "RegNet", "ResNet")


LARGER = {**dict.fromkeys(("ConvNext", "PoolFormer"), (64, 64)), "PAN": (128, 128)}
"""Sizes of the images of models that cannot take small ones."""


def transformer(name: str, ending: str, **more: Any) -> nn.Module:
    """Build a model of transformers whose configuration has the values of `SETTINGS` that it knows."""
    package = imported("transformers")
    kind = getattr(package, f"{name}Config")
    known = kind().to_dict()
    chosen = {key: value for key, value in {**SETTINGS, **more}.items() if key in known or key in more}
    model: nn.Module = getattr(package, f"{name}{ending}")(kind(**chosen))
    return model.eval()


def words() -> Tensor:
    return torch.randint(3, 40, (2, 7))


# --- other packages ---


def diffuser(name: str, **options: Any) -> nn.Module:
    model: nn.Module = getattr(imported("diffusers"), name)(**options)
    return model.eval()


UNET = {"sample_size": 16, "block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
STEP = torch.tensor([3, 7])


def latent(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 16, 16)


def segmenter(name: str) -> nn.Module:
    package = imported("segmentation_models_pytorch")
    model: nn.Module = getattr(package, name)("resnet18", encoder_weights=None, in_channels=3, classes=2)
    return model.eval()


class Stack(nn.Module):
    """Two layers of PyTorch Geometric."""

    def __init__(self, name: str, *options: int) -> None:
        super().__init__()
        layers = imported("torch_geometric.nn")
        if name == "GINConv":
            self.a, self.b = (
                layers.GINConv(nn.Sequential(nn.Linear(i, 8), nn.ReLU(), nn.Linear(8, 8))) for i in (4, 8)
            )
        else:
            self.a, self.b = (getattr(layers, name)(i, 8, *options) for i in (4, 8))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        result: Tensor = self.b(self.a(x, edges).relu(), edges)
        return result


def graph_input() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 4), torch.tensor([[0, 1, 2, 3, 5], [1, 2, 3, 4, 0]])


def vision(path: str, **options: Any) -> nn.Module:
    """Build a model of torchvision, such as `segmentation.fcn_resnet50`."""
    module, _, name = path.rpartition(".")
    models = importlib.import_module(f"torchvision.models.{module}") if imported("torchvision") else None
    model: nn.Module = getattr(models, name)(**options)
    return model.eval()


def timm_model(name: str, **options: Any) -> nn.Module:
    model: nn.Module = imported("timm").create_model(name, num_classes=3, **options)
    return model.eval()


LAYERS = ("ARMAConv", "ChebConv:2", "ClusterGCNConv", "GATConv", "GATv2Conv", "GCNConv", "GENConv", "GINConv")
LAYERS += ("GraphConv", "LEConv", "MFConv", "SAGEConv", "SGConv", "SuperGATConv", "TAGConv", "TransformerConv")
TIMM: dict[str, dict[str, Any]] = {  # the options of each model
    **{name: {} for name in ("mobilenetv3_small_050", "edgenext_xx_small", "convnext_atto")},
    "levit_128s": {"img_size": 64},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 2, "embed_dim": 24},
}
NO_WEIGHTS = {"weights": None, "weights_backbone": None}

FAMILIES: dict[str, Family] = {}
for each in TEXT:
    first, ending = each.split(":")
    FAMILIES[f"{first}{'' if ending == 'LMHeadModel' else 'For'}{ending}"] = Family(
        "transformers",
        lambda n=first, e=ending: transformer(n, e if e == "LMHeadModel" else f"For{e}"),  # type: ignore[misc]
        lambda: {"input_ids": words()},
    )
for each in SEQUENCES:
    first, ending = each.split(":")
    FAMILIES[f"{first}{'' if ending == 'MTModel' else 'For'}{ending}"] = Family(
        "transformers",
        lambda n=first, e=ending: transformer(n, e if e == "MTModel" else f"For{e}"),  # type: ignore[misc]
        lambda: {"input_ids": words(), "decoder_input_ids": words()},
    )
for each in IMAGES:
    FAMILIES[f"{each}ForImageClassification"] = Family(
        "transformers",
        lambda n=each: transformer(n, "ForImageClassification"),  # type: ignore[misc]
        lambda n=each: {"pixel_values": torch.randn(2, 3, *LARGER.get(n, (32, 32)))},  # type: ignore[misc]
    )
for each in LAYERS:
    first, _, ending = each.partition(":")
    FAMILIES[first] = Family(
        "torch_geometric",
        lambda n=first, o=ending: Stack(n, *([int(o)] if o else [])),  # type: ignore[misc]
        graph_input,
    )
for each in (
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "PAN",
    "DeepLabV3",
    "DeepLabV3Plus",
    "UPerNet",
):
    FAMILIES[each] = Family(
        "segmentation_models_pytorch",
        lambda n=each: segmenter(n),  # type: ignore[misc]
        lambda n=each: torch.randn(2, 3, *LARGER.get(n, (64, 64))),  # type: ignore[misc]
    )
for each in TIMM:
    FAMILIES[each] = Family(
        "timm",
        lambda n=each: timm_model(n, **TIMM[n]),  # type: ignore[misc]
        lambda: torch.randn(2, 3, 64, 64),
    )
FAMILIES |= {
    "UNet2DModel": Family(
        "diffusers",
        lambda: diffuser(
            "UNet2DModel",
            **UNET,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
        ),
        lambda: (latent(), STEP),
    ),
    "UNet2DConditionModel": Family(
        "diffusers",
        lambda: diffuser(
            "UNet2DConditionModel",
            **UNET,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
        ),
        lambda: (latent(4), STEP, torch.randn(2, 5, 8)),
    ),
    "AutoencoderKL": Family(
        "diffusers",
        lambda: diffuser(
            "AutoencoderKL",
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        ),
        lambda: latent(),
    ),
    "DiTTransformer2DModel": Family(
        "diffusers",
        lambda: diffuser(
            "DiTTransformer2DModel",
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            num_layers=2,
            sample_size=16,
            norm_num_groups=4,
        ),
        lambda: (latent(4), STEP, torch.tensor([1, 2])),
    ),
    "SD3Transformer2DModel": Family(
        "diffusers",
        lambda: diffuser(
            "SD3Transformer2DModel",
            sample_size=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pooled_projection_dim=8,
            in_channels=4,
            out_channels=4,
        ),
        lambda: {
            "hidden_states": latent(4),
            "timestep": STEP,
            "encoder_hidden_states": torch.randn(2, 5, 16),
            "pooled_projections": torch.randn(2, 8),
        },
    ),
    "fcn_resnet50": Family(
        "torchvision",
        lambda: vision("segmentation.fcn_resnet50", **NO_WEIGHTS, num_classes=3),
        lambda: torch.randn(2, 3, 64, 64),
    ),
    "deeplabv3_mobilenet_v3_large": Family(
        "torchvision",
        lambda: vision("segmentation.deeplabv3_mobilenet_v3_large", **NO_WEIGHTS, num_classes=3),
        lambda: torch.randn(2, 3, 64, 64),
    ),
    "lraspp_mobilenet_v3_large": Family(
        "torchvision",
        lambda: vision("segmentation.lraspp_mobilenet_v3_large", **NO_WEIGHTS, num_classes=3),
        lambda: torch.randn(2, 3, 64, 64),
    ),
    "r3d_18": Family(
        "torchvision", lambda: vision("video.r3d_18", num_classes=3), lambda: torch.randn(1, 3, 4, 32, 32)
    ),
    "s3d": Family("torchvision", lambda: vision("video.s3d", num_classes=3), lambda: torch.randn(1, 3, 16, 224, 224)),
    "raft_small": Family(
        "torchvision",
        lambda: vision("optical_flow.raft_small"),
        lambda: (torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128), 2),
    ),
    "retinanet_resnet50_fpn": Family(
        "torchvision",
        lambda: vision("detection.retinanet_resnet50_fpn", **NO_WEIGHTS, num_classes=3, min_size=64, max_size=64),
        lambda: ([torch.rand(3, 64, 64)],),
    ),
    "fcos_resnet50_fpn": Family(
        "torchvision",
        lambda: vision("detection.fcos_resnet50_fpn", **NO_WEIGHTS, num_classes=3, min_size=64, max_size=64),
        lambda: ([torch.rand(3, 64, 64)],),
    ),
}


def families_of(package: str) -> dict[str, Family]:
    """Return the families that need a package, by name."""
    return {name: family for name, family in FAMILIES.items() if family.package == package}
