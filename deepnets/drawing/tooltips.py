"""Tooltips of SVG files: browsers show the title of an element while the pointer is on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.dom import minidom

from deepnets.support import printable

__all__ = ["with_tooltips"]


def with_tooltips(svg: bytes, titles: Mapping[str, Sequence[str]]) -> bytes:
    """Add titles to the nodes in an SVG file of matplotlib.

    Parameters
    ----------
    svg : bytes
        The file, as matplotlib wrote it.
    titles : mapping of str to sequence of str
        For each group of nodes, by its id: the titles of its shapes in order.  The label of node i, if there is one,
        has the id `ID-i`.

    Returns
    -------
    bytes
        The file.
    """
    document = minidom.parseString(svg)  # noqa: S318 - written by matplotlib a line before
    for group in document.getElementsByTagName("g"):
        name = group.getAttribute("id")
        if name in titles:
            shapes = [*_shapes(group)]
            for shape, title in zip(shapes, titles[name], strict=True):
                _add_title(document, shape, title)
        else:
            owner, dash, node = name.rpartition("-")
            if dash and owner in titles:
                _add_title(document, group, titles[owner][int(node)])
    return document.toxml(encoding="utf-8")


def _shapes(group: minidom.Element) -> list[minidom.Element]:
    """Return the drawn elements of a group in order; paths inside `defs` are only referred to."""
    uses = group.getElementsByTagName("use")
    return list(uses or group.getElementsByTagName("path"))


def _add_title(document: minidom.Document, element: minidom.Element, text: str) -> None:
    title = document.createElement("title")
    title.appendChild(document.createTextNode(printable(text)))
    element.insertBefore(title, element.firstChild)
