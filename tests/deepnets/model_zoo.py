"""All the small models of the tests of tracing, by name."""

from __future__ import annotations

from tests.deepnets.zoo_attention import ATTENTION
from tests.deepnets.zoo_case import Case
from tests.deepnets.zoo_control import CONTROL
from tests.deepnets.zoo_parameters import PARAMETERS
from tests.deepnets.zoo_text import TEXT
from tests.deepnets.zoo_vision import VISION

__all__ = ["ZOO", "Case"]

ZOO: dict[str, Case] = {**VISION, **PARAMETERS, **ATTENTION, **TEXT, **CONTROL}

assert len(ZOO) == len(VISION) + len(PARAMETERS) + len(ATTENTION) + len(TEXT) + len(CONTROL), "two have one name"
