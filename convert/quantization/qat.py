"""Quantization-aware fine-tuning: distillation from the float model while rounding is simulated. TensorFlow.

- Start: `fake_quant.quantize` sets the activation ranges on the calibration photos and lets batch normalization absorb
  what rounding shifts. That alone can be best: epoch 0 (nothing trained) competes with the trained epochs, and the
  bundled model is such an epoch 0.
- Loss: Kullback-Leibler divergence from the float model's prediction on the same view, softened by a temperature
  (Hinton et al. 2015; Beyer et al. 2022 for same-view distillation). The float model was chosen and calibrated on
  validation photos, and the file must predict as it does, so it is the better target than the labels, which it mostly
  fits already.
  `hard_label_weight` adds the labels' cross-entropy; with a `distillation_weight` of 0 only the labels are used.
  train/STUDY.md compares both.
- Learning rate: linear up over a tenth of the steps, then a cosine down to zero at the last possible epoch.
- Batch normalization keeps its statistics; its scale and offset are trained, since they are free in the file (folded
  into per-channel scales and biases).
- Choice: after each epoch a file is made, as it would be at the end; the best epoch is the one whose *file* agrees most
  with the float model on validation photos. Keras's simulation does not choose: it agrees more often than the file,
  and is slower. `patience` epochs without a better file end it. The test split is never read.

Every step is a pure function of settings and step number, and a checkpoint holds all state: a killed fine-tuning
resumes from its last checkpoint and ends with the same weights. A finished one is kept and not repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from convert.quantization.batches import TrainingStream
from convert.quantization.fake_quant import quantize, trained_variables
from convert.quantization.qat_state import Progress, Saver, state_key
from convert.recipes import QatSettings
from edge_runtime.contract import ModelContract
from train.artifacts.files import write_rows
from train.data.pixels import PixelArray
from train.evaluation.metrics import FloatArray, IntArray, balanced_accuracy

WARMUP_SHARE = 0.1
# Adam and not plain SGD: gradients of depthwise and pointwise kernels differ by orders of magnitude in size.
ADAM_BETA_2 = 0.99


@dataclass(frozen=True)
class Validation:
    """Data and function that choose the epoch."""

    labels: IntArray
    """[n], of validation photos."""
    float_probs: FloatArray
    """[n, labels], the float model's."""
    file_probs: Callable[[Any], FloatArray]
    """From a quantization-aware model to the scores [n, labels] of the file that is made of it."""


def fine_tune(
    float_model: Any,
    contract: ModelContract,
    settings: QatSettings,
    stream: TrainingStream,
    calibration_u8: PixelArray,
    validation: Validation,
    folder: Path,
) -> tuple[Any, dict[str, Any]]:
    """Fine-tunes, resumes, or loads a finished fine-tuning with the same settings from `folder`, made if missing.

    The float model, start and distillation target, ends in logits with the temperature folded in. The calibration
    pixels, [n, height_px, width_px, 3], set the ranges; `validation` chooses the epoch.

    Returns:
        The quantization-aware model with the best epoch's weights, and its entry in model.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = state_key(float_model, settings, stream, calibration_u8)
    model = quantize(float_model, contract, calibration_u8)
    steps = settings.epochs * stream.steps_per_epoch
    optimizer = tf_keras.optimizers.Adam(_schedule(settings, steps), beta_2=ADAM_BETA_2)
    variables = trained_variables(model)
    optimizer.build(variables)
    saver = Saver(folder / "state.npz", key, model, optimizer)
    progress = saver.restore()
    step = train_step(model, float_model, optimizer, variables, settings, stream.soft_labels)
    if not progress.history:
        _end_epoch(model, validation, 0, None, progress, saver)
    epoch_losses: list[float] = []
    bar = tqdm(total=steps, initial=progress.step, desc="int8_qat", unit="step")
    for batch in stream.batches(progress.step, steps):
        if _is_over(progress, settings):
            break
        # A traced function needs a tensor even without a teacher; it then ignores it.
        soft = batch.labels if batch.soft_labels is None else batch.soft_labels
        arrays = (tf.constant(array) for array in (batch.views, batch.labels, soft))
        epoch_losses.append(float(step(*arrays)))
        progress.step += 1
        bar.update()
        bar.set_postfix(loss=f"{epoch_losses[-1]:.4f}", agreement=f"{progress.history[-1]['agreement']:.3f}")
        if progress.step % stream.steps_per_epoch == 0:
            epoch = progress.step // stream.steps_per_epoch
            _end_epoch(model, validation, epoch, epoch_losses[-1], progress, saver)
        elif progress.step % settings.checkpoint_every_steps == 0:
            saver.save(progress)
    bar.close()
    model.set_weights(saver.best)
    write_rows(folder / "history.csv", progress.history)
    return model, {
        "settings": asdict(settings),
        "optimizer": f"Adam, beta_2 {ADAM_BETA_2}",
        "batch_normalization": "statistics frozen, scale and offset trained",
        "schedule": f"up to the peak over {WARMUP_SHARE:.0%} of {steps} steps, then a cosine to zero",
        "steps": progress.step,
        "photos": len(stream.labels),
        "best_epoch": progress.best_epoch,
        "history": progress.history,
    }


def _schedule(settings: QatSettings, steps: int) -> Any:
    warmup_steps = max(1, round(steps * WARMUP_SHARE))
    return tf_keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup_steps), warmup_target=settings.learning_rate, warmup_steps=warmup_steps
    )


def train_step(
    model: Any,
    float_model: Any,
    optimizer: Any,
    variables: Sequence[Any],
    settings: QatSettings,
    teacher: npt.NDArray[np.float32] | None,
) -> Callable[[Any, Any, Any], Any]:
    """A compiled function of views, labels and soft labels that takes one step and returns its loss.

    It changes `variables` of `model`; `float_model` is the distillation target on the same views. Without a teacher
    soft labels are left out of the loss.
    """
    temperature = settings.distillation_temperature
    soft_weight = 0.0 if teacher is None else settings.soft_label_weight

    def divergence(target: Any, logits: Any) -> Any:
        log_probs = tf.nn.log_softmax(logits / temperature)
        of_photo = tf.reduce_sum(target * (tf.math.log(target + 1e-12) - log_probs), axis=-1)
        # Gradients of softened targets shrink by the temperature's square (Hinton et al. 2015).
        return tf.reduce_mean(of_photo) * temperature**2

    def step(views: Any, labels: Any, soft_labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(views, training=True)
            loss = tf.constant(0.0)
            if settings.distillation_weight > 0:
                target = tf.nn.softmax(float_model(views, training=False) / temperature)
                loss += settings.distillation_weight * divergence(tf.stop_gradient(target), logits)
            if soft_weight > 0:
                softened = tf.nn.softmax(tf.math.log(soft_labels + 1e-12) / temperature)
                loss += soft_weight * divergence(softened, logits)
            if settings.hard_label_weight > 0:
                hard = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss += settings.hard_label_weight * tf.reduce_mean(hard)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    compiled: Callable[[Any, Any, Any], Any] = tf.function(step)
    return compiled


def _end_epoch(
    model: Any, validation: Validation, epoch: int, loss: float | None, progress: Progress, saver: Saver
) -> None:
    """Evaluate the epoch's file on validation photos, keep the weights if it is the best, checkpoint."""
    probs = validation.file_probs(model)
    predicted, float_predicted = probs.argmax(axis=1), validation.float_probs.argmax(axis=1)
    progress.history.append(
        {
            "epoch": epoch,
            "loss": loss,
            "agreement": float((predicted == float_predicted).mean()),
            "mean_score_difference": float(np.abs(probs - validation.float_probs).max(axis=1).mean()),
            "balanced_accuracy": balanced_accuracy(validation.labels, predicted, probs.shape[1]),
            "float_balanced_accuracy": balanced_accuracy(validation.labels, float_predicted, probs.shape[1]),
        }
    )
    best = min(progress.history, key=lambda row: (-row["agreement"], row["mean_score_difference"]))
    if best is progress.history[-1]:
        progress.best_epoch = epoch
        saver.best = model.get_weights()
    saver.save(progress)


def _is_over(progress: Progress, settings: QatSettings) -> bool:
    """Whether early stopping has ended it; a resumed fine-tuning that was over stays so."""
    return int(progress.history[-1]["epoch"]) - progress.best_epoch >= settings.patience
