"""A whole experiment, from config to run directory: the road of this room, read downwards.

photos -> manifest -> split (gate) -> contract -> cached pixels -> training -> figures and pictures
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

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
from edge_runtime.errors import ConfigInvalid, DataInvalid, RunInvalid
from train import run_dir
from train.config import TrainConfig, load_config
from train.manifest import LabelSet, Manifest, load_labels, read_manifest, write_manifest
from train.metrics import FloatArray, expected_calibration_error, softmax, summarize
from train.pixels import PixelArray, cached_pixels
from train.readers import read_photos
from train.split import check_split, make_split

DATA_VARIABLE = "DERMEDGE_DATA"
DEVELOPER_DATA = Path(__file__).parents[2] / "shared" / "data"
SPLITS = ("train", "val", "test")


def run_experiment(config_path: Path, run: Path, data_folder: Path | None = None) -> dict[str, Any]:
    """Trains a config in a run directory, from the start or from where it was interrupted.

    Args:
        config_path: The experiment's TOML.
        run: The run directory; made if absent.
        data_folder: The data set's own folder; None looks in DERMEDGE_DATA, then beside the checkout.

    Returns:
        The content of metrics.json.

    Raises:
        ConfigInvalid, DataInvalid, SplitLeaks, RunInvalid: Before training starts.
    """
    config = load_config(config_path)
    labels = load_labels(config.data.labels)
    state = _open_run(config, config_path, run)
    if state["status"] == "done":  # With the same [decision]; with another one only training is over.
        print(f"{run}: this run is complete; see {run / 'metrics.json'}")
        done: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        return done

    manifest, assignment, groups = _prepare_data(config, labels, run, find_data(config, data_folder))
    state["data"] = {"name": manifest.name, "root": str(manifest.root.resolve()), "licence": labels.licence}
    run_dir.write_json(run / "run.json", state)
    contract = make_contract(config, labels, manifest, state)
    run_dir.write_text(run / "contract.json", contract.to_json())

    ids = {
        split: [p.photo_id for p in manifest.photos if assignment[p.photo_id] == split] for split in SPLITS
    }
    model, history = _train(config, contract, manifest, ids, run)
    metrics = _measure(config, contract, model, manifest, ids, groups, run)
    _draw(history, metrics, contract, run)
    run_dir.write_json(run / "run.json", {**state, "status": "done"})
    return metrics


# -------------------------------------------------------------------- the run directory


def _open_run(config: TrainConfig, config_path: Path, run: Path) -> dict[str, Any]:
    """The state in run.json, new or of the interrupted run; refuses a directory of another config."""
    resolved = json.loads(json.dumps(config.to_dict()))
    if (run / "run.json").exists():
        return _reopen_run(resolved, config_path, run)
    if run.exists() and any(path.name not in ("config.toml", "config.json") for path in run.iterdir()):
        raise RunInvalid(
            f"{run}: not a run directory",
            found="other files",
            expected="an empty or new folder, or an interrupted run",
            fix="choose another --workdir",
        )
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


def _reopen_run(resolved: dict[str, Any], config_path: Path, run: Path) -> dict[str, Any]:
    """The state of an interrupted or finished run. Another [decision] is taken: it begins after training."""
    before = json.loads((run / "config.json").read_text(encoding="utf-8"))
    state: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    changed = sorted(key for key in {*before, *resolved} if before.get(key) != resolved.get(key))
    if changed == ["decision"]:
        state["status"] = "training"
        run_dir.write_json(run / "run.json", state)
        _write_config(resolved, config_path, run)
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


def find_data(config: TrainConfig, folder: Path | None) -> Path:
    """The data set's folder.

    Raises:
        DataInvalid: It is not there.
    """
    if folder is None:
        root = Path(os.environ[DATA_VARIABLE]) if DATA_VARIABLE in os.environ else DEVELOPER_DATA
        folder = root / config.data.folder
    if not folder.is_dir():
        raise DataInvalid(
            "the data folder does not exist",
            found=str(folder),
            expected=f"the folder of {config.data.folder}",
            fix=f"give it with --data, or set {DATA_VARIABLE} to the folder that holds {config.data.folder}",
        )
    return folder


def _prepare_data(
    config: TrainConfig, labels: LabelSet, run: Path, root: Path
) -> tuple[Manifest, dict[str, str], dict[str, str]]:
    """Manifest, split and groups; those of an interrupted run are read back and pass the gate again."""
    path = run / "manifest.csv"
    if path.exists():
        manifest, assignment, groups = read_manifest(path, root, config.data.folder, labels)
        check_split(manifest, assignment, config.split.near_duplicate_bits)
        return manifest, assignment, groups
    manifest = read_photos(
        config.data.reader, root, labels, name=config.data.folder, on_problem=config.data.on_problem
    )
    split = make_split(
        manifest,
        folds=config.split.folds,
        test_fold=config.split.test_fold,
        val_share=config.split.val_share,
        near_duplicate_bits=config.split.near_duplicate_bits,
        seed=config.seed,
    )
    print(split.leak.text())
    run_dir.write_json(run / "split.json", split.leak.to_dict())
    write_manifest(path, manifest, split.assignment, split.group_of)
    return manifest, split.assignment, split.group_of


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


def _train(
    config: TrainConfig, contract: ModelContract, manifest: Manifest, ids: dict[str, list[str]], run: Path
) -> tuple[Any, list[dict[str, Any]]]:
    """The trained model with a fixed input size, saved as model.keras, and the history."""
    # TensorFlow takes seconds to import: after everything that can be refused without it.
    import tf_keras

    from train.backbones import build_model
    from train.evaluate import correct_prior
    from train.loop import Trainer, TrainingData
    from train.pipeline import margin_px
    from train.sampling import loss_weights, photo_weights

    tf_keras.utils.set_random_seed(config.seed)
    photos = {photo.photo_id: photo for photo in manifest.photos}
    codes = manifest.labels.codes
    if empty := [code for code in codes if not any(photos[i].label == code for i in ids["train"])]:
        raise ConfigInvalid(
            "the training split lacks classes",
            found=f"no photo of {', '.join(empty)}",
            expected="every class in training",
            fix="use more data, or a smaller test share (split.folds)",
        )
    truth = {split: label_array(manifest, ids[split]) for split in ("train", "val")}
    drawn = photo_weights(truth["train"], [photos[i].lesion_id for i in ids["train"]], config.imbalance)
    data = TrainingData(
        labels=truth["train"],
        val_labels=truth["val"],
        drawn=drawn,
        loss_weights=loss_weights(truth["train"], drawn, config.imbalance),
        pixels_by_stage=[
            (
                cached_pixels(manifest, ids["train"], contract, margin_px(stage.size_px), run / "pixels"),
                cached_pixels(manifest, ids["val"], contract, stage.size_px, run / "pixels"),
            )
            for stage in config.stage
        ],
    )
    model = build_model(config.model, len(codes), None)
    history = Trainer(model, config, data, contract.normalization, run).train()
    fixed = build_model(config.model, len(codes), config.input.size_px, pretrained=False)
    fixed.set_weights(model.get_weights())
    prior = np.bincount(truth["train"], weights=drawn, minlength=len(codes))
    correct_prior(fixed, prior, config.decision.prior_correction)
    with run_dir.whole_file(run / "model.keras") as temporary:
        fixed.save(str(temporary))
    return fixed, history


def label_array(manifest: Manifest, photo_ids: list[str]) -> np.ndarray:
    """Class indices [n] of photos."""
    by_id = {photo.photo_id: photo.label for photo in manifest.photos}
    return np.array([manifest.labels.index(by_id[photo_id]) for photo_id in photo_ids], np.int64)


# -------------------------------------------------------------------- figures and pictures


def _measure(
    config: TrainConfig,
    contract: ModelContract,
    model: Any,
    manifest: Manifest,
    ids: dict[str, list[str]],
    groups: dict[str, str],
    run: Path,
) -> dict[str, Any]:
    """Figures of both held-out splits; temperature and threshold come from the validation photos."""
    from train.evaluate import fit_temperature, predict_logits, refer_rule

    codes = manifest.labels.codes
    malignant = [label.group == "malignant" for label in contract.labels]
    metrics: dict[str, Any] = {}
    calibration, rule = Calibration("none", 1.0), None
    for split in ("val", "test"):
        y_true = label_array(manifest, ids[split])
        pixels_u8: PixelArray = cached_pixels(
            manifest, ids[split], contract, config.input.size_px, run / "pixels"
        )
        logits = predict_logits(model, pixels_u8, contract.normalization).astype(np.float64)
        _write_predictions(run / f"predictions_{split}.csv", ids[split], manifest, softmax(logits))
        if split == "val":
            calibration = fit_temperature(y_true, logits)
            rule = refer_rule(softmax(logits, calibration.temperature), config.decision.refer_share)
        probs = softmax(logits, calibration.temperature)
        metrics[split] = summarize(y_true, probs, codes, [groups[i] for i in ids[split]], malignant)
        metrics[split]["expected_calibration_error_uncalibrated"] = expected_calibration_error(
            y_true, softmax(logits)
        )
        if rule is not None:
            kept = probs.max(axis=1) >= rule.threshold
            metrics[split]["referred_share"] = float(1 - kept.mean())
    decided = dataclasses.replace(
        contract, calibration=calibration, decision=Decision(refer=rule, not_a_lesion=None)
    )
    run_dir.write_text(run / "contract.json", decided.to_json())
    run_dir.write_json(run / "metrics.json", metrics)
    return metrics


def _write_predictions(path: Path, photo_ids: list[str], manifest: Manifest, probs: FloatArray) -> None:
    by_id = {photo.photo_id: photo for photo in manifest.photos}
    codes = manifest.labels.codes
    rows = [
        {
            "photo_id": i,
            "label": by_id[i].label,
            **{f"p_{c}": f"{p:.5f}" for c, p in zip(codes, row, strict=True)},
        }
        for i, row in zip(photo_ids, probs, strict=True)
    ]
    run_dir.write_rows(path, rows)


def _draw(history: list[dict[str, Any]], metrics: dict[str, Any], contract: ModelContract, run: Path) -> None:
    from train.plots import draw_confusion, draw_curves

    draw_curves(history, run / "curves.png")
    for split in ("val", "test"):
        draw_confusion(
            metrics[split]["confusion"],
            [label.code for label in contract.labels],
            run / f"confusion_{split}.png",
            title=f"{contract.provenance.run_id}, {split}",
        )
    print(f"wrote {run}", file=sys.stderr)
