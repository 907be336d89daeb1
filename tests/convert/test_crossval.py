"""Every fold converted, run out of fold, and paired with the float predictions; and none of it done twice."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convert import crossval
from convert.__main__ import main
from convert.crossval import OOF, Fold, _fired, _is_current, pooled_report
from convert.files import REPORT_KEYS
from convert.inputs import Photo, read_run
from convert.recipes import RECIPES, QatSettings, Request
from edge_runtime.contract import Decision, Rule
from tests.convert.synthetic_run import LABELS, write_manifest
from train.artifacts.files import sha256_of
from train.evaluation.intervals import share_of

CODES = tuple(label.code for label in LABELS)
# The float file predicts as Keras does; oof.csv is rounded to five digits.
SAME_ANSWER = 1e-3


def _photo(number: int, label: int, source: str = "a") -> Photo:
    return Photo(f"{source}{number}", Path("x"), label, f"l{number}", "test", "", "", "", source)


def _fold(number: int, photos: list[Photo], keras: list[int], converted: list[int]) -> Fold:
    certain = np.eye(3) * 0.7 + 0.1
    scores = {"keras": certain[keras], "converted": certain[converted]}
    fired = {
        side: {"refer": np.array([p.photo_id == referred for p in photos])}
        for side, referred in (("keras", "a0"), ("converted", "none"))
    }
    return Fold(number, CODES, tuple(photos), scores, fired, 1000 + number)


def test_figures_are_pooled_over_folds_and_paired() -> None:
    first = [_photo(i, i % 3) for i in range(6)]
    second = [_photo(i, i % 3) for i in range(6, 12)]
    folds = [
        _fold(0, first, [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 1]),
        _fold(1, second, [0, 1, 2, 0, 1, 0], [0, 1, 2, 0, 1, 2]),
    ]
    report = pooled_report(folds, "a")
    assert report["photos"] == 12 and report["folds"] == [0, 1] and report["bytes_by_fold"] == [1000, 1001]
    assert report["agreement"] == pytest.approx(10 / 12)
    assert report["agreement_by_fold"] == pytest.approx([5 / 6, 5 / 6])
    assert (report["right_to_wrong"], report["wrong_to_right"]) == (1, 1)
    assert report["mcnemar_p"] == 1.0
    assert report["balanced_accuracy_loss"] == pytest.approx(0)
    low, high = report["balanced_accuracy_loss_interval"]
    assert low < 0 < high
    assert report["refer_share"] == {"keras": pytest.approx(1 / 12), "converted": 0}
    assert "not_a_lesion_share" not in report and report["sources"] == {}


def test_subgroups_by_ground_truth_are_pooled() -> None:
    photos = [replace(_photo(i, i % 3), dx_type="histo" if i < 6 else "consensus") for i in range(9)]
    right, last_wrong = [i % 3 for i in range(9)], [*(i % 3 for i in range(8)), 0]
    report = pooled_report(
        [_fold(0, photos[:6], right[:6], right[:6]), _fold(1, photos[6:], right[6:], last_wrong[6:])], "a"
    )
    rows = report["subgroups"]["dx_type"]
    assert {value: row["photos"] for value, row in rows.items()} == {"consensus": 3, "histo": 6}
    assert rows["histo"]["converted_balanced_accuracy"] == 1.0
    assert rows["consensus"]["converted_balanced_accuracy"] == pytest.approx(2 / 3)


def test_intervals_of_agreement_are_of_lesions_over_all_folds() -> None:
    """Three photos of each lesion change their answer together."""
    photos = [replace(_photo(i, i // 3 % 3), group_id=f"lesion{i // 3}") for i in range(90)]
    right = [photo.label for photo in photos]
    changed = [0 if i // 3 % 4 == 0 else label for i, label in enumerate(right)]
    halves = (slice(None, 45), slice(45, None))
    folds = [_fold(k, photos[half], right[half], changed[half]) for k, half in enumerate(halves)]
    report = pooled_report(folds, "a")
    same = np.array(right) == np.array(changed)
    assert 0.6 < same.mean() < 0.9
    groups = [photo.group_id for photo in photos]
    assert report["agreement"] == same.mean()
    assert report["agreement_interval"] == list(share_of(same, groups).estimate() or ())[1:]
    assert report["lesions"] == 30


def test_each_data_set_has_its_own_figures() -> None:
    photos = [_photo(0, 0), _photo(1, 1), _photo(2, 2), _photo(0, 1, "phone"), _photo(1, 2, "phone")]
    report = pooled_report([_fold(0, photos, [0, 1, 2, 1, 2], [0, 1, 2, 1, 0])], "a")
    assert report["photos"] == 3 and report["agreement"] == 1
    assert list(report["sources"]) == ["phone"]
    phone = report["sources"]["phone"]
    assert phone["photos"] == 2 and phone["agreement"] == 0.5
    assert phone["balanced_accuracy_loss"] == pytest.approx(0.5)
    assert phone["converted"]["recall"]["ash"] is None


def test_many_answers_for_the_worse_are_significant() -> None:
    photos = [_photo(i, i % 3) for i in range(30)]
    right = [photo.label for photo in photos]
    report = pooled_report([_fold(0, photos, right, [0] * 30)], "a")
    assert report["right_to_wrong"] == 20 and report["mcnemar_p"] < 1e-4


def test_rules_fire_as_the_runtime_decides() -> None:
    from edge_runtime.result import measure

    scores = np.array([[0.4, 0.35, 0.25], [0.9, 0.05, 0.05], [0.5, 0.5, 0.0]])
    for name, threshold in (("top_score", 0.5), ("normalized_entropy", 0.7)):
        values = [measure(name, row) for row in scores.tolist()]
        expected = [v < threshold if name == "top_score" else v > threshold for v in values]
        assert _fired(Decision(Rule(name, threshold, "test"), None), scores)["refer"].tolist() == expected
        assert 0 < sum(expected) < 3


def test_a_rule_that_a_fold_lacks_has_no_share() -> None:
    photos = [_photo(i, i % 3) for i in range(3)]
    folds = [_fold(number, photos, [0, 1, 2], [0, 1, 2]) for number in range(2)]
    del folds[1].fired["converted"]["refer"]
    assert "refer_share" not in pooled_report(folds, "a")


def test_a_picture_of_no_lesion_is_not_referred_as_well() -> None:
    scores = np.array([[0.34, 0.33, 0.33], [0.5, 0.3, 0.2], [0.9, 0.05, 0.05]])
    refer, not_a_lesion = Rule("top_score", 0.6, "test"), Rule("top_score", 0.4, "test")
    fired = crossval._fired(Decision(refer, not_a_lesion), scores)
    assert {name: rows.tolist() for name, rows in fired.items()} == {
        "not_a_lesion": [True, False, False],
        "refer": [False, True, False],
    }
    assert crossval._fired(Decision(refer, None), scores)["refer"].tolist() == [True, True, False]
    assert crossval._fired(Decision(None, None), scores) == {}


def test_each_side_decides_by_its_own_contract_about_the_test_photos(
    run_without_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float model refers what scores below 0.9, its conversion what scores below 0.3."""
    run = read_run(run_without_model)
    strict, mild = (
        replace(run.contract, decision=Decision(Rule("top_score", threshold, "test"), None))
        for threshold in (0.9, 0.3)
    )
    recipe = RECIPES["int8_ptq"]
    run.work_folder.mkdir()
    (run.work_folder / f"{recipe.name}.tflite").write_bytes(b"bytes")
    monkeypatch.setattr(crossval, "_is_current", lambda *_: True)
    monkeypatch.setattr(crossval, "open_model", lambda _: SimpleNamespace(contract=mild))
    monkeypatch.setattr(
        crossval, "_converted_scores", lambda _, __, photos: np.tile([0.5, 0.3, 0.2], (len(photos), 1))
    )
    logits = ",".join(map(str, np.log([0.6, 0.3, 0.1])))
    rows = [f"{photo.photo_id},{logits}" for photo in run.photos]
    head = ",".join(["photo_id", *(f"logit_{code}" for code in CODES)])
    (run.folder.parent / OOF).write_text("\n".join([head, *rows]))
    fold = crossval._fold(replace(run, contract=strict), 3, Request(recipe))
    assert fold.photos == run.split("test") and len(fold.photos) == 12
    assert fold.scores["keras"] == pytest.approx(np.tile([0.6, 0.3, 0.1], (12, 1)))
    assert fold.fired["keras"]["refer"].all() and not fold.fired["converted"]["refer"].any()
    assert (fold.number, fold.codes, fold.model_bytes) == (3, CODES, 5)


@pytest.fixture
def folds(trained_run: Path, tmp_path: Path) -> Path:
    """Two folds of one model, the one's validation photos being the other's test photos, and the float logits."""
    from convert.export.float_model import Predictor
    from convert.export.keras_export import load_float_model
    from convert.pixels import read_pixels

    directory = tmp_path / "cross"
    rows: list[dict[str, Any]] = []
    for number in range(2):
        run = directory / f"fold{number}"
        shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("convert"))
        if number == 1:
            with (run / "manifest.csv").open(newline="") as stream:
                manifest = list(csv.DictReader(stream))
            swapped = {"val": "test", "test": "val", "train": "train"}
            write_manifest(run, [{**row, "split": swapped[row["split"]]} for row in manifest])
            # What training wrote down is of the photos that this fold holds out for the end.
            (run / "predictions_val.csv").unlink()
        opened = read_run(run)
        model = load_float_model(opened.model_path, opened.contract)
        photos = opened.split("test")
        probs = Predictor(model, opened.contract)(read_pixels(photos, opened.contract))
        rows += [
            {
                "photo_id": photo.photo_id,
                "fold": number,
                "label": CODES[photo.label],
                **{f"logit_{c}": f"{np.log(p):.5g}" for c, p in zip(CODES, row, strict=True)},
            }
            for photo, row in zip(photos, probs, strict=True)
        ]
    with (directory / "oof.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        # In another order than the manifest's: photos are matched by id.
        writer.writerows(reversed(rows))
    return directory


@pytest.mark.tf
def test_folds_are_converted_asked_and_pooled_once(folds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convert.export import conversion
    from convert.export import gate as check

    assert main([str(folds), "--recipe", "float32"]) == 0
    metrics = json.loads((folds / "metrics_float32.json").read_text(), parse_constant=pytest.fail)
    assert metrics["photos"] == 336 and metrics["folds"] == [0, 1]
    assert metrics["options"] == ["--recipe", "float32"]
    assert metrics["agreement"] == 1.0 and metrics["max_score_difference"] < SAME_ANSWER
    assert metrics["keras"]["balanced_accuracy"] > 0.6
    with (folds / "oof_float32.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["photo_id", "source", "fold", "label", "group_id", *(f"p_{c}" for c in CODES)]
    assert len({row["photo_id"] for row in rows}) == 336
    tested = {str(i): {p.photo_id for p in read_run(folds / f"fold{i}").split("test")} for i in range(2)}
    assert all(row["photo_id"] in tested[row["fold"]] for row in rows)
    hit = [max(CODES, key=lambda c: float(row[f"p_{c}"])) == row["label"] for row in rows]
    assert np.mean(hit) == pytest.approx(metrics["converted"]["accuracy"])

    def never(*_: object, **__: object) -> None:
        raise AssertionError("done before")

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "convert_run", never)
        patch.setattr(check, "run_model", never)
        assert main([str(folds), "--recipe", "float32"]) == 0
        assert json.loads((folds / "metrics_float32.json").read_text()) == metrics
    # A fold whose contract has changed is converted again.
    contract = folds / "fold1" / "contract.json"
    contract.write_text(contract.read_text().replace("Tests only.", "Tests, only."))
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "convert_run", never)
        with pytest.raises(AssertionError, match="done before"):
            main([str(folds), "--recipe", "float32"])
        assert main([str(folds), "--recipe", "float32", "--folds", "0"]) == 0
    assert json.loads((folds / "metrics_float32.json").read_text())["photos"] == 168


@pytest.mark.tf
def test_answers_of_other_photos_are_refused(folds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folds / "oof.csv").read_text().splitlines()
    (folds / "oof.csv").write_text("\n".join(lines[:-10]))
    assert main([str(folds), "--recipe", "float32"]) == 2
    error = capsys.readouterr().err
    assert "10 of 168 without logits" in error and "fold 0" in error
    assert not (folds / "metrics_float32.json").exists()


def test_a_folder_without_a_finished_fold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / "run.json").write_text('{"status": "training"}')
    assert main([str(tmp_path), "--recipe", "int8_ptq"]) == 2
    assert f"{tmp_path}: no finished fold" in capsys.readouterr().err


def test_options_of_one_file_are_refused_for_folds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (["--out", "m.tflite"], ["--keep-float", "auto"], ["--contract", "c.json"]):
        (tmp_path / "fold0").mkdir(exist_ok=True)
        (tmp_path / "fold0" / "run.json").write_text('{"status": "done"}')
        assert main([str(tmp_path), "--recipe", "int8_ptq", *option]) == 2
        assert option[0] in capsys.readouterr().err
    for option in ([], ["--out", "m.tflite", "--folds", "0"]):
        assert main([str(tmp_path / "fold0"), "--recipe", "int8_ptq", *option]) == 2
        assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_run_json_is_named(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / "run.json").write_bytes(content)
    assert main([str(tmp_path), "--recipe", "int8_ptq"]) == 2
    assert f"error: {tmp_path / 'fold0' / 'run.json'}: not " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"fold,label\n0,ash\n", "photo_id"),
        (b"photo_id,logit_ash\n\xff\xfe,1\n", "utf-8"),
        (b"photo_id,logit_ash,logit_brick,logit_cyan\nash_008,1,2\n", "12 of 12 without logits"),
        (b"photo_id,logit_ash,logit_brick,logit_cyan\nash_008,1,2,x\n", "x"),
    ],
)
def test_float_answers_that_are_none(
    content: bytes | None,
    words: str,
    run_without_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_without_model.rename(tmp_path / "fold0")
    if content is not None:
        (tmp_path / OOF).write_bytes(content)
    assert main([str(tmp_path), "--recipe", "float32"]) == 2
    said = capsys.readouterr().err
    assert words in said and str(tmp_path / OOF) in said


def test_a_fold_is_current_while_its_run_its_options_and_its_file_are_those_of_the_report(
    run_without_model: Path,
) -> None:
    run, recipe, settings = read_run(run_without_model), RECIPES["int8_qat"], QatSettings()
    out = run.work_folder / "int8_qat.tflite"
    out.parent.mkdir()
    out.write_bytes(b"converted")
    names = {"model_keras": "model.keras", "contract_json": "contract.json", "manifest_csv": "manifest.csv"}
    report: dict[str, Any] = {key: {} for key in REPORT_KEYS} | {
        "options": Request(recipe, settings, 5).options(),
        "model": {"sha256": sha256_of(out)},
        "run": {f"{name}_sha256": sha256_of(run.folder / file) for name, file in names.items()},
    }
    out.with_suffix(".json").write_text(json.dumps(report))

    def current(settings: QatSettings = settings, seed: int = 5) -> bool:
        return _is_current(run, out, Request(recipe, settings, seed))

    assert current()
    assert not current(seed=6)
    assert not current(replace(settings, soft_label_weight=0.0))
    out.write_bytes(b"another")
    assert not current()
    out.write_bytes(b"converted")
    for file in names.values():
        content = (run.folder / file).read_bytes()
        (run.folder / file).write_bytes(content + b" ")
        assert not current(), file
        (run.folder / file).write_bytes(content)
    assert current()
    out.unlink()
    assert not current()


@pytest.mark.parametrize("content", ["", "{}", '{"model": null}', "[1]"])
def test_a_damaged_report_of_a_fold_is_made_again(
    content: str, run_without_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_without_model / "convert" / "float32.tflite"
    out.parent.mkdir()
    out.write_bytes(b"x")
    out.with_suffix(".json").write_text(content)
    recipe = RECIPES["float32"]
    assert not _is_current(read_run(run_without_model), out, Request(recipe))
    assert "this fold is converted again" in capsys.readouterr().err
    # Nothing is left that the conversion would refuse to write over.
    assert not out.with_suffix(".json").exists()
