"""The network with its first weights: random, pretrained, or of a converted file. TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tf_keras

from train.artifacts.manifest import read_parts
from train.configs.paths import find_file, find_folder
from train.data.split import require_unseen
from train.networks import registry
from train.networks.from_tflite import start_from_tflite
from train.training.inputs import Inputs
from train.training.pipeline import training_batches
from train.training.training_data import TrainingData, stage_augmentation, training_data

# For a network that starts from a converted file: each channel's statistics are then a hundredth of their spread off.
STATISTICS_PHOTOS = 1280


def seeded_model(inputs: Inputs, run: Path) -> Any:
    """Build the first network as training does, in a fresh session with the config's seed."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(inputs.config.seed)
    return first_model(inputs, run)


def first_model(inputs: Inputs, run: Path, data: TrainingData | None = None) -> Any:
    """Build the network with its first weights, for pixels of any size.

    Args:
        inputs: Whose config counts.
        run: The run directory.
        data: What training draws from; None reads it where a converted file gives the weights.

    Raises:
        ConfigInvalid: model.start names no file of this network.
        SplitLeaks: That file was trained on photos that are held out here.
    """
    given = inputs.config.model
    model = registry.build_model(given, len(inputs.codes), None, pretrained=not given.start)
    if given.start:
        start = find_file(given.start, "model.start", "a .tflite of the same network")
        if given.start_trained_on:
            trained = find_folder(given.start_trained_on, "model.start_trained_on", "a record, or a run")
            require_unseen(start, read_parts(trained), inputs.data.assignment)
        start_from_tflite(model, start, start_views(inputs, data or training_data(inputs, run)))
    return model


def start_views(inputs: Inputs, data: TrainingData) -> npt.NDArray[np.float32]:
    """Draw views as the last stage shows them, OOD images among them.

    A converted file holds batch norms of such views, folded in. Scale and offset can be told apart again only by the
    statistics that those had: of whole photos they would be others (train/networks/from_tflite.py).

    Returns:
        [n, size_px, size_px, 3] normalized.
    """
    config, stage = inputs.config, inputs.config.stage[-1]
    steps = max(1, STATISTICS_PHOTOS // stage.batch)
    drawn = np.random.default_rng(config.seed).choice(data.rows, steps * stage.batch, p=data.drawn)
    batches = training_batches(
        data.photos_by_stage[-1],
        drawn,
        first_step=0,
        batch=stage.batch,
        size_px=stage.size_px,
        augmentation=stage_augmentation(config, stage),
        normalization=inputs.contract.normalization,
        seed=(config.seed, 0),
    )
    return np.concatenate([batch.pixels.numpy() for batch in batches])
