"""Batches: what stands where in them, and that an epoch can be entered at any step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_runtime.contract import Normalization
from train.configs.schema import AugmentConfig

pytestmark = pytest.mark.tf

SIDE, CLASSES, PHOTOS, OUTLIERS = 8, 3, 20, 5
UNCHANGED = AugmentConfig(
    flip=False, rotation_deg=0.0, zoom=(1.0, 1.0), aspect=0.0, shift=0.0,
    brightness=0.0, contrast=0.0, saturation=0.0, white_balance=0.0,
)  # fmt: skip


def photos(*, outliers: int = 0) -> Any:
    """Photo i is grey of level i, of class i % 3, and has a teacher of its own; outliers are brighter than any."""
    from train.training.inputs import Photos

    def grey(levels: np.ndarray) -> np.ndarray:
        return np.tile(levels.astype(np.uint8)[:, None, None, None], (1, SIDE, SIDE, 3))

    teacher = np.random.default_rng(2).dirichlet(np.ones(CLASSES), PHOTOS).astype(np.float32)
    return Photos(
        pixels_u8=grey(np.arange(PHOTOS)),
        labels=np.arange(PHOTOS) % CLASSES,
        classes=CLASSES,
        teacher=teacher,
        outliers_u8=grey(200 + np.arange(OUTLIERS)) if outliers else None,
        outliers_per_batch=outliers,
    )


def batches(shown: Any, *, first_step: int = 0, mixup: float = 0.0, augment: bool = False) -> list[Any]:
    import dataclasses

    from train.training.pipeline import training_batches

    config = dataclasses.replace(AugmentConfig() if augment else UNCHANGED, mixup=mixup)
    drawn = np.random.default_rng(6).permutation(PHOTOS)
    dataset = training_batches(
        shown,
        drawn,
        first_step=first_step,
        batch=6,
        size_px=SIDE,
        augmentation=config,
        normalization=Normalization(0.0, 1.0),
        seed=(1, 2),
    )
    return [type(batch)(*(part.numpy() for part in batch)) for batch in dataset]


def levels(pixels: np.ndarray) -> np.ndarray:
    assert np.ptp(pixels, axis=(1, 2, 3)).max() < 1e-3
    return pixels[:, 0, 0, 0]


def test_each_photo_has_its_own_label_and_teacher() -> None:
    shown = photos()
    steps = batches(shown)
    assert len(steps) == PHOTOS // 6
    seen = []
    for batch in steps:
        numbers = np.rint(levels(batch.pixels)).astype(int)
        np.testing.assert_array_equal(batch.truth, numbers % CLASSES)
        np.testing.assert_array_equal(batch.targets, np.eye(CLASSES)[numbers % CLASSES])
        np.testing.assert_array_equal(batch.teacher, shown.teacher[numbers])
        seen += numbers.tolist()
    assert len(set(seen)) == len(seen) == 18


def test_without_a_teacher_the_targets_stand_in() -> None:
    import dataclasses

    (batch, *_) = batches(dataclasses.replace(photos(), teacher=None))
    np.testing.assert_array_equal(batch.teacher, batch.targets)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_outliers_stand_last_and_ask_for_no_class(mixup: float) -> None:
    from train.training.pipeline import OUTLIER

    steps = batches(photos(outliers=2), mixup=mixup)
    assert len(steps) == 3
    for batch in steps:
        assert len(batch.pixels) == len(batch.truth) == len(batch.targets) == len(batch.teacher) == 8
        shown = levels(batch.pixels)
        # Mixed or not, a photo holds nothing of an outlier, nor an outlier anything of a photo.
        assert (shown[:6] < PHOTOS).all()
        np.testing.assert_array_equal(np.isin(np.rint(shown[6:]), 200 + np.arange(OUTLIERS)), True)
        np.testing.assert_allclose(shown[6:], np.rint(shown[6:]), atol=1e-3)
        np.testing.assert_array_equal(batch.truth[6:], OUTLIER)
        assert (batch.truth[:6] >= 0).all()
        np.testing.assert_allclose(batch.targets[6:], 1 / CLASSES, rtol=1e-6)
        np.testing.assert_allclose(batch.teacher[6:], 1 / CLASSES, rtol=1e-6)
        np.testing.assert_allclose(batch.targets.sum(axis=1), 1, rtol=1e-5)


def test_outliers_change_from_step_to_step() -> None:
    shown = [tuple(np.rint(levels(batch.pixels)[6:])) for batch in batches(photos(outliers=2))]
    assert len(set(shown)) > 1


def test_mixed_photos_have_mixed_targets() -> None:
    steps = batches(photos(), mixup=1.0)
    targets = np.concatenate([batch.targets for batch in steps])
    pixels = np.concatenate([levels(batch.pixels) for batch in steps])
    assert ((targets > 0.01) & (targets < 0.99)).any()
    assert (np.abs(pixels - np.rint(pixels)) > 0.01).any()
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-5)


def test_an_epoch_can_be_entered_at_any_step() -> None:
    whole = batches(photos(outliers=2), mixup=0.4, augment=True)
    rest = batches(photos(outliers=2), mixup=0.4, augment=True, first_step=1)
    assert len(rest) == len(whole) - 1 == 2
    for batch, expected in zip(rest, whole[1:], strict=True):
        for part, wanted in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(part, wanted)
