"""Cost of a training step with TensorFlow's own kernels and with oneDNN's, of the input pipeline, and of inference.

    python -m tests.benchmarks.train_step [--backbone NAME] [--size-px N] [--batch N] [--runs N]

Processes take turns, one with each set of kernels, on one core and with random weights; each times the steps after its
first. `train/__init__.py` turns oneDNN on; TensorFlow does so by itself only on processors with AVX512-VNNI, where the
ratio is 1 because nothing changes. In one more process the same photos are predicted by `predict_on_batch` sixteen at a
time, as `train/evaluation/predict.py` does, and by `model(...)` sixty-four at a time. Processor time; prints medians
and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

from tests.benchmarks.cold_start import ROOT, environment

STEP = """\
import json, sys, time
import numpy as np
from train.networks.registry import build_model
from train.configs.schema import ModelConfig
import tensorflow as tf
name, size_px, batch, steps, mode = json.loads(sys.argv[1])
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
model = build_model(ModelConfig(backbone=name), 7, None, pretrained=False)
pixels = np.random.default_rng(0).normal(size=(batch, size_px, size_px, 3)).astype(np.float32)
labels = np.arange(batch) % 7
@tf.function
def step():
    with tf.GradientTape() as tape:
        logits = model(pixels, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return tape.gradient(loss, model.trainable_variables)
def compiled():
    for first in range(0, batch, 16):
        model.predict_on_batch(pixels[first : first + 16])
def eager():
    np.asarray(model(pixels, training=False))
def seconds(work):
    work()
    start = time.process_time()
    for _ in range(steps):
        work()
    return (time.process_time() - start) / steps
def pipeline():
    return next(batches)
if mode == "pipeline":
    from edge_runtime.contract import Normalization
    from train.configs.schema import AugmentConfig
    from train.training.inputs import Photos
    from train.training.pipeline import training_batches
    side = round(size_px * 1.15)
    squares = np.random.default_rng(0).integers(256, size=(batch, side, side, 3), dtype=np.uint8)
    views = AugmentConfig(blur=0.1, jpeg=0.1, cutout=0.2, mixup=0.2)
    drawn = np.tile(np.arange(batch), steps + 8)
    batches = iter(training_batches(Photos(squares, labels, 7), drawn, first_step=0, batch=batch, size_px=size_px,
        augmentation=views, normalization=Normalization(128.0, 128.0), seed=(0, 0)))
work = {"step": (step,), "pipeline": (pipeline,), "inference": (compiled, eager)}[mode]
print(json.dumps([seconds(one) for one in work]))
"""


def measure(given: Sequence[object], onednn: bool) -> list[float]:
    """Processor seconds of one process: of a step, or of both ways of inference. `given` as the script takes it."""
    command = [sys.executable, "-c", STEP, json.dumps(given)]
    kernels = {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, cwd=ROOT, env={**environment(), **kernels}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"the measured process failed:\n{done.stderr[-2000:]}")
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Print the ratios; return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.train_step", allow_abbrev=False)
    parser.add_argument("--backbone", default="efficientnet_lite0", help="default %(default)s")
    parser.add_argument("--size-px", type=int, default=224, metavar="N", help="default %(default)s")
    parser.add_argument(
        "--batch", type=int, default=32, metavar="N", help="photos a step (default %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default %(default)s")
    arguments = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    given = [arguments.backbone, arguments.size_px, arguments.batch, 3]
    pairs = [
        [measure([*given, "step"], onednn)[0] for onednn in (False, True)] for _ in range(arguments.runs)
    ]
    own, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"  a step of {arguments.batch} photos: own kernels {own:.2f} s, oneDNN's {theirs:.2f} s, ratio {ratio:.2f}"
    )
    (pipeline,) = measure([*given, "pipeline"], True)
    print(
        f"  input pipeline, a batch of {arguments.batch}: {pipeline:.2f} s, ratio to a step {pipeline / theirs:.2f}"
    )
    compiled, eager = measure([*given[:2], 64, 3, "inference"], True)
    print(
        f"  inference, 64 photos: compiled {compiled:.2f} s, eager {eager:.2f} s, ratio {eager / compiled:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
