"""Is a model what it says it is? Its golden answers, its contract against the first's, its answers against the first's.

Four things make a converted file lie while it runs well: another normalization, another order of labels, another
crop, another temperature. Each leaves a trace: golden pictures whose pixels or answers are not repeated, contracts of
one run that differ, answers that are further apart than the recipe allows, scores that are sharper than the contract's
temperature says. numpy.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

from convert.comparison.statistics import at_temperature, exchanged_labels, implied_temperature
from convert.recipes import INT8_PTQ_LIMITS, RECIPES, Limits
from convert.tflite.golden import closing_engine, repeat_difference
from edge_runtime.contract import GoldenVector, ModelContract
from edge_runtime.engines import Engine
from edge_runtime.errors import EdgeError
from edge_runtime.images.preprocess import fit_pixels
from edge_runtime.model.model_file import ModelFile
from train.evaluation.metrics import FloatArray

# Parts of the contract that make an answer what it is; two files of one run have them alike.
ANSWER_PARTS = ("input", "geometry", "normalization", "output")
# Sharpness of two files of one run, contracts taken into account. MAX_TEMPERATURE_RATIO stands between what rounding
# does (convert/STUDY.md: within 3 %) and what a forgotten temperature does (0.51 for 1 in the bundled model's run).
MAX_TEMPERATURE_RATIO = 1.25
# Mean largest score change below which a temperature does not matter: answers that are nearly 0 or 1 do not tell it.
LEAST_TEMPERATURE_EFFECT = 0.01


def golden_problems(model: ModelFile) -> list[str]:
    """What the file's own golden pictures say, as `edge-classify --self-check` would; empty if all is well."""
    contract = model.contract
    if not contract.golden:
        return ["no golden pictures inside: nothing proves its normalization and crop"]
    problems: dict[str, list[str]] = {}
    try:
        with closing_engine(model.data) as engine:
            for vector in contract.golden:
                if problem := _golden_problem(model, engine, vector):
                    problems.setdefault(problem, []).append(vector.image)
    except EdgeError as error:
        problems[error.message] = ["self check"]
    return [f"{', '.join(images)}: {problem}" for problem, images in problems.items()]


def _golden_problem(model: ModelFile, engine: Engine, vector: GoldenVector) -> str:
    picture = model.read_entry(vector.image)
    if hashlib.sha256(picture).hexdigest() != vector.image_sha256:
        return "not the picture of the contract"
    pixels_u8 = fit_pixels(picture, model.contract, name=vector.image)
    if hashlib.sha256(pixels_u8).hexdigest() != vector.pixels_sha256:
        return "crop or size give other pixels than its maker got"
    difference = repeat_difference(engine, pixels_u8, model.contract, vector)
    # Written so that a NaN fails.
    if not difference <= vector.tolerance:
        return (
            f"the answer differs from its maker's by {difference:g} (tolerance {vector.tolerance:g}): another "
            "normalization, or other weights"
        )
    return ""


def contract_differences(first: ModelContract, second: ModelContract) -> list[str]:
    """Where two contracts would make other pixels, other tensors or other names of one photo."""
    found = []
    for part in ANSWER_PARTS:
        one, other = asdict(getattr(first, part)), asdict(getattr(second, part))
        found += [
            f"{part}.{name} is {other[name]}, not {one[name]}" for name in one if one[name] != other[name]
        ]
    codes = [[label.code for label in contract.labels] for contract in (first, second)]
    if codes[0] != codes[1]:
        found.append(f"labels stand in the order {', '.join(codes[1])}, not {', '.join(codes[0])}")
    return found


def same_network(first: ModelContract, second: ModelContract) -> bool:
    """Whether two files claim to come from one run, so that only rounding may tell them apart."""
    return first.provenance.run_id == second.provenance.run_id


def limits_for(first: ModelContract, second: ModelContract) -> Limits:
    """The wider of both recipes' limits; those of int8_ptq for a recipe that is not known."""
    return max(
        (
            RECIPES[name].limits if name in RECIPES else INT8_PTQ_LIMITS
            for name in (first.provenance.recipe, second.provenance.recipe)
        ),
        key=lambda limits: limits.max_balanced_accuracy_loss,
    )


def answer_problems(
    first: ModelContract,
    second: ModelContract,
    scores: tuple[FloatArray, FloatArray],
    pair: dict[str, Any],
) -> list[str]:
    """Whether the second's answers are too far from the first's to come from the same network.

    Args:
        first: Contract of the reference.
        second: Contract of the other.
        scores: Both [n, labels], in the reference's order of labels.
        pair: What `paired.paired` found.
    """
    problems = []
    codes = [label.code for label in first.labels]
    if exchanged := exchanged_labels(*scores):
        named = ", ".join(f"{codes[i]} for {codes[j]}" for i, j in exchanged.items())
        problems.append(f"its answers fit the first model's much better with labels exchanged ({named})")
    if not same_network(first, second):
        return problems
    limits = limits_for(first, second)
    agreement, loss = pair["agreement"][0], -pair["difference"][0]
    # Written so that a NaN fails.
    if not agreement >= limits.min_agreement:
        problems.append(
            f"agrees on {100 * agreement:.1f} % of the answers; a conversion of the same run must reach "
            f"{100 * limits.min_agreement:g} %"
        )
    if not loss <= limits.max_balanced_accuracy_loss:
        problems.append(
            f"loses {100 * loss:.1f} points; a conversion of the same run may lose "
            f"{100 * limits.max_balanced_accuracy_loss:g}"
        )
    return problems + temperature_problems(first, second, scores)


def temperature_problems(
    first: ModelContract, second: ModelContract, scores: tuple[FloatArray, FloatArray]
) -> list[str]:
    """Whether contracts and scores of two files of one run speak of the same temperature.

    A quantized file's temperature is fitted anew to its own answers, so it may differ from the float one's, a little.

    Args:
        first: Contract of the reference.
        second: Contract of the other.
        scores: Both [n, labels], in the same order of labels.
    """
    problems = []
    told = second.calibration.temperature / first.calibration.temperature
    if is_other_temperature(told):
        problems.append(
            f"its contract's temperature is {second.calibration.temperature:g}, the first one's "
            f"{first.calibration.temperature:g}, though both are of one run"
        )
    found = implied_temperature(*scores)
    effect = np.abs(at_temperature(scores[0], found) - at_temperature(scores[0], told)).max(axis=1).mean()
    if is_other_temperature(found / told) and effect > LEAST_TEMPERATURE_EFFECT:
        problems.append(
            f"its scores are those of a temperature of {found * first.calibration.temperature:.2f}, its contract says "
            f"{second.calibration.temperature:g}"
        )
    return problems


def is_other_temperature(ratio: float) -> bool:
    """Whether the ratio of two temperatures is more than rounding explains."""
    return not 1 / MAX_TEMPERATURE_RATIO <= ratio <= MAX_TEMPERATURE_RATIO
