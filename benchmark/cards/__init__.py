"""Bundle a trained hypernetwork with the package: its weights, its card and the log of its training.

files               `bundle` and `make_card`, which write the three files
training_run        the folder of a training run, and the command that started it
results             accuracies from a folder of results
published_accuracy  accuracies of the published hypernetworks
"""

from __future__ import annotations

from benchmark.cards.files import bundle, make_card
from benchmark.cards.published_accuracy import PUBLISHED

__all__ = [
    "PUBLISHED",
    "bundle",
    "make_card",
]
