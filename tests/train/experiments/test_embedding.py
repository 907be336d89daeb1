"""Held-out photos laid out by likeness, on generated features and photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.finished_runs import write_run
from tests.train.html_reader import Page
from train.artifacts.run import read_contract
from train.dossier.figures import embedding_panels
from train.experiments import embedding
from train.experiments.features import Features
from train.reports import charts
from train.reports import html as page

PHOTOS = 30
ABOUT = {"network": "net", "weights": "run x", "size_px": 32, "photos": "60 test photos of clinic"}


def two_clouds() -> Features:
    """Two labels far apart, two photos of each lesion."""
    rng = np.random.default_rng(2)
    labels = ("bcc",) * PHOTOS + ("nv",) * PHOTOS
    values = rng.normal(size=(2 * PHOTOS, 8)) + np.repeat([[0.0], [20.0]], PHOTOS, axis=0)
    groups = tuple(f"L{i // 2}" for i in range(2 * PHOTOS))
    ids = tuple(f"ISIC_{i}" for i in range(2 * PHOTOS))
    return Features(ids, labels, groups, values.astype(np.float32), ABOUT)


def test_what_is_alike_lies_together_and_the_same_twice() -> None:
    features = two_clouds()
    places = embedding.lay_out(features)
    assert places.min() == 0
    assert places.max() == 1
    centres = places[:PHOTOS].mean(axis=0), places[PHOTOS:].mean(axis=0)
    spread = max(places[:PHOTOS].std(axis=0).max(), places[PHOTOS:].std(axis=0).max())
    assert np.linalg.norm(centres[0] - centres[1]) > 3 * spread
    assert (embedding.lay_out(features) == places).all()


def test_neighbours_are_of_other_lesions() -> None:
    features = two_clouds()
    assert embedding.neighbour_agreement(features) == {"bcc": 1.0, "nv": 1.0}
    # A lesion's two photos are each other's nearest; only they share a label.
    values = np.repeat(np.eye(4, 6), 2, axis=0).astype(np.float32)
    alone = Features(("a",) * 8, ("a", "a", "b", "b", "c", "c", "d", "d"), tuple("11223344"), values, ABOUT)
    assert set(embedding.neighbour_agreement(alone).values()) == {0.0}


def test_the_content_names_no_photo_and_is_drawn_in_one_colour() -> None:
    features = two_clouds()
    content = embedding.embedding(features, embedding.lay_out(features))
    assert "ISIC" not in str(content)
    assert len(content["points"]["nv"].split()) == 2 * PHOTOS
    blocks = page.macros(page.TEMPLATES / "blocks.html.j2")
    drawn = str(blocks.figures(embedding_panels(content, {"nv": "Nevus"})))
    assert drawn.count("<svg") == 2
    assert "nv: Nevus" in drawn
    assert Page(f"<main>{drawn}</main>").problems == []


def test_thumbnails_stand_at_their_places(phantom: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run", phantom)
    contract = read_contract(tmp_path / "run")
    photo = tmp_path / "red.png"
    Image.new("RGB", (40, 40), (255, 0, 0)).save(photo)
    picture = embedding.thumbnails(
        [photo, tmp_path / "gone.png"], np.array([[0.0, 1.0], [1.0, 0.0]]), contract
    )
    assert picture[0, 0].tolist() == [255, 0, 0]
    assert picture[-1, -1].tolist() == [255, 255, 255]
    page = Page(embedding.photo_page(picture, "CC0", ABOUT))
    assert page.problems == []
    assert len(page.pictures) == 1


def test_a_run_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embedding.main([str(tmp_path), "--out", str(tmp_path / "e.json")]) == 2
    assert "not a finished run" in capsys.readouterr().err


def test_bands_marks_and_dots() -> None:
    plot = charts.Plot("p", charts.unit_axis(), charts.unit_axis(), 100, 100)
    plot.band([0, 1], [0.2, 0.2], [0.4, 0.6], "first")
    plot.marks([0.5], [0.5], "circle", "plain", titles=["here"])
    plot.marks([0.5], [0.5], "ring", "plain")
    plot.marks([0.5], [0.5], "cross", "second")
    plot.dots([0.1, 0.1, 0.9], [0.1, 0.1, 0.9], "pale")
    drawn = plot.svg()
    assert Page(f"<main>{drawn}</main>").problems == []
    for class_ in ("band first", "fill plain", "ring plain", "cross second", "dots pale"):
        assert f'class="{class_}"' in drawn
    # Points that coincide are one.
    assert drawn.count("h0") == 2
