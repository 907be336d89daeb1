from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from convert.inputs import Photo, read_run
from convert.quantization.calibration import choose_calibration_photos, describe
from convert.recipes import CALIBRATION_PHOTOS
from edge_runtime.errors import DataInvalid


def _photos(counts: dict[int, int], split: str = "train") -> list[Photo]:
    return [
        Photo(f"{split}_{label}_{i}", Path("x"), label, f"{label}_{i}", split, "", "", "")
        for label, count in counts.items()
        for i in range(count)
    ]


def test_only_train_photos_and_balanced() -> None:
    photos = _photos({0: 50, 1: 50, 2: 50}) + _photos({0: 50, 1: 50, 2: 50}, "val") + _photos({0: 9}, "test")
    chosen = choose_calibration_photos(photos, 3, 30, seed=0)
    assert len(set(chosen)) == 30
    assert {photo.split for photo in chosen} == {"train"}
    assert describe(chosen, ("a", "b", "c"), 0)["per_class"] == {"a": 10, "b": 10, "c": 10}


def test_rare_classes_give_all_and_others_fill_up() -> None:
    chosen = choose_calibration_photos(_photos({0: 100, 1: 3, 2: 100}), 3, 43, seed=0)
    assert describe(chosen, ("a", "b", "c"), 0)["per_class"] == {"a": 20, "b": 3, "c": 20}


def test_fewer_than_needed_are_refused() -> None:
    photos = _photos({0: 300, 1: 199}) + _photos({0: 50, 1: 50}, "val")
    with pytest.raises(DataInvalid) as caught:
        choose_calibration_photos(photos, 2, CALIBRATION_PHOTOS, seed=0)
    assert "499" in caught.value.found and "500" in caught.value.expected
    enough = choose_calibration_photos(photos + _photos({2: 1}), 3, CALIBRATION_PHOTOS, seed=0)
    assert len(enough) == CALIBRATION_PHOTOS


def test_seed_decides_and_row_order_does_not() -> None:
    photos = _photos({0: 30, 1: 30})
    chosen = choose_calibration_photos(photos, 2, 20, seed=1)
    assert choose_calibration_photos(photos[::-1], 2, 20, seed=1) == chosen
    assert choose_calibration_photos(photos, 2, 20, seed=2) != chosen


def test_class_without_train_photos_is_refused() -> None:
    with pytest.raises(DataInvalid) as caught:
        choose_calibration_photos(_photos({0: 5}) + _photos({1: 5}, "val"), 2, 10, seed=0)
    assert "class 1" in caught.value.found


def test_ids_are_recorded(run_without_model: Path) -> None:
    run = read_run(run_without_model)
    chosen = choose_calibration_photos(run.photos, 3, 12, seed=0)
    described = describe(chosen, [label.code for label in run.contract.labels], 0)
    assert described["ids"] == [photo.photo_id for photo in chosen]
    assert described["photos"] == 12
    assert described["ids_sha256"] == sha256("\n".join(described["ids"]).encode()).hexdigest()
