"""Scores, groups, decisions, and how they are written."""

from __future__ import annotations

import dataclasses
import json
import math
import struct

import pytest

from edge_runtime.contract import NOTICE, Decision, Rule
from edge_runtime.errors import ImageError, InterpreterBroken, UsageError
from edge_runtime.model.model_file import open_model
from edge_runtime.model.tensors import TensorSpec
from edge_runtime.result import (
    JSON_SCHEMA,
    Prediction,
    ScoredLabel,
    decide,
    error_fields,
    group_scores,
    json_line,
    measure,
    notice,
    scores_from,
)
from tests.fixtures import FIXTURES, PREDICTION_FIELDS

U8 = TensorSpec((1, 3), "uint8", 1 / 256, 0)
I8 = TensorSpec((1, 3), "int8", 1 / 256, -128)
F32 = TensorSpec((1, 3), "float32", 0.0, 0)


def prediction(scores: tuple[float, ...] = (0.1, 0.6, 0.3), decision: str = "answer") -> Prediction:
    labels = tuple(
        ScoredLabel(code, code.upper(), group, score)
        for (code, group), score in zip((("a", "x"), ("b", "y"), ("c", "x")), scores, strict=True)
    )
    return Prediction(
        "p.jpg",
        "m",
        labels,
        group_scores(labels),
        decision,
        "normalized_entropy 0.3 is below 0.9",
        {"total": 1.0},
        {"engine": "e"},
    )


@pytest.mark.parametrize(
    ("raw", "spec"),
    [(bytes((64, 128, 64)), U8), (bytes((0xC0, 0, 0xC0)), I8), (struct.pack("<3f", 0.25, 0.5, 0.25), F32)],
)
def test_scores_of_every_dtype(raw: bytes, spec: TensorSpec) -> None:
    assert scores_from(raw, spec) == [0.25, 0.5, 0.25]


@pytest.mark.parametrize("raw", [(255, 0, 0), (254, 1, 0), (86, 86, 86), (85, 85, 85)])
def test_quantized_scores_sum_to_1_though_their_steps_do_not(raw: tuple[int, ...]) -> None:
    scores = scores_from(bytes(raw), U8)
    assert math.fsum(scores) == pytest.approx(1.0, abs=1e-12)
    assert all(0 <= score <= 1 for score in scores)


@pytest.mark.parametrize(
    ("raw", "spec"),
    [
        (bytes(3), U8),
        (bytes((255, 255, 255)), U8),
        (bytes((100, 0, 0)), U8),
        (struct.pack("<3f", 2.0, -1.0, 0.0), F32),
        (struct.pack("<3f", 5.0, 1.0, -2.0), F32),
        (struct.pack("<3f", math.nan, 0.5, 0.5), F32),
        (struct.pack("<3f", 0.5, math.nan, 0.5), F32),
        (struct.pack("<3f", math.inf, 0.0, 0.0), F32),
        (struct.pack("<3f", 0.0, 0.0, 0.0), F32),
        (struct.pack("<3f", 0.4, 0.3, 0.2), F32),
        # So many labels that their rounding alone could be the whole sum.
        (bytes(300), TensorSpec((1, 300), "uint8", 1 / 256, 0)),
    ],
)
def test_what_is_no_softmax_is_refused(raw: bytes, spec: TensorSpec) -> None:
    """Logits must not be shown as scores."""
    with pytest.raises(InterpreterBroken, match="not a softmax"):
        scores_from(raw, spec)


@pytest.mark.parametrize(
    ("raw", "spec"),
    [
        (bytes((0, 129, 129)), TensorSpec((1, 3), "uint8", 1 / 256, 1)),
        (struct.pack("<3f", -1e-7, 0.5, 0.5), F32),
    ],
)
def test_a_little_less_than_nothing_is_nothing(raw: bytes, spec: TensorSpec) -> None:
    assert scores_from(raw, spec) == [0.0, 0.5, 0.5]


def test_groups_are_the_sums_of_their_labels() -> None:
    assert prediction().groups == {"x": pytest.approx(0.4), "y": pytest.approx(0.6)}
    assert list(prediction().groups) == ["x", "y"]
    assert prediction((0.5, 0.0, 0.5 + 1e-15)).groups == {"x": 1.0, "y": 0.0}


def test_best_and_top() -> None:
    assert [label.code for label in prediction().top(2)] == ["b", "c"]
    assert [label.code for label in prediction().top(99)] == ["b", "c", "a"]
    equal = prediction((0.4, 0.2, 0.4))
    assert equal.label == "a" and [label.code for label in equal.top(3)] == ["a", "c", "b"]
    assert (equal.name, equal.score) == ("A", 0.4)
    # In the model's order, not in the alphabet's.
    assert dataclasses.replace(equal, labels=equal.labels[::-1]).label == "c"


def test_measures() -> None:
    assert measure("top_score", [0.2, 0.7, 0.1]) == 0.7
    assert measure("normalized_entropy", [0.25] * 4) == pytest.approx(1.0)
    assert f"{measure('normalized_entropy', [0.0, 1.0, 0.0]):.3f}" == "0.000"
    assert measure("normalized_entropy", [0.5, 0.5, 0.0, 0.0]) == pytest.approx(0.5)


REFER = Rule("top_score", 0.5, "test")
STRANGE = Rule("normalized_entropy", 0.9, "test")


@pytest.mark.parametrize(
    ("decision", "scores", "outcome", "reason"),
    [
        (Decision(None, None), [0.4, 0.3, 0.3], "answer", "the model has no rule to refer"),
        (Decision(REFER, None), [0.6, 0.2, 0.2], "answer", "top_score 0.600 is above 0.5"),
        (Decision(REFER, None), [0.5, 0.25, 0.25], "answer", "top_score 0.500 is at 0.5"),
        (Decision(REFER, None), [0.49, 0.3, 0.21], "refer", "top_score 0.490 is below 0.5"),
        (
            Decision(None, Rule("normalized_entropy", 1.0, "test")),
            [0.25] * 4,
            "answer",
            "normalized_entropy 1.000 is at 1",
        ),
        (
            Decision(None, STRANGE),
            [0.34, 0.33, 0.33],
            "not_a_lesion",
            "normalized_entropy 1.000 is above 0.9",
        ),
        (
            Decision(REFER, STRANGE),
            [0.34, 0.33, 0.33],
            "not_a_lesion",
            "normalized_entropy 1.000 is above 0.9",
        ),
        (Decision(REFER, STRANGE), [0.48, 0.48, 0.04], "refer", "top_score 0.480 is below 0.5"),
    ],
)
def test_decisions(decision: Decision, scores: list[float], outcome: str, reason: str) -> None:
    *said, rule = decide(decision, scores)
    assert said == [outcome, reason]
    if outcome == "answer":
        assert rule is None
    else:
        fired = decision.refer if outcome == "refer" else decision.not_a_lesion
        assert rule is not None and fired is not None
        assert (rule.name, rule.measure, rule.threshold) == (outcome, fired.measure, fired.threshold)
        assert rule.value == measure(fired.measure, scores)


def test_an_answer_says_which_rules_it_passed() -> None:
    outcome, reason, _ = decide(Decision(REFER, STRANGE), [0.9, 0.05, 0.05])
    assert outcome == "answer"
    assert reason.startswith("normalized_entropy 0.") and reason.endswith("top_score 0.900 is above 0.5")


def test_json_has_exactly_the_fields_of_the_architecture() -> None:
    line = prediction().to_json()
    assert "\n" not in line
    parsed = json.loads(line)
    assert list(parsed) == PREDICTION_FIELDS
    assert parsed["scores"] == {"a": 0.1, "b": 0.6, "c": 0.3}
    assert parsed["runtime"] == {"engine": "e"}
    assert parsed == prediction().to_dict()
    assert (parsed["schema"], parsed["rule"]) == (JSON_SCHEMA, None)


def test_text_shows_the_top_labels_groups_and_decision() -> None:
    assert prediction().to_text(2) == (
        "p.jpg: B (b), 60.0%\n"
        "  b   60.0%  B\n"
        "  c   30.0%  C\n"
        "  groups: x 40.0%, y 60.0%\n"
        "  decision: answer (uncertainty 0.3 is below 0.9)"
    )
    assert len(prediction().to_text(1).splitlines()) == 4
    with pytest.raises(UsageError) as caught:
        prediction().to_text(0)
    assert (caught.value.where, caught.value.found) == ("top_k", "0")


@pytest.mark.parametrize(("decision", "words"), [("refer", "REFER"), ("not_a_lesion", "NOT A LESION")])
def test_text_says_first_that_there_is_no_answer(decision: str, words: str) -> None:
    """The first line alone shows that the model does not answer."""
    first = prediction(decision=decision).to_text().splitlines()[0]
    assert first.startswith(f"p.jpg: {words}")


@pytest.mark.parametrize("decision", ["answer", "refer", "not_a_lesion"])
@pytest.mark.parametrize("reason", ["top_score 0.4 is below 0.5", "normalized_entropy 0.99 is above 0.9"])
def test_a_person_reads_no_jargon_and_no_scores_of_a_refused_picture(decision: str, reason: str) -> None:
    shown = dataclasses.replace(prediction(decision=decision), reason=reason).to_text()
    assert "_" not in shown.replace(decision, "")
    assert ("%" in shown) is (decision != "not_a_lesion") is ("0.4" in shown or "0.99" in shown)
    assert (len(shown.splitlines()[-1].partition(f"decision: {decision}")[2]) > 60) is (decision != "answer")


def test_the_notice_carries_the_intended_use() -> None:
    contract = open_model(FIXTURES / "tiny_uint8.tflite").contract
    assert contract.intended_use in notice(contract)
    assert NOTICE not in notice(contract)
    assert notice(dataclasses.replace(contract, intended_use="two\n  lines\n")).endswith(": two lines")
    for words in ("Not a medical device.", "No diagnosis."):
        assert notice(dataclasses.replace(contract, intended_use=words)) == f"{NOTICE} Intended use: {words}"


def test_the_notice_of_the_bundled_model() -> None:
    assert notice(open_model().contract).startswith(NOTICE)


def test_names_reach_a_terminal_escaped() -> None:
    named = dataclasses.replace(
        prediction(),
        image="a\nb\x1b[31m\u202e.jpg",
        notes=("x\ry",),
        labels=(ScoredLabel("a", "\x1b[2J", "g", 1.0),),
    )
    text = named.to_text()
    assert text.isprintable() or set(filter(lambda char: not char.isprintable(), text)) == {"\n"}
    assert text.startswith(r"a\nb\x1b[31m\u202e.jpg: ")
    assert json.loads(named.to_json())["image"] == "a\nb\x1b[31m\u202e.jpg"


# What moves a cursor, C1 controls, marks that turn the direction or have no width, and bytes that are no UTF-8.
HOSTILE = [
    *map(chr, [*range(32), *range(0x7F, 0xA0), 0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010)]),
    *map(
        chr, [*range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0xFFF9, 0xE0001, 0xD800, 0xDC80, 0xDCFF]
    ),
]


def test_no_name_writes_to_a_terminal_and_every_json_line_is_unicode() -> None:
    for char in HOSTILE:
        named = dataclasses.replace(prediction(), image=f"a{char}b.jpg", notes=(char,))
        assert all(line.isprintable() for line in named.to_text().split("\n")), ascii(char)
        assert named.to_text().count("\n") == prediction().to_text().count("\n") + 1
        for text in (
            named.to_json(),
            json_line(error_fields(named.image, ImageError(char, where=char, found=char))),
        ):
            assert text.isascii()
            image = json.loads(text)["image"]
            assert image.encode()
            alone = "\ud800" <= char <= "\udfff"
            assert image == (f"a\\u{ord(char):x}b.jpg" if alone else named.image)


def test_characters_beyond_the_basic_plane_stay_in_json() -> None:
    name = "\U0001f480\udc80\U0010fc80.jpg"
    assert (
        json.loads(dataclasses.replace(prediction(), image=name).to_json())["image"]
        == "\U0001f480\\udc80\U0010fc80.jpg"
    )


def test_a_name_of_an_ascii_system_is_the_utf_8_that_it_is() -> None:
    name = "한 \udcff.jpg".encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape")
    assert json.loads(json_line({"image": name}))["image"] == "한 \\udcff.jpg"
    assert json.loads(json_line({"image": "한 \ud800"}))["image"] == "한 \\ud800"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("mole.jpg", "mole.jpg"),
        ("C:/a b's.jpg", "C:/a b's.jpg"),
        ("mole.jpg: Nevus (nv), 99.9%", "'mole.jpg: Nevus (nv), 99.9%'"),
        ("a': B (b), 9.0% '", r"'a\': B (b), 9.0% \''"),
        ("a" + " " * 80 + "p.jpg, B", f"'a{' ' * 80}p.jpg, B'"),
    ],
)
def test_a_name_that_could_pass_for_a_prediction_is_quoted(name: str, shown: str) -> None:
    assert dataclasses.replace(prediction(), image=name).to_text().startswith(f"{shown}: B (b), 60.0%\n")
