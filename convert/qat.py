"""Quantization-aware fine-tuning: the network learns to answer the same while its rounding is simulated. TensorFlow.

What is done, and why:

- tfmot's 8-bit scheme wraps every layer; weights per channel, but those of depthwise layers and activations per
  tensor. Depthwise kernels are therefore equalized first (convert/equalize.py), and what rounding still shifts is
  absorbed by batch normalization before training begins (convert/rounding_shift.py).
- Ranges of activations are set on the calibration photos before the first step. tfmot starts them at -6..6 and moves
  them by 0.1 % a step: after the few hundred steps that fine-tuning needs, two thirds of that guess would be left.
- Loss: Kullback-Leibler divergence from the float model's answer to the same view, softened by a temperature. The
  float model was chosen and calibrated on validation photos; the file must answer as it does, so the float model is
  the better teacher than the labels, which it has mostly learnt by heart (Hinton et al. 2015; Beyer et al. 2022 for
  same-view distillation). `hard_label_weight` adds the labels' cross-entropy.
- Batch normalization keeps its statistics; its scale and offset learn, since they are free in the file (folded into
  per-channel scales and biases). On the phantom set (MobileNetV2 0.35, 96 px, 120 steps at a rate of 3e-4, 69
  validation photos) the mean score difference was 0.017 before the first step, and at the end 0.016 when only scales,
  offsets and biases learnt, 0.031 when only kernels and biases did, 0.064 when everything did with batch statistics.
- The best epoch is the one whose simulated answers agree most with the float model's on validation photos; epoch 0
  (ranges set, nothing trained) counts too. The test split is never read.

Every step is a pure function of settings and step number, and a checkpoint holds all state, so a killed fine-tuning
goes on from its last checkpoint and ends with the same weights. A finished one is kept and not done again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tqdm import tqdm

from convert.equalize import equalized_copy
from convert.files import whole_file
from convert.keras_answers import FloatArray, Predictor
from convert.pixels import PixelArray, normalize
from convert.recipes import QatSettings
from convert.rounding_shift import PHOTOS, absorb_rounding_shift
from convert.training_stream import IntArray, TrainingStream
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConversionRefused
from train.metrics import balanced_accuracy

# Passes over the calibration photos until every layer has seen inputs that its predecessors' final ranges give.
RANGE_PASSES = 3
RANGE_BATCHES = 8
WARMUP_SHARE = 0.1
# Adam and not plain SGD: gradients of depthwise and pointwise kernels differ by orders of magnitude in size.
ADAM_BETA_2 = 0.99
LEARNED_WEIGHTS = ("kernel:0", "bias:0", "gamma:0", "beta:0")


@dataclass
class Progress:
    """What a checkpoint holds beside variables."""

    step: int = 0
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Validation:
    """Photos that choose the epoch."""

    pixels_u8: PixelArray
    labels: IntArray
    float_probs: FloatArray
    """[n, labels], the float model's."""


def quantize(float_model: Any, contract: ModelContract, calibration_u8: PixelArray) -> Any:
    """Wraps a float model for quantization-aware training and sets every range.

    Args:
        float_model: Flat and functional, ends in logits; is copied.
        contract: Its normalization fixes the input's range.
        calibration_u8: [n, height_px, width_px, 3], for the activations' ranges.

    Raises:
        ConversionRefused: tfmot cannot quantize a layer.
    """
    # tfmot names its input layer by a counter, which would end in the file's tensor names.
    tf_keras.backend.reset_uids()
    equalized = equalized_copy(float_model)
    try:
        model = tfmot.quantization.keras.quantize_model(equalized)
    except (ValueError, RuntimeError) as error:
        raise ConversionRefused(
            "quantization-aware training does not support this model",
            found=str(error).splitlines()[0],
            fix="use recipe int8_ptq, or layers that tensorflow-model-optimization knows",
        ) from error
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, tf_keras.layers.BatchNormalization):
            inner.trainable = False  # Keras: it then uses its moving statistics and leaves them alone
    _set_input_range(model, contract)
    _set_activation_ranges(model, calibration_u8, contract)
    absorb_rounding_shift(model, equalized, normalize(_spread_out(calibration_u8), contract))
    _set_activation_ranges(model, calibration_u8, contract)
    return model


def _spread_out(pixels_u8: PixelArray) -> PixelArray:
    """PHOTOS of the photos, evenly from the whole list. The bundled model was made from these."""
    chosen = np.unique(np.linspace(0, len(pixels_u8) - 1, PHOTOS).round().astype(int))
    return np.asarray(pixels_u8[chosen])


def trained_variables(model: Any) -> list[Any]:
    """Kernels, biases, and batch normalization's scale and offset, each once, in the model's order."""
    unique = {id(w): w for layer in model.layers for w in layer.weights}
    return [w for w in unique.values() if w.name.split("/")[-1].endswith(LEARNED_WEIGHTS)]


def _set_input_range(model: Any, contract: ModelContract) -> None:
    """Pixels 0 to 255: their 256 values are the tensor's 256 steps. Training only widens it, and cannot."""
    normalization = contract.normalization
    names = ("min", "max")
    for variable in model.layers[1].weights:
        for name, pixel in zip(names, (0, 255), strict=True):
            if variable.name.endswith(f"_{name}:0"):
                variable.assign((pixel - normalization.mean) / normalization.std)


def _range_variables(model: Any) -> list[Any]:
    """Ends of the activations' moving-average ranges; weights' ranges follow the weights at every step."""
    endings = ("output_min:0", "output_max:0", "activation_min:0", "activation_max:0")
    return [v for v in model.non_trainable_variables if v.name.endswith(endings)]


def _set_activation_ranges(model: Any, calibration_u8: PixelArray, contract: ModelContract) -> None:
    """Runs calibration photos and replaces each range by the mean of its batches' ends.

    tfmot's averages start at a constant s and after n batches hold d**n * s + (1 - d**n) * mean, d = 0.999; the mean is
    solved from that.
    """
    decayed = 0.999**RANGE_BATCHES
    variables = _range_variables(model)
    batches = np.array_split(calibration_u8, min(RANGE_BATCHES, len(calibration_u8)))
    forward = tf.function(lambda x: model(x, training=True), reduce_retracing=True)
    for _ in range(RANGE_PASSES):
        start = [variable.numpy() for variable in variables]
        for i in range(RANGE_BATCHES):
            forward(tf.constant(normalize(batches[i % len(batches)], contract)))
        for variable, before in zip(variables, start, strict=True):
            variable.assign((variable.numpy() - decayed * before) / (1 - decayed))


def fine_tune(
    float_model: Any,
    contract: ModelContract,
    settings: QatSettings,
    stream: TrainingStream,
    calibration_u8: PixelArray,
    validation: Validation,
    folder: Path,
) -> tuple[Any, dict[str, Any]]:
    """Fine-tunes, or resumes, or returns what a finished fine-tuning with the same settings left.

    Args:
        float_model: Teacher and start, ends in logits, temperature folded in.
        contract: The run's.
        settings: Length, rate and loss.
        stream: Training views.
        calibration_u8: For the ranges.
        validation: Chooses the epoch.
        folder: For state.npz and history.csv; made if missing.

    Returns:
        The quantization-aware model with the best epoch's weights, and what model.json says of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(float_model, settings, stream, calibration_u8)
    model = quantize(float_model, contract, calibration_u8)
    steps = settings.epochs * stream.steps_per_epoch
    optimizer = tf_keras.optimizers.Adam(_schedule(settings, steps), beta_2=ADAM_BETA_2)
    learned = trained_variables(model)
    optimizer.build(learned)
    saver = _Saver(folder / "state.npz", key, model, optimizer)
    progress = saver.restore()
    train_step = _train_step(model, float_model, optimizer, learned, settings)
    predictor = Predictor(model, contract)
    if not progress.history:
        _end_epoch(predictor, validation, 0, None, progress, saver)
    epoch_losses: list[float] = []
    bar = tqdm(total=steps, initial=progress.step, desc="int8_qat", unit="step")
    for views, labels in stream.batches(progress.step, steps):
        epoch_losses.append(float(train_step(tf.constant(views), tf.constant(labels))))
        progress.step += 1
        bar.update()
        bar.set_postfix(loss=f"{epoch_losses[-1]:.4f}", agreement=f"{progress.history[-1]['agreement']:.3f}")
        if progress.step % stream.steps_per_epoch == 0:
            epoch = progress.step // stream.steps_per_epoch
            _end_epoch(predictor, validation, epoch, epoch_losses[-1], progress, saver)
        elif progress.step % settings.checkpoint_every_steps == 0:
            saver.save(progress)
    bar.close()
    saver.load_best()
    with whole_file(folder / "history.csv") as temporary:
        temporary.write_text(_csv(progress.history), encoding="utf-8")
    return model, {
        "settings": asdict(settings),
        "optimizer": f"Adam, beta_2 {ADAM_BETA_2}",
        "batch_normalization": "statistics frozen, scale and offset learnt",
        "steps": steps,
        "photos": len(stream.labels),
        "best_epoch": progress.best_epoch,
        "history": progress.history,
    }


def _schedule(settings: QatSettings, steps: int) -> Any:
    warmup_steps = max(1, round(steps * WARMUP_SHARE))
    return tf_keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup_steps), warmup_target=settings.learning_rate, warmup_steps=warmup_steps
    )


def _train_step(
    model: Any, teacher: Any, optimizer: Any, learned: Sequence[Any], settings: QatSettings
) -> Callable[[Any, Any], Any]:
    temperature = settings.distillation_temperature

    def step(views: Any, labels: Any) -> Any:
        target = tf.nn.softmax(teacher(views, training=False) / temperature)
        with tf.GradientTape() as tape:
            logits = model(views, training=True)
            log_answer = tf.nn.log_softmax(logits / temperature)
            divergence = tf.reduce_sum(target * (tf.math.log(target + 1e-12) - log_answer), axis=-1)
            # Gradients of softened answers shrink by the temperature's square (Hinton et al. 2015).
            loss = tf.reduce_mean(divergence) * temperature**2
            if settings.hard_label_weight > 0:
                hard = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss += settings.hard_label_weight * tf.reduce_mean(hard)
        gradients = tape.gradient(loss, learned)
        optimizer.apply_gradients(zip(gradients, learned, strict=True))
        return loss

    compiled: Callable[[Any, Any], Any] = tf.function(step)
    return compiled


def _end_epoch(
    predictor: Predictor,
    validation: Validation,
    epoch: int,
    loss: float | None,
    progress: Progress,
    saver: _Saver,
) -> None:
    """Measures the simulated model on validation photos, keeps the weights if they are the best, checkpoints."""
    probs = predictor(validation.pixels_u8)
    answers, float_answers = probs.argmax(axis=1), validation.float_probs.argmax(axis=1)
    progress.history.append(
        {
            "epoch": epoch,
            "loss": loss,
            "agreement": float((answers == float_answers).mean()),
            "mean_score_difference": float(np.abs(probs - validation.float_probs).max(axis=1).mean()),
            "balanced_accuracy": balanced_accuracy(validation.labels, answers, probs.shape[1]),
            "float_balanced_accuracy": balanced_accuracy(validation.labels, float_answers, probs.shape[1]),
        }
    )
    best = min(progress.history, key=lambda row: (-row["agreement"], row["mean_score_difference"]))
    if best is progress.history[-1]:
        progress.best_epoch = epoch
        saver.keep_best()
    saver.save(progress)


def _key(float_model: Any, settings: QatSettings, stream: TrainingStream, calibration_u8: PixelArray) -> str:
    """Names everything on which the result depends; a checkpoint of another key is not resumed."""
    digest = hashlib.sha256()
    for weights in float_model.get_weights():
        digest.update(np.ascontiguousarray(weights).tobytes())
    digest.update(stream.labels.tobytes())
    digest.update(np.ascontiguousarray(calibration_u8).tobytes())
    digest.update(stream.weights.tobytes())
    described = [asdict(settings), stream.seed, stream.batch, stream.pixels_u8.shape]
    digest.update(json.dumps([*described, tf.__version__, tfmot.__version__]).encode())
    return digest.hexdigest()


class _Saver:
    """Writes and reads all state: the model's and optimizer's variables, the best epoch's weights, progress."""

    def __init__(self, path: Path, key: str, model: Any, optimizer: Any) -> None:
        self._path = path
        self._key = key
        self._model = model
        self._variables = [*model.variables, *optimizer.variables]
        self._best: list[npt.NDArray[Any]] = []

    def keep_best(self) -> None:
        self._best = [np.asarray(weights) for weights in self._model.get_weights()]

    def load_best(self) -> None:
        self._model.set_weights(self._best)

    def save(self, progress: Progress) -> None:
        arrays = {f"v{i}": variable.numpy() for i, variable in enumerate(self._variables)}
        arrays |= {f"b{i}": weights for i, weights in enumerate(self._best)}
        header = json.dumps({"key": self._key, "best": len(self._best), **asdict(progress)})
        with whole_file(self._path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, header=np.frombuffer(header.encode(), np.uint8), **arrays)

    def restore(self) -> Progress:
        """The last checkpoint's progress with all variables set; a fresh one if none fits."""
        if not self._path.is_file():
            return Progress()
        try:
            with np.load(self._path) as saved:
                header = json.loads(saved["header"].tobytes())
                if header.pop("key") != self._key:
                    return Progress()
                for i, variable in enumerate(self._variables):
                    variable.assign(saved[f"v{i}"])
                self._best = [saved[f"b{i}"] for i in range(header.pop("best"))]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConversionRefused(
                f"{self._path}: the checkpoint cannot be read",
                found=str(error),
                fix="delete it and convert again",
            ) from error
        return Progress(**header)


def _csv(history: Sequence[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(history[0]))
    writer.writeheader()
    writer.writerows(history)
    return buffer.getvalue()
