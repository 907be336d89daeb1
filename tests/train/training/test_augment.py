"""Augmentation: eagerly and inside tf.data, the same; each key changes what it names, as it says."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.tf

tf = pytest.importorskip("tensorflow", exc_type=ImportError)
augment_module = pytest.importorskip("train.training.augment")
from tests.train.still_views import STILL  # noqa: E402 - after the skip
from train.configs.schema import AugmentConfig  # noqa: E402

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


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"inscribed": True},
        {"blur": 0.5},
        {"cutout": 0.5},
        {"jpeg": 0.5},
        {"inscribed": True, "blur": 1.0, "cutout": 1.0, "jpeg": 1.0},
    ],
    ids=lambda change: "+".join(change) or "defaults",
)
def test_eager_and_tf_data_give_the_same_batch(change: dict) -> None:
    squares, config = smooth_squares(8), dataclasses.replace(AugmentConfig(), **change)
    dataset = tf.data.Dataset.from_tensors(squares).map(
        lambda batch: augment_module.augment(batch, 32, config, tf.constant([1, 2], tf.int32))
    )
    np.testing.assert_allclose(next(iter(dataset)).numpy(), run(squares, config), atol=1e-2)
    assert dataset.element_spec.shape == (8, 32, 32, 3)


def test_steps_that_are_off_leave_geometry_and_colour_as_they_were() -> None:
    squares, config, seed = tf.constant(smooth_squares()), AugmentConfig(), tf.constant([1, 2], tf.int32)
    assert (config.inscribed, config.blur, config.cutout, config.jpeg, config.mixup) == (False, 0, 0, 0, 0)
    seeds = tf.random.experimental.stateless_split(seed, 2)
    warped = augment_module.warp(squares, 32, config, seeds[0])
    expected = tf.clip_by_value(augment_module.recolor(warped, config, seeds[1]), 0.0, 255.0)
    np.testing.assert_array_equal(run(squares.numpy(), config), expected)


def test_the_seed_decides() -> None:
    squares = smooth_squares()
    np.testing.assert_array_equal(run(squares, AugmentConfig()), run(squares, AugmentConfig()))
    assert np.abs(run(squares, AugmentConfig()) - run(squares, AugmentConfig(), seed=(1, 3))).mean() > 1


def test_values_stay_in_range() -> None:
    wild = AugmentConfig(
        brightness=0.9, contrast=1.0, saturation=1.0, white_balance=0.5, blur=1.0, cutout=1.0, jpeg=1.0
    )
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
        {"cutout": 1.0},
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


def test_colour_is_gain_saturation_and_offset_of_each_photo() -> None:
    # Brightness, contrast and white balance multiply and add to each channel; saturation keeps the mean of the three.
    config = dataclasses.replace(STILL, brightness=0.1, contrast=0.3, white_balance=0.1, saturation=0.4)
    photos = np.random.default_rng(1).uniform(60, 190, (5, 8, 8, 3)).astype(np.float32)
    recolored = augment_module.recolor(tf.constant(photos), config, tf.constant([3, 4], tf.int32)).numpy()
    saturations = []
    for photo, result in zip(photos, recolored, strict=True):
        grey = photo.mean(axis=2)
        for channel in range(3):
            parts = np.stack([photo[:, :, channel], grey, np.ones_like(grey)], axis=-1).reshape(-1, 3)
            values = result[:, :, channel].ravel()
            (own, of_grey, _), *_ = np.linalg.lstsq(parts, values, rcond=None)
            np.testing.assert_allclose(
                parts @ np.linalg.lstsq(parts, values, rcond=None)[0], values, atol=1e-2
            )
            assert math.exp(-0.41) < own + of_grey < math.exp(0.41)
            saturations.append(own / (own + of_grey))
    by_photo = np.reshape(saturations, (5, 3))
    np.testing.assert_allclose(by_photo, by_photo[:, :1].repeat(3, axis=1), atol=1e-3)
    assert np.ptp(by_photo[:, 0]) > 0.1


def seen_regions(config: AugmentConfig, side: int = 120, size_px: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Views of a square that holds its own coordinates.

    Returns:
        Per view the affine map [n, 3, 2] that fits best, in input pixels; the largest distance [n] from it.
    """
    y, x = np.mgrid[0:side, 0:side]
    coordinates = np.stack([2 * x, 2 * y, 0 * x], axis=-1).astype(np.uint8)
    seen = run(coordinates[None].repeat(40, axis=0), config, size_px=size_px)[..., :2] / 2
    row, column = np.mgrid[0:size_px, 0:size_px]
    basis = np.stack([column, row, np.ones_like(row)], axis=-1).reshape(-1, 3)
    maps = np.stack([np.linalg.lstsq(basis, view.reshape(-1, 2), rcond=None)[0] for view in seen])
    distance = np.abs(seen.reshape(40, -1, 2) - basis @ maps).max(axis=(1, 2))
    return maps, distance


def test_an_inscribed_view_has_no_mirrored_corner_whatever_else_is_drawn() -> None:
    wide = dataclasses.replace(STILL, rotation_deg=180, zoom=(0.6, 1.2), aspect=0.4, shift=0.2, flip=True)
    _, mirrored = seen_regions(wide)
    assert (mirrored > 5).sum() > 20
    _, inscribed = seen_regions(dataclasses.replace(wide, inscribed=True))
    assert inscribed.max() < 1.2


def test_an_inscribed_view_is_the_largest() -> None:
    maps, _ = seen_regions(dataclasses.replace(STILL, rotation_deg=180, inscribed=True))
    angles = np.arctan2(maps[:, 0, 1], maps[:, 0, 0])
    assert np.ptp(angles) > math.pi
    seen = np.hypot(maps[:, 0, 0], maps[:, 0, 1]) * 96 / 120
    np.testing.assert_allclose(seen, 1 / (np.abs(np.cos(angles)) + np.abs(np.sin(angles))), atol=0.01)


def test_inscribed_leaves_views_alone_that_are_inside() -> None:
    inside = dataclasses.replace(STILL, rotation_deg=180, zoom=(0.4, 0.6), shift=0.05)
    np.testing.assert_array_equal(
        run(smooth_squares(), dataclasses.replace(inside, inscribed=True)), run(smooth_squares(), inside)
    )


@pytest.mark.parametrize("step", ["blur", "cutout", "jpeg"])
def test_a_share_is_of_photos(step: str) -> None:
    squares = np.random.default_rng(2).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    still = run(squares, STILL)
    changed = np.abs(run(squares, dataclasses.replace(STILL, **{step: 0.3})) - still).max(axis=(1, 2, 3)) > 1
    assert 35 < changed.sum() < 85
    others = np.abs(run(squares, dataclasses.replace(STILL, **{step: 0.3}), seed=(1, 3)) - still)
    assert ((others.max(axis=(1, 2, 3)) > 1) != changed).any()


@pytest.mark.parametrize("step", [augment_module.blur, augment_module.cutout, augment_module.jpeg])
def test_a_step_that_draws_no_photo_changes_none(step) -> None:
    photos = tf.constant(smooth_squares(), tf.float32)
    for share in (0.0, 1e-9):
        result = tf.function(step)(photos, share, tf.constant([1, 2], tf.int32))
        np.testing.assert_array_equal(result, photos)


def test_blur_spreads_a_point_by_its_sigma() -> None:
    points = np.zeros((60, 33, 33, 3), np.float32)
    points[:, 16, 16] = 200
    blurred = augment_module.blur(tf.constant(points), 1.0, tf.constant([1, 2], tf.int32)).numpy() / 200
    np.testing.assert_allclose(blurred.sum(axis=(1, 2)), 1, atol=1e-4)
    y, x = np.mgrid[-16:17, -16:17]
    spread_x, spread_y = ((blurred[..., 1] * axis**2).sum(axis=(1, 2)) for axis in (x, y))
    np.testing.assert_allclose(spread_x, spread_y, atol=1e-3)
    sigmas = np.sqrt(spread_x)
    # A Gaussian of less than half a pixel has no neighbour left to spread to.
    assert 0 < sigmas.min() < 0.5
    assert 1.3 < sigmas.max() < 1.51
    widest = blurred[sigmas.argmax(), :, :, 0]
    np.testing.assert_allclose(widest[16, 18] / widest[16, 16], math.exp(-2 / sigmas.max() ** 2), rtol=0.01)


def test_blur_keeps_a_flat_photo_to_its_edges() -> None:
    flat = np.full((3, 32, 32, 3), (30, 120, 220), np.uint8)
    np.testing.assert_allclose(run(flat, dataclasses.replace(STILL, blur=1.0)), flat, atol=1e-3)


def test_cutout_is_one_grey_square_inside() -> None:
    photos = np.full((300, 40, 40, 3), 10, np.uint8)
    hidden = run(photos, dataclasses.replace(STILL, cutout=1.0), size_px=40) == 128
    assert (hidden.all(axis=3) == hidden.any(axis=3)).all()
    rows, columns = hidden.any(axis=(2, 3)), hidden.any(axis=(1, 3))
    sides = rows.sum(axis=1)
    np.testing.assert_array_equal(columns.sum(axis=1), sides)
    # Full squares: as many hidden pixels as rows times columns.
    np.testing.assert_array_equal(hidden[..., 0].sum(axis=(1, 2)), sides**2)
    assert (sides.min(), sides.max()) == (4, 16)
    for covered in (rows, columns):
        first = covered.argmax(axis=1)
        assert first.min() == 0
        assert (first + sides).max() == 40
    assert np.abs(np.corrcoef(rows.argmax(axis=1), columns.argmax(axis=1))[0, 1]) < 0.2


def test_jpeg_is_what_another_encoder_makes_at_some_quality_in_range() -> None:
    rng = np.random.default_rng(3)
    photos = np.clip(smooth_squares(12, 64) + rng.normal(0, 12, (12, 64, 64, 3)), 0, 255).astype(np.uint8)
    results = run(photos, dataclasses.replace(STILL, jpeg=1.0), size_px=64)
    np.testing.assert_array_equal(results, results.round())
    qualities = []
    for photo, result in zip(photos, results, strict=True):
        errors = {}
        for quality in range(20, 100):
            stream = io.BytesIO()
            Image.fromarray(photo).save(stream, "JPEG", quality=quality)
            errors[quality] = np.abs(np.asarray(Image.open(stream), np.float32) - result).mean()
        qualities.append(min(errors, key=errors.get))
        assert errors[qualities[-1]] < 0.1
    assert 30 <= min(qualities) < 50
    assert 75 < max(qualities) <= 95


def test_jpeg_rounds_to_the_nearest_grey_level() -> None:
    photos, seed = tf.constant(smooth_squares(4, 32), tf.float32), tf.constant([1, 2], tf.int32)
    expected = augment_module.jpeg(photos, 1.0, seed)
    for off in (-0.4, 0.4):
        np.testing.assert_array_equal(augment_module.jpeg(photos + off, 1.0, seed), expected)


def mix(
    photos: np.ndarray, labels: np.ndarray, alpha: float, seed: tuple[int, int] = (1, 2)
) -> tuple[np.ndarray, np.ndarray]:
    mixed = augment_module.mixup(
        tf.constant(photos, tf.float32), tf.constant(labels, tf.float32), alpha, tf.constant(seed, tf.int32)
    )
    return mixed[0].numpy(), mixed[1].numpy()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_mixup_mixes_photos_and_labels_alike_and_keeps_the_larger_part(count: int) -> None:
    photos = np.random.default_rng(4).uniform(-1, 1, (count, 8, 8, 3)).astype(np.float32)
    one_hot = np.eye(7, dtype=np.float32)[:count]
    pixels, labels = mix(photos, one_hot, 1.0)
    own = labels[np.arange(count), np.arange(count)]
    assert own.min() >= 0.5
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    expected = own[:, None] * one_hot + (1 - own[:, None]) * np.roll(one_hot, 1, axis=0)
    np.testing.assert_allclose(labels, expected, atol=1e-6)
    weight = own[:, None, None, None]
    np.testing.assert_allclose(pixels, weight * photos + (1 - weight) * np.roll(photos, 1, axis=0), atol=1e-5)
    assert len(set(own.tolist())) == count


@pytest.mark.parametrize(("alpha", "low", "high"), [(1e-3, 0.99, 1.0), (0.2, 0.88, 0.92), (1.0, 0.73, 0.77)])
def test_mixup_draws_its_weights_from_the_beta_distribution(alpha: float, low: float, high: float) -> None:
    # Folded to 0.5 and more, Beta(1, 1) has mean 0.75 and Beta(0.2, 0.2) 0.90.
    photos = np.zeros((1000, 1, 1, 3), np.float32)
    _, own = mix(photos, np.eye(1000), alpha)
    weights = np.diag(own)
    assert low < weights.mean() <= high
    assert weights.max() <= 1


def test_mixup_repeats_by_its_seed_also_inside_tf_data_and_alpha_0_is_none() -> None:
    photos, one_hot = smooth_squares().astype(np.float32), np.eye(4, dtype=np.float32)
    for kept, given in zip(mix(photos, one_hot, 0.0), (photos, one_hot), strict=True):
        np.testing.assert_array_equal(kept, given)
    eager = mix(photos, one_hot, 0.4)
    assert np.abs(eager[1] - mix(photos, one_hot, 0.4, seed=(1, 3))[1]).max() > 0.01
    dataset = tf.data.Dataset.from_tensors((photos, one_hot)).map(
        lambda pixels, labels: augment_module.mixup(pixels, labels, 0.4, tf.constant([1, 2], tf.int32))
    )
    for inside, outside in zip(next(iter(dataset)), eager, strict=True):
        np.testing.assert_allclose(inside, outside, atol=1e-4)
    assert [spec.shape for spec in dataset.element_spec] == [(4, 40, 40, 3), (4, 4)]
