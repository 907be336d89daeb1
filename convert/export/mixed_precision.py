"""`--keep-float auto`: the smallest set of layers whose return to float brings the loss under a limit. TensorFlow.

TensorFlow's quantizer takes a list of operators to leave alone. Each list gets a network of its own, because what
`rounding_shift` takes back is right for kernels that are rounded and wrong for those that are not; it is calibrated
with it, a minute each for a phone-sized network. The operators are ranked by the noise that each adds by itself
(convert/comparison/layers.py, float file against the whole integer one). The first k are kept float, k doubled until
the limit
holds and then halved towards the least; last, each of them is given back once if the limit holds without it. So the set
is smallest in the sense that none of its layers can be missed, not of all sets that there are. Layers go back to float,
not to int16 activations: TensorFlow's quantizer knows one activation type for a whole conversion (recipe `int16x8`),
and has no operator that would take int8 to int16 between two layers.

Loss is the share of the gate's photos whose answer is not the float model's: it needs no labels, and a few hundred
photos tell it far more exactly than a difference of balanced accuracies. The test split is never asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from convert.comparison import layers
from convert.export import keras_export as export
from convert.recipes import RECIPES
from convert.tflite.golden import closing_engine
from convert.tflite.reader import parse_tflite, read_tflite
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ConversionRefused

BENCH_RUNS = 15


def search(
    network_for: Callable[[Sequence[str]], Any],
    float_model: Any,
    contract: ModelContract,
    dataset: Any,
    *,
    rank: Callable[[bytes, bytes], Sequence[str]],
    loss_of: Callable[[bytes], float],
    max_loss: float,
) -> tuple[bytes, dict[str, Any]]:
    """Finds the smallest set of layers to keep in float.

    Args:
        network_for: From the output tensors of the operators that stay float to the Keras model that is quantized with
            this list; it ends in softmax.
        float_model: That of which nothing is rounded.
        contract: Its input.
        dataset: See `export.representative_dataset`.
        rank: From the float and the integer file to names of tensors, the worst operator first.
        loss_of: Of a file, see the module's head.
        max_loss: Limit.

    Raises:
        ConversionRefused: The limit does not hold with every layer float.
    """
    floating = export.to_tflite(float_model, RECIPES["float32"], contract)
    tried: dict[tuple[str, ...], tuple[bytes, float]] = {}

    def attempt(names: Sequence[str]) -> float:
        key = tuple(names)
        if key not in tried:
            calibrated = export.to_calibrated(network_for(key), contract, dataset)
            tflite = export.quantize_calibrated(calibrated, key)
            tried[key] = tflite, loss_of(tflite)
        return tried[key][1]

    whole_loss = attempt(())
    ranked = list(rank(floating, tried[()][0])) if whole_loss > max_loss else []
    kept = smallest_prefix(ranked, attempt, max_loss) if whole_loss > max_loss else []
    if kept is None:
        raise ConversionRefused(
            "no set of layers that stay float brings the loss under the limit; nothing was written",
            found=f"{100 * attempt(ranked):.1f} % of the answers change with all {len(ranked)} layers float",
            expected=f"at most {100 * max_loss:g} %",
            fix="raise --max-loss, or convert with recipe float32",
        )
    kept = without_the_needless(kept, attempt, max_loss)
    tflite, loss = tried[tuple(kept)]
    times = _times([tried[()][0], tflite, floating])
    report = {
        "limit": max_loss,
        "loss": loss,
        "loss_of_whole": whole_loss,
        "kept": [layers.short_name(name) for name in kept],
        "tensors": list(kept),
        "layers": len(ranked) or _layer_count(floating),
        "tried": len(tried),
        "bytes": {"whole": len(tried[()][0]), "mixed": len(tflite), "float": len(floating)},
        "ms_per_photo": dict(zip(("whole", "mixed", "float"), times, strict=True)),
    }
    return tflite, report


def _layer_count(floating: bytes) -> int:
    """How many layers could have been kept: where the whole integer file holds the limit, nobody has ranked them."""
    file = parse_tflite(Path("float.tflite"), floating)
    return sum(operator.kind not in layers.IGNORED for operator in file.operators)


def smallest_prefix(
    ranked: Sequence[str], loss_of: Callable[[Sequence[str]], float], max_loss: float
) -> list[str] | None:
    """The shortest beginning of the ranking that holds the limit; None if the whole does not.

    Losses need not fall evenly: what is returned holds the limit, and its half or the last tried shorter one does not.
    """
    low, high = 0, 1
    while high < len(ranked) and loss_of(ranked[:high]) > max_loss:
        low, high = high, 2 * high
    high = min(high, len(ranked))
    if loss_of(ranked[:high]) > max_loss:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if loss_of(ranked[:middle]) > max_loss:
            low = middle
        else:
            high = middle
    return list(ranked[:high])


def without_the_needless(
    kept: Sequence[str], loss_of: Callable[[Sequence[str]], float], max_loss: float
) -> list[str]:
    """Gives each layer back once, the least harmful first, where the limit holds without it."""
    left = list(kept)
    for name in reversed(kept):
        fewer = [other for other in left if other != name]
        if fewer and loss_of(fewer) <= max_loss:
            left = fewer
    return left


def noisiest_first(first: Path, second: Path, photos: Sequence[Path]) -> list[str]:
    """Output tensors of the float file's operators by the noise that each adds in the integer file."""
    floating, whole = read_tflite(first), read_tflite(second)
    pairs = layers.align(floating, whole)
    report = layers.layer_report(floating, whole, photos)
    if report.get("problem"):
        raise ConversionRefused("the layers cannot be ranked", found=str(report["problem"]))
    names = {tensor.index: tensor.name for tensor in floating.tensors}
    rows = sorted(report["rows"], key=lambda row: -row["added"])
    return [names[pairs[row["position"]].first.outputs[0]] for row in rows]


def _times(files: Sequence[bytes]) -> list[float]:
    """Median milliseconds of each file on an empty picture, one thread, the files taking turns."""
    laps: list[list[float]] = [[] for _ in files]
    with ExitStack() as stack:
        engines = [stack.enter_context(closing_engine(data)) for data in files]
        for _ in range(BENCH_RUNS + 1):
            for i, engine in enumerate(engines):
                start = time.perf_counter()
                engine.run(bytes(engine.input.nbytes))
                laps[i].append((time.perf_counter() - start) * 1000)
    return [round(median(times[1:]), 3) for times in laps]
