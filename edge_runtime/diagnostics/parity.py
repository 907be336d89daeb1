"""Parity of two devices: record what every stage made of a photo, and compare two such traces.

    dermedge parity record --model M PHOTO... --out TRACE.jsonl [--engine NAME]
    dermedge parity compare A.jsonl B.jsonl [--tolerance STAGE=VALUE] [--different-models]
    dermedge parity trace MODEL PHOTO [--engine NAME] [--out TRACE.json]

A file of `record` has a trace a line, a file of `trace` has one; TRACE_FORMAT.md describes them, and the Android app
writes them too. Stages, in order: decoded, cropped, resized, input_tensor, raw_output, scores. Look at the first that
differs: later stages differ because of it. Exit status of `compare`: 0 the traces agree; 1 they differ, and nothing
else; 2 they cannot be compared, or the result cannot be written.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import platform
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from edge_runtime import __version__
from edge_runtime.classifier import Classifier
from edge_runtime.cli.arguments import Parser
from edge_runtime.cli.command import run_guarded, tell
from edge_runtime.diagnostics.trace_format import (
    GRID,
    STAGES,
    TRACE_VERSION,
    read_traces,
    require_whole,
    values_of,
    write_traces,
)
from edge_runtime.engines import ENGINES
from edge_runtime.engines.opening import add_model_options, open_engine_for, open_requested
from edge_runtime.errors import EXIT_OK, EXIT_USAGE, EdgeError, UsageError, escaped
from edge_runtime.images.photos import list_photos, read_photo
from edge_runtime.images.preprocess import as_pillow, pixel_bytes
from edge_runtime.model.tensors import TensorSpec, largest_difference
from edge_runtime.result import json_line

EXIT_DIFFERENT = 1

# Pixels are equal bit for bit on every platform: the same photo decodes alike with any libjpeg-turbo, and crop, resize
# and quantization are integer arithmetic. Only a phone's own JPEG decoder needs another value.
PIXELS_TOLERANCE = 0.0
# The same kernels (release and processor family) give the same integers; the order of float sums may depend on the
# processor.
SAME_KERNELS_STEPS_TOLERANCE = 0.0
SAME_KERNELS_FLOAT_TOLERANCE = 1e-5
# Other kernels round every layer of a quantized model differently, and near a decision one step of a logit is several
# of a score. XNNPACK against the built-in kernels (LiteRT 2.3.0, tflite-runtime 2.14, x86-64), in steps of 1/256: a
# trained int8 MobileNetV2 0.35 at 96 px on 327 photos had a median of 1 to 6, 36 at the 99th percentile, 61 at most.
# Too wide to find a wrong weight, wide enough for any one photo; wrong pixels are found before, exactly.
OTHER_KERNELS_STEPS_TOLERANCE = 64.0
OTHER_KERNELS_FLOAT_TOLERANCE = 1e-4
QUANTIZED_STEPS = 256
# Raised by JSON that has another form than a trace.
_DAMAGED = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class StageComparison:
    """The comparison of one stage of two traces."""

    stage: str
    agrees: bool
    difference: float
    """Largest absolute difference, in the stage's unit; infinite when shapes or label orders differ."""
    tolerance: float
    note: str
    """`identical`, `within tolerance`, or what differs."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of two traces."""

    stages: tuple[StageComparison, ...]
    models: str = ""
    """The two models, if they differ and should not; else empty."""

    @property
    def agrees(self) -> bool:
        """Whether the models are equal and all stages agree."""
        return self.first_difference is None and not self.models

    @property
    def first_difference(self) -> StageComparison | None:
        """The first stage that differs by more than its tolerance, None when all agree."""
        return next((stage for stage in self.stages if not stage.agrees), None)

    @property
    def verdict(self) -> str:
        """One line."""
        if first := self.first_difference:
            return f"differ: first at stage {first.stage}: {first.note}"
        if self.models:
            return f"differ: {self.models}; all {len(self.stages)} stages agree"
        exact = sum(stage.difference == 0 for stage in self.stages)
        return f"agree: all {len(self.stages)} stages, {exact} of them exactly"

    def to_text(self) -> str:
        """A line a stage, one for the models where they differ, and the verdict."""
        rows = [("model", False, self.models)] if self.models else []
        rows += [(stage.stage, stage.agrees, stage.note) for stage in self.stages]
        lines = [f"  {name:<13} {'ok' if agrees else 'DIFFERS':<8} {note}" for name, agrees, note in rows]
        return "\n".join(map(escaped, [*lines, self.verdict]))


def trace(classifier: Classifier, photo: bytes, *, name: str = "photo") -> dict[str, Any]:
    """Run one photo's bytes and record every stage; `name` stands in the trace and in errors.

    Returns:
        A JSON object: what was run, and by stage its sha256 with a picture's grid of means, or the values themselves
        (`resized` and `input_tensor` deflated, in base64).

    Raises:
        ImageError, InterpreterBroken: As `Classifier.classify`.
    """
    contract, runner = classifier.contract, classifier.runner
    decoded = runner.decode(photo, name=name)
    cropped = runner.crop(decoded)
    resized = runner.resize(cropped)
    pixels_u8 = pixel_bytes(resized)
    input_tensor = runner.input_tensor(pixels_u8)
    raw_output = runner.run(input_tensor)
    source, sink = classifier.engine.input, classifier.engine.output
    size = [resized.height, resized.width]
    stages = {
        "decoded": _picture(as_pillow(decoded)),
        "cropped": _picture(as_pillow(cropped)),
        "resized": {"size": size, "dtype": "uint8", "scale": 0.0, **_packed(pixels_u8)},
        "input_tensor": {**_tensor(source), **_packed(input_tensor)},
        "raw_output": {**_tensor(sink), "values": list(runner.raw_values(raw_output))},
        "scores": {"dtype": sink.dtype, "codes": list(contract.codes), "values": runner.scores(raw_output)},
    }
    return {
        "trace_version": TRACE_VERSION,
        "photo": {"name": name, "sha256": hashlib.sha256(photo).hexdigest()},
        "model": {"id": contract.model_id, "sha256": classifier.model.sha256},
        "runtime": {
            "dermedge": __version__,
            "engine": classifier.engine.name,
            "kernels": kernels_of(classifier.engine.name),
        },
        "stages": stages,
    }


def compare(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    tolerances: Mapping[str, float] | None = None,
    *,
    different_models: bool = False,
) -> Comparison:
    """Compare two traces of the same photo, stage by stage.

    Tolerances by stage stand instead of the module's constants: pixels in steps of 0 to 255, a quantized raw output in
    its steps, scores in 0 to 1. `different_models` accepts two model files, as when a conversion was changed.

    Raises:
        UsageError: Not traces, traces that lack values, traces of different photos, or an unknown stage in
            `tolerances`.
    """
    for one in (first, second):
        forms = (one.get("trace_version"), list(one.get("stages", ()))), (TRACE_VERSION, list(STAGES))
        if forms[0] != forms[1]:
            found, expected = (f"trace_version {version}, stages {stages}" for version, stages in forms)
            raise UsageError("not a trace of this version", found=found, expected=expected)
        require_whole(one["stages"])
    if first["photo"]["sha256"] != second["photo"]["sha256"]:
        raise UsageError(
            "the traces are of different photos",
            found=f"{first['photo']['name']} and {second['photo']['name']}",
            expected="two traces of the same bytes",
        )
    if unknown := set(tolerances or ()) - set(STAGES):
        raise UsageError("unknown stage", found=", ".join(sorted(unknown)), expected=", ".join(STAGES))
    same_kernels = first["runtime"]["kernels"] == second["runtime"]["kernels"]
    compared = []
    for stage in STAGES:
        one, other = first["stages"][stage], second["stages"][stage]
        tolerance = tolerance_of(stage, one.get("dtype", "uint8"), same_kernels=same_kernels)
        compared.append(_compare_stage(stage, one, other, (tolerances or {}).get(stage, tolerance)))
    (name, digest), (other_name, other_digest) = (
        (one["model"]["id"], one["model"]["sha256"]) for one in (first, second)
    )
    models = f"model {name} (sha256 {digest:.12}) against {other_name} ({other_digest:.12})"
    accepted = different_models or (name, digest) == (other_name, other_digest)
    return Comparison(tuple(compared), "" if accepted else models)


def tolerance_of(stage: str, dtype: str, *, same_kernels: bool) -> float:
    """Return the default tolerance of one of STAGES, for the output tensor's dtype.

    Kernels are the same if both traces name the same inference library, release and processor family.
    """
    if dtype == "float32":
        output = scores = SAME_KERNELS_FLOAT_TOLERANCE if same_kernels else OTHER_KERNELS_FLOAT_TOLERANCE
    else:
        output = SAME_KERNELS_STEPS_TOLERANCE if same_kernels else OTHER_KERNELS_STEPS_TOLERANCE
        # Scores are divided by their sum, which may be a few steps away from 1.
        scores = output / QUANTIZED_STEPS * (1 if same_kernels else 1.1)
    return {"raw_output": output, "scores": scores}.get(stage, PIXELS_TOLERANCE)


def kernels_of(engine_name: str) -> str:
    """Return the name of the kernels: the C API and the Interpreter of one ai-edge-litert share theirs."""
    return f"{engine_name.replace('litert-c', 'litert')} {platform.machine()}"


def _compare_stage(
    stage: str, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float
) -> StageComparison:
    for field in ("size", "dtype", "scale", "zero_point", "codes"):
        if one.get(field) != other.get(field):
            what = "label order" if field == "codes" else field
            note = f"{what} {one.get(field)} against {other.get(field)}"
            return StageComparison(stage, False, float("inf"), tolerance, note)
    hashed = "sha256" in one
    same = one.get("sha256", "") and one["sha256"] == other["sha256"]
    difference = 0.0 if same else largest_difference(values_of(one), values_of(other))
    if same or (difference == 0 and not hashed):
        return StageComparison(stage, True, 0.0, tolerance, "identical")
    # Means of a grid can be equal where pixels differ: with tolerance 0 another hash is a difference.
    agrees = difference <= tolerance and (tolerance > 0 or not hashed)
    relation = "within" if agrees else "beyond"
    grid = f" in the means of a {GRID} x {GRID} grid" if "grid" in one else ""
    note = f"largest difference {difference:.6g}{grid}, {relation} the tolerance {tolerance:g}"
    return StageComparison(stage, agrees, difference, tolerance, note)


def _picture(image: Image.Image) -> dict[str, Any]:
    grid = image.resize((GRID, GRID), Image.Resampling.BOX)
    return {
        "size": [image.height, image.width],
        "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "grid": list(grid.tobytes()),
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"size": list(spec.shape), "dtype": spec.dtype, "scale": spec.scale, "zero_point": spec.zero_point}


def _packed(data: bytes) -> dict[str, str]:
    deflated = base64.b64encode(zlib.compress(data, 9)).decode()
    return {"sha256": hashlib.sha256(data).hexdigest(), "deflated": deflated}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dermedge parity` and return its exit status."""
    arguments = parser().parse_args(argv)
    command = _compare_command if arguments.command == "compare" else _trace_command
    # 1 means that traces differ, not that a photo cannot be traced.
    return run_guarded(lambda: command(arguments), failed=EXIT_USAGE)


def parser() -> argparse.ArgumentParser:
    """Return the parser of `dermedge parity`."""
    made = Parser(
        prog="dermedge parity",
        description="Record what every stage makes of photos, and compare two such traces.",
        epilog="exit status: 0 done, or the traces agree; 1 they differ; 2 usage, photo, or a file that cannot be read "
        "or written;\n  3 model or interpreter unusable; 130 after Ctrl-C, 141 when the reader of stdout went away\n\n"
        "example:\n  dermedge parity record --model model.tflite photos/ --out here.jsonl\n"
        "  dermedge parity compare here.jsonl phone.jsonl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = made.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help="trace, record or compare"
    )
    tracing = commands.add_parser("trace", help="trace one photo", allow_abbrev=False)
    tracing.add_argument("model", help="a .tflite file")
    tracing.add_argument("photos", nargs=1, metavar="photo", help="a photo, or - for stdin")
    tracing.add_argument("--out", type=Path, help="file to write (default: stdout)")
    recording = commands.add_parser("record", help="trace photos, a line each", allow_abbrev=False)
    recording.add_argument("--model", metavar="M", help="a .tflite file (default: the bundled model)")
    recording.add_argument("photos", nargs="+", metavar="PHOTO", help="a photo or a folder of photos")
    recording.add_argument("--out", type=Path, required=True, help="file to write, JSON lines")
    for one in (tracing, recording):
        add_model_options(one)
        one.add_argument("--engine", default="auto", choices=ENGINES, help="inference engine (default: auto)")
    comparing = commands.add_parser("compare", help="compare two files of traces", allow_abbrev=False)
    comparing.add_argument("first", type=Path, help="a file of trace or record, or of the Android app")
    comparing.add_argument("second", type=Path, help="another one")
    text = "largest accepted difference of a stage, repeatable (default: as the stage needs)"
    comparing.add_argument(
        "--tolerance", type=_tolerance, action="append", default=[], metavar="STAGE=VALUE", help=text
    )
    text = "accept traces of two model files (default: a difference)"
    comparing.add_argument("--different-models", action="store_true", help=text)
    return made


def _tolerance(text: str) -> tuple[str, float]:
    stage, _, value = text.partition("=")
    try:
        tolerance = float(value)
    except ValueError:
        tolerance = -1.0
    if stage not in STAGES or not 0 <= tolerance < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not STAGE=VALUE with a stage of {', '.join(STAGES)}")
    return stage, tolerance


def _trace_command(arguments: argparse.Namespace) -> int:
    """Trace all photos or none: a missing one would not be compared."""
    names = arguments.photos
    if recorded := arguments.command == "record":
        names = [name for argument in names for name in list_photos(argument, tell=tell)]
    (model,) = open_requested(arguments, arguments.model)
    opened = open_engine_for(
        model, engine=arguments.engine, threads=1, accelerator="cpu", delegate=None, revalidate=False
    )
    with Classifier.of(opened) as classifier:
        traces = (trace(classifier, read_photo(name), name=name) for name in names)
        if arguments.out is None:
            print(*map(json_line, traces))
        else:
            write_traces(arguments.out, traces)
    if recorded:
        print(escaped(f"{arguments.out}: {len(names)} photos, {len(STAGES)} stages each"), file=sys.stderr)
    return EXIT_OK


def _compare_command(arguments: argparse.Namespace) -> int:
    """Compare every photo that both files hold; one that is only in one file is a difference."""
    files = (arguments.first, arguments.second)
    first, second = ({one["photo"]["sha256"]: one for one in read_traces(path)} for path in files)
    shared = [key for key in first if key in second]
    in_one = first.keys() ^ second.keys()
    lonely = [one["photo"]["name"] for key, one in {**first, **second}.items() if key in in_one]
    if not shared:
        names = ", ".join(lonely[:4])
        raise UsageError("the traces are of different photos", found=names, expected="the same bytes")
    options = {"tolerances": dict(arguments.tolerance), "different_models": arguments.different_models}
    try:
        comparisons = [compare(first[key], second[key], **options) for key in shared]
    except EdgeError:
        raise
    except _DAMAGED as error:
        problem, where = "not a valid trace", f"{arguments.first} or {arguments.second}"
        found, expected = f"{type(error).__name__}: {error}", "files that trace or record wrote"
        raise UsageError(problem, where=where, found=found, expected=expected, fix="trace again") from error
    if len(first) > 1:
        for key, one in zip(shared, comparisons, strict=True):
            if not one.agrees:
                print(escaped(f"{first[key]['photo']['name']}: {one.verdict}"))
    worst = [
        max(stages, key=lambda stage: (not stage.agrees, stage.difference))
        for stages in zip(*(one.stages for one in comparisons), strict=True)
    ]
    models = next((one.models for one in comparisons if one.models), "")
    print(Comparison(tuple(worst), models).to_text())
    apart = sum(not one.agrees for one in comparisons)
    if len(comparisons) > 1 or lonely:
        print(f"{len(comparisons)} photos in both, {apart} of them differ; {len(lonely)} in one file only")
    return EXIT_DIFFERENT if lonely or apart else EXIT_OK
