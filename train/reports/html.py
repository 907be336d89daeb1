"""A self-contained HTML page: one style, light and dark, readable on a phone. Jinja2, Pillow.

The page loads nothing: style and pictures are inside, there is no script, and a content security policy says so to the
browser. Every text is escaped unless it is Markup, which only the templates, `element` and their callers make.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import functools
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup as Markup
from markupsafe import escape
from PIL import Image

from edge_runtime.contract import NOTICE, InputSpec, ModelContract
from edge_runtime.errors import ImageError, UsageError
from edge_runtime.images.preprocess import fit_file
from train.artifacts.files import write_text
from train.evaluation.metrics import Estimate

THUMBNAIL_PX = 112
JPEG_QUALITY = 82
MISSING = "–"
STYLE = Path(__file__).with_name("style.css")
TEMPLATES = Path(__file__).with_name("templates")


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """Make one element. `class_` stands for class, `_` in other names for `-`; attributes of None are left out."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{given}>{Markup().join(content)}</{tag}>")


# ------------------------------------------------------------------ numbers


def number(value: float | None, digits: int = 3) -> str:
    """Format `0.725`, `−0.012`; `–` for None."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """Format `+0.012`, `−0.012`, `0.000`; `–` for None."""
    if value is None:
        return MISSING
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def share(part: float, whole: float = 1.0) -> str:
    """Format `38.6 %` with a space that does not break; `–` of nothing."""
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else MISSING


def count(value: int) -> str:
    """Format `10,015`."""
    return f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """Format `1 photo`, `10,015 photos`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def estimate(value: Sequence[float] | None, *, sign: bool = False) -> Markup:
    """Format (value, low, high) as `0.725` and, smaller, `0.677 to 0.772`; a dash for None; `sign` adds plus signs."""
    if value is None:
        return Markup(MISSING)
    shown = map(signed if sign else number, value)
    return Markup('{}<small class="interval">{} to {}</small>').format(*shown)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of files or folders, with as many parents as make them distinct."""
    resolved = [path.resolve() for path in paths]
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({i + 1})" for i, path in enumerate(resolved)]


def note(text: str) -> Markup:
    """Make a highlighted remark."""
    return element("p", text, class_="note")


# ------------------------------------------------------------------ photos


def jpeg_uri(image: Image.Image) -> str:
    """Encode a picture as `data:image/jpeg;base64,...`."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def picture(image: Image.Image, description: str, *, most_px: int | None = None) -> Markup:
    """Embed an RGB picture, at most `most_px` wide, that shrinks with the screen."""
    width = min(image.width, most_px or image.width)
    source = Markup('<img src="{}" alt="{}" width="{}" style="max-width:100%;height:auto">')
    return source.format(jpeg_uri(image), description, width)


def thumbnail(path: Path, contract: ModelContract) -> str | None:
    """Encode what the network sees of a photo, at THUMBNAIL_PX a side, as `jpeg_uri`; None where it cannot be read."""
    given = contract.input
    small = InputSpec(THUMBNAIL_PX, THUMBNAIL_PX, given.color_space, given.alpha)
    try:
        pixels_u8 = fit_file(path, dataclasses.replace(contract, input=small))
    except (OSError, ImageError):
        return None
    return jpeg_uri(Image.frombytes("RGB", (THUMBNAIL_PX, THUMBNAIL_PX), pixels_u8))


# ------------------------------------------------------------------ the page


class Figure(NamedTuple):
    """A chart, as the macros `figure` and `figures` of blocks.html.j2 show it."""

    drawing: Markup
    caption: str = ""
    title: str = ""
    legend: Sequence[tuple[str, str]] = ()
    """Names of lines and the classes that they are drawn with."""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page with a heading, linked from the list of contents."""

    anchor: str
    title: str
    content: Sequence[object]


def add_options(parser: argparse.ArgumentParser, *, out: str, data: str) -> None:
    """Add --out, --data and --no-photos to a page's command; `out` and `data` say what their defaults are."""
    thumbnails = "leave out thumbnails, so that the page can be shared (default: show them)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"write the page there (default: {out})")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help=f"folder of the first dataset (default: {data})"
    )
    parser.add_argument("--no-photos", action="store_true", help=thumbnails)


def require_place(out: Path) -> None:
    """Fail early where a page cannot be written: its figures take longer than this check.

    Raises:
        UsageError: Its folder does not exist or is read-only, or a folder stands in its place.
    """
    folder = out.parent
    if out.is_dir():
        found = "a folder of that name"
    elif not folder.is_dir():
        found = f"no folder {folder}"
    elif not os.access(folder, os.W_OK):
        found = f"no write permission in {folder}"
    else:
        return
    raise UsageError(
        f"{out}: cannot write the page", found=found, expected="a file in a writable folder",
        fix="choose another path with --out",
    )  # fmt: skip


def write_page(out: Path, text: str) -> None:
    """Write a page whole or not at all.

    Raises:
        UsageError: It cannot be written, although `require_place` found nothing wrong: the disk is full.
    """
    try:
        write_text(out, text)
    except OSError as error:
        raise UsageError(f"{out}: cannot write the page", found=error.strerror or str(error)) from error


def page(
    title: str, subtitle: object, licence: str, sections: Sequence[Section], notice: str = NOTICE
) -> str:
    """Make the whole document.

    The subtitle is its description too, `licence` of the data, with whatever else must be stated with it, and `notice`
    of the models (`ModelContract.notice`).
    """
    style = Markup(STYLE.read_text(encoding="utf-8"))
    template = _environment().get_template("page.html.j2")
    return template.render(
        title=title, subtitle=subtitle, notice=notice, licence=licence, sections=sections, style=style
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "percent": _percent}
    environment.globals |= {f.__name__: f for f in (counted, estimate, number, share, signed, zip)}
    environment.globals["thumbnail_px"] = THUMBNAIL_PX
    return environment


def render_text(
    template: Path, values: Mapping[str, object], filters: Mapping[str, Any] | None = None
) -> str:
    """Fill a template of plain text or Markdown, in which nothing is escaped; at most one empty line in a row stays."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {"count": count, **(filters or {})}
    text = environment.from_string(template.read_text(encoding="utf-8")).render(values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@functools.cache
def macros(template: Path, units: str = "lesions") -> Any:
    """Return a template's macros; it may import blocks.html.j2, call this module's formatters, and say `unit(s)`."""
    text = template.read_text(encoding="utf-8")
    return _environment().from_string(text).make_module({"units": units, "unit": units[:-1]})


def _cell(value: object) -> object:
    if value is None:
        return MISSING
    if isinstance(value, Estimate):
        return estimate(value)
    return count(value) if isinstance(value, int) else value


def _percent(part: float) -> str:
    space = "\N{NO-BREAK SPACE}"
    return f"{100 * part:.0f}{space}%" if part >= 0.005 else f"<{space}1{space}%"
