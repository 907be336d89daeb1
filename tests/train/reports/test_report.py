"""The page of finished runs: its figures are those of the answers, it loads nothing, and bad input leaves no page."""

from __future__ import annotations

import base64
import csv
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.contract import Decision
from tests.train.finished_runs import (
    SECOND_SOURCE,
    change_json,
    change_to_another_trade,
    rule,
    write_crossval,
    write_run,
)
from tests.train.html_reader import Page
from tests.train.reports.conftest import PHOTOS
from train.artifacts import files
from train.artifacts.selection import KEY, OLD_VALIDATION, TITLE, mark
from train.artifacts.tables import read_rows
from train.data.synthetic.dataset import draw_dataset
from train.evaluation import metrics
from train.evaluation.results import read_finished
from train.evaluation.summary import summarize
from train.reports import report
from train.reports.html import NOTICE, THUMBNAIL_PX, distinct_names, signed

REPOSITORY = Path(__file__).parents[3]
SIZE = (THUMBNAIL_PX, THUMBNAIL_PX)


@pytest.fixture(scope="module")
def finished_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    write_run(run, data, temperature=0.5, decision=Decision(rule(0.7), rule(0.4)))
    return run


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(finished_run, tmp_path / "one"))


def make(*arguments: object) -> tuple[int, Page | None]:
    """Exit status of the command, and the page that --out names, if it exists."""
    given = list(map(str, arguments))
    status = report.main(given)
    out = Path(given[given.index("--out") + 1]) if "--out" in given else Path(given[0]) / "report.html"
    return status, Page.of(out) if out.is_file() else None


def whole(*arguments: object) -> Page:
    status, read = make(*arguments)
    assert status == 0
    assert read is not None
    assert read.problems == []
    return read


# ------------------------------------------------------------------ one run


def test_the_page_of_a_run_tells_its_figures_with_intervals(run: Path) -> None:
    read = whole(run)
    found = read_finished(run)
    summary = summarize(found.y_true, found.probs, found.codes, found.groups, found.malignant)
    assert summary["photos"] == len(read_rows(run / "predictions_test.csv", ("photo_id",))) > 20
    for name in ("balanced_accuracy", "accuracy", "malignant_auc", "expected_calibration_error"):
        interval = summary.get(f"{name}_interval") or summary["intervals"][name]
        assert f"{summary[name]:.3f} {interval[0]:.3f} to {interval[1]:.3f}" in read.text, name
    for code in found.codes:
        recall = summary["per_class"][code]["recall"]
        low, high = summary["intervals"]["per_class"][code]["recall"]
        assert f"{code} {recall:.3f} {low:.3f} to {high:.3f}" in read.text
    assert f"{summary['photos']} photos of {summary['lesions']} lesions" in read.text
    assert NOTICE in read.text
    assert "CC BY-NC 4.0" in read.text
    for heading in ("Confusion", "ROC", "Calibration", "Learning curves", "By sex", "By age", "By site"):
        assert heading in read.text
    # Curves, ROC and precision of each class, malignant ROC, reliability and its histogram.
    assert read.tags["svg"] == 2 + 2 * len(found.codes) + 3


def test_a_run_of_another_trade_shows_no_lesions(run: Path, tmp_path: Path) -> None:
    change_to_another_trade(run)
    second = Path(shutil.copytree(run, tmp_path / "two"))
    for folders in ([run], [run, second]):
        read = whole(*folders, "--no-photos", "--out", tmp_path / "page.html")
        said = re.sub("not_a_lesion|lesion_exponent", "", read.text)
        assert not re.search("lesion|malignant", said, re.IGNORECASE)
        assert "groups" in said


def test_scores_are_those_of_a_device(run: Path) -> None:
    found = read_finished(run)
    rows = read_rows(run / "predictions_test.csv", ("photo_id", "label"))
    plain = np.array([[float(row[f"p_{code}"]) for code in found.codes] for row in rows])
    np.testing.assert_allclose(found.plain_probs, plain, rtol=1e-4)
    sharper = plain**2 / (plain**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probs, sharper, rtol=1e-4)
    top = found.probs.max(axis=1)
    expected = np.where(top < 0.4, "not_a_lesion", np.where(top < 0.7, "refer", "answer"))
    assert list(found.decisions) == expected.tolist()
    assert set(found.decisions) == {"answer", "refer", "not_a_lesion"}
    read = whole(run)
    for name, decision in (
        ("predicted", "answer"),
        ("referred", "refer"),
        ("rejected", "not_a_lesion"),
    ):
        photos = list(found.decisions).count(decision)
        assert re.search(rf"{name} {photos} \d+ {photos / len(top):.3f}", read.text), name


def test_a_run_without_rules_says_so(data: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "plain", data)
    assert "no decision rules" in whole(tmp_path / "plain").text


def test_the_worst_mistakes_come_first_one_of_each_lesion(run: Path) -> None:
    read = whole(run)
    found = read_finished(run)
    wrong = np.flatnonzero(found.y_true != found.y_pred)
    assert len(wrong) >= 3
    order = wrong[np.argsort(-found.probs[wrong].max(axis=1))]
    seen: dict[str, str] = {}
    for i in order:
        seen.setdefault(found.groups[i], found.photos[i].photo_id)
    assert len(seen) < len(wrong)
    mistakes = read.text.split("Most confident errors")[1].split("Malignant lesions predicted benign")[0]
    assert re.findall(r"PHANTOM_\d+", mistakes) == list(seen.values())[:24]
    worst = found.photos[order[0]]
    assert f"{worst.label} predicted {found.codes[found.y_pred[order[0]]]}" in mistakes
    assert f"score {found.probs[order[0]].max():.3f}" in mistakes
    assert len(read.pictures) == read.tags["img"] >= len(seen)


def test_thumbnails_are_what_the_network_sees(run: Path, data: Path) -> None:
    read = whole(run)
    picture = Image.open(io.BytesIO(base64.b64decode(read.pictures[0].partition(",")[2])))
    assert picture.size == SIZE
    photo_id = re.findall(r"PHANTOM_\d+", read.text.split("Most confident errors")[1])[0]
    (path,) = data.glob(f"*/{photo_id}.jpg")
    whole_photo = Image.open(path)
    side = min(whole_photo.size)
    left, top = (whole_photo.width - side) // 2, (whole_photo.height - side) // 2
    square = whole_photo.crop((left, top, left + side, top + side)).resize(SIZE, Image.Resampling.BILINEAR)
    difference = np.abs(np.asarray(picture, float) - np.asarray(square, float))
    # JPEG of quality 82 against exact pixels; another crop or photo differs by tens.
    assert difference.mean() < 6


def test_without_photos_the_page_can_be_shared(run: Path) -> None:
    read = whole(run, "--no-photos")
    assert read.pictures == []
    assert "PHANTOM_" in read.text
    assert "data:image" not in (run / "report.html").read_text(encoding="utf-8")


def test_photos_that_moved_cost_thumbnails_only(run: Path, data: Path) -> None:
    change_json(run / "run.json", data={"name": "phantom", "root": str(run / "gone")})
    read = whole(run)
    assert read.pictures == []
    assert "not on this machine any more" in read.text
    assert whole(run, "--data", data).pictures


def test_a_photo_that_is_lost_or_damaged_is_a_grey_square(run: Path, data: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(data, tmp_path / "phantom"))
    shown = len(whole(run, "--data", moved).pictures)
    text = whole(run, "--data", moved).text
    first, second = dict.fromkeys(re.findall(r"PHANTOM_\d+", text.split("Most confident errors")[1])[:2])
    next(moved.glob(f"*/{first}.jpg")).unlink()
    next(moved.glob(f"*/{second}.jpg")).write_bytes(b"\xff\xd8\xff damaged")
    read = whole(run, "--data", moved)
    assert shown - len(read.pictures) == read.text.count("no photo ") >= 2
    assert "cannot be read any more" in read.text


def test_validation_photos_and_random_splits_are_marked(data: Path, run: Path, tmp_path: Path) -> None:
    assert TITLE not in whole(run).text
    assert mark(OLD_VALIDATION) in whole(run, "--split", "val").text
    files.write_json(run / "metrics.json", {"val": {KEY: ["the temperature"]}, "test": {KEY: ["the recipe"]}})
    assert mark(["the temperature"]) in whole(run, "--split", "val").text
    assert mark(["the recipe"]) in whole(run).text
    (run / "predictions_test.csv").unlink()
    assert mark(["the temperature"]) in whole(run).text
    write_run(tmp_path / "leaky", data, method="random")
    assert "leaky by design" in whole(tmp_path / "leaky").text


def test_pictures_without_a_lesion_are_told(run: Path) -> None:
    outliers = {"real": {"photos": 120, "not_a_lesion_share": 0.975}}
    files.write_json(run / "metrics.json", {"outliers": outliers})
    assert "real 120 0.975 0.929 to 0.991" in whole(run).text


def test_texts_of_the_data_cannot_become_markup(run: Path) -> None:
    path = run / "manifest.csv"
    path.write_text(path.read_text().replace(",back,", ",<script>alert(1)</script>,"), encoding="utf-8")
    read = whole(run)
    assert "<script>alert(1)</script>" in read.text
    assert read.tags["script"] == 0


# ------------------------------------------------------------------ cross-validations, several data sets


def test_a_cross_validation_counts_every_photo_with_its_folds_temperature(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cv"
    write_crossval(folder, data, temperatures=(0.5, 1.0, 2.0, 1.5), decision=Decision(rule(0.5), None))
    found = read_finished(folder)
    assert len(found.y_true) == len({photo.photo_id for photo in found.photos}) == PHOTOS
    plain = {}
    for fold in range(4):
        for row in read_rows(folder / f"fold{fold}" / "predictions_test.csv", ("photo_id",)):
            plain[row["photo_id"]] = [float(row[f"p_{code}"]) for code in found.codes]
    expected = np.array([plain[photo.photo_id] for photo in found.photos])
    np.testing.assert_allclose(found.plain_probs, expected, atol=2e-4)
    halves = np.array([row["fold"] == "0" for row in read_rows(folder / "oof.csv", ("fold",))])
    squared = expected[halves] ** 2
    np.testing.assert_allclose(found.probs[halves], squared / squared.sum(axis=1, keepdims=True), atol=2e-4)
    read = whole(folder)
    assert f"{PHOTOS} out-of-fold photos of 4 folds" in read.text
    assert "each of 4 folds" in read.text
    assert "Temperature 0.5, 1, 2, 1.5" in read.text
    of_fold = [
        metrics.balanced_accuracy(found.y_true[inside], found.y_pred[inside], len(found.codes))
        for inside in (np.array(found.folds) == f"fold {fold}" for fold in range(4))
    ]
    for fold, value in enumerate(of_fold):
        assert f"fold {fold} {value:.3f}" in read.text
    assert f"{np.mean(of_fold):.3f}, standard deviation {np.std(of_fold, ddof=1):.3f}" in read.text


def test_a_fold_that_is_gone_is_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_crossval(tmp_path / "cv", data, temperatures=(1.0, 1.0))
    shutil.rmtree(tmp_path / "cv" / "fold1")
    assert make(tmp_path / "cv") == (2, None)
    assert "no fold1" in capsys.readouterr().err


@pytest.fixture(scope="module")
def two_sources(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the phantom and on a smaller set beside it, whose ids differ."""
    clinic = data.parent / SECOND_SOURCE
    draw_dataset(clinic, photos=90, seed=9)
    table = clinic / "HAM10000_metadata.csv"
    table.write_text(table.read_text().replace("PHANTOM_", "CLINIC_"), encoding="utf-8")
    for photo in clinic.glob("*/*.jpg"):
        photo.rename(photo.with_name(photo.name.replace("PHANTOM_", "CLINIC_")))
    run = tmp_path_factory.mktemp("two") / "both"
    write_run(run, data, several=True)
    return run


def test_several_data_sets_are_never_pooled(two_sources: Path, tmp_path: Path) -> None:
    read = whole(two_sources, "--out", tmp_path / "first.html")
    found = read_finished(two_sources)
    assert found.source_names == ("phantom", SECOND_SOURCE)
    parts = {name: found.part(name) for name in found.source_names}
    assert sum(len(part.y_true) for part in parts.values()) == len(found.y_true)
    assert f"{len(parts['phantom'].y_true)} test photos of phantom" in read.text
    for name, part in parts.items():
        value = metrics.balanced_accuracy(part.y_true, part.y_pred, len(part.codes))
        assert f"{name} {value:.3f}" in read.text
    other = whole(two_sources, "--source", SECOND_SOURCE, "--out", tmp_path / "second.html")
    assert f"{len(parts[SECOND_SOURCE].y_true)} test photos of {SECOND_SOURCE}" in other.text
    assert "CLINIC_" in other.text.split("Most confident")[1]
    assert "PHANTOM_" not in other.text.split("Most confident")[1]
    assert other.pictures


def test_an_unknown_data_set_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(run, "--source", "clinique") == (2, None)
    assert "expected one of phantom" in capsys.readouterr().err


# ------------------------------------------------------------------ several runs


def test_runs_are_compared_as_pairs(run: Path, data: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "better", data, skill=4.0)
    write_run(tmp_path / "stranger", data, fold=1)
    status = report.main([str(run), str(tmp_path / "better"), str(tmp_path / "stranger")])
    assert status == 0
    read = Page.of(run / "comparison.html")
    assert read.problems == []
    first, second = read_finished(run), read_finished(tmp_path / "better")
    expected = metrics.paired_difference_interval(
        first.y_true, first.y_pred, second.y_pred, len(first.codes), first.groups
    )
    assert expected.value > 0.1
    told = f"{signed(expected.value)} {signed(expected.low)} to {signed(expected.high)}"
    wrong, wrong_after = first.y_pred != first.y_true, second.y_pred != second.y_true
    changed = f"{(wrong & ~wrong_after).sum()} {(~wrong & wrong_after).sum()}"
    assert f"{told} {changed}" in read.text
    paired = read.text.split("Paired with the first")[1]
    assert f"better {len(first.y_true)} {len(set(first.groups))}" in paired
    assert "stranger – – – – – – –" in paired
    assert read.tags["details"] == 2 * 3


def test_pairs_are_found_by_photo_not_by_row(run: Path, data: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "shuffled"))
    rows = read_rows(other / "predictions_test.csv", ("photo_id",))
    files.write_rows(other / "predictions_test.csv", rows[::-1][: len(rows) - 5])
    row = report.paired_row(read_finished(run), read_finished(other))
    assert row[0] == len(rows) - 5
    assert row[2] == row[3]
    assert row[5:7] == (0, 0)
    assert "cannot be distinguished" in str(row[7])


def test_a_photo_with_two_labels_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    rows = read_rows(other / "predictions_test.csv", ("photo_id",))
    rows[3]["label"] = "nv" if rows[3]["label"] != "nv" else "mel"
    files.write_rows(other / "predictions_test.csv", rows)
    assert report.main([str(run), str(other)]) == 2
    assert rows[3]["photo_id"] in capsys.readouterr().err
    assert not (run / "comparison.html").exists()


def test_runs_of_one_name_are_told_apart() -> None:
    runs = [Path("a/fold0"), Path("b/fold0"), Path("b/fold1")]
    assert distinct_names(runs) == ["a/fold0", "b/fold0", "b/fold1"]
    assert distinct_names(runs[1:]) == ["fold0", "fold1"]
    assert distinct_names([runs[0]] * 2) == ["fold0 (1)", "fold0 (2)"]


def test_a_run_is_not_compared_with_itself(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run), str(run / ".." / run.name)]) == 2
    assert "named twice" in capsys.readouterr().err


# ------------------------------------------------------------------ bad input


def _edit_row(column: str, value: str | None) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        path = run / "predictions_test.csv"
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows if value is None else rows[2:3]:
            if value is None:
                del row[column]
            else:
                row[column] = value
        files.write_rows(path, rows)

    return edit


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda run: shutil.rmtree(run), "not a finished run"),
    "no state": (lambda run: (run / "run.json").unlink(), "no run.json"),
    "unfinished": (lambda run: change_json(run / "run.json", status="training"), "the run is not finished"),
    "broken state": (lambda run: (run / "run.json").write_text("{"), "run.json: not JSON"),
    "no contract": (lambda run: (run / "contract.json").unlink(), "contract.json: cannot be read"),
    "broken contract": (lambda run: change_json(run / "contract.json", labels=None), "labels is missing"),
    "no config": (lambda run: (run / "config.json").unlink(), "config.json: cannot be read"),
    "no manifest": (lambda run: (run / "manifest.csv").unlink(), "manifest.csv: no such file"),
    "no answers": (
        lambda run: (run / "predictions_test.csv").write_text("photo_id,label\n"),
        "no predictions",
    ),
    "column lacking": (_edit_row("p_mel", None), "missing columns: p_mel"),
    "no number": (_edit_row("p_mel", "high"), "a score is not a number"),
    "not finite": (_edit_row("p_mel", "nan"), "not finite"),
    "no softmax": (_edit_row("p_mel", "1.9"), "do not sum to 1"),
    "unknown label": (_edit_row("label", "wart"), "'wart'"),
    "unknown photo": (_edit_row("photo_id", "ISIC_0"), "ISIC_0"),
    "binary": (lambda run: (run / "predictions_test.csv").write_bytes(b"\xff\xfe\x00"), "not a readable CSV"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_bad_input_is_explained_and_the_old_page_stays(
    kind: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = BROKEN[kind]
    damage(run)
    (tmp_path / "pages").mkdir()
    out = tmp_path / "pages" / "page.html"
    out.write_text("as it was", encoding="utf-8")
    assert report.main([str(run), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.out == ""
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    assert out.read_text(encoding="utf-8") == "as it was"


def test_a_place_that_cannot_be_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(run), "--out", str(tmp_path / "absent" / "page.html")]) == 2
    assert report.main([str(run), "--out", str(tmp_path)]) == 2
    assert report.main([str(run), "--data", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("error: ") == 3
    assert not (run / "report.html").exists()


def test_averaged_weights_have_no_history(run: Path) -> None:
    files.write_rows(run / "history.csv", [])
    assert make(run)[0] == 0
    assert "The run has no history." in Page.of(run / "report.html").text


def test_a_disk_that_fills_up_leaves_no_half_page(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Path, text: str, **_: object) -> int:
        self.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    before = sorted(path.name for path in run.iterdir())
    monkeypatch.setattr(Path, "write_text", full)
    assert report.main([str(run)]) == 2
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert said.startswith(f"error: {run / 'report.html'}: ")
    assert "No space left" in said
    assert sorted(path.name for path in run.iterdir()) == before


def test_usage_and_no_tensorflow() -> None:
    program = (
        "import sys; from train.reports import explore, report\n"
        "try: report.main([])\n"
        "except SystemExit as left: status = left.code\n"
        "print(status, sorted({'tensorflow', 'tf_keras', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "2 []"
