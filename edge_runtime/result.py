"""The result of a classification: scores, groups, decision; as text and as JSON. stdlib only."""

from __future__ import annotations

import math

from edge_runtime._startup.records import TYPE_CHECKING, dataclass
from edge_runtime.contract import Decision, ModelContract
from edge_runtime.errors import EdgeError, UsageError, escaped, quoted
from edge_runtime.model.tensors import TensorSpec, softmax_values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from edge_runtime.model.model_file import ModelFile

ANSWER, REFER, NOT_A_LESION = "answer", "refer", "not_a_lesion"
# Of a decision, for a person.
REFUSED = "NOT A LESION: the picture does not look like those that the model was trained on"
ADVICE = {
    ANSWER: "",
    REFER: ": do not rely on these scores; let an expert look, or take a sharper photo in better light",
    NOT_A_LESION: ": no scores are shown; take another photo, of what the model is for alone",
}
WORDS = (("top_score", "highest score"), ("normalized_entropy", "uncertainty"))
# Number of the JSON lines' schema, `cli/lines.schema.json`. It rises with every change that breaks a reader.
JSON_SCHEMA = 1


@dataclass(frozen=True)
class ScoredLabel:
    """A label and its score."""

    code: str
    name: str
    group: str
    score: float
    """In [0, 1]."""


class LateDigest:
    """A model's sha256, computed on first use because it costs more than an inference.

    Until then it keeps the model's bytes. A copy or a pickle of it is the text.
    """

    def __init__(self, model: ModelFile) -> None:
        self._known: ModelFile | str = model

    def __str__(self) -> str:
        known = self._known
        if not isinstance(known, str):
            self._known = known = known.sha256
        return known

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


@dataclass(frozen=True)
class AppliedRule:
    """The decision rule that fired."""

    name: str
    """`refer` or `not_a_lesion`."""
    measure: str
    """`top_score` or `normalized_entropy`."""
    value: float
    """Value of the measure, in [0, 1]."""
    threshold: float
    """Threshold of the rule, in [0, 1]."""

    def to_dict(self) -> dict[str, Any]:
        """Return the object `rule` of a JSON line."""
        return {name: getattr(self, name) for name in self.__match_args__}


@dataclass(frozen=True)
class Prediction:
    """The prediction for one photo; the fields of a line of `edge-classify --json`."""

    image: str
    """The photo's path, or `-`."""
    model: str
    """The contract's model id."""
    labels: tuple[ScoredLabel, ...]
    """All labels, in output order."""
    groups: dict[str, float]
    """Each group's score: the sum of its labels'."""
    decision: str
    """`answer`, `refer` or `not_a_lesion`."""
    reason: str
    """Which measure is on which side of which threshold."""
    elapsed_ms: dict[str, float]
    """Milliseconds by stage, and `total`."""
    ran_on: dict[str, object]
    """`runtime` before its `model_sha256` is computed."""
    notes: tuple[str, ...] = ()
    """What was ignored while reading the file: further frames, a damaged colour profile."""
    rule: AppliedRule | None = None
    """The rule that fired; None for the decision `answer`."""

    # Times and machine do not count. Groups are sums of labels, and would leave a prediction without a hash.
    COMPARED = ("image", "model", "labels", "decision", "reason", "notes")

    @property
    def runtime(self) -> dict[str, Any]:
        """Versions, engine, accelerator, threads, sha256 of the model, skipped engines."""
        return {
            name: str(value) if isinstance(value, LateDigest) else value
            for name, value in self.ran_on.items()
        }

    @property
    def scores(self) -> dict[str, float]:
        """Score by code, in output order; they sum to 1."""
        return {label.code: label.score for label in self.labels}

    @property
    def best(self) -> ScoredLabel:
        """The label with the highest score; of equals the first in output order."""
        return self.top(1)[0]

    @property
    def label(self) -> str:
        """Code of the best label."""
        return self.best.code

    @property
    def name(self) -> str:
        """Name of the best label."""
        return self.best.name

    @property
    def score(self) -> float:
        """Score of the best label."""
        return self.best.score

    def headline(self, label: str = "") -> str:
        """Return the first line, with `label` for the best label; a refused picture's has no score."""
        if self.decision == NOT_A_LESION:
            return REFUSED
        caution = "" if self.decision == ANSWER else f"{self.decision.upper()}: not sure of "
        return f"{caution}{label or f'{self.name} ({self.label})'}, {self.score:.1%}"

    def top(self, count: int) -> list[ScoredLabel]:
        """The `count` best labels, best first; equals stay in output order."""
        return sorted(self.labels, key=lambda label: -label.score)[:count]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a line of `edge-classify --json`, in its order."""
        plain = ("image", "model", "label", "name", "score", "scores", "groups", "decision", "reason")
        return {
            "schema": JSON_SCHEMA,
            **{name: getattr(self, name) for name in plain},
            "rule": None if self.rule is None else self.rule.to_dict(),
            "notes": list(self.notes),
            "elapsed_ms": self.elapsed_ms,
            "runtime": self.runtime,
        }

    def to_json(self) -> str:
        """Return the JSON line, ASCII, without a final newline."""
        return json_line(self.to_dict())

    def to_text(self, top_k: int = 3) -> str:
        """Return a few lines for a terminal, escaped, without a final newline.

        Args:
            top_k: Number of labels to show, 1 or more.

        Raises:
            UsageError: `top_k` is less than 1.
        """
        if top_k < 1:
            problem, found = "invalid number of labels", str(top_k)
            raise UsageError(problem, where="top_k", found=found, expected="1 or more")
        shown = self.top(top_k)
        width = max(len(label.code) for label in shown)
        lines = [f"{quoted(self.image)}: {self.headline()}"]
        why = ""
        if self.decision != NOT_A_LESION:
            lines += [f"  {label.code:<{width}}  {label.score:6.1%}  {label.name}" for label in shown]
            groups = ", ".join(f"{group} {score:.1%}" for group, score in self.groups.items())
            lines.append(f"  groups: {groups}")
            why = f" ({self.reason})"
            for measure, words in WORDS:
                why = why.replace(measure, words)
        lines.append(f"  decision: {self.decision}{why}{ADVICE[self.decision]}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(map(escaped, lines))


def json_line(fields: object) -> str:
    r"""Return JSON in one line, ASCII and valid Unicode: a byte of a name that is no UTF-8 as the text `\udcXX`."""
    import json
    from contextlib import suppress

    line = json.dumps(fields, allow_nan=False, ensure_ascii=False)
    if not line.isascii():
        # Where file names are ASCII, the bytes of a UTF-8 name came one by one.
        with suppress(UnicodeEncodeError):
            line = line.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
        escaped_bytes = "".join(rf"\\u{ord(c):x}" if "\ud800" <= c <= "\udfff" else c for c in line)
        line = json.dumps(json.loads(escaped_bytes))
    return line


def error_fields(image: str, error: EdgeError) -> dict[str, Any]:
    """Return the fields of the JSON line of a photo that cannot be classified."""
    return {"schema": JSON_SCHEMA, "image": image, "error": error.to_dict()}


def scores_from(raw: bytes, spec: TensorSpec) -> list[float]:
    """Return the scores in an output tensor; they sum to 1. Arguments and errors as `softmax_values`.

    A quantized softmax has steps of 1/256 and need not sum to 1 exactly; it is divided by its sum.
    """
    clipped = [max(0.0, value) for value in softmax_values(raw, spec)]
    total = math.fsum(clipped)
    return [value / total for value in clipped]


def group_scores(labels: Sequence[ScoredLabel]) -> dict[str, float]:
    """Return the sum of each group's scores, groups in order of first appearance."""
    groups: dict[str, list[float]] = {}
    for label in labels:
        groups.setdefault(label.group, []).append(label.score)
    return {group: min(1.0, math.fsum(scores)) for group, scores in groups.items()}


def measure(name: str, scores: Sequence[float]) -> float:
    """Return the value of a rule's measure, in [0, 1].

    Args:
        name: `top_score`, or `normalized_entropy`: 0 for one certain label, 1 for a uniform distribution.
        scores: Scores of all labels; they sum to 1.
    """
    if name == "top_score":
        return max(scores)
    # The sum is never positive; a minus before it would print -0.
    return abs(math.fsum(score * math.log(score) for score in scores if score > 0)) / math.log(len(scores))


def decide(decision: Decision, scores: Sequence[float]) -> tuple[str, str, AppliedRule | None]:
    """Apply the decision rules: not a lesion, else refer, else answer.

    Returns:
        The decision, its reason as text, and the rule that fired.
    """
    passed = []
    for outcome, rule in ((NOT_A_LESION, decision.not_a_lesion), (REFER, decision.refer)):
        if rule is None:
            continue
        value = measure(rule.measure, scores)
        relation = "below" if value < rule.threshold else "above" if value > rule.threshold else "at"
        text = f"{rule.measure} {value:.3f} is {relation} {rule.threshold:g}"
        if relation == ("below" if rule.measure == "top_score" else "above"):
            return outcome, text, AppliedRule(outcome, rule.measure, value, rule.threshold)
        passed.append(text)
    return ANSWER, "; ".join(passed) or "the model has no rule to refer", None


def notice(contract: ModelContract) -> str:
    """Return the notice that goes with every prediction, escaped, in one line."""
    return escaped(contract.notice)
