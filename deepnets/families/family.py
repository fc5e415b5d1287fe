"""`Family`: a base model, and the rules by which the configurations of its networks are drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from deepnets.families.draws import RandomDraws, Rule, check_rule, draw_config
from deepnets.families.models import check_model
from deepnets.families.values import canonical, check_values, named
from deepnets.support import ConfigError, abbreviated, at_least, checked_integer, in_one_line

__all__ = ["TASKS", "Family", "FamilySplit"]

TASKS = ("images", "text")
"""What the networks of a family process."""

MAX_ATTEMPTS = 10_000
"""Candidates for one network before a rule is given up."""

MAX_CHARACTERS = 200_000_000
"""A search for distinct configurations is given up when its candidates have more characters as JSON, with 100 more for
each candidate and 500 fewer for each network that is found: after less than two minutes."""

MAX_NETWORKS = 1_000_000


@dataclass(frozen=True)
class FamilySplit:
    """A split of a family: how many networks it has, and which.

    Parameters
    ----------
    size : int
        Number of networks.
    part : (float, float), default (0.0, 1.0)
        Part of all configurations that the split may hold.  A hash places each configuration between 0 and 1, so splits
        with disjoint parts have no configuration in common.
    rule : Rule, optional
        Rule of the split.  By default that of the family; the fields of a mapping replace those of the family.
    distinct : bool, default False
        Whether no configuration occurs twice.
    configs : sequence of mapping, or callable that returns one, optional
        The configurations themselves, in place of a rule.
    names : sequence of str, optional
        Names of these configurations.

    Raises
    ------
    ConfigError
        If a value is not allowed.

    Examples
    --------
    >>> FamilySplit(size=10, part=(0.5, 0.1))
    Traceback (most recent call last):
        ...
    deepnets.support.errors.ConfigError: part: expected two increasing numbers from 0 to 1, got (0.5, 0.1)
    """

    size: int
    part: tuple[float, float] = (0.0, 1.0)
    rule: Rule | None = None
    distinct: bool = False
    configs: Sequence[Mapping[str, Any]] | Callable[[], Sequence[Mapping[str, Any]]] | None = None
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        checked_integer("size", self.size, range(1, MAX_NETWORKS + 1))
        part = self.part
        if (
            not isinstance(part, Sequence)
            or len(part) != 2
            or not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in part)
            or not 0 <= part[0] < part[1] <= 1
        ):
            raise ConfigError(f"part: expected two increasing numbers from 0 to 1, got {abbreviated(part)}")
        object.__setattr__(self, "part", (float(part[0]), float(part[1])))
        if not isinstance(self.distinct, bool):
            raise ConfigError(f"distinct: expected true or false, got {abbreviated(self.distinct)}")
        if isinstance(self.configs, Sequence) and len(self.configs) != self.size:
            raise ConfigError(f"configs: expected {self.size}, the size of the split, got {len(self.configs)}")
        if self.configs is not None and (self.rule is not None or self.part != (0.0, 1.0)):
            raise ConfigError(f"{'part' if self.rule is None else 'rule'}: is not for splits with configs")
        if not _are_texts(self.names):
            raise ConfigError(f"names: expected a list of texts, got {abbreviated(self.names)}")
        if self.names and (self.configs is None or len(self.names) != self.size):
            raise ConfigError("names: are for splits with configs, one name for each of them")


def _usual_splits() -> dict[str, FamilySplit]:
    return {
        "train": FamilySplit(1000, (0.2, 1.0)),
        "val": FamilySplit(100, (0.0, 0.1), distinct=True),
        "test": FamilySplit(100, (0.1, 0.2), distinct=True),
    }


@dataclass(frozen=True)
class Family:
    """A family of networks: one base model in many sizes.

    Parameters
    ----------
    name : str
        Its name.
    model : str or callable
        What builds a network from the fields of a configuration and the arguments: a name in
        `deepnets.families.MODELS` ("resnet", "vit", "gpt2", "llama"), "torchvision:NAME", "timm:NAME", or (not in JSON
        files) "module:callable" or the callable itself.  Image models are also given `num_classes`, and `image_size`
        if they have an argument of this name.
    rule : Rule
        What the configurations are drawn by (see `deepnets.families.draws`).
    sizes : sequence of str, optional
        Fields that change nothing but the sizes of tensors, such as widths.  Networks that differ only in these have
        the same graph, which is traced once.  By default every configuration is traced.
    arguments : mapping, optional
        Arguments of the model that all networks share: values that JSON can represent, functions and classes.
    splits : mapping of str to FamilySplit, optional
        The splits.  By default `train` with 1,000 networks, and `val` and `test` with 100 each, without common
        configurations.
    task : {"images", "text"}
        What the networks process: images, or sequences of tokens.

    Raises
    ------
    ConfigError
        If a value is not allowed; the message names the family and the field.

    Examples
    --------
    >>> family = Family("two", "resnet", {"depths": {"repeat": 2, "of": [1, 2]}, "widths": [8, 16]})
    >>> family.draw("train", 0).keys()
    dict_keys(['depths', 'widths'])
    """

    name: str
    model: str | Callable[..., Any]
    rule: Rule
    sizes: Sequence[str] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, FamilySplit] = field(default_factory=_usual_splits)
    task: str = "images"

    def __post_init__(self) -> None:
        where = f"family {self.name}"
        if (
            not isinstance(self.name, str)
            or not self.name
            or not self.name.replace("-", "a").replace(".", "a").isalnum()
        ):
            raise ConfigError(
                f"family: expected a name of letters, digits, dots and hyphens, got {abbreviated(self.name)}"
            )
        check_model(self.model, where)
        check_rule(self.rule, where)
        if self.task not in TASKS:
            raise ConfigError(f"{where}: task: expected one of {', '.join(TASKS)}, got {abbreviated(self.task)}")
        if not _are_texts(self.sizes):
            raise ConfigError(f"{where}: sizes: expected names of fields, got {abbreviated(self.sizes)}")
        if not callable(self.rule) and (unknown := [size for size in self.sizes if size not in self.rule]):
            raise ConfigError(f"{where}: sizes: {unknown[0]!r} is not a field of the rule")
        if not isinstance(self.arguments, Mapping) or not all(isinstance(key, str) for key in self.arguments):
            raise ConfigError(f"{where}: arguments: expected a mapping, got {abbreviated(self.arguments)}")
        check_values({"model": self.model, **self.arguments}, where)
        if not isinstance(self.splits, Mapping) or not self.splits:
            raise ConfigError(f"{where}: splits: expected at least one")
        for name, split in self.splits.items():
            if not isinstance(name, str) or not name.isidentifier() or not isinstance(split, FamilySplit):
                raise ConfigError(f"{where}: splits: {abbreviated(name)} is not a split")
            if split.rule is not None:
                check_rule(split.rule, f"{where}, split {name}")

    def split(self, name: str) -> FamilySplit:
        """Return a split.

        Raises
        ------
        ConfigError
            If there is no such split.
        """
        if name not in self.splits:
            raise ConfigError(f"family {self.name}: has no split {name!r}; use one of {', '.join(self.splits)}")
        return self.splits[name]

    def draw(
        self, split: str, index: int, seed: int = 0, attempt: int = 0, replaced: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Draw a candidate, a pure function of the arguments; it may belong to another split.

        Parameters
        ----------
        split : str
            Name of a split that has a rule.
        index : int
            Number of the network.
        seed : int, default 0
            Seed of the family.
        attempt : int, default 0
            Number of the candidate for this network.
        replaced : mapping, optional
            Fields that replace those that are drawn.

        Returns
        -------
        dict
            The fields of a configuration, plain values that JSON can represent.

        Raises
        ------
        ConfigError
            If the rule fails or returns other values.
        """
        own = self.split(split).rule
        rule = self.rule if own is None else own
        if isinstance(own, Mapping) and isinstance(self.rule, Mapping):
            rule = {**self.rule, **own}
        try:
            config = draw_config(rule, RandomDraws(seed, split, index, attempt), replaced)
        except ConfigError as error:
            raise ConfigError(f"family {self.name}: {error}") from error
        except Exception as error:  # a rule may be any function
            raise ConfigError(f"family {self.name}: the rule fails: {in_one_line(error)}") from error
        if not isinstance(config, dict) or not config:
            raise ConfigError(f"family {self.name}: the rule returns {abbreviated(config)}, expected fields by name")
        try:
            json.dumps(config, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"family {self.name}: the rule returns values that JSON cannot represent: {error}"
            ) from error
        return config

    def configs(
        self, split: str, seed: int = 0, count: int | None = None, replaced: Mapping[str, Any] | None = None
    ) -> Sequence[dict[str, Any]]:
        """Return the configurations of a split, which are drawn when they are read.

        Network i is the first candidate for it that is in the part of the split.  In a split of distinct
        configurations, it also differs from the networks before it.

        Parameters
        ----------
        split : str
            Name of the split.
        seed : int, default 0
            Seed of the family.  Splits with given configurations do not depend on it.
        count : int, optional
            Number of networks; that of the split by default.
        replaced : mapping, optional
            Fields that replace those of every candidate.  If they leave fewer distinct configurations than a split of
            distinct ones has networks, it is smaller.

        Returns
        -------
        sequence of dict

        Raises
        ------
        ConfigError
            If the rule makes too few configurations, or finding them takes too many candidates; raised by this method
            if they are distinct, and otherwise when a configuration is read.  If given configurations are not as many
            as the split has networks, are no fields by name, or are not distinct although the split is.
        """
        replaced = replaced or {}
        chosen = self.split(split)
        count = chosen.size if count is None else checked_integer("count", count, at_least(1))
        if chosen.configs is not None:
            return [config for _, config in self._given(split, replaced)][:count]
        drawn = _DrawnConfigs(self, split, seed, count, replaced)
        if not chosen.distinct:
            return drawn
        found: dict[str, dict[str, Any]] = {}
        left = MAX_CHARACTERS
        for index in range(count):
            config, left = drawn.candidate(index, found, left)
            if config is None and replaced and found:  # what was replaced leaves fewer than the split has
                break
            config = config or drawn.give_up(index)
            found[canonical(config)] = config
            left = min(left + 500, MAX_CHARACTERS)  # so that a split can have any number of networks
        return list(found.values())

    def names(self, split: str, replaced: Mapping[str, Any] | None = None) -> Sequence[str]:
        """Return the names of the configurations of a split, in the order of `configs`; empty if they have none.

        Parameters
        ----------
        split : str
            Name of the split.
        replaced : mapping, optional
            As in `configs`.
        """
        return [name for name, _ in self._given(split, replaced or {})] if self.split(split).names else ()

    def _given(self, split: str, replaced: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Return the names and the configurations that a split states itself."""
        chosen = self.split(split)
        given: Any = chosen.configs() if callable(chosen.configs) else chosen.configs
        _check_given(f"family {self.name}, split {split}: configs", given, chosen)
        names = chosen.names or [""] * len(given)
        pairs = [(name, {**config, **replaced}) for name, config in zip(names, given)]
        if chosen.distinct and replaced:  # the first one of those that have become equal
            kept: dict[str, tuple[str, dict[str, Any]]] = {}
            for pair in pairs:
                kept.setdefault(canonical(pair[1]), pair)
            pairs = list(kept.values())
        return pairs

    @property
    def identity(self) -> str:
        """Digest of the family; functions count by their names, and the arguments of `functools.partial`."""
        values = {"model": named(self.model), "rule": named(self.rule), "arguments": named(self.arguments)}
        values["splits"] = {
            name: [split.size, split.part, named(split.rule), split.distinct, named(split.configs)]
            for name, split in self.splits.items()
        }
        return hashlib.sha256(canonical(values).encode()).hexdigest()[:16]


def _are_texts(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, str) for value in values)


def _check_given(where: str, configs: Any, split: FamilySplit) -> None:
    """Check the configurations that a split states itself."""
    if not isinstance(configs, Sequence) or len(configs) != split.size:
        got = f"{len(configs)}" if isinstance(configs, Sequence) else abbreviated(configs)
        raise ConfigError(f"{where}: expected {split.size}, the size of the split, got {got}")
    found: dict[str, int] = {}
    for index, config in enumerate(configs):
        if not isinstance(config, Mapping) or not config:
            raise ConfigError(f"{where}: expected fields by name, got {abbreviated(config)}")
        try:
            text = canonical(dict(config))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {index} has values that JSON cannot represent: {error}") from error
        if split.distinct and found.setdefault(text, index) != index:
            raise ConfigError(f"{where}: {index} is {found[text]} again, but they are to be distinct")


class _DrawnConfigs(Sequence[dict[str, Any]]):
    """Configurations of a split that are drawn when they are read."""

    def __init__(self, family: Family, split: str, seed: int, count: int, replaced: Mapping[str, Any]) -> None:
        self.family, self.split, self.seed, self.length, self.replaced = family, split, seed, count, replaced
        self.part = family.split(split).part

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(index)
        return self.first(index % self.length)

    def candidate(self, index: int, others: Mapping[str, Any], left: int) -> tuple[dict[str, Any] | None, int]:
        """Return the first candidate for a network that the split may hold and that is none of the others, if any.

        Also return what is left of the number of characters that the search may take.
        """
        for attempt in range(MAX_ATTEMPTS):
            config = self.family.draw(self.split, index, self.seed, attempt, self.replaced)
            text = canonical(config)
            left -= 100 + len(text)
            if self.part[0] <= _place(text) < self.part[1] and text not in others:
                return config, left
            if left < 0:
                raise ConfigError(
                    f"family {self.family.name}: split {self.split}: the search for its configurations takes too long; "
                    "declare a smaller split, or a larger part of all configurations"
                )
        return None, left

    def first(self, index: int) -> dict[str, Any]:
        """Return the first candidate for a network that the split may hold."""
        return self.candidate(index, {}, MAX_CHARACTERS)[0] or self.give_up(index)

    def give_up(self, index: int) -> NoReturn:
        """Raise the error for a network without a candidate."""
        raise ConfigError(
            f"family {self.family.name}: split {self.split}: no configuration for network {index} among "
            f"{MAX_ATTEMPTS:,} candidates; the rule makes too few distinct ones for {self.length} networks; "
            "declare a smaller split"
        )


def _place(text: str) -> float:
    """The place of a configuration among all, from 0 to 1."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11) / 2**53
