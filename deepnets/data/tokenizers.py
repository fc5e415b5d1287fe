"""Tokenizers of texts: bytes, or a file `tokenizer.json` of the library tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from deepnets.support import ConfigError, FormatError, MissingDataError, MissingDependencyError, in_one_line
from deepnets.support.untrusted_files import read_whole

__all__ = ["ByteTokenizer", "FileTokenizer", "Tokenizer", "open_tokenizer"]

_PIECE = 1 << 20
"""Characters that a tokenizer of a file encodes at once, up to the end of a line."""


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

    Special tokens are not added.  The file is data; reading it runs no code.

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
                f'tokenizer {path}: the library tokenizers is not installed; pip install "deepnets1m[language]", or '
                "use --tokenizer bytes",
                name="tokenizers",
            ) from error
        content = read_whole(path)
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises Exception itself
            raise FormatError(f"{path}: is not the file of a tokenizer: {in_one_line(error)}") from error
        self.name = path.name
        self.vocabulary_size = int(self._tokenizer.get_vocab_size())

    def encode(self, text: bytes, source: str) -> Tensor:
        """Return the tokens, `(n,) int32`.

        Raises
        ------
        FormatError
            If the text is not UTF-8.
        """
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{source}: is not UTF-8 at byte {error.start}; convert it, or use bytes") from error
        pieces = [np.zeros(0, np.int32)]
        start = 0
        while start < len(decoded):  # a whole corpus at once would need many times its size in memory
            end = decoded.find("\n", start + _PIECE)
            end = len(decoded) if end < 0 else end + 1
            encoded = self._tokenizer.encode(decoded[start:end], add_special_tokens=False)
            pieces.append(np.asarray(encoded.ids, np.int32))
            start = end
        return torch.from_numpy(np.concatenate(pieces))


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
