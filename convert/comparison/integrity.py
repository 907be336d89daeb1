"""Integrity checks: self-test vectors, contract against the first model's, scores against the first model's. numpy.

Another normalization, order of labels, crop or temperature makes a converted file wrong although it runs. Each leaves a
trace: self-test pixels or outputs that differ, contracts of one run that differ, scores further apart than the recipe
allows, scores sharper than the contract's temperature allows.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from convert.comparison.statistics import at_temperature, exchanged_labels, implied_temperature
from convert.recipes import INT8_PTQ_LIMITS, RECIPES, Limits
from edge_runtime.contract import ModelContract
from edge_runtime.diagnostics.self_check import check_vector
from edge_runtime.errors import EdgeError
from edge_runtime.model.model_file import ModelFile
from edge_runtime.runner import Runner
from train.evaluation.metrics import FloatArray

# By what differs.
VECTOR_PROBLEMS = {
    "picture": "image differs from the contract's SHA-256",
    "pixels": "crop or resize gives other pixels than at conversion",
    "output": "output differs by {:g} from the one at conversion (tolerance {:g}): another normalization, or other "
    "weights",
}
# Parts of the contract on which a prediction depends; two files of one run have them alike.
PREDICTION_PARTS = ("input", "geometry", "normalization", "output")
# Sharpness of two files of one run, contracts taken into account. MAX_TEMPERATURE_RATIO stands between what rounding
# does (train/experiments/NOTEBOOK.md) and what a forgotten temperature of about a half does.
MAX_TEMPERATURE_RATIO = 1.25
# Mean largest score change below which a temperature does not matter: scores near 0 or 1 do not show it.
LEAST_TEMPERATURE_EFFECT = 0.01


def golden_problems(model: ModelFile) -> list[str]:
    """Run the file's self-test vectors as `dermedge check` does; empty if all pass."""
    if not model.contract.golden:
        return ["no self-test vectors: normalization and crop cannot be validated"]
    problems: dict[str, list[str]] = {}
    try:
        with Runner.open(model) as runner:
            for vector in model.contract.golden:
                check = check_vector(runner, vector)
                if check.failed:
                    problem = VECTOR_PROBLEMS[check.failed].format(check.difference, vector.tolerance)
                    problems.setdefault(problem, []).append(vector.image)
    except EdgeError as error:
        problems[error.message] = ["self-test"]
    return [f"{', '.join(images)}: {problem}" for problem, images in problems.items()]


def contract_differences(first: ModelContract, second: ModelContract) -> list[str]:
    """List where two contracts give other pixels, tensors or labels for one photo."""
    found = []
    for part in PREDICTION_PARTS:
        one, other = asdict(getattr(first, part)), asdict(getattr(second, part))
        found += [
            f"{part}.{name} is {other[name]}, not {one[name]}" for name in one if one[name] != other[name]
        ]
    if first.codes != second.codes:
        found.append(f"label order is {', '.join(second.codes)}, not {', '.join(first.codes)}")
    return found


def same_network(first: ModelContract, second: ModelContract) -> bool:
    """Check whether two files name the same run, so that only rounding may distinguish them."""
    return first.provenance.run_id == second.provenance.run_id


def limits_for(first: ModelContract, second: ModelContract) -> Limits:
    """Return the wider of both recipes' limits; those of int8_ptq for an unknown recipe."""
    names = (first.provenance.recipe, second.provenance.recipe)
    both = [RECIPES[name].limits if name in RECIPES else INT8_PTQ_LIMITS for name in names]
    return max(both, key=lambda limits: limits.max_balanced_accuracy_loss)


def answer_problems(
    first: ModelContract, second: ModelContract, scores: tuple[FloatArray, FloatArray], pair: dict[str, Any]
) -> list[str]:
    """List why the second's scores cannot come from the same network as the first's.

    Scores are [n, labels] in the reference's order of labels; `pair` is what `statistics.paired` returned.
    """
    problems, codes = [], first.codes
    if exchanged := exchanged_labels(*scores):
        named = ", ".join(f"{codes[i]} for {codes[j]}" for i, j in exchanged.items())
        problems.append(f"predictions fit the first model's much better with labels exchanged ({named})")
    if not same_network(first, second):
        return problems
    limits = limits_for(first, second)
    agreement, loss = pair["agreement"][0], -pair["difference"][0]
    # Written so that a NaN fails.
    if not agreement >= limits.min_agreement:
        problems.append(
            f"top-1 agreement is {100 * agreement:.1f} %; a conversion of the same run must reach "
            f"{100 * limits.min_agreement:g} %"
        )
    if not loss <= limits.max_balanced_accuracy_loss:
        problems.append(
            f"balanced accuracy is {100 * loss:.1f} points lower; a conversion of the same run may lose "
            f"{100 * limits.max_balanced_accuracy_loss:g}"
        )
    return problems + temperature_problems(first, second, scores)


def temperature_problems(
    first: ModelContract, second: ModelContract, scores: tuple[FloatArray, FloatArray]
) -> list[str]:
    """List how contracts and scores of two files of one run differ in temperature.

    A quantized file's temperature is fitted to its own logits, so it may differ a little from the float one's. Scores
    are [n, labels], in the same order of labels.
    """
    problems = []
    stated = second.calibration.temperature / first.calibration.temperature
    if is_other_temperature(stated):
        problems.append(
            f"contract states temperature {second.calibration.temperature:g}, the first model's, of the same run, "
            f"{first.calibration.temperature:g}"
        )
    found = implied_temperature(*scores)
    effect = np.abs(at_temperature(scores[0], found) - at_temperature(scores[0], stated)).max(axis=1).mean()
    if is_other_temperature(found / stated) and effect > LEAST_TEMPERATURE_EFFECT:
        problems.append(
            f"scores imply temperature {found * first.calibration.temperature:.2f}, the contract states "
            f"{second.calibration.temperature:g}"
        )
    return problems


def is_other_temperature(ratio: float) -> bool:
    """Check whether the ratio of two temperatures is more than rounding explains."""
    return not 1 / MAX_TEMPERATURE_RATIO <= ratio <= MAX_TEMPERATURE_RATIO
