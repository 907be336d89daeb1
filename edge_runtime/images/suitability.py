"""Whether a photo can be classified, before the inference: large enough, not a strip, not blank; a note if blurred.

Set on 1,500 photos of HAM10000 and 392 of PAD-UFES-20 (2026-11-30, bundled model of 224 px). Shrunk to half the
network's side, nine of ten keep their label, to a seventh one of two. Their sides were at most 1.33 apart, their spread
at least 5, their sharpness at least a third above the limit; blurred until two of three change their label, a third of
them are below it.
"""

from __future__ import annotations

from _operator import mul

from edge_runtime._startup.records import TYPE_CHECKING
from edge_runtime.errors import ImageUnsuitable

if TYPE_CHECKING:
    from typing import Any

    from edge_runtime.contract import InputSpec

MIN_SIDE = 0.5
"""Of the photo's shorter side, by the network's."""
MAX_ASPECT = 3.0
"""Of the longer side, by the shorter: a square crop leaves out two thirds."""
MIN_SPREAD = 2.0
"""Standard deviation of the green values, 0 to 255, of the network's pixels."""
MIN_SHARPNESS = 0.018
"""Mean difference of green values from one of the network's pixels to the next in its row, by the spread; a note."""
MIN_SHARP_PX = 112
"""Smaller networks see no blur."""


def require_size(width_px: int, height_px: int, network: InputSpec, name: str) -> None:
    """Raise ImageUnsuitable if an upright photo is too small or too narrow."""
    side_px, least_px = min(width_px, height_px), MIN_SIDE * min(network.height_px, network.width_px)
    if side_px < least_px:
        raise _unsuitable("too small to classify", name, "side_px", side_px, least_px, "take it from nearer")
    aspect = max(width_px, height_px) / side_px
    if aspect > MAX_ASPECT:
        raise _unsuitable("too narrow to classify", name, "aspect", aspect, MAX_ASPECT, "crop it")


def require_contents(pixels: Any, name: str, notes: list[str]) -> None:
    """Raise ImageUnsuitable if an image of the network's size, Pillow's or of its core, is blank; note blur."""
    green = pixels.im.getband(1)
    width_px, height_px = green.size
    mean, mean_square = _means(green)
    spread = max(0.0, mean_square - mean * mean) ** 0.5
    if spread < MIN_SPREAD:
        raise _unsuitable("blank", name, "spread", spread, MIN_SPREAD, "photograph the object")
    if min(width_px, height_px) >= MIN_SHARP_PX:
        right, left = green.crop((1, 0, width_px, height_px)), green.crop((0, 0, width_px - 1, height_px))
        sharpness = _means(right.chop_difference(left))[0] / spread
        if sharpness < MIN_SHARPNESS:
            notes.append(f"blurred: sharpness {sharpness:.3f} is below {MIN_SHARPNESS:g}")


def _means(band: Any) -> tuple[float, float]:
    counts, pixels = band.histogram(), band.size[0] * band.size[1]
    weighted = list(map(mul, range(256), counts))
    return sum(weighted) / pixels, sum(map(mul, range(256), weighted)) / pixels


def _unsuitable(
    problem: str, name: str, measure: str, value: float, threshold: float, fix: str
) -> ImageUnsuitable:
    relation = "at most" if value > threshold else "at least"
    found, expected = f"{measure} {value:.3g}", f"{relation} {threshold:g}"
    error = ImageUnsuitable(f"the photo is {problem}", where=name, found=found, expected=expected, fix=fix)
    error.rule = {"name": "unsuitable", "measure": measure, "value": value, "threshold": threshold}
    return error
