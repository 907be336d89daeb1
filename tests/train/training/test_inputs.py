"""What an experiment is trained on: which photos, how often, which prior that leaves, which OOD images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import ConfigInvalid
from tests.fixtures.make_models import base_contract
from train.artifacts.labels import load_labels
from train.artifacts.manifest import Manifest, Photo
from train.configs.loading import parse_config
from train.data.outliers import divide_outliers, generate_outliers, outlier_pixels, read_outliers
from train.data.sources import DataSet
from train.evaluation.metrics import softmax
from train.evaluation.predict import correct_prior
from train.training.inputs import DIVISION_SEED, GENERATED, TEST, THRESHOLD, TRAIN, Inputs

LABELS = load_labels("ham10000")
STAGE = {"name": "all", "trains": "all", "epochs": 1, "size_px": 32, "learning_rate": 0.001}
# Photos of each class: the clinic has many nevi, the phones many carcinomas. Twice as many are held out.
CLINIC = {"akiec": 3, "bcc": 4, "bkl": 8, "df": 2, "mel": 6, "nv": 40, "vasc": 2}
PHONES = {"bcc": 20, "nv": 5}
SIDE_PX = 32


def inputs_of(folder: Path, *, draw: float = 2.0, **changed: Any) -> Inputs:
    """Photos of two data sets, one of a class in training to two that are held out; every photo is a lesion."""
    sections: dict[str, Any] = {
        "name": "inputs",
        "data": {"reader": "ham10000", "folder": "clinic", "labels": "ham10000"},
        "source": [{"reader": "pad_ufes_20", "folder": "phones", "draw": draw}],
        "imbalance": {"sampling_exponent": 0.0, "lesion_exponent": 0.0},
        "stage": [STAGE],
    }
    config = parse_config(sections | changed, "test")
    photos, assignment, source_of = [], {}, {}
    for source, counts in (("clinic", CLINIC), ("phones", PHONES)):
        for code, count in counts.items():
            for i in range(3 * count):
                photo_id = f"{source}-{code}-{i:03d}"
                photos.append(Photo(photo_id, f"{source}/{photo_id}.jpg", code, photo_id))
                assignment[photo_id] = ("train", "val", "test")[i % 3]
                source_of[photo_id] = source
    photos.sort(key=lambda photo: photo.photo_id)
    manifest = Manifest("clinic+phones", folder, LABELS, tuple(photos))
    data = DataSet(manifest, assignment, {i: i for i in assignment}, source_of, {})
    return Inputs(config, base_contract("float32"), data, folder / "clinic", folder / "pixels")


def drawn_prior(draw: float) -> np.ndarray:
    counts = np.array([CLINIC[code] + draw * PHONES.get(code, 0) for code in LABELS.codes])
    return counts / counts.sum()


class LastLayer:
    """Stands for a model whose last layer's bias is all that is looked at."""

    def __init__(self, bias: np.ndarray) -> None:
        self.layers, self.weights = [self], [np.zeros((1, len(bias))), bias]

    def get_weights(self) -> list[np.ndarray]:
        return self.weights

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = weights


def answers_of(inputs: Inputs, logits: np.ndarray) -> np.ndarray:
    """What a network says that always gives these logits, once its prior is corrected."""
    rows = inputs.training_rows()
    model = LastLayer(logits)
    correct_prior(model, inputs.prior_correction(rows, inputs.draw_chances(rows)))
    return softmax(model.weights[1][None])[0]


def test_only_training_photos_are_trained_on(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path)
    photos = [inputs.data.manifest.photos[i] for i in inputs.training_rows()]
    assert len(photos) == sum(CLINIC.values()) + sum(PHONES.values())
    assert {inputs.data.assignment[photo.photo_id] for photo in photos} == {"train"}
    held_out = inputs.data.assignment | {p.photo_id: "val" for p in photos if p.label == "df"}
    lacking = dataclasses.replace(inputs, data=dataclasses.replace(inputs.data, assignment=held_out))
    with pytest.raises(ConfigInvalid, match="no photo of df"):
        lacking.training_rows()


def test_photos_of_a_further_data_set_are_drawn_as_often_as_it_says(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, draw=3.0)
    rows = inputs.training_rows()
    chances = inputs.draw_chances(rows)
    assert chances.sum() == pytest.approx(1)
    ids = [inputs.data.manifest.photos[i].photo_id for i in rows]
    phones = np.array([inputs.data.source_of[i] == "phones" for i in ids])
    assert chances[phones] == pytest.approx(3 * chances[~phones][0])
    assert chances[~phones] == pytest.approx(chances[~phones][0])


@pytest.mark.parametrize("draw", [1.0, 4.0])
def test_the_prior_of_what_was_drawn_is_taken_out(tmp_path: Path, draw: float) -> None:
    """A network that was trained on nothing but how often it saw each class then finds all alike."""
    log_prior = np.log(drawn_prior(draw))
    for power in (0.0, 0.5, 1.0):
        inputs = inputs_of(tmp_path, draw=draw, decision={"prior_correction": power})
        left = softmax(((1 - power) * log_prior)[None])[0]
        np.testing.assert_allclose(answers_of(inputs, log_prior), left, rtol=1e-6)


def test_the_prior_of_the_first_data_set_can_be_the_one_taken_out(tmp_path: Path) -> None:
    """Adjusted logits have lost the prior of all that was drawn: what the phones added to it is given back."""
    first = np.array([CLINIC[code] for code in LABELS.codes]) / sum(CLINIC.values())
    likelihood = np.log([0.1, 0.2, 0.1, 0.1, 0.2, 0.2, 0.1])
    inputs = inputs_of(
        tmp_path,
        draw=4.0,
        imbalance={"sampling_exponent": 0.0, "lesion_exponent": 0.0, "logit_adjustment": 1.0},
        decision={"prior_of": "first"},
    )
    expected = softmax((likelihood + np.log(drawn_prior(4.0)) - np.log(first))[None])[0]
    np.testing.assert_allclose(answers_of(inputs, likelihood), expected, rtol=1e-6)
    # Without an adjusted loss the answers hold the prior, and the first data set's own is divided out.
    inputs = inputs_of(tmp_path, draw=4.0, decision={"prior_of": "first", "prior_correction": 1.0})
    np.testing.assert_allclose(answers_of(inputs, np.log(first)), np.full(7, 1 / 7), rtol=1e-6)


def draw_ordinary(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(24):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"thing{chr(97 + i % 12)}_{i:04d}.png")
    return folder


def test_no_ood_image_is_trained_on_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are those of train/data/outliers.py, whatever the config's seed; drawings have a seed for each part."""
    paths = read_outliers(draw_ordinary(tmp_path / "ordinary"))
    assert list(GENERATED) == [TRAIN, THRESHOLD, TEST] == ["train", "threshold", "test"]
    few = {TRAIN: 14, THRESHOLD: 13, TEST: 12}
    monkeypatch.setattr("train.training.inputs.GENERATED", few)
    seen: dict[bytes, str] = {}
    for seed in (1, 2):
        inputs = inputs_of(tmp_path, outliers={"folder": "ordinary"}, seed=seed)
        for number, part in enumerate(GENERATED):
            pictures = inputs.outliers(part, SIDE_PX)
            assert pictures is not None
            real, generated = pictures
            chosen = divide_outliers(paths, DIVISION_SEED)[part]
            assert np.array_equal(real, outlier_pixels(chosen, inputs.contract, SIDE_PX))
            assert np.array_equal(generated, generate_outliers(few[part], SIDE_PX, seed=number))
            for picture in (*real, *generated):
                assert seen.setdefault(picture.tobytes(), part) == part
    assert len(seen) == len(paths) + sum(few.values())
    assert inputs_of(tmp_path).outliers(TRAIN, SIDE_PX) is None
