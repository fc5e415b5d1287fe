"""The exceptions of the toolkit: everything it raises about its input is a `DeepNetsError`.

A message says what is wrong, where (file, split, index), which value was given, which values are allowed, and what to
do about it.

| exception                | raised when                                              | also a              |
|--------------------------|----------------------------------------------------------|---------------------|
| `ConfigError`            | an argument, option or configuration is not allowed      | `ValueError`        |
| `MissingDataError`       | a data set or file has not been built or downloaded      | `FileNotFoundError` |
| `MissingDependencyError` | an optional package is not installed                     | `ImportError`       |
| `BusyError`              | another process holds the lock of a folder               |                     |
| `FormatError`            | a file has the wrong format, version or layout           |                     |
| `IntegrityError`         | a file has the right format, but its content is damaged  | `FormatError`       |
| `CheckpointError`        | a hypernetwork checkpoint cannot be read or written      |                     |
| `TraceError`             | a module cannot be converted to a graph                  |                     |
| `TrainingError`          | training cannot be continued                             |                     |
"""

from __future__ import annotations

import re

__all__ = [
    "BusyError",
    "CheckpointError",
    "ConfigError",
    "DeepNetsError",
    "FormatError",
    "IntegrityError",
    "MissingDataError",
    "MissingDependencyError",
    "TraceError",
    "TrainingError",
    "in_one_line",
    "printable",
]

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class DeepNetsError(Exception):
    """Base class of every error that the toolkit raises about its input.

    Examples
    --------
    >>> from deepnets import DeepNetsError, DeepNets1M
    >>> try:
    ...     DeepNets1M("data", split="tset")
    ... except DeepNetsError as error:
    ...     print(error)
    split: unknown 'tset'; use one of train, val, test, search, wide, deep, dense, bnfree, predefined
    """


class ConfigError(DeepNetsError, ValueError):
    """A configuration, option or argument is not allowed.

    Examples
    --------
    >>> issubclass(ConfigError, ValueError)
    True
    """


class MissingDataError(DeepNetsError, FileNotFoundError):
    """A data set or file does not exist yet; the message says how to build or download it.

    Examples
    --------
    >>> from deepnets import DeepNets1M
    >>> try:
    ...     DeepNets1M("an empty folder", split="val")
    ... except FileNotFoundError as error:
    ...     print(str(error).partition(";")[0])
    an empty folder/deepnets1m_val.h5: no such file
    """


class MissingDependencyError(DeepNetsError, ImportError):
    """An optional package is not installed or cannot be imported; the message says what to install.

    Examples
    --------
    >>> issubclass(MissingDependencyError, ImportError)
    True
    """


class BusyError(DeepNetsError):
    """Another process holds the lock of a folder that this process needs for writing.

    Examples
    --------
    >>> issubclass(BusyError, DeepNetsError)
    True
    """


class FormatError(DeepNetsError):
    """A file has the wrong format, an unsupported version or an invalid layout.

    Examples
    --------
    >>> from deepnets import Graph
    >>> try:
    ...     Graph(node_types=[9], cells=[0], in_degrees=[1], sources=[0])
    ... except FormatError as error:
    ...     print(error)
    graph: the sources of a node are not nodes before it, in increasing order
    """


class IntegrityError(FormatError):
    """A file has the right format, but its content is damaged.

    Examples
    --------
    >>> issubclass(IntegrityError, FormatError)
    True
    """


class CheckpointError(DeepNetsError):
    """A hypernetwork checkpoint cannot be read or written."""


class TrainingError(DeepNetsError):
    """Training cannot be continued, for example because the loss is not finite."""


class TraceError(DeepNetsError):
    """A module cannot be converted to a graph."""


def in_one_line(error: BaseException, limit: int | None = None) -> str:
    """Return the type and the text of an exception of other code, without line breaks, for a message.

    Parameters
    ----------
    error
        The exception.
    limit
        Most characters of the text.

    Examples
    --------
    >>> in_one_line(ValueError("two\\nlines")), in_one_line(KeyError())
    ('ValueError: two lines', 'KeyError')
    """
    text = " ".join(str(error).split())[:limit]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def printable(text: str) -> str:
    """Replace control characters, except line breaks and tabs, by escape sequences.

    Texts from files could otherwise change the title, the colours or the content of a terminal.

    Parameters
    ----------
    text
        Any text.

    Examples
    --------
    >>> printable("\\x1b[2Jcleared")
    '\\\\x1b[2Jcleared'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)
