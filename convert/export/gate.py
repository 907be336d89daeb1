"""The acceptance test: the finished file, opened as a device opens it, against the Keras model on the same pixels.

Its photos are the validation split, filled up from the train split; the test split never decides. Figures of the test
split are reported, float and converted as a pair on the same photos. numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from convert.comparison.integrity import MAX_TEMPERATURE_RATIO, is_other_temperature
from convert.comparison.statistics import implied_temperature, number
from convert.inputs import SUBGROUP_COLUMNS, Photo
from convert.recipes import CHECK_PHOTOS, Limits, Recipe
from edge_runtime.contract import ModelContract
from edge_runtime.diagnostics.self_check import check_vector
from edge_runtime.errors import ConversionRefused
from edge_runtime.model.model_file import ModelFile, open_model
from edge_runtime.runner import Runner
from train.data.pixels import PixelArray
from train.evaluation.metrics import (
    UNKNOWN,
    FloatArray,
    IntArray,
    age_band,
    balanced_accuracy,
    bootstrap_interval,
    expected_calibration_error,
    recall_per_class,
)

# Name, figure of a `Comparison`, limit of a recipe.
LIMITED = (
    ("top-1 agreement", "agreement", "min_agreement"),
    ("mean score difference", "mean_score_difference", "max_mean_score_difference"),
    ("largest score difference", "max_score_difference", "max_score_difference"),
    ("balanced accuracy loss", "balanced_accuracy_loss", "max_balanced_accuracy_loss"),
)


@dataclass(frozen=True)
class Comparison:
    """Two models' predictions on the same photos."""

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
    """All validation photos; if they are fewer than `count`, train photos fill up, evenly spread."""
    val = [photo for photo in photos if photo.split == "val"]
    train = [photo for photo in photos if photo.split == "train"]
    missing = min(max(0, count - len(val)), len(train))
    return (*val, *(train[i * len(train) // missing] for i in range(missing)))


def run_file(path: Path, pixels_u8: PixelArray, *, progress: str = "") -> FloatArray:
    """Scores [n, labels], dequantized, of a model file that is opened with all checks, as `edge_runtime` computes them.

    `pixels_u8` is [n, height_px, width_px, 3], the contract's; `progress` the title of a progress bar, none if empty.
    """
    return _run_model(open_model(path), pixels_u8, progress)


def run_tensors(
    tflite: bytes, pixels_u8: PixelArray, contract: ModelContract, *, progress: str = ""
) -> FloatArray:
    """As `run_file`, of a file without a contract inside."""
    return _run_model(ModelFile("the converted model", tflite, contract), pixels_u8, progress)


def _run_model(model: ModelFile, pixels_u8: PixelArray, progress: str) -> FloatArray:
    scores = np.empty((len(pixels_u8), len(model.contract.labels)))
    with Runner.open(model, threads=2) as runner:
        for i, photo in enumerate(tqdm(pixels_u8, desc=progress, unit="photo", disable=not progress)):
            scores[i] = runner.values(runner.run(runner.input_tensor(photo.tobytes())))
    return scores


def compare(labels: IntArray, keras: FloatArray, converted: FloatArray) -> Comparison:
    """Compare scores [n, labels] of the same n photos."""
    classes = keras.shape[1]
    keras_labels, found = keras.argmax(axis=1), converted.argmax(axis=1)
    largest = np.abs(keras - converted).max(axis=1)
    return Comparison(
        photos=len(labels),
        agreement=float((keras_labels == found).mean()),
        mean_score_difference=float(largest.mean()),
        max_score_difference=float(largest.max()),
        keras_balanced_accuracy=balanced_accuracy(labels, keras_labels, classes),
        converted_balanced_accuracy=balanced_accuracy(labels, found, classes),
    )


def require_within(comparison: Comparison, recipe: Recipe) -> None:
    """Refuse a comparison beyond the recipe's limits, naming all that are broken.

    Raises:
        ConversionRefused: Also when a figure is not a number.
    """
    if problems := problems_beyond(comparison, recipe.limits):
        raise ConversionRefused(
            f"acceptance test failed: the {recipe.name} model differs too much from the Keras model on "
            f"{comparison.photos} photos; nothing was written",
            found="; ".join(problems),
            fix="convert with int8_qat instead of int8_ptq, more --epochs, or recipe float32",
        )


def require_same_sharpness(keras: FloatArray, converted: FloatArray) -> float:
    """Refuse a file whose scores are sharper or flatter than they should be: its temperature was not folded in.

    The limits of `require_within` hold labels and single scores; a small temperature error moves all scores a little.

    Args:
        keras: [n, labels], at the file's temperature.
        converted: [n, labels].

    Returns:
        The temperature between both; 1 if all is well.

    Raises:
        ConversionRefused: It differs by more than rounding explains.
    """
    ratio = implied_temperature(keras, converted)
    if is_other_temperature(ratio):
        raise ConversionRefused(
            "acceptance test failed: the converted model has another temperature than the Keras model; nothing was "
            "written",
            found=f"{ratio:.2f} times the temperature",
            expected=f"at most {MAX_TEMPERATURE_RATIO} times more or less",
            fix="convert again; if it fails again, report it with the run's model.json",
        )
    return ratio


def problems_beyond(comparison: Comparison, limits: Limits) -> list[str]:
    """The limits that a comparison breaks, as text."""
    problems = []
    for name, figure, limit in LIMITED:
        value, bound = getattr(comparison, figure), getattr(limits, limit)
        least = limit.startswith("min")
        # Negated, so that a NaN breaks its limit.
        if not (value >= bound if least else value <= bound):
            problems.append(f"{name} {value:.4f}, {'at least' if least else 'at most'} {bound}")
    return problems


def paired_report(
    labels: IntArray, groups: Sequence[str], keras: FloatArray, converted: FloatArray, codes: Sequence[str]
) -> dict[str, Any]:
    """Float against converted on the same photos, plain values for model.json. Informational: nothing is refused.

    Labels are [n] class indices, groups the [n] photos' lesions, scores [n, labels]; intervals are 95 %, by lesion.
    """
    classes = len(codes)
    predicted = {"keras": keras.argmax(axis=1), "converted": converted.argmax(axis=1)}
    right = {name: found == labels for name, found in predicted.items()}
    scores = {"keras": keras, "converted": converted}

    def figures(name: str) -> dict[str, Any]:
        recall = recall_per_class(labels, predicted[name], classes)
        return {
            "balanced_accuracy": balanced_accuracy(labels, predicted[name], classes),
            "balanced_accuracy_interval": bootstrap_interval(
                partial(balanced_accuracy, classes=classes), groups, labels, predicted[name]
            ),
            "accuracy": float(right[name].mean()),
            "expected_calibration_error": expected_calibration_error(labels, scores[name]),
            "recall": {code: number(value) for code, value in zip(codes, recall, strict=True)},
        }

    def loss(y: IntArray, before: IntArray, after: IntArray) -> float:
        return balanced_accuracy(y, before, classes) - balanced_accuracy(y, after, classes)

    return {
        **asdict(compare(labels, keras, converted)),
        "lesions": len(set(groups)),
        "photos_per_class": {code: int((labels == i).sum()) for i, code in enumerate(codes)},
        "keras": figures("keras"),
        "converted": figures("converted"),
        "balanced_accuracy_loss": loss(labels, predicted["keras"], predicted["converted"]),
        "balanced_accuracy_loss_interval": bootstrap_interval(
            loss, groups, labels, predicted["keras"], predicted["converted"]
        ),
        "answers_changed": int((predicted["keras"] != predicted["converted"]).sum()),
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


def labels_of(photos: Sequence[Photo]) -> IntArray:
    """Class indices of photos, [n]."""
    return np.array([photo.label for photo in photos], dtype=np.int64)


def check_golden(path: Path) -> None:
    """Open the file and repeat its self-test vectors.

    Raises:
        ConversionRefused: An output differs at all: engine, file and machine are the same.
    """
    with Runner.open(path) as runner:
        for vector in runner.contract.golden:
            check = check_vector(runner, vector)
            # Written so that a NaN fails.
            if check.failed or not check.difference <= 0:
                raise ConversionRefused(
                    f"self-test not deterministic: output for {vector.image} differs between two runs; nothing was "
                    "written",
                    found=check.problem or f"a difference of {check.difference:g}",
                    expected="equal outputs from one engine",
                    fix="convert again; if it fails again, check the machine's memory",
                )
