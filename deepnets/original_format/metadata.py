"""Names of the original files, and their JSON metadata, indexed in one pass and read one network at a time.

The metadata of a million networks is about 700 MB of JSON, and several GB in memory once it is parsed.  The file is
therefore parsed piece by piece, and only the position and the number of nodes of each network's entry are kept.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from deepnets.original_format.vocabulary import Tables
from deepnets.support import STORED_SPLITS, ConfigError, FormatError, IntegrityError, check_regular
from deepnets.support.untrusted_files import collection_paused

__all__ = [
    "MAX_NODES",
    "SplitIndex",
    "index_metadata",
    "metadata_file",
    "official_file",
    "read_entry",
    "read_tables",
]

MAX_NODES = 8192
"""Largest number of nodes of a network in a file, which bounds the size of its matrix; the largest known is 1,567."""

_SPACES = re.compile(r"[ \t\r\n]*")
_CHUNK = 4 << 20
_MAX_VALUE = 8 << 20  # largest JSON value in bytes: the entry of a network, or the tables of a split


def official_file(folder: str | Path, split: str) -> Path:
    """Return the path of the HDF5 file of the original release that holds a split.

    Parameters
    ----------
    folder : Path or str
        The folder of the files.
    split : str
        One of `deepnets.support.STORED_SPLITS`.  `train` and `search` have their own files; all others are in
        `deepnets1m_eval.hdf5`.

    Returns
    -------
    Path
        The file need not exist.

    Raises
    ------
    ConfigError
        If the split is unknown.

    Examples
    --------
    >>> official_file("data", "train").name, official_file("data", "wide").name
    ('deepnets1m_train.hdf5', 'deepnets1m_eval.hdf5')
    """
    if split not in STORED_SPLITS:
        raise ConfigError(f"split: expected one of {', '.join(STORED_SPLITS)}; got {split!r}")
    return Path(folder) / f"deepnets1m_{split if split in ('train', 'search') else 'eval'}.hdf5"


def metadata_file(path: Path) -> Path:
    """Return the path of the JSON file that belongs to an HDF5 file.

    Examples
    --------
    >>> metadata_file(Path("data/deepnets1m_eval.hdf5")).name
    'deepnets1m_eval_meta.json'
    """
    return path.with_name(f"{path.stem}_meta.json")


class SplitIndex(NamedTuple):
    """Positions of the entries of a split in a metadata file.

    Attributes
    ----------
    starts, lengths : numpy array
        `(n,) int64`, first byte and number of bytes of each network's JSON object.
    num_nodes : numpy array
        `(n,) int32`, nodes of each network.
    tables : Tables
        The vocabulary of the split.
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    num_nodes: npt.NDArray[np.int32]
    tables: Tables


def index_metadata(path: Path, split: str) -> SplitIndex:
    """Index the entries of a split in a metadata file.

    Parameters
    ----------
    path : Path
        The metadata file.
    split : str
        The split.

    Returns
    -------
    SplitIndex
        Positions of the entries.

    Raises
    ------
    FormatError
        If the file is missing, does not have the expected format, lacks the split, or states more than `MAX_NODES`.

    Examples
    --------
    >>> import tempfile
    >>> tables = {"primitives_ext": {}, "unique_op_names": {}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "deepnets1m_eval_meta.json")
    ...     _ = path.write_text(json.dumps({"val": {"nets": [{"num_nodes": 7}], "meta": tables}}))
    ...     index = index_metadata(path, "val")
    ...     read_entry(path, index, 0)
    {'num_nodes': 7}
    """
    try:
        check_regular(path)
        with path.open("rb") as stream, collection_paused():
            found = _find_split(_Scanner(stream), split)
    except FileNotFoundError:
        raise FormatError(f"{path}: missing; the HDF5 file needs this metadata file in the same folder") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error
    except RecursionError:
        raise FormatError(f"{path}: nested too deeply to be metadata of networks") from None
    except FormatError as error:
        raise type(error)(f"{path}: {error}") from error
    if found is None:
        raise FormatError(f"{path}: no split {split!r}, although the HDF5 file has it; get both files again")
    return found


def read_entry(path: Path, index: SplitIndex, i: int) -> dict[str, Any]:
    """Read the metadata entry of one network.

    Parameters
    ----------
    path : Path
        The metadata file; see `index_metadata` for an example.
    index : SplitIndex
        Positions of its entries.
    i : int
        The network.

    Returns
    -------
    dict
        The entry.

    Raises
    ------
    IntegrityError
        If the file has changed since it was indexed.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(int(index.starts[i]))
            entry = json.loads(stream.read(int(index.lengths[i])))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"the metadata file was changed while it was in use ({error}); open it again") from error
    if not isinstance(entry, dict):
        raise IntegrityError("the metadata file was changed while it was in use; open it again")
    return entry


def read_tables(path: Path, split: str) -> Any:
    """Read the vocabulary of a split as it is in a metadata file that `index_metadata` accepts.

    Parameters
    ----------
    path : Path
        The metadata file.
    split : str
        The split.

    Returns
    -------
    JSON value
        The value of the key `meta`.

    Raises
    ------
    IntegrityError
        If the file has changed since it was indexed.
    """
    with path.open("rb") as stream, collection_paused():
        scanner = _Scanner(stream)
        for name in scanner.members():
            for key in scanner.members():
                if key == "nets":
                    for _ in scanner.items():
                        pass
                    continue
                value = scanner.value()[0]
                if (name, key) == (split, "meta"):
                    return value
    raise IntegrityError(f"{path}: was changed while it was in use; open it again")


def _find_split(scanner: _Scanner, split: str) -> SplitIndex | None:
    found = None
    for key in scanner.members():
        index = _index_split(scanner, key[:40])
        if key == split:
            found = index
    scanner.end()
    return found


def _index_split(scanner: _Scanner, split: str) -> SplitIndex:
    starts, lengths, num_nodes = array("q"), array("q"), array("i")
    tables = None
    keys = set()
    for key in scanner.members():
        keys.add(key)
        if key == "nets":
            for entry, start, length in scanner.items():
                starts.append(start)
                lengths.append(length)
                num_nodes.append(_checked_size(entry, split, len(num_nodes)))
        elif key == "meta":
            try:
                tables = Tables.from_meta(scanner.value()[0])
            except FormatError as error:
                raise FormatError(f"split {split}: {error}") from error
        else:
            scanner.value()
    if tables is None or "nets" not in keys:
        raise FormatError(f"split {split}: expected nets and meta, got {', '.join(sorted(keys))[:200] or 'nothing'}")
    return SplitIndex(np.array(starts, np.int64), np.array(lengths, np.int64), np.array(num_nodes, np.int32), tables)


def _checked_size(entry: Any, split: str, index: int) -> int:
    where = f"split {split}, network {index}"
    if not isinstance(entry, dict):
        raise FormatError(f"{where}: expected an object, got {type(entry).__name__}")
    size = entry.get("num_nodes")
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_NODES:
        raise FormatError(f"{where}: num_nodes must be an integer, 1 to {MAX_NODES}; got {str(size)[:40]}")
    return size


class _Scanner:
    """Parses JSON piece by piece: the outer objects and arrays itself, the values in them with `json`.

    Bytes are decoded as Latin-1, one character each, so that positions in the text are positions in the file.  All
    strings that are used are ASCII.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._text = ""
        self._offset = 0  # position of the first character of the text in the file
        self._at = 0
        self._decoder = json.JSONDecoder()

    def members(self) -> Iterator[str]:
        """Iterate over the keys of an object; the caller must read each value before the next key."""
        self._take("{")
        seen = set()
        first = True
        while self._another("}", first):
            first = False
            key = self.value()[0]
            if not isinstance(key, str) or key in seen:
                raise FormatError(f"byte {self._position()}: a key that is not a string, or occurs twice")
            seen.add(key)
            self._take(":")
            yield key

    def items(self) -> Iterator[tuple[Any, int, int]]:
        """Iterate over the values of an array, each with its first byte and its length."""
        self._take("[")
        first = True
        while self._another("]", first):
            first = False
            yield self.value()

    def value(self) -> tuple[Any, int, int]:
        """Read a value of at most `_MAX_VALUE` bytes; return it with its first byte and its length."""
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > _MAX_VALUE or not self._more():
                    raise FormatError(f"byte {self._position()}: not valid JSON ({error.msg})") from None
                continue
            except ValueError as error:  # such as an integer of a million digits
                raise FormatError(f"byte {self._position()}: not usable JSON ({error})") from None
            if end == len(self._text) and self._more():
                continue  # a number may have more digits
            start, length = self._position(), end - self._at
            self._at = end
            return value, start, length

    def end(self) -> None:
        """Check that the file ends here."""
        if self._peek():
            raise FormatError(f"byte {self._position()}: unexpected data follows the metadata")

    def _position(self) -> int:
        return self._offset + self._at

    def _another(self, closing: str, first: bool) -> bool:
        """Return whether an object or array has another element; skip the comma or the closing bracket."""
        if self._peek() == closing:
            self._at += 1
            return False
        if not first:
            self._take(",")
        return True

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            got = repr(self._peek()) if self._peek() else "the end of the file"
            raise FormatError(f"byte {self._position()}: expected {expected!r}, got {got}")
        self._at += 1

    def _peek(self) -> str:
        """Return the next character that is not white space; an empty string at the end of the file."""
        while True:
            self._at = _SPACES.match(self._text, self._at).end()  # type: ignore[union-attr]  # it always matches
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        pending = len(self._text) - self._at
        # A value that is not complete is parsed again from its beginning, so twice as much is read each time.
        chunk = self._stream.read(max(_CHUNK, min(pending, _MAX_VALUE - pending)))
        if not chunk:
            return False
        self._text = self._text[self._at :] + chunk.decode("latin-1")
        self._offset += self._at
        self._at = 0
        return True
