"""Batches for quantization-aware fine-tuning: a pure function of seed and step, so that any step can be resumed. numpy.

Photos are drawn with replacement, with training's probabilities. Augmentation is mild: the distillation target is
computed on the same view, so it only spreads the inputs on which both models must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convert.inputs import Photo, Sampling
from train.data.pixels import PixelArray
from train.data.sampling import photo_weights
from train.evaluation.metrics import FloatArray, IntArray

BRIGHTNESS, CONTRAST, CHANNEL_GAIN = 0.10, 0.10, 0.04
# Draws of an epoch. Fine-tuning starts where most predictions agree already and moves little: so many views cost a few
# minutes, an evaluation of the file a quarter of one.
EPOCH_VIEWS = 512
ViewArray = npt.NDArray[np.float32]


class Batch(NamedTuple):
    """One step's photos."""

    views: ViewArray
    """[batch, height_px, width_px, 3] normalized."""
    labels: IntArray
    """[batch]."""
    soft_labels: ViewArray | None
    """[batch, labels]; None without a teacher."""


@dataclass(frozen=True)
class TrainingStream:
    """All batches of a fine-tuning."""

    pixels_u8: PixelArray
    """[n, height_px, width_px, 3]."""
    labels: IntArray
    """[n]."""
    mean: float
    std: float
    batch: int
    weights: FloatArray
    """[n] by which photos are drawn, see `sampling_weights`."""
    seed: int
    soft_labels: ViewArray | None = None
    """[n, labels] probabilities of a teacher, see convert/quantization/soft_labels.py."""

    @property
    def steps_per_epoch(self) -> int:
        """As many draws as there are photos, at most EPOCH_VIEWS, at least one batch."""
        return max(1, min(len(self.labels), EPOCH_VIEWS) // self.batch)

    def batch_at(self, step: int) -> Batch:
        """The batch of one step, from 0."""
        rng = np.random.default_rng([self.seed, step])
        drawn = rng.choice(len(self.labels), size=self.batch, p=self.weights)
        views = np.stack([_view(self.pixels_u8[i], rng) for i in drawn])
        normalized: ViewArray = (views - np.float32(self.mean)) / np.float32(self.std)
        soft = None if self.soft_labels is None else self.soft_labels[drawn]
        return Batch(normalized, self.labels[drawn], soft)

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """Batches of steps first_step to end_step - 1, each made, as one beyond them, while the one before is used."""
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(self.batch_at, first_step)
            for step in range(first_step, end_step):
                ready = upcoming.result()
                upcoming = pool.submit(self.batch_at, step + 1)
                yield ready


def sampling_weights(photos: Sequence[Photo], sampling: Sampling) -> FloatArray:
    """Return the probability of each photo, [n], as training drew them; they sum to 1."""
    labels = np.array([photo.label for photo in photos], np.int64)
    groups = [photo.group_id for photo in photos]
    source_draw = np.array([sampling.source_draw.get(photo.source, 1.0) for photo in photos])
    weights: FloatArray = photo_weights(labels, groups, sampling, source_draw)
    return weights


def _view(photo_u8: PixelArray, rng: np.random.Generator) -> ViewArray:
    """One of the eight flips and turns (four if not square), a little other light; float32 in 0..255."""
    quarter_turns = int(rng.integers(4))
    if photo_u8.shape[0] != photo_u8.shape[1]:
        quarter_turns -= quarter_turns % 2
    turned = np.rot90(photo_u8, quarter_turns)
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    gain = 1 + rng.uniform(-CONTRAST, CONTRAST)
    offset = 255 * rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    channel_gain = 1 + rng.uniform(-CHANNEL_GAIN, CHANNEL_GAIN, 3)
    slope = (gain * channel_gain).astype(np.float32)
    intercept = (128 - 128 * slope + offset).astype(np.float32)
    view: ViewArray = np.clip(turned * slope + intercept, 0, 255, dtype=np.float32)
    return view
