"""An experiment from config to finished run directory: prepare, train, finish. TensorFlow, imported late."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.artifacts.files import read_object
from train.artifacts.manifest import Manifest
from train.configs.loading import load_config
from train.configs.schema import TrainConfig
from train.training.inputs import Inputs
from train.training.measure import finish
from train.training.prepare import open_run, prepare
from train.training.training_data import TrainingData, training_data
from train.training.workers import Worker, this_worker

Weights = list[npt.NDArray[np.float32]]
Maker = Callable[[Inputs, Path, Worker], Weights | None]


def train_weights(inputs: Inputs, run: Path, worker: Worker) -> Weights:
    """Train the network in its run directory, from the newest checkpoint if there is one; return its weights."""
    # TensorFlow takes seconds to import: after everything that can be refused without it.
    import tf_keras

    from train.training.distribute import replicas_for, watched
    from train.training.loop import Trainer
    from train.training.start import first_model

    config = inputs.config
    tf_keras.backend.clear_session()
    with watched(worker):
        replicas = replicas_for(config, worker)
        tf_keras.utils.set_random_seed(config.seed)
        data = training_data(inputs, run)
        replicas.require_equal(_fingerprint(inputs, data))
        with replicas.scope():
            model = first_model(inputs, run, data)
            trainer = Trainer(model, config, data, inputs.contract.normalization, run, replicas)
        trainer.train()
    weights: Weights = trainer.plain.get_weights()
    return weights


def run_experiment(
    config_path: Path,
    run: Path,
    data_folder: Path | None = None,
    *,
    pixels: Path | None = None,
    config: TrainConfig | None = None,
    manifests: Sequence[Manifest] | None = None,
    make: Maker = train_weights,
) -> dict[str, Any]:
    """Train a config in a run directory, from the start or from where it was interrupted.

    Args:
        config_path: The experiment's TOML.
        run: The run directory; made if absent.
        data_folder: The first data set's own folder; None looks in DERMEDGE_DATA, then beside the checkout.
        pixels: Folder of the pixel cache; None is RUN/pixels. Runs on the same data may share one.
        config: The experiment where it differs from the file: a fold of a cross-validation.
        manifests: What `read_sources` returned, to read the photos of several folds once.
        make: Makes the weights; None for weights leaves the run prepared, to be finished by a later call.

    Returns:
        The content of metrics.json; empty for a worker that is not the chief, and for a run that was only prepared.

    Raises:
        ConfigInvalid, DataInvalid, SplitLeaks, RunInvalid: Before training starts.
        RunInvalid: Another worker failed.
    """
    config = config or load_config(config_path)
    worker = this_worker(config.distribute)
    with worker.place(run) as place:
        state = open_run(config, config_path, place)
        if state["status"] == "done":  # With the same [decision]; with another one only training is over.
            print(f"{place}: this run is complete; see {place / 'metrics.json'}")
            return read_object(place / "metrics.json") if worker.chief else {}
        cache = pixels or worker.pixels(run)
        inputs = prepare(config, place, state, data_folder, pixels=cache, manifests=manifests)
        weights = make(inputs, place, worker)
        if weights is None:
            return {}
        if not worker.chief:
            print(f"worker {worker.index}: done; worker 0 evaluates")
            return {}
        return finish(inputs, weights, place)


def _fingerprint(inputs: Inputs, data: TrainingData) -> str:
    """What all workers must have in common: config, photos, split, and the pixels of some of the photos."""
    pixels_u8 = data.photos_by_stage[0].pixels_u8
    some = pixels_u8[:: max(1, len(pixels_u8) // 64)]
    split = sorted(inputs.data.assignment.items())
    return repr((inputs.config, inputs.data.manifest.sha256, split, zlib.crc32(some.tobytes())))
