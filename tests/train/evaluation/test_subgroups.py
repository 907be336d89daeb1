"""Figures of parts of the photos: against the figures of those photos alone, and what small parts must not say."""

from __future__ import annotations

import numpy as np
import pytest

from train.artifacts.manifest import Photo
from train.evaluation import metrics
from train.evaluation.subgroups import subgroup_columns, subgroup_tables
from train.evaluation.summary import summarize

CODES = ("akiec", "bkl", "mel", "nv")
MALIGNANT = (True, False, True, False)


def _answers(photos: int = 300) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(8)
    truth = rng.choice(4, size=photos, p=[0.1, 0.2, 0.2, 0.5])
    probs = metrics.softmax(rng.normal(size=(photos, 4)) + 1.5 * np.eye(4)[truth])
    return truth, probs, [f"lesion{i // 2}" for i in range(photos)]


def test_a_row_says_what_its_photos_alone_say() -> None:
    truth, probs, groups = _answers()
    sex = ["female" if i % 6 < 4 else "male" for i in range(len(truth))]
    rows = subgroup_tables(truth, probs, CODES, groups, MALIGNANT, {"sex": sex}, repeats=200)["sex"]
    assert [row.value for row in rows] == ["female", "male"]
    inside = np.array(sex) == "male"
    summary = summarize(
        truth[inside], probs[inside], CODES, np.array(groups)[inside].tolist(), MALIGNANT, repeats=200
    )
    male = rows[1]
    assert (male.photos, male.lesions) == (summary["photos"], summary["lesions"]) == (100, 50)
    assert male.malignant == np.isin(truth[inside], (0, 2)).sum()
    for name in ("balanced_accuracy", "accuracy", "malignant_auc"):
        estimate = getattr(male, name)
        assert estimate.value == pytest.approx(summary[name])
        interval = summary.get(f"{name}_interval") or summary["intervals"][name]
        assert [estimate.low, estimate.high] == pytest.approx(interval)


def test_absent_classes_are_named_and_do_not_count() -> None:
    truth, probs, groups = _answers()
    site = np.where(np.isin(truth, (1, 3)), "back", "face")
    rows = subgroup_tables(truth, probs, CODES, groups, MALIGNANT, {"site": site.tolist()}, repeats=50)
    back = next(row for row in rows["site"] if row.value == "back")
    assert back.absent == ("akiec", "mel")
    recall = metrics.recall_per_class(truth, probs.argmax(axis=1), 4)
    assert back.balanced_accuracy is not None
    assert back.balanced_accuracy.value == pytest.approx((recall[1] + recall[3]) / 2)
    # Nothing malignant stands against anything benign there.
    assert back.malignant_auc is None
    assert back.malignant == 0


def test_a_part_of_few_lesions_gets_counts_only() -> None:
    truth, probs, groups = _answers()
    # Nineteen lesions of two photos: enough photos, too few lesions.
    site = ["ear" if i < 38 else "back" for i in range(len(truth))]
    rows = subgroup_tables(truth, probs, CODES, groups, MALIGNANT, {"site": site}, repeats=50)["site"]
    ear = next(row for row in rows if row.value == "ear")
    assert (ear.photos, ear.lesions) == (38, 19)
    assert ear.balanced_accuracy is ear.accuracy is ear.malignant_auc is None
    site[38] = site[39] = "ear"
    rows = subgroup_tables(truth, probs, CODES, groups, MALIGNANT, {"site": site}, repeats=50)["site"]
    assert next(row for row in rows if row.value == "ear").accuracy is not None


def test_rows_stand_in_an_order_that_a_reader_expects() -> None:
    truth, probs, groups = _answers()
    ages = (["85"] * 100 + ["30"] * 50 + ["5"] * 50 + [""] * 100)[: len(truth)]
    photos = [Photo(str(i), f"{i}.jpg", "nv", str(i), age=age) for i, age in enumerate(ages)]
    columns = subgroup_columns(photos, ["here"] * len(photos))
    # Nothing is known of sex, site and diagnosis, and there is one data set.
    assert columns.keys() == {"age"}
    rows = subgroup_tables(truth, probs, CODES, groups, MALIGNANT, columns, repeats=20)["age"]
    assert [row.value for row in rows] == ["0-19", "20-39", "80 and over", "unknown"]
    assert subgroup_columns(photos, ["here", "there"] * (len(photos) // 2)).keys() == {"age", "source"}


def test_labels_without_a_malignant_group_have_no_such_figure() -> None:
    truth, probs, groups = _answers()
    rows = subgroup_tables(
        truth, probs, CODES, groups, (False,) * 4, {"sex": ["male"] * len(truth)}, repeats=20
    )["sex"]
    assert rows[0].malignant is None
    assert rows[0].malignant_auc is None
    assert rows[0].accuracy is not None
