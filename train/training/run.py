"""An experiment from config to finished run directory: prepare, train, finish. TensorFlow, imported late."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import escaped
from train.artifacts.files import read_object
from train.artifacts.manifest import Manifest, read_parts
from train.configs.loading import find_path, load_config
from train.configs.schema import TrainConfig
from train.data.split import require_unseen
from train.training.distribute import Worker, replicas_for, this_worker, watched
from train.training.inputs import Inputs, TrainingData, stage_augmentation, training_data
from train.training.measure import finish
from train.training.prepare import open_run, prepare

Weights = list[npt.NDArray[np.float32]]
# For a network that starts from a converted file: each channel's statistics are then a hundredth of their spread off.
STATISTICS_PHOTOS = 1280
DATA_HELP = "folder of the (first) data set (default: DERMEDGE_DATA, else beside the checkout)"
Maker = Callable[[Inputs, Path, Worker], Weights | None]


def add_run_options(parser: argparse.ArgumentParser, metavar: str, workdir: str) -> None:
    """Add the config and --workdir, --data, --pixels to the parser of a training command."""
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="experiment, see train/configs")
    parser.add_argument("--workdir", type=Path, required=True, metavar=metavar, help=f"{workdir} (required)")
    parser.add_argument("--data", type=Path, metavar="DIR", help=DATA_HELP)
    pixels = f"pixel cache to share with other runs (default: {metavar}/pixels)"
    parser.add_argument("--pixels", type=Path, metavar="DIR", help=pixels)


def run_experiment(
    config_path: Path,
    run: Path,
    data_folder: Path | None = None,
    *,
    pixels: Path | None = None,
    config: TrainConfig | None = None,
    manifests: Sequence[Manifest] | None = None,
    make: Maker | None = None,
) -> dict[str, Any]:
    """Train a config in a run directory, from the start or from where it was interrupted.

    Args:
        config_path: The experiment's TOML.
        run: The run directory; made if absent.
        data_folder: The first data set's own folder; None looks in DERMEDGE_DATA, then beside the checkout.
        pixels: Folder of the pixel cache; None is RUN/pixels. Runs on the same data may share one.
        config: The experiment where it differs from the file: a fold of a cross-validation.
        manifests: What `read_sources` returned, to read the photos of several folds once.
        make: Makes the weights in place of `train_weights`; where it returns None, the run is left prepared, to be
            finished by a later call.

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
        if state.get("status") == "done":  # With the same [decision]; with another one only training is over.
            print(escaped(f"{place}: this run is complete; see {place / 'metrics.json'}"))
            return read_object(place / "metrics.json") if worker.chief else {}
        cache = pixels or worker.pixels(run)
        inputs = prepare(config, place, state, data_folder, pixels=cache, manifests=manifests)
        weights = (make or train_weights)(inputs, place, worker)
        if weights is None:
            return {}
        if not worker.chief:
            print(f"worker {worker.index}: done; worker 0 evaluates")
            return {}
        return finish(inputs, weights, place)


def train_weights(inputs: Inputs, run: Path, worker: Worker) -> Weights:
    """Train the network in its run directory, from the newest checkpoint if there is one; return its weights."""
    # TensorFlow takes seconds to import: after everything that can be refused without it.
    import tf_keras

    from train.training.loop import Trainer

    config = inputs.config
    tf_keras.backend.clear_session()
    with watched(worker):
        replicas = replicas_for(config, worker)
        tf_keras.utils.set_random_seed(config.seed)
        data = training_data(inputs, run)
        if worker.chief:
            inputs.keep_pixels()
        replicas.require_equal(_fingerprint(inputs, data))
        with replicas.scope():
            model = first_model(inputs, run, data)
            trainer = Trainer(model, config, data, inputs.contract.normalization, run, replicas)
        trainer.train()
    return list(trainer.plain.get_weights())


def first_model(inputs: Inputs, run: Path, data: TrainingData | None = None) -> Any:
    """Build the network with its first weights, for pixels of any size.

    `data` is what training draws from; None reads it where a converted file gives the weights.

    Raises:
        ConfigInvalid: model.start names no file of this network.
        SplitLeaks: That file was trained on photos that are held out here.
    """
    from train.networks import registry
    from train.networks.from_tflite import start_from_tflite

    given = inputs.config.model
    model = registry.build_model(given, len(inputs.codes), None, pretrained=not given.start)
    if given.start:
        start = find_path(given.start, "model.start", "a .tflite of the same network")
        if given.start_trained_on:
            trained = find_path(given.start_trained_on, "model.start_trained_on", "a record, or a run")
            require_unseen(start, read_parts(trained), inputs.data.assignment)
        start_from_tflite(model, start, start_views(inputs, data or training_data(inputs, run)))
    return model


def start_views(inputs: Inputs, data: TrainingData) -> npt.NDArray[np.float32]:
    """Draw views as the last stage shows them, OOD images among them.

    A converted file holds batch norms of such views, folded in. Scale and offset can be separated again only by the
    statistics that those had: of whole photos they would be others (train/networks/from_tflite.py).

    Returns:
        [n, size_px, size_px, 3] normalized.
    """
    from train.training.pipeline import training_batches

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


def _fingerprint(inputs: Inputs, data: TrainingData) -> str:
    """What all workers must have in common: config, photos, split, and the pixels of some of the photos."""
    pixels_u8 = data.photos_by_stage[0].pixels_u8
    some = pixels_u8[:: max(1, len(pixels_u8) // 64)]
    split = sorted(inputs.data.assignment.items())
    return repr((inputs.config, inputs.data.manifest.sha256, split, zlib.crc32(some.tobytes())))
