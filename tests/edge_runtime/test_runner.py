"""The device path as one object: its stages agree with the classifier, and its kernel sets and inner tensors work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime import Classifier
from edge_runtime.errors import InterpreterBroken, ModelNotFound, UsageError
from edge_runtime.images.preprocess import decode_rgb
from edge_runtime.model.model_file import ModelFile, open_model
from edge_runtime.runner import Runner
from tests.edge_runtime._startup import needs_tricks
from tests.fixtures import pictures as p

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODELS = ("tiny_uint8.tflite", "tiny_float32.tflite")


@pytest.mark.parametrize("name", MODELS)
def test_the_stages_give_the_classifiers_scores(name: str) -> None:
    with Runner.open(FIXTURES / name) as runner, Classifier.open(FIXTURES / name) as classifier:
        pixels_u8 = runner.pixels_u8(p.jpeg(), name="photo.jpg")
        assert pixels_u8 == runner.pixels_of(decode_rgb(p.jpeg(), runner.contract))
        raw_output = runner.run(runner.input_tensor(pixels_u8))
        scores = list(classifier.classify(p.jpeg()).scores.values())
        assert runner.scores(raw_output) == runner.scores_of_pixels(pixels_u8) == scores
        assert runner.values(raw_output) == runner.softmax(raw_output)
        spec = runner.engine.output
        if spec.quantized:
            assert runner.values(raw_output) == [
                spec.scale * (value - spec.zero_point) for value in runner.raw_values(raw_output)
            ]


def test_models_with_one_pixel_key_share_their_pixels() -> None:
    with Runner.open(FIXTURES / MODELS[0]) as one, Runner.open(FIXTURES / MODELS[0]) as other:
        assert one.pixel_key == other.pixel_key
        assert one.pixels_u8(p.jpeg()) == other.pixels_u8(p.jpeg())
    with Runner.open(FIXTURES / MODELS[1]) as float_runner:
        # Another input size.
        assert float_runner.pixel_key != one.pixel_key


def test_notes_on_the_file_are_collected() -> None:
    notes: list[str] = []
    with Runner.open(FIXTURES / MODELS[0]) as runner:
        runner.pixels_u8(p.jpeg(), notes=notes)
    assert notes == []


def test_a_contract_beside_the_bytes() -> None:
    opened = open_model(FIXTURES / MODELS[0])
    with Runner.open(ModelFile("bare", opened.data, opened.contract)) as runner:
        assert runner.model.path == "bare"


def test_kernel_sets_and_inner_tensors_of_the_interpreter() -> None:
    with Runner.open(FIXTURES / MODELS[0]) as runner:
        expected = runner.values(runner.run(runner.input_tensor(runner.pixels_u8(p.jpeg()))))
    kernels = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    with Runner.open(FIXTURES / MODELS[0], engine="litert", kernels=kernels, keep_tensors=True) as runner:
        raw_output = runner.run(runner.input_tensor(runner.pixels_u8(p.jpeg())))
        assert runner.values(raw_output) == pytest.approx(expected, abs=0.1)
        kept = [list(runner.engine.tensor(index)) for index in range(3)]
        assert all(kept)
    with pytest.raises(UsageError):
        Runner.open(FIXTURES / MODELS[0], kernels=kernels)


def test_errors_name_the_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        Runner.open(tmp_path / "none.tflite")
    with Runner.open(FIXTURES / MODELS[1]) as runner, pytest.raises(InterpreterBroken) as caught:
        runner.scores(bytes(runner.engine.output.nbytes))
    assert caught.value.what.startswith(str(FIXTURES / MODELS[1]))


@needs_tricks
def test_the_import_is_light() -> None:
    heavy = {"numpy", "PIL", "json", "ai_edge_litert"}
    code = f"import sys, edge_runtime.runner; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
