"""The picture of an explanation: the photo, the photo under its heat map, what it says. Pillow.

The colours are nine of viridis (Smith and van der Walt, 2015, CC0): brighter is more, in grey and for colour-blind
eyes too. Heat is laid over the photo as far as it is hot, so a cold place shows the photo itself. Between the places
of the map it is interpolated; the caption says how many there are.

The picture is new: nothing of the photo's metadata comes into it. What it says stands in it as text and again in its
PNG text entries `Software`, `Description`, `Disclaimer` and `Source`, always whole. The text that is drawn has the
glyphs of Pillow's built-in font, which are little more than ASCII: a label whose name has others is drawn by its code
alone, and elsewhere a question mark stands for what cannot be drawn. A font of the system would look otherwise on every
device, and on most there is none for Korean.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from edge_runtime import __version__
from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import HeatMapUnwritten
from edge_runtime.explain.explainer import Explanation
from edge_runtime.files import whole_file

if TYPE_CHECKING:
    Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

RAMP = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
    (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip
PANEL_PX = 320
"""Longer side of each of the two panels."""
LEAST_WIDTH_PX = 400
"""So that the text below a narrow photo fits."""
GAP_PX = 12
LINE_PX = 17
FONT_PX = 13
BAR_PX = 10
OPAQUE = 0.7
"""Of the hottest place's colour; the lesion's border must stay visible below it."""
PAPER, INK = (255, 255, 255), (24, 24, 24)
# A fifth of zlib's default time for a sixth more bytes, on a device that waits for it.
COMPRESSION = 1
SOFTWARE = "dermedge"
# Of a PNG: longer than its entries are, far shorter than its pixels.
HEAD_BYTES = 65_536
# No character, so every font draws it as what it does not have.
NO_CHARACTER = "\U0010ffff"


def write_picture(path: str, explanation: Explanation, notice: str) -> None:
    """Write the picture of an explanation as PNG, whole or not at all; `notice` is what goes with every prediction.

    Raises:
        HeatMapUnwritten: It cannot be written there.
    """
    prediction = explanation.prediction
    texts = PngInfo()
    for keyword, text in (
        ("Software", f"{SOFTWARE} {__version__}"),
        ("Description", " ".join(describe(explanation, f"{prediction.name} ({prediction.label})"))),
        ("Disclaimer", notice),
        ("Source", prediction.model),
    ):
        texts.add_itxt(keyword, text)
    shown = describe(explanation, shown_label(prediction.name, prediction.label))
    try:
        picture = draw_picture(explanation, [*shown, notice])
        with whole_file(Path(path)) as temporary:
            picture.save(temporary, "PNG", pnginfo=texts, compress_level=COMPRESSION)
    except (OSError, MemoryError) as error:
        found = getattr(error, "strerror", "") or str(error) or "not enough memory"
        problem = "the heat map cannot be written"
        expected, fix = "a folder that can be written to", "name another file with --explain"
        raise HeatMapUnwritten(problem, where=path, found=found, expected=expected, fix=fix) from error


def is_heat_map(path: str) -> bool:
    """Return whether a file is a picture that `write_picture` has made: by its PNG entry `Software`."""
    if not Path(path).is_file():
        return False
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    entries = head.partition(b"IDAT")[0]
    return (
        head.startswith(b"\x89PNG\r\n\x1a\n") and b"iTXtSoftware" + 5 * b"\0" + SOFTWARE.encode() in entries
    )


def describe(explanation: Explanation, label: str) -> tuple[str, str]:
    """Return the prediction, with `label` for its label, and what the colours mean."""
    prediction = explanation.prediction
    rows, columns = len(explanation.lead), len(explanation.lead[0])
    return (
        f"{prediction.headline(label)}.",
        f"Bright: where the photo speaks for this label more than elsewhere, on {rows} x {columns} places. The "
        f"brightest is worth {explanation.peak:+.2f} in the label's lead over the average label (logits).",
    )


def shown_label(name: str, code: str) -> str:
    """Return name and code of a label if the font has the name's glyphs, else its code."""
    known = name.isascii() or _drawable(name, ImageFont.load_default(FONT_PX)) == name
    return f"{name} ({code})" if known else code


def _drawable(text: str, font: Font) -> str:
    """Return the text with a question mark for every character that the font does not have."""
    if text.isascii():
        return text
    if not isinstance(font, ImageFont.FreeTypeFont):
        # What Pillow falls back on where it was built without FreeType; it refuses what is not Latin.
        return "".join(character if character.isascii() else "?" for character in text)
    missing = _glyph(NO_CHARACTER, font)
    return "".join(
        character if character.isascii() or character.isspace() or _glyph(character, font) != missing else "?"
        for character in text
    )


def _glyph(character: str, font: ImageFont.FreeTypeFont) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def draw_picture(explanation: Explanation, paragraphs: list[str]) -> Image.Image:
    """Draw both panels, the scale, and paragraphs below them; RGB."""
    photo = _panel(explanation.photo)
    shown = heat_over(photo, explanation)
    beside = photo.width <= photo.height * 2
    panels = 2 * photo.width + GAP_PX if beside else photo.width
    width = max(panels, LEAST_WIDTH_PX) + 2 * GAP_PX
    font = ImageFont.load_default(FONT_PX)
    lines = [
        line for text in paragraphs for line in _wrapped(_drawable(text, font), font, width - 2 * GAP_PX)
    ]
    second = (2 * GAP_PX + photo.width, GAP_PX) if beside else (GAP_PX, 2 * GAP_PX + photo.height)
    scale_top = second[1] + photo.height + GAP_PX // 2
    text_top = scale_top + BAR_PX + GAP_PX
    picture = Image.new("RGB", (width, text_top + LINE_PX * len(lines) + GAP_PX), PAPER)
    picture.paste(photo, (GAP_PX, GAP_PX))
    picture.paste(shown, second)
    picture.paste(_scale(photo.width), (second[0], scale_top))
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((GAP_PX, text_top + LINE_PX * number), line, fill=INK, font=font)
    return picture


def heat_over(photo: Image.Image, explanation: Explanation) -> Image.Image:
    """Return the photo under its heat map, RGB, of the photo's size."""
    heat = explanation.heat
    most = max(explanation.peak, 0.0) or 1.0
    grid = Image.new("F", (len(heat[0]), len(heat)))
    grid.putdata([255 * value / most for row in heat for value in row])
    level = grid.resize(photo.size, Image.Resampling.BILINEAR).convert("L")
    return Image.composite(_coloured(level), photo, level.point([round(OPAQUE * v) for v in range(256)]))


def _coloured(level: Image.Image) -> Image.Image:
    """Return the ramp's colours of an image of mode L."""
    coloured = level.copy()
    coloured.putpalette([channel for v in range(256) for channel in ramp_colour(v / 255)])
    return coloured.convert("RGB")


def ramp_colour(share: float) -> tuple[int, int, int]:
    """Return the colour of a share of the maximum, in [0, 1]."""
    place = share * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    red, green, blue = (
        round(a + (b - a) * (place - low)) for a, b in zip(RAMP[low], RAMP[low + 1], strict=True)
    )
    return red, green, blue


def _panel(photo: Image.Image) -> Image.Image:
    factor = PANEL_PX / max(photo.size)
    size = (max(1, round(photo.width * factor)), max(1, round(photo.height * factor)))
    return photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _scale(width: int) -> Image.Image:
    bar = Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).resize((width, BAR_PX))
    return _coloured(bar)


def _wrapped(text: str, font: Font, width_px: float) -> list[str]:
    # Word by word: measuring every longer line takes longer than drawing all of them.
    lines, used, space = [""], 0.0, font.getlength(" ")
    for word in text.split():
        length = font.getlength(word)
        if lines[-1] and used + space + length > width_px:
            lines.append(word)
            used = length
        else:
            used += length + (space if lines[-1] else 0)
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
