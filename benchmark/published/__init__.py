"""The literature's results, from the files that were published with it: read, checked, repaired, tabulated.

files.py   reading and checking        tables.py  the papers' tables        ours.py  our results in the same form
faults.py  what is wrong in the files  text.py    tables for a terminal     loading.py  all of it in one value
"""

from __future__ import annotations

from benchmark.published.faults import defects
from benchmark.published.loading import Published, leaderboard, load, targets

__all__ = ["Published", "defects", "leaderboard", "load", "targets"]
