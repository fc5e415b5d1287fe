"""`ZOO`, all small models of the tests of tracing, by name."""

from __future__ import annotations

from tests.support.zoo.attention import ATTENTION
from tests.support.zoo.case import Case
from tests.support.zoo.control import CONTROL
from tests.support.zoo.parameters import PARAMETERS
from tests.support.zoo.text import TEXT
from tests.support.zoo.vision import VISION

__all__ = ["ZOO", "Case"]

ZOO: dict[str, Case] = {**VISION, **PARAMETERS, **ATTENTION, **TEXT, **CONTROL}

assert len(ZOO) == len(VISION) + len(PARAMETERS) + len(ATTENTION) + len(TEXT) + len(CONTROL), "two have one name"
