"""Augmentation: eagerly and inside tf.data, the same; each range changes what it names."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytestmark = pytest.mark.tf

tf = pytest.importorskip("tensorflow", exc_type=ImportError)
augment_module = pytest.importorskip("train.augment")
from train.config import AugmentConfig  # noqa: E402 - after the skip

STILL = AugmentConfig(
    flip=False,
    rotation_deg=0,
    zoom=(1, 1),
    aspect=0,
    shift=0,
    brightness=0,
    contrast=0,
    saturation=0,
    white_balance=0,
)
# One grey level: the sampling grid is computed in float32.
GREY_LEVELS = 1.01


def smooth_squares(count: int = 4, side: int = 40) -> np.ndarray:
    """Smooth colourful squares with no symmetry, [count, side, side, 3] uint8."""
    y, x = np.mgrid[0:side, 0:side] / side
    squares = [np.stack([200 * x, 160 * y + 20 * i, 90 * x * y + 60], axis=-1) for i in range(count)]
    return np.stack(squares).astype(np.uint8)


def run(
    squares: np.ndarray, config: AugmentConfig, seed: tuple[int, int] = (1, 2), size_px: int = 32
) -> np.ndarray:
    return augment_module.augment(tf.constant(squares), size_px, config, tf.constant(seed, tf.int32)).numpy()


def test_without_ranges_a_square_of_the_right_size_stays_as_it_is() -> None:
    squares = smooth_squares(side=32)
    np.testing.assert_allclose(run(squares, STILL), squares, atol=1e-3)


def test_without_ranges_a_larger_square_is_only_shrunk() -> None:
    squares = smooth_squares(side=40)
    shrunk = run(squares, STILL)
    assert shrunk.shape == (4, 32, 32, 3)
    np.testing.assert_allclose(shrunk.mean(axis=(1, 2)), squares.mean(axis=(1, 2)), atol=GREY_LEVELS)


def test_eager_and_tf_data_give_the_same_batch() -> None:
    squares, config = smooth_squares(), AugmentConfig()
    dataset = tf.data.Dataset.from_tensors(squares).map(
        lambda batch: augment_module.augment(batch, 32, config, tf.constant([1, 2], tf.int32))
    )
    np.testing.assert_allclose(next(iter(dataset)).numpy(), run(squares, config), atol=1e-2)


def test_the_seed_decides() -> None:
    squares = smooth_squares()
    np.testing.assert_array_equal(run(squares, AugmentConfig()), run(squares, AugmentConfig()))
    assert np.abs(run(squares, AugmentConfig()) - run(squares, AugmentConfig(), seed=(1, 3))).mean() > 1


def test_values_stay_in_range() -> None:
    wild = AugmentConfig(brightness=0.9, contrast=1.0, saturation=1.0, white_balance=0.5)
    pixels = run(smooth_squares(), wild)
    assert pixels.min() >= 0
    assert pixels.max() <= 255


@pytest.mark.parametrize(
    "change",
    [
        {"rotation_deg": 90.0},
        {"zoom": (0.5, 0.6)},
        {"aspect": 0.5},
        {"shift": 0.3},
        {"brightness": 0.3},
        {"contrast": 0.5},
        {"saturation": 0.7},
        {"white_balance": 0.3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_range_changes_photos_and_differently_from_one_another(change: dict) -> None:
    squares = np.repeat(smooth_squares(1, 32), 4, axis=0)
    pixels = run(squares, dataclasses.replace(STILL, **change))
    assert (np.abs(pixels - squares).mean(axis=(1, 2, 3)) > 0.5).sum() >= 3
    assert np.abs(pixels[0] - pixels[1]).mean() > 0.5


def test_flip_mirrors_about_half_of_the_photos() -> None:
    squares = np.repeat(smooth_squares(1, 32), 200, axis=0)
    pixels = run(squares, dataclasses.replace(STILL, flip=True))
    mirrored = np.abs(pixels - squares[:, :, ::-1]).mean(axis=(1, 2, 3)) < 0.01
    kept = np.abs(pixels - squares).mean(axis=(1, 2, 3)) < 0.01
    assert (mirrored | kept).all()
    assert 70 < mirrored.sum() < 130


def test_rotation_turns_about_the_centre() -> None:
    # A centred disc is the same however it is turned.
    y, x = np.mgrid[0:41, 0:41] - 20
    disc = np.where((x**2 + y**2 < 100)[None, :, :, None], np.uint8(200), np.uint8(40)).repeat(3, axis=3)
    turned = run(disc, dataclasses.replace(STILL, rotation_deg=180.0), size_px=41)
    assert np.abs(turned - disc).mean() < 3


def test_saturation_and_white_balance_leave_what_they_should() -> None:
    grey = np.full((3, 32, 32, 3), 120, np.uint8)
    np.testing.assert_allclose(run(grey, dataclasses.replace(STILL, saturation=0.9)), grey, atol=1e-3)
    np.testing.assert_allclose(run(grey, dataclasses.replace(STILL, contrast=0.9)), grey, atol=1e-2)
