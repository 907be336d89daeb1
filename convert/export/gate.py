"""The gate: the finished file, opened as a device opens it, against the Keras model, on the same pixels. numpy.

The gate's photos are the validation split, filled up from the train split; the test split never decides. What the test
split says is reported, float and converted as a pair on the same photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from convert.comparison.integrity import MAX_TEMPERATURE_RATIO, is_other_temperature
from convert.comparison.statistics import implied_temperature
from convert.inputs import SUBGROUP_COLUMNS, Photo
from convert.recipes import CHECK_PHOTOS, Limits, Recipe
from convert.tflite.golden import closing_engine, fill, repeat_difference
from edge_runtime.contract import ModelContract
from edge_runtime.engines import dequantize
from edge_runtime.errors import ConversionRefused
from edge_runtime.images.preprocess import fit_pixels
from edge_runtime.model.model_file import open_model
from train.data.pixels import PixelArray
from train.evaluation.metrics import (
    UNKNOWN,
    age_band,
    balanced_accuracy,
    bootstrap_interval,
    expected_calibration_error,
    recall_per_class,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Golden answers come from the same engine, file and machine: nothing may differ.
GOLDEN_REPEAT_TOLERANCE = 0.0


@dataclass(frozen=True)
class Comparison:
    """Two models' answers to the same photos."""

    photos: int
    agreement: float
    mean_score_difference: float
    """Mean over photos of the largest |difference| of any score."""
    max_score_difference: float
    keras_balanced_accuracy: float
    converted_balanced_accuracy: float

    @property
    def balanced_accuracy_loss(self) -> float:
        """Keras minus converted."""
        return self.keras_balanced_accuracy - self.converted_balanced_accuracy


def choose_check_photos(photos: Sequence[Photo], count: int = CHECK_PHOTOS) -> tuple[Photo, ...]:
    """All validation photos; below `count` of them, as many train photos as are missing, evenly spread."""
    val = [photo for photo in photos if photo.split == "val"]
    train = [photo for photo in photos if photo.split == "train"]
    missing = min(max(0, count - len(val)), len(train))
    filler = [train[i * len(train) // missing] for i in range(missing)] if missing else []
    return (*val, *filler)


def run_file(path: Path, pixels_u8: PixelArray, *, progress: str = "") -> FloatArray:
    """Scores of a model file as `edge_runtime` gives them.

    Args:
        path: A .tflite with its contract; it is opened with all checks.
        pixels_u8: [n, height_px, width_px, 3], the contract's pixels.
        progress: Title of a progress bar; none if empty.

    Returns:
        [n, labels] dequantized.
    """
    model = open_model(path)
    return run_tensors(model.data, pixels_u8, model.contract, progress=progress)


def run_tensors(
    tflite: bytes, pixels_u8: PixelArray, contract: ModelContract, *, progress: str = ""
) -> FloatArray:
    """As `run_file`, of a file that carries no contract yet."""
    scores = np.empty((len(pixels_u8), len(contract.labels)))
    with closing_engine(tflite, threads=2) as engine:
        bar = tqdm(pixels_u8, desc=progress, unit="photo", disable=not progress)
        for i, photo in enumerate(bar):
            tensor = fill(engine, photo.tobytes(), contract)
            scores[i] = dequantize(engine.run(tensor), engine.output)
    return scores


def compare(labels: IntArray, keras: FloatArray, converted: FloatArray) -> Comparison:
    """Compares scores [n, labels] of the same n photos."""
    classes = keras.shape[1]
    keras_answers, answers = keras.argmax(axis=1), converted.argmax(axis=1)
    largest = np.abs(keras - converted).max(axis=1)
    return Comparison(
        photos=len(labels),
        agreement=float((keras_answers == answers).mean()),
        mean_score_difference=float(largest.mean()),
        max_score_difference=float(largest.max()),
        keras_balanced_accuracy=balanced_accuracy(labels, keras_answers, classes),
        converted_balanced_accuracy=balanced_accuracy(labels, answers, classes),
    )


def require_within(comparison: Comparison, recipe: Recipe) -> None:
    """Refuses a comparison beyond the recipe's limits; all that are broken are named.

    Raises:
        ConversionRefused: Also when a figure is not a number.
    """
    problems = problems_beyond(comparison, recipe.limits)
    if problems:
        raise ConversionRefused(
            f"the {recipe.name} model differs too much from the Keras model on {comparison.photos} photos; "
            "nothing was written",
            found="; ".join(problems),
            fix="recipe int8_qat instead of int8_ptq, more --epochs, or recipe float32",
        )


def require_same_sharpness(keras: FloatArray, converted: FloatArray) -> float:
    """Refuses a file whose scores are sharper or flatter than they should be: its temperature was not folded in.

    The limits of `require_within` hold answers and single scores; a small temperature error moves all scores a little.

    Args:
        keras: [n, labels], at the file's temperature.
        converted: [n, labels].

    Returns:
        The temperature between both; 1 if all is well.

    Raises:
        ConversionRefused: It is another than rounding explains.
    """
    ratio = implied_temperature(keras, converted)
    if is_other_temperature(ratio):
        raise ConversionRefused(
            "the converted model's scores have another temperature than the Keras model's; nothing was written",
            found=f"{ratio:.2f} times the temperature",
            expected=f"at most {MAX_TEMPERATURE_RATIO} times more or less",
            fix="convert again; if it happens again, the temperature is folded in wrongly",
        )
    return ratio


def problems_beyond(comparison: Comparison, limits: Limits) -> list[str]:
    """Which limits a comparison breaks, in words."""
    rows = (
        ("top-1 agreement", comparison.agreement, "at least", limits.min_agreement),
        (
            "mean score difference",
            comparison.mean_score_difference,
            "at most",
            limits.max_mean_score_difference,
        ),
        ("largest score difference", comparison.max_score_difference, "at most", limits.max_score_difference),
        (
            "balanced accuracy loss",
            comparison.balanced_accuracy_loss,
            "at most",
            limits.max_balanced_accuracy_loss,
        ),
    )
    # Negated, so that a NaN breaks its limit.
    return [
        f"{name} {value:.4f}, {bound} {limit}"
        for name, value, bound, limit in rows
        if not (value >= limit if bound == "at least" else value <= limit)
    ]


def paired_report(
    labels: IntArray, groups: Sequence[str], keras: FloatArray, converted: FloatArray, codes: Sequence[str]
) -> dict[str, Any]:
    """Float against converted on the same photos, with intervals by lesion. Informational: nothing is refused.

    Args:
        labels: [n] class indices.
        groups: [n] lesion of each photo.
        keras: [n, labels] scores.
        converted: [n, labels] scores.
        codes: Label codes.

    Returns:
        Plain values for model.json; intervals are 95 %.
    """
    classes = len(codes)
    answers = {"keras": keras.argmax(axis=1), "converted": converted.argmax(axis=1)}
    right = {name: answer == labels for name, answer in answers.items()}
    scores = {"keras": keras, "converted": converted}

    def figures(name: str) -> dict[str, Any]:
        recall = recall_per_class(labels, answers[name], classes)
        return {
            "balanced_accuracy": balanced_accuracy(labels, answers[name], classes),
            "balanced_accuracy_interval": bootstrap_interval(
                partial(balanced_accuracy, classes=classes), groups, labels, answers[name]
            ),
            "accuracy": float(right[name].mean()),
            "expected_calibration_error": expected_calibration_error(labels, scores[name]),
            "recall": {code: _number(value) for code, value in zip(codes, recall, strict=True)},
        }

    def loss(y: IntArray, before: IntArray, after: IntArray) -> float:
        return balanced_accuracy(y, before, classes) - balanced_accuracy(y, after, classes)

    return {
        **asdict(compare(labels, keras, converted)),
        "lesions": len(set(groups)),
        "photos_per_class": {code: int((labels == i).sum()) for i, code in enumerate(codes)},
        "keras": figures("keras"),
        "converted": figures("converted"),
        "balanced_accuracy_loss": loss(labels, answers["keras"], answers["converted"]),
        "balanced_accuracy_loss_interval": bootstrap_interval(
            loss, groups, labels, answers["keras"], answers["converted"]
        ),
        "answers_changed": int((answers["keras"] != answers["converted"]).sum()),
        "right_to_wrong": int((right["keras"] & ~right["converted"]).sum()),
        "wrong_to_right": int((~right["keras"] & right["converted"]).sum()),
    }


def subgroup_report(
    photos: Sequence[Photo], keras: FloatArray, converted: FloatArray
) -> dict[str, dict[str, dict[str, Any]]]:
    """Balanced accuracy by sex, age band and site, float and converted; for model.json.

    Balanced accuracy is the mean over the classes that occur in the subgroup, whose number is given too.
    """
    labels = labels_of(photos)
    report: dict[str, dict[str, dict[str, Any]]] = {}
    for column in SUBGROUP_COLUMNS:
        values = np.array(
            [age_band(p.age) if column == "age" else getattr(p, column) or UNKNOWN for p in photos]
        )
        report[column] = {}
        for value in sorted(set(values.tolist())):
            inside = values == value
            comparison = compare(labels[inside], keras[inside], converted[inside])
            report[column][value] = {
                "photos": comparison.photos,
                "classes": len(set(labels[inside].tolist())),
                "agreement": comparison.agreement,
                "keras_balanced_accuracy": comparison.keras_balanced_accuracy,
                "converted_balanced_accuracy": comparison.converted_balanced_accuracy,
            }
    return report


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def labels_of(photos: Sequence[Photo]) -> IntArray:
    """Class indices of photos, [n]."""
    return np.array([photo.label for photo in photos], dtype=np.int64)


def check_golden(path: Path) -> None:
    """Opens the file and repeats its golden vectors.

    Raises:
        ConversionRefused: An answer differs.
    """
    model = open_model(path)
    contract = model.contract
    with closing_engine(model.data) as engine:
        for vector in contract.golden:
            pixels_u8 = fit_pixels(model.read_entry(vector.image), contract, name=vector.image)
            difference = repeat_difference(engine, pixels_u8, contract, vector)
            if not difference <= GOLDEN_REPEAT_TOLERANCE:
                raise ConversionRefused(
                    f"the written file does not repeat its own answer to {vector.image}; nothing was kept",
                    found=f"a difference of {difference}",
                    expected="the same output from the same engine",
                    fix="convert again; if it happens again, the machine computes wrongly",
                )
