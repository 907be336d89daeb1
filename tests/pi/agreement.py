"""What two records of the same photos say of each other: the desktop's and a Pi's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.diagnostics.parity import STAGES, compare

EXACT = dict.fromkeys(STAGES, 0.0)
"""One release of one library: integer kernels owe the same integers on every processor, and pixels always do."""
Trace = Mapping[str, Any]


@dataclass(frozen=True)
class Agreement:
    """Counts over all photos, and what differs."""

    photos: int
    same_label: int
    same_input: int
    """Photos whose input tensor has the same bytes."""
    largest_steps: float
    """Largest difference of any raw output, in quantization steps."""
    problems: tuple[str, ...]


def read_record(path: Path) -> list[Trace]:
    """The traces of a file that `parity record` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def agreement(desktop: Sequence[Trace], device: Sequence[Trace]) -> Agreement:
    """Holds a device's record against the desktop's, photo by photo, every stage exactly."""
    problems, labels, inputs, steps = [], 0, 0, 0.0
    for here, there in zip(desktop, device, strict=True):
        name = here["photo"]["name"]
        if here["model"] != there["model"]:
            problems.append(f"{name}: model {here['model']} against {there['model']}")
        comparison = compare(here, there, EXACT)
        if comparison.first_difference is not None:
            problems.append(f"{name}: {comparison.verdict}")
        by_name = {stage.stage: stage for stage in comparison.stages}
        labels += label_of(here) == label_of(there)
        inputs += by_name["input_tensor"].note == "identical"
        steps = max(steps, by_name["raw_output"].difference)
    return Agreement(len(desktop), labels, inputs, steps, tuple(problems))


def label_of(one: Trace) -> str:
    """The code with the highest score, the first of equal ones, as `edge-classify` answers."""
    scores = one["stages"]["scores"]
    return str(scores["codes"][max(range(len(scores["values"])), key=scores["values"].__getitem__)])
