"""What a classification says: scores, groups, decision; as text and as JSON. stdlib only."""

from __future__ import annotations

import math

from edge_runtime._startup.records import TYPE_CHECKING, dataclass
from edge_runtime.contract import Decision, ModelContract, Rule
from edge_runtime.errors import UsageError
from edge_runtime.model.tensors import TensorSpec, softmax_values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from edge_runtime.model.model_file import ModelFile

ANSWER, REFER, NOT_A_LESION = "answer", "refer", "not_a_lesion"
NOTICE = "Not a diagnosis: a research model's scores, no medical device. A doctor decides. Intended use: {intended_use}"


@dataclass(frozen=True)
class ScoredLabel:
    """A label and its score."""

    code: str
    name: str
    group: str
    score: float
    """In [0, 1]."""


class LateDigest:
    """A model's sha256, computed when somebody asks: it costs more than an inference.

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
class Prediction:
    """The answer to one photo; the fields of a line of `edge-classify --json`."""

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
    """Why: which measure stood on which side of which threshold."""
    elapsed_ms: dict[str, float]
    """Milliseconds by stage, and `total`."""
    ran_on: dict[str, object]
    """Behind `runtime`: its `model_sha256` may be a `LateDigest`, which costs more than an inference to ask."""
    notes: tuple[str, ...] = ()
    """What was left out or not applied while reading the file: further frames, a damaged colour profile."""

    # Two predictions are equal when they say the same, however long it took and wherever. Groups are sums of labels,
    # and would leave them without a hash.
    COMPARED = ("image", "model", "labels", "decision", "reason", "notes")

    @property
    def runtime(self) -> dict[str, Any]:
        """Versions, engine, accelerator, threads, sha256 of the model, what was passed over."""
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

    def top(self, count: int) -> list[ScoredLabel]:
        """The `count` best labels, best first; equals stay in output order."""
        return sorted(self.labels, key=lambda label: -label.score)[:count]

    def to_dict(self) -> dict[str, Any]:
        """The fields of ARCHITECTURE's JSON line, in its order."""
        best = self.best
        return {
            "image": self.image,
            "model": self.model,
            "label": best.code,
            "name": best.name,
            "score": best.score,
            "scores": self.scores,
            "groups": self.groups,
            "decision": self.decision,
            "reason": self.reason,
            "notes": list(self.notes),
            "elapsed_ms": self.elapsed_ms,
            "runtime": self.runtime,
        }

    def to_json(self) -> str:
        """One line, ASCII."""
        import json

        return json.dumps(self.to_dict(), allow_nan=False)

    def to_text(self, top_k: int = 3) -> str:
        """A few lines for people, without a final newline.

        Args:
            top_k: How many labels are shown, 1 or more.

        Raises:
            UsageError: `top_k` is less.
        """
        if top_k < 1:
            raise UsageError("the number of labels to show", found=str(top_k), expected="1 or more")
        shown = self.top(top_k)
        width = max(len(label.code) for label in shown)
        # Who reads only the first line must not take a refused answer for one.
        caution = (
            "" if self.decision == ANSWER else f"{self.decision.replace('_', ' ').upper()}: not sure of "
        )
        lines = [f"{self.image}: {caution}{shown[0].name} ({shown[0].code}), {shown[0].score:.1%}"]
        lines += [f"  {label.code:<{width}}  {label.score:6.1%}  {label.name}" for label in shown]
        lines.append("  groups: " + ", ".join(f"{group} {score:.1%}" for group, score in self.groups.items()))
        lines.append(f"  decision: {self.decision} ({self.reason})")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def scores_from(raw: bytes, spec: TensorSpec) -> list[float]:
    """Turns the output tensor into scores that sum to 1.

    A quantized softmax has steps of 1/256 and need not sum to 1 exactly; it is divided by its sum.

    Args:
        raw: The output tensor's bytes.
        spec: The output tensor's.

    Raises:
        InterpreterBroken: Not a softmax: a value outside [0, 1], not finite, or a sum too far from 1.
    """
    values = softmax_values(raw, spec)
    clipped = [max(0.0, value) for value in values]
    total = math.fsum(clipped)
    return [value / total for value in clipped]


def group_scores(labels: Sequence[ScoredLabel]) -> dict[str, float]:
    """The sum of each group's labels, groups in order of first appearance."""
    groups: dict[str, list[float]] = {}
    for label in labels:
        groups.setdefault(label.group, []).append(label.score)
    return {group: min(1.0, math.fsum(scores)) for group, scores in groups.items()}


def measure(name: str, scores: Sequence[float]) -> float:
    """The number that a rule looks at, in [0, 1].

    Args:
        name: `top_score`, or `normalized_entropy`: 0 for a certain answer, 1 for a uniform one.
        scores: They sum to 1.
    """
    if name == "top_score":
        return max(scores)
    # The sum is never positive; a minus before it would print a certain answer's entropy as -0.
    return abs(math.fsum(score * math.log(score) for score in scores if score > 0)) / math.log(len(scores))


def decide(decision: Decision, scores: Sequence[float]) -> tuple[str, str]:
    """The decision and its reason: not a lesion, else refer, else answer."""
    passed = []
    for outcome, rule in ((NOT_A_LESION, decision.not_a_lesion), (REFER, decision.refer)):
        if rule is None:
            continue
        fires, text = _apply(rule, measure(rule.measure, scores))
        if fires:
            return outcome, text
        passed.append(text)
    return ANSWER, "; ".join(passed) or "the model has no rule to refer"


def _apply(rule: Rule, value: float) -> tuple[bool, str]:
    fires_below = rule.measure == "top_score"
    fires = value < rule.threshold if fires_below else value > rule.threshold
    relation = "below" if value < rule.threshold else "above" if value > rule.threshold else "at"
    return fires, f"{rule.measure} {value:.3f} is {relation} {rule.threshold:g}"


def notice(contract: ModelContract) -> str:
    """The sentence that goes with every answer."""
    return NOTICE.format(intended_use=" ".join(contract.intended_use.split()))
