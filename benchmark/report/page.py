"""The report as one HTML page that needs no other file and no network.

Labels, reasons and commands come from users: the templates escape every value, and the policy of the page allows no
script but those of `templates`, which sort and search tables and show single networks.

To add a section, write a template into `templates/` and a function in `benchmark.report.sections` that returns its
variables, and add a line to `SECTIONS`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from benchmark.report import comparisons, details, robustness, runs, sections
from benchmark.report.sections import ReportInputs
from benchmark.report.text import ranges, visible

__all__ = ["SECTIONS", "Section", "render_page"]


class Section(NamedTuple):
    """A section of the page.

    Attributes
    ----------
    name
        The id of the section, and the name of its template without `.html`.
    heading
        The heading.
    variables
        Function that returns the variables of the template.  A section whose function returns an empty dictionary is
        left out.
    """

    name: str
    heading: str
    variables: Callable[[ReportInputs], dict[str, Any]]


SECTIONS = [
    Section("leaderboard", "Leaderboard", sections.leaderboard),
    Section("distribution", "Distribution of accuracy", sections.distribution),
    Section("accuracy", "Accuracy against size, depth and time", sections.accuracy),
    Section("comparisons", "Paired comparisons", comparisons.comparisons),
    Section("wins", "Win rates", comparisons.wins),
    Section("noise", "Noisy images", robustness.noise),
    Section("corruptions", "Corrupted images", robustness.corruptions),
    Section("failures", "Failures", sections.failures),
    Section("networks", "Networks", details.networks),
    Section("architectures", "Architectures", sections.architectures),
    Section("published", "Published results", sections.published),
    Section("export", "Export", details.export),
    Section("runs", "Runs", runs.runs),
    Section("commands", "Commands", runs.commands),
    Section("definitions", "Definitions", lambda _: {"always": True}),
]
"""The sections of the page, in order."""


SOURCES = (("tables.js", "networks.js"), ("style.css",))
"""The files of the script and of the style sheet of the page."""


def render_page(inputs: ReportInputs, title: str) -> str:
    """Render the page.

    Parameters
    ----------
    inputs
        What to show.
    title
        Title of the page.

    Returns
    -------
    The HTML document.  The same inputs give the same text.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmark.report"),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _breakable, "ranges": ranges, "lines": _lines, "thousands": "{:,}".format}
    found = [(section, section.variables(inputs)) for section in SECTIONS]
    shown = [
        {
            "name": section.name,
            "heading": section.heading,
            "body": Markup(environment.get_template(f"{section.name}.html").render(variables)),  # noqa: S704
        }
        for section, variables in found
        if variables
    ]
    script, sheet = (Markup("\n").join(_source(environment, name) for name in names) for names in SOURCES)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        title=title,
        summary=sections.summary(inputs),
        sections=shown,
        style=sheet,
        script=script,
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'",
    )


def _source(environment: jinja2.Environment, name: str) -> Markup:
    """Return a file of the templates unchanged."""
    assert environment.loader is not None  # noqa: S101 - for the type checker
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704 - a file of this package


def _printable(value: object) -> object:
    """Make control characters in values visible; text that is HTML already is left as it is."""
    return value if isinstance(value, Markup) else visible(value)


def _lines(text: str) -> Markup:
    """Escape a text of several lines."""
    return Markup("\n").join(visible(line) for line in text.split("\n"))


def _breakable(text: object) -> Markup:
    """Escape a name and allow line breaks after its punctuation."""
    return Markup(re.sub(r"([_:./\-])(?=\w)", r"\1<wbr>", str(escape(visible(text)))))  # noqa: S704 - escaped above
