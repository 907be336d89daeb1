"""The C API and both Interpreters give the same scores; within which tolerance, and why."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from edge_runtime import Classifier
from edge_runtime.diagnostics.parity import (
    OTHER_KERNELS_STEPS_TOLERANCE,
    QUANTIZED_STEPS,
    STAGES,
    compare,
    trace,
)
from edge_runtime.model.model_file import bundled_model_path
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo, png_bytes

HAS_TFLITE_RUNTIME = importlib.util.find_spec("tflite_runtime") is not None
needs_tflite_runtime = pytest.mark.skipif(not HAS_TFLITE_RUNTIME, reason="tflite-runtime is not installed")
needs_bundled_model = pytest.mark.skipif(
    not bundled_model_path().exists(), reason="no bundled model in this checkout"
)
# Three quantized layers leave little room for other roundings: at most 5 steps were seen on these photos.
FIXTURE_STEPS = 10.0
# In steps of 1/256: half of all photos are this near, whatever the kernels (see parity.py for what was measured).
MEDIAN_STEPS = 8.0
PHOTOS = 8
REAL_PHOTOS = 200

FIXTURE_MODELS = [pytest.param(FIXTURES / name, id=name) for name in MODEL_NAMES]
BUNDLED = pytest.param(bundled_model_path(), id="bundled", marks=needs_bundled_model)


def photos() -> Iterator[bytes]:
    for index in range(PHOTOS):
        yield png_bytes(draw_photo(index, 400, 300)) if index % 2 else p.jpeg(640, 480, index)


def real_photos(data_root: Path) -> list[bytes]:
    found = sorted((data_root / "HAM10000").rglob("*.jpg"))
    assert len(found) >= REAL_PHOTOS
    return [path.read_bytes() for path in found[:: len(found) // REAL_PHOTOS][:REAL_PHOTOS]]


def differences(model: Path, engine: str, pictures: Iterator[bytes] | list[bytes]) -> list[float]:
    """Largest difference of the raw outputs by photo; fails on the first photo where a stage differs."""
    found = []
    with Classifier.open(model, engine="litert-c") as one, Classifier.open(model, engine=engine) as other:
        for photo in pictures:
            comparison = compare(trace(one, photo), trace(other, photo))
            assert comparison.first_difference is None, comparison.to_text()
            best, second = one.classify(photo).top(2)
            if best.score - second.score > 2 * OTHER_KERNELS_STEPS_TOLERANCE / QUANTIZED_STEPS:
                assert other.classify(photo).label == best.code
            found.append(comparison.stages[STAGES.index("raw_output")].difference)
    return found


@pytest.mark.parametrize("model", [*FIXTURE_MODELS, BUNDLED])
def test_the_c_api_is_the_interpreter(model: Path) -> None:
    """One ai-edge-litert, the same kernels: the same bits."""
    assert differences(model, "litert", photos()) == [0.0] * PHOTOS


@needs_tflite_runtime
@pytest.mark.parametrize("model", FIXTURE_MODELS)
def test_tflite_runtime_is_near(model: Path) -> None:
    found = differences(model, "tflite-runtime", photos())
    assert len(found) == PHOTOS and max(found) <= FIXTURE_STEPS


@pytest.mark.real_data
@pytest.mark.slow
@needs_bundled_model
def test_the_bundled_model_on_real_photos_by_c_api_and_interpreter(data_root: Path) -> None:
    assert differences(bundled_model_path(), "litert", real_photos(data_root)) == [0.0] * REAL_PHOTOS


@pytest.mark.real_data
@pytest.mark.slow
@needs_bundled_model
@needs_tflite_runtime
def test_the_bundled_model_on_real_photos_by_tflite_runtime(data_root: Path) -> None:
    """Other kernels: every photo within the tolerance, most of them much nearer."""
    found = differences(bundled_model_path(), "tflite-runtime", real_photos(data_root))
    assert len(found) == REAL_PHOTOS and median(found) <= MEDIAN_STEPS


@pytest.mark.parametrize("model", [*FIXTURE_MODELS, BUNDLED])
@pytest.mark.parametrize("threads", [2, 4])
def test_threads_do_not_change_the_prediction(model: Path, threads: int) -> None:
    with Classifier.open(model) as one, Classifier.open(model, threads=threads) as several:
        for photo in photos():
            # Integer sums have no order; float sums keep theirs within a tile, which is what a thread gets.
            assert one.classify(photo).scores == pytest.approx(several.classify(photo).scores, abs=1e-6)
