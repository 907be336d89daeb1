"""What several tests of training share, drawn once: photos, a further data set, pictures without a lesion."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.shared_artifact import shared_artifact
from tests.train.training_runs import PLAIN, finish
from train.data.synthetic.dataset import draw_dataset
from train.data.synthetic.lesions import draw_photo

PHANTOM_PHOTOS = 130
# What decides the content of the shared artifacts.
PHANTOM_SOURCES = ("train/data", "train/artifacts", "tests/train/conftest.py")
RUN_SOURCES = (
    *PHANTOM_SOURCES,
    "edge_runtime",
    "train/__main__.py",
    *(f"train/{package}" for package in ("configs", "evaluation", "networks", "training", "reports")),
    "tests/train/plain_network.py",
    "tests/train/training_runs.py",
)
# The further data set lacks two classes, and shows each of its lesions twice.
FURTHER_CODES = ("akiec", "bcc", "bkl", "mel", "nv")
FURTHER_LESIONS_OF_CLASS = 5


@pytest.fixture(scope="session")
def phantom() -> Path:
    """A HAM10000-shaped dataset; beside it `further`, read as csv, and the OOD images `ordinary`.

    Shared by all workers: read only.
    """

    def draw(folder: Path) -> None:
        draw_dataset(folder / "phantom", photos=PHANTOM_PHOTOS, seed=1)
        draw_further(folder / "further")
        draw_ordinary(folder / "ordinary")

    return shared_artifact("phantom", PHANTOM_SOURCES, draw) / "phantom"


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
def plain_run(phantom: Path, plain_config: Path) -> Path:
    """PLAIN trained by one replica, undisturbed; shared by all workers: read only."""

    def train(folder: Path) -> None:
        status, output = finish("plain", plain_config, folder / "plain", phantom)
        assert status == 0, output

    return shared_artifact("plain-run", RUN_SOURCES, train) / "plain"
