"""Mixed precision (`--keep-float auto`): the smallest set of layers in float that brings the loss under a limit.

TensorFlow's quantizer takes a list of operators to leave alone. Each list gets a network of its own, calibrated with
it (a minute each for a phone-sized network), because what `rounding_shift` absorbs is right for kernels that are
rounded and wrong for those that are not. The operators are ranked by the noise that each adds by itself
(convert/comparison/layers.py, float file against the whole integer one). The first k are kept float, k doubled until
the limit holds and then halved towards the least; last, each of them is quantized again if the limit holds without it.
So no layer of the set can be left out; it need not be the smallest of all sets. Layers stay float and not int16, since
TensorFlow's quantizer knows one activation type for a whole conversion, and no operator from int8 to int16 layers.

Loss is the share of the acceptance test's photos whose label is not the float model's: it needs no labels, and a few
hundred photos measure it far more exactly than a difference of balanced accuracies. The test split is never used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from convert.comparison import layers
from convert.export import keras_export as export
from convert.recipes import RECIPES
from convert.tflite.embed import embed_entries
from convert.tflite.reader import read_structure
from edge_runtime.contract import ModelContract
from edge_runtime.engines import open_engine
from edge_runtime.errors import ConversionRefused
from edge_runtime.model.model_file import open_model

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
    """Find the smallest set of layers to keep in float, so that the loss of the file is at most `max_loss`.

    Args:
        network_for: From the output tensors of the operators that stay float to the Keras model that is quantized with
            this list; it ends in softmax.
        float_model: That of which nothing is rounded.
        contract: Its input.
        dataset: See `export.representative_dataset`.
        rank: From the float and the integer file to names of tensors, the worst operator first.
        loss_of: Of a file, see the module's head.
        max_loss: A share, 0 to 1.

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
            "mixed precision: no set of float layers brings the loss under the limit; nothing was written",
            found=f"{100 * attempt(ranked):.1f} % of predictions change with all {len(ranked)} layers float",
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
        # None is ranked where the whole integer file holds the limit.
        "layers": len(ranked)
        or sum(x.kind not in layers.IGNORED for x in read_structure(floating).operators),
        "tried": len(tried),
        "bytes": {"whole": len(tried[()][0]), "mixed": len(tflite), "float": len(floating)},
        "ms_per_photo": dict(zip(("whole", "mixed", "float"), times, strict=True)),
    }
    return tflite, report


def smallest_prefix(
    ranked: Sequence[str], loss_of: Callable[[Sequence[str]], float], max_loss: float
) -> list[str] | None:
    """The shortest prefix of the ranking that holds the limit; None if the whole does not.

    Losses need not fall evenly: the result holds the limit, and the last shorter one that was tried does not.
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
    """Drop each layer, the least harmful first, where the limit holds without it."""
    left = list(kept)
    for name in reversed(kept):
        fewer = [other for other in left if other != name]
        if fewer and loss_of(fewer) <= max_loss:
            left = fewer
    return left


def noisiest_first(
    floating: bytes, whole: bytes, contract: ModelContract, photos: Sequence[Path]
) -> list[str]:
    """Output tensors of the float file's operators by the noise that each adds in the integer file."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("float.tflite", "int8.tflite")]
        # The probe opens files as a device does: with a contract.
        for path, tflite in zip(paths, (floating, whole), strict=True):
            path.write_bytes(embed_entries(tflite, contract, {}))
        first, second = (open_model(path, vouched=True) for path in paths)
        report = layers.layer_report(first, second, photos, len(photos))
    if problem := report.get("problem"):
        raise ConversionRefused("the layers cannot be ranked", found=str(problem))
    one, other = read_structure(floating), read_structure(whole)
    pairs = layers.align(one, other)
    rows = sorted(report["rows"], key=lambda row: -row["added"])
    return [one.tensors[pairs[row["position"]].first.outputs[0]].name for row in rows]


def _times(files: Sequence[bytes]) -> list[float]:
    """Median milliseconds of each file on an empty picture, one thread, the files taking turns."""
    laps: list[list[float]] = [[] for _ in files]
    with ExitStack() as stack:
        engines = [stack.enter_context(closing(open_engine(data))) for data in files]
        for _ in range(BENCH_RUNS + 1):
            for i, engine in enumerate(engines):
                start = time.perf_counter()
                engine.run(bytes(engine.input.nbytes))
                laps[i].append((time.perf_counter() - start) * 1000)
    return [round(median(times[1:]), 3) for times in laps]
