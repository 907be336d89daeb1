"""Metrics of pairs and of layers on predictions whose truth is known. No TensorFlow."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.comparison.integrity import answer_problems, temperature_problems
from convert.comparison.layers import BEST_DB, Pair, align, decibels, rows_of, short_name
from convert.comparison.statistics import (
    BETTER,
    OTHER,
    WORSE,
    Truth,
    at_temperature,
    exchanged_labels,
    figures,
    implied_temperature,
    paired,
    verdict,
)
from convert.comparison.text import p_value, terminal_safe
from convert.inputs import Photo
from convert.recipes import RECIPES
from convert.tflite.reader import Operator, read_tflite
from tests.convert.synthetic_run import make_contract
from tests.fixtures import FIXTURES
from train.evaluation.intervals import balanced_accuracy_estimate, mcnemar_p, recalls, share_of
from train.evaluation.metrics import (
    calibration_estimate,
    paired_difference_interval,
)

CODES = ("a", "b", "c")


def _truth(labels: list[int], groups: list[str] | None = None) -> Truth:
    names = groups or [f"g{i}" for i in range(len(labels))]
    photos = [
        Photo(f"p{i}", Path("x"), label, names[i], "test", "female" if i % 2 else "", str(i), "")
        for i, label in enumerate(labels)
    ]
    return Truth.of(photos, CODES, repeats=200)


def _scores(predicted: list[int], top: float = 0.8) -> Any:
    rows = np.full((len(predicted), 3), (1 - top) / 2)
    rows[np.arange(len(predicted)), predicted] = top
    return rows


def test_flips_are_counted_by_what_they_are() -> None:
    truth = _truth([0, 0, 1, 1, 2, 2])
    pair = paired(truth, _scores([0, 0, 0, 1, 0, 2]), _scores([1, 0, 1, 1, 1, 2]))
    assert (pair["answers_changed"], pair["for_the_worse"], pair["for_the_better"]) == (3, 1, 1)
    assert pair["wrong_both_times"] == 1
    assert [(flip["photo_id"], flip["kind"]) for flip in pair["flips"]] == [
        ("p0", WORSE), ("p2", BETTER), ("p4", OTHER),
    ]  # fmt: skip
    assert pair["agreement"][0] == 0.5 and pair["mcnemar_p"] == 1.0
    assert pair["classes"]["a"]["recall"] == [1.0, 0.5]
    assert pair["difference"][0] == pytest.approx((0.5 + 1 + 0.5) / 3 - (1 + 0.5 + 0.5) / 3)
    assert sum(row["photos"] for row in pair["score_changes"]) == 6
    # A changed answer moves a score from 0.1 to 0.8.
    assert pair["mean_score_change"] == pytest.approx(3 * 0.7 / 6)
    assert pair["largest_score_change"]["value"] == pytest.approx(0.7)
    # Too few lesions in every part: counts only.
    assert all(row["difference"] is None for rows in pair["groups"].values() for row in rows)


def test_reliability_is_counted_bin_by_bin() -> None:
    truth = _truth([0, 1, 2, 0])
    scores = np.concatenate([_scores([0, 1], 0.95), _scores([0, 0], 0.55)])
    assert figures(truth, scores)["reliability"] == [
        {"photos": 2, "top_score": pytest.approx(0.55), "accuracy": 0.5},
        {"photos": 2, "top_score": pytest.approx(0.95), "accuracy": 1.0},
    ]


def test_intervals_are_those_of_the_metrics() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 120).tolist()
    groups = [f"g{i // 3}" for i in range(120)]
    first, second = rng.dirichlet(np.ones(3), 120), rng.dirichlet(np.ones(3), 120)
    truth = _truth(labels, groups)
    before, after = first.argmax(axis=1), second.argmax(axis=1)
    expected = paired_difference_interval(truth.labels, before, after, 3, groups, repeats=200)
    assert paired(truth, first, second)["difference"] == pytest.approx(list(expected))
    own = figures(truth, first)
    assert own["accuracy"] == list(share_of(truth.labels == before, groups).estimate() or ())
    assert own["expected_calibration_error"] == calibration_estimate(truth.draws, truth.labels, first)
    of_classes = recalls(truth.labels, before, 3, groups)
    assert own["balanced_accuracy"] == list(balanced_accuracy_estimate(of_classes) or ())
    assert own["recall"]["a"] == list(of_classes[0].estimate() or ())


def test_a_loss_is_below_zero_in_every_row_and_its_interval() -> None:
    """240 photos of 120 lesions; the second model is wrong about every third lesion, and too sure."""
    labels = [i // 6 % 3 for i in range(240)]
    groups = [f"g{i // 2}" for i in range(240)]
    wrong = [(label + 1) % 3 if i // 2 % 3 == 0 else label for i, label in enumerate(labels)]
    truth = _truth(labels, groups)
    pair = paired(truth, _scores(labels), _scores(wrong, 0.95))
    rows = [pair["difference"], pair["accuracy_difference"]]
    rows += [figures_of["difference"] for figures_of in pair["classes"].values()]
    assert len(rows) == 5
    for value, low, high in rows:
        assert value == pytest.approx(-1 / 3)
        assert low < value < high < 0
    value, low, high = pair["calibration_error_difference"]
    assert value == pytest.approx((0.95 - 2 / 3) - (1 - 0.8))
    assert low < value < high
    (sex, unknown) = pair["groups"]["sex"]
    assert (sex["value"], sex["photos"], sex["lesions"]) == ("female", 120, 120)
    assert unknown["value"] == "unknown"
    assert sex["balanced_accuracy"] == pytest.approx([1, 2 / 3])
    odd = np.arange(240) % 2 == 1
    expected = paired_difference_interval(
        truth.labels[odd], truth.labels[odd], np.array(wrong)[odd], 3, groups[1::2], repeats=200
    )
    assert sex["difference"] == pytest.approx(list(expected))
    # Twenty photos of ten lesions are too few: lesions count.
    bands = {row["value"]: row for row in pair["groups"]["age"]}
    assert (bands["0-19"]["photos"], bands["0-19"]["lesions"]) == (20, 10)
    assert bands["0-19"]["difference"] is bands["0-19"]["balanced_accuracy"] is None
    assert bands["80 and over"]["difference"][2] < 0


@pytest.mark.parametrize(
    ("difference", "p", "points", "interval", "told"),
    [
        ([-0.003, -0.008, 0.002], 0.73, "−0.3", "−0.8 to 0.2", False),
        ([-0.02, -0.03, -0.01], 0.01, "−2.0", "−3.0 to −1.0", True),
        ([0.011, 0.001, 0.02], 0.049, "1.1", "0.1 to 2.0", True),
        ([0.011, 0.001, 0.02], 0.05, "1.1", "0.1 to 2.0", False),
        ([0.0, -0.002, 0.002], 0.01, "0.0", "−0.2 to 0.2", False),
    ],
)  # fmt: skip
def test_the_verdict_says_loss_interval_and_changes(
    difference: list[float], p: float, points: str, interval: str, told: bool
) -> None:
    counts = {"answers_changed": 41, "for_the_worse": 22, "for_the_better": 15}
    said = verdict("int8_qat", "float32", {"difference": difference, "mcnemar_p": p, **counts}, 2003)
    assert f"int8_qat: {points} points of balanced accuracy against float32 (95 % CI {interval})" in said
    assert ("cannot be distinguished from float32" not in said) is told
    assert said.endswith("41 of 2,003 predictions changed, 22 to wrong, 15 to right.")


def test_exchanged_labels_are_found_and_correct_models_pass() -> None:
    rng = np.random.default_rng(1)
    first = _scores(rng.integers(0, 3, 200).tolist())
    assert exchanged_labels(first, first[:, [1, 0, 2]]) == {0: 1, 1: 0}
    noisy = first.copy()
    noisy[:40] = rng.dirichlet(np.ones(3), 40)
    assert exchanged_labels(first, noisy) == {}
    assert exchanged_labels(first, first) == {}
    # Also between two rare labels, of 15 photos in a hundred.
    rare = _scores([0] * 15 + [1] * 15 + [2] * 170)
    assert exchanged_labels(rare, rare[:, [1, 0, 2]]) == {0: 1, 1: 0}


def test_p_values_are_not_rounded_to_nothing() -> None:
    assert [p_value(x) for x in (0.00001, 0.0123, 0.5)] == ["< 0.001", "0.012", "0.50"]


def test_names_from_files_cannot_control_the_terminal() -> None:
    report = {"a\n": ["\x1b[31m\nb\u202e", 1.5, None]}
    assert terminal_safe(report) == {"a\\n": ["\\x1b[31m\\nb\\u202e", 1.5, None]}


def _pairs(kinds: list[str]) -> list[Pair]:
    return [
        Pair(
            kind, f"op{i}", (1, 4), Operator(i, kind, 1, (i,), (i + 1,)), Operator(i, kind, 1, (i,), (i + 1,))
        )
        for i, kind in enumerate(kinds)
    ]


def test_the_first_large_loss_is_where_it_enters_and_not_where_it_is_carried() -> None:
    pairs = _pairs(["CONV_2D", "CONV_2D", "CONV_2D", "MEAN"])
    noise = [0.001, 0.03, 0.035, 0.03]
    # Noise that has nothing to do with the signal adds its power to it.
    power = [1 + n for n in noise]
    found = rows_of(pairs, {"signal": [1.0] * 4, "power": power, "cross": [1.0] * 4})
    assert found["first_large_loss"] == 1
    assert [round(row["added"], 4) for row in found["rows"]] == [0.001, 0.029, 0.005, 0.0]
    assert found["rows"][1]["snr_db"] == pytest.approx(15.23, abs=0.01)


def test_another_temperature_is_no_noise_of_the_logits() -> None:
    pairs = _pairs(["FULLY_CONNECTED", "SOFTMAX"])
    # The second's logits are twice the first's.
    sums = {"signal": [1.0, 1.0], "power": [4.0, 1.0], "cross": [2.0, 1.0]}
    found = rows_of(pairs, sums)
    assert found["rows"][0]["snr_db"] == BEST_DB and found["first_large_loss"] is None


def test_operators_are_aligned_over_quantize() -> None:
    files = [read_tflite(FIXTURES / f"tiny_{name}.tflite") for name in ("int8", "uint8", "float32")]
    assert len(align(files[0], files[1])) == 5
    # Other sizes: not the same network.
    assert align(files[0], files[2]) == []
    assert short_name("classifier/quant_block_1_add/add;classifier/x") == "block_1_add"
    lite = "classifier/quant_re_lu_8/Relu6;classifier/quant_net/blocks_3/norm/Fused;classifier/quant_net/blocks_3/conv"
    assert short_name(lite) == "blocks_3/norm"
    assert short_name("PartitionedCall:0") == "PartitionedCall:0"
    assert decibels(0.01) == 20 and decibels(0.0) == BEST_DB


def _uint8_steps(scores: Any) -> Any:
    rounded = np.round(scores * 256) / 256
    return rounded / rounded.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3, 2.0])
def test_the_temperature_between_two_models_is_found(temperature: float) -> None:
    """Also where the second rounds to 256 steps and its logits are a little noisy, as a quantized file's are."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (400, 7))
    first = at_temperature(np.exp(logits), 1.0)
    noisy = at_temperature(np.exp(logits + rng.normal(0, 0.15, logits.shape)), temperature)
    assert implied_temperature(first, noisy) == pytest.approx(temperature, rel=0.03)
    assert implied_temperature(first, _uint8_steps(noisy)) == pytest.approx(temperature, rel=0.05)


def test_a_temperature_is_compared_with_the_contracts() -> None:
    from edge_runtime.contract import Calibration

    def contract(temperature: float) -> Any:
        return make_contract(calibration=Calibration("temperature", temperature))

    first = np.random.default_rng(4).dirichlet([0.5, 0.5, 0.5], 200)
    refitted = at_temperature(first, 1.1)
    assert temperature_problems(contract(1.5), contract(1.65), (first, refitted)) == []
    assert temperature_problems(contract(1.5), contract(1.5), (first, refitted)) == []
    sharper = at_temperature(first, 0.5)
    (said,) = temperature_problems(contract(1.5), contract(1.5), (first, sharper))
    assert "scores imply temperature 0.75" in said
    (said,) = temperature_problems(contract(1.5), contract(3.0), (first, at_temperature(first, 2.0)))
    assert "contract states temperature 3" in said
    # Scores of 0 and 1 do not show a temperature.
    certain = np.eye(3)[np.arange(30) % 3]
    assert temperature_problems(contract(1.5), contract(1.5), (certain, certain)) == []


def test_files_of_one_run_must_agree_within_the_wider_of_their_limits() -> None:
    def contract(recipe: str, run_id: str = "run-synthetic") -> Any:
        plain = make_contract()
        return replace(plain, provenance=replace(plain.provenance, recipe=recipe, run_id=run_id))

    scores = np.random.default_rng(8).dirichlet([0.5, 0.5, 0.5], 100)
    limits = RECIPES["int8_ptq"].limits
    assert limits.max_balanced_accuracy_loss > RECIPES["float32"].limits.max_balanced_accuracy_loss

    def problems(agreement: float, loss: float, first: Any, second: Any) -> list[str]:
        pair = {"agreement": [agreement, 0, 1], "difference": [-loss, -1, 1]}
        return answer_problems(first, second, (scores, scores), pair)

    least, most = limits.min_agreement, limits.max_balanced_accuracy_loss
    float32, int8 = contract("float32"), contract("int8_ptq")
    for first, second in ((float32, int8), (int8, float32), (float32, contract("unheard of"))):
        assert problems(least, most, first, second) == []
        # A gain is none, however large.
        assert problems(least, -0.5, first, second) == []
        (said,) = problems(least - 0.001, most, first, second)
        assert said.startswith("top-1 agreement is")
        (said,) = problems(least, most + 0.001, first, second)
        assert said.startswith("balanced accuracy is")
        assert len(problems(float("nan"), float("nan"), first, second)) == 2
    # Two float files have tighter limits, and two runs none.
    assert len(problems(least, most, float32, float32)) == 2
    assert problems(0.3, 0.5, float32, contract("int8_ptq", "another run")) == []


def test_mcnemar_is_the_exact_binomial_test() -> None:
    for worse, better in ((0, 0), (3, 3), (0, 7), (12, 5), (40, 22)):
        changes = worse + better
        tail = sum(math.comb(changes, k) for k in range(min(worse, better) + 1))
        assert mcnemar_p(worse, better) == pytest.approx(min(1.0, 2 * tail / 2**changes), rel=1e-9)
