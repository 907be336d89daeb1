"""Fine-tuning: its start, what it leaves alone, and that an interruption changes nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.synthetic_run import SIZE_PX, make_contract, make_model

pytestmark = pytest.mark.tf
REPOSITORY = Path(__file__).parents[3]
# One step of the final tensor's 8 bits, and some more for sums in another order.
RANGE_TOLERANCE = 0.02
EPOCHS = 16
DEADLINE_S = 240


@pytest.fixture(scope="module")
def made_once() -> tuple[Any, Any, np.ndarray, list[np.ndarray]]:
    """A float model, its quantization-aware twin, the pixels that set the ranges, and the twin's first weights."""
    from convert.quantization.fake_quant import quantize

    float_model = make_model()
    pixels_u8 = np.random.default_rng(0).integers(60, 200, (32, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)
    model = quantize(float_model, make_contract(), pixels_u8)
    return float_model, model, pixels_u8, model.get_weights()


@pytest.fixture
def quantized(made_once: tuple[Any, Any, np.ndarray, list[np.ndarray]]) -> tuple[Any, Any, np.ndarray]:
    """The first three of `made_once`, nothing trained."""
    float_model, model, pixels_u8, start = made_once
    model.set_weights(start)
    return float_model, model, pixels_u8


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the few steps of a test as they are: tracing them takes longer."""
    import tensorflow as tf

    monkeypatch.setattr(tf, "function", lambda step, **_: step)


@pytest.fixture
def start_again(
    quantized: tuple[Any, Any, np.ndarray],
    made_once: tuple[Any, Any, np.ndarray, list[np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lets fine-tuning start from the shared model with its first weights: quantizing takes seconds."""
    from convert.quantization import qat

    def quantize(*_: object) -> Any:
        quantized[1].set_weights(made_once[3])
        return quantized[1]

    monkeypatch.setattr(qat, "quantize", quantize)


def test_input_range_is_the_pixels(quantized: tuple[Any, Any, np.ndarray]) -> None:
    ends = {
        w.name.split("_")[-1]: float(w.numpy())
        for w in quantized[1].layers[1].weights
        if "step" not in w.name
    }
    assert ends == {"min:0": -1.0, "max:0": 127 / 128}


def test_ranges_are_those_of_the_photos_not_the_initial_guess(quantized: tuple[Any, Any, np.ndarray]) -> None:
    float_model, model, pixels_u8 = quantized
    logits = float_model((pixels_u8.astype(np.float32) - 128) / 128).numpy()
    ends = [float(w.numpy()) for w in model.layers[-1].weights if "post_activation" in w.name]
    assert len(ends) == 2
    # tfmot extends a range to hold zero.
    expected = (min(0.0, float(logits.min())), max(0.0, float(logits.max())))
    width = expected[1] - expected[0]
    assert max(ends) < 6 and min(ends) > -6
    assert (min(ends), max(ends)) == pytest.approx(expected, abs=width * 0.25)


def test_simulated_rounding_is_small(quantized: tuple[Any, Any, np.ndarray]) -> None:
    from convert.export.float_model import Predictor

    float_model, model, pixels_u8 = quantized
    scores = [Predictor(model, make_contract())(pixels_u8) for model in (float_model, model)]
    difference = np.abs(scores[0] - scores[1]).max()
    assert 0 < difference < RANGE_TOLERANCE


def test_statistics_are_frozen_and_everything_else_is_trained(quantized: tuple[Any, Any, np.ndarray]) -> None:
    from convert.quantization.fake_quant import trained_variables

    names = [variable.name.split("/")[-1] for variable in trained_variables(quantized[1])]
    counts = {kind: sum(kind in name for name in names) for kind in ("kernel", "bias", "gamma", "beta")}
    assert counts == {"kernel": 6, "bias": 1, "gamma": 5, "beta": 5}
    assert len(names) == 17
    model, pixels_u8 = quantized[1], quantized[2]
    statistics = [w for w in model.weights if "moving" in w.name]
    assert len(statistics) == 10
    before = [w.numpy() for w in statistics]
    model(pixels_u8[:4].astype(np.float32) / 128 - 1, training=True)
    assert all(np.array_equal(w.numpy(), old) for w, old in zip(statistics, before, strict=True))


def test_layers_that_tfmot_cannot_quantize_are_refused() -> None:
    import tf_keras

    from convert.quantization.fake_quant import quantize
    from edge_runtime.errors import ConversionRefused

    class Unheard(tf_keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    inputs = tf_keras.Input((SIZE_PX, SIZE_PX, 3))
    pooled = tf_keras.layers.GlobalAveragePooling2D()(Unheard(name="unheard")(inputs))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3, name="logits")(pooled))
    with pytest.raises(ConversionRefused) as caught:
        quantize(model, make_contract(), np.zeros((4, SIZE_PX, SIZE_PX, 3), np.uint8))
    assert "Unheard" in caught.value.found


def _arguments(run: Path, out: Path) -> list[str]:
    options = ["--recipe", "int8_qat", "--epochs", str(EPOCHS), "--patience", str(EPOCHS)]
    return [str(run), *options, "--learning-rate", "1e-3", "--out", str(out)]


def _saved_step(state: Path) -> int:
    if not state.is_file():
        return 0
    with np.load(state) as saved:
        return int(json.loads(saved["header"].tobytes())["step"])


@pytest.mark.long
def test_killed_fine_tuning_resumes_to_the_same_model(
    run_copy: Callable[[str], Path], tmp_path: Path
) -> None:
    from convert.__main__ import main

    whole, killed = run_copy("whole"), run_copy("killed")
    out = {run: tmp_path / f"{run.name}_out" / "m.tflite" for run in (whole, killed)}
    for path in out.values():
        path.parent.mkdir()
    command = [sys.executable, "-m", "convert", *_arguments(killed, out[killed])]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    state = killed / "convert" / "int8_qat" / "state.npz"
    deadline = time.monotonic() + DEADLINE_S
    while _saved_step(state) == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed: more EPOCHS"
    interrupted_at = _saved_step(state)
    assert 0 < interrupted_at < EPOCHS * 5
    assert list(out[killed].parent.iterdir()) == []
    for run in (whole, killed):
        assert main(_arguments(run, out[run])) == 0
    reports = [json.loads(path.with_suffix(".json").read_text()) for path in out.values()]
    assert len(reports[0]["qat"]["history"]) == EPOCHS + 1
    assert reports[0]["qat"] == reports[1]["qat"]
    assert reports[0]["test"] == reports[1]["test"]
    assert out[whole].read_bytes() == out[killed].read_bytes()


def test_the_key_changes_with_the_code_and_not_with_its_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert.quantization import qat_state

    for name in qat_state.SHAPING_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    assert qat_state.code_digest(tmp_path) == qat_state.code_digest()
    files = qat_state.SHAPING_FILES
    for name in files:
        # One at a time: parsing all of them takes long.
        monkeypatch.setattr(qat_state, "SHAPING_FILES", (name,))
        before, path = qat_state.code_digest(), tmp_path / name
        text = path.read_text()
        path.write_text(f'"""Another docstring."""\n# A comment.\n{text}\n\n')
        assert qat_state.code_digest(tmp_path) == before
        path.write_text(f"{text}\nMORE = 1\n")
        assert qat_state.code_digest(tmp_path) != before


def test_the_key_knows_every_file_that_fine_tuning_imports() -> None:
    """Follows the imports from fine-tuning on."""
    import ast

    from convert.quantization.qat_state import SHAPING_FILES

    # Their results are in the key itself: settings, photos, the float model; or they compute nothing of it.
    apart = {"convert/export/float_model.py", "convert/inputs.py", "convert/recipes.py"}
    found, waiting = (
        set(),
        ["convert/quantization/qat.py", "convert/quantization/soft_labels.py", "convert/pixels.py"],
    )
    while waiting:
        name = waiting.pop()
        if name in found | apart or name.startswith(
            ("edge_runtime/", "train/artifacts/", "train/evaluation/")
        ):
            continue
        found.add(name)
        for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                files = (f"{module.replace('.', '/')}.py" for module in modules)
                waiting += [file for file in files if (REPOSITORY / file).is_file()]
    assert found == set(SHAPING_FILES)


def _stream(pixels_u8: np.ndarray, soft_labels: np.ndarray | None = None) -> Any:
    from convert.quantization.batches import TrainingStream

    count = len(pixels_u8)
    weights = np.full(count, 1 / count)
    return TrainingStream(pixels_u8, np.arange(count) % 3, 128.0, 128.0, 8, weights, 0, soft_labels)


@pytest.mark.usefixtures("eager")
def test_soft_labels_reach_the_loss(quantized: tuple[Any, Any, np.ndarray]) -> None:
    """Fails if soft labels do not reach the loss, or their weight does not count."""
    import tensorflow as tf
    import tf_keras

    from convert.quantization.fake_quant import trained_variables
    from convert.quantization.qat import train_step
    from convert.recipes import QatSettings

    float_model, model, pixels_u8 = quantized
    soft_labels = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], len(pixels_u8)).astype(np.float32)
    streams = [_stream(pixels_u8, soft) for soft in (None, soft_labels, np.roll(soft_labels, 1, axis=1))]
    start, variables = model.get_weights(), trained_variables(model)

    def after_one_step(stream: Any, **settings: float) -> list[np.ndarray]:
        model.set_weights(start)
        optimizer = tf_keras.optimizers.SGD(0.1)
        chosen = QatSettings(**settings)  # type: ignore[arg-type]
        step = train_step(model, float_model, optimizer, variables, chosen, stream.soft_labels)
        batch = stream.batch_at(0)
        soft = batch.labels if batch.soft_labels is None else batch.soft_labels
        step(tf.constant(batch.views), tf.constant(batch.labels), tf.constant(soft))
        return [variable.numpy() for variable in variables]

    without = after_one_step(streams[0])
    assert len(without) == 17
    weightless = after_one_step(streams[1], soft_label_weight=0.0)
    assert all(np.array_equal(a, b) for a, b in zip(without, weightless, strict=True))
    trained = [after_one_step(stream) for stream in streams[1:]]
    for weights in trained:
        moved = [not np.array_equal(a, b) for a, b in zip(without, weights, strict=True)]
        assert sum(moved) == 17
    assert not np.allclose(trained[0][-1], trained[1][-1], atol=1e-5)


# ------------------------------------------------------------------- when it ends


@pytest.mark.parametrize(
    ("agreements", "epochs", "best"),
    [
        # Two epochs in a row without a better file: the fourth is not made.
        ((0.6, 0.8, 0.7, 0.7, 1.0), 3, 1),
        ((0.9, 0.8, 0.8, 1.0), 2, 0),
        ((0.5, 0.6, 0.7, 0.8, 0.9), 4, 4),
    ],
)
@pytest.mark.usefixtures("eager", "start_again")
def test_the_files_agreement_ends_it(
    agreements: tuple[float, ...],
    epochs: int,
    best: int,
    quantized: tuple[Any, Any, np.ndarray],
    tmp_path: Path,
) -> None:
    """The file's agreement is made up here: if Keras's simulation decided, the best epoch would be another."""
    from convert.quantization import qat
    from convert.recipes import QatSettings

    float_model, _, pixels_u8 = quantized
    float_probs = np.tile([0.6, 0.3, 0.1], (10, 1))
    seen: list[list[np.ndarray]] = []

    def file_probs(model: Any) -> np.ndarray:
        probs = np.tile([0.1, 0.3, 0.6], (10, 1))
        agreeing = round(10 * agreements[len(seen)])
        probs[:agreeing] = float_probs[:agreeing]
        seen.append(model.get_weights())
        return probs

    def tune() -> tuple[Any, dict[str, Any]]:
        validation = qat.Validation(np.zeros(10, np.int64), float_probs, file_probs)
        settings, stream = (
            QatSettings(epochs=4, patience=2, batch=8, learning_rate=1e-3),
            _stream(pixels_u8[:16]),
        )
        return qat.fine_tune(
            float_model, make_contract(), settings, stream, pixels_u8, validation, tmp_path / "state"
        )

    model, report = tune()
    assert [row["agreement"] for row in report["history"]] == list(agreements[: epochs + 1])
    assert report["best_epoch"] == best and report["steps"] == 2 * epochs
    kept = model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(kept, seen[best], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(kept, seen[best - 1], strict=True))
    # A finished one is not repeated.
    assert tune()[1] == report and len(seen) == epochs + 1


@pytest.mark.usefixtures("eager", "start_again")
def test_an_interrupted_fine_tuning_resumes_to_the_same_model(
    quantized: tuple[Any, Any, np.ndarray], tmp_path: Path
) -> None:
    """In one process; `test_killed_fine_tuning_resumes_to_the_same_model` kills one."""
    import tensorflow as tf

    from convert.quantization import qat
    from convert.recipes import QatSettings

    float_model, _, pixels_u8 = quantized
    settings = QatSettings(epochs=2, patience=2, batch=8, learning_rate=1e-3, checkpoint_every_steps=1)
    views = (pixels_u8.astype(np.float32) - 128) / 128
    float_probs = tf.nn.softmax(float_model(views)).numpy()

    def tune(folder: str, interrupted_at: int = -1) -> tuple[list[np.ndarray], dict[str, Any]]:
        files = 0

        def file_probs(model: Any) -> np.ndarray:
            nonlocal files
            files += 1
            if files == interrupted_at:
                raise KeyboardInterrupt
            probs: np.ndarray = tf.nn.softmax(model(views, training=False)).numpy()
            return probs

        validation = qat.Validation(np.arange(32) % 3, float_probs, file_probs)
        model, report = qat.fine_tune(
            float_model,
            make_contract(),
            settings,
            _stream(pixels_u8[:24]),
            pixels_u8,
            validation,
            tmp_path / folder,
        )
        return model.get_weights(), report

    weights, report = tune("whole")
    with pytest.raises(KeyboardInterrupt):
        tune("cut", interrupted_at=2)
    assert _saved_step(tmp_path / "cut" / "state.npz") == 2
    resumed, resumed_report = tune("cut")
    assert resumed_report == report and report["steps"] == 6
    assert all(np.array_equal(a, b) for a, b in zip(weights, resumed, strict=True))


@pytest.mark.usefixtures("eager")
def test_the_labels_alone_can_be_the_target(quantized: tuple[Any, Any, np.ndarray]) -> None:
    """Without distillation the float model must not reach the loss."""
    import tensorflow as tf
    import tf_keras

    from convert.quantization.fake_quant import trained_variables
    from convert.quantization.qat import train_step
    from convert.recipes import QatSettings

    float_model, model, pixels_u8 = quantized
    batch, start = _stream(pixels_u8).batch_at(0), model.get_weights()

    def loss(target: Any, **weights: float) -> float:
        # A step moves the activations' ranges.
        model.set_weights(start)
        optimizer = tf_keras.optimizers.SGD(0.0)
        step = train_step(model, target, optimizer, trained_variables(model), QatSettings(**weights), None)  # type: ignore[arg-type]
        labels = tf.constant(batch.labels)
        return float(step(tf.constant(batch.views), labels, labels))

    targets = float_model, make_model(seed=8)
    alone = [loss(target, distillation_weight=0.0, hard_label_weight=1.0) for target in targets]
    assert alone[0] == alone[1] > 0.1
    assert loss(targets[0]) != pytest.approx(loss(targets[1]), rel=0.01)
