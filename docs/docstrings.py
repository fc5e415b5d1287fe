"""Docstrings as Markdown: lists of modules, tables and examples, which are written for people who read the source."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROW = re.compile(r"(\S+(?:, \S+)*)\s{2,}(\S.*)")
CONTINUED = re.compile(r"\s{8,}(\S.*)")
TABLE = re.compile(r"^( *)(=+(?: +=+)+)\n((?:.*\n)+?)\1\2\n((?:.*\n)+?)\1\2$", re.MULTILINE)


class ReadableDocstrings(griffe.Extension):
    """Changes docstrings before they are parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value, is_module=obj.is_module)


def as_markdown(text: str, *, is_module: bool = False) -> str:
    """Convert the paragraphs of a docstring that are no Markdown.

    >>> print(as_markdown("Graphs.\\n\\nbuild   `build_graph`\\nbatch   several\\n        graphs"))
    Graphs.
    <BLANKLINE>
    - **build**: `build_graph`
    - **batch**: several graphs
    >>> print(as_markdown("=====  ====\\nname   size\\n=====  ====\\ntest    500\\n=====  ===="))
    | name | size |
    |---|---|
    | test | 500 |
    >>> as_markdown(">>> 1 + 1\\n2", is_module=True).splitlines()
    ['```pycon', '>>> 1 + 1', '2', '```']
    """
    return "\n\n".join(_paragraph(each, is_module) for each in TABLE.sub(_table, text).split("\n\n"))


def _paragraph(text: str, is_module: bool) -> str:
    lines = text.splitlines()
    if is_module and text.startswith(">>> "):
        return f"```pycon\n{text}\n```"
    if len(lines) < 2 or not all(ROW.fullmatch(line) or CONTINUED.fullmatch(line) for line in lines):
        return text
    if any(re.search(r"\S\s{4,}\S", ROW.fullmatch(line)[2]) for line in lines if ROW.fullmatch(line)):  # two columns
        return f"```text\n{text}\n```"
    rows: list[str] = []
    for line in lines:
        if row := ROW.fullmatch(line):
            rows.append(f"- **{row[1]}**: {row[2]}")
        elif rows:
            rows[-1] += f" {line.strip()}"
    return "\n".join(rows)


def _table(found: re.Match[str]) -> str:
    """Convert a simple table of reStructuredText: rules, a row of titles, and rows."""
    indent, rule, titles, rows = found.groups()
    columns = [each.span() for each in re.finditer("=+", rule)]
    columns[-1] = (columns[-1][0], 1_000)  # texts of the last column may be longer than its rule

    def cells(line: str) -> str:
        return "| " + " | ".join(line[len(indent) :][start:end].strip() for start, end in columns) + " |"

    body = [cells(line) for line in rows.splitlines()]
    return "\n".join(indent + line for line in (cells(titles), "|---" * len(columns) + "|", *body))
