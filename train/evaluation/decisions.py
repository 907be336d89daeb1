"""Temperature, decision rules and their thresholds, fitted on held-out photos. numpy, scipy.

`not_a_lesion` is fitted on held-out lesions (validation or out of fold), which limit how many may be rejected, and on
OOD images, which select the measure. Of the 240 ordinary images 36 (12 kinds) fit it, 84 (29 other kinds) are trained
on and 120 (42 again other kinds) only test it: train/data/outliers.py. Generated images have other seeds in each part.

Without training on OOD images the rule rejects hardly any of them. `refer` is a quantile of the top score, which found
the errors of the first bundled model better than the entropy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import MEASURES, Calibration, Decision, Rule
from edge_runtime.errors import DataInvalid
from train.evaluation.metrics import FloatArray, IntArray, softmax

BoolArray = npt.NDArray[np.bool_]

# Half of the 0.02 that may be rejected in the end: a new data set is always further away than one's own.
LESION_LIMIT = 0.01
DIGITS = 4
# Outside this range the validation photos do not determine the temperature.
TEMPERATURES = (0.2, 5.0)
LEAST_PROBABILITY = 1e-12
ANSWER, REFER, NOT_A_LESION = "answer", "refer", "not_a_lesion"


def fit_temperature(y_true: IntArray, logits: FloatArray) -> float:
    """Return the temperature that minimizes the negative log likelihood of [n, classes] logits (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(y_true))

    def loss(log_temperature: float) -> float:
        probs = softmax(logits, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(probs[rows, y_true], LEAST_PROBABILITY)).mean())

    fitted = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(fitted.x))


def calibrate(y_true: IntArray, logits: FloatArray) -> Calibration:
    """Return `fit_temperature`, rounded, as a contract's calibration."""
    return Calibration(method="temperature", temperature=round(fit_temperature(y_true, logits), DIGITS))


def refer_rule(probs: FloatArray, share: float) -> Rule | None:
    """Return the rule that refers the least certain `share` of photos such as these; None for a share of 0."""
    if share == 0:
        return None
    threshold = round(float(np.quantile(probs.max(axis=1), share)), DIGITS)
    source = f"{share:.0%} quantile of the top score of the {len(probs)} validation photos"
    return Rule(measure="top_score", threshold=threshold, source=source)


def decide(probs: FloatArray, decision: Decision) -> tuple[str, ...]:
    """Return what a device would do, by calibrated scores [n, classes]: not_a_lesion before refer before answer."""
    nowhere = np.zeros(len(probs), bool)
    refer, not_a_lesion = (
        nowhere if rule is None else fires(rule, probs) for rule in (decision.refer, decision.not_a_lesion)
    )
    return tuple(np.where(not_a_lesion, NOT_A_LESION, np.where(refer, REFER, ANSWER)).tolist())


def measured(measure: str, probs: FloatArray) -> FloatArray:
    """Return the number that a rule compares, [n] in [0, 1], as edge_runtime.result.measure.

    `measure` is `top_score` or `normalized_entropy`.
    """
    if measure == "top_score":
        return np.asarray(probs.max(axis=1))
    # The limit of p log p at 0 is 0.
    logs = np.log(probs, out=np.zeros_like(probs), where=probs > 0)
    return np.asarray(-(probs * logs).sum(axis=1) / math.log(probs.shape[1]))


def fires(rule: Rule, probs: FloatArray) -> BoolArray:
    """Return whether the rule fires, [n], as on the device: top score below its threshold, or entropy above it."""
    values = measured(rule.measure, probs)
    return values < rule.threshold if rule.measure == "top_score" else values > rule.threshold


def not_a_lesion_rule(
    lesion_probs: FloatArray,
    lesion_sources: Sequence[str],
    outlier_probs: FloatArray,
    *,
    lesion_limit: float = LESION_LIMIT,
    outlier_sources: Sequence[str] = (),
) -> Rule:
    """Return the rule that rejects the most OOD images while it rejects few lesions of every source.

    A threshold that rejects k of n lesions rejects a new one with probability (k + 1) / (n + 1), if it comes from the
    same source (the rank argument of conformal prediction: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random
    World", 2005). The largest k with at most the limit is taken; 0 where even that promises too much.

    Args:
        lesion_probs: [n, classes] calibrated scores of held-out lesions.
        lesion_sources: [n] the data set of each.
        outlier_probs: [m, classes] of OOD images that are neither trained on nor in the test set.
        lesion_limit: Share of the lesions that may be rejected, in each source.
        outlier_sources: [m] source of each image; sources weigh the same whatever their size; empty: one.

    Returns:
        Of both measures the one that rejects more OOD images; the top score if they reject as many.

    Raises:
        DataInvalid: No lesions, or no OOD images.
    """
    if not len(lesion_probs) or not len(outlier_probs):
        found = f"{len(lesion_probs)} lesions and {len(outlier_probs)} OOD images"
        expected = "held-out lesions and non-lesion images"
        raise DataInvalid("cannot fit the OOD threshold", found=found, expected=expected)
    of_source, counts = np.asarray(lesion_sources), Counter(lesion_sources)
    kinds = np.asarray(outlier_sources or ["images"] * len(outlier_probs))
    candidates = []
    for measure in MEASURES:
        sign = 1 if measure == "top_score" else -1
        values = sign * measured(measure, lesion_probs)
        allowed = min(
            np.sort(values[of_source == source])[max(0, math.floor(lesion_limit * (count + 1)) - 1)]
            for source, count in counts.items()
        )
        # Rounded towards rejecting fewer; the entropy of a uniform prediction may be slightly above 1.
        threshold = min(1.0, sign * math.floor(allowed * 10**DIGITS) / 10**DIGITS)
        refused = fires(Rule(measure, threshold, ""), outlier_probs)
        candidates.append(
            (float(np.mean([refused[kinds == kind].mean() for kind in np.unique(kinds)])), measure, threshold)
        )
    # max keeps the first of equals, and the top score stands first among MEASURES.
    share, measure, threshold = max(candidates, key=lambda candidate: candidate[0])
    limited = ", ".join(f"{lesion_limit:.0%} of {count} of {source}" for source, count in counts.items())
    return Rule(
        measure=measure,
        threshold=threshold,
        source=f"rejects at most {limited} held-out lesions, and {share:.1%} of the {len(outlier_probs)} OOD images by "
        "which its measure was selected",
    )
