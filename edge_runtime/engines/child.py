"""The child process of `validation`: tries native code on one model and prints the result. It may crash.

stdin: one JSON line, then the model's bytes. The line is {"limits", "rung", ...}. Of the rung `cpu` (a first load, with
"engine") the result is `ok`, or the library's refusal: an error's class and texts as JSON. `probe` answers the others:
{"rung", "is_delegate", "threads"} of an accelerator, whose verdict is JSON, and {"rung": "litert-c"}.
"""

from __future__ import annotations

import array
import json
import os
import sys
from collections.abc import Mapping

from edge_runtime.engines.loading import open_engine
from edge_runtime.engines.validation import RESULT
from edge_runtime.errors import EdgeError
from edge_runtime.model.tensors import TensorSpec

# Seconds from the signal that says which limit it was to the one that nothing survives.
GRACE_S = 5


def first_load(model_bytes: bytes, engine: str) -> str:
    """Load a model and run one inference on the CPU; return `ok`, or what the library says against it."""
    try:
        opened = open_engine(model_bytes, engine=engine)
    except EdgeError as error:
        return json.dumps([type(error).__name__, error.what, error.found, error.expected, error.fix])
    try:
        opened.run(picture(opened.input))
    except EdgeError as error:
        # What loads and does not run lacks memory.
        return f"{error.what} ({error.found})"
    return "ok"


def picture(spec: TensorSpec) -> bytes:
    """Return an input tensor with every byte, or with floats from 0 to 1."""
    row = bytes(range(256)) if spec.quantized else array.array("f", [i / 255 for i in range(256)]).tobytes()
    return (row * (spec.nbytes // len(row) + 1))[: spec.nbytes]


def set_limits(limits: Mapping[str, int]) -> None:
    """Limit this process and what it starts, as far as the system can; `validation.limits` has the names."""
    try:
        import resource
    except ImportError:
        return  # Windows.
    for name, most in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        wanted = most + (GRACE_S if name == "CPU" else 0)
        lowered = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(kind, (min(most, lowered), lowered))
        except (OSError, ValueError):
            continue  # macOS does not limit memory.


def main() -> int:
    """Print the result and end without cleaning up: a library's destructors may crash."""
    question = json.loads(sys.stdin.buffer.readline())
    model_bytes = sys.stdin.buffer.read()
    set_limits(question["limits"])
    if question["rung"] == "cpu":
        result = first_load(model_bytes, question["engine"])
    else:
        from edge_runtime.engines.probe import answer

        result = answer(question, model_bytes)
    # The parent reads UTF-8, whatever this system's encoding is.
    os.write(1, f"\n{RESULT}{result}\n".encode("utf-8", "replace"))
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
