"""Kendall's tau-b by its definition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def naive_tau_b(x: Sequence[float], y: Sequence[float]) -> float:
    """Return tau-b, computed pair by pair."""
    concordant = discordant = ties_x = ties_y = 0
    for i, j in itertools.combinations(range(len(x)), 2):
        dx, dy = x[i] - x[j], y[i] - y[j]
        concordant += dx * dy > 0
        discordant += dx * dy < 0
        ties_x += dx == 0
        ties_y += dy == 0
    pairs = len(x) * (len(x) - 1) / 2
    return (concordant - discordant) / math.sqrt((pairs - ties_x) * (pairs - ties_y))
