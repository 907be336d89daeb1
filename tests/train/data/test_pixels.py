"""Training's evaluation and the runtime see the same input tensor, byte for byte."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.contract import Label, ModelContract, Normalization
from edge_runtime.images.preprocess import fit_pixels, input_bytes
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Manifest, Photo
from train.configs.contract import make_contract
from train.configs.loading import load_config
from train.data.pixels import cached_pixels

CONFIG = Path(__file__).parents[3] / "train" / "configs" / "ham10000_mobilenetv2.toml"
REAL_PHOTOS = 200
# 0: bits; the two roads are the same code, and this test is what keeps it so.


def label_set() -> LabelSet:
    labels = (Label("a", "A", "benign"), Label("b", "B", "malignant"))
    return LabelSet(name="two", licence="none", model_licence="none", intended_use="tests", labels=labels)


def manifest_of(root: Path, names: list[str]) -> Manifest:
    photos = tuple(Photo(name, name, "ab"[i % 2], name, "", "", "", "", "") for i, name in enumerate(names))
    return Manifest("generated", root, label_set(), photos)


def contract_for(manifest: Manifest) -> ModelContract:
    return make_contract(load_config(CONFIG), manifest.labels, manifest, {"run_id": "r", "commit": "c"})


def evaluation_tensor(pixels_u8: np.ndarray, normalization: Normalization) -> np.ndarray:
    """What train.evaluation.predict gives the model."""
    return (pixels_u8.astype(np.float32) - normalization.mean) / normalization.std


def assert_same_tensors(manifest: Manifest, cache: Path) -> int:
    contract = contract_for(manifest)
    ids = [photo.photo_id for photo in manifest.photos]
    size_px = contract.input.height_px
    cached = cached_pixels(manifest, ids, contract, size_px, cache)
    assert cached.shape == (len(ids), size_px, size_px, 3)
    for photo, pixels_u8 in zip(manifest.photos, cached, strict=True):
        runtime = fit_pixels((manifest.root / photo.path).read_bytes(), contract)
        assert pixels_u8.tobytes() == runtime, photo.path
        assert input_bytes(runtime, contract.normalization, "uint8", 1 / 128, 128) == pixels_u8.tobytes()
        expected = evaluation_tensor(pixels_u8, contract.normalization)
        assert input_bytes(runtime, contract.normalization, "float32") == expected.astype("<f4").tobytes()
    return len(ids)


def draw_odd_photos(folder: Path) -> list[str]:
    """PNG and JPEG of odd sizes, every EXIF orientation, and every mode that people have."""
    rng = np.random.default_rng(5)

    def noise(width: int, height: int) -> Image.Image:
        small = rng.integers(256, size=(height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

    for width, height in [(1, 1), (1, 300), (299, 1), (223, 225), (401, 333), (450, 601)]:
        noise(width, height).save(folder / f"size_{width}x{height}.png")
        noise(width, height).save(folder / f"size_{width}x{height}.jpg", quality=92)
    noise(1801, 2402).save(folder / "large_enough_for_dct_scaling.jpg", quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        noise(310, 207).save(folder / f"exif_{orientation}.jpg", exif=exif)
        noise(310, 207).save(folder / f"exif_{orientation}.png", exif=exif)
    base = noise(257, 311)
    base.convert("L").save(folder / "grey.png")
    base.convert("L").save(folder / "grey.jpg")
    base.convert("CMYK").save(folder / "cmyk.jpg")
    base.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    base.convert("1").save(folder / "one_bit.png")
    rgba = base.copy()
    rgba.putalpha(base.convert("L"))
    rgba.save(folder / "rgba.png")
    rgba.convert("LA").save(folder / "la.png")
    wide = np.asarray(base.convert("L")).astype(np.uint16) * 257
    Image.fromarray(wide).save(folder / "sixteen_bit.png")
    return sorted(path.name for path in folder.iterdir())


def test_generated_photos_of_every_kind(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    names = draw_odd_photos(photos)
    assert assert_same_tensors(manifest_of(photos, names), tmp_path / "cache") == len(names) >= 35


def test_the_cache_is_read_back_and_keyed_by_what_it_holds(tmp_path: Path) -> None:
    Image.new("RGB", (60, 50), (10, 200, 30)).save(tmp_path / "a.png")
    Image.new("RGB", (60, 50), (90, 20, 30)).save(tmp_path / "b.png")
    manifest = manifest_of(tmp_path, ["a.png", "b.png"])
    contract = contract_for(manifest)
    cache = tmp_path / "cache"
    first = cached_pixels(manifest, ["a.png", "b.png"], contract, 32, cache)
    again = cached_pixels(manifest, ["a.png", "b.png"], contract, 32, cache)
    np.testing.assert_array_equal(first, again)
    assert len(list(cache.iterdir())) == 1
    turned = cached_pixels(manifest, ["b.png", "a.png"], contract, 32, cache)
    np.testing.assert_array_equal(turned, first[::-1])
    assert cached_pixels(manifest, ["a.png"], contract, 64, cache).shape == (1, 64, 64, 3)
    assert not [path for path in cache.iterdir() if "partial" in path.name]


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    Image.new("RGB", (60, 50), (10, 200, 30)).save(tmp_path / "a.png")
    manifest = manifest_of(tmp_path, ["a.png"])
    first = np.array(cached_pixels(manifest, ["a.png"], contract_for(manifest), 32, tmp_path / "cache"))
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    again = cached_pixels(manifest, ["a.png"], contract_for(manifest), 32, tmp_path / "cache")
    np.testing.assert_array_equal(first, again)


def test_a_photo_that_became_unreadable_leaves_no_cache(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 50)).save(buffer, "JPEG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[:200])
    manifest = manifest_of(tmp_path, ["a.jpg"])
    with pytest.raises(Exception, match=r"a\.jpg"):
        cached_pixels(manifest, ["a.jpg"], contract_for(manifest), 32, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.real_data
def test_real_photos(tmp_path: Path, data_root: Path) -> None:
    folder = data_root / "HAM10000"
    with (folder / "HAM10000_metadata.csv").open(newline="") as stream:
        ids = [row["image_id"] for row in csv.DictReader(stream)]
    step = len(ids) // REAL_PHOTOS
    files = {path.stem: path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg")}
    names = [files[photo_id] for photo_id in ids[::step][:REAL_PHOTOS]]
    assert assert_same_tensors(manifest_of(folder, names), tmp_path) == REAL_PHOTOS
