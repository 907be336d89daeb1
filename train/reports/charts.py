"""Small charts as inline SVG: they take the page's colours, light or dark, and its type. numpy.

Each is some 320 units wide, which is about as many pixels on a phone; there it fills the screen, elsewhere a column.
Colours are CSS classes of style.css: `first`, `second`, `third`, `fourth`, `pale`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from train.reports.html import Markup, element, signed

Numbers = Sequence[float] | npt.NDArray[Any]

WIDTH = 320
SMALL_WIDTH, SMALL_HEIGHT = 150, 135
# A picture is stretched by at most so much, or its letters outgrow the text.
STRETCH = 1.3
RIGHT, TOP = 8, 8
TICK_TEXT_WIDTH, TICK_TEXT_HEIGHT, LABEL_HEIGHT = 28, 18, 14
# A line's points are rounded to a tenth of a unit; those that coincide then are left out.
DECIMALS = 1
BAR, GAP = 18, 6
# Half the width of a cross.
CROSS = 5
# Of the widest letters that a system's own font is likely to have; a name must not be cut off.
CHARACTER = 6.9


@dataclass(frozen=True)
class Axis:
    """One direction of a plot."""

    low: float
    high: float
    label: str = ""
    ticks: Sequence[float] = ()


def unit_axis(label: str = "", *, ticks: int = 5) -> Axis:
    """Make an axis from 0 to 1."""
    return Axis(0, 1, label, np.linspace(0, 1, ticks).tolist())


def nice_axis(low: float, high: float, label: str = "", *, ticks: int = 5) -> Axis:
    """Make an axis that holds [low, high] with ticks at round numbers."""
    span = high - low if high > low else max(abs(high), 1.0)
    magnitude = 10.0 ** np.floor(np.log10(span / ticks))
    step = next(magnitude * k for k in (1, 2, 2.5, 5, 10) if span / (magnitude * k) <= ticks)
    first, last = np.floor(low / step + 1e-9), np.ceil((low + span) / step - 1e-9)
    places = [round(float(i * step), 10) for i in np.arange(first, last + 1)]
    return Axis(places[0], places[-1], label, places)


@dataclass
class Drawing:
    """A picture of shapes; a shape's title appears when it is pointed at."""

    title: str
    """Read out where the picture cannot be seen."""
    width: float
    height: float
    shapes: list[Markup] = field(default_factory=list)

    def add(self, tag: str, content: str = "", *, title: str = "", **attributes: object) -> None:
        """Add an element."""
        self.shapes.append(element(tag, element("title", title) if title else content, **attributes))

    def path(self, d: str, class_: str, title: str = "") -> None:
        """Add a path."""
        self.add("path", title=title, d=d, class_=class_)

    def circle(self, x: float, y: float, r: float, class_: str, title: str = "") -> None:
        """Add a circle."""
        self.add("circle", title=title, cx=x, cy=y, r=r, class_=class_)

    def rect(self, x: float, y: float, width: float, height: float, class_: str, title: str = "") -> None:
        """Add a filled rectangle."""
        self.add("rect", title=title, x=x, y=y, width=width, height=height, class_=f"fill {class_}")

    def text(
        self,
        text: str,
        x: float,
        y: float,
        anchor: str | None = None,
        class_: str | None = "quiet",
        **more: str,
    ) -> None:
        """Add a text whose start, `middle` or `end` is at x."""
        self.add("text", text, x=x, y=y, text_anchor=anchor, class_=class_, **more)

    def svg(self) -> Markup:
        """Return the picture."""
        box, style = f"0 0 {self.width:g} {self.height:g}", f"max-width:{STRETCH * self.width:.0f}px"
        title = element("title", self.title)
        return element("svg", title, *self.shapes, viewBox=box, style=style, role="img")


class Plot(Drawing):
    """A rectangle with two axes in which lines, bars and points are drawn."""

    def __init__(self, title: str, x: Axis, y: Axis, width: int = WIDTH, height: int = 220) -> None:
        """Draw the axes."""
        super().__init__(title, width, height)
        self.x, self.y = x, y
        left = self._left = TICK_TEXT_WIDTH + (LABEL_HEIGHT if y.label else 0)
        floor = self._floor = height - TICK_TEXT_HEIGHT - (LABEL_HEIGHT if x.label else 0)
        end = width - RIGHT
        for tick, (_, at) in zip(y.ticks, self._at([x.low] * len(y.ticks), y.ticks), strict=True):
            self.path(f"M{left} {at:g}H{end}", "rule")
            self.text(f"{tick:g}", left - 4, at + 4, "end")
        for tick, (at, _) in zip(x.ticks, self._at(x.ticks, [y.low] * len(x.ticks)), strict=True):
            self.text(f"{tick:g}", at, floor + 13, "middle")
        self.path(f"M{left} {TOP}V{floor}H{end}", "axis")
        if x.label:
            self.text(x.label, (left + end) / 2, height - 5, "middle")
        if y.label:
            self.text(y.label, -(TOP + floor) / 2, 9, "middle", transform="rotate(-90)")

    def _at(self, xs: Numbers, ys: Numbers) -> list[tuple[float, float]]:
        across = (np.asarray(xs, float) - self.x.low) / (self.x.high - self.x.low)
        up = (np.asarray(ys, float) - self.y.low) / (self.y.high - self.y.low)
        left = self._left + across * (self.width - self._left - RIGHT)
        top = self._floor - up * (self._floor - TOP)
        return list(zip(np.round(left, DECIMALS).tolist(), np.round(top, DECIMALS).tolist(), strict=True))

    def line(self, xs: Numbers, ys: Numbers, class_: str) -> None:
        """Draw a line through points, broken where one is not a number."""
        path, pen_is_down, before = [], False, None
        for x, y in self._at(xs, ys):
            if not (np.isfinite(x) and np.isfinite(y)):
                pen_is_down = False
            elif (x, y) != before or not pen_is_down:
                path.append(f"{'L' if pen_is_down else 'M'}{x:g} {y:g}")
                pen_is_down, before = True, (x, y)
        self.path("".join(path), f"line {class_}")

    def points(
        self,
        xs: Numbers,
        ys: Numbers,
        class_: str,
        *,
        radii: Sequence[float] = (),
        titles: Sequence[str] = (),
    ) -> None:
        """Draw dots, with texts that appear when pointed at."""
        for (x, y), r, title in zip(self._at(xs, ys), radii or repeat(3), titles or repeat(""), strict=False):
            self.circle(x, y, round(r, 1), f"fill {class_}", title)

    def band(self, xs: Numbers, lows: Numbers, highs: Numbers, class_: str) -> None:
        """Fill the area between two lines, pale: an interval along a curve."""
        there, back = self._at(xs, lows), self._at(xs, highs)[::-1]
        path = "L".join(f"{x:g} {y:g}" for x, y in [*there, *back])
        self.path(f"M{path}Z", f"band {class_}")

    def marks(self, xs: Numbers, ys: Numbers, shape: str, class_: str, *, titles: Sequence[str] = ()) -> None:
        """Draw points that differ by shape, not by colour alone: `circle`, `ring` or `cross`."""
        for (x, y), title in zip(self._at(xs, ys), titles or repeat(""), strict=False):
            if shape == "cross":
                d = f"M{x - CROSS:g} {y:g}h{2 * CROSS}M{x:g} {y - CROSS:g}v{2 * CROSS}"
                self.path(d, f"cross {class_}", title)
            else:
                self.circle(x, y, 3, f"{'fill' if shape == 'circle' else 'ring'} {class_}", title)

    def dots(self, xs: Numbers, ys: Numbers, class_: str) -> None:
        """Draw thousands of small dots as one shape: a tenth of the bytes of as many circles."""
        self.path("".join(f"M{x:g} {y:g}h0" for x, y in dict.fromkeys(self._at(xs, ys))), f"dots {class_}")

    def bars(
        self, lefts: Numbers, rights: Numbers, heights: Numbers, class_: str, *, titles: Sequence[str] = ()
    ) -> None:
        """Draw vertical bars from the lower axis."""
        starts, ends = self._at(lefts, heights), self._at(rights, heights)
        for (x, y), (end, _), title in zip(starts, ends, titles or repeat(""), strict=False):
            width, height = round(max(end - x - 1, 0.5), 1), round(self._floor - y, 1)
            if height > 0:
                self.rect(x, y, width, height, class_, title)

    def upright(self, x: float) -> None:
        """Draw a dashed vertical line across the plot."""
        ((left, bottom), (_, top)) = self._at([x, x], [self.y.low, self.y.high])
        self.path(f"M{left:g} {bottom:g}V{top:g}", "dashed")


def bar_chart(
    title: str, rows: Sequence[tuple[str, float, str]], *, class_: str = "first", most: float | None = None
) -> Markup:
    """Draw horizontal bars, each with its name before and a text behind it.

    Each row is a name, a length and the text; `most` is the length that fills the width, by default the longest.
    """
    before = min(CHARACTER * max((len(name) for name, *_ in rows), default=1) + 6, WIDTH * 0.42)
    behind = CHARACTER * max((len(text) for *_, text in rows), default=1) + 8
    full = max(WIDTH - before - behind, 40)
    longest = most or max((length for _, length, _ in rows), default=0) or 1
    drawing = Drawing(title, WIDTH, len(rows) * (BAR + GAP))
    for i, (name, length, text) in enumerate(rows):
        y = i * (BAR + GAP) + 2
        shown = max(full * length / longest, 0.7) if length > 0 else 0
        drawing.text(name, round(before - 5, 1), y + BAR / 2 + 4, "end", None)
        if shown:
            drawing.rect(round(before, 1), y, round(shown, 1), BAR, class_)
        drawing.text(text, round(before + shown + 5, 1), y + BAR / 2 + 4)
    return drawing.svg()


def interval_chart(title: str, rows: Sequence[tuple[str, Sequence[float] | None, str]], zero: str) -> Markup:
    """Draw horizontal intervals on one scale, named `zero`, that holds zero, which is dashed.

    Each row is a name, (value, low, high) or None, and the text at the right.
    """
    known = [estimate for _, estimate, _ in rows if estimate is not None]
    axis = nice_axis(min([0.0, *(e[1] for e in known)]), max([0.0, *(e[2] for e in known)]))
    # Long names stand above their interval: on a phone there is no space beside it.
    left, right, pitch = 18.0, WIDTH - 20.0, 38
    floor = pitch * len(rows) + 6

    def at(value: float) -> float:
        return round(left + (value - axis.low) / (axis.high - axis.low) * (right - left), 1)

    drawing = Drawing(title, WIDTH, floor + 36)
    for tick in axis.ticks:
        drawing.path(f"M{at(tick)} 2V{floor}", "rule")
        drawing.text(signed(tick, 1), at(tick), floor + 14, "middle")
    drawing.path(f"M{at(0)} 2V{floor}", "dashed")
    for i, (name, value, text) in enumerate(rows):
        y = pitch * i + 14
        drawing.text(name, left, y, None, None)
        drawing.text(text, right, y, "end")
        if value is not None:
            class_ = "worse" if value[2] < 0 else "better" if value[1] > 0 else "first"
            drawing.path(f"M{at(value[1])} {y + 11}H{at(value[2])}", f"line {class_}")
            drawing.circle(at(value[0]), y + 11, 4.5, f"fill {class_}")
    drawing.text(zero, WIDTH / 2, floor + 30, "middle")
    return drawing.svg()


def pair_chart(title: str, rows: Sequence[tuple[str, float | None, float | None, str]]) -> Markup:
    """Draw two dots a row on a scale from 0 to 1, joined by a line: before and after.

    Each row is a name, the first model's value, the second's, and the text at the right.
    """
    left = 10 + CHARACTER * max((len(name) for name, *_ in rows), default=1)
    right = WIDTH - 12 - CHARACTER * max((len(row[3]) for row in rows), default=1)
    floor = 24 * len(rows) + 4
    drawing = Drawing(title, WIDTH, floor + 20)
    for tick in unit_axis().ticks:
        x = round(left + tick * (right - left), 1)
        drawing.path(f"M{x} 2V{floor}", "rule")
        drawing.text(f"{tick:g}", x, floor + 14, "middle")
    for i, (name, before, after, text) in enumerate(rows):
        y = 24 * i + 14
        drawing.text(name, round(left - 6, 1), y + 4, "end", None)
        drawing.text(text, WIDTH - 4, y + 4, "end")
        if before is None or after is None:
            continue
        start, end = (round(left + value * (right - left), 1) for value in (before, after))
        class_ = "worse" if after < before else "better" if after > before else "pale"
        drawing.path(f"M{start} {y}H{end}", f"line {class_}")
        drawing.circle(start, y, 4, "fill first")
        drawing.circle(end, y, 4, "fill second")
    return drawing.svg()


def curve_chart(title: str, x: Axis, curves: Sequence[tuple[str, str, Sequence[Sequence[float]]]]) -> Markup:
    """Draw figures in [0, 1] over the ticks of an axis, each with its interval as a pale band.

    Each curve is a name, a class and (value, low, high) at each tick of `x`.
    """
    plot = Plot(title, x, unit_axis(), height=200)
    for name, class_, points in curves:
        plot.band(x.ticks, [p[1] for p in points], [p[2] for p in points], class_.split(" ")[0])
        plot.line(x.ticks, [p[0] for p in points], class_)
        texts = [
            f"{name} at {tick:g}: {value:.3f} ({low:.3f} to {high:.3f})"
            for tick, (value, low, high) in zip(x.ticks, points, strict=True)
        ]
        plot.points(x.ticks, [p[0] for p in points], class_.split(" ")[0], titles=texts)
    return plot.svg()
