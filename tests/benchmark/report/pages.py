"""A parser of report pages, and small folders of results."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.support.made_up_results import run, write

FILES = {"leaderboard.csv", "leaderboard.md", "leaderboard.tex", "comparisons.csv", "networks.csv", "runs.json"}
"""Files beside a page to which it links."""

VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements and the text of a page, and errors in the nesting of its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.errors: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"{self.getpos()}: </{tag}>")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def check(self) -> None:
        """Check that the page is well nested, accessible, and refers to nothing outside."""
        assert not self.errors
        assert not self.open
        assert self.elements[0] == ("html", {"lang": "en"})
        for tag, attributes in self.elements:
            assert tag not in ("link", "img", "iframe", "object", "embed", "image", "form", "base")
            assert "src" not in attributes
            href = str(attributes.get("href", "#"))
            assert href.startswith("#") or (href in FILES and "download" in attributes)
            assert not any(name.startswith("on") for name in attributes)
            if tag == "th":
                assert attributes.get("scope") in ("row", "col", "colgroup")
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for tag, attributes in self.elements:
            if (href := attributes.get("href")) and href not in FILES:
                assert href[1:] in ids
            for name in str(attributes.get("aria-labelledby") or "").split():
                assert name in ids, tag
        assert sum(tag == "h1" for tag, _ in self.elements) == 1

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def one(results: Path, rows: list[dict[str, Any]], runs: dict[str, Any] | None = None, **other: Any) -> Path:
    """Write a folder of results; by default, every run is complete with the given rows."""
    if runs is None:
        runs = {str(r["run"]): run(r["predictor"], r["split"], 0, images=r["images"]) for r in rows}
        for name, about in runs.items():
            about["networks"] = sum(r["run"] == name for r in rows)
    return write(results, rows, runs, **other)
