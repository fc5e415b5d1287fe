"""Read untrusted pickles: an interpreter of the pickle instructions that executes no code.

A pickle is a program that can call any Python function if it is read by `pickle.load`.  This interpreter never imports
the functions and classes that a pickle names.  It looks their names up in a table of builders and rejects all other
names.  `deepnets.data.cifar` and `ghn_model.checkpoints.pickled_tensors` define such tables.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from deepnets.support.budget import OBJECT, Budget

__all__ = ["DAMAGED", "Bounded", "Name", "Readable", "Unfinished", "fill", "read_pickle", "shown"]

MOST_INSTRUCTIONS = 5_000_000
LARGE = 1 << 16
LONGEST_INTEGER = 1024  # bits; Python refuses to print integers of thousands of digits
DAMAGED = "is a damaged pickle"


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""


class Bounded:
    """A stream from which at most a given number of bytes is read.

    Parameters
    ----------
    stream
        A binary stream.  It may decompress data, whose length is unknown in advance.
    limit
        Largest number of bytes.
    budget
        Limit on what is created from the stream.  By default, that of a file of `limit` bytes.

    Attributes
    ----------
    position
        Number of bytes read so far.
    budget : Budget
        What may still be created.  Streams that are parts of one file share it.

    Examples
    --------
    >>> import io
    >>> Bounded(io.BytesIO(b"abcdef"), limit=4).read(3)
    b'abc'
    """

    def __init__(self, stream: Readable, limit: int, budget: Budget | None = None) -> None:
        self._stream = stream
        self._left = limit
        self.position = 0
        self.budget = budget or Budget(limit)

    def read(self, size: int) -> bytes:
        """Read bytes.

        Parameters
        ----------
        size
            Number of bytes.

        Returns
        -------
        bytes or bytearray
            Exactly `size` bytes, or fewer at the end of the stream.  Large results are a bytearray, which tensors can
            use without a copy.

        Raises
        ------
        ValueError
            If more bytes are requested than the limit allows.
        """
        if not 0 <= size <= self._left:
            raise ValueError("claims more data than the file can hold")
        data = self._stream.read(size if size < LARGE else 0)
        if len(data) < size:  # a large size, or a stream that returns fewer bytes than requested
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
        """Read a line of at most 64 KiB; protocol 0 of pickle needs this."""
        line = bytearray()
        while len(line) < LARGE and (byte := self.read(1)):
            line += byte
            if byte == b"\n":
                break
        return bytes(line)


class Name(str):
    """The name of a function or class in a pickle.  It is never imported.

    Examples
    --------
    >>> Name("builtins.print")
    'builtins.print'
    """

    __slots__ = ()


class Unfinished:
    """An object whose state follows later in the pickle.

    Parameters
    ----------
    finish
        Called with the stream, positioned after the instruction that sets the state, and the state.  Returns the value.

    Examples
    --------
    >>> Unfinished(lambda stream, state: state["x"]).finish(None, {"x": 1})
    1
    """

    def __init__(self, finish: Callable[[Bounded, Any], Any]) -> None:
        self.finish = finish


def read_pickle(
    stream: Bounded, builders: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Read a pickle without executing code.

    Parameters
    ----------
    stream
        Positioned at the start of the pickle.  It is read up to the end of the pickle.
    builders
        Functions that are called in place of the functions and classes that the pickle names.
    persistent
        Called with a persistent id; returns the object that is stored outside of the pickle.  None, the default, if
        there are no such objects.

    Returns
    -------
    object
        Dictionaries, lists, tuples, strings, bytes, numbers, None, `Name`s, and results of the builders.

    Raises
    ------
    ValueError
        If the pickle refers to anything else, or its objects exceed the budget of the stream.  Damaged pickles can
        raise any exception.

    Notes
    -----
    Every instruction counts as one small object.  A builder is expected to copy its arguments, but not to create more
    than that; one that does must count it.

    Examples
    --------
    >>> import io, pickle
    >>> data = pickle.dumps({"a": [1, 2.5, None]})
    >>> read_pickle(Bounded(io.BytesIO(data), len(data)), builders={})
    {'a': [1, 2.5, None]}
    >>> data = pickle.dumps(print)
    >>> read_pickle(Bounded(io.BytesIO(data), len(data)), builders={})
    'builtins.print'
    """
    return _Machine(stream, builders, persistent).run()


def fill(target: dict[Any, Any], items: list[Any]) -> None:
    """Insert a list of alternating keys and values into a dictionary.

    Parameters
    ----------
    target
        The dictionary.
    items
        Key, value, key, value, and so on.

    Raises
    ------
    ValueError
        If the number of items is odd, or a key is not a string, bytes, a number or None.

    Examples
    --------
    >>> target = {}
    >>> fill(target, ["a", 1])
    >>> target
    {'a': 1}
    """
    if len(items) % 2:
        raise ValueError(DAMAGED)
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | bytes | int | float | None):  # the hash of a deeply nested tuple crashes Python
            raise ValueError(f"has a dictionary with a {type(key).__name__} as key")
        target[key] = value


_MARK = object()


class _Machine:
    def __init__(
        self, stream: Bounded, builders: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] | None
    ) -> None:
        self.stream = stream
        self.budget = stream.budget
        self.builders = builders
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.memo_keys: dict[int, int] = {}  # id of an object -> its key in the memo

    def run(self) -> Any:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(self.stream)):  # type: ignore[arg-type]
            if count > MOST_INSTRUCTIONS:
                raise ValueError("is a pickle of too many instructions")
            self.budget.spend(OBJECT)
            name = instruction.name
            if name in _LITERALS:
                if type(argument) is int and argument.bit_length() > LONGEST_INTEGER:
                    raise ValueError("holds an integer of hundreds of digits")
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
        self.memo_keys[id(self.stack[-1])] = key

    def replace(self, value: Any) -> None:
        """Replace the top of the stack, and its entry in the memo, by another value."""
        old = self.stack.pop()
        self.stack.append(value)
        if (key := self.memo_keys.get(id(old))) is not None and self.memo.get(key) is old:
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
        self.budget.spend(sum(map(_copied_size, arguments)))
        self.stack.append(builder(*arguments))

    def build(self, _: Any) -> None:
        (state,) = self.take(1)
        target = self.stack[-1]
        if isinstance(target, Unfinished):
            self.budget.spend(sum(map(_copied_size, state)) if type(state) is tuple else _copied_size(state))
            self.replace(target.finish(self.stream, state))
        elif type(target) is not dict:  # attributes of an OrderedDict, such as versions of modules, are ignored
            raise ValueError(f"changes a {type(target).__name__}")

    def find(self, _: Any) -> None:
        (key,) = self.take(1)
        if self.persistent is None:
            raise ValueError("refers to data outside of it")
        self.stack.append(self.persistent(key))


def _copied_size(value: Any) -> int:
    """Return about how much memory a copy of a value takes, without what it contains."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    return OBJECT * len(value) if isinstance(value, tuple | list | dict) else 0


def shown(value: Any) -> str:
    """Return a shortened string, or the type of any other value, for error messages.

    Parameters
    ----------
    value
        Any object.

    Examples
    --------
    >>> shown("name"), shown([])
    ('name', 'a list')
    """
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
