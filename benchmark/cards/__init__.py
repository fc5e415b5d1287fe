"""A trained hypernetwork becomes one that comes with the package: its file, its card, and the log of its training.

making.py   the three files                 reached.py    what it reaches, from a folder of results
trained.py  what a folder of training says  published.py  what the literature's reach
"""

from __future__ import annotations

from benchmark.cards.making import bundle, make_card
from benchmark.cards.published import PUBLISHED
from benchmark.cards.trained import training_command

__all__ = ["PUBLISHED", "bundle", "make_card", "training_command"]
