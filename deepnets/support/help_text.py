"""Layout of the help texts of the command lines: paragraphs are wrapped, examples are kept, defaults are stated."""

from __future__ import annotations

import argparse
import re
import textwrap

__all__ = ["HelpFormatter", "examples"]


class HelpFormatter(argparse.HelpFormatter):
    """A formatter that keeps indented lines of texts, and states the defaults of options whose help does not.

    Parameters are those of `argparse.HelpFormatter`.

    Examples
    --------
    >>> parser = argparse.ArgumentParser(prog="tool", formatter_class=HelpFormatter)
    >>> _ = parser.add_argument("--size", default=3, help="how many")
    >>> parser.format_help().splitlines()[-1].split(maxsplit=2)[2]
    'how many (default: 3)'
    """

    def add_argument(self, action: argparse.Action) -> None:
        """Add an argument; commands are indented, which `argparse` forgets when it computes the width of names."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = re.split(r"\n[ \t]*\n", text.strip("\n"))
        return "\n\n".join(block if _is_indented(block) else self._wrapped(block, width, indent) for block in blocks)

    def _wrapped(self, block: str, width: int, indent: str) -> str:
        """Wrap the lines of a paragraph up to its first indented line, which begins an example."""
        lines = block.splitlines()
        first = next((number for number, line in enumerate(lines) if _is_indented(line)), len(lines))
        return "\n".join([super()._fill_text("\n".join(lines[:first]), width, indent), *lines[first:]])

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if "default" in text or default in (None, argparse.SUPPRESS) or isinstance(default, bool | list | tuple | dict):
            return text
        stated = f"{default:,}" if isinstance(default, int) else str(default)
        return f"{text} (default: {stated.replace('%', '%%')})".lstrip()


def examples(*commands: str) -> str:
    """Return the end of a help text: commands that can be copied, after the word "Examples".

    Parameters
    ----------
    commands
        Commands with all their options.

    Examples
    --------
    >>> print(examples("deepnets info", "deepnets info data"))
    Examples:
      deepnets info
      deepnets info data
    """
    return "\n".join(["Examples:", *(textwrap.indent(command, "  ") for command in commands)])


def _is_indented(text: str) -> bool:
    return all(line.startswith("  ") for line in text.splitlines())
