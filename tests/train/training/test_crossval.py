"""Cross-validation on two data sets: every photo is predicted once, by a model that was not trained on it."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigInvalid, RunInvalid
from tests.train.conftest import PHANTOM_PHOTOS
from tests.train.training_runs import PLAIN, finish_here, rows_of
from train.configs.loading import load_config
from train.evaluation.metrics import balanced_accuracy, softmax
from train.experiments import record
from train.training import crossval
from train.training.crossval import pool, run_crossval

FURTHER_PHOTOS = 50
# predictions_test.csv holds six digits, oof.csv five digits of logits of a few units.
ROUNDING = 1e-4

CONFIG = (
    PLAIN.replace("folds = 4", "folds = 2")
    .replace("epochs = 5", "epochs = 1")
    .replace("[split]", '[[source]]\nreader = "csv"\nfolder = "further"\n[split]')
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "two.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(config: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Fold 0 alone, then all folds by the full command: the directory and what either said."""
    folder = tmp_path_factory.mktemp("crossval") / "two"
    said = []
    for folds in (["--folds", "0"], []):
        command = [str(config), "--workdir", str(folder), "--data", str(phantom), *folds]
        status, output = finish_here("plain", crossval.main, *command)
        assert status == 0, output
        said.append(output)
    return folder, said[0], said[1]


@pytest.mark.tf
@pytest.mark.slow
def test_each_photo_is_predicted_once_by_a_model_not_trained_on_it(finished: tuple[Path, str, str]) -> None:
    folder, *_ = finished
    rows = rows_of(folder / "oof.csv")
    assert len(rows) == len({row["photo_id"] for row in rows}) == PHANTOM_PHOTOS + FURTHER_PHOTOS
    assert Counter(row["source"] for row in rows) == {"phantom": PHANTOM_PHOTOS, "further": FURTHER_PHOTOS}
    groups: dict[str, set[str]] = {}
    for fold in range(2):
        manifest = {row["photo_id"]: row for row in rows_of(folder / f"fold{fold}" / "manifest.csv")}
        answered = [row for row in rows if row["fold"] == str(fold)]
        assert {manifest[row["photo_id"]]["split"] for row in answered} == {"test"}
        assert sum(row["split"] == "test" for row in manifest.values()) == len(answered) > 60
        for row in answered:
            assert row["label"] == manifest[row["photo_id"]]["label"]
            assert row["group_id"] == manifest[row["photo_id"]]["group_id"]
            groups.setdefault(row["group_id"], set()).add(row["fold"])
    # No lesion is predicted by two models: one of them would have been trained on its other photos.
    assert {len(folds) for folds in groups.values()} == {1}


@pytest.mark.tf
@pytest.mark.slow
def test_the_record_holds_the_answers_without_the_labels(
    finished: tuple[Path, str, str], tmp_path: Path
) -> None:
    folder, out = finished[0], tmp_path / "record"
    assert record.main([str(folder), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"crossval.json", "metrics.json", "oof.csv.gz"}
    with gzip.open(out / "oof.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {column: text for column, text in row.items() if column != "label"}
        for row in rows_of(folder / "oof.csv")
    ]


@pytest.mark.tf
@pytest.mark.slow
def test_out_of_fold_logits_are_the_folds_calibrated_answers(finished: tuple[Path, str, str]) -> None:
    folder, *_ = finished
    codes = [key.removeprefix("logit_") for key in rows_of(folder / "oof.csv")[0] if key.startswith("logit_")]
    assert codes == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    oof = {row["photo_id"]: row for row in rows_of(folder / "oof.csv")}
    for fold in range(2):
        run = folder / f"fold{fold}"
        temperature = json.loads((run / "contract.json").read_text())["calibration"]["temperature"]
        assert temperature != 1.0
        answers = rows_of(run / "predictions_test.csv")
        assert len(answers) > 60
        logits = np.array(
            [[float(oof[row["photo_id"]][f"logit_{code}"]) for code in codes] for row in answers]
        )
        powers = np.array([[float(row[f"p_{code}"]) for code in codes] for row in answers]) ** (
            1 / temperature
        )
        np.testing.assert_allclose(softmax(logits), powers / powers.sum(axis=1, keepdims=True), atol=ROUNDING)


@pytest.mark.tf
@pytest.mark.slow
def test_pooled_figures_are_those_of_the_first_data_set(finished: tuple[Path, str, str]) -> None:
    folder, *_ = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["sources"]) == {"further"}
    for figures, source in ((metrics, "phantom"), (metrics["sources"]["further"], "further")):
        rows = [row for row in rows_of(folder / "oof.csv") if row["source"] == source]
        keys = [key for key in rows[0] if key.startswith("logit_")]
        answers = np.array([[float(row[key]) for key in keys] for row in rows]).argmax(axis=1)
        truth = np.array([keys.index(f"logit_{row['label']}") for row in rows])
        assert figures["photos"] == len(rows)
        assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy(truth, answers, len(keys)))
    per_fold = [
        json.loads((folder / f"fold{fold}" / "metrics.json").read_text())["test"]["balanced_accuracy"]
        for fold in range(2)
    ]
    assert metrics["balanced_accuracy_by_fold"] == per_fold
    assert metrics["balanced_accuracy_std"] == pytest.approx(np.std(per_fold, ddof=1))
    state = json.loads((folder / "crossval.json").read_text())
    assert state["folds"] == [0, 1]
    assert len(state["seconds_by_fold"]) == 2


@pytest.mark.tf
@pytest.mark.slow
def test_finished_folds_are_not_trained_again(finished: tuple[Path, str, str]) -> None:
    folder, first, second = finished
    assert "out of fold (1 folds)" in first
    assert "out of fold (2 folds)" in second
    assert f"{folder / 'fold0'}: this run is complete" in second
    assert "fold 1: balanced accuracy" in second
    # Training squares are those of all photos: both folds read the same file of the cache.
    assert first.count("pixels 37 px") > 0
    assert second.count("pixels 37 px") == 0


def test_a_fold_that_is_none_is_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        run_crossval(config, tmp_path / "out", folds=[0, 2])
    assert (caught.value.found, caught.value.expected) == ("2", "0 to 1")
    assert not (tmp_path / "out").exists()


def test_several_workers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace('strategy = "none"', 'strategy = "multi_worker"'), encoding="utf-8")
    with pytest.raises(ConfigInvalid) as caught:
        run_crossval(path, tmp_path / "out")
    assert "multi_worker" in caught.value.found


def test_nothing_is_pooled_before_a_fold_is_finished(config: Path, tmp_path: Path) -> None:
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / "run.json").write_text('{"status": "training"}')
    with pytest.raises(RunInvalid, match=re.escape(str(tmp_path))):
        pool(load_config(config), tmp_path)
    assert not (tmp_path / "oof.csv").exists()


def test_the_seconds_of_an_interrupted_fold_are_kept(
    config: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(config_path: Path, run: Path, *_: object, **__: object) -> None:
        run.mkdir(exist_ok=True)
        (run / "run.json").write_text('{"status": "training", "seconds": 2.0}')
        raise KeyboardInterrupt

    monkeypatch.setattr(crossval, "run_experiment", interrupted)
    monkeypatch.setattr(crossval.time, "monotonic", iter([10.0, 15.0]).__next__)
    with pytest.raises(KeyboardInterrupt):
        run_crossval(config, tmp_path / "out", phantom, folds=[0])
    assert json.loads((tmp_path / "out/fold0/run.json").read_text())["seconds"] == 7.0
