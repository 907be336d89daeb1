"""A self-contained HTML page: one style, light and dark, readable on a phone. Pillow.

The page loads nothing: style and pictures are inside, there is no script, and a content security policy says so to the
browser. Every text is escaped unless it is Markup, which only this module, `charts` and their callers make.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from edge_runtime.contract import InputSpec, ModelContract
from edge_runtime.errors import ImageError, UsageError
from train.artifacts.files import write_text
from train.data.pixels import fit_photo
from train.evaluation.metrics import Estimate

NOTICE = "Research tool, not a medical device."
THUMBNAIL_PX = 96
THUMBNAIL_QUALITY = 82
LONG_VALUE = 40
MISSING = "–"
STYLE = Path(__file__).with_name("style.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Cell = str | int | Estimate | None


def escape(text: object) -> Markup:
    """Text as HTML; Markup stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def join(parts: Iterable[object]) -> Markup:
    """Parts one after another, each escaped unless Markup."""
    return Markup("".join(map(escape, parts)))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """One element. `class_` stands for class, `_` in other names for `-`; an attribute that is None is left out."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}>{join(content)}</{tag}>")


# ------------------------------------------------------------------ numbers


def number(value: float | None, digits: int = 3) -> str:
    """`0.725`; `–` for none. A minus sign is a minus sign."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """`+0.012`, `−0.012`, `0.000`."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def share(part: float, whole: float = 1.0) -> str:
    """`38.6 %` with a space that does not break; `–` of nothing."""
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else MISSING


def count(value: int) -> str:
    """`10,015`."""
    return f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """`1 photo`, `10,015 photos`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def estimate(value: Estimate | None, *, sign: bool = False) -> Markup:
    """A figure with its interval: `0.725` and, smaller, `0.677 to 0.772`."""
    if value is None:
        return Markup(MISSING)
    form = signed if sign else number
    return join(
        (form(value.value), element("small", f"{form(value.low)} to {form(value.high)}", class_="interval"))
    )


# ------------------------------------------------------------------ blocks


def paragraph(*content: object, class_: str | None = None) -> Markup:
    """A paragraph."""
    return element("p", *content, class_=class_)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page with a heading, to which the list of contents leads."""

    anchor: str
    title: str
    content: Sequence[object]

    def markup(self) -> Markup:
        """The section as HTML."""
        return element("section", element("h2", self.title), *self.content, id=self.anchor)


def tiles(figures: Iterable[tuple[str, object, str]]) -> Markup:
    """The page's main figures in large type.

    Args:
        figures: Name, value (an `estimate` or a text), and what it was counted on.
    """
    return element(
        "div",
        *(
            element(
                "div",
                element("h3", name),
                element("p", value, class_="value"),
                element("p", note),
                class_="tile",
            )
            for name, value, note in figures
        ),
        class_="tiles",
    )


def table(
    header: Sequence[object],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str = "",
    texts: Collection[int] = (),
) -> Markup:
    """A table that scrolls inside its box where it is wider than the screen.

    Args:
        header: A name for each column.
        rows: Cells; integers get thousands separators, Estimates their interval, None a dash.
        caption: Above it.
        texts: Columns of text, set to the left like the first, which holds each row's heading.
    """

    def cell(i: int, value: Cell) -> Markup:
        shown: object = value
        if value is None:
            shown = MISSING
        elif isinstance(value, Estimate):
            shown = estimate(value)
        elif isinstance(value, int):
            shown = count(value)
        if i == 0:
            return element("th", shown, scope="row")
        return element("td", shown, class_="text" if i in texts else None)

    head = element(
        "thead",
        element(
            "tr",
            *(
                element("th", name, scope="col", class_="text" if i in texts else None)
                for i, name in enumerate(header)
            ),
        ),
    )
    body = element("tbody", *(element("tr", *(cell(i, v) for i, v in enumerate(row))) for row in rows))
    titled = element("caption", caption) if caption else Markup("")
    # Focusable, so that it can be scrolled without a mouse.
    return element(
        "div",
        element("table", titled, head, body),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption or "table",
    )


def figure(drawing: object, caption: object = "", *, title: str = "") -> Markup:
    """A chart with its title above and what it says below."""
    return element(
        "figure",
        element("h3", title) if title else Markup(""),
        drawing,
        element("figcaption", caption) if caption else Markup(""),
    )


def grid(*content: object, size: str = "") -> Markup:
    """Figures side by side, as many as fit; size is `small`, `wide` or nothing."""
    return element("div", *content, class_=f"grid {size}".strip())


def note(*content: object) -> Markup:
    """A remark that must not be overlooked."""
    return paragraph(*content, class_="note")


def details(summary: object, *content: object, open_: bool = False) -> Markup:
    """What is shown when the reader asks for it."""
    return element("details", element("summary", summary), *content, open="open" if open_ else None)


def definitions(pairs: Mapping[str, object]) -> Markup:
    """Names and what they stand for; empty values are left out."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", name),
                element("dd", value),
                class_="long" if len(str(value)) > LONG_VALUE else None,
            )
            for name, value in pairs.items()
            if value not in ("", None)
        ),
    )


# ------------------------------------------------------------------ photos


def thumbnail(path: Path, contract: ModelContract, *, size_px: int = THUMBNAIL_PX) -> str | None:
    """What the network sees of a photo, small: the contract's crop and resize, as a JPEG in a data URI.

    Args:
        path: The photo.
        contract: Its geometry and input say how; only the size is replaced.
        size_px: Side of the square.

    Returns:
        `data:image/jpeg;base64,...`; None when the photo is missing or unreadable.
    """
    given = contract.input
    sized = dataclasses.replace(contract, input=InputSpec(size_px, size_px, given.color_space, given.alpha))
    try:
        pixels_u8 = fit_photo(path, sized)
    except (OSError, ImageError):
        return None
    file = io.BytesIO()
    Image.frombytes("RGB", (size_px, size_px), pixels_u8).save(
        file, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True
    )
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def photo_card(picture: str | None, *lines: object, description: str) -> Markup:
    """A thumbnail, or the place of one that is missing, and lines of text below it."""
    shown = (
        element("div", "no photo", class_="missing")
        if picture is None
        else Markup(
            f'<img src="{picture}" alt="{html.escape(description)}" width="{THUMBNAIL_PX}" '
            f'height="{THUMBNAIL_PX}" loading="lazy">'
        )
    )
    return element(
        "figure", shown, element("figcaption", *(element("span", line) for line in lines)), class_="photo"
    )


def photo_row(cards: Iterable[object]) -> Markup:
    """Cards side by side, wrapped."""
    return element("div", *cards, class_="photos")


# ------------------------------------------------------------------ the page


def require_place(out: Path) -> None:
    """Fails early where a page cannot be written: its figures take longer than this look.

    Raises:
        UsageError: Its folder does not exist or is read-only, or a folder stands in its place.
    """
    folder = out.parent
    if out.is_dir():
        found = "a folder of that name"
    elif not folder.is_dir():
        found = f"no folder {folder}"
    elif not os.access(folder, os.W_OK):
        found = f"no right to write in {folder}"
    else:
        return
    raise UsageError(
        f"{out}: the page cannot be written", found=found, expected="a file in a folder that can be written to",
        fix="name another place with --out",
    )  # fmt: skip


def write_page(out: Path, text: str) -> None:
    """Writes a page whole or not at all.

    Raises:
        UsageError: It cannot be written, although `require_place` may have seen nothing wrong: the disk is full.
    """
    try:
        write_text(out, text)
    except OSError as error:
        raise UsageError(f"{out}: the page cannot be written", found=error.strerror or str(error)) from error


def page(title: str, subtitle: object, licence: str, sections: Sequence[Section]) -> str:
    """The whole document.

    Args:
        title: Also the window's.
        subtitle: One line below it.
        licence: Of the data, and whatever else must be said wherever it is shown.
        sections: From top to bottom.
    """
    contents = element("nav", *(element("a", part.title, href=f"#{part.anchor}") for part in sections))
    header = element(
        "header",
        element("h1", title),
        paragraph(subtitle, class_="subtitle"),
        paragraph(element("strong", NOTICE), " Data: ", licence, class_="notice"),
        contents,
    )
    return (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n"
        f"</head>\n<body>\n{header}\n{element('main', *(part.markup() for part in sections))}\n"
        "</body>\n</html>\n"
    )
