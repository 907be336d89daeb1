"""The mean of several trainings' weights with batch-norm statistics of its own, and what may not be averaged."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract import Normalization
from edge_runtime.errors import ConfigInvalid, RunInvalid, SplitLeaks
from tests.train.training_runs import PLAIN, rows_of
from train.configs.loading import load_config
from train.data.sources import NO_TEST, merged_labels
from train.data.synthetic.dataset import draw_dataset
from train.experiments.soup import average
from train.training.crossval import pool, run_crossval

pytestmark = pytest.mark.tf

FOLDS = 3
# So many that every class still stands in val when a fold's photos are taken from it.
PHOTOS = 300
TRAINED = (
    PLAIN.replace("folds = 4", f"folds = {FOLDS}\ncommon_val = true")
    .replace("epochs = 5", "epochs = 1")
    .replace("[split]", "[model]\nbatch_norm_photos = 0\n[split]")
    .replace('[outliers]\nfolder = "ordinary"\nper_batch = 2\n', "")
)
SHOWN = 60
SETTLED = TRAINED.replace("batch_norm_photos = 0", f"batch_norm_photos = {SHOWN}")
# Two convolutions, each with the four weights of its batch norm, then kernel and bias.
LAST_LAYER = ("10", "11")
NORMS = ("moving_mean", "moving_variance")
# float32 weights, summed in float64 and rounded once.
SAME_WEIGHT = 1e-6


def with_batch_norm(config: Any, classes: int, size_px: int | None, *, pretrained: bool = True) -> Any:
    """As train.networks.registry.build_model: two layers with a batch norm each."""
    import tf_keras
    from tf_keras import layers

    pixels = x = layers.Input((size_px, size_px, 3))
    for filters in (4, 8):
        x = layers.BatchNormalization()(layers.Conv2D(filters, 3, strides=2, use_bias=False)(x))
        x = layers.ReLU()(x)
    return tf_keras.Model(pixels, layers.Dense(classes, name="logits")(layers.GlobalAveragePooling2D()(x)))


def weights_of(run: Path) -> dict[str, np.ndarray]:
    """By place and name, because layers of a second model are numbered on."""
    import tf_keras

    model = tf_keras.models.load_model(run / "model.keras", compile=False)
    return {f"{i} {weight.name.split('/')[-1]}": weight.numpy() for i, weight in enumerate(model.weights)}


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All folds trained; yields their folder, the config that settles batch norms, and the data."""
    folder = tmp_path_factory.mktemp("soup")
    phantom = folder / "phantom"
    draw_dataset(phantom, photos=PHOTOS, seed=1)
    trained, settled = folder / "trained.toml", folder / "settled.toml"
    trained.write_text(TRAINED, encoding="utf-8")
    settled.write_text(SETTLED, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.networks.registry.build_model", with_batch_norm)
        run_crossval(trained, folder / "cv", phantom)
        yield folder / "cv", settled, phantom


@pytest.mark.slow
def test_a_soup_is_the_mean_of_its_runs_with_statistics_of_its_own(
    folds: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    cv, settled, data = folds
    runs = [cv / f"fold{fold}" for fold in range(FOLDS)]
    metrics = average(settled, runs, tmp_path / "soup", NO_TEST, data, batch_norm_photos=SHOWN)
    assert set(metrics) == {"val"}
    of_runs, soup = [weights_of(run) for run in runs], weights_of(tmp_path / "soup")
    for name, weight in soup.items():
        mean = np.mean([weights[name] for weights in of_runs], axis=0)
        if name.split(" ")[1].split(":")[0] in NORMS:
            assert np.abs(weight - mean).max() > 100 * SAME_WEIGHT
        else:
            np.testing.assert_allclose(weight, mean, atol=SAME_WEIGHT)
    state = json.loads((tmp_path / "soup" / "run.json").read_text())
    assert state["status"] == "done"
    run_ids = [json.loads((run / "run.json").read_text())["run_id"] for run in runs]
    assert state["mean_of"] == [f"{run_id} (test fold {fold})" for fold, run_id in enumerate(run_ids)]


@pytest.mark.slow
def test_a_prior_that_the_runs_took_out_is_not_taken_out_again(
    folds: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    cv, settled, data = folds
    config, run = tmp_path / "corrected.toml", tmp_path / "fold0"
    config.write_text(settled.read_text() + "[decision]\nprior_correction = 1.0\n", encoding="utf-8")
    shutil.copytree(cv / "fold0", run)
    (run / "config.json").write_text(json.dumps(load_config(config).to_dict()))
    average(config, [run], tmp_path / "soup", 0, data, batch_norm_photos=SHOWN)
    state = json.loads((tmp_path / "soup" / "run.json").read_text())
    assert state["prior_of_runs"] == {"prior_correction": 1.0, "prior_of": "all"}
    (biases, expected) = (
        [w for name, w in weights_of(of).items() if "bias" in name] for of in (tmp_path / "soup", run)
    )
    assert len(biases) == 1
    np.testing.assert_array_equal(biases, expected)


@pytest.mark.slow
def test_a_soup_keeps_the_teacher_for_its_conversion(folds: tuple[Path, Path, Path], tmp_path: Path) -> None:
    cv, settled, data = folds
    teacher, config = tmp_path / "taught.csv", tmp_path / "taught.toml"
    photos = [row["photo_id"] for row in rows_of(cv / "fold0" / "manifest.csv")]
    codes = merged_labels(load_config(settled)).codes
    answers = ["photo_id," + ",".join(f"p_{code}" for code in codes)]
    answers += [",".join([photo_id, "1", *"0" * (len(codes) - 1)]) for photo_id in photos]
    teacher.write_text("\n".join(answers), encoding="utf-8")
    config.write_text(f'{settled.read_text()}[distill]\nteacher = "{teacher}"\n', encoding="utf-8")
    average(config, [cv / "fold0"], tmp_path / "soup", 0, data, batch_norm_photos=SHOWN)
    copy = gzip.decompress((tmp_path / "soup" / "teacher.csv.gz").read_bytes())
    assert copy == teacher.read_bytes()


@pytest.mark.slow
def test_a_soup_of_one_run_is_that_fold_with_new_statistics(
    folds: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    cv, settled, data = folds
    for fold in range(FOLDS):
        average(settled, [cv / f"fold{fold}"], tmp_path / f"fold{fold}", fold, data, batch_norm_photos=SHOWN)
    parts = [
        {row["photo_id"]: row["split"] for row in rows_of(f / "fold1" / "manifest.csv")}
        for f in (cv, tmp_path)
    ]
    assert parts[0] == parts[1]
    # As if the recipe had settled them itself: the cross-validation finds them finished, and pools their answers.
    pooled = run_crossval(settled, tmp_path, data)
    assert pooled == pool(load_config(settled), tmp_path)
    assert pooled["folds"] == list(range(FOLDS))


@pytest.mark.slow
def test_what_a_run_was_trained_on_cannot_be_held_out(folds: tuple[Path, Path, Path], tmp_path: Path) -> None:
    cv, settled, data = folds
    with pytest.raises(SplitLeaks, match="fold1"):
        average(settled, [cv / "fold0", cv / "fold1"], tmp_path / "leaking", 0, data, batch_norm_photos=SHOWN)
    assert not (tmp_path / "leaking" / "metrics.json").exists()


@pytest.mark.slow
def test_a_file_whose_run_is_gone_gets_new_statistics(folds: tuple[Path, Path, Path], tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    cv, settled, data = folds
    model = tf_keras.models.load_model(cv / "fold0" / "model.keras", compile=False)
    file, record = tmp_path / "model.tflite", tmp_path / "record"
    file.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    record.mkdir()
    (record / "split.csv.gz").write_bytes(gzip.compress((cv / "fold0" / "manifest.csv").read_bytes()))
    out = tmp_path / "settled"
    metrics = average(settled, [file], out, 0, data, batch_norm_photos=SHOWN, trained_on=record)
    assert metrics["test"]["photos"] > 0
    (name,) = json.loads((out / "run.json").read_text())["mean_of"]
    assert name.startswith("model.tflite, sha256 ")
    for before, after in zip(weights_of(cv / "fold0").items(), weights_of(out).items(), strict=True):
        # The last layer has no batch norm behind it; all others are folded with theirs.
        alike = np.allclose(before[1], after[1], atol=SAME_WEIGHT)
        assert alike == (before[0].split(" ")[0] in LAST_LAYER), before[0]
    with pytest.raises(SplitLeaks):
        average(
            settled, [file], tmp_path / "leaking", 1, data, batch_norm_photos=SHOWN, trained_on=cv / "fold0"
        )
    for files, given in (([file], None), ([file, cv / "fold1"], record)):
        with pytest.raises(ConfigInvalid, match=r"\.tflite"):
            average(settled, files, tmp_path / "refused", 0, data, trained_on=given)
    assert not (tmp_path / "refused").exists()


def a_run(folder: Path, text: str, status: str = "done") -> Path:
    """A run directory with what tells its kind."""
    folder.mkdir()
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(load_config(path).to_dict()))
    (folder / "run.json").write_text(json.dumps({"status": status}))
    return folder


def test_what_cannot_be_averaged_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(TRAINED, encoding="utf-8")
    done = a_run(tmp_path / "done", TRAINED)
    half = a_run(tmp_path / "half", TRAINED, status="training")
    wider = a_run(tmp_path / "wider", TRAINED.replace("[model]", "[model]\nalpha = 0.5"))
    corrected = a_run(tmp_path / "corrected", TRAINED + "[decision]\nprior_correction = 1.0\n")
    for run, said in ((half, "half"), (wider, "wider"), (corrected, "corrected")):
        with pytest.raises(RunInvalid, match=said):
            average(config, [done, run], tmp_path / "out", NO_TEST)
    with pytest.raises(RunInvalid, match="done"):
        average(config, [done, done], tmp_path / "out", NO_TEST)
    with pytest.raises(RunInvalid, match="absent"):
        average(config, [tmp_path / "absent"], tmp_path / "out", NO_TEST)
    with pytest.raises(ConfigInvalid, match="1 photos"):
        average(config, [done], tmp_path / "out", NO_TEST, batch_norm_photos=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("outliers", [0, 40])
def test_settled_statistics_are_those_of_all_that_is_shown(outliers: int) -> None:
    import tf_keras

    from train.networks.batch_norm import BATCH, settle

    model = with_batch_norm(None, 3, 16)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.get_weights()])
    before = model.get_weights()
    # Darker and darker: the batches' own means differ, which belongs to the variance too.
    pixels_u8 = np.sort(rng.integers(0, 256, (2 * BATCH, 16, 16, 3), np.uint8), axis=0)
    beside = rng.integers(0, 64, (outliers, 16, 16, 3), np.uint8) if outliers else None
    settle(model, pixels_u8, Normalization(128.0, 128.0), beside, outlier_share=0.5)
    # Half a batch beside each of two batches: of 40 pictures the first ten are shown again.
    shown = pixels_u8 if beside is None else np.concatenate([pixels_u8, beside, beside[: BATCH - outliers]])
    first, norm = model.layers[1], model.layers[2]
    answers = first((shown.astype(np.float32) - 128) / 128).numpy()
    np.testing.assert_allclose(norm.moving_mean, answers.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, answers.var(axis=(0, 1, 2)), rtol=1e-2)
    assert norm.momentum == 0.99
    changed = [
        weight.name
        for weight, old in zip(model.weights, before, strict=True)
        if not np.array_equal(weight, old)
    ]
    assert len(changed) == 4
    assert all(name.split("/")[-1].split(":")[0] in NORMS for name in changed)
