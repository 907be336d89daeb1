"""Signal-to-noise ratio of every layer, quantized against float, and where the loss enters. numpy.

Operators of both files are aligned by kind and shape, without QUANTIZE and DEQUANTIZE. The ratio of each pair's output
is taken over photos: 10 log10 of (sum of the first's squares) / (sum of squared differences). An operator's own loss is
what it adds to the noise-to-signal ratio of its noisiest input.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.comparison.workers import argument_of
from convert.tflite.reader import Operator, TfliteFile, read_structure
from edge_runtime.model.model_file import ModelFile

ROOT = Path(__file__).parents[2]
PHOTOS = 3
PROBE_SECONDS = 300
IGNORED = ("QUANTIZE", "DEQUANTIZE")
# An operator that adds 1 % of the signal's power as noise: by itself it leaves 20 dB.
LARGE_LOSS = 0.01
# Below this share of operators that fit each other, two files are not the same network.
LEAST_ALIGNED = 0.6
# Of a tensor that is exactly alike, or without any signal.
BEST_DB = 120.0


@dataclass(frozen=True)
class Pair:
    """One operator in both files."""

    kind: str
    name: str
    shape: tuple[int, ...]
    first: Operator
    second: Operator


def align(first: TfliteFile, second: TfliteFile) -> list[Pair]:
    """Pair corresponding operators, in order; empty when the files are not the same network."""
    one, other = ([x for x in file.operators if x.kind not in IGNORED] for file in (first, second))
    outputs = [first.tensors[x.outputs[0]] for x in one]
    keys = [(x.kind, output.shape) for x, output in zip(one, outputs, strict=True)]
    other_keys = [(x.kind, second.tensors[x.outputs[0]].shape) for x in other]
    matcher = difflib.SequenceMatcher(None, keys, other_keys, autojunk=False)
    pairs = [
        Pair(one[i].kind, short_name(outputs[i].name), outputs[i].shape, one[i], other[i - a + b])
        for a, b, size in matcher.get_matching_blocks()
        for i in range(a, a + size)
    ]
    return pairs if len(pairs) >= LEAST_ALIGNED * max(len(one), len(other)) else []


def short_name(tensor_name: str) -> str:
    """Shorten the names of all operations that were fused into a tensor to one layer name.

    `block_3_depthwise_relu` of `classifier/block_3_depthwise_relu/Relu6;classifier/...`, and `blocks_3/conv2d` of
    `classifier/re_lu_8/Relu6;classifier/net/blocks_3/conv2d/Conv2D`: the name that says most, without the operation.
    """
    paths = [[part for part in name.split("/") if part] for name in tensor_name.split(";")]
    parts = max(paths, key=len)
    if len(parts) >= 2 and parts[0] in ("classifier", "model"):
        parts = parts[1:]
    named = [part.removeprefix("quant_") for part in parts[:-1] or parts]
    return "/".join(named[-2:]) if named else tensor_name


def layer_report(
    first: ModelFile, second: ModelFile, photos: Sequence[Path], count: int = PHOTOS
) -> dict[str, Any]:
    """Measure the signal-to-noise ratio of every operator's output that both files compute.

    Of the photos the first `count` readable ones are used.

    Returns:
        `rows` in the order of the network, `photos`, `first_large_loss` (index in rows, or None); or `problem` where
        nothing could be measured.
    """
    pairs = align(*(read_structure(model.data) for model in (first, second)))
    if not pairs:
        return {"problem": "the two files are not the same network", "rows": []}
    request = {
        "pairs": [[pair.first.outputs[0], pair.second.outputs[0]] for pair in pairs],
        "photos": [str(path) for path in photos],
        "count": count,
    }
    models = [argument_of(model, vouched=model.vouched) for model in (first, second)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "convert.comparison.layer_probe", *models],
            cwd=ROOT,
            # All cores run photos meanwhile: numpy's threads would only wait for each other.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"not finished within {PROBE_SECONDS} s", "rows": []}
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        return {"problem": said[-1] if said else f"exit status {done.returncode}", "rows": []}
    sums = json.loads(done.stdout)
    return {"photos": sums["photos"], **rows_of(pairs, sums)}


def rows_of(pairs: Sequence[Pair], sums: dict[str, Any]) -> dict[str, Any]:
    """Make the rows of a report from the probe's sums."""
    ratios: dict[int, float] = {}
    rows: list[dict[str, Any]] = []
    for i, pair in enumerate(pairs):
        signal, power, cross = (sums[name][i] for name in ("signal", "power", "cross"))
        gain = cross / signal if signal else 1.0
        # The squares of the differences.
        noise = signal - 2 * cross + power
        is_logits = pair.kind == "FULLY_CONNECTED" and i + 1 < len(pairs) and pairs[i + 1].kind == "SOFTMAX"
        if is_logits and gain > 0:
            # The calibration temperature is folded in here: compared at the same one.
            noise = power / gain**2 - 2 * cross / gain + signal
        ratio = max(noise, 0.0) / signal if signal else 0.0
        entering = max((ratios.get(index, 0.0) for index in pair.first.inputs), default=0.0)
        ratios[pair.first.outputs[0]] = ratio
        rows.append(
            {
                "position": i,
                "name": pair.name,
                "kind": pair.kind,
                "shape": list(pair.shape),
                "snr_db": decibels(ratio),
                "gain": gain,
                "noise_to_signal": ratio,
                "added": max(0.0, ratio - entering),
            }
        )
    large = [row["position"] for row in rows if row["added"] >= LARGE_LOSS and row["kind"] != "SOFTMAX"]
    return {"rows": rows, "first_large_loss": large[0] if large else None}


def decibels(noise_to_signal: float) -> float:
    """Return the signal-to-noise ratio in dB, at most BEST_DB."""
    return float(min(BEST_DB, -10 * np.log10(noise_to_signal))) if noise_to_signal > 0 else BEST_DB
