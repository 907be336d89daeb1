"""A whole experiment, from config to run directory: the road of this room, read downwards.

photos -> manifest -> split (gate) -> contract -> cached pixels -> training -> figures and pictures
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import (
    SCHEMA_VERSION,
    Calibration,
    Decision,
    Geometry,
    InputSpec,
    ModelContract,
    Normalization,
    OutputSpec,
    Provenance,
)
from edge_runtime.errors import RunInvalid
from train.artifacts import run as run_dir
from train.artifacts.manifest import LabelSet, Manifest, read_parts, write_manifest
from train.configs.loading import load_config, parse_config
from train.configs.paths import find_file, find_folder
from train.configs.schema import TrainConfig
from train.data.sources import NO_TEST, DataSet, find_data, merged_labels, read_sources, reread, split_sources
from train.data.split import require_unseen
from train.evaluation.results import read_object
from train.experiments.torch import handover
from train.training.inputs import TRAIN, Inputs
from train.training.measure import measure
from train.training.soft_labels import COPY_NAME, keep_teacher
from train.training.teacher_networks import FOLDER, keep_networks, read_networks
from train.training.training_data import TrainingData, evenly, stage_augmentation, training_data
from train.training.workers import Worker, this_worker

Weights = list[npt.NDArray[np.float32]]
Maker = Callable[[Inputs, Path, Worker], tuple[Weights, list[dict[str, Any]]]]

# Any of these is work that a new config would lose; tensorboard/ is there from the first step on.
LEARNT_FILES = ("history.csv", "tensorboard", "checkpoints", "model.keras", handover.START, handover.LEARNT)
# For a network that starts from a converted file: each channel's statistics are then a hundredth of their spread off.
STATISTICS_PHOTOS = 1280


def run_experiment(
    config_path: Path,
    run: Path,
    data_folder: Path | None = None,
    *,
    pixels: Path | None = None,
    config: TrainConfig | None = None,
    manifests: Sequence[Manifest] | None = None,
    make: Maker | None = None,
    hand_over: bool = False,
) -> dict[str, Any]:
    """Trains a config in a run directory, from the start or from where it was interrupted.

    Args:
        config_path: The experiment's TOML.
        run: The run directory; made if absent.
        data_folder: The first data set's own folder; None looks in DERMEDGE_DATA, then beside the checkout.
        pixels: Folder of the pixel cache; None is RUN/pixels. Runs on the same data may share one.
        config: The experiment where it differs from the file: a fold of a cross-validation.
        manifests: What `read_sources` gave, to read the photos of several folds once.
        make: Makes the weights in place of training (train/experiments/soup.py).
        hand_over: Stop before training, with what another machine needs for it (train/experiments/torch/handover.py).

    Returns:
        The content of metrics.json; nothing for a worker that is not the chief, or a run that is handed over.

    Raises:
        ConfigInvalid, DataInvalid, SplitLeaks, RunInvalid: Before training starts.
        RunInvalid: Another worker has gone.
    """
    config = config or load_config(config_path)
    worker = this_worker(config.distribute)
    with worker.place(run) as place:
        cache = pixels or worker.pixels(run)
        return _run(
            config, config_path, place, data_folder, cache, manifests, worker, make or _train, hand_over
        )


def _run(
    config: TrainConfig,
    config_path: Path,
    run: Path,
    data_folder: Path | None,
    pixels: Path,
    manifests: Sequence[Manifest] | None,
    worker: Worker,
    make: Maker,
    hand_over: bool,
) -> dict[str, Any]:
    """As `run_experiment`, with everything settled that differs from one worker to another."""
    state = _open_run(config, config_path, run)
    if state["status"] == "done":  # With the same [decision]; with another one only training is over.
        print(f"{run}: this run is complete; see {run / 'metrics.json'}")
        if not worker.chief:
            return {}
        done: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        return done
    inputs = _prepare_run(
        config, run, state, data_folder, pixels=pixels, manifests=manifests, handed_over=hand_over
    )
    if hand_over:
        _hand_over(inputs, run)
        return {}
    weights, _ = make(inputs, run, worker)
    model = _finished_model(inputs, weights, run)
    if not worker.chief:
        print(f"worker {worker.index}: done; the chief measures")
        return {}
    metrics = measure(inputs, model, run)
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    run_dir.write_json(run / "run.json", {**state, "status": "done"})
    return metrics


def _prepare_run(
    config: TrainConfig,
    run: Path,
    state: dict[str, Any],
    data_folder: Path | None,
    *,
    pixels: Path,
    manifests: Sequence[Manifest] | None,
    handed_over: bool,
) -> Inputs:
    """Everything between an opened run and its training: photos, split, contract and teacher, new or read back."""
    labels = merged_labels(config)
    folder = find_data(config, data_folder)
    data = _prepare_data(config, run, folder, manifests)
    state["data"] = {
        "name": data.manifest.name,
        "root": str(data.manifest.root.resolve()),
        "licence": labels.licence,
    }
    if reason := _why_not_converted(config):
        state["not_for_conversion"] = reason
    run_dir.write_json(run / "run.json", state)
    contract = make_contract(config, labels, data.manifest, state)
    run_dir.write_text(run / "contract.json", contract.to_json())
    inputs = Inputs(config, contract, data, folder, pixels)
    # Whatever makes the weights, quantization-aware fine-tuning learns from the recipe's teacher too.
    keep_teacher(config.distill, run, data.manifest, inputs.training_rows())
    keep_networks(inputs, run, handed_over=handed_over)
    return inputs


def _why_not_converted(config: TrainConfig) -> str:
    """Why a run's figures would not hold for one view of its exported model; empty if they do."""
    if config.split.method == "random":
        return "its random split leaks lesions into the test photos"
    if config.tiles.grid:
        return "it answers by the mean over tiles, which one view of the photo does not reproduce"
    if config.model.start and not config.model.start_learnt_from and config.split.test_fold != NO_TEST:
        return "nothing says whether the file that it started from has learnt its test photos (model.start_learnt_from)"
    return ""


# -------------------------------------------------------------------- the run directory


def _open_run(config: TrainConfig, config_path: Path, run: Path) -> dict[str, Any]:
    """The state in run.json, new or of the interrupted run; refuses a directory of another config."""
    resolved = config.to_dict()
    if (run / "run.json").exists():
        state = _reopen_run(resolved, config_path, run)
        return state or _begin_run(config, resolved, config_path, run)
    if run.exists() and any(path.name not in ("config.toml", "config.json") for path in run.iterdir()):
        raise RunInvalid(
            f"{run}: not a run directory",
            found="other files",
            expected="an empty or new folder, or an interrupted run",
            fix="choose another --workdir",
        )
    return _begin_run(config, resolved, config_path, run)


def _begin_run(config: TrainConfig, resolved: dict[str, Any], config_path: Path, run: Path) -> dict[str, Any]:
    run.mkdir(parents=True, exist_ok=True)
    _write_config(resolved, config_path, run)
    started = datetime.now(UTC)
    state = {
        "run_id": f"{config.name}-{started:%Y%m%d-%H%M%S}",
        "status": "training",
        "started": started.isoformat(timespec="seconds"),
        "seed": config.seed,
        "commit": run_dir.git_commit(),
        "versions": run_dir.package_versions(),
    }
    run_dir.write_json(run / "run.json", state)
    return state


def _reopen_run(resolved: dict[str, Any], config_path: Path, run: Path) -> dict[str, Any] | None:
    """The state of an interrupted or finished run; None of one that is begun anew.

    Another [decision] is taken: it begins after training. Where nothing was learnt yet any other config is: the first
    one may have been refused for what only the photos could show.
    """
    # Read as any config is: a key that came later stands there with its default.
    before = parse_config(read_object(run / "config.json"), str(run / "config.json")).to_dict()
    state = read_object(run / "run.json")
    changed = sorted(key for key in resolved if before[key] != resolved[key])
    if changed == ["decision"] and state["status"] == "done" and not (run / "model.keras").exists():
        raise RunInvalid(
            f"{run}: this run cannot be measured again",
            found=f"another [decision], and no model.keras: {state.get('not_for_conversion', 'it was removed')}",
            expected="the [decision] it was finished with",
            fix="choose another --workdir and train again, or restore the config",
        )
    if changed == ["decision"]:
        state["status"] = "training"
        run_dir.write_json(run / "run.json", state)
        _write_config(resolved, config_path, run)
    elif changed and state["status"] != "done" and not any((run / name).exists() for name in LEARNT_FILES):
        for name in ("manifest.csv", "split.json", "contract.json", COPY_NAME):
            (run / name).unlink(missing_ok=True)
        shutil.rmtree(run / FOLDER, ignore_errors=True)
        return None
    elif changed:
        raise RunInvalid(
            f"{run}: this run directory belongs to another config",
            found=f"differences in {', '.join(changed)}",
            expected="the config it was started with (only [decision] may change)",
            fix="choose another --workdir, or restore the config",
        )
    return state


def _write_config(resolved: dict[str, Any], config_path: Path, run: Path) -> None:
    run_dir.write_text(run / "config.toml", config_path.read_text(encoding="utf-8"))
    run_dir.write_json(run / "config.json", resolved)


# -------------------------------------------------------------------- photos, split, contract


def _prepare_data(
    config: TrainConfig, run: Path, folder: Path, manifests: Sequence[Manifest] | None
) -> DataSet:
    """Photos and split; those of an interrupted run are read back and pass the gate again."""
    path = run / "manifest.csv"
    if path.exists():
        return reread(config, path, folder)
    data = split_sources(config, manifests or read_sources(config, folder))
    for name, leak in data.leaks.items():
        print(f"{name}: {leak.text()}")
    run_dir.write_json(run / "split.json", {name: leak.to_dict() for name, leak in data.leaks.items()})
    write_manifest(path, data.manifest, data.assignment, data.group_of)
    return data


def make_contract(
    config: TrainConfig, labels: LabelSet, manifest: Manifest, state: dict[str, Any]
) -> ModelContract:
    """The contract of an untrained, unconverted model; calibration and decision are filled in after training."""
    given = config.input
    return ModelContract(
        schema_version=SCHEMA_VERSION,
        model_id=config.name,
        labels=labels.labels,
        input=InputSpec(given.size_px, given.size_px, "RGB", "over_white"),
        geometry=Geometry(
            decode_scaling=given.decode_scaling,
            decode_oversampling=given.decode_oversampling,
            exif="transpose",
            crop=given.crop,
            crop_fraction=given.crop_fraction,
            filter="bilinear",
        ),
        normalization=Normalization(given.mean, given.std),
        output=OutputSpec("softmax"),
        calibration=Calibration("none", 1.0),
        decision=Decision(refer=None, not_a_lesion=None),
        provenance=Provenance(
            run_id=state["run_id"],
            recipe="none",
            data_name=manifest.name,
            data_manifest_sha256=manifest.sha256,
            data_licence=labels.licence,
            model_licence=labels.model_licence,
            commit=state["commit"],
        ),
        intended_use=labels.intended_use,
        golden=(),
    )


# -------------------------------------------------------------------- training


def _train(inputs: Inputs, run: Path, worker: Worker) -> tuple[Weights, list[dict[str, Any]]]:
    """The trained weights, and the history; where they were learnt elsewhere, those."""
    if (run / handover.LEARNT).exists():
        return _take_back(inputs, run)
    # TensorFlow takes seconds to import: after everything that can be refused without it.
    import tf_keras

    from train.training.distribute import replicas_for, watched
    from train.training.loop import Trainer, asked_teacher

    config = inputs.config
    tf_keras.backend.clear_session()
    with watched(worker):
        replicas = replicas_for(config, worker)
        tf_keras.utils.set_random_seed(config.seed)
        data = training_data(inputs, run)
        replicas.require_equal(_fingerprint(inputs, data))
        with replicas.scope():
            model = _first_model(inputs, lambda: data)
            teacher = asked_teacher(read_networks(inputs, run))
            trainer = Trainer(model, config, data, inputs.contract.normalization, run, replicas, teacher)
        history = trainer.train()
    return trainer.plain.get_weights(), history


def _first_model(inputs: Inputs, data: Callable[[], TrainingData]) -> Any:
    """The network with its first weights; `data` is asked only where a converted file gives them."""
    from train.networks.from_tflite import start_from_tflite
    from train.networks.registry import build_model

    given = inputs.config.model
    model = build_model(given, len(inputs.codes), None, pretrained=not given.start)
    if given.start:
        start = find_file(given.start, "model.start", "a .tflite of the same network")
        if given.start_learnt_from:
            learner = find_folder(given.start_learnt_from, "model.start_learnt_from", "a record, or a run")
            require_unseen(start, read_parts(learner), inputs.data.assignment)
        start_from_tflite(model, start, start_views(inputs, data()))
    return model


def _hand_over(inputs: Inputs, run: Path) -> None:
    import tf_keras

    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(inputs.config.seed)
    model = _first_model(inputs, lambda: training_data(inputs, run))
    handover.hand_over(inputs, run, model.get_weights(), model.to_json())


def _take_back(inputs: Inputs, run: Path) -> tuple[Weights, list[dict[str, Any]]]:
    from train.training.loop import read_history

    weights, noted = handover.take_back(inputs, run)
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    learnt = {key: noted[key] for key in ("device", "torch", "seconds")}
    run_dir.write_json(run / "run.json", {**state, "learnt_elsewhere": learnt, "seconds": learnt["seconds"]})
    return weights, read_history(run / "history.csv")


def _finished_model(inputs: Inputs, weights: Weights, run: Path) -> Any:
    """The network with a fixed input size, as it is measured and converted; saved as model.keras."""
    from train.evaluation.predict import correct_prior
    from train.networks.batch_norm import settle
    from train.networks.registry import build_model

    config, rows = inputs.config, inputs.training_rows()
    drawn = inputs.draw_chances(rows)
    model = build_model(config.model, len(inputs.codes), config.input.size_px, pretrained=False)
    model.set_weights(weights)
    if config.model.batch_norm_photos:
        photos_u8 = inputs.shown(rows, drawn, config.model.batch_norm_photos)
        given = inputs.outliers(TRAIN, config.input.size_px)
        outliers_u8 = np.random.default_rng(config.seed).permutation(evenly(*given)) if given else None
        share = config.outliers.per_batch / config.stage[-1].batch
        settle(model, photos_u8, inputs.contract.normalization, outliers_u8, share)
    correct_prior(model, inputs.prior_correction(rows, drawn))
    with run_dir.whole_file(run / "model.keras") as temporary:
        model.save(str(temporary))
    return model


def start_views(inputs: Inputs, data: TrainingData) -> npt.NDArray[np.float32]:
    """[n, size_px, size_px, 3] normalized views as the last stage shows them, pictures of no lesion among them.

    A converted file holds batch norms of such views, folded in. Scale and offset can be told apart again only by the
    statistics that those had: of whole photos they would be others (train/networks/from_tflite.py).
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
