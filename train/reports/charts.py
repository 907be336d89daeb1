"""Small charts as inline SVG: they take the page's colours, light or dark, and its type. numpy.

Each is some 320 units wide, which is about as many pixels on a phone; there it fills the screen, elsewhere a column.
Colours are CSS classes of style.css: `first`, `second`, `third`, `fourth`, `pale`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
    texts: Sequence[str] = ()
    """Of the ticks; numbers where empty."""

    def text(self, i: int) -> str:
        """The text of tick i."""
        return self.texts[i] if self.texts else f"{self.ticks[i]:g}"


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
class Plot:
    """A rectangle with two axes in which lines, bars and points are drawn; `svg` gives the picture."""

    title: str
    """Read out where the picture cannot be seen."""
    x: Axis
    y: Axis
    width: int = WIDTH
    height: int = 220
    shapes: list[Markup] = field(default_factory=list)

    @property
    def _left(self) -> float:
        return TICK_TEXT_WIDTH + (LABEL_HEIGHT if self.y.label else 0)

    @property
    def _floor(self) -> float:
        return self.height - TICK_TEXT_HEIGHT - (LABEL_HEIGHT if self.x.label else 0)

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
        self.shapes.append(element("path", d="".join(path), class_=f"line {class_}"))

    def points(
        self, xs: Numbers, ys: Numbers, class_: str, *, radii: Numbers = (), titles: Sequence[str] = ()
    ) -> None:
        """Draw dots, with texts that appear when pointed at."""
        for i, (x, y) in enumerate(self._at(xs, ys)):
            title = [element("title", titles[i])] if len(titles) else []
            radius = round(float(radii[i]), 1) if len(radii) else 3
            self.shapes.append(element("circle", *title, cx=x, cy=y, r=radius, class_=f"fill {class_}"))

    def band(self, xs: Numbers, lows: Numbers, highs: Numbers, class_: str) -> None:
        """Fill the area between two lines, pale: an interval along a curve."""
        there, back = self._at(xs, lows), self._at(xs, highs)[::-1]
        path = "L".join(f"{x:g} {y:g}" for x, y in [*there, *back])
        self.shapes.append(element("path", d=f"M{path}Z", class_=f"band {class_}"))

    def marks(self, xs: Numbers, ys: Numbers, shape: str, class_: str, *, titles: Sequence[str] = ()) -> None:
        """Draw points that differ by shape, not by colour alone: `circle`, `ring` or `cross`."""
        for i, (x, y) in enumerate(self._at(xs, ys)):
            title = [element("title", titles[i])] if len(titles) else []
            if shape == "cross":
                d = f"M{x - CROSS:g} {y:g}h{2 * CROSS}M{x:g} {y - CROSS:g}v{2 * CROSS}"
                self.shapes.append(element("path", *title, d=d, class_=f"cross {class_}"))
            else:
                filled = "fill" if shape == "circle" else "ring"
                self.shapes.append(element("circle", *title, cx=x, cy=y, r=3, class_=f"{filled} {class_}"))

    def dots(self, xs: Numbers, ys: Numbers, class_: str) -> None:
        """Draw thousands of small dots as one shape: a tenth of the bytes of as many circles."""
        path = "".join(f"M{x:g} {y:g}h0" for x, y in dict.fromkeys(self._at(xs, ys)))
        self.shapes.append(element("path", d=path, class_=f"dots {class_}"))

    def bars(
        self, lefts: Numbers, rights: Numbers, heights: Numbers, class_: str, *, titles: Sequence[str] = ()
    ) -> None:
        """Draw vertical bars from the lower axis."""
        starts, ends = self._at(lefts, heights), self._at(rights, heights)
        for i, ((x, y), (end, _)) in enumerate(zip(starts, ends, strict=True)):
            title = [element("title", titles[i])] if len(titles) else []
            width, height = round(max(end - x - 1, 0.5), 1), round(self._floor - y, 1)
            if height > 0:
                self.shapes.append(
                    element("rect", *title, x=x, y=y, width=width, height=height, class_=f"fill {class_}")
                )

    def upright(self, x: float, text: str = "") -> None:
        """Draw a dashed vertical line across the plot, with a text beside its foot."""
        ((left, bottom), (_, top)) = self._at([x, x], [self.y.low, self.y.high])
        self.shapes.append(element("path", d=f"M{left:g} {bottom:g}V{top:g}", class_="dashed"))
        if text:
            self.shapes.append(element("text", text, x=left + 3, y=bottom - 4, class_="quiet"))

    def svg(self) -> Markup:
        """Return the picture."""
        return _svg(self.title, self.width, self.height, [*self._frame(), *self.shapes])

    def _frame(self) -> Iterable[Markup]:
        left, floor, end = self._left, self._floor, self.width - RIGHT
        for i, (_, y) in enumerate(self._at([self.x.low] * len(self.y.ticks), self.y.ticks)):
            yield element("path", d=f"M{left} {y:g}H{end}", class_="rule")
            yield element("text", self.y.text(i), x=left - 4, y=y + 4, text_anchor="end", class_="quiet")
        for i, (x, _) in enumerate(self._at(self.x.ticks, [self.y.low] * len(self.x.ticks))):
            yield element("text", self.x.text(i), x=x, y=floor + 13, text_anchor="middle", class_="quiet")
        yield element("path", d=f"M{left} {TOP}V{floor}H{end}", class_="axis")
        if self.x.label:
            yield element(
                "text",
                self.x.label,
                x=(left + end) / 2,
                y=self.height - 5,
                text_anchor="middle",
                class_="quiet",
            )
        if self.y.label:
            yield element(
                "text", self.y.label, x=-(TOP + floor) / 2, y=9, text_anchor="middle", class_="quiet",
                transform="rotate(-90)",
            )  # fmt: skip


def bar_chart(
    title: str,
    names: Sequence[str],
    parts: Sequence[Sequence[float]],
    texts: Sequence[str],
    *,
    classes: Sequence[str] = ("first", "second", "third", "fourth", "pale"),
    width: int = WIDTH,
    most: float | None = None,
) -> Markup:
    """Draw horizontal bars with their names before and their values behind them.

    Args:
        title: Read out where the picture cannot be seen.
        names: [n] of the bars.
        parts: [n] lengths of each bar's coloured parts, laid end to end.
        texts: [n] what stands behind each bar.
        classes: Colours of the parts.
        width: Of the picture.
        most: Length of a bar that fills it; the longest where None.
    """
    before = min(CHARACTER * max(map(len, names), default=1) + 6, width * 0.42)
    behind = CHARACTER * max(map(len, texts), default=1) + 8
    full = max(width - before - behind, 40)
    longest = most or max((sum(bar) for bar in parts), default=0) or 1
    shapes = []
    for i, (name, bar, text) in enumerate(zip(names, parts, texts, strict=True)):
        y, x = i * (BAR + GAP) + 2, before
        middle = y + BAR / 2 + 4
        shapes.append(element("text", name, x=round(before - 5, 1), y=middle, text_anchor="end"))
        for part, class_ in zip(bar, classes, strict=False):
            length = full * part / longest
            if length > 0:
                shown = max(length, 0.7)
                shapes.append(
                    element(
                        "rect", x=round(x, 1), y=y, width=round(shown, 1), height=BAR, class_=f"fill {class_}"
                    )
                )
                x += shown
        shapes.append(element("text", text, x=round(x + 5, 1), y=middle, class_="quiet"))
    return _svg(title, width, len(names) * (BAR + GAP), shapes)


def interval_chart(
    title: str, rows: Sequence[tuple[str, Sequence[float] | None, str]], *, zero: str = "", digits: int = 1
) -> Markup:
    """Draw horizontal intervals on one scale that holds zero, which is dashed.

    Args:
        title: Read out where the picture cannot be seen.
        rows: Name, (value, low, high) or None, and the text at the right.
        zero: Label of the scale.
        digits: Of the ticks.
    """
    known = [estimate for _, estimate, _ in rows if estimate is not None]
    axis = nice_axis(min([0.0, *(e[1] for e in known)]), max([0.0, *(e[2] for e in known)]))
    # Long names stand above their interval: on a phone there is no space beside it.
    left, right, pitch = 18.0, WIDTH - 20.0, 38
    floor = pitch * len(rows) + 6

    def at(value: float) -> float:
        return round(left + (value - axis.low) / (axis.high - axis.low) * (right - left), 1)

    shapes = [element("path", d=f"M{at(tick)} 2V{floor}", class_="rule") for tick in axis.ticks]
    shapes += [
        element("text", signed(tick, digits), x=at(tick), y=floor + 14, text_anchor="middle", class_="quiet")
        for tick in axis.ticks
    ]
    shapes.append(element("path", d=f"M{at(0)} 2V{floor}", class_="dashed"))
    for i, (name, value, text) in enumerate(rows):
        y = pitch * i + 14
        shapes.append(element("text", name, x=left, y=y))
        shapes.append(element("text", text, x=right, y=y, text_anchor="end", class_="quiet"))
        if value is not None:
            class_ = "worse" if value[2] < 0 else "better" if value[1] > 0 else "first"
            line = f"M{at(value[1])} {y + 11}H{at(value[2])}"
            shapes.append(element("path", d=line, class_=f"line {class_}"))
            shapes.append(element("circle", cx=at(value[0]), cy=y + 11, r=4.5, class_=f"fill {class_}"))
    if zero:
        shapes.append(element("text", zero, x=WIDTH / 2, y=floor + 30, text_anchor="middle", class_="quiet"))
    return _svg(title, WIDTH, floor + (36 if zero else 20), shapes)


def pair_chart(title: str, rows: Sequence[tuple[str, float | None, float | None, str]]) -> Markup:
    """Draw two dots a row on a scale from 0 to 1, joined by a line: before and after.

    Args:
        title: Read out where the picture cannot be seen.
        rows: Name, the first model's value, the second's, and the text at the right.
    """
    left = 10 + CHARACTER * max((len(name) for name, *_ in rows), default=1)
    right = WIDTH - 12 - CHARACTER * max((len(row[3]) for row in rows), default=1)
    floor = 24 * len(rows) + 4
    shapes = []
    for tick in unit_axis().ticks:
        x = round(left + tick * (right - left), 1)
        shapes.append(element("path", d=f"M{x} 2V{floor}", class_="rule"))
        shapes.append(element("text", f"{tick:g}", x=x, y=floor + 14, text_anchor="middle", class_="quiet"))
    for i, (name, before, after, text) in enumerate(rows):
        y = 24 * i + 14
        shapes.append(element("text", name, x=round(left - 6, 1), y=y + 4, text_anchor="end"))
        shapes.append(element("text", text, x=WIDTH - 4, y=y + 4, text_anchor="end", class_="quiet"))
        if before is None or after is None:
            continue
        start, end = (round(left + value * (right - left), 1) for value in (before, after))
        class_ = "worse" if after < before else "better" if after > before else "pale"
        shapes.append(element("path", d=f"M{start} {y}H{end}", class_=f"line {class_}"))
        shapes.append(element("circle", cx=start, cy=y, r=4, class_="fill first"))
        shapes.append(element("circle", cx=end, cy=y, r=4, class_="fill second"))
    return _svg(title, WIDTH, floor + 20, shapes)


def curve_chart(
    title: str, x: Axis, curves: Sequence[tuple[str, str, Sequence[Sequence[float]]]], *, height: int = 200
) -> Markup:
    """Draw figures in [0, 1] over the ticks of an axis, each with its interval as a pale band.

    Args:
        title: Read out where the picture cannot be seen.
        x: Its ticks are the places of the points.
        curves: Name, class and (value, low, high) at each tick.
        height: Of the picture.
    """
    plot = Plot(title, x, unit_axis(), height=height)
    for name, class_, points in curves:
        plot.band(x.ticks, [p[1] for p in points], [p[2] for p in points], class_.split(" ")[0])
        plot.line(x.ticks, [p[0] for p in points], class_)
        texts = [
            f"{name} at {x.text(i)}: {value:.3f} ({low:.3f} to {high:.3f})"
            for i, (value, low, high) in enumerate(points)
        ]
        plot.points(x.ticks, [p[0] for p in points], class_.split(" ")[0], titles=texts)
    return plot.svg()


def _svg(title: str, width: float, height: float, shapes: Iterable[Markup]) -> Markup:
    return element(
        "svg",
        element("title", title),
        *shapes,
        viewBox=f"0 0 {width:g} {height:g}",
        style=f"max-width:{STRETCH * width:.0f}px",
        role="img",
    )
