"""Text cells that spreadsheet programs would execute as formulas, in CSV files.

Labels of predictors and reasons of failures are texts of users and of their code.  A spreadsheet program executes a
cell that begins with ``=``, ``+``, ``-`` or ``@``.  Such a text is written with an apostrophe before it, which is how
these programs mark text, and read back without it.
"""

from __future__ import annotations

import re

__all__ = ["escape_formula", "unescape_formula"]

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def escape_formula(text: str) -> str:
    """Return a text as a cell that no spreadsheet program executes.

    Parameters
    ----------
    text
        Any text; numbers and all other texts that are not like a formula are returned unchanged.

    Returns
    -------
    str
        The text that `unescape_formula` converts back.

    Examples
    --------
    >>> escape_formula("=1+1"), escape_formula("-0.5"), escape_formula("ghn2-digits")
    ("'=1+1", '-0.5', 'ghn2-digits')
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unescape_formula(cell: str) -> str:
    """Return the text of a cell that `escape_formula` wrote.

    Examples
    --------
    >>> unescape_formula(escape_formula("'@SUM(A1)")), unescape_formula("'quoted'")
    ("'@SUM(A1)", "'quoted'")
    """
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell
