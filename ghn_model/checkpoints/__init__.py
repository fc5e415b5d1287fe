"""Checkpoints of hypernetworks: our own format and the official files.

files            finding, reading, checking and writing of hypernetworks
bundled          the hypernetworks that come with the package
hub              hypernetworks on the Hugging Face Hub
markdown         cards as Markdown, as the hub shows them
tensor_files     safetensors files with checksums, written atomically
official         reader of the files of PPUDA (MLP, GHN-1, GHN-2), GHN-3 and LoGAH
official_layouts names and shapes of their tensors
official_writer  writer of files for PPUDA and GHN-3
official_names   where official files are looked for, and where to get them
pickled_tensors  tensors in untrusted pickles
decompression    compressed files as streams
tables           embedding tables for other node types or numbers of channels
"""

from __future__ import annotations

from ghn_model.checkpoints.bundled import PRETRAINED, list_pretrained, model_card
from ghn_model.checkpoints.files import (
    CUSTOM_FORMAT,
    FORMAT,
    Checkpoint,
    build_from,
    checked_device,
    read_checkpoint,
    read_config,
    save_checkpoint,
)
from ghn_model.checkpoints.hub import fetch, is_repository, push
from ghn_model.checkpoints.markdown import card_metric, markdown_card
from ghn_model.checkpoints.official import read_saved
from ghn_model.checkpoints.official_names import OFFICIAL, find_official_checkpoint, how_to_get, is_official
from ghn_model.checkpoints.official_writer import FORMATS, official_config, save_official
from ghn_model.checkpoints.tables import grow_tables
from ghn_model.checkpoints.tensor_files import (
    DIGEST,
    TensorFile,
    check_tensors,
    check_writable,
    content_digest,
    file_digest,
    is_safetensors,
    separate_tensors,
    write_state_dict,
    write_tensors,
)

__all__ = [
    "CUSTOM_FORMAT",
    "DIGEST",
    "FORMAT",
    "FORMATS",
    "OFFICIAL",
    "PRETRAINED",
    "Checkpoint",
    "TensorFile",
    "build_from",
    "card_metric",
    "check_tensors",
    "check_writable",
    "checked_device",
    "content_digest",
    "fetch",
    "file_digest",
    "find_official_checkpoint",
    "grow_tables",
    "how_to_get",
    "is_official",
    "is_repository",
    "is_safetensors",
    "list_pretrained",
    "markdown_card",
    "model_card",
    "official_config",
    "push",
    "read_checkpoint",
    "read_config",
    "read_saved",
    "save_checkpoint",
    "save_official",
    "separate_tensors",
    "write_state_dict",
    "write_tensors",
]
