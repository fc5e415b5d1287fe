"""Folders of made-up results with known content, in the format of real results."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

HEADER = (
    *("run", "predictor", "split", "images", "part", "noise", "index", "network", "num_nodes", "num_params", "depth"),
    *("top1", "top5", "num_images", "batch_size", "batch_norm", "graph_seconds", "build_seconds", "predict_seconds"),
    *("evaluate_seconds", "memory_mb", "status", "reason"),
)
SPLITS = {
    "test": 500,
    "val": 500,
    "wide": 100,
    "deep": 100,
    "dense": 100,
    "bnfree": 100,
    "predefined": 2,
    "search": 300,
}
NAMES = ("resnet50", "vit")
OUT_OF_MEMORY = "MemoryError: {} MB are more than the limit of 2,000 MB"
MISSING = "ConfigError: parameters: 3 of 412 are missing: cells.3.op.1.weight, cells.4.op.1.weight"
Row = dict[str, Any]


def row(run: str, predictor: str, split: str, index: int, top1: float | None, **other: Any) -> Row:
    """Return a row; `None` for a failed network."""
    part = "val" if split in ("train", "val", "search") else "test"
    values: Row = dict.fromkeys(HEADER, "")
    values |= {"run": run, "predictor": predictor, "split": split, "images": "digits", "part": part, "noise": 0.0}
    values |= {"index": index, "num_nodes": 100, "num_params": 3_000_000, "depth": 50, "num_images": 360}
    values |= {"batch_size": 64, "batch_norm": "batch", "graph_seconds": 0.01, "build_seconds": 0.05}
    values |= {"predict_seconds": 0.2, "evaluate_seconds": 1.5, "memory_mb": 310.5, "status": "ok"}
    if top1 is None:
        values |= {"status": "failed", "reason": "RuntimeError: no", "evaluate_seconds": ""}
    else:
        values |= {"top1": top1, "top5": min(100.0, top1 + 30)}
    return values | other


def write(folder: Path, rows: list[Row], runs: dict[str, Any], torn: str = "") -> Path:
    """Write both files; `torn` is appended after the last row."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "networks.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEADER, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.write(torn)
    (folder / "runs.json").write_text(json.dumps(runs, indent=1), encoding="utf-8")
    return folder


def run(predictor: str, split: str, networks: int, hour: int = 8, **other: Any) -> dict[str, Any]:
    """Return the description of a run."""
    part = "val" if split in ("train", "val", "search") else "test"
    about: dict[str, Any] = {
        "predictor": {
            "label": predictor,
            "spec": predictor,
            "kind": "hypernetwork",
            "digest": f"{abs(hash_of(predictor)):016x}",
            "about": f"{predictor}: what it is and where it comes from",
        },
        "split": split,
        "images": "digits",
        "part": part,
        "noise": 0.0,
        "limit": None,
        "networks": networks,
        "split_size": SPLITS.get(split, networks),
        "batch_size": 64,
        "seed": 0,
        "corpus": "5e1f0c" * 10,
        "versions": {"python": "3.11.2", "torch": "2.10.0", "deepnets1m": "0.1.0"},
        "machine": "x86_64, 2 cores, 8 GB, no GPU",
        "command": f"python -m benchmark run --predictor {predictor} --split {split} --images digits",
        "started": f"2025-11-24T{hour:02d}:05:00+00:00",
        "finished": f"2025-11-24T{hour:02d}:47:30+00:00",
    }
    return about | other


def hash_of(text: str) -> int:
    """Return a hash that is equal in all processes, unlike `hash`."""
    return int.from_bytes(text.encode()[:7].ljust(7, b"\0"), "big") * 2654435761 % 2**63


def realistic(folder: Path, scale: float = 1.0, predictors: int = 4) -> Path:
    """Write results of four predictors on eight splits, with failures, noise, and limited or unfinished runs."""
    rng = np.random.default_rng(5)
    skills = {"ghn2-digits": (62, 12), "ghn1-digits": (47, 9), "my_predictors:average": (31, 10), "random": (10, 1.5)}
    skills |= {f"sgd-{i}": (40 + 3 * i, 8) for i in range(1, predictors - 3)}
    hard = {"test": 0, "val": 0.5, "wide": -4, "deep": -9, "dense": -1, "bnfree": -28, "predefined": -12, "search": 0}
    rows: list[Row] = []
    runs: dict[str, Any] = {}
    sizes = {split: n if split == "predefined" else max(2, int(n * scale)) for split, n in SPLITS.items()}
    nets = {}
    for split, n in sizes.items():
        depth = rng.integers(20, 90, n) * (3 if split == "deep" else 1)
        params = np.exp(rng.normal(np.log(3e6), 0.6, n)) * (12 if split == "wide" else 1)
        nets[split] = (rng.normal(0, 1, n), depth, params.astype(int))
    for p, (predictor, (skill, spread)) in enumerate(skills.items()):
        for s, (split, n) in enumerate(sizes.items()):
            if predictor == "my_predictors:average" and split in ("wide", "search"):
                continue
            for noise in (0.0, 0.08) if split in ("test", "wide") and predictor != "random" else (0.0,):
                name = f"{p * 100 + s * 2 + (noise > 0):012x}"
                limited = 1 if predictor == "my_predictors:average" and split == "val" else n
                stops = n // 2 if (predictor, split, noise) == ("ghn1-digits", "dense", 0.0) else limited
                runs[name] = run(predictor, split, limited, hour=8 + p, noise=noise, limit=limited % n or None)
                if stops < limited:
                    runs[name]["finished"] = None
                if predictor == "random":
                    runs[name]["predictor"] |= {"kind": "baseline", "about": "PyTorch's own initialisation"}
                easy, depth, params = nets[split]
                for i in range(stops):
                    chance = max(6.0, skill * 1.0 + hard[split] * (skill > 12) - 14 * (noise > 0))
                    top1 = float(np.clip(rng.normal(chance + 0.6 * spread * easy[i], 0.6 * spread), 4, 97))
                    facts: Row = {
                        "network": NAMES[i] if split == "predefined" else "",
                        "num_params": int(params[i]),
                        "num_nodes": int(depth[i]) * 3,
                        "depth": int(depth[i]),
                        "noise": noise,
                        "predict_seconds": round(0.002 * float(depth[i]), 4),
                        "evaluate_seconds": round(float(params[i]) / 4e6 + rng.random() * 0.3 + 0.2, 4),
                    }
                    failed = (predictor == "my_predictors:average" and (split == "deep" or rng.random() < 0.04)) or (
                        split == "wide" and rng.random() < 0.03
                    )
                    if failed:
                        reason = OUT_OF_MEMORY.format(f"{2000 + 7 * i:,}")
                        if split == "deep":
                            reason = MISSING
                        rows.append(row(name, predictor, split, i, None, **facts, reason=reason))
                    else:
                        smaller = {"batch_size": 32} if split == "wide" and i % 40 == 7 else {}
                        rows.append(row(name, predictor, split, i, round(top1 / 100 * 360) / 3.6, **facts, **smaller))
    order = rng.permutation(len(rows))  # the order in which workers finish
    return write(folder, [rows[i] for i in order], runs, torn=f"{name},random,search,digits,val,0.0,299,,1")


if __name__ == "__main__":
    import sys

    realistic(Path(sys.argv[1]), *map(float, sys.argv[2:3]), *map(int, sys.argv[3:4]))
