"""Small files in the format of CIFAR-10, written by Python 2 (as the official files) or Python 3."""

from __future__ import annotations

import functools
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from deepnets.data.cifar import FOLDER

__all__ = ["EXPECTED", "WRITERS", "batch", "pack", "write"]

NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


class OfPython2(pickle._Pickler):  # type: ignore[misc,name-defined]
    """Pickles strings and bytes as Python 2 does."""

    def save_text(self, value: Any) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch = {**pickle._Pickler.dispatch, str: save_text, bytes: save_text}  # type: ignore[attr-defined]


def of_python2(content: Any) -> bytes:
    buffer = io.BytesIO()
    OfPython2(buffer, protocol=2).dump(content)
    return buffer.getvalue()


WRITERS: dict[str, Any] = {
    "official": of_python2,
    **{f"protocol {protocol}": functools.partial(pickle.dumps, protocol=protocol) for protocol in range(1, 5)},
}


def batch(number: int, n: int = 20) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    return {
        "batch_label": f"batch {number}",
        "labels": rng.integers(0, 10, n).tolist(),
        "data": rng.integers(0, 256, (n, 3072), np.uint8),
        "filenames": [f"image_{number}_{i}.png" for i in range(n)],
    }


def write(folder: Path, writer: Any = of_python2, change: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        content = batch(number)
        (folder / name).write_bytes(writer(change(content) if change else content))
    return folder


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, FOLDER)
    return archive


DATA = np.concatenate([batch(number)["data"] for number in range(5)])
LABELS = [label for number in range(5) for label in batch(number)["labels"]]
EXPECTED = {
    "train": (DATA[:90], LABELS[:90]),
    "val": (DATA[90:], LABELS[90:]),
    "trainval": (DATA, LABELS),
    "test": (batch(5)["data"], batch(5)["labels"]),
}
