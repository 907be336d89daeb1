"""Answers out of fold: plain or packed, float or quantized, and everything that is none."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import RunInvalid
from train.artifacts.files import write_rows
from train.artifacts.labels import load_labels
from train.data.synthetic.dataset import draw_dataset
from train.evaluation.out_of_fold import read_answers, require_same_photos

CODES = ("bcc", "mel", "nv")


def write_answers(folder: Path, *, recipe: str = "", packed: bool = False, **changed: Any) -> Path:
    """Nine photos of nine lesions in three folds; photo i is of class i % 3 and answered rightly."""
    folder.mkdir(exist_ok=True)
    name = f"oof_{recipe}.csv" if recipe else "oof.csv"
    path = folder / (f"{name}.gz" if packed else name)
    with gzip.open(path, "wt", newline="") if packed else path.open("w", newline="") as stream:
        prefix = "p_" if recipe else "logit_"
        fields = ["photo_id", "source", "fold", "label", "group_id", *(f"{prefix}{code}" for code in CODES)]
        writer = csv.DictWriter(stream, [name for name in fields if name != changed.get("without")])
        writer.writeheader()
        for i in reversed(range(9)):
            scores = np.where(np.arange(3) == i % 3, 0.5, 0.25)
            row = {"photo_id": f"P{i}", "source": "clinic" if i < 6 else "phone", "fold": i % 3}
            row |= {"label": CODES[i % 3], "group_id": f"G{i}"}
            row |= {f"{prefix}{c}": s if recipe else np.log(s) for c, s in zip(CODES, scores, strict=True)}
            row |= changed.get(f"P{i}", {})
            writer.writerow({key: value for key, value in row.items() if key in writer.fieldnames})
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("recipe", ["", "int8_qat"])
def test_answers_come_back(tmp_path: Path, recipe: str, packed: bool) -> None:
    write_answers(tmp_path, recipe=recipe, packed=packed)
    answers = read_answers(tmp_path, recipe or "float")
    assert answers.codes == CODES
    assert answers.photo_ids == tuple(f"P{i}" for i in range(9))
    assert answers.source_names == ("clinic", "phone")
    assert answers.fold_numbers == (0, 1, 2)
    assert (answers.y_pred == answers.y_true).all()
    assert answers.probs[0] == pytest.approx([0.5, 0.25, 0.25])
    # The larger one first, whatever their names.
    assert answers.where(answers.folds > 0).source_names == ("clinic", "phone")
    assert answers.where(np.arange(9) > 3).source_names == ("phone", "clinic")
    phone = answers.of_source("phone")
    assert phone.photo_ids == ("P6", "P7", "P8")
    assert phone.groups == ("G6", "G7", "G8")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"without": "group_id"}, "group_id"),
        ({"P3": {"photo_id": "P4"}}, "P4"),
        ({"P3": {"label": "vasc"}}, "'vasc'"),
        ({"P3": {"logit_mel": "high"}}, "'high'"),
        ({"P3": {"logit_mel": "nan"}}, "NaN or infinity"),
        ({"P3": {"fold": "x"}}, "'x'"),
    ],
)
def test_invalid_predictions(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    path = write_answers(tmp_path, **changed)
    with pytest.raises(RunInvalid) as caught:
        read_answers(tmp_path)
    assert caught.value.where == str(path)
    assert named in caught.value.problem + caught.value.found


def test_a_folder_without_answers_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunInvalid) as caught:
        read_answers(tmp_path)
    assert caught.value.fix == f"dermedge crossval CONFIG.toml --workdir {tmp_path}"
    write_answers(tmp_path)
    with pytest.raises(RunInvalid) as caught:
        read_answers(tmp_path, "int8_qat")
    assert caught.value.fix == f"dermedge convert {tmp_path} --recipe int8_qat"


def test_a_broken_archive(tmp_path: Path) -> None:
    path = write_answers(tmp_path, packed=True)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RunInvalid) as caught:
        read_answers(tmp_path)
    assert caught.value.where == str(path)


def test_fewer_folds_of_the_quantized_model(tmp_path: Path) -> None:
    write_answers(tmp_path)
    write_answers(tmp_path, recipe="int8_qat")
    whole, other = read_answers(tmp_path), read_answers(tmp_path, "int8_qat")
    some = other.where(other.folds < 2)
    assert require_same_photos(whole, some).photo_ids == some.photo_ids
    with pytest.raises(RunInvalid) as caught:
        require_same_photos(some, whole)
    assert caught.value.found.startswith("3 photos ")
    write_answers(tmp_path, recipe="other", P3={"label": "nv"})
    with pytest.raises(RunInvalid, match="other labels or folds"):
        require_same_photos(whole, read_answers(tmp_path, "other"))


def test_answers_of_other_folds_or_in_another_order_of_labels_are_no_pair(tmp_path: Path) -> None:
    """Each photo has been answered by both, yet not by networks of one fold, or not to one question."""
    write_answers(tmp_path)
    whole = read_answers(tmp_path)
    assert require_same_photos(whole, whole).photo_ids == whole.photo_ids
    write_answers(tmp_path, recipe="other", P3={"fold": 2})
    assert whole.folds[3] == 0
    turned = dataclasses.replace(whole, codes=("mel", "bcc", "nv"))
    for other in (read_answers(tmp_path, "other"), turned):
        for pair in ((whole, other), (other, whole)):
            with pytest.raises(RunInvalid, match="other labels or folds"):
                require_same_photos(*pair)


def test_scores_are_made_to_sum_to_one(tmp_path: Path) -> None:
    """Logits are known up to a constant; a quantized file's scores are steps of 1/256 that need not."""
    shifted = {f"logit_{code}": score for code, score in zip(CODES, np.log([4.0, 3.0, 1.0]), strict=True)}
    write_answers(tmp_path, P2=shifted)
    write_answers(tmp_path, recipe="int8_qat", P2={"p_bcc": 0.4, "p_mel": 0.3, "p_nv": 0.1})
    for model in ("float", "int8_qat"):
        probs = read_answers(tmp_path, model).probs
        assert probs[2] == pytest.approx([0.5, 0.375, 0.125])
        assert probs.sum(axis=1) == pytest.approx(np.ones(9))


def test_a_record_without_labels_finds_them_in_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_dataset(tmp_path / "HAM10000", photos=60, seed=1)
    with (tmp_path / "HAM10000" / "HAM10000_metadata.csv").open(encoding="utf-8") as stream:
        truth = {row["image_id"]: row["dx"] for row in csv.DictReader(stream)}
    record = tmp_path / "record"
    record.mkdir()
    (record / "crossval.json").write_text(json.dumps({"config": {"data": {"labels": "ham10000"}}}))
    scores = {f"logit_{code}": 0.0 for code in load_labels("ham10000").codes}
    rows = [
        {"photo_id": photo_id, "source": "HAM10000", "fold": 0, "group_id": photo_id, **scores}
        for photo_id in truth
    ]
    write_rows(record / "oof.csv", rows)
    monkeypatch.setenv("DERMEDGE_DATA", str(tmp_path))
    answers = read_answers(record)
    assert len(answers.photo_ids) == len(truth) > 50
    found = [answers.codes[i] for i in answers.y_true]
    assert found == [truth[photo_id] for photo_id in answers.photo_ids]
    monkeypatch.setenv("DERMEDGE_DATA", str(record))
    with pytest.raises(RunInvalid, match="labels not found"):
        read_answers(record)
