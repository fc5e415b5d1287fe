"""`open_texts`: texts by name, and the registry to which you add your own.

python           the documentation of the Python language that every installation of Python carries
text:PATH        a file, or a folder of files `*.txt`
wikitext:PATH    a folder in the layout of WikiText-2 and WikiText-103
module:attribute a loader of your own (see `TextLoader`)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from deepnets.support import (
    IMAGE_SPLITS,
    ConfigError,
    FormatError,
    MissingDataError,
    Registry,
    naming_extras,
    read_whole,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from deepnets.data.text_set import TextSet
    from deepnets.data.tokenizers import Tokenizer

__all__ = ["TEXT_SETS", "TextLoader", "check_text_name", "open_texts"]

SPLIT_ENDS = {"train": (0, 90), "val": (90, 95), "test": (95, 100), "trainval": (0, 95)}
"""Parts of a text without parts of its own, as percentages of its bytes; parts begin after the end of a line."""

MAX_BYTES = 2**30
"""Largest size of a file of texts."""

_SUFFIXES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Names of files of parts, without suffix."""


class TextLoader(Protocol):
    """A function that reads one part of a text."""

    def __call__(self, split: str) -> bytes:
        """Load a part.

        Parameters
        ----------
        split : str
            The part, one of `deepnets.support.IMAGE_SPLITS`.

        Returns
        -------
        bytes
            The text, in UTF-8.
        """


def load_python(split: str) -> bytes:
    """Return a part of the reference of the Python language, from `pydoc_data.topics`, 0.5 to 0.7 MB.

    It is the text that `help("LAMBDA")` prints: the chapters on statements, expressions and the data model, sorted by
    topic.  It differs between versions of Python.

    Parameters
    ----------
    split : str
        One of `deepnets.support.IMAGE_SPLITS`: 90 % of the bytes are for training, 5 % each for `val` and `test`.

    Raises
    ------
    MissingDataError
        If the installation of Python lacks the module.

    Examples
    --------
    >>> len(load_python("train")) > 10 * len(load_python("test")) > 100_000
    True
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise MissingDataError(
            "texts: this installation of Python lacks its module pydoc_data.topics; use text:PATH"
        ) from error
    return _part("\n".join(topics[name] for name in sorted(topics)).encode(), split)


TEXT_SETS: Registry[TextLoader] = Registry("texts", {"python": load_python})
"""Loaders of texts, by name; iterate over it to list the names."""


def check_text_name(name: str) -> str:
    """Return the name of a text if it has one of the known forms, without reading anything.

    Raises
    ------
    ConfigError
        If it has none of them.

    Examples
    --------
    >>> check_text_name("text:my/corpus")
    'text:my/corpus'
    """
    if name.partition(":")[0] in _FORMATS and name.partition(":")[2]:
        return name
    try:
        return TEXT_SETS.check(name)
    except ConfigError as error:
        raise ConfigError(f"{error}, text:PATH or wikitext:PATH") from error


@naming_extras()
def open_texts(
    name: str = "python",
    split: str = "train",
    *,
    tokenizer: str | Path | Tokenizer = "bytes",
    sequence_length: int = 64,
    device: torch.device | str = "cpu",
) -> TextSet:
    """Open one part of a text.

    Parameters
    ----------
    name : str
        - "python": the reference of the Python language, which is part of every installation of Python;
        - "text:PATH": a file, or a folder.  A folder with files `train.txt`, `val.txt` (or `valid.txt`) and `test.txt`
          has these parts; the files `*.txt` of other folders are joined in the order of their names.  A text without
          parts is split by position: 90 % for training, then 5 % for validation and 5 % for testing;
        - "wikitext:PATH": a folder with `wiki.train.tokens`, `wiki.valid.tokens` and `wiki.test.tokens`, or the same
          names with `.raw`;
        - a name in `TEXT_SETS`, or "module:attribute" for a loader of your own.
    split : {"train", "val", "test", "trainval"}
        The part.
    tokenizer : str, Path or Tokenizer, default "bytes"
        As for `deepnets.data.open_tokenizer`.
    sequence_length : int, default 64
        Tokens that a network sees at once.
    device : torch.device or str
        Device of the batches.

    Raises
    ------
    ConfigError
        If there is no such text or part, or the part is shorter than one sequence.
    MissingDataError
        If a file is missing.
    FormatError
        If a file cannot be read, or is not UTF-8 and the tokenizer needs that.
    MissingDependencyError
        If the tokenizer needs the library tokenizers.

    Examples
    --------
    >>> text = open_texts("python", "val", sequence_length=32)
    >>> text.vocabulary_size, next(text.batches(4))[0].shape
    (256, torch.Size([4, 32]))
    """
    import torch

    from deepnets.data.text_set import TextSet
    from deepnets.data.tokenizers import open_tokenizer

    if split not in IMAGE_SPLITS:
        raise ConfigError(f"split: expected one of {', '.join(IMAGE_SPLITS)}, got {split!r}")
    encoder = open_tokenizer(tokenizer)
    scheme, _, path = check_text_name(name).partition(":")
    content = _FORMATS[scheme](Path(path), split) if scheme in _FORMATS else TEXT_SETS[name](split)
    if not isinstance(content, bytes):
        raise ConfigError(f"texts: {name}: expected the loader to return bytes, got {type(content).__name__}")
    tokens: Tensor = encoder.encode(content, f"{name} ({split})")
    return TextSet(name, split, tokens, encoder.vocabulary_size, encoder.name, sequence_length, torch.device(device))


def _part(text: bytes, split: str) -> bytes:
    """Return a part of a text that has no parts of its own."""
    start, end = (_line_end(text, len(text) * percent // 100) for percent in SPLIT_ENDS[split])
    return text[start:end]


def _line_end(text: bytes, place: int) -> int:
    """Return the position after the line of a position; at the ends, or without lines, that of the next character."""
    if place in (0, len(text)):
        return place
    found = text.find(b"\n", place - 1)
    if found >= 0 and found + 1 < len(text):
        return found + 1
    while place < len(text) and text[place] & 0xC0 == 0x80:  # inside a character of UTF-8
        place += 1
    return place


def _read_plain(path: Path, split: str) -> bytes:
    if path.is_file():
        return _part(_read(path), split)
    if not path.is_dir():
        raise MissingDataError(f"texts: there is no file or folder {path}")
    files = sorted(each for each in path.iterdir() if each.suffix == ".txt" and each.is_file())
    if not files:
        raise MissingDataError(f"texts: {path} has no files *.txt")
    stems = {each.stem for each in files}
    if "train" in stems:
        return b"\n".join(_read(_named(path, _SUFFIXES[each], ".txt")) for each in _parts_of(split))
    return _part(b"\n".join(map(_read, files)), split)


def _read_wikitext(path: Path, split: str) -> bytes:
    if not path.is_dir():
        raise MissingDataError(f"texts: there is no folder {path}")
    found = [suffix for suffix in (".tokens", ".raw") if (path / f"wiki.train{suffix}").is_file()]
    if len(found) != 1:
        state = "both of" if found else "neither"
        raise MissingDataError(
            f"texts: {path} has {state} wiki.train.tokens {'and' if found else 'nor'} wiki.train.raw"
        )
    names = {"train": "wiki.train", "val": "wiki.valid", "test": "wiki.test"}
    return b"\n".join(_read(_named(path, (names[each],), found[0])) for each in _parts_of(split))


def _parts_of(split: str) -> tuple[str, ...]:
    return ("train", "val") if split == "trainval" else (split,)


def _named(folder: Path, stems: tuple[str, ...], suffix: str) -> Path:
    paths = [folder / f"{stem}{suffix}" for stem in stems]
    for path in paths:
        if path.is_file():
            return path
    raise MissingDataError(f"texts: {folder} has no file {' or '.join(path.name for path in paths)}")


def _read(path: Path) -> bytes:
    try:
        return read_whole(path, MAX_BYTES)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


_FORMATS: dict[str, Callable[[Path, str], bytes]] = {"text": _read_plain, "wikitext": _read_wikitext}
