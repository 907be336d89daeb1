"""Coarse levels are predicted by sums of scores, and their intervals are of lesions."""

from __future__ import annotations

import numpy as np
import pytest

from train.dossier.levels import level_result
from train.evaluation.intervals import balanced_accuracy_estimate, recalls, share_of
from train.evaluation.metrics import balanced_accuracy
from train.evaluation.out_of_fold import Answers
from train.taxonomy.tree import load_taxonomy

CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
MALIGNANT = [CODES.index(code) for code in ("akiec", "bcc", "mel")]
LESIONS, VIEWS, FOLDS = 63, 3, 3


@pytest.fixture
def answers() -> Answers:
    """Three photos of each lesion, scored alike and hardly better than at random."""
    rng = np.random.default_rng(11)
    lesion = np.repeat(np.arange(LESIONS), VIEWS)
    y_true = lesion % len(CODES)
    scores = rng.dirichlet(np.ones(len(CODES)), LESIONS) + 0.15 * np.eye(len(CODES))[np.arange(LESIONS) % 7]
    return Answers(
        model="float",
        codes=CODES,
        photo_ids=tuple(f"P{i:03d}" for i in range(len(lesion))),
        sources=("clinic",) * len(lesion),
        groups=tuple(f"L{i:02d}" for i in lesion),
        folds=lesion // len(CODES) % FOLDS,
        y_true=y_true,
        probs=(scores / scores.sum(axis=1, keepdims=True))[lesion],
        selection=(),
    )


def test_malignant_is_what_its_labels_say_together(answers: Answers) -> None:
    result = level_result(answers, load_taxonomy("nature2017"), 1)
    assert result.nodes == ("benign", "malignant") and result.absent == ("non_neoplastic",)
    truth = np.isin(answers.y_true, MALIGNANT).astype(int)
    summed = (answers.probs[:, MALIGNANT].sum(axis=1) > 0.5).astype(int)
    # The likeliest label alone would often say something else.
    assert (np.isin(answers.probs.argmax(axis=1), MALIGNANT) != summed).mean() > 0.1
    assert result.confusion == tuple(
        tuple(int(((truth == i) & (summed == j)).sum()) for j in range(2)) for i in range(2)
    )
    assert (result.photos, result.groups) == (LESIONS * VIEWS, LESIONS)
    assert result.accuracy.value == (truth == summed).mean()
    assert result.balanced_accuracy.value == pytest.approx(balanced_accuracy(truth, summed, 2))
    folds = [answers.folds == fold for fold in range(FOLDS)]
    assert result.by_fold == tuple(balanced_accuracy(truth[inside], summed[inside], 2) for inside in folds)
    assert result.spread == pytest.approx((np.mean(result.by_fold), np.std(result.by_fold, ddof=1)))


def test_intervals_are_of_lesions(answers: Answers) -> None:
    result = level_result(answers, load_taxonomy("nature2017"), 1)
    truth = np.isin(answers.y_true, MALIGNANT)
    right = truth == (answers.probs[:, MALIGNANT].sum(axis=1) > 0.5)
    assert result.accuracy == share_of(right, answers.groups).estimate()
    side = truth.astype(int)
    of_sides = recalls(side, np.where(right, side, 1 - side), 2, answers.groups)
    assert result.balanced_accuracy == balanced_accuracy_estimate(of_sides)
    alone = share_of(right, answers.photo_ids).estimate()
    assert alone is not None
    assert result.accuracy.high - result.accuracy.low > 1.3 * (alone.high - alone.low)


def test_nodes_without_a_photo_are_never_predicted(answers: Answers) -> None:
    """Of nine nodes five occur; without a mole and without skin cancer of the surface three."""
    taxonomy = load_taxonomy("nature2017")
    some = answers.where(np.isin(answers.y_true, [CODES.index(code) for code in ("bkl", "df", "mel")]))
    result = level_result(some, taxonomy, 2)
    assert len(level_result(answers, taxonomy, 2).nodes) == 5
    assert len(result.nodes) == len(result.confusion) == 3
    assert np.sum(result.confusion) == len(some.photo_ids)
    assert set(result.nodes) | set(result.absent) == set(taxonomy.level(2))
