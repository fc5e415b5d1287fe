"""Checkpoints of hypernetworks: reading and writing our format, reading the official files.

files            `load_checkpoint`, `save_checkpoint`, and the bundled hypernetworks
tensor_files     safetensors files with checksums, written atomically
official         the files of PPUDA (MLP, GHN-1, GHN-2) and GHN-3
pickled_tensors  tensors in untrusted pickles
"""

from __future__ import annotations

from ghn_model.checkpoints.files import (
    FORMAT,
    PRETRAINED,
    CheckpointInfo,
    Unfilled,
    describe,
    list_pretrained,
    load_checkpoint,
    save_checkpoint,
)
from ghn_model.checkpoints.official import read_saved
from ghn_model.checkpoints.tensor_files import (
    DIGEST,
    TensorFile,
    check_writable,
    content_digest,
    file_digest,
    is_safetensors,
    write_tensors,
)

__all__ = [
    "DIGEST",
    "FORMAT",
    "PRETRAINED",
    "CheckpointInfo",
    "TensorFile",
    "Unfilled",
    "check_writable",
    "content_digest",
    "describe",
    "file_digest",
    "is_safetensors",
    "list_pretrained",
    "load_checkpoint",
    "read_saved",
    "save_checkpoint",
    "write_tensors",
]
