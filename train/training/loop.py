"""The training loop: stages, steps, checkpoints, resume. TensorFlow.

Resume, in order:
1. the newest checkpoint gives weights, optimizer, stage, epoch, step and the sums of the running epoch;
2. history.csv is cut back to the epochs that were complete at that checkpoint;
3. the best epoch so far is read from the history, never from what a later, lost step may have left behind;
4. the running epoch goes on at its next step: its photos, order and augmentation depend on seeds alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from edge_runtime.contract import Normalization
from edge_runtime.errors import ConfigInvalid, RunInvalid, escaped
from train.artifacts.files import whole_file, write_rows
from train.artifacts.writer import bytes_of, require_space
from train.configs.schema import StageConfig, TrainConfig
from train.data.pixels import PixelArray
from train.data.sampling import draw_epoch
from train.evaluation.metrics import balanced_accuracy, recall_per_class, softmax
from train.evaluation.predict import predict_logits, predict_tiles
from train.evaluation.results import History, read_history
from train.networks.ema import WeightAverage
from train.training.distribute import Replicas
from train.training.inputs import TrainingData, learning_rate, require_finite, stage_augmentation
from train.training.losses import distillation_losses, photo_losses, uniform_losses
from train.training.pipeline import Batch, training_batches

ONE = Replicas()


class Trainer:
    """Trains one model in one run directory. Create it, and its model, within `replicas.scope()`."""

    def __init__(
        self,
        model: Any,
        config: TrainConfig,
        data: TrainingData,
        normalization: Normalization,
        run: Path,
        replicas: Replicas = ONE,
    ) -> None:
        classes = len(data.loss_weights)
        self.model = model
        self.replicas = replicas
        self.config = config
        self.data = data
        self.normalization = normalization
        self.history_path = run / "history.csv"
        self.kept_path = run / "checkpoints" / "kept.h5"
        self.confusion = tf.Variable(tf.zeros([classes, classes], tf.int64))
        self.class_weights = tf.constant(data.loss_weights, tf.float32)
        self.average = WeightAverage(model, config.optimizer.average_decay)
        self.optimizer = tf_keras.optimizers.AdamW(weight_decay=config.optimizer.weight_decay)
        self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        self.optimizer.build(model.trainable_variables)
        self.progress = tf.train.Checkpoint(
            model=model,
            optimizer=self.optimizer,
            confusion=self.confusion,
            average=self.average.averages,
            average_steps=self.average.steps,
            **{name: tf.Variable(0, dtype=tf.int64) for name in ("stage", "epoch", "step")},
            loss_sum=tf.Variable(0.0, dtype=tf.float64),
        )
        self.checkpoints = tf.train.CheckpointManager(self.progress, str(run / "checkpoints"), max_to_keep=2)
        self.board = tf.summary.create_file_writer(str(run / "tensorboard"))
        self.history: History = []

    @cached_property
    def plain(self) -> Any:
        """The model outside of any strategy: what is evaluated, kept, and at the end exported."""
        return self.model if self.replicas.strategy is None else tf_keras.models.clone_model(self.model)

    # ---------------------------------------------------------------- the whole training

    def train(self) -> History:
        """Train from the newest checkpoint, or from the start, to the end; `plain` then holds the kept weights.

        Returns:
            The rows of history.csv.

        Raises:
            ConfigInvalid: A stage freezes layers that the network does not have, or all.
            RunInvalid: Workers begin at different checkpoints.
            DiskFull: There is no space for checkpoints.
        """
        for stage in self.config.stage:
            self._first_trained(stage)  # A misspelt layer is refused now, not hours later.
        self._resume()
        # Two checkpoints and the next one; the kept weights, the next ones, and model.keras.
        rest = [*self.optimizer.variables, *self.average.averages]
        needed = bytes_of(self.model.variables) * 6 + bytes_of(rest) * 3
        require_space(self.history_path.parent, needed, self.kept_path.parent)
        for index in range(self._at("stage"), len(self.config.stage)):
            self._train_stage(index)
        try:
            self.plain.load_weights(str(self.kept_path))
        except (OSError, KeyError, ValueError) as error:
            raise self._damaged(self.kept_path, str(error)) from error
        return self.history

    def _at(self, name: str) -> int:
        """The stage, epoch or step that is next."""
        return int(getattr(self.progress, name).numpy())

    def _resume(self) -> None:
        newest = self._restore()
        self.replicas.require_equal(f"the first step is {int(self.optimizer.iterations.numpy())}")
        if newest is None:
            return
        done = self._at("stage"), self._at("epoch")
        self.history = [row for row in read_history(self.history_path) if (row["stage"], row["epoch"]) < done]
        print(f"resuming at stage {done[0]}, epoch {done[1]}, step {self._at('step')}")

    def _restore(self) -> str | None:
        """Read the newest readable checkpoint and return its path; None where training begins.

        Raises:
            RunInvalid: There are some, and none can be read.
        """
        problem = ""
        for path in self.checkpoints.checkpoints[::-1]:
            try:
                self.progress.restore(path)
                return str(path)
            except (tf.errors.OpError, IndexError, ValueError) as error:
                problem = problem or f"{path}: {error}".splitlines()[0]
                print(escaped(f"warning: {path}: damaged checkpoint; using the one before"), file=sys.stderr)
        if problem:
            raise self._damaged(self.kept_path.parent, problem)
        return None

    def _damaged(self, path: Path, problem: str) -> RunInvalid:
        fix = f"remove {self.kept_path.parent} and rerun the command to train from the start"
        return RunInvalid(f"{path}: damaged checkpoint", found=problem, fix=fix)

    # ---------------------------------------------------------------- a stage

    def _train_stage(self, index: int) -> None:
        stage = self.config.stage[index]
        update = self.compile_step(stage)
        while self._at("epoch") < stage.epochs and not self._should_stop(index):
            self._train_epoch(index, update)
        self.progress.stage.assign(index + 1)
        self.progress.epoch.assign(0)
        self.checkpoints.save()

    def _should_stop(self, index: int) -> bool:
        """No new best for `patience` epochs of this stage."""
        patience, scores = self.config.stop.patience, self._scores(index)
        return patience > 0 and len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])

    def _scores(self, index: int) -> list[float]:
        return [row["val_balanced_accuracy"] for row in self.history if row["stage"] == index]

    # ---------------------------------------------------------------- an epoch

    def _train_epoch(self, index: int, update: Any) -> None:
        stage, epoch, first_step = self.config.stage[index], self._at("epoch"), self._at("step")
        steps = self.data.epoch_photos // stage.batch
        seed = (self.config.seed, index, epoch)
        batches = training_batches(
            self.data.photos_by_stage[index],
            self.data.rows[draw_epoch(self.data.drawn, seed, self.data.epoch_photos)],
            first_step=first_step,
            batch=stage.batch,
            size_px=stage.size_px,
            augmentation=stage_augmentation(self.config, stage),
            normalization=self.normalization,
            seed=(self.config.seed, index * 1000 + epoch),
        )
        title = f"{stage.name} {epoch + 1}/{stage.epochs}"
        with tqdm(batches, total=steps, initial=first_step, desc=title, unit="step", mininterval=1.0) as bar:
            for step, batch in enumerate(bar, start=first_step):
                self.optimizer.learning_rate.assign(learning_rate(stage, epoch * steps + step, steps))
                update(batch)
                self.progress.step.assign(step + 1)
                if (step + 1) % self.config.checkpoint.every_steps == 0:
                    require_finite(float(self.progress.loss_sum.numpy()), stage, epoch)
                    bar.set_postfix(loss=f"{float(self.progress.loss_sum.numpy()) / (step + 1):.3f}")
                    if step + 1 < steps:
                        self.checkpoints.save()
        require_finite(float(self.progress.loss_sum.numpy()), stage, epoch)
        with self.average.applied():
            self._finish_epoch(index, epoch, steps)
        self.checkpoints.save()

    def _finish_epoch(self, index: int, epoch: int, steps: int) -> None:
        """Evaluate on the validation photos, write the history, keep the weights if they are to stay."""
        stage, val_labels = self.config.stage[index], self.data.val_labels
        if self.plain is not self.model:
            self.plain.set_weights(self.model.get_weights())
        probs = softmax(self._predict(self.data.val_by_stage[index], stage.size_px))
        of_truth, predicted = probs[np.arange(len(val_labels)), val_labels], probs.argmax(1)
        seen = self.confusion.numpy()
        score = balanced_accuracy(val_labels, predicted, probs.shape[1])
        recalls = np.diag(seen) / np.maximum(seen.sum(axis=1), 1)
        row: dict[str, Any] = {
            "stage": index,
            "epoch": epoch,
            "name": stage.name,
            "size_px": stage.size_px,
            "learning_rate": float(self.optimizer.learning_rate.numpy()),
            "train_loss": round(float(self.progress.loss_sum.numpy()) / max(steps, 1), 6),
            "train_balanced_accuracy": round(float(recalls[seen.sum(axis=1) > 0].mean()), 6),
            "val_loss": round(float(-np.log(of_truth + 1e-12).mean()), 6),
            "val_balanced_accuracy": round(self.replicas.mean(score), 6),
            "val_accuracy": round(float((predicted == val_labels).mean()), 6),
        }
        best_before = max(self._scores(index), default=-1.0)
        if self.config.stop.keep == "last" or row["val_balanced_accuracy"] > best_before:
            # An epoch shorter than checkpoint.every_steps ends before the first checkpoint makes the folder.
            self.kept_path.parent.mkdir(exist_ok=True)
            with whole_file(self.kept_path) as temporary:
                self.plain.save_weights(str(temporary), save_format="h5")
        self.history.append(row)
        write_rows(self.history_path, self.history)
        self._write_board(row, recall_per_class(val_labels, predicted, probs.shape[1]))
        print(" ".join(f"{key}={row[key]}" for key in row if key not in ("stage", "epoch", "size_px")))
        self.progress.epoch.assign(epoch + 1)
        self.progress.step.assign(0)
        self.progress.loss_sum.assign(0.0)
        self.confusion.assign(tf.zeros_like(self.confusion))

    def _predict(self, pixels_u8: PixelArray, size_px: int) -> npt.NDArray[Any]:
        if self.config.tiles.grid:
            return predict_tiles(self.plain, pixels_u8, self.normalization, size_px, self.config.tiles.grid)
        return predict_logits(self.plain, pixels_u8, self.normalization)

    def _write_board(self, row: dict[str, Any], recalls: npt.NDArray[np.float64]) -> None:
        with self.board.as_default(step=len(self.history)):
            of_class = {f"val_recall/{i}": float(recall) for i, recall in enumerate(recalls)}
            for key, value in {**row, **of_class}.items():
                if isinstance(value, float):
                    tf.summary.scalar(key, value)
        self.board.flush()

    # ---------------------------------------------------------------- a step

    def _first_trained(self, stage: StageConfig) -> int:
        """Index of the first layer that a stage trains.

        Raises:
            ConfigInvalid: `frozen` names no layer, or leaves nothing to train.
        """
        layers = self.model.layers
        if not stage.frozen:
            return len(layers) - 1 if stage.trains == "head" else 0
        last = max((i for i, layer in enumerate(layers) if stage.frozen in layer.name), default=-1)
        if last in (-1, len(layers) - 1):
            problem = f"stage {stage.name}: frozen names no layer, or the last one"
            expected = f"part of a layer's name, such as {layers[len(layers) // 2].name}"
            raise ConfigInvalid(problem, found=repr(stage.frozen), expected=expected)
        return last + 1

    def _trained_variables(self, stage: StageConfig) -> list[tf.Variable]:
        """The variables that a stage trains; its other layers keep weights and batch-norm statistics."""
        layers, first = self.model.layers, self._first_trained(stage)
        for i, layer in enumerate(layers):
            layer.trainable = i >= first
        return [variable for layer in layers[first:] for variable in layer.trainable_variables]

    def compile_step(self, stage: StageConfig) -> Any:
        """Return the update of one batch, compiled for the stage's trained layers."""
        whole = stage.trains == "all"
        variables = self._trained_variables(stage)
        photos, classes = stage.batch // self.replicas.count, len(self.data.loss_weights)
        batch_loss = self._loss_of(photos)

        def step(share: Batch) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                # A frozen backbone also keeps its batch-norm statistics.
                logits = self.model(share.pixels, training=whole)
                # Gradients are added up over replicas, as is what is returned.
                loss = batch_loss(share, logits) / self.replicas.count
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            self.average.update()
            predicted = tf.argmax(logits[:photos], axis=1)
            confusion = tf.math.confusion_matrix(share.truth[:photos], predicted, classes, dtype=tf.int64)
            return loss, confusion

        def update(batch: Batch) -> None:
            loss, confusion = self.replicas.run(step, batch)
            self.progress.loss_sum.assign_add(tf.cast(loss, tf.float64))
            self.confusion.assign_add(confusion)

        return tf.function(update, reduce_retracing=True)

    def _loss_of(self, photos: int) -> Callable[[Batch, tf.Tensor], tf.Tensor]:
        """The mean loss of a batch of so many photos and whatever outliers follow them."""
        config, prior = self.config, np.maximum(self.data.prior, 1e-12)
        adjustment = tf.constant(config.imbalance.logit_adjustment * np.log(prior), tf.float32)
        shown = self.data.photos_by_stage[0]
        outliers = shown.outliers_u8 is not None and shown.outliers_per_batch > 0

        def batch_loss(batch: Batch, logits: tf.Tensor) -> tf.Tensor:
            losses = photo_losses(logits[:photos], batch.targets[:photos], config.loss, adjustment)
            losses *= tf.linalg.matvec(batch.targets[:photos], self.class_weights)
            if config.distill.teacher:
                taught = distillation_losses(logits[:photos], batch.teacher[:photos], config.distill)
                losses = (1 - config.distill.share) * losses + config.distill.share * taught
            loss = tf.reduce_mean(losses)
            if outliers:
                loss += config.outliers.weight * tf.reduce_mean(uniform_losses(logits[photos:]))
            return loss

        return batch_loss
