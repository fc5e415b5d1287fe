"""Random draws of configurations: the stream of a candidate, and rules that are written as plain values.

A rule maps the fields of a configuration, in order, to what they are drawn from:

=============================================  =======================================================
value of a field                               meaning
=============================================  =======================================================
``[16, 24, 32]``                               one of these values
``{"from": 16, "to": 32, "step": 8}``          one of the integers 16, 24, 32; a step of 1 by default
``{"repeat": 4, "of": RULE}``                  a list of 4 independent draws
``{"repeat": "layers", "of": RULE}``           as many draws as the field ``layers``, which is drawn before
a number, a text, true, false or null          always this value
=============================================  =======================================================

A rule that needs more, such as widths that depend on the number of layers, is a Python function of `Draws`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from deepnets.support import ConfigError, abbreviated, checked_integer

__all__ = ["Draws", "RandomDraws", "Rule", "check_rule", "draw_config"]

T = TypeVar("T")

MAX_FIELDS = 100
MAX_REPEATS = 1000
MAX_VALUE = 10**9
_SCALARS = (bool, int, float, str, type(None))


class Draws(Protocol):
    """Independent uniform draws."""

    def choice(self, values: Sequence[T]) -> T:
        """Draw one of several values."""

    def integer(self, low: int, high: int, step: int = 1) -> int:
        """Draw one of the integers `low`, `low + step`, ..., up to and including `high`."""


Rule = Mapping[str, Any] | Callable[[Draws], dict[str, Any]]
"""What configurations are drawn by: plain values as described above, or a function that returns a configuration."""


class RandomDraws:
    """Draws from a stream of the Philox generator, which does not change between versions of NumPy.

    Parameters
    ----------
    seed : int
        Seed of the family.
    split : str
        Each split has a stream of its own.
    index, attempt : int
        Number of the network, and of the candidate for it.

    Examples
    --------
    >>> draws = RandomDraws(0, "train", 3)
    >>> draws.integer(16, 32, 8) in (16, 24, 32), draws.choice("ab") in "ab"
    (True, True)
    >>> [RandomDraws(0, "train", 3).integer(0, 10**6) == RandomDraws(0, other, 3).integer(0, 10**6)
    ...  for other in ("train", "test")]
    [True, False]
    """

    def __init__(self, seed: int, split: str, index: int, attempt: int = 0) -> None:
        stream = int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "little")
        self._words = np.random.Philox(key=[seed, stream], counter=[0, attempt, index, 0])

    def choice(self, values: Sequence[T]) -> T:
        """Draw one of several values."""
        return values[(int(self._words.random_raw()) * len(values)) >> 64]

    def integer(self, low: int, high: int, step: int = 1) -> int:
        """Draw one of the integers `low`, `low + step`, ..., up to and including `high`."""
        return self.choice(range(low, high + 1, step))


def check_rule(rule: Any, where: str) -> None:
    """Check a rule.

    Parameters
    ----------
    rule
        A mapping as described above, or a function.
    where
        Name of the family and of the split, for error messages.

    Raises
    ------
    ConfigError
        If it is not such a rule; the message names the field.

    Examples
    --------
    >>> check_rule({"width": {"from": 32, "to": 16}}, "family mine")
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: family mine: width: there is no integer from 32 to 16
    """
    if callable(rule):
        return
    if not isinstance(rule, Mapping) or not rule:
        raise ConfigError(f"{where}: expected a rule, a mapping from fields to values, got {abbreviated(rule)}")
    if len(rule) > MAX_FIELDS:
        raise ConfigError(f"{where}: expected at most {MAX_FIELDS} fields, got {len(rule)}")
    known: list[str] = []
    for name, values in rule.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"{where}: expected the name of a field, got {abbreviated(name)}")
        _check_values(values, f"{where}: {name}", known)
        known.append(name)


def _check_values(values: Any, where: str, known: Sequence[str]) -> None:
    if isinstance(values, _SCALARS):
        _check_scalar(values, where)
    elif isinstance(values, (list, tuple)):
        if not values:
            raise ConfigError(f"{where}: expected at least one value")
        for value in values:
            if not isinstance(value, _SCALARS):
                raise ConfigError(f"{where}: expected numbers or texts to choose from, got {abbreviated(value)}")
            _check_scalar(value, where)
    elif isinstance(values, Mapping) and {"from", "to"} <= values.keys() <= {"from", "to", "step"}:
        bounds = range(-MAX_VALUE, MAX_VALUE + 1)
        low, high = (checked_integer(f"{where}: {end}", values[end], bounds) for end in ("from", "to"))
        checked_integer(f"{where}: step", values.get("step", 1), range(1, MAX_VALUE))
        if low > high:
            raise ConfigError(f"{where}: there is no integer from {low} to {high}")
    elif isinstance(values, Mapping) and values.keys() == {"repeat", "of"}:
        if isinstance(values["of"], Mapping) and "repeat" in values["of"]:
            raise ConfigError(f"{where}: a list of lists cannot be drawn")
        _check_values(values["of"], where, known)
        if isinstance(values["repeat"], str):
            if values["repeat"] not in known:
                raise ConfigError(f"{where}: repeat: {values['repeat']!r} is not a field that is drawn before")
        else:
            checked_integer(f"{where}: repeat", values["repeat"], range(1, MAX_REPEATS + 1))
    else:
        raise ConfigError(
            f'{where}: expected a value, a list of values, {{"from": ..., "to": ...}} or {{"repeat": ..., "of": ...}}, '
            f"got {abbreviated(values)}"
        )


def _check_scalar(value: Any, where: str) -> None:
    if isinstance(value, float) and not np.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, got {value}")
    if isinstance(value, int) and abs(value) > MAX_VALUE:
        raise ConfigError(f"{where}: expected a number of at most {MAX_VALUE:,}, got {abbreviated(value)}")


def draw_config(rule: Rule, draws: Draws, replaced: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Draw a configuration.

    Parameters
    ----------
    rule
        A rule that `check_rule` accepts.
    draws
        The stream of random numbers.
    replaced
        Values that fields get instead of those that are drawn.  Fields that repeat over such a field have its number of
        draws.

    Returns
    -------
    dict
        A value for every field.

    Raises
    ------
    ConfigError
        If the number of draws, which is the value of another field, is not an integer from 0 to 1,000.

    Examples
    --------
    >>> rule = {"depth": {"from": 2, "to": 2}, "widths": {"repeat": "depth", "of": [16]}, "bias": False}
    >>> draw_config(rule, RandomDraws(0, "train", 0))
    {'depth': 2, 'widths': [16, 16], 'bias': False}
    >>> draw_config(rule, RandomDraws(0, "train", 0), {"depth": 3})
    {'depth': 3, 'widths': [16, 16, 16], 'bias': False}
    """
    replaced = replaced or {}
    if callable(rule):
        config = rule(draws)
        return {**config, **replaced} if replaced else config
    config = {}
    for name, values in rule.items():
        drawn = _drawn(values, draws, config, name)  # also if it is replaced: other fields are those of the same stream
        config[name] = replaced.get(name, drawn)
    return {**config, **replaced}


def _drawn(values: Any, draws: Draws, config: Mapping[str, Any], name: str) -> Any:
    if isinstance(values, _SCALARS):
        return values
    if isinstance(values, (list, tuple)):
        return draws.choice(values)
    if "from" in values:
        return draws.integer(values["from"], values["to"], values.get("step", 1))
    count = values["repeat"]
    if isinstance(count, str):
        count = checked_integer(f"{name}: repeat: {count}", config[count], range(MAX_REPEATS + 1))
    return [_drawn(values["of"], draws, config, name) for _ in range(count)]
