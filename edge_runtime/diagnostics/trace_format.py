"""The format of traces: stages, completeness, files. `TRACE_FORMAT.md` describes it."""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeError, UsageError
from edge_runtime.files import whole_file
from edge_runtime.model.model_file import read_regular
from edge_runtime.model.tensors import STRUCT_CODES

TRACE_VERSION = 1
STAGES = ("decoded", "cropped", "resized", "input_tensor", "raw_output", "scores")
# Large pictures are kept as a hash and the means of a grid of this many cells a side.
GRID = 8
CHANNELS = 3
SHA256_DIGITS = 64
MAX_TRACES_BYTES = 1024 * 1024 * 1024


def require_whole(stages: Mapping[str, Any]) -> None:
    """Refuse a trace with fewer values than its sizes say, since missing values would agree with everything.

    Raises:
        UsageError: A hash, a size or a count is wrong. Values of a wrong type raise any error.
    """
    outputs = math.prod(stages["raw_output"]["size"])
    expected = {
        **dict.fromkeys(("decoded", "cropped"), CHANNELS * GRID * GRID),
        "resized": CHANNELS * math.prod(stages["resized"]["size"]),
        "input_tensor": math.prod(stages["input_tensor"]["size"]),
        "raw_output": outputs,
        "scores": outputs,
    }
    for stage, count in expected.items():
        given = stages[stage]
        found = len(values_of(given, count + 1))
        if not found == count > 0:
            raise _not_whole(stage, f"{found} values", f"{max(count, 1)}")
        if stage != "scores" and min(given["size"]) < 1:
            raise _not_whole(stage, f"size {given['size']}", "sides of at least 1")
        if STAGES.index(stage) < STAGES.index("raw_output") and len(given["sha256"]) != SHA256_DIGITS:
            raise _not_whole(stage, f"sha256 {given['sha256']!r:.80}", f"{SHA256_DIGITS} digits")
    if (codes := len(stages["scores"]["codes"])) != outputs:
        raise _not_whole("scores", f"{codes} codes", f"{outputs}, one a value of raw_output")


def _not_whole(stage: str, found: str, expected: str) -> UsageError:
    return UsageError(f"incomplete trace, stage {stage}", found=found, expected=expected, fix="trace again")


def values_of(stage: Mapping[str, Any], most: int | None = None) -> Sequence[float]:
    """Return the numbers of a stage: a grid's means, a tensor's values; `most` is how many packed ones are unpacked."""
    for field in ("grid", "values"):
        if field in stage:
            listed: list[float] = stage[field]
            return listed
    code = STRUCT_CODES[stage["dtype"]]
    value_bytes = struct.calcsize(code)
    # 0 is no limit.
    most_bytes = 0 if most is None else most * value_bytes
    data = zlib.decompressobj().decompress(base64.b64decode(stage["deflated"]), most_bytes)
    return struct.unpack(f"<{len(data) // value_bytes}{code}", data)


def write_traces(path: Path, traces: Iterable[Mapping[str, Any]]) -> None:
    """Write a file with a trace a line, whole or not at all.

    Raises:
        UsageError: It cannot be written. Errors of `traces` pass.
    """
    if not path.name:
        raise UsageError("no file to write", found=repr(str(path)), expected="the name of a file")
    try:
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in traces)
    except EdgeError:
        raise
    except OSError as error:
        found, expected = error.strerror or str(error), "a file's name in a folder that can be written to"
        raise UsageError("cannot be written", where=str(path), found=found, expected=expected) from error


def read_traces(path: Path) -> list[Mapping[str, Any]]:
    """Return the traces in a file: one JSON object, over several lines perhaps, or one a line.

    Raises:
        UsageError: It cannot be read, or holds something else. Stages are not checked.
    """
    try:
        text = read_regular(str(path), MAX_TRACES_BYTES).decode("utf-8")
        try:
            traces = [json.loads(text)]
        except ValueError:
            traces = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise _no_trace(path, found, "a file that trace or record wrote") from error
    for one in traces:
        photo = one.get("photo") if isinstance(one, dict) else None
        named = isinstance(photo, dict) and all(isinstance(photo.get(key), str) for key in ("sha256", "name"))
        if not named:
            raise _no_trace(path, type(one).__name__, "a JSON object with a photo")
    return traces


def _no_trace(path: Path, found: str, expected: str) -> UsageError:
    return UsageError("not a trace", where=str(path), found=found, expected=expected)
