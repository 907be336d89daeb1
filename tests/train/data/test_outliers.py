"""Pictures without a lesion: kinds are never divided, drawings are seeded and various, pixels are the runtime's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.contract import InputSpec, ModelContract
from edge_runtime.errors import DataInvalid
from edge_runtime.images.preprocess import fit_pixels
from tests.fixtures.make_models import base_contract
from train.data.outliers import (
    GENERATED_KINDS,
    PART_SHARES,
    divide_outliers,
    generate_outliers,
    kind_of,
    outlier_pixels,
    read_outliers,
)

SIDE_PX = 48


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty pictures of fourteen kinds in two folders, and what is no picture."""
    rng = np.random.default_rng(1)
    for i in range(40):
        kind = ("Faces", "Faces_easy", *(f"thing{letter}" for letter in "abcdefghijklm"))[i % 15]
        folder = tmp_path / ("first" if i < 20 else "second")
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (30 + i, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{kind}_image_{i:04d}.png")
    (tmp_path / "first" / "README.txt").write_text("x")
    (tmp_path / "first" / ".hidden.png").write_bytes(b"x")
    return tmp_path


def test_all_pictures_below_a_folder_in_order(pictures: Path):
    found = read_outliers(pictures)
    assert len(found) == 40
    assert found == sorted(found)


@pytest.mark.parametrize(("name", "found"), [("absent", "no such folder"), ("", "no image file")])
def test_a_folder_without_pictures(tmp_path: Path, name: str, found: str):
    with pytest.raises(DataInvalid) as caught:
        read_outliers(tmp_path / name)
    assert caught.value.found.startswith(found)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("caltech101/accordion_image_0012.jpg", "accordion"),
        ("caltech101/BACKGROUND_Google_image_0006.jpg", "BACKGROUND_Google"),
        # The original distribution has a folder for each.
        ("101_ObjectCategories/yin_yang/image_0012.jpg", "yin_yang"),
        ("Faces_easy_image_0002.jpg", "Faces"),
        ("crocodile_head/image_0002.jpg", "crocodile"),
        ("chairs_7.png", "chairs"),
    ],
)
def test_what_a_picture_shows(path: str, kind: str):
    assert kind_of(Path(path)) == kind


def test_a_kind_is_never_divided_and_nothing_is_lost(pictures: Path):
    paths = read_outliers(pictures)
    parts = divide_outliers(paths, seed=7)
    assert list(parts) == list(PART_SHARES)
    assert sorted(path for part in parts.values() for path in part) == paths
    kinds = [{kind_of(path) for path in part} for part in parts.values()]
    assert sum(map(len, kinds)) == len(set.union(*kinds)) == 14
    # Few choose, many are counted: train/evaluation/decisions.py promises as much.
    assert PART_SHARES == {"train": 0.35, "threshold": 0.15, "test": 0.5}
    for part, share in PART_SHARES.items():
        # As near as whole kinds of three pictures allow.
        assert len(parts[part]) == pytest.approx(share * 40, abs=3)


def test_a_division_depends_on_the_seed_only(pictures: Path, tmp_path: Path):
    paths = read_outliers(pictures)
    first = divide_outliers(paths, seed=7)
    assert divide_outliers(paths[::-1], seed=7) == first
    elsewhere = [Path("other") / path.name for path in paths]
    assert {
        part: {path.name for path in chosen} for part, chosen in divide_outliers(elsewhere, 7).items()
    } == {part: {path.name for path in chosen} for part, chosen in first.items()}
    assert divide_outliers(paths, seed=8) != first


def test_too_few_kinds():
    with pytest.raises(DataInvalid, match="Faces, chair, expected at least 3"):
        divide_outliers([Path("Faces_image_1.png"), Path("Faces_easy_image_1.png"), Path("chair_1.png")], 0)


def test_pixels_are_the_runtimes(pictures: Path):
    contract = base_contract("float32")
    paths = read_outliers(pictures)[:5]
    pixels = outlier_pixels(paths, contract, SIDE_PX)
    assert pixels.shape == (5, SIDE_PX, SIDE_PX, 3)
    sized: ModelContract = dataclasses.replace(
        contract, input=InputSpec(SIDE_PX, SIDE_PX, contract.input.color_space, contract.input.alpha)
    )
    for path, array in zip(paths, pixels, strict=True):
        assert array.tobytes() == fit_pixels(path.read_bytes(), sized)


def test_drawings_are_the_same_again_and_grow_by_the_end():
    first = generate_outliers(2 * len(GENERATED_KINDS), SIDE_PX, seed=3)
    assert first.shape == (2 * len(GENERATED_KINDS), SIDE_PX, SIDE_PX, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(generate_outliers(5, SIDE_PX, seed=3), first[:5])
    assert not any(
        np.array_equal(a, b) for a, b in zip(generate_outliers(5, SIDE_PX, seed=4), first, strict=False)
    )
    assert len({picture.tobytes() for picture in first}) == len(first)


def test_chosen_kinds_only():
    dark = generate_outliers(6, SIDE_PX, seed=1, kinds=("dark",))
    white = generate_outliers(6, SIDE_PX, seed=1, kinds=("overexposed",))
    assert dark.mean(axis=(1, 2, 3)).max() < 60
    assert white.mean(axis=(1, 2, 3)).min() > 180


def test_drawings_are_various():
    drawn = generate_outliers(8 * len(GENERATED_KINDS), SIDE_PX, seed=5).astype(np.float64)
    brightness = drawn.mean(axis=(1, 2, 3))
    assert brightness.min() < 20
    assert brightness.max() > 230
    contrast = drawn.std(axis=(1, 2)).mean(axis=1)
    # From a plain wall to a page: neither alone would teach that both are no lesions.
    assert contrast.min() < 4
    assert contrast.max() > 70


def test_drawn_skin_has_no_spot():
    # A lesion is darker than the skin around it: the middle of drawn skin is not, on average and at worst.
    skin = generate_outliers(40, 96, seed=2, kinds=("skin",)).astype(np.float64).mean(axis=3)
    ring = np.hypot(*np.mgrid[-1:1:96j, -1:1:96j])
    middle = np.median(skin[:, ring < 0.3], axis=1)
    around = np.median(skin[:, (ring > 0.5) & (ring < 0.8)], axis=1)
    contrast = (around - middle) / around
    assert abs(contrast.mean()) < 0.03
    assert contrast.max() < 0.2


@pytest.mark.real_data
def test_the_real_pictures_are_divided_as_documented(data_root: Path):
    paths = read_outliers(data_root / "ood_photos")
    assert len(paths) == 240
    parts = divide_outliers(paths, seed=20181)
    assert {part: len(chosen) for part, chosen in parts.items()} == {
        "train": 84,
        "threshold": 36,
        "test": 120,
    }
    kinds = {part: len({kind_of(path) for path in chosen}) for part, chosen in parts.items()}
    assert kinds == {"train": 29, "threshold": 12, "test": 42}
