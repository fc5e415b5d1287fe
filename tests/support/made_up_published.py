"""Files of the form of the published ones, with made-up numbers and the same known issues."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.literature.files import DIGESTS, FILES, SIZES

METHODS = ("mlp", "ghn1", "ghn2")
OUT = ("wide", "deep", "dense", "bnfree")


def made_up(file: str, seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the content of a file with the known issues of the published one."""
    rng = np.random.default_rng(seed)

    def some(n: int | None = None) -> Any:
        return rng.uniform(11, 90, n).round(2).tolist() if n else round(float(rng.uniform(11, 90)), 2)

    made: dict[str, dict[str, dict[str, Any]]] = {}
    for split, size in SIZES.items():
        made[split] = {}
        for index in range(size):
            own: dict[str, Any] = {"params": int(rng.integers(10**6, 10**7)), "time": some()}
            if file == "cifar10_extended":
                own |= {f"{part}{noise}": some(7) for part in ("val_acc", "test_acc") for noise in ("", "_noise")}
                own |= {
                    f"{m}_{part}{n}": some()
                    for m in METHODS
                    for part in ("val_acc", "test_acc")
                    for n in ("", "_noise")
                }
                own |= {"converge_time": 2, "training_loss": [1.0] * 50, "training_acc": some(50)}
            else:
                own |= {"test_acc": some()} | {f"{m}_test_acc": some() for m in METHODS[file == "imagenet" :]}
                if split in ("val", "test"):
                    own |= {"val_acc": some(), "val_acc_noise": some(), "converge_time": 0.5}
                    own |= {"test_acc_noise": some()} if file == "cifar10" else {}
            made[split][str(index)] = own
    if file == "cifar10_extended":
        for field in ("val_acc", "val_acc_noise", "test_acc_noise"):
            for split in (*OUT, "predefined"):
                for index, own in made[split].items():
                    own[field] = made["test"][index][field]
            for split in OUT[1:]:
                for own in made[split].values():
                    own |= {f"{m}_{field}": own[f"ghn2_{field}"] for m in METHODS[:2]}
    return made


NORMS = ("ghn2-paramnorm", "ghn3-t-paramnorm", "ghn3-paramnorm", "randinit-paramnorm", "randinit-gradnorm")
MODEL_FIELDS = ("ghn2", "ghn3-t", "ghn3", "ghn3-sgd1ep", "ghn3-sgd10ep", "randinit-sgd1ep", "randinit-sota", *NORMS)


def made_up_models() -> list[dict[str, dict[str, str]]]:
    models = [f"model{i}" for i in range(72)] + ["resnet18", "resnet50"]
    return [{model: {field: f"{i + len(field)}.5" for field in MODEL_FIELDS}} for i, model in enumerate(models)]


BASIC = made_up("cifar10")
EXTENDED = made_up("cifar10_extended", 1)
IMAGE_NET = made_up("imagenet", 2)


def write_made_up(folder: Path, *files: str) -> Path:
    """Write some of the files into a folder, all four by default, and accept their digests as published."""
    contents = {"cifar10": BASIC, "cifar10_extended": EXTENDED, "imagenet": IMAGE_NET}
    folder.mkdir(exist_ok=True)
    for file in files or FILES:
        lines = [contents[file]] if file in contents else made_up_models()
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        DIGESTS[hashlib.sha256(content).hexdigest()] = file
        (folder / FILES[file].name).write_bytes(content)
    return folder
