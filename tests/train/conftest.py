"""What several tests of training share, drawn once: photos, a further data set, pictures without a lesion."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.training_runs import PLAIN, finish
from train.data.synthetic.dataset import draw_dataset
from train.data.synthetic.lesions import draw_photo

PHANTOM_PHOTOS = 130
# The further data set lacks two classes, and shows each of its lesions twice.
FURTHER_CODES = ("akiec", "bcc", "bkl", "mel", "nv")
FURTHER_LESIONS_OF_CLASS = 5


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HAM10000-shaped data set; beside it `further`, read as csv, and the pictures `ordinary`."""
    folder = tmp_path_factory.mktemp("data") / "phantom"
    draw_dataset(folder, photos=PHANTOM_PHOTOS, seed=1)
    draw_further(folder.with_name("further"))
    draw_ordinary(folder.with_name("ordinary"))
    return folder


def draw_further(folder: Path) -> None:
    """Fifty photos of 25 lesions."""
    (folder / "photos").mkdir(parents=True)
    rows = []
    for number, code in enumerate(np.repeat(FURTHER_CODES, FURTHER_LESIONS_OF_CLASS)):
        for view in range(2):
            photo_id, path = f"FURTHER_{number:02d}_{view}", f"photos/{number:02d}_{view}.jpg"
            draw_photo(str(code), 500 + number, view, (120, 160)).save(folder / path, quality=90)
            rows.append({"photo_id": photo_id, "path": path, "label": code, "lesion_id": f"F{number:02d}"})
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def draw_ordinary(folder: Path) -> None:
    """Four kinds of things, three pictures each."""
    folder.mkdir()
    rng = np.random.default_rng(8)
    for kind in ("chair", "cup", "lamp", "piano"):
        for number in range(3):
            small = rng.integers(256, size=(6, 6, 3), dtype=np.uint8)
            Image.fromarray(small).resize((64, 64)).save(folder / f"{kind}_{number:04d}.png")


@pytest.fixture(scope="session")
def plain_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See PLAIN."""
    path = tmp_path_factory.mktemp("config") / "plain.toml"
    path.write_text(PLAIN, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def plain_run(phantom: Path, plain_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PLAIN trained by one replica, undisturbed."""
    run = tmp_path_factory.mktemp("runs") / "plain"
    status, output = finish("plain", plain_config, run, phantom)
    assert status == 0, output
    return run
