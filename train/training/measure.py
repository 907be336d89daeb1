"""Metrics of a trained model, and the temperature and thresholds of its contract. numpy; TensorFlow, imported late.

Temperature and thresholds come from the validation photos and the OOD images set aside for them; the test photos and
the OOD images of the test set are only counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import Calibration, Decision, Rule
from train.artifacts import files
from train.artifacts.selection import KEY
from train.data.pixels import PixelArray
from train.evaluation.decisions import calibrate, fires, not_a_lesion_rule, refer_rule
from train.evaluation.metrics import FloatArray, IntArray, expected_calibration_error, softmax
from train.evaluation.summary import summarize
from train.training.inputs import PARTS, TEST, THRESHOLD, TRAIN, Inputs, evenly


def finish(inputs: Inputs, weights: Sequence[npt.NDArray[np.float32]], run: Path) -> dict[str, Any]:
    """Write model.keras and the metrics of trained weights, and mark the run as done.

    Returns:
        The content of metrics.json.
    """
    metrics = measure(inputs, _finished_model(inputs, weights, run), run)
    files.write_json(run / "run.json", {**files.read_object(run / "run.json"), "status": "done"})
    return metrics


def _finished_model(inputs: Inputs, weights: Sequence[npt.NDArray[np.float32]], run: Path) -> Any:
    """The network with a fixed input size, as it is evaluated and converted."""
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
    with files.whole_file(run / "model.keras") as temporary:
        model.save(str(temporary))
    return model


def measure(inputs: Inputs, model: Any, run: Path) -> dict[str, Any]:
    """Write predictions, metrics and the final contract; return the content of metrics.json."""
    config, data = inputs.config, inputs.data
    metrics: dict[str, Any] = {}
    calibration, decision = Calibration("none", 1.0), Decision(refer=None, not_a_lesion=None)
    for part in PARTS:
        ids = data.ids(part)
        if not ids:
            continue
        y_true, logits = inputs.labels(ids), _logits(inputs, model, ids)
        _write_predictions(run / f"predictions_{part}.csv", ids, y_true, inputs.codes, softmax(logits))
        if part == "val":
            calibration = calibrate(y_true, logits)
            probs = softmax(logits, calibration.temperature)
            outlier_rule = _outlier_rule(inputs, model, calibration, ids, probs)
            decision = Decision(refer_rule(probs, config.decision.refer_share), outlier_rule)
        chosen = _choices(inputs, decision) if part == "val" else []
        metrics[part] = {**_figures(inputs, ids, logits, calibration, decision), KEY: chosen}
    if config.outliers.folder:
        metrics["outliers"] = _outlier_figures(inputs, model, calibration, decision)
    contract = dataclasses.replace(inputs.contract, calibration=calibration, decision=decision)
    files.write_text(run / "contract.json", contract.to_json())
    files.write_json(run / "metrics.json", metrics)
    return metrics


def _choices(inputs: Inputs, decision: Decision) -> list[str]:
    """What was chosen on the validation photos."""
    stop = inputs.config.stop
    made = {
        "the checkpoint": stop.keep == "best" or stop.patience > 0,
        "the temperature": True,
        "the refer threshold": decision.refer is not None,
        "the not-a-lesion threshold": decision.not_a_lesion is not None,
    }
    return [name for name, was_chosen in made.items() if was_chosen]


def _logits(inputs: Inputs, model: Any, ids: list[str]) -> FloatArray:
    from train.evaluation.predict import predict_logits, predict_tiles

    size_px, grid = inputs.config.input.size_px, inputs.config.tiles.grid
    pixels_u8, normalization = inputs.pixels(ids, inputs.square_px(size_px)), inputs.contract.normalization
    if grid:
        return predict_tiles(model, pixels_u8, normalization, size_px, grid)
    return predict_logits(model, pixels_u8, normalization).astype(np.float64)


def _figures(
    inputs: Inputs, ids: list[str], logits: FloatArray, calibration: Calibration, decision: Decision
) -> dict[str, Any]:
    """Of the first data set, and below `sources` of each further one."""
    data, codes = inputs.data, inputs.codes
    malignant = [label.group == "malignant" for label in data.manifest.labels.labels]
    by_source: dict[str, dict[str, Any]] = {}
    for source in inputs.config.folders:
        rows = [i for i, photo_id in enumerate(ids) if data.source_of[photo_id] == source]
        if not rows:
            continue
        y_true, raw = inputs.labels([ids[i] for i in rows]), softmax(logits[rows])
        probs = softmax(logits[rows], calibration.temperature)
        figures = summarize(y_true, probs, codes, [data.group_of[ids[i]] for i in rows], malignant)
        figures["expected_calibration_error_uncalibrated"] = expected_calibration_error(y_true, raw)
        for name, rule in (("referred", decision.refer), ("not_a_lesion", decision.not_a_lesion)):
            if rule is not None:
                figures[f"{name}_share"] = float(fires(rule, probs).mean())
        by_source[source] = figures
    first = by_source.pop(inputs.config.data.folder)
    return {**first, "sources": by_source} if by_source else first


def _outlier_rule(
    inputs: Inputs, model: Any, calibration: Calibration, ids: list[str], probs: FloatArray
) -> Rule | None:
    """From validation lesions and the OOD images set aside for thresholds; None without OOD images."""
    pictures = inputs.outliers(THRESHOLD, inputs.config.input.size_px)
    if pictures is None or inputs.config.tiles.grid:
        return None
    sources = [inputs.data.source_of[photo_id] for photo_id in ids]
    outlier_probs = _outlier_probs(inputs, model, calibration, np.concatenate(pictures))
    outlier_sources = ["real"] * len(pictures[0]) + ["generated"] * len(pictures[1])
    return not_a_lesion_rule(probs, sources, outlier_probs, outlier_sources=outlier_sources)


def _outlier_figures(
    inputs: Inputs, model: Any, calibration: Calibration, decision: Decision
) -> dict[str, Any]:
    """Share that the rule rejects of the OOD images that neither trained the model nor set the threshold."""
    pictures = inputs.outliers(TEST, inputs.config.input.size_px)
    if pictures is None or decision.not_a_lesion is None:
        return {}
    figures: dict[str, Any] = {}
    for kind, pixels_u8 in zip(("real", "generated"), pictures, strict=True):
        refused = fires(decision.not_a_lesion, _outlier_probs(inputs, model, calibration, pixels_u8))
        figures[kind] = {"photos": len(pixels_u8), "not_a_lesion_share": float(refused.mean())}
    return figures


def _outlier_probs(inputs: Inputs, model: Any, calibration: Calibration, pixels_u8: PixelArray) -> FloatArray:
    from train.evaluation.predict import predict_logits

    logits = predict_logits(model, pixels_u8, inputs.contract.normalization).astype(np.float64)
    return softmax(logits, calibration.temperature)


def _write_predictions(
    path: Path, photo_ids: list[str], y_true: IntArray, codes: Sequence[str], probs: FloatArray
) -> None:
    rows = []
    for photo_id, truth, row in zip(photo_ids, y_true, probs, strict=True):
        # Six digits, not six places: out-of-fold logits are read from here.
        scores = {f"p_{code}": f"{p:.6g}" for code, p in zip(codes, row, strict=True)}
        rows.append({"photo_id": photo_id, "label": codes[truth], **scores})
    files.write_rows(path, rows)
