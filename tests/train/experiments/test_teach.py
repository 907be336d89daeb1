"""Soft labels: the eight views, the file's bytes, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import RunInvalid
from train.configs.loading import parse_config
from train.data.sources import merged_labels
from train.experiments.networks import views_of
from train.experiments.teach import main, teach, write_soft_labels

STAGE = {"name": "all", "trains": "all", "epochs": 1, "size_px": 32, "learning_rate": 0.001}


def test_the_views_are_the_eight_symmetries_of_a_square() -> None:
    photo = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    views = list(views_of(photo, 8))
    assert len({view.tobytes() for view in views}) == 8
    np.testing.assert_array_equal(views[0], photo)
    # Turned and mirrored photo by photo: the second one stays the second.
    for view in views:
        assert {view[1, i, j, 0] for i in range(3) for j in range(3)} == set(photo[1, :, :, 0].ravel())
    assert [view.tobytes() for view in views_of(photo, 2)] == [view.tobytes() for view in views[:2]]


def test_equal_answers_give_equal_bytes(tmp_path: Path) -> None:
    answers = {"b": np.array([0.25, 0.75]), "a": np.array([1.0, 0.0])}
    write_soft_labels(tmp_path / "one.csv.gz", answers, ("x", "y"))
    write_soft_labels(tmp_path / "two.csv.gz", dict(reversed(answers.items())), ("x", "y"))
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()
    text = gzip.decompress((tmp_path / "one.csv.gz").read_bytes()).decode()
    assert text == "photo_id,p_x,p_y\na,1.0000,0.0000\nb,0.2500,0.7500\n"


def test_missing_folds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "crossval.json").write_text(json.dumps({"folds": [0, 2], "of": 5}))
    with pytest.raises(RunInvalid, match="2 of 5"):
        teach([tmp_path], None, 1)


def test_other_folders_and_other_endings_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "soft.csv.gz")]) == 2
    assert "no cross-validation" in capsys.readouterr().err
    assert main([str(tmp_path), "--out", str(tmp_path / "soft.csv")]) == 2
    assert "not gzipped" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_record_is_a_teacher_with_one_view(tmp_path: Path) -> None:
    for name, score in (("one", 0.9), ("two", 0.5)):
        folder = tmp_path / name
        folder.mkdir()
        data = {"reader": "ham10000", "folder": "photos", "labels": "ham10000"}
        config = {"name": name, "data": data, "stage": [STAGE]}
        state = {"name": name, "folds": [0, 1], "of": 2, "config": config}
        (folder / "crossval.json").write_text(json.dumps(state))
        codes = merged_labels(parse_config(config, name)).codes
        rest = np.log((1 - score) / (len(codes) - 1))
        head = ["photo_id", "source", "fold", "label", "group_id", *(f"logit_{code}" for code in codes)]
        rows = [
            [f"photo{i}", "phantom", str(i % 2), codes[i], f"lesion{i}"]
            + [str(np.log(score) if k == i else rest) for k in range(len(codes))]
            for i in range(3)
        ]
        (folder / "oof.csv").write_text("\n".join(",".join(row) for row in [head, *rows]) + "\n")
    answers, report = teach([tmp_path / "one", tmp_path / "two"], None, 8)
    assert sorted(answers) == ["photo0", "photo1", "photo2"]
    for i in range(3):
        assert answers[f"photo{i}"][i] == pytest.approx(0.7)
        assert answers[f"photo{i}"].sum() == pytest.approx(1)
    assert [row["views"] for row in report["cross_validations"]] == [1, 1]
