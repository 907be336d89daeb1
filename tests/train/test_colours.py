"""The pages' colours as the colour-blind see them: what a chart tells apart by colour stays apart."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from train.reports.html import STYLE

# Complete loss of one kind of cone, in linear RGB: Machado, Oliveira, Fernandes, IEEE TVCG 15 (2009), severity 1.
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# A difference of 2.3 is just noticeable for patches side by side (Mahy 1994); thin lines and small dots need several
# times that, and 20 is about the difference between neighbouring colours of palettes made for this purpose.
LEAST_DIFFERENCE = 20
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# What the dossier's charts tell apart by colour, each pair in one chart.
PAIRS = [*itertools.combinations(("first", "second", "text", "back"), 2), ("first", "line")]


def themes() -> dict[str, dict[str, str]]:
    """Light and dark: name to hexadecimal colour."""
    css = STYLE.read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in css.split("@media (prefers")[:2]
    )
    return {"light": light, "dark": light | dark}


def lab(colour: str, sight: str) -> np.ndarray:
    levels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(SIGHT[sight]) @ linear, 0, 1)
    x, y, z = (
        t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29
        for t in TO_XYZ @ seen / (TO_XYZ @ np.ones(3))
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(first: str, second: str, sight: str) -> float:
    return float(np.linalg.norm(lab(first, sight) - lab(second, sight)))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_of_one_chart_stay_apart(theme: str, sight: str) -> None:
    colours = themes()[theme]
    near = {
        pair: d for pair in PAIRS if (d := difference(*(colours[n] for n in pair), sight)) < LEAST_DIFFERENCE
    }
    assert near == {}


def test_the_measure_finds_red_against_green() -> None:
    """Two colours of equal lightness that only all cones tell apart."""
    red, green = "#c05040", "#7a7a30"
    assert difference(red, green, "all cones") > LEAST_DIFFERENCE
    assert difference(red, green, "protanopia") < difference(red, green, "all cones") / 2


def test_white_is_white_for_everybody() -> None:
    assert [difference("#ffffff", "#ffffff", sight) for sight in SIGHT] == [0] * len(SIGHT)
    assert lab("#ffffff", "all cones") == pytest.approx([100, 0, 0], abs=0.1)
