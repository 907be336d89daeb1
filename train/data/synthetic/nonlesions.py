"""Draw out-of-distribution (OOD) images, such as a phone takes by accident, for `train.data.outliers`. numpy, Pillow.

Each painter draws one kind as float32 [side, side, 3], about 0 to 255. Skin is always healthy: no painter draws a
single dark or red spot on skin colours, which would be a lesion.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Picture = npt.NDArray[np.float32]
Rng = np.random.Generator

# From very light to very dark; skin under a dermoscope's light is pinker.
SKIN_TONES = np.array(
    [(250, 222, 205), (238, 196, 170), (222, 170, 138), (196, 136, 102), (150, 96, 66), (96, 62, 44), (62, 42, 34)],
    np.float32,
)  # fmt: skip
DERMOSCOPE_PINK = np.array((232, 170, 168), np.float32)
LEAST_JPEG_QUALITY, MOST_JPEG_QUALITY = 40, 96


# -------------------------------------------------------------------- what several painters need


@lru_cache(maxsize=4)
def _grid(side: int) -> tuple[Picture, Picture]:
    """Columns x and rows y of every pixel, -1 to 1."""
    y, x = np.mgrid[:side, :side].astype(np.float32) * (2 / (side - 1)) - 1
    return x, y


def _turned(rng: Rng, side: int) -> tuple[Picture, Picture]:
    """The grid, turned by any angle."""
    x, y = _grid(side)
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _smooth(rng: Rng, side: int, cells: int) -> Picture:
    """Smooth noise [side, side], about normal, with `cells` grains along a side."""
    grains = Image.fromarray(rng.standard_normal((cells + 2, cells + 2), dtype=np.float32))
    return 1.3 * np.asarray(grains.resize((side, side), Image.Resampling.BICUBIC))


def _fractal_noise(rng: Rng, side: int, exponent: float, stretch: float = 1.0) -> Picture:
    """Noise [side, side] of mean 0 and deviation 1 whose power falls with frequency ** -exponent.

    With a stretch above 1 the grains are so many times longer than wide, along the columns or the rows.
    """
    down, across = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    down, across = (down * stretch, across) if rng.random() < 0.5 else (down, across * stretch)
    frequency = np.maximum(np.hypot(down, across), 1 / side)
    white = rng.standard_normal((side, side // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    noise: Picture = np.fft.irfft2(white * frequency ** (-exponent / 2), (side, side)).astype(np.float32)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-6))


def _colour(rng: Rng) -> Picture:
    """Any colour."""
    return rng.uniform(0, 255, 3).astype(np.float32)


def _no_skin_colour(rng: Rng) -> Picture:
    """A colour that skin does not have: grey, or hues from yellow-green over blue to magenta."""
    value = rng.uniform(40, 255)
    if rng.random() < 0.3:
        return np.float32(value) + rng.normal(0, 4, 3).astype(np.float32)
    hue, saturation = rng.uniform(1.2, 5.2), rng.uniform(0.3, 1)
    shares = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return np.asarray(value * (1 - saturation * (1 - shares)), np.float32)


def _skin_colour(rng: Rng) -> Picture:
    """A skin tone between two neighbours of SKIN_TONES, sometimes pinker."""
    at = rng.uniform(0, len(SKIN_TONES) - 1.001)
    tone = SKIN_TONES[int(at)] + (at % 1) * (SKIN_TONES[int(at) + 1] - SKIN_TONES[int(at)])
    if rng.random() < 0.4:
        tone = tone + rng.uniform(0.3, 1) * (DERMOSCOPE_PINK * rng.uniform(0.8, 1.1) - tone)
    return np.asarray(tone * rng.normal(1, 0.03, 3), np.float32)


def _between(amount: Picture, first: Picture, second: Picture) -> Picture:
    """From one colour (or picture) at 0 to another at 1; amount [side, side]."""
    return first + amount[..., None] * (second - first)


def _rgb(colour: npt.NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in colour)


def _to_image(picture: Picture) -> Image.Image:
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _step(values: Picture, width: float) -> Picture:
    """A soft step from 0 to 1 where values pass 0."""
    return np.clip(values / width + 0.5, 0, 1)


# -------------------------------------------------------------------- painters


def _dark(rng: Rng, side: int) -> Picture:
    """Lens cap, pocket, night: nearly black, sensor noise, perhaps a glimmer of light."""
    colour = rng.uniform(2, 30) * rng.normal(1, 0.15, 3)
    picture = colour + 6 * _smooth(rng, side, 3)[..., None] * rng.random()
    if rng.random() < 0.5:
        u, v = _turned(rng, side)
        glow = np.exp(-((u - rng.uniform(-1, 1)) ** 2 + v**2 * rng.uniform(0.3, 3)) * rng.uniform(1, 6))
        picture = picture + glow[..., None] * _colour(rng) * rng.uniform(0.1, 0.4)
    noise = rng.standard_normal((side, side, 3), dtype=np.float32)
    return np.asarray(picture + rng.uniform(1, 9) * noise, np.float32)


def _overexposed(rng: Rng, side: int) -> Picture:
    """Against the light: most of it clipped."""
    scene = 60 * _fractal_noise(rng, side, rng.uniform(2, 3.2))[..., None] * rng.uniform(0.2, 1, 3)
    u, v = _turned(rng, side)
    lit = rng.uniform(215, 265) + scene * rng.uniform(0.1, 0.6) + 40 * (u + 0.3 * v)[..., None]
    return np.asarray(lit, np.float32)


def _skin(rng: Rng, side: int) -> Picture:
    """Healthy skin: shading, pores, lines, perhaps hairs, perhaps a dermoscope's dark corners and bubbles."""
    u, v = _turned(rng, side)
    shading = 1 + rng.uniform(-0.2, 0.2) * u + rng.uniform(-0.15, 0.15) * v * v
    shading += rng.uniform(0, 0.05) * _smooth(rng, side, int(rng.integers(2, 5)))
    shading += rng.uniform(0.005, 0.035) * _fractal_noise(rng, side, rng.uniform(0.8, 2.0), rng.uniform(1, 3))
    picture = shading[..., None] * _skin_colour(rng)
    # Uneven blood supply, too wide and weak for a spot.
    picture[..., 1:] *= 1 - rng.uniform(0, 0.04) * _smooth(rng, side, 2)[..., None]
    if rng.random() < 0.5:
        picture = _with_hairs(rng, picture)
    if rng.random() < 0.3:
        x, y = _grid(side)
        radius = np.hypot(x - rng.uniform(-0.1, 0.1), y - rng.uniform(-0.1, 0.1))
        picture = picture * (1 - _step(radius - rng.uniform(0.95, 1.25), rng.uniform(0.05, 0.4)))[..., None]
    return picture


def _with_hairs(rng: Rng, picture: Picture) -> Picture:
    """Bent thin strokes, dark or fair, drawn at twice the size for smooth edges."""
    side = 2 * len(picture)
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    steps = np.linspace(-1, 1, 8)[:, None]
    main = rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(3, 28))):
        angle, bend, length = main + rng.normal(0, 0.5), rng.normal(0, 0.12), rng.uniform(0.1, 0.6)
        along = np.array([np.cos(angle), np.sin(angle)])
        bent = steps * along + bend * (steps**2) * np.array([-along[1], along[0]])
        points = [tuple(point) for point in (rng.uniform(-0.1, 1.1, 2) + length * bent) * side]
        draw.line(points, fill=255, width=max(1, round(side * rng.uniform(0.002, 0.007))))
    covered = np.asarray(mask.resize((side // 2, side // 2), Image.Resampling.BOX), np.float32) / 255
    tone = rng.uniform(0.15, 0.6) if rng.random() < 0.8 else rng.uniform(1.1, 1.3)
    return _between(covered * rng.uniform(0.4, 0.95), picture, picture.mean((0, 1)) * np.float32(tone))


def _limb(rng: Rng, side: int) -> Picture:
    """An arm or leg from afar, healthy, before some background."""
    u, v = _turned(rng, side)
    middle = v + rng.uniform(-0.2, 0.2) * u + rng.uniform(-0.2, 0.2) * u * u - rng.uniform(-0.3, 0.3)
    half = rng.uniform(0.25, 0.6) * (1 + rng.uniform(-0.3, 0.3) * u)
    roundness = np.sqrt(np.clip(1 - (middle / half) ** 2, 0, 1))
    limb = (0.55 + 0.45 * roundness)[..., None] * _skin_colour(rng)
    limb *= 1 + rng.uniform(0.005, 0.02) * _fractal_noise(rng, side, 1.5)[..., None]
    behind = PAINTERS[str(rng.choice(["gradient", "fabric", "fractal", "wood"]))](rng, side)
    return _between(_step(half - np.abs(middle), 0.03), behind, limb)


def _finger(rng: Rng, side: int) -> Picture:
    """A finger on the lens: red glow, at times with a corner of the scene free."""
    u, v = _turned(rng, side)
    light = np.exp(-((u - rng.uniform(-1, 1)) ** 2 + (v - rng.uniform(-1, 1)) ** 2) * rng.uniform(0.2, 1.2))
    dark = np.array((rng.uniform(30, 120), 0, 0), np.float32)
    bright = rng.uniform((190, 30, 20), (260, 130, 90)).astype(np.float32)
    picture = _between(light, dark, bright)
    picture += 3 * _smooth(rng, side, 6)[..., None]
    if rng.random() < 0.4:
        scene = _blurred(PAINTERS[str(rng.choice(["shapes", "fractal", "gradient"]))](rng, side), side * 0.01)
        picture = _between(_step(u - rng.uniform(0.0, 0.7), rng.uniform(0.2, 0.7)), picture, scene)
    return picture


def _gradient(rng: Rng, side: int) -> Picture:
    """Wall, sky, table: one to three colours that pass into each other."""
    u, v = _turned(rng, side)
    picture = _between(np.clip(0.5 + 0.5 * u * rng.uniform(0.3, 1.4), 0, 1), _colour(rng), _colour(rng))
    if rng.random() < 0.5:
        picture = _between(np.clip(0.5 + 0.5 * v, 0, 1) * rng.uniform(0.2, 0.8), picture, _colour(rng))
    return picture


def _fabric(rng: Rng, side: int) -> Picture:
    """Cloth: two crossing threads, uneven."""
    u, v = _turned(rng, side)
    bend = 0.03 * _smooth(rng, side, 4)
    turns = rng.uniform(20, 160)
    weave = np.sin((u + bend) * turns) * np.sin((v + bend) * turns * rng.uniform(0.6, 1.6))
    weave = weave * rng.uniform(0.04, 0.25) + rng.uniform(0.02, 0.12) * _smooth(rng, side, 4)
    if rng.random() < 0.5:
        weave = weave + rng.uniform(0.05, 0.3) * np.sign(np.sin((u + bend) * turns * rng.uniform(0.03, 0.12)))
    weave = weave + rng.uniform(0.01, 0.08) * _fractal_noise(rng, side, 0.5)
    return np.asarray((1 + weave)[..., None] * (30 + 0.8 * _colour(rng)), np.float32)


def _stripes(rng: Rng, side: int) -> Picture:
    """Stripes or a chequered pattern, tiles, blinds, keyboards."""
    u, v = _turned(rng, side)
    turns = rng.uniform(6, 45)
    pattern = np.sin(u * turns + rng.uniform(0, 6))
    if rng.random() < 0.5:
        pattern = pattern * np.sin(v * turns * rng.uniform(0.5, 2) + rng.uniform(0, 6))
    sharp = _step(pattern - rng.uniform(-0.5, 0.5), rng.uniform(0.05, 1.0))
    return _between(sharp, _colour(rng), _colour(rng)) * (1 + 0.1 * u * rng.uniform(-1, 1))[..., None]


def _page(rng: Rng, side: int) -> Picture:
    """Print: dark words on light paper, rarely the reverse, turned a little."""
    # Grey specks in place of strokes, 3 x 2 to a letter: at this size the eye cannot tell either.
    rows, letters = int(rng.integers(7, 34)), int(rng.integers(20, 60))
    words = rng.random((rows, letters)) > 0.17
    words &= np.arange(letters) < rng.uniform(0.5, 1, (rows, 1)) * letters
    specks = np.zeros((rows, 5, letters, 3), np.float32)
    specks[:, :3, :, :2] = rng.uniform(0, 1, (rows, 3, letters, 2)) * words[:, None, :, None]
    size = int(side * rng.uniform(1.4, 1.8))
    page = Image.fromarray(specks.reshape(rows * 5, letters * 3))
    page = page.resize((size, size), Image.Resampling.BICUBIC)
    page = page.rotate(rng.normal(0, 12), Image.Resampling.BILINEAR)
    left, top = (int(at) for at in rng.integers(0, size - side, 2))
    ink = np.clip(1.6 * np.asarray(page.crop((left, top, left + side, top + side))), 0, 1)
    paper, dark = rng.uniform(175, 255) * rng.normal(1, 0.04, 3), rng.uniform(0, 90, 3)
    first, second = (dark, paper) if rng.random() < 0.15 else (paper, dark)
    return _between(ink, first.astype(np.float32), second.astype(np.float32))


def _shapes(rng: Rng, side: int) -> Picture:
    """Things with edges: boxes, plates, rods, on a background that is no skin."""
    image = _to_image(_between(_grid(side)[1] * 0.5 + 0.5, _no_skin_colour(rng), _no_skin_colour(rng)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 14))):
        colour = _rgb(_colour(rng))
        kind, centre = rng.integers(4), rng.uniform(0, side, 2)
        reach = side * rng.uniform(0.05, 0.45, 2)
        box = (*(centre - reach), *(centre + reach))
        if kind == 0:
            draw.ellipse(box, fill=colour)
        elif kind == 1:
            draw.rectangle(box, fill=colour)
        elif kind == 2:
            corners = rng.uniform(-1, 1, (int(rng.integers(3, 7)), 2)) * reach + centre
            draw.polygon([tuple(corner) for corner in corners], fill=colour)
        else:
            draw.line(box, fill=colour, width=max(1, int(side * rng.uniform(0.005, 0.08))))
    picture = np.asarray(image, np.float32)
    return picture * (1 + 0.06 * _fractal_noise(rng, side, 2)[..., None] * rng.random())


def _noise(rng: Rng, side: int) -> Picture:
    """Coloured noise of any grain: gravel, static, a broken sensor."""
    cells = int(rng.integers(6, side))
    grains = rng.integers(0, 256, (cells, cells, 3 if rng.random() < 0.6 else 1), dtype=np.uint8)
    kind = rng.choice([Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
    image = Image.fromarray(np.broadcast_to(grains, (cells, cells, 3)).copy()).resize((side, side), kind)
    amount = np.full((side, side), rng.uniform(0.3, 1), np.float32)
    return _between(amount, _colour(rng), np.asarray(image, np.float32))


def _fractal(rng: Rng, side: int) -> Picture:
    """Grass, leaves, stone, carpet, clouds: three colours, none of a lesion that fills the photo."""
    first = _fractal_noise(rng, side, rng.uniform(0.6, 2.6), rng.uniform(1, 3))
    picture = _between(_step(first, rng.uniform(1, 4)), _no_skin_colour(rng), _no_skin_colour(rng))
    second = _fractal_noise(rng, side, rng.uniform(0.6, 2.2))
    return _between(_step(second - rng.uniform(0, 1.5), rng.uniform(0.2, 2)), picture, _no_skin_colour(rng))


def _wood(rng: Rng, side: int) -> Picture:
    """Tables and floors: long grain, joints between boards."""
    grain = _fractal_noise(rng, side, rng.uniform(1.2, 2.0), rng.uniform(12, 40))
    tone = np.array((rng.uniform(90, 220), 0, 0), np.float32)
    tone[1:] = tone[0] * rng.uniform((0.62, 0.35), (0.82, 0.62))
    picture = (1 + rng.uniform(0.08, 0.28) * grain)[..., None] * tone
    if rng.random() < 0.6:
        u, _ = _turned(rng, side)
        joint = np.abs((u * rng.uniform(0.8, 3) + rng.random()) % 1 - 0.5)
        picture = picture * (0.4 + 0.6 * _step(joint - 0.02, 0.02))[..., None]
    return picture


def _blobs(rng: Rng, side: int) -> Picture:
    """Blobs of colours that skin and lesions do not have: paint, sweets, lamps out of focus."""
    picture = np.broadcast_to(_no_skin_colour(rng), (side, side, 3))
    for _ in range(int(rng.integers(1, 5))):
        field = _smooth(rng, side, int(rng.integers(2, 9)))
        inside = _step(field - rng.uniform(0, 1.2), rng.uniform(0.03, 0.8))
        picture = _between(inside, picture, _no_skin_colour(rng))
    return picture


def _screen(rng: Rng, side: int) -> Picture:
    """A screen: panels, bars and lines, its pixel grid and moiré."""
    light = rng.random() < 0.6
    back = rng.uniform(215, 255, 3) if light else rng.uniform(5, 60, 3)
    image = Image.new("RGB", (side, side), _rgb(back))
    draw = ImageDraw.Draw(image)
    ink, thickness = (30, 30, 40) if light else (210, 210, 220), max(1, side // 90)
    for _ in range(int(rng.integers(3, 12))):
        left, top = rng.uniform(-0.1, 0.9, 2) * side
        width, height = side * rng.uniform(0.08, 0.7, 2)
        colour = _rgb(_no_skin_colour(rng))
        draw.rounded_rectangle((left, top, left + width, top + height), side * 0.02, fill=colour)
        for row in range(int(rng.integers(0, 6))):
            y = top + side * 0.04 * (row + 1)
            draw.line((left + 4, y, left + width * rng.uniform(0.3, 0.9), y), fill=ink, width=thickness)
    u, v = _turned(rng, side)
    grid = np.sin(u * rng.uniform(100, 420)) * rng.uniform(0, 0.12)
    grid += np.sin(v * rng.uniform(5, 30)) * rng.uniform(0, 0.06)
    return np.asarray(np.asarray(image, np.float32) * (1 + grid)[..., None])


def _blurred(picture: Picture, radius_px: float) -> Picture:
    box = ImageFilter.BoxBlur(radius_px)
    return np.asarray(_to_image(picture).filter(box).filter(box), np.float32)


def _defocus(rng: Rng, side: int) -> Picture:
    """Anything that is no skin, far out of focus or shaken."""
    kind = str(rng.choice(["shapes", "blobs", "screen", "page", "stripes", "fractal", "limb"]))
    picture = PAINTERS[kind](rng, side)
    if rng.random() < 0.7:
        return _blurred(picture, side * rng.uniform(0.03, 0.14))
    step = rng.normal(0, side * 0.02, 2)
    moved = [np.roll(picture, tuple(round(i * s) for s in step), (0, 1)) for i in range(8)]
    return np.asarray(np.mean(moved, axis=0, dtype=np.float32))


PAINTERS: dict[str, Callable[[Rng, int], Picture]] = {
    painter.__name__.removeprefix("_"): painter
    for painter in (
        _dark, _overexposed, _skin, _limb, _finger, _gradient, _fabric, _stripes, _page, _shapes, _noise, _fractal,
        _wood, _blobs, _screen, _defocus,
    )
}  # fmt: skip


def finish(picture: Picture, rng: Rng) -> npt.NDArray[np.uint8]:
    """Add the traces of a camera: muted colours, uneven light, sensor noise, JPEG."""
    side = len(picture)
    u, _ = _turned(rng, side)
    picture = picture * (1 + rng.uniform(0, 0.12) * u)[..., None]
    if rng.random() < 0.5:
        grey = picture.mean(axis=2, keepdims=True)
        picture = grey + rng.uniform(0, 1) * (picture - grey)
    if rng.random() < 0.5:
        noise = rng.standard_normal((side, side, 1), dtype=np.float32)
        picture = picture + rng.uniform(0.5, 5) * noise
    file = io.BytesIO()
    _to_image(picture).save(file, "JPEG", quality=int(rng.integers(LEAST_JPEG_QUALITY, MOST_JPEG_QUALITY)))
    return np.asarray(Image.open(file, formats=["JPEG"]).convert("RGB"))
