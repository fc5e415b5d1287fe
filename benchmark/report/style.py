"""The style of all charts of the benchmark, and figures as PNG files or as SVG inside a page.

Charts are drawn with matplotlib.  They do not depend on the user's `matplotlibrc` and do not change the global state of
matplotlib.  The colours are those of Okabe and Ito (2008), which readers with colour vision deficiencies can tell
apart, some of them darker for sufficient contrast.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from deepnets.support import install_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Layout = Literal["constrained"] | None

__all__ = [
    "BAD",
    "COLOURS",
    "GRID",
    "INK",
    "MARKERS",
    "NO_MATPLOTLIB",
    "SOFT",
    "colour",
    "has_matplotlib",
    "legend_below",
    "marker",
    "new_figure",
    "panels",
    "saved_figure",
    "set_log_ticks",
    "style_axes",
    "styled",
    "to_svg",
]

COLOURS = ("#0072b2", "#d55e00", "#00906a", "#b8578f", "#a87400", "#3a93c9", "#6b55b5", "#69707c")
"""Colours of series, in order."""

MARKERS = "o^sDv"
"""Markers of series, in order; they repeat after a different number of series than colours do."""

INK, SOFT, GRID, BAD = "#1d2126", "#5a6270", "#dcdfe3", "#b3400a"
"""Colours of text and lines, of axis labels, of grid lines, and of failures."""

NO_MATPLOTLIB = f"Charts need matplotlib, which is not installed: {install_command('plotting')}"
"""The message shown in place of charts when matplotlib is missing."""

DPI = 144
"""Resolution of PNG files."""

MARGINS = (0.45, 0.12, 0.32, 0.45)
"""Space at the left, right, top and bottom of axes inside a panel, in inches."""

# A page replaces these colours by its own variables, so that charts follow its light or dark theme.
_VARIABLES = {value: f"var(--s{i})" for i, value in enumerate(COLOURS)}
_VARIABLES |= {INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--line)", BAD: "var(--bad)"}
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deepnets",  # the same figure gives the same ids
    "font.size": 8.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "text.parse_math": False,
    "legend.frameon": False,
}


def has_matplotlib() -> bool:
    """Return whether matplotlib is installed.

    Examples
    --------
    >>> has_matplotlib() in (True, False)
    True
    """
    import sys

    if "matplotlib" in sys.modules:
        return sys.modules["matplotlib"] is not None
    return importlib.util.find_spec("matplotlib") is not None


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Create and save figures in the style of the benchmark inside this context.

    Examples
    --------
    >>> with styled():
    ...     figure = new_figure(3, 2)
    >>> figure.get_size_inches().tolist()
    [3.0, 2.0]
    """
    import matplotlib as mpl
    import matplotlib.style

    with matplotlib.style.context("default"), mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a missing letter is shown as a box
        yield


def new_figure(width: float, height: float, layout: Layout = "constrained") -> Figure:
    """Return an empty figure, without using pyplot.

    Parameters
    ----------
    width, height
        Size in inches.
    layout
        Automatic layout of matplotlib; None for fixed positions.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


@contextlib.contextmanager
def saved_figure(path: Path, width: float, height: float, layout: Layout = "constrained") -> Iterator[Figure]:
    """Yield an empty figure in the style of the benchmark, and write it to a PNG file at the end of the block.

    Parameters
    ----------
    path
        The file to write.  Missing folders are created, an existing file is replaced.
    width, height, layout
        As for `new_figure`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with saved_figure(Path(folder) / "line.png", 3, 2) as figure:
    ...         _ = figure.subplots().plot([1, 2], [3, 1])
    ...     (Path(folder) / "line.png").read_bytes()[1:4]
    b'PNG'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with styled():
        figure = new_figure(width, height, layout)
        yield figure
        figure.savefig(path, dpi=DPI)


def panels(figure: Figure, count: int, columns: int, *, top: float = 0.0, bottom: float = 0.0) -> list[Axes]:
    """Add a grid of axes to a figure, row by row, with margins for tick labels, axis labels and titles.

    The positions are fixed, because the automatic layouts of matplotlib take several times as long as drawing.

    Parameters
    ----------
    figure
        The figure, without axes and without automatic layout.
    count
        Number of axes.  Surplus places of the last row stay empty.
    columns
        Axes per row.
    top, bottom
        Space above and below the grid, in inches.

    Examples
    --------
    >>> with styled():
    ...     len(panels(new_figure(9, 5, layout=None), count=5, columns=3))
    5
    """
    width, height = figure.get_size_inches()
    rows = math.ceil(count / columns)
    across, down = width / columns, (height - top - bottom) / rows
    left, right, above, below = MARGINS
    axes = []
    for place in range(count):
        row, column = divmod(place, columns)
        low = height - top - (row + 1) * down + below
        box = (column * across + left, low, across - left - right, down - above - below)
        axes.append(figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height)))
    return axes


def style_axes(axes: Axes, title: str = "", *, horizontal_only: bool = False) -> None:
    """Set the title of axes; `horizontal_only` hides the y-axis, for charts with one row per series."""
    axes.set_title(title)
    axes.spines["left"].set_visible(False)
    if horizontal_only:
        axes.set_yticks([])


def set_log_ticks(axis: Axis, low: float, high: float) -> None:
    """Give a logarithmic axis three to six ticks with plain numbers, such as 200k, for any range of values.

    Parameters
    ----------
    axis
        `axes.xaxis` or `axes.yaxis`, with a logarithmic scale.
    low, high
        The smallest and the largest value shown, both above 0.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

    from benchmark.report.text import number

    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(ticks) <= 6:
            break
    ticks = ticks[:: math.ceil(len(ticks) / 6) or 1]
    if len(ticks) < 3:  # a narrow range, in which a logarithmic axis is nearly linear
        even = MaxNLocator(nbins=5, min_n_ticks=3).tick_values(low, high)
        ticks = [float(tick) for tick in even if low <= tick <= high]
    digits = next((n for n in range(3, 16) if len({number(tick, n) for tick in ticks}) == len(ticks)), 16)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([number(tick, digits) for tick in ticks]))
    axis.set_minor_locator(NullLocator())


def legend_below(figure: Figure, columns: int, **options: Any) -> None:
    """Put a legend of at most `columns` columns below the axes; `options` are those of `Figure.legend`."""
    figure.legend(
        loc="outside lower center" if figure.get_layout_engine() else "lower center", ncols=columns, **options
    )


def colour(series: int) -> str:
    """Return the colour of a series.

    Examples
    --------
    >>> colour(0), colour(8) == colour(0)
    ('#0072b2', True)
    """
    return COLOURS[series % len(COLOURS)]


def marker(series: int) -> str:
    """Return the marker of a series, as a matplotlib symbol.

    Examples
    --------
    >>> marker(0), marker(1)
    ('o', '^')
    """
    return MARKERS[series % len(MARKERS)]


# --- SVG ---


def to_svg(
    figure: Figure, name: str, title: str, description: str, rows: Mapping[str, Sequence[int]] | None = None
) -> str:
    """Return a figure as an SVG element for a page.

    The text remains text, in the font of the page; the colours of this module become variables of the page's style
    sheet; nothing refers to a resource outside the element.

    Parameters
    ----------
    figure
        The figure, created in `styled`.
    name
        Prefix of the ids inside the element; unique on the page.
    title, description
        What the chart shows, for screen readers.
    rows
        For series of points, by the id (`gid`) of the artist: the number of each point, which becomes its attribute
        `data-r`.

    Examples
    --------
    >>> with styled():
    ...     figure = new_figure(3, 2)
    ...     svg = to_svg(figure, "empty", "Nothing", "An empty chart.")
    >>> svg.startswith('<svg class="chart"'), "http" in svg
    (True, False)
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - written by matplotlib a line before
    view = root.get("viewBox", "")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style", "clipPath") or (child.tag == "g" and not len(child)):
                parent.remove(child)
    for element in root.iter("g"):
        numbers = (rows or {}).get(element.get("id", ""), ())
        for point, number in zip(element.iter("use"), numbers, strict=True) if len(numbers) else ():
            point.set("data-r", str(number))
    targets = {element.get("href", "#")[1:] for element in root.iter("use")}
    for element in root.iter():
        _clean(element, name, targets)
    root.attrib = {"class": "chart", "viewBox": view, "role": "img", "aria-labelledby": f"{name}-t {name}-d"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ElementTree.Element(tag, {"id": f"{name}-{tag[0]}"})
        child.text = text
        root.insert(place, child)
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element, name: str, targets: set[str]) -> None:
    """Shorten an element, make its ids unique on the page, and replace its colours by variables."""
    element.attrib.pop("clip-path", None)
    if element.tag == "text":
        element.set("style", re.sub(r"font-family: [^;]*; ?", "", element.get("style", "")))  # the font of the page
        if element.get("transform", "").startswith("rotate(-0 "):
            element.attrib.pop("transform")
    else:
        element.text = None
    element.tail = None
    if (own := element.attrib.pop("id", "")) in targets and own:
        element.set("id", f"{name}-{own}")
    if href := element.get("href"):
        element.set("href", f"#{name}-{href[1:]}")
        for key in ("x", "y"):
            element.set(key, f"{float(element.get(key, '0')):.1f}")
    uses = [child for child in element if child.tag == "use"]
    styles = {child.get("style") for child in uses}
    if len(uses) == len(element) > 1 and len(styles) == 1 and (shared := styles.pop()):
        element.set("style", shared)  # thousands of points share one style, which is written once
        for child in uses:
            child.attrib.pop("style")
    if style := element.get("style"):
        for value, variable in _VARIABLES.items():
            style = style.replace(value, variable)
        element.set("style", style)
