"""`dermedge inspect MODEL.tflite`: contract, metadata, tensors, operators and who supports them, from the bytes alone.

Any .tflite, with or without a contract. Whether the Edge TPU or XNNPACK supports an operator follows from the published
lists and the types in the file; what a device really delegates, `dermedge classify --accelerator xnnpack` counts.
stdlib only.

Exit status: 0 shown; 2 usage; 3 not a .tflite.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convert.tflite.reader import Tensor, TfliteFile, read_tflite
from convert.tflite.targets import edge_tpu_report, interchange_problems, xnnpack_problem
from edge_runtime.engines.opening import add_model_options, open_requested
from edge_runtime.errors import EXIT_OK, escaped
from edge_runtime.model.flatbuffer import Limits
from train.artifacts.command import command_parser, run_command

SHOWN_NAME = 60


def describe(file: TfliteFile) -> dict[str, Any]:
    """What a file holds, as plain values for JSON."""
    edge_tpu = edge_tpu_report(file)
    return {
        "file": file.path.name,
        "bytes": len(file.data),
        "weight_bytes": sum(tensor.stored_bytes for tensor in file.used()),
        "description": file.description,
        "subgraphs": file.subgraphs,
        "contract": file.contract.to_dict() if file.contract else None,
        "contract_problem": file.contract_problem,
        "metadata": {name: len(content) for name, content in file.metadata.items()},
        "inputs": [_tensor(file.tensors[i]) for i in file.inputs],
        "outputs": [_tensor(file.tensors[i]) for i in file.outputs],
        "operator_counts": file.operator_counts(),
        "constant_tensors": file.dtype_counts(constant=True),
        "computed_tensors": file.dtype_counts(constant=False),
        "operators": [
            {
                **asdict(operator),
                "xnnpack": xnnpack_problem(operator, file) or "taken",
                "edge_tpu": edge_tpu[operator.index] or "taken",
            }
            for operator in file.operators
        ],
        "tensors": [_tensor(tensor) for tensor in file.used()],
        "interchange": interchange_problems(file),
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    row = asdict(tensor) | {"axis": tensor.axis if len(tensor.scales) > 1 else None}
    row["shape"] = row.pop("signature")
    return row


def to_text(file: TfliteFile, report: dict[str, Any], *, every_tensor: bool = False) -> str:
    """The report as text."""
    lines = [f"{file.path}: {report['bytes']:,} bytes, of which {report['weight_bytes']:,} are constants", ""]
    lines += _contract(file)
    metadata = ", ".join(f"{name} ({size:,} bytes)" for name, size in report["metadata"].items()) or "none"
    lines += [f"metadata    {metadata}"]
    for role in ("inputs", "outputs"):
        lines += [f"{role[:-1]:<11} {_tensor_text(file.tensors[row['index']])}" for row in report[role]]
    counts = ", ".join(f"{count} {kind}" for kind, count in report["operator_counts"].items())
    lines += [
        f"operators   {len(report['operators'])}: {counts}",
        f"constants   {', '.join(f'{n} {dtype}' for dtype, n in report['constant_tensors'].items())}",
        f"computed    {', '.join(f'{n} {dtype}' for dtype, n in report['computed_tensors'].items())}",
        f"clients     {'; '.join(report['interchange']) or 'MediaPipe, ML Kit and Task Library can open it'}",
    ]
    for name, title in (("xnnpack", "XNNPACK"), ("edge_tpu", "Edge TPU")):
        lines += ["", *_target(report, name, title)]
    lines += ["", *_operators(file, report)]
    if every_tensor:
        lines += ["", "tensors", *(f"  {_tensor_text(tensor)}" for tensor in file.used())]
    return "\n".join(map(escaped, lines))


def _contract(file: TfliteFile) -> list[str]:
    contract = file.contract
    if contract is None:
        return [f"contract    {file.contract_problem}"]
    given, geometry, norm = contract.input, contract.geometry, contract.normalization
    return [
        f"contract    {contract.model_id}, schema {contract.schema_version}, run {contract.provenance.run_id}, "
        f"recipe {contract.provenance.recipe}",
        f"labels      {', '.join(contract.codes)}",
        f"pixels      {given.height_px} x {given.width_px} {given.color_space}, {geometry.crop} "
        f"{geometry.crop_fraction:g}, {geometry.filter}; (pixel - {norm.mean:g}) / {norm.std:g}",
        f"calibration {contract.calibration.method} {contract.calibration.temperature:g}; self-test vectors: "
        f"{len(contract.golden)}",
        f"licence     {contract.provenance.model_licence}",
    ]


def _target(report: dict[str, Any], name: str, title: str) -> list[str]:
    refused = [row for row in report["operators"] if row[name] != "taken"]
    total = len(report["operators"])
    lines = [f"{title} supports {total - len(refused)} of {total} operators"]
    for reason in dict.fromkeys(row[name] for row in refused):
        operators = [f"{row['index']} {row['kind']}" for row in refused if row[name] == reason]
        more = f" and {len(operators) - 4} more" if len(operators) > 4 else ""
        lines.append(f"  unsupported: {', '.join(operators[:4])}{more}: {reason}")
    return lines


def _operators(file: TfliteFile, report: dict[str, Any]) -> list[str]:
    lines = [f"{'':>4} {'operator':<24} {'x':1} {'t':1} output"]
    for row in report["operators"]:
        marks = ["+" if row[name] == "taken" else "-" for name in ("xnnpack", "edge_tpu")]
        output = _tensor_text(file.tensors[row["outputs"][0]]) if row["outputs"] else ""
        lines.append(f"{row['index']:>4} {row['kind']:<24} {' '.join(marks)} {output}")
    return [*lines, "x: XNNPACK, t: Edge TPU; + supported, - runs on the CPU's plain kernels"]


def _tensor_text(tensor: Tensor) -> str:
    name = tensor.name if len(tensor.name) <= SHOWN_NAME else tensor.name[: SHOWN_NAME - 1] + "…"
    text = f"{tensor.dtype} {list(tensor.signature)}"
    if len(tensor.scales) == 1:
        zero_point = tensor.zero_points[0] if tensor.zero_points else 0
        text += f" scale {tensor.scales[0]:.6g} zero point {zero_point}"
    elif tensor.scales:
        low, high = min(tensor.scales), max(tensor.scales)
        text += f" {len(tensor.scales)} scales of axis {tensor.axis}, {low:.3g} to {high:.3g}"
    return f"{text} {name}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit status as in the module's docstring."""
    arguments = parser().parse_args(argv)

    def show() -> int:
        limits = Limits(arguments.max_model_memory, arguments.max_model_work)
        if arguments.require_signature is not None or arguments.min_version is not None:
            open_requested(arguments, arguments.model)
        file = read_tflite(arguments.model, limits)
        report = describe(file)
        _say(
            json.dumps(report, indent=2)
            if arguments.json
            else to_text(file, report, every_tensor=arguments.tensors)
        )
        return EXIT_OK

    return run_command(show)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    description = "List a model file's contract, metadata, operators and tensors."
    found = command_parser("inspect", description, "example:\n  dermedge inspect model.tflite --tensors")
    add = found.add_argument
    add("model", type=Path, metavar="MODEL.tflite", help="Model file (required)")
    add("--json", action="store_true", help="Print everything as one JSON object (default: off)")
    add("--tensors", action="store_true", help="List every tensor with its quantization (default: off)")
    add_model_options(found, runs=False)
    return found


def _say(text: str) -> None:
    """Prints; a closed pipe (`| head`) is no error, a full disk is an OSError."""
    try:
        print(text, flush=True)
    except OSError as error:
        # Python would flush once more at exit, and complain in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise
