"""All of `dermedge train` on a tiny synthetic data set: run directory, refusals, interruption, kill -9, resume."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import train
from edge_runtime.contract import ModelContract
from edge_runtime.errors import RunInvalid
from tests.train.training_runs import REPOSITORY, finish, rows_of, start
from train.experiments.record import record_run

pytestmark = [pytest.mark.tf, pytest.mark.slow]

# Two threads may add floats in another order after a resume; the drift over a few dozen steps stays below this.
SAME_METRIC = 1e-3
SAME_LOSS = 1e-4
# Of PLAIN's steps, eight an epoch: in the second epoch of the second stage, two after a checkpoint.
INTERRUPTED_STEP = 21

CONFIG = """
name = "tiny"
seed = 3
[data]
reader = "ham10000"
folder = "phantom"
labels = "ham10000"
[split]
folds = 4
val_share = 0.2
[input]
size_px = 32
[[stage]]
name = "head"
trains = "head"
epochs = 1
size_px = 32
batch = 8
learning_rate = 1e-2
[[stage]]
name = "network"
trains = "all"
epochs = 3
size_px = 32
batch = 8
learning_rate = 1e-3
[checkpoint]
every_steps = 2
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(config: Path, phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    status, output = finish("plain", config, run, phantom)
    assert status == 0, output
    assert "test: balanced accuracy" in output
    return run


def test_the_run_directory_is_complete(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "config.toml", "config.json", "run.json", "manifest.csv", "split.json", "contract.json", "model.keras",
        "history.csv", "tensorboard", "metrics.json", "predictions_val.csv", "predictions_test.csv",
        "checkpoints", "pixels",
    }  # fmt: skip
    assert list((finished / "tensorboard").iterdir())
    assert not [path for path in finished.rglob("*") if "partial" in path.name]
    state = json.loads((finished / "run.json").read_text())
    assert state["status"] == "done"
    contract = ModelContract.from_json((finished / "contract.json").read_text())
    assert contract.provenance.run_id == state["run_id"]
    assert contract.calibration.method == "temperature"
    assert contract.decision.refer is not None
    with (finished / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["stage"], row["epoch"]) for row in rows] == [("0", "0"), ("1", "0"), ("1", "1"), ("1", "2")]


def test_the_saved_model_gives_the_saved_predictions(finished: Path) -> None:
    import numpy as np
    import tf_keras

    from train.artifacts.labels import load_labels
    from train.artifacts.manifest import read_manifest
    from train.data.pixels import cached_pixels
    from train.evaluation.metrics import softmax
    from train.evaluation.predict import predict_logits

    contract = ModelContract.from_json((finished / "contract.json").read_text())
    state = json.loads((finished / "run.json").read_text())
    manifest, assignment, _ = read_manifest(
        finished / "manifest.csv", Path(state["data"]["root"]), state["data"]["name"], load_labels("ham10000")
    )
    ids = [photo.photo_id for photo in manifest.photos if assignment[photo.photo_id] == "test"]
    model = tf_keras.models.load_model(finished / "model.keras")
    pixels_u8 = cached_pixels(manifest, ids, contract, contract.input.height_px, finished / "pixels")
    probs = softmax(predict_logits(model, pixels_u8, contract.normalization))
    with (finished / "predictions_test.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["photo_id"] for row in rows] == ids
    saved = [[float(row[f"p_{code}"]) for code in manifest.labels.codes] for row in rows]
    np.testing.assert_allclose(probs, saved, atol=1e-4)


def test_an_interrupted_run_resumes_to_the_same_history(
    plain_run: Path, plain_config: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within an epoch: its first steps count, and so does the average of the weights before."""
    from train.training import inputs, loop

    run, steps = tmp_path / "run", iter(range(1000))

    def interrupted(*given: Any) -> float:
        if next(steps) == INTERRUPTED_STEP:
            raise KeyboardInterrupt
        return inputs.learning_rate(*given)

    monkeypatch.setattr(loop, "learning_rate", interrupted)
    status, output = finish("plain", plain_config, run, phantom)
    assert status == 130
    assert "resumes from the last checkpoint" in output
    monkeypatch.undo()
    status, output = finish("plain", plain_config, run, phantom)
    assert status == 0, output
    assert re.search(r"resuming at stage 1, epoch 1, step [1-9]", output)
    rows, expected = rows_of(run / "history.csv"), rows_of(plain_run / "history.csv")
    assert len(rows) == len(expected) == 6
    for row, wanted in zip(rows, expected, strict=True):
        for key in ("train_loss", "val_loss", "train_balanced_accuracy", "val_balanced_accuracy"):
            assert float(row[key]) == pytest.approx(float(wanted[key]), abs=SAME_LOSS)
    for name in ("predictions_val.csv", "predictions_test.csv"):
        assert len(rows_of(run / name)) == len(rows_of(plain_run / name))


@pytest.mark.long
def test_killed_runs_resume_to_the_same_metrics(
    finished: Path, config: Path, phantom: Path, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    kills = 0
    # Twice: in the first stage, and within an epoch of the second.
    for wanted in ("head 1/1", "network 2/3"):
        process = start("plain", config, run, phantom)
        assert process.stdout is not None
        seen = ""
        while wanted not in seen or "step" not in seen.rsplit(wanted, 1)[1]:
            chunk = process.stdout.read(64)
            assert chunk, f"the run ended before {wanted}:\n{seen}"
            seen += chunk
        time.sleep(0.7)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        process.stdout.close()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 1, "the run was over before it could be killed"
    status, output = finish("plain", config, run, phantom)
    assert status == 0, output
    assert "resuming at stage" in output
    expected = json.loads((finished / "metrics.json").read_text())
    reached = json.loads((run / "metrics.json").read_text())
    for split in ("val", "test"):
        assert reached[split]["balanced_accuracy"] == pytest.approx(
            expected[split]["balanced_accuracy"], abs=SAME_METRIC
        )
        assert reached[split]["confusion"] == expected[split]["confusion"]
    assert (run / "history.csv").read_text().count("\n") == (finished / "history.csv").read_text().count("\n")


def test_a_finished_run_is_not_trained_again(finished: Path, config: Path, phantom: Path) -> None:
    before = (finished / "model.keras").stat().st_mtime_ns
    status, output = finish("plain", config, finished, phantom)
    assert status == 0, output
    assert "this run is complete" in output
    assert (finished / "model.keras").stat().st_mtime_ns == before


def test_the_function_returns_the_metrics(finished: Path, config: Path, phantom: Path) -> None:
    metrics = train.run(str(config), str(finished), str(phantom))
    assert metrics == json.loads((finished / "metrics.json").read_text())
    with pytest.raises(RunInvalid) as caught:
        train.run(config, finished, phantom, test_split=False)
    assert "split" in caught.value.found


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, train; print(sorted({'numpy', 'pydantic', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_key_that_came_later_does_not_open_a_finished_run(
    finished: Path, config: Path, phantom: Path, tmp_path: Path
) -> None:
    run = tmp_path / "older"
    shutil.copytree(finished, run)
    stored = json.loads((run / "config.json").read_text())
    del stored["decision"]["prior_of"], stored["tiles"]
    (run / "config.json").write_text(json.dumps(stored))
    status, output = finish("plain", config, run, phantom)
    assert status == 0, output
    assert "this run is complete" in output


def test_another_config_is_refused(finished: Path, phantom: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(CONFIG.replace("seed = 3", "seed = 4"), encoding="utf-8")
    status, output = finish("plain", other, finished, phantom)
    assert status == 2
    assert str(finished) in output
    assert "seed" in output


def test_a_config_that_the_photos_refused_can_be_corrected(
    config: Path, phantom: Path, tmp_path: Path
) -> None:
    run, corrected = tmp_path / "run", tmp_path / "corrected.toml"
    corrected.write_text(CONFIG.replace("batch = 8", "batch = 512", 1), encoding="utf-8")
    status, output = finish("plain", corrected, run, phantom)
    assert status == 2
    assert "batch exceeds" in output
    corrected.write_text(CONFIG.replace("learning_rate = 1e-2", "learning_rate = 1e30", 1), encoding="utf-8")
    status, output = finish("plain", corrected, run, phantom)
    assert status == 2
    assert "training has diverged" in output
    assert not list((run / "checkpoints").glob("kept*"))


def test_a_damaged_checkpoint_costs_what_came_after_the_one_before(
    finished: Path, config: Path, phantom: Path, tmp_path: Path
) -> None:
    run = tmp_path / "damaged"
    shutil.copytree(finished, run)
    state = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**state, "status": "training"}))
    data = sorted((run / "checkpoints").glob("*.data-*"), key=lambda path: path.stat().st_mtime)
    assert len(data) == 2
    data[-1].write_bytes(data[-1].read_bytes()[:1000])
    status, output = finish("plain", config, run, phantom)
    assert status == 0, output
    assert "damaged checkpoint" in output and "resuming at stage" in output
    assert json.loads((run / "metrics.json").read_text()) == json.loads(
        (finished / "metrics.json").read_text()
    )
    for path in (run / "checkpoints").glob("*.data-*"):
        path.write_bytes(path.read_bytes()[:1000])
    (run / "run.json").write_text(json.dumps({**state, "status": "training"}))
    status, output = finish("plain", config, run, phantom)
    assert status == 2
    assert "damaged checkpoint" in output
    assert "to train from the start" in output


def test_a_moved_lesion_is_refused_on_resume(
    finished: Path, config: Path, phantom: Path, tmp_path: Path
) -> None:
    run = tmp_path / "moved"
    run.mkdir()
    for name in ("config.toml", "config.json"):
        shutil.copy(finished / name, run)
    state = json.loads((finished / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**state, "status": "training"}))
    with (finished / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    lesions = [row["lesion_id"] for row in rows]
    moved = next(row for row in rows if lesions.count(row["lesion_id"]) > 1 and row["split"] == "train")
    moved["split"] = "test"
    with (run / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    status, output = finish("plain", config, run, phantom)
    assert status == 2
    assert moved["lesion_id"] in output
    assert not (run / "model.keras").exists()


def test_another_decision_is_measured_without_training(finished: Path, phantom: Path, tmp_path: Path) -> None:
    run = tmp_path / "decided"
    shutil.copytree(finished, run)
    other = tmp_path / "other.toml"
    other.write_text(CONFIG + "[decision]\nprior_correction = 1.0\nrefer_share = 0.3\n", encoding="utf-8")
    status, output = finish("plain", other, run, phantom)
    assert status == 0, output
    assert "step/s" not in output
    assert (run / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    assert (run / "model.keras").read_bytes() != (finished / "model.keras").read_bytes()
    before = json.loads((finished / "contract.json").read_text())
    after = json.loads((run / "contract.json").read_text())
    assert "30%" in after["decision"]["refer"]["source"]
    assert before["provenance"] == after["provenance"]


def test_another_decision_of_a_run_without_its_weights_is_refused(
    finished: Path, phantom: Path, tmp_path: Path
) -> None:
    """Such as one that was trained elsewhere (train/experiments/torch/loop.py): it would be trained again."""
    run = tmp_path / "closed"
    shutil.copytree(finished, run)
    (run / "model.keras").unlink()
    state = json.loads((run / "run.json").read_text())
    left = {**state, "not_for_conversion": "its weights are elsewhere"}
    (run / "run.json").write_text(json.dumps(left))
    other = tmp_path / "other.toml"
    other.write_text(CONFIG + "[decision]\nrefer_share = 0.3\n", encoding="utf-8")
    status, output = finish("plain", other, run, phantom)
    assert status == 2, output
    assert "its weights are elsewhere" in output
    assert json.loads((run / "run.json").read_text()) == left
    assert (run / "metrics.json").read_bytes() == (finished / "metrics.json").read_bytes()


def test_the_record_of_a_run_is_small_and_holds_no_data(finished: Path, tmp_path: Path) -> None:
    record_run(finished, tmp_path / "record")
    record_run(finished, tmp_path / "again")
    names = sorted(path.name for path in (tmp_path / "record").iterdir())
    assert len(names) == 9
    for name in names:
        assert (tmp_path / "record" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    split = gzip.decompress((tmp_path / "record" / "split.csv.gz").read_bytes()).decode().splitlines()
    assert split[0] == "photo_id,group_id,split"
    assert len(split) == len((finished / "manifest.csv").read_text().splitlines())
    predictions = gzip.decompress((tmp_path / "record" / "predictions_test.csv.gz").read_bytes()).decode()
    assert predictions.startswith("photo_id,p_akiec,")
    assert "root" not in json.loads((tmp_path / "record" / "run.json").read_text())["data"]


def test_a_lost_prediction_is_missed(finished: Path, tmp_path: Path) -> None:
    """Only a run that measured no test part has a record without one."""
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("pixels", "checkpoints"))
    (run / "predictions_test.csv").unlink()
    with pytest.raises(RunInvalid, match=r"predictions_test\.csv"):
        record_run(run, tmp_path / "record")


def test_an_unfinished_run_has_no_record(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "training"}')
    with pytest.raises(RunInvalid):
        record_run(tmp_path, tmp_path / "record")
    assert not (tmp_path / "record").exists()
