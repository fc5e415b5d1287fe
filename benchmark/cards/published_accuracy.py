"""Accuracies of the published hypernetworks on CIFAR-10, which cards show next to their own results."""

from __future__ import annotations

from typing import Any

__all__ = ["PUBLISHED", "SOURCE"]

SOURCE = "Knyazev et al., NeurIPS 2021, on their networks; from the published result files"

_SPLITS = {"test": 500, "wide": 100, "deep": 100, "dense": 100, "bnfree": 100}
_ROWS = {  # mean, standard error, best, and index of the best network
    "mlp": (
        *((42.23, 0.62, 60.24, 167), (22.29, 0.88, 45.29, 6), (37.92, 1.23, 56.53, 30)),
        *((44.79, 1.06, 58.45, 10), (23.89, 0.75, 43.96, 41)),
    ),
    "ghn1": (
        *((51.35, 0.43, 59.90, 179), (43.10, 1.67, 58.62, 13), (48.33, 0.78, 59.03, 30)),
        *((51.83, 0.93, 59.26, 9), (13.71, 0.27, 18.42, 90)),
    ),
    "ghn2": (
        *((66.88, 0.35, 77.12, 210), (63.97, 1.13, 76.04, 37), (60.54, 1.17, 76.53, 30)),
        *((65.84, 0.68, 76.59, 47), (36.80, 1.51, 58.73, 17)),
    ),
}
_PREDEFINED = {"mlp": (17.69, 10.00), "ghn1": (19.20, 18.23), "ghn2": (58.62, 11.41)}
_COLUMNS = ("mean_top1", "standard_error", "best_top1", "best_index")


def _card_of(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (split, networks), row in zip(_SPLITS.items(), _ROWS[name], strict=True):
        found[split] = {**dict(zip(_COLUMNS, row, strict=True)), "networks": networks, "failures": 0}
    return found | {network: {"top1": top1} for network, top1 in zip(("resnet50", "vit"), _PREDEFINED[name])}


PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {name: _card_of(name) for name in _ROWS}
"""Top-1 accuracies in percent on the test images of CIFAR-10, by preset and split, in the form of `results` of a card:
mean and standard error (population standard deviation) over the published networks, of which none failed."""
