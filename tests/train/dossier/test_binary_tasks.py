"""The two binary tasks, and the dermatologists' table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import DataInvalid
from train.dossier.binary_tasks import data_set_of, evaluate_task, reader_claim, side_scores
from train.dossier.dermatologists import find_reader_points, load_questions, read_reader_tests
from train.evaluation.metrics import Estimate
from train.evaluation.out_of_fold import Answers
from train.taxonomy.tree import load_taxonomy

CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
LESIONS = 140
HEADER = "test,reader,sensitivity,specificity\n"
POINTS = {
    "melanoma_dermoscopy_111img_71mal_40ben__diagnosis(dermoscopy)": [(0.7, 0.9), (0.9, 0.6)],
    "melanoma_dermoscopy_111img_71mal_40ben__biopsy(dermoscopy_action)": [(0.0, 0.5)],
    "melanoma_clinical_46mal_93ben__diagnosis(x)": [(1.0, 1.0)],
    "carcinoma_clinical_135img_65mal_70ben__diagnosis(x)": [(0.8, 0.8)],
}


def write_points(path: Path, points: dict[str, list[tuple[float, float]]] = POINTS) -> Path:
    lines = [f"{test},r{i},{s},{p}" for test, found in points.items() for i, (s, p) in enumerate(found)]
    path.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_answers(*, skill: float, seed: int = 0, folds: int = 2) -> Answers:
    """Two photos of each lesion, twenty lesions of each class."""
    rng = np.random.default_rng(seed)
    y_true = np.repeat(np.arange(LESIONS) % len(CODES), 2)
    logits = rng.normal(size=(2 * LESIONS, len(CODES))) + skill * np.eye(len(CODES))[y_true]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Answers(
        model="float",
        codes=CODES,
        photo_ids=tuple(f"P{i}" for i in range(2 * LESIONS)),
        sources=("clinic",) * (2 * LESIONS),
        groups=tuple(f"L{i // 2}" for i in range(2 * LESIONS)),
        folds=np.repeat(np.arange(LESIONS) // len(CODES) % folds, 2),
        y_true=y_true,
        probs=probs,
        selection=(),
    )


def test_only_photos_of_the_two_sides_count() -> None:
    tree = load_taxonomy("nature2017")
    answers = make_answers(skill=3)
    inside, positive, score = side_scores(answers, tree, "malignant_epidermal", "benign_epidermal")
    chosen = [CODES[y] for y in answers.y_true[inside]]
    assert set(chosen) == {"akiec", "bcc", "bkl"}
    assert [code != "bkl" for code in chosen] == positive.tolist()
    p = answers.probs[inside]
    assert score == pytest.approx(p[:, :2].sum(axis=1) / p[:, :3].sum(axis=1), abs=0.02)


def test_two_scores_of_zero_are_a_half() -> None:
    answers = make_answers(skill=0)
    answers.probs[:] = np.eye(len(CODES))[CODES.index("df")]
    score = side_scores(answers, load_taxonomy("nature2017"), "melanoma", "nevus")[2]
    assert score == pytest.approx(np.full(len(score), 0.5))


def test_a_good_model_stands_above_the_readers(tmp_path: Path) -> None:
    tests = read_reader_tests(write_points(tmp_path / "points.csv"))
    name, questions, _ = load_questions()
    melanoma = next(question for question in questions if question.code == "melanoma")
    result = evaluate_task(make_answers(skill=4), load_taxonomy(name), melanoma, tests, repeats=50)
    assert result is not None
    assert result.photos_of == {"mel": 40, "nv": 40}
    dermoscopy, biopsy, clinical = result.against
    assert dermoscopy.test.mean == pytest.approx((0.8, 0.75))
    assert dermoscopy.above_mean.value > 0
    assert dermoscopy.share_under.value == 1
    assert biopsy.test.decision == "biopsy"
    assert clinical.share_under.value == 0
    assert [point.name.split(",")[0] for point in result.points] == [
        "the readers' mean sensitivity", "largest sum of both (Youden)", "sensitivity 0.95",
    ]  # fmt: skip


def test_a_guessing_model_does_not(tmp_path: Path) -> None:
    tests = read_reader_tests(write_points(tmp_path / "points.csv"))
    name, questions, _ = load_questions()
    result = evaluate_task(make_answers(skill=0), load_taxonomy(name), questions[0], tests, repeats=50)
    assert result is not None
    assert result.against[0].above_mean.high < 0
    assert result.against[0].share_under.value == 0


def test_a_task_needs_both_sides_and_two_folds() -> None:
    name, questions, _ = load_questions()
    tree = load_taxonomy(name)
    answers = make_answers(skill=1)
    assert evaluate_task(answers.where(answers.y_true != CODES.index("mel")), tree, questions[0], {}) is None
    one_fold = evaluate_task(make_answers(skill=1, folds=1), tree, questions[0], {}, repeats=20)
    assert one_fold is not None
    assert one_fold.points == ()
    with pytest.raises(DataInvalid) as caught:
        data_set_of(tree, ("x", "y"))
    assert tree.name in caught.value.where
    assert caught.value.found == "x, y"


def test_the_narrow_task_has_one_disease_on_its_positive_side() -> None:
    name, questions, _ = load_questions()
    carcinoma = questions[1]
    result = evaluate_task(make_answers(skill=2), load_taxonomy(name), carcinoma, {}, narrow=True, repeats=20)
    assert result is not None
    assert result.photos_of == {"bcc": 40, "bkl": 40}


@pytest.mark.parametrize(
    "row",
    [
        {"nevus_test__diagnosis(x)": [(0.5, 0.5)]},
        {"melanoma_clinical__opinion(x)": [(0.5, 0.5)]},
        {"melanoma_clinical__biopsy(x)": [(0.5, 1.5)]},
    ],
)
def test_rows_that_are_no_readers(tmp_path: Path, row: dict[str, list[tuple[float, float]]]) -> None:
    with pytest.raises(DataInvalid) as caught:
        read_reader_tests(write_points(tmp_path / "points.csv", row))
    assert caught.value.where == str(tmp_path / "points.csv")
    assert caught.value.found.startswith(next(iter(row)))


@pytest.mark.parametrize(
    ("differences", "side"),
    [
        ([(0.1, 0.05, 0.2), (0.2, 0.1, 0.3)], "above"),
        ([(-0.1, -0.2, -0.05), (-0.2, -0.3, -0.1)], "below"),
        ([(-0.080, -0.115, -0.037), (0.091, 0.067, 0.113)], ""),
        ([(0.1, -0.01, 0.2), (0.2, 0.1, 0.3)], ""),
        ([(0.091, 0.067, 0.113)], ""),
    ],
)
def test_nothing_is_claimed_that_histology_photos_and_all_photos_do_not_carry(
    differences: list[tuple[float, float, float]], side: str
) -> None:
    claim = reader_claim([Estimate(*difference) for difference in differences])
    assert claim.startswith("Nothing follows") is (side == "")
    assert side in claim


@pytest.mark.real_data
def test_on_histology_photos_the_curve_is_not_above_the_mean_reader(
    repository: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Melanoma against nevus: above the mean reader on all photos, below on those whose nevi were cut out."""
    from train.dossier.page import ALL_PHOTOS, HISTOLOGY_PHOTOS, read_dossier

    points = find_reader_points(data_root)
    if not points.is_file():
        pytest.skip("no readers' table beside the data sets; DERMEDGE_DATA names their folder")
    monkeypatch.setenv("DERMEDGE_DATA", str(data_root))
    found = read_dossier(repository / "train/records/ham10000_lite0_crossval", data_root)
    question, tests = load_questions()[1][0], read_reader_tests(points)
    compared = {}
    for photos, models in found.photo_sets.items():
        result = evaluate_task(models[0], found.taxonomy, question, tests)
        assert result is not None
        compared[photos] = result.against[0]
        if photos == HISTOLOGY_PHOTOS:
            assert round(result.curve.auc.value, 3) == 0.822
    histology, every = compared[HISTOLOGY_PHOTOS], compared[ALL_PHOTOS]
    assert list(compared) == [HISTOLOGY_PHOTOS, ALL_PHOTOS]
    assert histology.test.seen == (71, 40)
    assert histology.reached.value == pytest.approx(0.723, abs=0.001)
    assert histology.above_mean.value == pytest.approx(-0.080, abs=0.001) and every.above_mean.value > 0.09
    # The photos' own interval, and with the readers and the photos that they saw.
    assert histology.reached.high < histology.test.mean[0]
    assert histology.above_mean.low < -0.2 < 0 < histology.above_mean.high


@pytest.mark.real_data
def test_the_papers_mean_points() -> None:
    path = find_reader_points()
    if not path.is_file():
        pytest.skip("no readers' table beside the data sets; DERMEDGE_DATA names their folder")
    tests = read_reader_tests(path)
    assert len(tests) == 6
    dermoscopy = tests["melanoma_dermoscopy", "diagnosis"]
    assert len(dermoscopy.points) == 21
    assert [round(value, 3) for value in dermoscopy.mean] == [0.803, 0.768]
