"""Small pictures for the page, as SVG text: scatter plots and strips of points.  No library, no random numbers.

A panel is about as wide as a telephone, so that its text is as large as that of the page; figures are grids of panels.
Colours and fonts are the page's, through the classes of its style: `s0` to `s7` are the looks of predictors, of which
shapes repeat after another number of predictors than colours do.  The points of a predictor are one path: thousands
of them take little room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmark.report.page_parts import clipped, escape, number

__all__ = ["COLOURS", "Axis", "Series", "key", "linear", "logarithmic", "scatter", "spread", "strips"]

Values = npt.NDArray[np.float64]

COLOURS = 8
WIDTH, HEIGHT = 340, 250
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 26, 38
ROW = 38  # height of a strip
LABEL = 26  # most letters of a predictor's name above its strip
SHAPES: tuple[Callable[[float], str], ...] = (  # sub-paths around the current point
    lambda r: "h0",  # a line without length, which has round ends: a circle in few letters
    lambda r: f"m0 {-1.3 * r:.3g}l{1.2 * r:.3g} {2.2 * r:.3g}h{-2.4 * r:.3g}z",
    lambda r: f"m{-0.9 * r:.3g} {-0.9 * r:.3g}h{1.8 * r:.3g}v{1.8 * r:.3g}h{-1.8 * r:.3g}z",
    lambda r: f"m0 {-1.4 * r:.3g}l{1.2 * r:.3g} {(d := 1.4 * r):.3g}l{-1.2 * r:.3g} {d:.3g}l{-1.2 * r:.3g} {-d:.3g}z",
    lambda r: f"m0 {1.3 * r:.3g}l{1.2 * r:.3g} {-2.2 * r:.3g}h{-2.4 * r:.3g}z",
)


class Axis(NamedTuple):
    """How values become places between 0 and 1.

    Attributes
    ----------
    label
        What they are, with the unit.
    low, high
        The values at both ends.
    ticks
        Values with a mark and a number.
    is_log
        Whether equal ratios, not equal differences, are equally far.
    """

    label: str
    low: float
    high: float
    ticks: list[float]
    is_log: bool = False

    def place(self, values: Values) -> Values:
        """`(n,)` places of `(n,)` values, which are clipped to the ends."""
        low, high = self.low, self.high
        if self.is_log:
            values, low, high = np.log10(np.maximum(values, low)), math.log10(low), math.log10(high)
        return np.clip((values - low) / (high - low), 0.0, 1.0)


class Series(NamedTuple):
    """The points of a predictor: its name, its place among all, and `(n,)` values; x is not used by strips."""

    label: str
    look: int
    y: Values
    x: Values = np.zeros(0)


def linear(label: str, values: Iterable[Values], least: float = 0.0) -> Axis:
    """An axis from `least`, or lower, up to round numbers, for all values."""
    everything = np.concatenate([*values, [least]])
    low, high = float(everything.min()), float(everything.max())
    span = (high - low) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= min((m for m in (1, 2, 2.5, 5, 10) if span / (m * step) <= 6), default=10)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(label, first * step, last * step, [round(i * step, 10) for i in range(first, last + 1)])


def logarithmic(label: str, values: Iterable[Values]) -> Axis:
    """A logarithmic axis for all values above 0, with marks at 1, 2 and 5 times powers of ten."""
    everything = np.concatenate([*values, np.zeros(0)])
    everything = everything[everything > 0]
    low, high = (float(everything.min()), float(everything.max())) if len(everything) else (1.0, 10.0)
    low, high = low / 1.12, high * 1.12
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]
        if len(ticks) <= 6:
            break
    return Axis(label, low, high, ticks[:: math.ceil(len(ticks) / 6) or 1] if ticks else [], is_log=True)


def key(look: int) -> str:
    """The mark of a predictor, to stand beside its name."""
    mark = _marks(look, np.zeros(1), np.zeros(1), 4.2, "solid")
    return f'<svg class="key" viewBox="-7 -7 14 14" aria-hidden="true">{mark}</svg>'


def scatter(name: str, title: str, text: str, x: Axis, y: Axis, series: Sequence[Series], line: float | None) -> str:
    """A panel of points.

    Parameters
    ----------
    name
        Of the panel on the page: an id.
    title, text
        What it shows, for readers and for those who cannot see it.
    x, y
        The axes.
    series
        The points.
    line
        Where to draw a dashed line across, the level of chance.
    """
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [*_grid_y(y, width, height, line), *_ticks_x(x, width, TOP + height, TOP, is_grid=False)]
    parts.append(_label(x.label, LEFT + width, HEIGHT - 5))
    up = f'<text class="axis" x="{LEFT + width}" y="13" text-anchor="end">\u2191 {escape(y.label)}</text>'
    parts.append(up)
    for one in series:
        xs = LEFT + width * x.place(one.x)
        ys = TOP + height * (1 - y.place(one.y))
        parts.append(_marks(one.look, xs, ys, _radius(len(xs)) + 0.3))
    return _svg(name, title, text, HEIGHT, parts)


def strips(name: str, title: str, text: str, x: Axis, series: Sequence[Series], line: float | None) -> str:
    """A panel with a strip for each predictor: its points, spread where many are, the middle half and the median."""
    width, height = WIDTH - 2 * RIGHT, ROW * len(series)
    bottom = TOP + height
    parts = _ticks_x(x, width, bottom + 4, TOP, is_grid=True, left=RIGHT)
    if line is not None:
        at = RIGHT + width * float(x.place(np.array([line]))[0])
        parts.append(f'<path class="chance" d="M{at:.1f} {TOP}V{bottom + 4}"/>')
    for i, one in enumerate(series):
        middle = TOP + ROW * i + 25
        label = escape(clipped(one.label, LABEL))
        parts.append(f'<text class="name" x="{RIGHT}" y="{middle - 13}">{label}</text>')
        if not len(one.y):
            parts.append(f'<text class="none" x="{RIGHT}" y="{middle + 4}">all failed</text>')
            continue
        xs = RIGHT + width * x.place(one.y)
        parts.append(_marks(one.look, xs, middle + 8 * spread(xs), _radius(len(xs))))
        if len(one.y) > 4:
            low, median, high = RIGHT + width * x.place(np.quantile(one.y, [0.25, 0.5, 0.75]))
            parts.append(f'<path class="box" d="M{low:.1f} {middle}H{high:.1f}"/>')
            parts.append(f'<path class="median" d="M{median:.1f} {middle - 9}v18"/>')
    return _svg(name, title, text, bottom + 38, [*parts, _label(x.label, WIDTH - RIGHT, bottom + 33)])


def spread(places: Values) -> Values:
    """`(n,)` offsets between -1 and 1 that keep points apart: the wider, the more of them are in the same place."""
    if not len(places):
        return places
    bins = np.floor(places / 6).astype(np.int64)
    _, inverse, counts = np.unique(bins, return_inverse=True, return_counts=True)
    crowd = counts[inverse] / max(int(counts.max()), 4)
    golden = (np.arange(len(places)) * 0.6180339887498949) % 1.0  # spreads evenly, however many there are
    crowd[counts[inverse] == 1] = 0.0
    return np.asarray(crowd * (2 * golden - 1))


# --- parts ---


def _svg(name: str, title: str, text: str, height: float, parts: Iterable[str]) -> str:
    """A picture with a title that is both seen and read out."""
    return (
        f'<svg class="panel" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(text)}</desc>'
        f'<text class="title" x="0" y="13">{escape(clipped(title, 30))}</text>{"".join(parts)}</svg>'
    )


def _label(text: str, x: float, y: float) -> str:
    return f'<text class="axis" x="{x:g}" y="{y:g}" text-anchor="end">{escape(text)} \u2192</text>'


def _grid_y(axis: Axis, width: float, height: float, line: float | None) -> list[str]:
    parts: list[str] = []
    places = TOP + height * (1 - axis.place(np.array(axis.ticks)))
    for tick, at in zip(axis.ticks, places.tolist()):
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}h{width}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    if line is not None:
        at = TOP + height * (1 - float(axis.place(np.array([line]))[0]))
        parts.append(f'<path class="chance" d="M{LEFT} {at:.1f}h{width}"/>')
    return parts


def _ticks_x(axis: Axis, width: float, bottom: float, top: float, *, is_grid: bool, left: float = LEFT) -> list[str]:
    parts = [] if is_grid else [f'<path class="base" d="M{left} {bottom}h{width}"/>']
    for tick, place in zip(axis.ticks, axis.place(np.array(axis.ticks)).tolist()):
        at = left + width * place
        style, start = ("grid", top) if is_grid else ("base", bottom)
        parts.append(f'<path class="{style}" d="M{at:.1f} {start}V{bottom + 4}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{number(tick)}</text>')
    return parts


def _radius(points: int) -> float:
    return 3.4 if points <= 12 else 2.3 if points <= 300 else 1.6


def _marks(look: int, xs: Values, ys: Values, radius: float, kind: str = "points") -> str:
    """The marks of a predictor at these places, all in one path."""
    shape = SHAPES[look % len(SHAPES)](radius)
    path = "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in zip(xs.tolist(), ys.tolist()))
    width = f' stroke-width="{2 * radius:.3g}"' if look % len(SHAPES) == 0 else ""
    return f'<path class="s{look % COLOURS} {kind}{" dots" if width else ""}"{width} d="{path}"/>'
