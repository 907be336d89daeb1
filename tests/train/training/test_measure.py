"""Validation photos choose temperature and thresholds; test photos, and the outliers kept for the end, are counted."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract import ModelContract, Normalization
from tests.fixtures.make_models import base_contract
from train.artifacts.labels import load_labels
from train.artifacts.manifest import Manifest, Photo
from train.configs.loading import parse_config
from train.data.sources import DataSet
from train.evaluation.decisions import calibrate, fires, not_a_lesion_rule, refer_rule
from train.evaluation.metrics import softmax
from train.evaluation.summary import summarize
from train.training import measure
from train.training.inputs import TEST, THRESHOLD, Inputs

LABELS = load_labels("ham10000")
CLASSES = len(LABELS.codes)
# Photos of each part, pictures without a lesion of each kind and part: a photo's one pixel is its row in a table of
# logits, so there are fewer than 256.
PHOTOS, PICTURES = 84, 20
REFER_SHARE = 0.25
# A thousand draws for each of many intervals would take a second.
FEW_DRAWS = partial(summarize, repeats=30)
# predictions_*.csv hold six digits.
ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class Numbered(Inputs):
    """Every photo is one pixel that says which it is."""

    place: dict[str, int] = dataclasses.field(default_factory=dict)

    def pixels(self, photo_ids: list[str], size_px: int) -> np.ndarray:
        del size_px
        return pixels_of([self.place[photo_id] for photo_id in photo_ids])

    def outliers(self, part: str, size_px: int) -> tuple[np.ndarray, np.ndarray]:
        del size_px
        start = 2 * PHOTOS + {THRESHOLD: 0, TEST: 2 * PICTURES}[part]
        return (
            pixels_of(range(start, start + PICTURES)),
            pixels_of(range(start + PICTURES, start + 2 * PICTURES)),
        )


def pixels_of(places: Any) -> np.ndarray:
    return np.repeat(np.array(list(places), np.uint8), 3).reshape(-1, 1, 1, 3)


class Table:
    """Stands for a network: looks its answer up."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    def predict_on_batch(self, views: np.ndarray) -> np.ndarray:
        rows = np.rint(views[:, 0, 0, 0] * NORMALIZATION.std + NORMALIZATION.mean).astype(int)
        return self.logits[rows]


NORMALIZATION = Normalization(100.0, 50.0)


def inputs_of(folder: Path) -> Numbered:
    """Three photos of each lesion, every seventh lesion from a second data set; val and test take turns by lesion."""
    config = parse_config(
        {
            "name": "measured",
            "data": {"reader": "ham10000", "folder": "clinic", "labels": "ham10000"},
            "source": [{"reader": "pad_ufes_20", "folder": "phones"}],
            "outliers": {"folder": "ordinary"},
            "decision": {"refer_share": REFER_SHARE},
            "stage": [{"name": "a", "trains": "all", "epochs": 1, "size_px": 32, "learning_rate": 0.001}],
        },
        "test",
    )
    photos, assignment, source_of, place = [], {}, {}, {}
    for number in range(2 * PHOTOS):
        photo_id, lesion = f"P{number:03d}", number // 3
        photos.append(Photo(photo_id, "x", LABELS.codes[lesion // 2 % CLASSES], f"L{lesion:03d}"))
        assignment[photo_id] = ("val", "test")[lesion % 2]
        source_of[photo_id] = "phones" if lesion // 2 % 4 == 3 else "clinic"
        place[photo_id] = number
    manifest = Manifest("clinic+phones", folder, LABELS, tuple(photos))
    group_of = {photo.photo_id: photo.lesion_id for photo in photos}
    contract = dataclasses.replace(base_contract("float32"), normalization=NORMALIZATION)
    data = DataSet(manifest, assignment, group_of, source_of, {})
    return Numbered(config, contract, data, folder / "clinic", folder / "pixels", place)


def table_for(inputs: Numbered) -> np.ndarray:
    """Logits of all photos and pictures; the test photos' are four times as sharp as the validation photos'."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2 * PHOTOS + 4 * PICTURES, CLASSES))
    for photo in inputs.data.manifest.photos:
        row = inputs.place[photo.photo_id]
        logits[row, LABELS.index(photo.label)] += 1.5
        logits[row] *= 2.0 if inputs.data.assignment[photo.photo_id] == "val" else 8.0
    return logits


def part_of(inputs: Numbered, table: np.ndarray, part: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    ids = inputs.data.ids(part)
    return ids, inputs.labels(ids), table[[inputs.place[i] for i in ids]]


def measured(inputs: Numbered, table: np.ndarray, run: Path) -> tuple[dict[str, Any], ModelContract]:
    run.mkdir()
    metrics = measure.measure(inputs, Table(table), run)
    return metrics, ModelContract.from_json((run / "contract.json").read_text(encoding="utf-8"))


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Numbered:
    monkeypatch.setattr(measure, "summarize", FEW_DRAWS)
    return inputs_of(tmp_path)


def test_validation_photos_choose_temperature_and_thresholds(inputs: Numbered, tmp_path: Path) -> None:
    table = table_for(inputs)
    _, contract = measured(inputs, table, tmp_path / "run")
    ids, y_true, logits = part_of(inputs, table, "val")
    assert len(ids) == PHOTOS
    assert contract.calibration == calibrate(y_true, logits)
    probs = softmax(logits, contract.calibration.temperature)
    assert contract.decision.refer == refer_rule(probs, REFER_SHARE)
    pictures = table[2 * PHOTOS : 2 * PHOTOS + 2 * PICTURES]
    assert contract.decision.not_a_lesion == not_a_lesion_rule(
        probs,
        [inputs.data.source_of[i] for i in ids],
        softmax(pictures, contract.calibration.temperature),
        outlier_sources=["real"] * PICTURES + ["generated"] * PICTURES,
    )
    _, y_test, test_logits = part_of(inputs, table, "test")
    assert calibrate(y_test, test_logits).temperature > 1.5 * contract.calibration.temperature


def test_what_is_only_counted_chooses_nothing(inputs: Numbered, tmp_path: Path) -> None:
    """Other answers to test photos and to the pictures kept for the end: the contract stays, byte for byte."""
    table = table_for(inputs)
    metrics, _ = measured(inputs, table, tmp_path / "run")
    other = table.copy()
    for photo_id in inputs.data.ids("test"):
        other[inputs.place[photo_id]] *= -0.1
    other[2 * PHOTOS + 2 * PICTURES :] *= 30
    changed, _ = measured(inputs, other, tmp_path / "other")
    contracts = [(tmp_path / name / "contract.json").read_bytes() for name in ("run", "other")]
    assert contracts[0] == contracts[1]
    assert changed["val"] == metrics["val"]
    assert changed["test"]["balanced_accuracy"] < metrics["test"]["balanced_accuracy"]
    assert changed["outliers"] != metrics["outliers"]
    assert metrics["test"]["selection"] == []
    assert metrics["val"]["selection"] == [
        "the checkpoint", "the temperature", "the refer threshold", "the not-a-lesion threshold",
    ]  # fmt: skip


def test_figures_are_those_of_the_calibrated_answers_by_lesion_and_data_set(
    inputs: Numbered, tmp_path: Path
) -> None:
    table = table_for(inputs)
    metrics, contract = measured(inputs, table, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8")) == metrics
    refer, not_a_lesion = contract.decision.refer, contract.decision.not_a_lesion
    assert refer is not None and not_a_lesion is not None
    malignant = [label.group == "malignant" for label in LABELS.labels]
    for part in ("val", "test"):
        ids, y_true, logits = part_of(inputs, table, part)
        for source, figures in (("clinic", metrics[part]), ("phones", metrics[part]["sources"]["phones"])):
            rows = [i for i, photo_id in enumerate(ids) if inputs.data.source_of[photo_id] == source]
            probs = softmax(logits[rows], contract.calibration.temperature)
            groups = [inputs.data.group_of[ids[i]] for i in rows]
            expected = FEW_DRAWS(y_true[rows], probs, LABELS.codes, groups, malignant)
            assert {key: figures[key] for key in expected} == expected
            assert figures["photos"] == len(rows) == 3 * figures["lesions"]
            assert figures["referred_share"] == fires(refer, probs).mean()
            assert figures["not_a_lesion_share"] == fires(not_a_lesion, probs).mean()
    kept = softmax(table[2 * PHOTOS + 2 * PICTURES :], contract.calibration.temperature)
    for kind, rows_of_kind in (("real", slice(None, PICTURES)), ("generated", slice(PICTURES, None))):
        share = fires(not_a_lesion, kept[rows_of_kind]).mean()
        assert 0 < share < 1
        assert metrics["outliers"][kind] == {"photos": PICTURES, "not_a_lesion_share": share}


def test_answers_are_written_as_the_network_gives_them(inputs: Numbered, tmp_path: Path) -> None:
    """Without temperature: `train.training.crossval` and the converter's gate apply the contract's."""
    table = table_for(inputs)
    measured(inputs, table, tmp_path / "run")
    for part in ("val", "test"):
        ids, _, logits = part_of(inputs, table, part)
        lines = (tmp_path / "run" / f"predictions_{part}.csv").read_text(encoding="utf-8").splitlines()
        assert lines[0].split(",") == ["photo_id", "label", *(f"p_{code}" for code in LABELS.codes)]
        rows = [line.split(",") for line in lines[1:]]
        assert [row[0] for row in rows] == ids
        label_of = {photo.photo_id: photo.label for photo in inputs.data.manifest.photos}
        assert [row[1] for row in rows] == [label_of[i] for i in ids]
        np.testing.assert_allclose(np.array([row[2:] for row in rows], float), softmax(logits), rtol=ROUNDING)
