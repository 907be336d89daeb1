"""A teacher's soft labels: what is refused, which copy counts, and that the loss and the whole training heed them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract import Label, Normalization
from edge_runtime.errors import ConfigInvalid
from tests.train.training_runs import PLAIN, finish, rows_of
from train.artifacts.labels import LabelSet
from train.artifacts.manifest import Manifest, Photo
from train.configs.loading import load_config
from train.configs.schema import DistillConfig, LossConfig
from train.experiments.record import record_run
from train.training.distillation import COPY_NAME, read_soft_labels

CODES = ("a", "b", "c")
ROWS = np.array([0, 1, 3], np.int64)
# Of the photos 0, 1 and 3; photo 2 is not trained on.
PROBS = ((0.7, 0.2, 0.1), (0.1, 0.1, 0.8), (0.25, 0.25, 0.5))


def manifest() -> Manifest:
    labels = tuple(Label(code, code, "benign") for code in CODES)
    photos = tuple(Photo(f"p{i}", f"p{i}.jpg", "a", f"l{i}") for i in range(4))
    return Manifest("four", Path(), LabelSet("three", "none", "none", "tests", labels), photos)


def teacher_text(
    probs: Any = PROBS, ids: tuple[str, ...] = ("p0", "p1", "p3"), codes: tuple[str, ...] = CODES
) -> str:
    rows = [",".join([i, *map(str, row)]) for i, row in zip(ids, probs, strict=True)]
    return "\n".join([",".join(["photo_id", *(f"p_{code}" for code in codes)]), *rows]) + "\n"


def write(folder: Path, text: str, name: str = "teacher.csv") -> DistillConfig:
    path = folder / name
    content = text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return DistillConfig(teacher=str(path))


def kept(config: DistillConfig, run: Path) -> Any:
    return read_soft_labels(config, run, manifest(), ROWS)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


# -------------------------------------------------------------------- reading


@pytest.mark.parametrize("name", ["teacher.csv", "teacher.csv.gz"])
def test_photos_get_their_answers_by_id(run: Path, tmp_path: Path, name: str) -> None:
    # In another order, and with an answer for a photo that is not of this data.
    text = teacher_text(probs=(PROBS[2], (0, 0, 1), PROBS[0], PROBS[1]), ids=("p3", "other", "p0", "p1"))
    probs = kept(write(tmp_path, text, name), run)
    assert probs is not None
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs[ROWS], PROBS, rtol=1e-6)
    # Photo 2 is never shown; it says nothing.
    np.testing.assert_allclose(probs[2], 1 / 3, rtol=1e-6)


def test_no_teacher_no_labels(run: Path) -> None:
    assert kept(DistillConfig(), run) is None
    assert list(run.iterdir()) == []


def test_rounded_rows_are_made_to_sum_to_one(run: Path, tmp_path: Path) -> None:
    rounded = ((0.7, 0.2, 0.095), *PROBS[1:])
    probs = kept(write(tmp_path, teacher_text(rounded)), run)
    assert probs is not None
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-6)


def test_a_resumed_run_keeps_the_teacher_it_began_with(run: Path, tmp_path: Path) -> None:
    config = write(tmp_path, teacher_text())
    first = kept(config, run)
    write(tmp_path, teacher_text(probs=PROBS[::-1]))
    np.testing.assert_array_equal(kept(config, run), first)
    Path(config.teacher).unlink()
    np.testing.assert_array_equal(kept(config, run), first)
    assert [path.name for path in run.iterdir()] == [COPY_NAME]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (teacher_text(probs=PROBS[:2], ids=("p0", "p1")), "1 training photos without soft labels (p3)"),
        (teacher_text(codes=("a", "b", "z")), "p_c"),
        (teacher_text(probs=((7.0, 2.0, 1.0), *PROBS[1:])), "sums of 1 to 10"),
        (teacher_text(probs=((1.2, -0.1, -0.1), *PROBS[1:])), "probabilities from -0.1"),
        (teacher_text(probs=(), ids=()), "3 training photos without soft labels"),
    ],
)
def test_what_does_not_fit_is_refused(run: Path, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        kept(write(tmp_path, text), run)
    assert said in caught.value.message
    # Another try with a corrected file reads that one.
    assert list(run.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"photo_id,p_a\n", gzip.compress(b"\xff\xfe", mtime=0), gzip.compress(b"a", mtime=0)[:-4]],
    ids=["plain", "not utf-8", "cut"],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(run: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "soft.csv.gz").write_bytes(content)
    with pytest.raises(ConfigInvalid):
        kept(DistillConfig(teacher=str(tmp_path / "soft.csv.gz")), run)
    assert list(run.iterdir()) == []


def test_a_teacher_that_is_not_there_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"absent\.csv"):
        kept(DistillConfig(teacher=str(tmp_path / "absent.csv")), run)
    assert list(run.iterdir()) == []


# -------------------------------------------------------------------- in the loss


@pytest.mark.tf
@pytest.mark.parametrize(("share", "temperature"), [(0.0, 1.0), (0.3, 1.0), (0.3, 2.0), (1.0, 1.0)])
def test_the_teacher_and_the_outliers_are_in_the_loss(
    tmp_path: Path, share: float, temperature: float
) -> None:
    """One step of a network whose logits are known, against the sums by hand."""
    import dataclasses

    import tensorflow as tf
    import tf_keras

    from train.training.inputs import Photos, TrainingData
    from train.training.loop import Trainer
    from train.training.pipeline import Batch

    path = tmp_path / "config.toml"
    path.write_text(PLAIN.replace("batch = 8", "batch = 2"), encoding="utf-8")
    config = dataclasses.replace(
        load_config(path),
        loss=LossConfig(label_smoothing=0.0),
        distill=DistillConfig(teacher="given", share=share, temperature=temperature),
    )
    none = np.zeros((0, 4, 4, 3), np.uint8)
    photos = Photos(none, np.zeros(0, np.int64), 3, None, none, outliers_per_batch=1)
    data = TrainingData(
        rows=ROWS,
        drawn=np.full(3, 1 / 3),
        epoch_photos=3,
        prior=np.full(3, 1 / 3),
        loss_weights=np.ones(3),
        photos_by_stage=[photos, photos],
        val_labels=np.zeros(0, np.int64),
        val_by_stage=[],
    )
    pixels = tf_keras.Input((4, 4, 3))
    pooled = tf_keras.layers.GlobalAveragePooling2D()(pixels)
    model = tf_keras.Model(pixels, tf_keras.layers.Dense(3)(pooled))
    logits = np.array([1.0, 0.5, -2.0])
    model.layers[-1].set_weights([np.zeros((3, 3)), logits])
    targets = np.array([[1, 0, 0], [0, 0, 1], [1 / 3] * 3], np.float32)
    teacher = np.array([[0.6, 0.4, 0], [0, 0.1, 0.9], [1 / 3] * 3], np.float32)
    trainer = Trainer(model, config, data, Normalization(0.0, 1.0), tmp_path)
    trainer.compile_step(config.stage[0])(
        Batch(
            tf.zeros([3, 4, 4, 3]),
            tf.constant([0, 2, -1], tf.int64),
            tf.constant(targets),
            tf.constant(teacher),
        )
    )

    def log_softmax(values: np.ndarray) -> np.ndarray:
        return values - np.log(np.exp(values).sum())

    def softened(probs: np.ndarray) -> np.ndarray:
        powers = probs ** (1 / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    labels = -(targets[:2] @ log_softmax(logits))
    taught = -(softened(teacher[:2]) @ log_softmax(logits / temperature)) * temperature**2
    outlier = -log_softmax(logits).mean() - np.log(3)
    expected = ((1 - share) * labels + share * taught).mean() + config.outliers.weight * outlier
    assert float(trainer.progress.loss_sum.numpy()) == pytest.approx(expected, rel=1e-4)
    # The outlier is not counted among the answers.
    assert int(trainer.confusion.numpy().sum()) == 2


# -------------------------------------------------------------------- in a whole training


@pytest.mark.tf
@pytest.mark.slow
def test_a_network_learns_what_a_stubborn_teacher_says(phantom: Path, tmp_path: Path) -> None:
    """The teacher calls everything vasc, and no true label is heeded. Nothing is held out for the end."""
    ids = [row["image_id"] for row in rows_of(phantom / "HAM10000_metadata.csv")]
    codes = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    write(tmp_path, teacher_text([(0, 0, 0, 0, 0, 0, 1)] * len(ids), tuple(ids), codes), "stubborn.csv.gz")
    config = tmp_path / "config.toml"
    config.write_text(
        PLAIN.replace("folds = 4", "folds = 4\ntest_fold = -1").replace(
            "learning_rate = 1e-2", "learning_rate = 0.2"
        )
        + f'[distill]\nteacher = "{tmp_path}/stubborn.csv.gz"\nshare = 1.0\n',
        encoding="utf-8",
    )
    run = tmp_path / "run"
    status, output = finish("plain", config, run, phantom)
    assert status == 0, output
    rows = rows_of(run / "predictions_val.csv")
    answers = [max(codes, key=lambda code: float(row[f"p_{code}"])) for row in rows]
    assert len(answers) > 20
    assert set(answers) == {"vasc"}

    assert (run / COPY_NAME).is_file()
    assert set(json.loads((run / "metrics.json").read_text())) == {"val", "outliers"}
    assert not (run / "predictions_test.csv").exists()
    record_run(run, tmp_path / "record")
    names = {path.name for path in (tmp_path / "record").iterdir()}
    assert {"predictions_val.csv.gz", "split.csv.gz", "run.json"} <= names
    assert not names & {"predictions_test.csv.gz", COPY_NAME}
