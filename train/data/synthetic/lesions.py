"""Draw one synthetic lesion image of a class, for `train.data.synthetic.dataset`. numpy and Pillow only.

A lesion is drawn in its own coordinates: the origin is its centre, 1 is half the image's shorter side at zoom 1. All
random numbers about it come from the lesion's seed. A view gives the position in the image, and the light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from edge_runtime.errors import UsageError

# (height, width), as small as a 224 px model can take without enlarging.
SIZE_PX = (225, 300)
# Reaches 2.5 units from the centre, beyond any photo's corner, at 14 grains per unit, the finest noise.
NOISE_GRID = 72
# Share of a pixel that is painted over from which the pixel belongs to the lesion, whose border is soft.
LEAST_COVER = 0.1

Array = npt.NDArray[Any]
Colour = Sequence[float] | Array


class Canvas:
    """An image being drawn: rgb float32 [height, width, 3] in 0 to 255, addressed in the lesion's coordinates."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.size = size
        shift, gain = rng.uniform(-0.08, 0.08, 2), rng.uniform(0.86, 1.1) * rng.normal(1, 0.02, 3)
        self.centre_px = size[1] * (0.5 + shift[0]), size[0] * (0.5 + shift[1])
        """x, y of the lesion's centre."""
        angle = rng.uniform(0, 2 * np.pi)
        self.cos, self.sin = np.cos(angle), np.sin(angle)
        self.units_per_px = 2 / min(size) / rng.uniform(0.85, 1.3)
        """Lesion units per pixel."""
        self.gain = np.asarray(gain, np.float32)
        """Brightness and white balance, a factor for each of R, G, B."""
        self.slope = rng.uniform(-0.16, 0.16), rng.uniform(-0.16, 0.16)
        """Relative change of brightness across the image's width and height."""
        self.blur_px = rng.uniform(0.2, 0.9) * min(size) / SIZE_PX[0]
        self.sensor_noise = rng.uniform(1, 4)
        """Standard deviation, in pixel values."""
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        x, y = (x - self.centre_px[0]) * self.units_per_px, (y - self.centre_px[1]) * self.units_per_px
        cos, sin = np.float32(self.cos), np.float32(self.sin)
        self.u, self.v = cos * x + sin * y, cos * y - sin * x
        self.cover = np.zeros(size, np.float32)
        """[height, width] how much of the image was painted over, 0 to 1: the largest mask at each pixel."""
        self.rgb = np.empty((*size, 3), np.float32)

    def blend(self, mask: Array, colour: Colour) -> None:
        """Covers the photo with a colour, as far as mask [height, width] in 0 to 1 says."""
        np.maximum(self.cover, mask, out=self.cover)
        self.rgb += mask[..., None] * (np.asarray(colour, np.float32) - self.rgb)

    def shade(self, amount: Array) -> None:
        """Multiplies the brightness by 1 + amount [height, width]."""
        self.rgb *= 1 + amount[..., None]

    def noise(self, rng: np.random.Generator, frequency: float) -> Array:
        """Smooth noise [height, width], about normal, with `frequency` grains per unit; fixed to the lesion."""
        grid = Image.fromarray(rng.standard_normal((NOISE_GRID, NOISE_GRID), dtype=np.float32))
        step, middle = frequency * self.units_per_px, NOISE_GRID / 2
        cos, sin, (x, y) = step * self.cos, step * self.sin, self.centre_px
        to_grid = (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)
        width_height = self.size[1], self.size[0]
        smooth = grid.transform(width_height, Image.Transform.AFFINE, to_grid, Image.Resampling.BICUBIC)
        # Interpolation averages: 1.3 brings the deviation back to about 1.
        return np.asarray(1.3 * np.asarray(smooth))

    def depth(self, rng: np.random.Generator, radius: float, irregularity: float, aspect: float) -> Array:
        """How deep in the lesion a pixel lies: 1 at the centre, 0 at the border, negative outside."""
        angle = np.arctan2(self.v * aspect, self.u)
        border = np.ones_like(angle)
        for harmonic in range(2, 8):
            amplitude = irregularity / harmonic**0.7 * rng.normal()
            border += amplitude * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
        return np.asarray(1 - np.hypot(self.u, self.v * aspect) / (radius * np.maximum(border, 0.35)))

    def spots(self, centres: Array, radii: Array, blur: float = 0.15) -> Array:
        """Round spots as a mask; centres [n, 2] and radii [n] in lesion units, blur as a share of the mean radius."""
        mask, draw = self._mask()
        scaled = np.asarray(radii) / self.units_per_px
        for (x, y), radius in zip(self._to_px(centres), scaled, strict=True):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        return _blurred(mask, blur * float(np.mean(scaled)) if len(scaled) else 0)

    def strokes(self, lines: Sequence[Array], width: float) -> Array:
        """Polylines as a mask; each line [n, 2] and the width in lesion units."""
        mask, draw = self._mask()
        width_px = max(1, round(width / self.units_per_px))
        for line in lines:
            draw.line([tuple(point) for point in self._to_px(line)], fill=255, width=width_px, joint="curve")
        return _blurred(mask, 0.5)

    def _mask(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        mask = Image.new("L", (self.size[1], self.size[0]))
        return mask, ImageDraw.Draw(mask)

    def _to_px(self, points: Array) -> Array:
        u, v = np.asarray(points).T
        turned = np.stack([self.cos * u - self.sin * v, self.sin * u + self.cos * v], axis=1)
        return np.asarray(turned / self.units_per_px + self.centre_px)


def _blurred(mask: Image.Image, blur_px: float) -> Array:
    return np.asarray(np.asarray(mask.filter(ImageFilter.GaussianBlur(blur_px)), np.float32) / 255)


def _edge(depth: Array, softness: float) -> Array:
    """0 to 1 over a border that is `softness` wide."""
    return np.clip(depth / softness + 0.5, 0, 1)


def _between(rng: np.random.Generator, one: Colour, other: Colour, jitter: float = 7) -> Array:
    """A colour somewhere between two, and a little beside."""
    t = rng.uniform()
    colour: Array = (1 - t) * np.asarray(one) + t * np.asarray(other) + rng.normal(0, jitter, 3)
    return np.clip(colour, 5, 250)


def _inside(rng: np.random.Generator, count: int, radius: float) -> Array:
    """Points [count, 2], evenly spread over a disc."""
    distance, angle = radius * np.sqrt(rng.uniform(size=count)), rng.uniform(0, 2 * np.pi, count)
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)


def _branches(rng: np.random.Generator, trunks: int, radius: float) -> list[Array]:
    """Winding lines that come from the rim and fork."""
    lines = []
    for _ in range(trunks):
        start_angle = rng.uniform(0, 2 * np.pi)
        point = radius * np.array([np.cos(start_angle), np.sin(start_angle)])
        heading = start_angle + np.pi + rng.normal(0, 0.4)
        for _ in range(3):
            steps = heading + np.cumsum(rng.normal(0, 0.35, 9))
            path = point + np.cumsum(0.09 * radius * np.stack([np.cos(steps), np.sin(steps)], axis=1), axis=0)
            lines.append(path)
            point, heading = path[rng.integers(3, 8)], heading + rng.choice((-1, 1)) * rng.uniform(0.4, 0.9)
    return lines


def _paint_nv(canvas: Canvas, rng: np.random.Generator) -> None:
    """Nevus: round, even brown, darker towards the middle, with a faint network."""
    depth = canvas.depth(rng, rng.uniform(0.4, 0.72), rng.uniform(0.02, 0.06), rng.uniform(0.85, 1.2))
    mask = _edge(depth, rng.uniform(0.12, 0.3))
    canvas.blend(0.9 * mask, _between(rng, (172, 116, 84), (98, 62, 46)))
    network = np.exp(-3 * np.abs(canvas.noise(rng, 13)))
    canvas.shade(-mask * (0.13 * network + 0.2 * np.clip(depth, 0, 1) * rng.uniform(0, 1)))


def _paint_mel(canvas: Canvas, rng: np.random.Generator) -> None:
    """Melanoma: ragged, asymmetric, dark, several colours, dots beyond the border."""
    depth = canvas.depth(rng, rng.uniform(0.45, 0.85), rng.uniform(0.1, 0.2), rng.uniform(0.75, 1.35))
    depth = depth + 0.07 * canvas.noise(rng, 4)
    mask = _edge(depth, rng.uniform(0.06, 0.2))
    canvas.blend(0.93 * mask, _between(rng, (122, 78, 60), (66, 42, 38)))
    for one, other, level in (
        ((30, 22, 26), (62, 40, 40), rng.uniform(0.1, 0.9)),
        ((92, 98, 124), (120, 112, 130), rng.uniform(0.6, 1.4)),
        ((150, 84, 70), (130, 70, 50), rng.uniform(0.7, 1.4)),
    ):
        canvas.blend(0.85 * mask * _edge(canvas.noise(rng, 2.2) - level, 0.5), _between(rng, one, other))
    dots = canvas.spots(_inside(rng, 14, 0.8), rng.uniform(0.012, 0.035, 14))
    canvas.blend(0.8 * dots * _edge(depth + 0.25, 0.2), (38, 28, 30))


def _paint_bcc(canvas: Canvas, rng: np.random.Generator) -> None:
    """Basal cell carcinoma: pearly pink, hardly darker than the skin, branching vessels, a few blue-grey nests."""
    radius = rng.uniform(0.45, 0.75)
    depth = canvas.depth(rng, radius, rng.uniform(0.04, 0.1), rng.uniform(0.8, 1.25))
    mask = _edge(depth, 0.3)
    canvas.blend(rng.uniform(0.45, 0.75) * mask, _between(rng, (226, 168, 166), (214, 150, 140)))
    canvas.shade(0.09 * mask * canvas.noise(rng, 3))
    nests = rng.integers(0, 6)
    centres, radii = _inside(rng, 6, 0.7 * radius), rng.uniform(0.03, 0.1, 6)
    nested = mask * canvas.spots(centres[:nests], radii[:nests], 0.4)
    canvas.blend(0.7 * nested, _between(rng, (108, 104, 122), (90, 78, 92)))
    width = rng.uniform(0.014, 0.026)
    vessels = canvas.strokes(_branches(rng, 5, radius), width)
    canvas.blend(0.8 * vessels, _between(rng, (178, 52, 58), (150, 48, 60)))


def _paint_bkl(canvas: Canvas, rng: np.random.Generator) -> None:
    """Benign keratosis: a waxy tan or grey-brown plaque, sharp border, pale and dark pores."""
    radius = rng.uniform(0.45, 0.8)
    depth = canvas.depth(rng, radius, rng.uniform(0.05, 0.1), rng.uniform(0.75, 1.3))
    mask = _edge(depth, 0.05)
    canvas.blend(0.85 * mask, _between(rng, (196, 152, 100), (134, 104, 86)))
    canvas.shade(mask * (0.1 * canvas.noise(rng, 5) + 0.06 * canvas.noise(rng, 12)))
    pale = canvas.spots(_inside(rng, 16, 0.85 * radius), rng.uniform(0.015, 0.04, 16))
    dark = canvas.spots(_inside(rng, 16, 0.85 * radius), rng.uniform(0.015, 0.04, 16))
    canvas.blend(0.75 * mask * pale, (236, 216, 184))
    canvas.blend(0.75 * mask * dark, (92, 62, 46))


def _paint_vasc(canvas: Canvas, rng: np.random.Generator) -> None:
    """Vascular lesion: red to purple round lakes, close together, on a pink ground."""
    radius = rng.uniform(0.3, 0.6)
    ground = _edge(canvas.depth(rng, radius * 1.15, 0.05, rng.uniform(0.85, 1.15)), 0.4)
    canvas.blend(0.55 * ground, _between(rng, (206, 110, 108), (190, 84, 90)))
    colour = _between(rng, (182, 34, 44), (104, 26, 62))
    for shade in (0.85, 1.0, 1.2):
        lakes = canvas.spots(_inside(rng, 9, 0.8 * radius), radius * rng.uniform(0.12, 0.32, 9), 0.2)
        canvas.blend(0.85 * lakes, np.clip(colour * shade, 0, 255))


def _paint_df(canvas: Canvas, rng: np.random.Generator) -> None:
    """Dermatofibroma: a pale scar-like centre in a light brown ring that fades into the skin."""
    depth = canvas.depth(rng, rng.uniform(0.45, 0.75), rng.uniform(0.02, 0.06), rng.uniform(0.85, 1.2))
    canvas.blend(rng.uniform(0.6, 0.9) * _edge(depth, 0.55), _between(rng, (178, 126, 98), (150, 98, 76)))
    canvas.shade(-0.08 * _edge(depth, 0.5) * np.exp(-3 * np.abs(canvas.noise(rng, 12))))
    centre = _edge(depth - rng.uniform(0.45, 0.62) + 0.05 * canvas.noise(rng, 5), 0.25)
    canvas.blend(rng.uniform(0.65, 0.9) * centre, _between(rng, (240, 216, 206), (226, 196, 184)))


def _paint_akiec(canvas: Canvas, rng: np.random.Generator) -> None:
    """Actinic keratosis: a red patch without a clear border, under whitish scales."""
    depth = canvas.depth(rng, rng.uniform(0.5, 0.85), rng.uniform(0.08, 0.15), rng.uniform(0.75, 1.3))
    depth = depth + 0.1 * canvas.noise(rng, 3)
    mask = _edge(depth, rng.uniform(0.4, 0.7))
    canvas.blend(rng.uniform(0.6, 0.9) * mask, _between(rng, (214, 122, 112), (186, 106, 90)))
    canvas.shade(0.07 * mask * canvas.noise(rng, 9))
    scales = _edge(canvas.noise(rng, 6) + 0.6 * canvas.noise(rng, 14) - rng.uniform(0.4, 1.1), 0.35)
    canvas.blend(0.85 * mask * scales, _between(rng, (244, 230, 206), (226, 204, 176)))


PAINTERS: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    painter.__name__.removeprefix("_paint_"): painter
    for painter in (_paint_akiec, _paint_bcc, _paint_bkl, _paint_df, _paint_mel, _paint_nv, _paint_vasc)
}


def draw_photo(code: str, lesion_seed: int, view_seed: int, size: tuple[int, int] = SIZE_PX) -> Image.Image:
    """Draw one RGB photo; arguments as `draw_photo_and_lesion`."""
    return draw_photo_and_lesion(code, lesion_seed, view_seed, size)[0]


def draw_photo_and_lesion(
    code: str, lesion_seed: int, view_seed: int, size: tuple[int, int] = SIZE_PX
) -> tuple[Image.Image, Image.Image]:
    """Draw one photo and where the lesion is.

    Args:
        code: One of the seven classes.
        lesion_seed: Equal seeds and codes are the same lesion.
        view_seed: Angle, zoom, light, hair and noise.
        size: (height, width) in pixels.

    Returns:
        The photo, RGB, and a mask of mode L: 255 where more than LEAST_COVER of the skin is painted over, else 0. Hair
        and light do not count.

    Raises:
        UsageError: Not one of the seven classes.
    """
    if code not in PAINTERS:
        raise UsageError("no such phantom class", found=repr(code), expected=", ".join(PAINTERS))
    class_seed = [*PAINTERS].index(code)
    of_lesion = np.random.default_rng([class_seed, lesion_seed])
    of_view = np.random.default_rng([class_seed, lesion_seed, view_seed])
    canvas = _skin(of_lesion, of_view, size)
    PAINTERS[code](canvas, of_lesion)
    lesion = canvas.cover > LEAST_COVER
    _grow_hair(canvas, of_lesion, of_view)
    return _photograph(canvas, of_view), Image.fromarray(lesion.astype(np.uint8) * 255)


def draw_skin(seed: int, size: tuple[int, int] = SIZE_PX) -> Image.Image:
    """Draw an image without a lesion: skin, hair and light; arguments as `draw_photo`."""
    rng = np.random.default_rng([len(PAINTERS), seed])
    canvas = _skin(rng, rng, size)
    _grow_hair(canvas, rng, rng)
    return _photograph(canvas, rng)


def _skin(of_lesion: np.random.Generator, of_view: np.random.Generator, size: tuple[int, int]) -> Canvas:
    canvas = Canvas(size, of_view)
    canvas.rgb[:] = _between(of_lesion, (238, 200, 182), (208, 156, 128))
    canvas.shade(0.025 * canvas.noise(of_lesion, 3) + 0.02 * canvas.noise(of_lesion, 11))
    return canvas


def _grow_hair(canvas: Canvas, of_lesion: np.random.Generator, rng: np.random.Generator) -> None:
    """Bent dark lines across lesion and skin, as many for each view of a lesion."""
    hairs = int(max(0, of_lesion.normal(2, 5)))
    t = np.linspace(0, 1, 16)[:, None]
    lines = []
    for _ in range(hairs):
        ends, bend = rng.uniform(-1.5, 1.5, (2, 2)), rng.normal(0, 0.25, 2)
        lines.append((1 - t) * ends[0] + t * ends[1] + 4 * t * (1 - t) * bend)
    canvas.blend(0.75 * canvas.strokes(lines, rng.uniform(0.008, 0.016)), (62, 44, 38))


def _photograph(canvas: Canvas, rng: np.random.Generator) -> Image.Image:
    """Light, vignette, lens and sensor."""
    height_px, width_px = canvas.size
    y = np.linspace(-0.5, 0.5, height_px, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, width_px, dtype=np.float32)[None, :]
    slope_x, slope_y = canvas.slope
    canvas.shade(slope_x * x + slope_y * y - rng.uniform(0, 0.6) * (x * x + y * y))
    sharp = Image.fromarray(np.clip(canvas.rgb * canvas.gain, 0, 255).astype(np.uint8))
    seen = np.asarray(sharp.filter(ImageFilter.GaussianBlur(canvas.blur_px)), np.float32)
    seen = seen + canvas.sensor_noise * rng.standard_normal(seen.shape, dtype=np.float32)
    return Image.fromarray(np.clip(seen + 0.5, 0, 255).astype(np.uint8))
