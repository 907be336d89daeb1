"""The acceptance test: the finished file, opened as a device opens it, against the Keras model on the same pixels.

Its photos are the validation split, filled up from the train split; the test split never decides. Figures of the test
split are reported, float and converted as a pair on the same photos. numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from convert.comparison.integrity import MAX_TEMPERATURE_RATIO, is_other_temperature
from convert.comparison.statistics import Truth, figures, implied_temperature, paired
from convert.inputs import Photo
from convert.recipes import CHECK_PHOTOS, Limits, Recipe
from edge_runtime.diagnostics.self_check import check_vector
from edge_runtime.errors import ConversionRefused
from edge_runtime.model.model_file import ModelFile, open_model
from edge_runtime.runner import Runner
from train.data.pixels import PixelArray
from train.evaluation.intervals import few
from train.evaluation.metrics import FloatArray, IntArray, balanced_accuracy
from train.evaluation.subgroups import subgroup_columns

# Name, figure of `compare`, limit of a recipe.
LIMITED = (
    ("top-1 agreement", "agreement", "min_agreement"),
    ("mean score difference", "mean_score_difference", "max_mean_score_difference"),
    ("largest score difference", "max_score_difference", "max_score_difference"),
    ("balanced accuracy loss", "balanced_accuracy_loss", "max_balanced_accuracy_loss"),
)


def choose_check_photos(photos: Sequence[Photo], count: int = CHECK_PHOTOS) -> tuple[Photo, ...]:
    """All validation photos; if they are fewer than `count`, train photos fill up, evenly spread."""
    val = [photo for photo in photos if photo.split == "val"]
    train = [photo for photo in photos if photo.split == "train"]
    missing = min(max(0, count - len(val)), len(train))
    return (*val, *(train[i * len(train) // missing] for i in range(missing)))


def run_model(model: ModelFile, pixels_u8: PixelArray, *, progress: str = "") -> FloatArray:
    """Scores [n, labels], dequantized, of the contract's pixels [n, height_px, width_px, 3], as `edge_runtime` does it.

    `progress` is the title of a progress bar, none if empty.
    """
    scores = np.empty((len(pixels_u8), len(model.contract.labels)))
    with Runner.open(model, threads=2) as runner:
        for i, photo in enumerate(tqdm(pixels_u8, desc=progress, unit="photo", disable=not progress)):
            scores[i] = runner.values(runner.run(runner.input_tensor(photo.tobytes())))
    return scores


def compare(labels: IntArray, keras: FloatArray, converted: FloatArray) -> dict[str, Any]:
    """Compare scores [n, labels] of the same n photos; of each photo the largest |difference| of any score counts."""
    largest = np.abs(keras - converted).max(axis=1)
    predicted = keras.argmax(axis=1), converted.argmax(axis=1)
    before, after = (balanced_accuracy(labels, one, keras.shape[1]) for one in predicted)
    return {
        "photos": len(labels),
        "agreement": float((predicted[0] == predicted[1]).mean()),
        "mean_score_difference": float(largest.mean()),
        "max_score_difference": float(largest.max()),
        "keras_balanced_accuracy": before,
        "converted_balanced_accuracy": after,
        "balanced_accuracy_loss": before - after,
    }


def require_within(compared: dict[str, Any], recipe: Recipe) -> None:
    """Refuse what `compare` found beyond the recipe's limits, naming all that are broken.

    Raises:
        ConversionRefused: Also when a figure is not a number.
    """
    if problems := problems_beyond(compared, recipe.limits):
        raise ConversionRefused(
            f"acceptance test failed: the {recipe.name} model differs too much from the Keras model on "
            f"{compared['photos']} photos; nothing was written",
            found="; ".join(problems),
            fix="convert with int8_qat instead of int8_ptq, more --epochs, or recipe float32",
        )


def problems_beyond(compared: dict[str, Any], limits: Limits) -> list[str]:
    """The limits that are broken, as text."""
    problems = []
    for name, figure, limit in LIMITED:
        value, bound, least = compared[figure], getattr(limits, limit), limit.startswith("min")
        # Negated, so that a NaN breaks its limit.
        if not (value >= bound if least else value <= bound):
            problems.append(f"{name} {value:.4f}, {'at least' if least else 'at most'} {bound}")
    return problems


def require_same_sharpness(keras: FloatArray, converted: FloatArray) -> float:
    """Refuse a file whose scores are sharper or flatter than they should be: its temperature was not folded in.

    The limits of `require_within` hold labels and single scores; a small temperature error moves all scores a little.
    Both scores are [n, labels], at the file's temperature.

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


def paired_report(
    photos: Sequence[Photo], keras: FloatArray, converted: FloatArray, codes: Sequence[str]
) -> dict[str, Any]:
    """Float against converted, scores [n, labels], on the same photos; 95 % intervals by lesion. Refuses nothing."""
    truth = Truth.of(photos, codes)
    pair, loss = paired(truth, keras, converted), truth.change(converted.argmax(axis=1), keras.argmax(axis=1))

    def own(scores: FloatArray) -> dict[str, Any]:
        made = figures(truth, scores)
        return {
            "balanced_accuracy": made["balanced_accuracy"][0],
            "balanced_accuracy_interval": made["balanced_accuracy"][1:],
            "accuracy": made["accuracy"][0],
            "expected_calibration_error": made["expected_calibration_error"][0],
            "perfectly_calibrated": made["perfectly_calibrated"],
            "recall": {code: estimate and estimate[0] for code, estimate in made["recall"].items()},
        }

    return {
        **compare(truth.labels, keras, converted),
        "lesions": truth.lesions,
        "photos_per_class": {code: row["photos"] for code, row in pair["classes"].items()},
        "classes_few": few(codes, truth.recalls(truth.labels)),
        "keras": own(keras),
        "converted": own(converted),
        "agreement_interval": pair["agreement"][1:],
        "balanced_accuracy_loss_interval": loss[1:],
        "answers_changed": pair["answers_changed"],
        "right_to_wrong": pair["for_the_worse"],
        "wrong_to_right": pair["for_the_better"],
        "mcnemar_p": pair["mcnemar_p"],
    }


def subgroup_report(
    photos: Sequence[Photo], keras: FloatArray, converted: FloatArray
) -> dict[str, dict[str, dict[str, Any]]]:
    """Balanced accuracy by ground truth, sex, age band and site, over the classes that occur; float and converted."""
    labels = labels_of(photos)
    report: dict[str, dict[str, dict[str, Any]]] = {}
    shown = ("photos", "agreement", "keras_balanced_accuracy", "converted_balanced_accuracy")
    for column, cells in subgroup_columns(photos).items():
        rows = report.setdefault(column, {})
        for value in sorted(set(cells)):
            inside = np.array(cells) == value
            compared = compare(labels[inside], keras[inside], converted[inside])
            rows[value] = {name: compared[name] for name in shown}
            rows[value]["classes"] = len(set(labels[inside].tolist()))
    return report


def labels_of(photos: Sequence[Photo]) -> IntArray:
    """Class indices of photos, [n]."""
    return np.array([photo.label for photo in photos], dtype=np.int64)


def check_golden(path: Path) -> None:
    """Open the file and repeat its self-test vectors.

    Raises:
        ConversionRefused: An output differs at all: engine, file and machine are the same.
    """
    with Runner.open(open_model(path, vouched=True)) as runner:
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
