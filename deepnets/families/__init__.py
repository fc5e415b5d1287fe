"""Families of networks: one base model in many sizes, by rule, as splits like those of DeepNets-1M.

    Family ── FamilyNetworks("resnet-widths", "train") ──┬── config(i)     plain values
                                                         ├── build(config) torch.nn.Module
                                                         └── graph(i)      traced once per topology

networks            `FamilyNetworks`, a split as a sequence of graphs
names               families by name, the registry `FAMILIES`
family              `Family`, what a family is; `family_files`: families as JSON files
values              configurations and arguments as text
draws               random draws, and rules that are plain values
builtin             the built-in families, with their splits
models              base models, the registry `MODELS`
resnet, vision_transformer, language_models
                    the base models
topologies          graphs of networks that differ in sizes only, traced once and stored in files
"""

from __future__ import annotations

from deepnets.families.draws import Draws, Rule
from deepnets.families.family import Family, FamilySplit
from deepnets.families.family_files import family_from_dict, read_family
from deepnets.families.language_models import import_transformers
from deepnets.families.models import MODELS
from deepnets.families.names import FAMILIES, PREFIX, find_family, split_of
from deepnets.families.networks import FamilyGraph, FamilyNetwork, FamilyNetworks
from deepnets.families.resnet import ResNet
from deepnets.families.vision_transformer import VisionTransformer

__all__ = [
    "FAMILIES",
    "MODELS",
    "PREFIX",
    "Draws",
    "Family",
    "FamilyGraph",
    "FamilyNetwork",
    "FamilyNetworks",
    "FamilySplit",
    "ResNet",
    "Rule",
    "VisionTransformer",
    "family_from_dict",
    "find_family",
    "import_transformers",
    "read_family",
    "split_of",
]
