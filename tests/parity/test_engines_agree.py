"""The C API and both Interpreters give the same scores; within which tolerance, and why."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime import Classifier
from edge_runtime.model_file import bundled_model_path
from edge_runtime.parity import SCORES_QUANTIZED_TOLERANCE, compare, trace
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo, png_bytes

HAS_TFLITE_RUNTIME = importlib.util.find_spec("tflite_runtime") is not None
# The C API and the Interpreter of one ai-edge-litert share one TensorFlow Lite and the same kernels.
SAME_LIBRARY = {"raw_output": 0.0, "scores": 0.0}
# tflite-runtime 2.14 runs int8 on its built-in kernels, LiteRT on XNNPACK: other roundings in every layer, so the
# harness's own tolerances hold (6 of 256 steps, 1e-4 for float).
ACROSS_LIBRARIES: dict[str, float] = {}
PHOTOS = 8

MODELS = [pytest.param(FIXTURES / name, id=name) for name in MODEL_NAMES] + [
    pytest.param(
        bundled_model_path(),
        id="bundled",
        marks=pytest.mark.skipif(
            not bundled_model_path().exists(), reason="no bundled model in this checkout"
        ),
    )
]


def photos() -> Iterator[bytes]:
    for index in range(PHOTOS):
        yield png_bytes(draw_photo(index, 400, 300)) if index % 2 else p.jpeg(640, 480, index)


def differences(model: Path, engine: str, tolerances: dict[str, float]) -> list[float]:
    """Largest difference of the raw outputs by photo; fails on the first photo where a stage differs."""
    found = []
    with Classifier.open(model, engine="litert-c") as one, Classifier.open(model, engine=engine) as other:
        for photo in photos():
            comparison = compare(trace(one, photo), trace(other, photo), tolerances)
            assert comparison.first_difference is None, comparison.to_text()
            best, second = one.classify(photo).top(2)
            if best.score - second.score > 2 * SCORES_QUANTIZED_TOLERANCE:
                assert other.classify(photo).label == best.code
            found.append(comparison.stages[4].difference)
    assert len(found) == PHOTOS
    return found


@pytest.mark.parametrize("model", MODELS)
def test_the_c_api_is_the_interpreter(model: Path) -> None:
    assert differences(model, "litert", SAME_LIBRARY) == [0.0] * PHOTOS


@pytest.mark.skipif(not HAS_TFLITE_RUNTIME, reason="tflite-runtime is not installed")
@pytest.mark.parametrize("model", MODELS)
def test_tflite_runtime_is_near(model: Path) -> None:
    differences(model, "tflite-runtime", ACROSS_LIBRARIES)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("threads", [2, 4])
def test_threads_do_not_change_the_answer(model: Path, threads: int) -> None:
    with Classifier.open(model) as one, Classifier.open(model, threads=threads) as several:
        for photo in photos():
            # Integer sums have no order; float sums keep theirs within a tile, which is what a thread gets.
            assert one.classify(photo).scores == pytest.approx(several.classify(photo).scores, abs=1e-6)
