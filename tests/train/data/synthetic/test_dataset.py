"""The drawn data set: the same bytes from the same seed, whole or not at all, learnable but not trivially."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from edge_runtime.errors import DataInvalid, UsageError
from train.artifacts.labels import load_labels
from train.artifacts.manifest import Manifest
from train.data.readers import ham10000, read_photos
from train.data.split import make_split
from train.data.synthetic import dataset as phantom
from train.data.synthetic.dataset import LEAST_PHOTOS, PAINTERS, draw_dataset, draw_photo, main

PHOTOS = 140
# Guessing among seven classes gets 1/7 balanced accuracy. Colour alone must tell much and not all.
LEAST_LEARNABLE, MOST_LEARNABLE = 0.4, 0.9


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    draw_dataset(folder, photos=PHOTOS, seed=7)
    return folder


@pytest.fixture(scope="module")
def manifest(drawn: Path) -> Manifest:
    return read_photos(
        "ham10000", drawn, load_labels("ham10000"), name="p", on_problem="refuse", progress=False
    )


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_it_has_the_shape_of_ham10000(drawn: Path):
    with (drawn / "HAM10000_metadata.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == ham10000.COLUMNS
    assert len(rows) == PHOTOS
    assert all(re.fullmatch(r"PHANTOM_\d{5}", row["image_id"]) for row in rows)
    files = sorted(
        file.stem for part in (1, 2) for file in (drawn / f"HAM10000_images_part_{part}").glob("*.jpg")
    )
    assert files == sorted(row["image_id"] for row in rows)
    halves = [len(list((drawn / f"HAM10000_images_part_{part}").iterdir())) for part in (1, 2)]
    assert min(halves) >= PHOTOS // 2 - 1
    lesions, facts = defaultdict(list), defaultdict(set)
    for row in rows:
        lesions[row["lesion_id"]].append(row["dx"])
        facts[row["lesion_id"]].add((row["dx"], row["age"], row["sex"], row["localization"], row["dx_type"]))
    assert {len(of_lesion) for of_lesion in facts.values()} == {1}
    per_class = Counter(codes[0] for codes in lesions.values())
    assert set(per_class) == set(PAINTERS)
    assert min(per_class.values()) >= 6
    photos = Counter(row["dx"] for row in rows)
    assert photos["nv"] > 3 * photos["df"]
    assert sum(len(codes) > 1 for codes in lesions.values()) > len(lesions) // 5


@pytest.mark.parametrize("photos", [LEAST_PHOTOS, 101, 700, 5000])
def test_any_number_of_photos_is_met_exactly(photos: int):
    sizes = phantom._class_sizes(photos)
    assert sum(sizes.values()) == photos
    assert min(sizes.values()) >= 8
    for count in sizes.values():
        lesions = phantom._lesion_sizes(np.random.default_rng(0), count)
        assert sum(lesions) == count
        assert len(lesions) >= 6


def test_some_ages_are_missing():
    rng = np.random.default_rng(0)
    ages = [phantom._facts(rng)[1] for _ in range(500)]
    assert 0 < ages.count("") < 50


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        draw_dataset(tmp_path / name, photos=LEAST_PHOTOS, seed=seed)
    one, again, other = (_bytes_of(tmp_path / name) for name in ("one", "again", "other"))
    assert len(one) == LEAST_PHOTOS + 1
    assert one == again
    assert one != other
    assert not set(one.values()) & set(other.values())


@pytest.mark.parametrize("code", PAINTERS)
def test_views_of_a_lesion_differ_and_lesions_differ_more(code: str):
    size = (90, 120)
    image = draw_photo(code, 4, 0, size)
    assert image.mode == "RGB"
    assert image.size == (120, 90)
    assert ImageChops.difference(image, draw_photo(code, 4, 0, size)).getbbox() is None
    assert ImageChops.difference(image, draw_photo(code, 4, 1, size)).getbbox() is not None
    assert ImageChops.difference(image, draw_photo(code, 5, 0, size)).getbbox() is not None


def test_a_lesion_keeps_its_colours_from_view_to_view():
    def colour(code: str, lesion: int, view: int) -> np.ndarray:
        pixels = (
            np.asarray(draw_photo(code, lesion, view, (90, 120)), float)[30:60, 40:80].reshape(-1, 3).mean(0)
        )
        return np.asarray(pixels / pixels.sum())

    within, across = [], []
    for code in PAINTERS:
        looks = np.array([[colour(code, lesion, view) for view in range(3)] for lesion in range(4)])
        within.append(looks.std(axis=1).mean())
        across.append(looks.mean(axis=1).std(axis=0).mean())
    assert np.mean(within) < np.mean(across)


def test_an_unknown_class_is_named():
    with pytest.raises(UsageError, match="'scc'.*akiec"):
        draw_photo("scc", 0, 0)


def _colours(manifest: Manifest) -> np.ndarray:
    """Mean and deviation of the middle's colour, and the whole photo's mean: [n, 9]."""
    rows = []
    for photo in manifest.photos:
        with Image.open(manifest.root / photo.path) as image:
            pixels = np.asarray(image.resize((24, 18)), float)
        middle = pixels[6:12, 8:16].reshape(-1, 3)
        rows.append([*middle.mean(0), *middle.std(0), *pixels.reshape(-1, 3).mean(0)])
    features = np.array(rows)
    return np.asarray((features - features.mean(0)) / features.std(0))


def _balanced_accuracy(
    features: np.ndarray, labels: np.ndarray, is_test: np.ndarray, taught: np.ndarray
) -> float:
    """Of a nearest-centroid classifier that was taught `taught` and is judged by `labels`."""
    codes = sorted(set(labels))
    centroids = np.stack([features[~is_test & (taught == code)].mean(0) for code in codes])
    nearest = np.linalg.norm(features[:, None] - centroids, axis=2).argmin(1)
    hits = np.array(codes)[nearest] == labels
    return float(np.mean([hits[is_test & (labels == code)].mean() for code in codes]))


def test_colours_tell_the_classes_apart_but_not_perfectly(manifest: Manifest):
    features, labels = _colours(manifest), np.array([photo.label for photo in manifest.photos])
    scores, by_chance = [], []
    rng = np.random.default_rng(0)
    for fold in range(4):
        split = make_split(manifest, folds=4, test_fold=fold, val_share=0, near_duplicate_bits=4, seed=0)
        is_test = np.array([split.assignment[photo.photo_id] == "test" for photo in manifest.photos])
        scores.append(_balanced_accuracy(features, labels, is_test, labels))
        by_chance.append(_balanced_accuracy(features, labels, is_test, rng.permutation(labels)))
    assert LEAST_LEARNABLE < np.mean(scores) < MOST_LEARNABLE
    # The measure itself does not cheat: taught nonsense, it falls to chance.
    assert np.mean(by_chance) < 1 / 7 + 0.12


def test_strangers_of_the_phantom_are_not_taken_for_near_duplicates(manifest: Manifest):
    split = make_split(manifest, folds=5, test_fold=0, val_share=0.1, near_duplicate_bits=4, seed=0)
    assert split.leak.groups > 0.95 * split.leak.lesions
    assert split.leak.random_leak > 0.3


def test_too_few_photos_and_a_full_folder_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=f"got 10, expected {LEAST_PHOTOS} or more"):
        draw_dataset(tmp_path / "new", photos=10)
    assert not (tmp_path / "new").exists()
    (tmp_path / "kept").write_text("x")
    for target in (tmp_path, tmp_path / "kept"):
        with pytest.raises(DataInvalid, match="not an empty folder"):
            draw_dataset(target, photos=LEAST_PHOTOS)
    assert (tmp_path / "kept").read_text() == "x"


def test_an_empty_folder_is_filled(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    draw_dataset(tmp_path / "empty", photos=LEAST_PHOTOS)
    assert len(_bytes_of(tmp_path / "empty")) == LEAST_PHOTOS + 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["empty"]


def test_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch, capsys):
    drawn = []

    def interrupt(*arguments: object) -> Image.Image:
        drawn.append(arguments)
        if len(drawn) == 20:
            raise KeyboardInterrupt
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(phantom, "draw_photo", interrupt)
    assert main(["--out", str(tmp_path / "data"), "--photos", "60"]) == 130
    assert len(drawn) == 20
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_a_killed_process_leaves_no_data_set(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "train.data.synthetic.dataset",
        "--out",
        str(tmp_path / "data"),
        "--photos",
        "5000",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".data.*/*/*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.glob(".data.*/*/*.jpg")), "nothing was drawn before the kill"
    process.kill()
    process.communicate()
    assert not (tmp_path / "data").exists()


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "train.data.synthetic.dataset", *arguments],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=120,
    )


def test_the_command(tmp_path: Path):
    done = _command("--out", str(tmp_path / "deep" / "data"), "--photos", str(LEAST_PHOTOS), "--seed", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(tmp_path / "deep" / "data")
    again = _command("--out", str(tmp_path / "deep" / "data"))
    assert again.returncode == 2
    assert again.stdout == ""
    assert again.stderr.startswith("error: ")
    assert "not an empty folder" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--out", "a", "--sample", "b.jpg"],
        ["--out", "a", "--phot", "70"],
        ["--sample", "b.jpg", "--label", "scc"],
    ],
)
def test_misuse_exits_with_2(arguments: list[str], capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_sample_needs_only_what_the_runtime_installs(tmp_path: Path):
    absent = ("tqdm", "pandas", "sklearn", "scipy", "matplotlib", "tensorflow", "tf_keras")
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({absent}))\n"
        f"sys.argv[1:] = ['--sample', {str(tmp_path / 'x.jpg')!r}]\n"
        "runpy.run_module('train.data.synthetic.dataset', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "x.jpg").is_file()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_sample_is_one_photo(tmp_path: Path, suffix: str, capsys):
    paths = [tmp_path / f"{name}.{suffix}" for name in ("one", "again")]
    for path in paths:
        assert main(["--sample", str(path), "--label", "mel", "--seed", "3"]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.size == (600, 450)
        assert image.format == {"jpg": "JPEG", "png": "PNG"}[suffix]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_sample_of_no_image_format_and_a_negative_seed_are_refused(tmp_path: Path, capsys):
    assert main(["--sample", str(tmp_path / "x.txt")]) == 2
    assert main(["--sample", str(tmp_path / "x.png"), "--seed", "-1"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
    assert list(tmp_path.iterdir()) == []
