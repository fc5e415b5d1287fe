"""Pickles read as data: an interpreter of pickle's instructions that builds values and calls nothing of anybody's.

A pickle is a program, and Python's own interpreter lets it call anything.  This one looks no name up: the name of a
function is a key of a table of builders, and every other name ends the reading.  `deepnets.data.cifar` and
`ghn_model.checkpoints.pickled_tensors` have such tables, for image sets and for what hypernetworks are made of.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

__all__ = ["DAMAGED", "Bounded", "Name", "Readable", "Unfinished", "fill", "read_pickle", "shown"]

MOST_INSTRUCTIONS = 5_000_000
LARGE = 1 << 16
DAMAGED = "is a damaged pickle"


class Readable(Protocol):
    """What instructions can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""


class Bounded:
    """A stream of which at most `limit` bytes are read, whatever its content claims; ValueError beyond.

    Parameters
    ----------
    stream
        Bytes; maybe decompressed ones, whose number nobody knows beforehand.
    limit
        In bytes.
    """

    def __init__(self, stream: Readable, limit: int) -> None:
        self._stream = stream
        self._left = limit
        self.position = 0

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, or fewer at the end.  What is large comes as a bytearray, which tensors can use."""
        if not 0 <= size <= self._left:
            raise ValueError("claims more data than the file can hold")
        data = self._stream.read(size if size < LARGE else 0)
        if len(data) < size:  # large, or a stream that gives less at a time than one asks for
            buffer = bytearray(size)
            view, filled = memoryview(buffer), len(data)
            view[:filled] = data
            while filled < size and (part := self._stream.read(min(size - filled, 1 << 24))):
                view[filled : filled + len(part)] = part
                filled += len(part)
            view.release()
            del buffer[filled:]
            data = buffer if size >= LARGE else bytes(buffer)  # type: ignore[assignment]
        self._left -= len(data)
        self.position += len(data)
        return data

    def readline(self) -> bytes:
        """A line of at most 64 KiB, for the instructions of protocol 0."""
        line = bytearray()
        while len(line) < LARGE and (byte := self.read(1)):
            line += byte
            if byte == b"\n":
                break
        return bytes(line)


class Name(str):
    """The name of a function or class: never looked up."""

    __slots__ = ()


class Unfinished:
    """An object whose state comes later.

    Parameters
    ----------
    finish
        Makes the value from the stream, behind the instruction that ends the object, and the state.
    """

    def __init__(self, finish: Callable[[Bounded, Any], Any]) -> None:
        self.finish = finish


def read_pickle(
    stream: Bounded, builders: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The value that a pickle describes.

    Parameters
    ----------
    stream
        Where the pickle starts; read up to its end, and no further.
    builders
        What stands for the functions and classes that the pickle may name.
    persistent
        Finds what the pickle says is kept elsewhere.

    Returns
    -------
    Dictionaries, lists, tuples, texts, bytes, numbers, None, names (`Name`), and what the builders return.

    Raises
    ------
    ValueError
        If the pickle refers to anything else.  Damaged ones raise other exceptions as well: treat all alike.
    """
    return _Machine(stream, builders, persistent).run()


def fill(target: dict[Any, Any], items: list[Any]) -> None:
    """Put keys and values, which alternate, into a dictionary."""
    if len(items) % 2:
        raise ValueError(DAMAGED)
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | bytes | int | float | None):  # Python crashes on deeply nested tuples as keys
            raise ValueError(f"has a dictionary with a {type(key).__name__} as key")
        target[key] = value


_MARK = object()


class _Machine:
    def __init__(
        self, stream: Bounded, builders: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] | None
    ) -> None:
        self.stream = stream
        self.builders = builders
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.place: dict[int, int] = {}  # id of an object to its key in the memo

    def run(self) -> Any:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(self.stream)):  # type: ignore[arg-type]
            if count > MOST_INSTRUCTIONS:
                raise ValueError("is a pickle of too many instructions")
            name = instruction.name
            if name in _LITERALS:
                self.stack.append(argument)
            elif name == "STOP":
                return self.stack.pop()
            elif step := _STEPS.get(name):
                step(self, argument)
            else:
                raise ValueError(f"uses the pickle instruction {name}")
        raise ValueError("is a pickle without end")

    # --- containers ---

    def since_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError(DAMAGED)

    def take(self, number: int) -> list[Any]:
        if len(self.stack) < number:
            raise ValueError(DAMAGED)
        items = self.stack[len(self.stack) - number :]
        del self.stack[len(self.stack) - number :]
        return items

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError(DAMAGED)
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise ValueError(DAMAGED)
        fill(self.stack[-1], items)

    def remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]
        self.place[id(self.stack[-1])] = key

    def replace(self, value: Any) -> None:
        """Let another value take the place of the top of the stack, wherever it is remembered."""
        old = self.stack.pop()
        self.stack.append(value)
        if (key := self.place.get(id(old))) is not None and self.memo.get(key) is old:
            self.remember(key)

    # --- objects ---

    def name(self, argument: str) -> None:
        module, _, attribute = argument.partition(" ")
        self.stack.append(Name(f"{module}.{attribute}"))

    def name_from_stack(self, _: Any) -> None:
        module, attribute = self.take(2)
        if type(module) is not str or type(attribute) is not str:
            raise ValueError(DAMAGED)
        self.name(f"{module} {attribute}")

    def call(self, _: Any) -> None:
        function, arguments = self.take(2)
        if type(arguments) is not tuple:
            raise ValueError(DAMAGED)
        builder = self.builders.get(function) if type(function) is Name else None
        if builder is None:
            raise ValueError(f"refers to {shown(function)}, which is not data")
        self.stack.append(builder(*arguments))

    def build(self, _: Any) -> None:
        (state,) = self.take(1)
        target = self.stack[-1]
        if isinstance(target, Unfinished):
            self.replace(target.finish(self.stream, state))
        elif type(target) is not dict:  # of an OrderedDict: the versions of modules, which nobody needs
            raise ValueError(f"changes a {type(target).__name__}")

    def find(self, _: Any) -> None:
        (key,) = self.take(1)
        if self.persistent is None:
            raise ValueError("refers to data outside of it")
        self.stack.append(self.persistent(key))


def shown(value: Any) -> str:
    """A name or text, shortened; of anything else, its type."""
    return str(value)[:80] if isinstance(value, str) else f"a {type(value).__name__}"


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "POP": lambda machine, _: machine.stack.__delitem__(-1),
    "POP_MARK": lambda machine, _: machine.since_mark().clear(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.take(3))),
    "APPEND": lambda machine, _: machine.extend(machine.take(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "PUT": lambda machine, key: machine.remember(key),
    "BINPUT": lambda machine, key: machine.remember(key),
    "LONG_BINPUT": lambda machine, key: machine.remember(key),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "GET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "BINGET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "LONG_BINGET": lambda machine, key: machine.stack.append(machine.memo[key]),
    "GLOBAL": lambda machine, argument: machine.name(argument),
    "STACK_GLOBAL": lambda machine, _: machine.name_from_stack(_),
    "REDUCE": lambda machine, _: machine.call(_),
    "NEWOBJ": lambda machine, _: machine.call(_),
    "BUILD": lambda machine, _: machine.build(_),
    "BINPERSID": lambda machine, _: machine.find(_),
}
