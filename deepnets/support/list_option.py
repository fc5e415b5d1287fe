"""Options that take several values, separated by spaces, by commas, or by both."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["ListOption", "split_list"]

_ANY = re.compile(r"\s*,\s*|\s+")


class ListOption(argparse.Action):
    """The action of an option with one or more values: ``--splits val test``, ``--splits val,test``.

    The value in the parsed options is a list.  `type` and `choices` are for its items.  Other parameters are those of
    `argparse.Action`.

    Parameters
    ----------
    count
        Number of values; None for one or more.
    paths
        Whether items can be paths or contain them: only commas separate them, and the name of an existing file is one
        item, whatever it contains.

    Examples
    --------
    >>> parser = argparse.ArgumentParser(prog="tool")
    >>> _ = parser.add_argument("--sizes", action=ListOption, type=int)
    >>> parser.parse_args(["--sizes", "1,2", "3"])
    Namespace(sizes=[1, 2, 3])
    """

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        *,
        nargs: int | str | None = None,
        type: Callable[[str], Any] | None = None,
        choices: Sequence[str] | None = None,
        count: int | None = None,
        paths: bool = False,
        metavar: str | tuple[str, ...] | None = None,
        **given: Any,
    ) -> None:
        if metavar is None and choices is not None:
            metavar = f"{{{','.join(map(str, choices))}}}"
        super().__init__(option_strings, dest, nargs="+", metavar=metavar, **given)
        self.item_type, self.item_choices = type, choices
        self.count, self.paths = count, paths

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Split the values, convert the items, and store the list."""
        items = [self._converted(item) for text in values for item in split_list(text, paths=self.paths)]
        if self.count is not None and len(items) != self.count:
            raise argparse.ArgumentError(self, f"expected {self.count} values, got {len(items)}")
        setattr(namespace, self.dest, items)

    def _converted(self, text: str) -> Any:
        try:
            item = text if self.item_type is None else self.item_type(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentError(self, f"invalid value: {text!r}") from error
        if self.item_choices is not None and item not in self.item_choices:
            known = ", ".join(map(repr, self.item_choices))
            raise argparse.ArgumentError(self, f"invalid choice: {item!r} (choose from {known})")
        return item


def split_list(text: str, *, paths: bool = False) -> list[str]:
    """Return the items of a text that are separated by commas or spaces.

    Parameters
    ----------
    text
        A value of an option.
    paths
        Whether items can contain paths; see `ListOption`.

    Returns
    -------
    list of str
        At least one item; items can be empty, so that a superfluous comma is reported by what reads them.

    Examples
    --------
    >>> split_list(" val , test"), split_list("a b.pt,c.pt", paths=True)
    (['val', 'test'], ['a b.pt', 'c.pt'])
    """
    if not paths:
        return _ANY.split(text.strip())
    whole = text.rpartition("=")[2]
    try:
        if "," not in text or Path(whole).exists():
            return [text]
    except (OSError, ValueError):  # not a valid path
        pass
    return [item.strip() for item in text.split(",")]
