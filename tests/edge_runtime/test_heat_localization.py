"""The heat of an int8 model that has learnt lesions lies inside the lesion.

What is measured: the share of a heat map's mass that falls on the lesion's pixels. The mass is `Explanation.heat`,
the positive part of the lead: what speaks for the answer more than elsewhere (`explain.py` says why nothing else is
subtracted or cut off). It is interpolated between the 20 x 20 places over the cropped photo as the picture shows it,
then summed over the pixels of the generator's own mask: a place at the border counts as far as it lies inside. A
photo that is answered wrongly is not counted: its heat shows the evidence for another thing. How many are counted is
held too.

The model is `tests/fixtures/make_lesion_model.py`'s. The lesions here were neither learnt by it nor looked at while
map, model or mask were made, so the threshold, which is the issue's, was not fitted to them.
"""

from __future__ import annotations

import io
import random
from functools import cache

import numpy as np
import pytest
from PIL import Image

from edge_runtime import Classifier, Explainer
from edge_runtime.images.preprocess import crop
from tests.fixtures import FIXTURES
from tests.fixtures.make_lesion_model import LESION_MODEL, PHOTOS, SKIN
from train.data.synthetic.lesions import PAINTERS, draw_photo_and_lesion, draw_skin

LEAST_INSIDE = 0.8
LESIONS = range(7000, 7008)
LEAST_RIGHT = 6
SHUFFLES = 5


def share_inside(heat: tuple[tuple[float, ...], ...], lesion: Image.Image) -> float:
    """Share of the heat on the lesion's pixels; the mask covers the cropped photo."""
    grid = Image.fromarray(np.array(heat, np.float32))
    spread = np.asarray(grid.resize(lesion.size, Image.Resampling.BILINEAR))
    return float(spread[np.asarray(lesion) > 127].sum() / spread.sum())


def shuffled(heat: tuple[tuple[float, ...], ...], seed: int) -> tuple[tuple[float, ...], ...]:
    """The same heat at other places."""
    values = [value for row in heat for value in row]
    random.Random(seed).shuffle(values)
    width = len(heat[0])
    return tuple(tuple(values[i : i + width]) for i in range(0, len(values), width))


def png(photo: Image.Image) -> bytes:
    file = io.BytesIO()
    photo.save(file, "PNG")
    return file.getvalue()


@cache
def measured(code: str) -> tuple[list[float], list[float]]:
    """Of the photos of a class that are answered rightly: the share inside, and that of the shuffled heat."""
    inside, by_chance = [], []
    with Classifier.open(FIXTURES / LESION_MODEL) as classifier, Explainer(classifier) as explainer:
        assert classifier.engine.input.dtype == "uint8"
        for seed in LESIONS:
            photo, lesion = draw_photo_and_lesion(code, seed, 0)
            explanation = explainer.explain(png(photo))
            lesion = crop(lesion.convert("RGB"), classifier.contract.geometry).convert("L")
            if explanation.prediction.label == code:
                inside.append(share_inside(explanation.heat, lesion))
                by_chance += [share_inside(shuffled(explanation.heat, s), lesion) for s in range(SHUFFLES)]
    return inside, by_chance


@pytest.mark.parametrize("code", PAINTERS)
def test_most_of_the_heat_is_inside_the_lesion(code: str) -> None:
    assert min(LESIONS) >= PHOTOS
    inside, _ = measured(code)
    assert len(inside) >= LEAST_RIGHT
    assert sum(inside) / len(inside) >= LEAST_INSIDE, inside


@pytest.mark.parametrize("code", PAINTERS)
def test_the_same_heat_at_other_places_is_not(code: str) -> None:
    """The harness fails where it must: by chance, heat falls inside as often as the lesion is large."""
    inside, by_chance = measured(code)
    assert len(by_chance) >= LEAST_RIGHT * SHUFFLES
    assert sum(by_chance) / len(by_chance) < LEAST_INSIDE
    assert sum(by_chance) / len(by_chance) < sum(inside) / len(inside) - 0.15


def test_the_measure_counts_pixels() -> None:
    lesion = Image.new("L", (40, 40))
    lesion.paste(255, (0, 0, 20, 40))
    # Between the two places the heat falls evenly: an eighth of it lies beyond the middle.
    assert share_inside(((1.0, 0.0), (1.0, 0.0)), lesion) == pytest.approx(7 / 8, abs=0.01)
    assert share_inside(((0.5, 0.5), (0.5, 0.5)), lesion) == pytest.approx(0.5)
    assert share_inside(((0.0, 1.0), (0.0, 1.0)), lesion) == pytest.approx(1 / 8, abs=0.01)


def test_bare_skin_is_no_lesion() -> None:
    with Classifier.open(FIXTURES / LESION_MODEL) as classifier:
        labels = [classifier.classify(png(draw_skin(seed))).label for seed in LESIONS]
    assert labels.count(SKIN) >= LEAST_RIGHT
