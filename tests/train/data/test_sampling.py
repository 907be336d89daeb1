"""Imbalance: what is drawn, how often, and that it can be repeated."""

from __future__ import annotations

import numpy as np
import pytest

from train.configs.schema import ImbalanceConfig
from train.data.sampling import draw_epoch, epoch_length, loss_weights, photo_weights

LABELS = np.array([0] * 160 + [1] * 40)
LESIONS = [f"l{i // 4}" for i in range(160)] + [f"m{i}" for i in range(40)]


@pytest.mark.parametrize(("exponent", "rare_share"), [(0.0, 0.2), (-0.5, 1 / 3), (-1.0, 0.5)])
def test_class_exponent_sets_the_share_of_the_rare_class(exponent: float, rare_share: float) -> None:
    weights = photo_weights(LABELS, LESIONS, ImbalanceConfig(sampling_exponent=exponent))
    assert weights.sum() == pytest.approx(1)
    assert weights[LABELS == 1].sum() == pytest.approx(rare_share)
    drawn = draw_epoch(weights, (1, 2))
    assert len(drawn) == 200
    # Systematic sampling: the rare class comes floor or ceil of its expected 200 * rare_share times.
    assert abs((LABELS[drawn] == 1).sum() - 200 * rare_share) < 1


def test_lesion_exponent_draws_lesions_alike() -> None:
    weights = photo_weights(LABELS, LESIONS, ImbalanceConfig(sampling_exponent=0, lesion_exponent=-1))
    # 40 lesions of four photos and 40 of one: each lesion has the same chance.
    assert weights[LABELS == 0].sum() == pytest.approx(0.5)


def test_each_photo_is_drawn_its_expected_number_of_times_rounded() -> None:
    weights = photo_weights(LABELS, LESIONS, ImbalanceConfig(sampling_exponent=-1))
    times = np.bincount(draw_epoch(weights, (3,)), minlength=200)
    expected = weights * 200
    assert (np.abs(times - expected) < 1).all()


def test_an_epoch_is_a_function_of_its_seed() -> None:
    weights = photo_weights(LABELS, LESIONS, ImbalanceConfig())
    np.testing.assert_array_equal(draw_epoch(weights, (1, 0, 5)), draw_epoch(weights, (1, 0, 5)))
    assert (draw_epoch(weights, (1, 0, 5)) != draw_epoch(weights, (1, 0, 6))).any()


def test_loss_weights_have_mean_one_over_what_is_drawn() -> None:
    config = ImbalanceConfig(sampling_exponent=-0.5, loss_exponent=-0.5)
    drawn = photo_weights(LABELS, LESIONS, config)
    weights = loss_weights(LABELS, drawn, config.loss_exponent)
    assert (weights[LABELS] * drawn).sum() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(2)


def test_a_data_set_can_be_drawn_more_often() -> None:
    """160 and 40 photos of two classes; the last ten of each are another data set's."""
    further = np.array([i >= 150 for i in range(160)] + [i >= 30 for i in range(40)])
    config = ImbalanceConfig(sampling_exponent=-0.5)
    plain = photo_weights(LABELS, LESIONS, config)
    weights = photo_weights(LABELS, LESIONS, config, np.where(further, 3.0, 1.0))
    assert weights.sum() == pytest.approx(1)
    for label in (0, 1):
        ours, theirs = (label == LABELS) & ~further, (label == LABELS) & further
        # Within a class, a photo of the further data set comes three times as often as one of the first.
        assert weights[theirs][0] / weights[ours][0] == pytest.approx(3 * plain[theirs][0] / plain[ours][0])


@pytest.mark.parametrize(("share", "rare_photos"), [(1.0, 160), (0.5, 80)])
def test_oversampling_shows_every_photo_and_fills_rare_classes(share: float, rare_photos: int) -> None:
    config = ImbalanceConfig(oversampling=share, sampling_exponent=-0.9)
    assert epoch_length(LABELS, config) == 160 + rare_photos
    drawn = draw_epoch(photo_weights(LABELS, LESIONS, config), (1,), epoch_length(LABELS, config))
    times = np.bincount(drawn, minlength=200)
    assert (times[LABELS == 0] == 1).all()
    assert (times[LABELS == 1] == rare_photos // 40).all()


def test_oversampling_draws_a_further_data_set_as_often_as_it_says() -> None:
    further = np.array([i >= 120 for i in range(160)] + [i >= 30 for i in range(40)])
    weights = photo_weights(LABELS, LESIONS, ImbalanceConfig(oversampling=1.0), np.where(further, 2.5, 1.0))
    assert weights.sum() == pytest.approx(1)
    # Forty rare photos are shown four times as often as 160; a further data set's another 2.5 times.
    assert weights / weights[0] == pytest.approx(np.where(LABELS == 1, 4, 1) * np.where(further, 2.5, 1.0))


def test_an_epoch_shows_its_classes_mixed() -> None:
    """Not sorted by weight, as they are drawn: batches would be of one class, and the last ones decide."""
    weights = photo_weights(LABELS, LESIONS, ImbalanceConfig(sampling_exponent=-1.0))
    drawn = LABELS[draw_epoch(weights, (1, 2))]
    for quarter in np.split(drawn, 4):
        # 25 of 50 are expected, give or take 3.
        assert 12 < (quarter == 1).sum() < 38


def test_without_oversampling_an_epoch_is_as_long_as_the_data() -> None:
    assert epoch_length(LABELS, ImbalanceConfig()) == 200
