"""Pieces of a self-contained HTML page and small SVG charts. Pillow.

The page loads nothing and runs no script; a content security policy says so to the browser. Every text is escaped
unless it is Markup, which only this module and its callers make. (train/reports/html.py has more of this; `convert`
may import
nothing of `train` but its metrics.)
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from PIL import Image

from edge_runtime.contract import InputSpec, ModelContract
from edge_runtime.errors import ImageError
from edge_runtime.images.preprocess import fit_pixels

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
NOTICE = "Research tool, not a medical device."
MISSING = "–"
THUMBNAIL_PX = 112
WIDTH = 360
# Of the widest letters that a system's own font is likely to have, at 11 px.
CHARACTER = 6.6


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def join(parts: Iterable[object]) -> Markup:
    """Parts one after another, each escaped unless Markup."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(str(part)) for part in parts))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """One element. `class_` stands for class, `_` in other names for `-`; an attribute that is None is left out."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}>{join(content)}</{tag}>")


def number(value: float | None, digits: int = 3) -> str:
    """`0.725`, `−0.012`; a dash for none."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.012`, `−0.012`, `0.000`; a dash for none."""
    if value is None:
        return MISSING
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def estimate(value: Sequence[float] | None, *, sign: bool = False) -> Markup:
    """A figure and, smaller and below it, its interval."""
    if value is None:
        return Markup(MISSING)
    form = signed if sign else number
    return join((form(value[0]), element("small", f"{form(value[1])} to {form(value[2])}")))


def paragraph(*content: object, class_: str | None = None) -> Markup:
    """A paragraph."""
    return element("p", *content, class_=class_)


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str, texts: Collection[int] = ()
) -> Markup:
    """A table that scrolls inside its box where it is wider than the screen; None becomes a dash."""

    def shown(value: object) -> object:
        if value is None:
            return MISSING
        return f"{value:,}" if isinstance(value, int) else value

    def cell(i: int, value: object) -> Markup:
        if i == 0:
            return element("th", shown(value), scope="row")
        return element("td", shown(value), class_="text" if i in texts else None)

    head = element(
        "tr",
        *(
            element("th", name, scope="col", class_="text" if i in texts else None)
            for i, name in enumerate(header)
        ),
    )
    body = (element("tr", *(cell(i, value) for i, value in enumerate(row))) for row in rows)
    inner = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    # Focusable, so that it can be scrolled without a mouse.
    return element("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def figure(title: str, drawing: object, caption: object = "") -> Markup:
    """A chart with its title above and what it says below."""
    return element("figure", element("h3", title), drawing, element("figcaption", caption) if caption else "")


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Names and the classes that they are drawn with."""
    return element("p", *(element("span", name, class_=class_) for name, class_ in entries), class_="legend")


def thumbnail(path: Path, contract: ModelContract) -> str | None:
    """What the network sees of a photo, small, as a JPEG in a data URI; None when the photo cannot be read."""
    given = contract.input
    small = InputSpec(THUMBNAIL_PX, THUMBNAIL_PX, given.color_space, given.alpha)
    try:
        pixels_u8 = fit_pixels(path.read_bytes(), dataclasses.replace(contract, input=small), name=str(path))
    except (OSError, ImageError):
        return None
    file = io.BytesIO()
    Image.frombytes("RGB", (THUMBNAIL_PX, THUMBNAIL_PX), pixels_u8).save(
        file, "JPEG", quality=80, optimize=True
    )
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def photo_card(picture: str | None, lines: Sequence[object], description: str) -> Markup:
    """A thumbnail, or the place of one that is missing, and lines of text below it."""
    if picture is None:
        shown = element("div", "no photo", class_="missing")
    else:
        shown = Markup(
            f'<img src="{picture}" alt="{html.escape(description)}" width="{THUMBNAIL_PX}" '
            f'height="{THUMBNAIL_PX}" loading="lazy">'
        )
    return element(
        "figure", shown, element("figcaption", *(element("span", line) for line in lines)), class_="photo"
    )


def document(title: str, subtitle: str, licence: str, sections: Sequence[tuple[str, str, object]]) -> str:
    """The whole page; a section is its anchor, its title and its content."""
    contents = element("nav", *(element("a", name, href=f"#{anchor}") for anchor, name, _ in sections))
    header = element(
        "header",
        element("h1", title),
        paragraph(subtitle, class_="quiet"),
        paragraph(element("strong", NOTICE), " Data: ", licence, class_="notice"),
        contents,
    )
    body = (element("section", element("h2", name), content, id=anchor) for anchor, name, content in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n"
        f"</head>\n<body>\n{header}\n{element('main', *body)}\n</body>\n</html>\n"
    )


# -------------------------------------------------------------------- charts


def svg(title: str, height: float, shapes: Iterable[Markup], *, width: float = WIDTH) -> Markup:
    """A picture that takes the page's colours, light or dark; never stretched by more than a third."""
    return element(
        "svg",
        element("title", title),
        *shapes,
        viewBox=f"0 0 {width:g} {height:g}",
        style=f"max-width:{1.33 * width:.0f}px",
        role="img",
    )


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that enclose [low, high]."""
    span = high - low if high > low else max(abs(high), 1.0)
    step = 1.0
    for exponent in range(-9, 10):
        step = next((k * 10.0**exponent for k in (1, 2, 5) if span / (k * 10.0**exponent) <= count), 0.0)
        if step:
            break
    first = int(low // step)
    ticks = [round(first * step, 10)]
    while ticks[-1] < low + span - 1e-9:
        ticks.append(round((first + len(ticks)) * step, 10))
    return ticks


def interval_chart(
    title: str,
    rows: Sequence[tuple[str, Sequence[float] | None, str]],
    *,
    zero: str = "",
    digits: int = 1,
) -> Markup:
    """Lying intervals around a dashed zero.

    Args:
        title: Read out where the picture cannot be seen.
        rows: Name, [value, low, high] or None, and the text behind it.
        zero: Said below the zero line.
        digits: Of the ticks.
    """
    told = [estimate for _, estimate, _ in rows if estimate is not None]
    low, high = min([0.0, *(e[1] for e in told)]), max([0.0, *(e[2] for e in told)])
    ticks = nice_ticks(low, high)
    # Long names stand above their bar: on a phone there is no room beside it.
    left, right, pitch = 18.0, WIDTH - 20.0, 38
    floor = pitch * len(rows) + 6

    def at(value: float) -> float:
        return round(left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left), 1)

    shapes = []
    for tick in ticks:
        shapes.append(element("path", d=f"M{at(tick)} 2V{floor}", class_="rule"))
        shapes.append(
            element(
                "text", signed(tick, digits), x=at(tick), y=floor + 14, text_anchor="middle", class_="quiet"
            )
        )
    shapes.append(element("path", d=f"M{at(0)} 2V{floor}", class_="dashed"))
    for i, (name, value, text) in enumerate(rows):
        y = pitch * i + 14
        shapes.append(element("text", name, x=left, y=y))
        shapes.append(element("text", text, x=right, y=y, text_anchor="end", class_="quiet"))
        if value is None:
            continue
        class_ = "worse" if value[2] < 0 else "better" if value[1] > 0 else "second"
        middle = y + 11
        shapes.append(element("path", d=f"M{at(value[1])} {middle}H{at(value[2])}", class_=f"line {class_}"))
        shapes.append(element("circle", cx=at(value[0]), cy=middle, r=4.5, class_=f"fill {class_}"))
    if zero:
        shapes.append(element("text", zero, x=WIDTH / 2, y=floor + 30, text_anchor="middle", class_="quiet"))
    return svg(title, floor + (36 if zero else 20), shapes)


def pair_chart(title: str, rows: Sequence[tuple[str, float | None, float | None, str]]) -> Markup:
    """Two dots a row on a scale from 0 to 1, joined by a line: before and after.

    Args:
        title: Read out where the picture cannot be seen.
        rows: Name, the first model's value, the second's, and the text behind them.
    """
    left = 10 + CHARACTER * max((len(name) for name, *_ in rows), default=1)
    right = WIDTH - 12 - CHARACTER * max((len(row[3]) for row in rows), default=1)
    floor = 24 * len(rows) + 4
    shapes = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = round(left + tick * (right - left), 1)
        shapes.append(element("path", d=f"M{x} 2V{floor}", class_="rule"))
        shapes.append(element("text", f"{tick:g}", x=x, y=floor + 14, text_anchor="middle", class_="quiet"))
    for i, (name, before, after, text) in enumerate(rows):
        y = 24 * i + 14
        shapes.append(element("text", name, x=left - 6, y=y + 4, text_anchor="end"))
        shapes.append(element("text", text, x=WIDTH - 4, y=y + 4, text_anchor="end", class_="quiet"))
        if before is None or after is None:
            continue
        ends = [round(left + value * (right - left), 1) for value in (before, after)]
        class_ = "worse" if after < before else "better" if after > before else "first"
        shapes.append(element("path", d=f"M{ends[0]} {y}H{ends[1]}", class_=f"line {class_}"))
        shapes.append(element("circle", cx=ends[0], cy=y, r=4, class_="fill first"))
        shapes.append(element("circle", cx=ends[1], cy=y, r=4, class_="fill second"))
    return svg(title, floor + 20, shapes)


def bar_chart(title: str, rows: Sequence[tuple[str, float, str]], *, class_: str = "second") -> Markup:
    """Lying bars with their names before and their values behind them."""
    left = 10 + CHARACTER * max((len(name) for name, *_ in rows), default=1)
    behind = 12 + CHARACTER * max((len(text) for *_, text in rows), default=1)
    most = max((value for _, value, _ in rows), default=0) or 1
    shapes = []
    for i, (name, value, text) in enumerate(rows):
        y, width = 22 * i + 2, round(max((WIDTH - left - behind) * value / most, 0.7 if value else 0), 1)
        shapes.append(element("text", name, x=round(left - 6, 1), y=y + 13, text_anchor="end"))
        shapes.append(element("rect", x=round(left, 1), y=y, width=width, height=17, class_=f"fill {class_}"))
        shapes.append(element("text", text, x=round(left + width + 6, 1), y=y + 13, class_="quiet"))
    return svg(title, 22 * len(rows) + 4, shapes)


def line_chart(
    title: str,
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    x: tuple[float, float, str],
    y: tuple[float, float, str],
    marks: Sequence[tuple[float, float, str, str]] = (),
    height: int = 230,
) -> Markup:
    """Lines, and marked points with a text that appears when pointed at.

    Args:
        title: Read out where the picture cannot be seen.
        lines: Class and points.
        x: Lowest, highest, name.
        y: The same, upwards.
        marks: x, y, class, text.
        height: Of the picture.
    """
    x_ticks, y_ticks = nice_ticks(x[0], x[1]), nice_ticks(y[0], y[1])
    left, right, top, floor = 36.0, WIDTH - 12.0, 16.0, height - 34.0

    def at(px: float, py: float) -> tuple[float, float]:
        across = (px - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (py - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return round(left + across * (right - left), 1), round(floor - up * (floor - top), 1)

    shapes = []
    for tick in y_ticks:
        _, place = at(x_ticks[0], tick)
        shapes.append(element("path", d=f"M{left} {place}H{right}", class_="rule"))
        shapes.append(
            element("text", f"{tick:g}", x=left - 5, y=place + 4, text_anchor="end", class_="quiet")
        )
    for tick in x_ticks:
        place, _ = at(tick, y_ticks[0])
        shapes.append(
            element("text", f"{tick:g}", x=place, y=floor + 14, text_anchor="middle", class_="quiet")
        )
    shapes.append(element("path", d=f"M{left} {top}V{floor}H{right}", class_="axis"))
    shapes.append(
        element("text", x[2], x=(left + right) / 2, y=height - 4, text_anchor="middle", class_="quiet")
    )
    shapes.append(element("text", y[2], x=2, y=10, class_="quiet"))
    for class_, points in lines:
        path = " ".join(
            f"{'ML'[i > 0]}{px} {py}" for i, (px, py) in enumerate(at(*point) for point in points)
        )
        shapes.append(element("path", d=path, class_=f"line {class_}"))
    for px, py, class_, text in marks:
        cx, cy = at(px, py)
        shapes.append(element("circle", element("title", text), cx=cx, cy=cy, r=3.5, class_=f"fill {class_}"))
    return svg(title, height, shapes)
