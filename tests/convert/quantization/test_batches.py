from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from convert.inputs import Photo, Sampling
from convert.quantization.batches import TrainingStream, sampling_weights

PHOTOS = [Photo(str(i), Path("x"), int(i >= 30), f"lesion {i // 2}", "train", "", "", "") for i in range(40)]
# Of 4,000 draws; the standard deviation of a share is at most 0.008.
SHARE_TOLERANCE = 0.03


def _stream(exponent: float = 0.0, shape: tuple[int, int] = (8, 8), seed: int = 3) -> TrainingStream:
    pixels_u8 = np.random.default_rng(0).integers(0, 256, (40, *shape, 3)).astype(np.uint8)
    labels = np.array([photo.label for photo in PHOTOS])
    return TrainingStream(
        pixels_u8, labels, 128.0, 128.0, 8, sampling_weights(PHOTOS, Sampling(exponent)), seed
    )


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    stream = _stream()
    views, labels, soft_labels = stream.batch_at(7)
    again, again_labels, _ = _stream().batch_at(7)
    assert np.array_equal(views, again) and np.array_equal(labels, again_labels)
    assert soft_labels is None
    assert not np.array_equal(views, stream.batch_at(8)[0])
    assert not np.array_equal(views, _stream(seed=4).batch_at(7)[0])


def test_resumed_batches_are_the_same() -> None:
    whole = list(_stream().batches(0, 6))
    resumed = list(_stream().batches(4, 6))
    assert len(whole) == 6 and len(resumed) == 2
    for batch, expected in zip(resumed, whole[4:], strict=True):
        assert np.array_equal(batch.views, expected.views) and np.array_equal(batch.labels, expected.labels)
    assert list(_stream().batches(6, 6)) == []


@pytest.mark.parametrize("shape", [(8, 8), (6, 9)])
def test_views_keep_shape_type_and_range(shape: tuple[int, int]) -> None:
    views, labels, _ = _stream(shape=shape).batch_at(0)
    assert views.shape == (8, *shape, 3) and views.dtype == np.float32
    assert labels.shape == (8,)
    # The range of the input tensor: pixels 0 and 255.
    assert views.min() >= -1 and views.max() <= 127 / 128


@pytest.mark.parametrize(("exponent", "rare_share"), [(0.0, 10 / 40), (-1.0, 0.5)])
def test_rare_classes_are_drawn_more_often(exponent: float, rare_share: float) -> None:
    stream = _stream(exponent)
    drawn = np.concatenate([stream.batch_at(step)[1] for step in range(500)])
    assert len(drawn) == 4000
    assert drawn.mean() == pytest.approx(rare_share, abs=SHARE_TOLERANCE)


def test_soft_labels_come_with_their_photos() -> None:
    """Soft labels of another photo would raise no error."""
    plain = _stream()
    soft = np.stack([np.arange(40) / 40, 1 - np.arange(40) / 40], axis=1).astype(np.float32)
    stream = dataclasses.replace(plain, soft_labels=soft, labels=np.arange(40))
    batch = stream.batch_at(3)
    assert batch.soft_labels is not None and len(set(batch.labels)) > 4
    assert np.array_equal(batch.soft_labels, soft[batch.labels])


def test_lesions_can_be_drawn_alike() -> None:
    photos = [*PHOTOS[:3], PHOTOS[2]]
    assert sampling_weights(photos, Sampling(0.0, -1.0)) == pytest.approx([1 / 4, 1 / 4, 1 / 4, 1 / 4])
    photos = [PHOTOS[0], PHOTOS[1], PHOTOS[2]]
    assert sampling_weights(photos, Sampling(0.0, -1.0)) == pytest.approx([1 / 4, 1 / 4, 1 / 2])


def test_oversampling_fills_rare_classes_up_to_a_share_of_the_commonest() -> None:
    weights = sampling_weights(PHOTOS, Sampling(-0.5, oversampling=0.5))
    assert weights.sum() == pytest.approx(1)
    # 30 photos of the one class, 10 of the other, which counts for 15.
    assert weights[PHOTOS.index(PHOTOS[35])] / weights[0] == pytest.approx(1.5)


def test_a_data_set_can_be_drawn_more_often() -> None:
    photos = [dataclasses.replace(PHOTOS[0], source=name) for name in ("a", "a", "b")]
    assert sampling_weights(photos, Sampling(source_draw={"b": 3.0})) == pytest.approx([0.2, 0.2, 0.6])
