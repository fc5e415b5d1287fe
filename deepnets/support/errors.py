"""The one family of errors: everything this toolkit raises about its input is a `DeepNetsError`.

A message says what is wrong, where (file, split, index), what was given, what is expected and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DeepNetsError",
    "FormatError",
    "IntegrityError",
    "TraceError",
    "TrainingError",
]


class DeepNetsError(Exception):
    """Base of every error that this toolkit raises about what it was given."""


class ConfigError(DeepNetsError, ValueError):
    """A configuration, option or argument is outside what is allowed."""


class FormatError(DeepNetsError):
    """A file is not what it should be: another kind, another version, or a layout that breaks the rules."""


class IntegrityError(FormatError):
    """A file has the right form, but its content is damaged."""


class CheckpointError(DeepNetsError):
    """A hypernetwork checkpoint cannot be used."""


class TrainingError(DeepNetsError):
    """A training cannot go on."""


class TraceError(DeepNetsError):
    """A network cannot be turned into a graph."""
