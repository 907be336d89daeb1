"""`python -m train.head_study STUDY.toml FEATURES.npz --workdir DIR`: the switches of a study that need no backbone.

How imbalance is handled acts on the loss and on which photos are drawn. For such variants (those that differ from the
first one in [imbalance], [loss] and [[merge]] alone) the last layer is trained on frozen features (train/features.py),
all folds in seconds, where whole networks would take a day. It says what a switch does to the last layer, not what it
would do to the features. The other variants are named and left to train.study.

DIR has the shape that train.study writes, so the table, its intervals and its paired differences are the same code's.
Every variant has the same folds, epochs and steps. TensorFlow.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.command import run_command
from train.config import TrainConfig
from train.crossval import pooled_figures
from train.data_sets import merged_labels
from train.features import Features, read_features
from train.hierarchy import fold_numbers
from train.metrics import FloatArray, IntArray, balanced_accuracy
from train.run_dir import git_commit, write_json, write_rows
from train.sampling import draw_epoch, epoch_length, loss_weights, photo_weights
from train.study import LOGIT, Variant, as_table, compare, load_study

EPOCHS, BATCH, LEARNING_RATE = 15, 64, 2e-3
SWITCHES = ("imbalance", "loss", "merge", "split")


def run_head_study(study: Path, features: Features, workdir: Path) -> list[dict[str, Any]]:
    """Trains every variant's head on all folds, and compares.

    Args:
        study: The study file.
        features: Of the study's first data set.
        workdir: Made if absent.

    Returns:
        The rows of study.json.
    """
    variants = load_study(study)
    first = variants[0].config
    asked = [variant for variant in variants if _same_backbone(variant.config, first)]

    @cache
    def numbers_of(folds: int, method: str) -> IntArray:
        return fold_numbers(features, first.data.labels, folds, first.seed, method=method)

    for variant in asked:
        split = variant.config.split
        _cross_validate(variant, features, numbers_of(split.folds, split.method), workdir / variant.name)
        print(f"{variant.name}: done", file=sys.stderr)
    if left := [variant.name for variant in variants if variant not in asked]:
        print(f"not of the last layer, so left to train.study: {', '.join(left)}", file=sys.stderr)
    return compare(asked, workdir)


def _same_backbone(config: TrainConfig, first: TrainConfig) -> bool:
    same = {name: getattr(first, name) for name in ("name", *SWITCHES)}
    return dataclasses.replace(config, **same) == first


def _cross_validate(variant: Variant, features: Features, numbers: IntArray, folder: Path) -> None:
    """Writes a variant's out-of-fold answers, figures and state, as train/crossval.py does."""
    config, labels = variant.config, merged_labels(variant.config)
    code_of = {code: merged.code for merged in config.merge for code in merged.labels}
    truth = np.array([labels.index(code_of.get(label, label)) for label in features.labels])
    rows: list[dict[str, Any]] = []
    trained, seconds = [], []
    for fold in range(config.split.folds):
        started = time.monotonic()
        test = np.flatnonzero(numbers == fold)
        logits, score = train_head(config, features, truth, numbers != fold, len(labels.codes))
        trained.append(score)
        seconds.append(round(time.monotonic() - started, 1))
        rows += [
            {
                "photo_id": features.photo_ids[i],
                "source": config.data.folder,
                "fold": fold,
                "label": labels.codes[truth[i]],
                "group_id": features.groups[i],
                **{LOGIT + code: f"{x:.5g}" for code, x in zip(labels.codes, logits[i], strict=True)},
            }
            for i in test
        ]
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "oof.csv", rows)
    folds = list(range(config.split.folds))
    figures = pooled_figures(labels, rows)
    write_json(
        folder / "metrics.json", {**figures, "folds": folds, "train_balanced_accuracy_by_fold": trained}
    )
    state = {"name": config.name, "folds": folds, "of": len(folds), "seconds_by_fold": seconds}
    write_json(folder / "crossval.json", {**state, "commit": git_commit(), "config": config.to_dict()})


def train_head(
    config: TrainConfig, features: Features, truth: IntArray, train: npt.NDArray[np.bool_], classes: int
) -> tuple[FloatArray, float]:
    """A dense layer on standardized features, by the config's sampling and loss.

    Args:
        config: Its [imbalance], [loss], optimizer and seed.
        features: Of all photos.
        truth: [n] class indices.
        train: [n] which photos are learnt from.
        classes: Width of the answer.

    Returns:
        [n, classes] logits of all photos, and the balanced accuracy on those learnt from.
    """
    import tensorflow as tf
    import tf_keras

    from train.losses import photo_losses

    rows = np.flatnonzero(train)
    drawn = photo_weights(truth[rows], [features.groups[i] for i in rows], config.imbalance)
    prior = np.bincount(truth[rows], weights=drawn, minlength=classes)
    adjustment = tf.constant(config.imbalance.logit_adjustment * np.log(prior), tf.float32)
    class_weights = tf.constant(loss_weights(truth[rows], drawn, config.imbalance), tf.float32)
    values = (features.values - features.values[rows].mean(axis=0)) / (
        features.values[rows].std(axis=0) + 1e-3
    )
    photos_of_epoch = epoch_length(truth[rows], config.imbalance)
    steps = photos_of_epoch // BATCH

    tf_keras.utils.set_random_seed(config.seed)
    head = tf_keras.layers.Dense(classes)
    head.build((None, values.shape[1]))
    schedule = tf_keras.optimizers.schedules.CosineDecay(LEARNING_RATE, EPOCHS * steps)
    optimizer = tf_keras.optimizers.AdamW(schedule, weight_decay=config.optimizer.weight_decay)
    optimizer.build(head.trainable_variables)

    @tf.function(reduce_retracing=True)
    def learn(batch: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            losses = photo_losses(head(batch), tf.one_hot(labels, classes), config.loss, adjustment)
            loss = tf.reduce_mean(losses * tf.gather(class_weights, labels))
        gradients = tape.gradient(loss, head.trainable_variables)
        optimizer.apply_gradients(zip(gradients, head.trainable_variables, strict=True))

    for epoch in range(EPOCHS):
        shown = rows[draw_epoch(drawn, (config.seed, epoch), photos_of_epoch)]
        for step in range(steps):
            batch = shown[step * BATCH : (step + 1) * BATCH]
            learn(tf.constant(values[batch]), tf.constant(truth[batch]))
    logits = head(tf.constant(values)).numpy().astype(np.float64)
    return logits, balanced_accuracy(truth[rows], logits[rows].argmax(axis=1), classes)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 done, 2 refused, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m train.head_study", allow_abbrev=False)
    parser.add_argument("study", type=Path, metavar="STUDY.toml", help="see train/studies")
    parser.add_argument("features", type=Path, metavar="FEATURES.npz", help="of train.features")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _compare_heads(arguments))


def _compare_heads(arguments: argparse.Namespace) -> int:
    rows = run_head_study(arguments.study, read_features(arguments.features), arguments.workdir)
    print(as_table(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
