"""Rules come from the photos that may choose them; they fire as on the device; other photos are only counted."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.contract import MEASURES, Decision, Rule
from edge_runtime.errors import DataInvalid
from edge_runtime.result import NOT_A_LESION, decide, measure
from train.evaluation.decisions import fires, measured, not_a_lesion_rule

CLASSES = 7
# Repeats and photos by which a promised share is checked; its standard error is then below a tenth of the limit.
REPEATS, FRESH = 300, 2000


def scores(rng: np.random.Generator, count: int, sharpness: float) -> np.ndarray:
    """Probabilities [count, CLASSES]; the sharper, the more certain."""
    logits = rng.normal(0, sharpness, (count, CLASSES))
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", MEASURES)
def test_measures_and_rules_are_the_runtimes(name: str):
    rng = np.random.default_rng(0)
    probs = np.concatenate([scores(rng, 200, 2.0), np.eye(CLASSES), np.full((1, CLASSES), 1 / CLASSES)])
    values = measured(name, probs)
    # Sums in another order: a few units in the last place.
    assert values == pytest.approx([measure(name, row) for row in probs.tolist()], abs=1e-14)
    three = probs[:200, :3] / probs[:200, :3].sum(axis=1, keepdims=True)
    assert measured(name, three) == pytest.approx([measure(name, row) for row in three.tolist()], abs=1e-14)
    rule = Rule(name, round(float(np.median(values)), 4), "test")
    decided = [decide(Decision(None, rule), row)[0] == NOT_A_LESION for row in probs.tolist()]
    assert fires(rule, probs).tolist() == decided
    assert 0 < sum(decided) < len(decided)


@pytest.mark.parametrize("name", MEASURES)
def test_a_score_at_the_threshold_does_not_fire(name: str):
    probs = np.array([[0.5, 0.5, 0.0, 0.0]])
    rule = Rule(name, float(measured(name, probs)[0]), "test")
    assert not fires(rule, probs)[0]


def test_few_lesions_of_every_source_are_refused():
    rng = np.random.default_rng(1)
    lesions = np.concatenate([scores(rng, 2000, 5.0), scores(rng, 300, 3.0)])
    sources = ["near"] * 2000 + ["far"] * 300
    outliers = scores(rng, 200, 0.5)
    rule = not_a_lesion_rule(lesions, sources, outliers, lesion_limit=0.02)
    refused = fires(rule, lesions)
    # The less certain source is the one that holds the threshold back.
    assert refused[:2000].mean() < 0.01 < refused[2000:].mean() <= 0.02
    assert fires(rule, outliers).mean() > 0.8


@pytest.mark.parametrize("count", [60, 400])
def test_the_promise_holds_for_lesions_that_chose_nothing(count: int):
    # Chosen on some, counted on others. A threshold at the plain quantile would refuse about 1 / count more.
    limit, rng, shares = 0.05, np.random.default_rng(2), []
    outliers = scores(rng, 50, 0.5)
    for _ in range(REPEATS):
        rule = not_a_lesion_rule(scores(rng, count, 3.0), ["one"] * count, outliers, lesion_limit=limit)
        shares.append(fires(rule, scores(rng, FRESH, 3.0)).mean())
    assert 0.75 * limit * (1 - 1 / (limit * count)) < np.mean(shares) < 1.1 * limit


def test_as_many_are_refused_as_the_promise_allows():
    """Of 99 lesions four: a hundredth one is refused with probability (4 + 1) / (99 + 1), which is the limit."""
    top = np.linspace(0.4, 0.9, 99)
    lesions = np.column_stack([top, *[(1 - top) / (CLASSES - 1)] * (CLASSES - 1)])
    uniform = np.full((5, CLASSES), 1 / CLASSES)
    for limit, refused in ((0.05, 4), (0.0499, 3), (0.01, 0)):
        rule = not_a_lesion_rule(lesions, ["one"] * 99, uniform, lesion_limit=limit)
        assert fires(rule, lesions).sum() == refused, limit


def test_a_small_source_refuses_none_of_its_own():
    rng = np.random.default_rng(3)
    lesions = scores(rng, 12, 3.0)
    rule = not_a_lesion_rule(lesions, ["small"] * 12, scores(rng, 30, 0.5), lesion_limit=0.01)
    assert not fires(rule, lesions).any()
    assert fires(rule, scores(rng, 500, 0.5)).any()


def test_the_measure_that_refuses_more_is_taken():
    # Lesions: two classes share the score, the others have none. Outliers: one class stands out from many.
    lesions = np.tile([0.5, 0.5, 0, 0, 0, 0, 0], (50, 1))
    outliers = np.tile([0.52, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08], (20, 1))
    rule = not_a_lesion_rule(lesions, ["one"] * 50, outliers)
    assert rule.measure == "normalized_entropy"
    assert fires(rule, outliers).all()
    assert not fires(rule, lesions).any()
    # Here the entropies are alike, the top scores are not.
    flat = np.tile([0.3, 0.7 / 3, 0.7 / 3, 0.7 / 3, 0, 0, 0], (20, 1))
    certain = np.tile([0.55, *[0.45 / 6] * 6], (50, 1))
    assert not_a_lesion_rule(certain, ["one"] * 50, flat).measure == "top_score"


def test_every_kind_of_picture_counts_alike():
    # 90 drawn pictures that only the top score refuses, 10 real ones that only the entropy refuses.
    lesions = np.concatenate(
        [np.tile([0.5, 0.5, 0, 0, 0, 0, 0], (50, 1)), np.tile([0.6, *[0.4 / 6] * 6], (50, 1))]
    )
    drawn = np.tile([0.4, 0.3, 0.3, 0, 0, 0, 0], (90, 1))
    real = np.tile([0.52, *[0.08] * 6], (10, 1))
    sources = ["near"] * 100
    assert not_a_lesion_rule(lesions, sources, np.concatenate([drawn, real])).measure == "top_score"
    kinds = ["drawn"] * 90 + ["street"] * 5 + ["home"] * 5
    rule = not_a_lesion_rule(lesions, sources, np.concatenate([drawn, real]), outlier_sources=kinds)
    assert rule.measure == "normalized_entropy"


def test_lesions_that_answer_alike_for_all_classes_leave_a_rule_that_fires_never():
    uniform = np.full((30, CLASSES), 1 / CLASSES)
    rule = not_a_lesion_rule(uniform, ["one"] * 30, uniform)
    assert 0 <= rule.threshold <= 1
    assert not fires(rule, uniform).any()


def test_a_rule_says_which_photos_chose_it():
    rng = np.random.default_rng(5)
    sources = ["HAM10000"] * 200 + ["PAD-UFES-20"] * 100
    rule = not_a_lesion_rule(scores(rng, 300, 4.0), sources, scores(rng, 40, 0.5))
    assert "1% of 200 of HAM10000, 1% of 100 of PAD-UFES-20" in rule.source
    assert "% of the 40 OOD images" in rule.source
    assert rule.threshold == round(rule.threshold, 4)
    assert 0 <= rule.threshold <= 1


@pytest.mark.parametrize(("lesions", "outliers"), [(0, 5), (5, 0)])
def test_nothing_to_choose_by(lesions: int, outliers: int):
    rng = np.random.default_rng(6)
    with pytest.raises(DataInvalid) as caught:
        not_a_lesion_rule(scores(rng, lesions, 3.0), ["one"] * lesions, scores(rng, outliers, 1.0))
    assert caught.value.found.startswith(f"{lesions} lesions and {outliers} ")
