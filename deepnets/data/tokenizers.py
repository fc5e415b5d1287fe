"""Tokenizers of texts: bytes, or a file `tokenizer.json` of the library tokenizers."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deepnets.support import (
    ConfigError,
    FormatError,
    MissingDataError,
    MissingDependencyError,
    in_one_line,
    install_command,
)
from deepnets.support.untrusted_files import parse_json, read_whole

__all__ = ["ByteTokenizer", "FileTokenizer", "Tokenizer", "open_tokenizer"]

_PIECE = 1 << 18
"""Characters that a tokenizer of a file encodes at once, up to the end of a line; each takes some hundred bytes."""

_TOKENS = 1 << 20
"""Tokens have smaller numbers than this, or than the number of tokens of the file: models have a row for each."""

_MOST_GROWTH = 64
"""Largest factor by which the rules of a file may lengthen a text before it is cut into tokens."""


class Tokenizer(Protocol):
    """What turns a text into tokens.

    Attributes
    ----------
    name : str
        Name of the tokenizer.
    vocabulary_size : int
        Number of different tokens.
    """

    name: str
    vocabulary_size: int

    def encode(self, text: bytes, source: str) -> Tensor:
        """Return the tokens of a text, `(n,)` integers; `source` names the text in errors."""


class ByteTokenizer:
    """Every byte of the text, in UTF-8, is a token.

    Examples
    --------
    >>> ByteTokenizer().encode("Aä".encode(), "the text").tolist()
    [65, 195, 164]
    """

    name, vocabulary_size = "bytes", 256

    def encode(self, text: bytes, source: str) -> Tensor:
        """Return the bytes, `(n,) uint8`."""
        return torch.from_numpy(np.frombuffer(text, np.uint8).copy())


class FileTokenizer:
    """The tokenizer of a file `tokenizer.json`, as the library tokenizers of Hugging Face writes it.

    Special tokens are not added, and truncation and padding that the file asks for are not applied.  The file is data;
    reading it runs no code.  Rules that lengthen a text more than 64 times are refused, because they would take
    gigabytes; the time that rules take is not limited.

    Parameters
    ----------
    path : Path or str
        The file.

    Raises
    ------
    MissingDataError
        If there is no such file.
    FormatError
        If it is no file of a tokenizer.
    MissingDependencyError
        If the library tokenizers is not installed.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        if not path.is_file():
            raise MissingDataError(f"tokenizer: there is no file {path}; expected 'bytes' or a file tokenizer.json")
        try:
            import tokenizers
        except ImportError as error:
            raise MissingDependencyError(
                f"tokenizer {path}: the library tokenizers is not installed; {install_command('language')}, or "
                "use --tokenizer bytes",
                name="tokenizers",
            ) from error
        content = read_whole(path)
        try:
            growth = _growth(parse_json(content).get("normalizer"))
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(content.decode())
            self._tokenizer.no_truncation()  # files keep the options of a call, which would cut a corpus to 512 tokens
            self._tokenizer.no_padding()
        except Exception as error:  # the library raises Exception itself
            raise FormatError(f"{path}: is not the file of a tokenizer: {in_one_line(error, 200)}") from error
        if growth > _MOST_GROWTH:
            raise FormatError(
                f"{path}: the normalizer of this tokenizer lengthens texts more than {_MOST_GROWTH} times"
            )
        self._path, self._piece = path, _PIECE // growth
        self.name = path.name
        ids = self._tokenizer.get_vocab().values()
        self._limit = max(_TOKENS, len(ids))
        self.vocabulary_size = 1 + max((each for each in ids if each < self._limit), default=-1)  # ids may have gaps

    def encode(self, text: bytes, source: str) -> Tensor:
        """Return the tokens, `(n,) int32`.

        Raises
        ------
        FormatError
            If the text is not UTF-8, or the tokenizer fails.
        """
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{source}: is not UTF-8 at byte {error.start}; convert it, or use bytes") from error
        pieces = [np.zeros(0, np.int32)]
        start = 0
        while start < len(decoded):  # a whole corpus at once would need many times its size in memory
            end = decoded.find("\n", start + self._piece, start + 2 * self._piece) + 1 or start + 2 * self._piece
            pieces.append(self._encode(decoded[start:end]))
            start = end
        return torch.from_numpy(np.concatenate(pieces))

    def _encode(self, text: str) -> npt.NDArray[np.int32]:
        try:
            ids = np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library is no Exception
            raise FormatError(f"{self._path}: this tokenizer fails for the text: {in_one_line(error, 200)}") from None
        if ids.max(initial=0) >= self._limit:
            raise FormatError(f"{self._path}: this tokenizer has the token {ids.max()}, which is too large")
        return ids.astype(np.int32)


def _growth(normalizer: Any) -> int:
    """Return a bound of the factor by which a normalizer lengthens a text."""
    if not isinstance(normalizer, dict):
        return 1
    if isinstance(parts := normalizer.get("normalizers"), list):
        return min(math.prod(map(_growth, parts)), 2 * _MOST_GROWTH)
    added = [
        normalizer.get("content"),
        normalizer.get("prepend"),
        *_replacements(normalizer.get("precompiled_charsmap")),
    ]
    return max([1, *(len(text) for text in added if isinstance(text, str | bytes))])


def _replacements(charsmap: Any) -> list[bytes]:
    """Return the texts that a map of characters of SentencePiece inserts: behind a trie, whose size comes first."""
    if not isinstance(charsmap, str):
        return []
    content = base64.b64decode(charsmap)
    return content[4 + int.from_bytes(content[:4], "little") :].split(b"\0")


def open_tokenizer(name: str | Path | Tokenizer = "bytes") -> Tokenizer:
    """Open a tokenizer.

    Parameters
    ----------
    name : str, Path or Tokenizer
        "bytes"; a file `tokenizer.json`; or a tokenizer, which is returned.

    Raises
    ------
    ConfigError
        If it is none of them.
    MissingDataError, FormatError, MissingDependencyError
        As for `FileTokenizer`.

    Examples
    --------
    >>> open_tokenizer().vocabulary_size
    256
    """
    if isinstance(name, (str, Path)):
        return ByteTokenizer() if str(name) == "bytes" else FileTokenizer(name)
    if not hasattr(name, "encode") or not hasattr(name, "vocabulary_size"):
        raise ConfigError(f"tokenizer: expected 'bytes', a file, or an object with encode, got {type(name).__name__}")
    return name
