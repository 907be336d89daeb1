"""One generated dataset for all tests of the pages; nobody writes to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.data.synthetic.dataset import draw_dataset

PHOTOS = 130


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "phantom"
    draw_dataset(folder, photos=PHOTOS, seed=1)
    return folder
