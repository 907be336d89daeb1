"""Training by PyTorch computes what TensorFlow's does: networks, losses, views, and a whole epoch on the same photos.

PyTorch has an environment of its own, which `make test-torch` installs from locks/torch.txt before it runs this file.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.train.generated_sets import draw_data_root
from tests.train.still_views import STILL
from tests.train.test_configs import smallest
from train.configs.loading import load_config, parse_config
from train.configs.schema import (
    DistillConfig,
    ImbalanceConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SplitConfig,
    StageConfig,
    StopConfig,
    TrainConfig,
)
from train.experiments.torch.handover import exchange, write_weights
from train.training.run import run_experiment

VARIABLE = "DERMEDGE_TORCH_PYTHON"
CHECKOUT = Path(__file__).parents[4]
CONFIG = CHECKOUT / "train/configs/phantom.toml"
# Side in pixels at which each predicts: odd ones pad unevenly.
NETWORKS = {
    "mobilenet_v2": 64,
    "efficientnet_lite0": 72,
    "efficientnet_lite1": 50,
    "small_cnn": 48,
    "resnet50": 64,
    "inception_v3": 95,
}
COMMAND = ("dermedge", "experiment", "torch")
CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

pytestmark = [
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no Python: run make test-torch"),
]


def by_torch(*arguments: str | Path, status: int = 0) -> str:
    """Runs a module where PyTorch is; returns what it said on stderr."""
    command = [os.environ[VARIABLE], "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == status, done.stderr[-2000:]
    return done.stderr


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of questions, and PyTorch's answers."""
    import tf_keras

    from train.networks.registry import build_model

    folder, rng = tmp_path_factory.mktemp("answers"), np.random.default_rng(5)
    for name, size_px in NETWORKS.items():
        tf_keras.utils.set_random_seed(5)
        model = build_model(ModelConfig(backbone=name, weights="none", dropout=0.3), 7, None)
        # Statistics, scales and shifts that are neither 0 nor 1.
        model.set_weights(
            [w + rng.uniform(0.01, 0.2, w.shape) if w.ndim == 1 else w for w in model.get_weights()]
        )
        pixels = rng.standard_normal((2, size_px, size_px, 3)).astype(np.float32)
        write_weights(folder / f"{name}.start.npz", model.get_weights(), {"keras": model.to_json()})
        np.save(folder / f"{name}.pixels.npy", pixels)
        np.save(folder / f"{name}.expected.npy", np.asarray(model(pixels, training=False)))
    targets = rng.dirichlet(np.ones(7), 20).astype(np.float32)
    logits = rng.normal(0, 3, (20, 7)).astype(np.float32)
    np.savez(
        folder / "losses.npz",
        logits=logits,
        targets=targets,
        adjustment=rng.normal(0, 1, 7).astype(np.float32),
    )
    smooth = np.cumsum(np.cumsum(rng.normal(0, 1.2, (8, 64, 64, 3)), 1), 2)
    np.save(folder / "photos.npy", np.clip(128 + smooth, 0, 255).astype(np.uint8))
    by_torch("tests.train.torch_side", folder)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_as_in_keras(name: str, answers: Path) -> None:
    expected, found = (np.load(answers / f"{name}.{kind}.npy") for kind in ("expected", "logits"))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert expected.std() > 1e-3
    assert (answers / f"{name}.same").read_text() == "True"


@pytest.mark.parametrize("kind", ["softmax", "focal", "binary_focal"])
def test_a_loss_is_the_same(kind: str, answers: Path) -> None:
    from train.training.losses import photo_losses

    given = np.load(answers / "losses.npz")
    expected = photo_losses(given["logits"], given["targets"], LossConfig(kind=kind), given["adjustment"])
    np.testing.assert_allclose(np.load(answers / f"losses.{kind}.npy"), expected, rtol=1e-5, atol=1e-5)


def test_a_view_without_changes_is_the_photo(answers: Path) -> None:
    np.testing.assert_allclose(np.load(answers / "still.npy"), np.load(answers / "photos.npy"), atol=0.01)


def test_the_same_generator_gives_the_same_views(answers: Path) -> None:
    once, again, photos = (np.load(answers / f"{name}.npy") for name in ("every1", "every2", "photos"))
    np.testing.assert_array_equal(once, again)
    assert once.min() >= 0
    assert once.max() <= 255
    assert np.abs(once - photos).mean() > 5


def test_jpeg_is_what_an_encoder_makes(answers: Path) -> None:
    ours, pillows, photos = (
        np.load(answers / f"{name}.npy").astype(float) for name in ("jpeg", "jpeg.pillow", "photos")
    )
    # What is left between the two is how colour is spread over four pixels.
    assert np.abs(ours - pillows).mean() < 0.4 * np.abs(pillows - photos).mean()


def test_blur_cutout_and_mixup(answers: Path) -> None:
    np.testing.assert_allclose(np.load(answers / "flat.npy"), 90.0, atol=1e-3)
    assert np.load(answers / "hidden.npy").sum() == 4
    mixed = np.load(answers / "mixup.npz")
    np.testing.assert_allclose(mixed["soft"].sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(mixed["soft"] @ np.arange(8.0), mixed["pixels"], rtol=1e-5)
    assert (np.diag(mixed["soft"]) >= 0.5).all()
    assert (np.diag(mixed["soft"]) < 1).any()


# ---------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data_root(tmp_path_factory.mktemp("data"))


def config_without_chance(teacher: Path) -> TrainConfig:
    """Every switch whose outcome does not hang on random numbers."""
    config = load_config(CONFIG)
    stages = (
        StageConfig("head", "head", 3, 32, 0.01, batch=8),
        StageConfig("all", "all", 1, 32, 1e-4, frozen="block_2_", final_learning_rate=1e-5, batch=8),
    )
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, folder="HAM10000"),
        split=SplitConfig(folds=3, val_share=0.2),
        input=dataclasses.replace(config.input, size_px=32),
        model=ModelConfig(weights="none", alpha=0.35, batch_norm_momentum=0.9),
        imbalance=ImbalanceConfig(-0.5, -0.5, loss_exponent=-0.3, logit_adjustment=1.0),
        augment=STILL,
        optimizer=OptimizerConfig(weight_decay=0.05, average_decay=0.9),
        distill=DistillConfig(str(teacher), 0.4, 2.0),
        stop=StopConfig(keep="last"),
        stage=stages,
    )


@pytest.fixture(scope="module")
def teacher(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(2)
    with (data_root / "HAM10000/HAM10000_metadata.csv").open(newline="", encoding="utf-8") as stream:
        photo_ids = [row["image_id"] for row in csv.DictReader(stream)]
    lines = ["photo_id," + ",".join(f"p_{code}" for code in CODES)]
    lines += [f"{i}," + ",".join(f"{p:.5f}" for p in rng.dirichlet(np.ones(7))) for i in photo_ids]
    path = tmp_path_factory.mktemp("teacher") / "soft.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.fixture(scope="module")
def both(data_root: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The run directory of TensorFlow's training, and that of PyTorch's, not finished."""
    return learn_both(config_without_chance(teacher), tmp_path_factory.mktemp("runs"), data_root / "HAM10000")


def learn_both(config: TrainConfig, folder: Path, data: Path) -> tuple[Path, Path]:
    pixels = folder / "pixels"
    run_experiment(CONFIG, folder / "tf", data, config=config, pixels=pixels)
    run_experiment(CONFIG, folder / "torch", data, config=config, pixels=pixels, make=exchange)
    by_torch(
        *COMMAND,
        folder / "torch",
        "--data",
        data,
        "--pixels",
        pixels,
        "--device",
        "cpu",
    )
    return folder / "tf", folder / "torch"


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_an_epoch_trains_alike(both: tuple[Path, Path]) -> None:
    tensorflow, pytorch = (history(run) for run in both)
    assert [list(row) for row in tensorflow] == [list(row) for row in pytorch]
    for ours, theirs in zip(tensorflow, pytorch, strict=True):
        assert float(ours["learning_rate"]) == pytest.approx(float(theirs["learning_rate"]), rel=1e-5)
        # AdamW's first steps go by the signs of gradients, and behind batch norms many are rounding noise.
        tolerance = 1e-5 if ours["name"] == "head" else 0.03
        for key in ("train_loss", "val_loss"):
            assert float(ours[key]) == pytest.approx(float(theirs[key]), rel=tolerance)


def test_what_was_trained_elsewhere_is_finished_here(
    both: tuple[Path, Path], data_root: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(both[1], run)
    config = parse_config(json.loads((run / "config.json").read_text()), "config.json")
    metrics = run_experiment(
        CONFIG, run, data_root / "HAM10000", config=config, pixels=tmp_path / "pixels", make=exchange
    )
    state = json.loads((run / "run.json").read_text())
    assert state["status"] == "done"
    assert state["trained_elsewhere"]["device"] == "cpu"
    ours = json.loads((both[0] / "metrics.json").read_text())
    assert metrics["test"]["photos"] == ours["test"]["photos"]
    assert (run / "model.keras").is_file()


def test_a_run_can_be_evaluated_where_it_is_trained(
    both: tuple[Path, Path], data_root: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(both[1], run)
    (run / "trained.npz").unlink()
    by_torch(
        *COMMAND,
        run,
        "--data",
        data_root / "HAM10000",
        "--pixels",
        tmp_path / "pixels",
        "--device",
        "cpu",
        "--measure",
    )
    state = json.loads((run / "run.json").read_text())
    assert state["status"] == "done"
    assert "weights" in state["not_for_conversion"]
    assert json.loads((run / "metrics.json").read_text())["test"]["photos"] > 0


def test_the_config_for_a_gpu_runs_in_its_smallest_form(data_root: Path, tmp_path: Path) -> None:
    """Two data sets, outliers, mixup, frozen and free stages, and the prior of the first set: measured there."""
    path = CHECKOUT / "train/configs/ham10000_lite0_gpu.toml"
    run, data, pixels = tmp_path / "run", data_root / "HAM10000", tmp_path / "pixels"
    run_experiment(path, run, data, config=smallest(load_config(path)), pixels=pixels, make=exchange)
    by_torch(
        *COMMAND,
        run,
        "--data",
        data,
        "--pixels",
        pixels,
        "--device",
        "cpu",
        "--measure",
    )
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["test"]["sources"]) == {"PAD-UFES-20"}
    assert metrics["outliers"]["real"]["photos"] > 0
    assert len(history(run)) == len(load_config(path).stage)


def test_what_cannot_be_trained_is_refused(both: tuple[Path, Path], data_root: Path, tmp_path: Path) -> None:
    said = by_torch(*COMMAND, tmp_path, status=2)
    assert said.startswith("error: ")
    assert "run.json" in said
    run = tmp_path / "run"
    shutil.copytree(both[1], run)
    (run / "trained.npz").unlink()
    config = json.loads((run / "config.json").read_text())
    config["model"]["batch_norm_photos"] = 100
    (run / "config.json").write_text(json.dumps(config))
    said = by_torch(*COMMAND, run, "--data", data_root / "HAM10000", "--measure", status=2)
    assert "batch-norm statistics" in said
    assert not (run / "metrics.json").exists()
