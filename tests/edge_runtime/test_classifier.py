"""The main path, from Python."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import math
import pickle
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import edge_runtime
from edge_runtime import Classifier, EdgeError, ImageError, Prediction, ScoredLabel
from edge_runtime.diagnostics.bench import measure, peak_rss_mib
from edge_runtime.diagnostics.self_check import self_check
from edge_runtime.engines import open_engine
from edge_runtime.engines.opening import Opened
from edge_runtime.errors import (
    ContractInvalid,
    ImageNotFound,
    ImageUnreadable,
    InterpreterBroken,
    ModelMismatch,
    SelfCheckFailed,
)
from edge_runtime.images.preprocess import fit_pixels
from edge_runtime.model.model_file import parse_model
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import good, with_altered_weights, with_contract

STAGES = ["read", "decode", "crop", "resize", "input", "inference", "total"]


@pytest.fixture(params=MODEL_NAMES)
def classifier(request: pytest.FixtureRequest) -> Iterator[Classifier]:
    with Classifier.open(FIXTURES / request.param, trust=True) as opened:
        yield opened


def opened(data: bytes, **options: Any) -> Classifier:
    model = parse_model(data, "model.tflite")
    return Classifier.of(Opened(model, open_engine(model.data, **options)))


def test_a_prediction_is_whole(classifier: Classifier, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(p.jpeg())
    prediction = classifier.classify(photo)
    assert isinstance(prediction, Prediction) and isinstance(prediction.best, ScoredLabel)
    assert prediction.image == str(photo)
    assert prediction.model == classifier.contract.model_id
    assert list(prediction.scores) == [label.code for label in classifier.contract.labels]
    assert math.fsum(prediction.scores.values()) == pytest.approx(1.0, abs=1e-9)
    assert prediction.score == max(prediction.scores.values()) == prediction.scores[prediction.label]
    for group, score in prediction.groups.items():
        members = [label.score for label in prediction.labels if label.group == group]
        assert members and score == pytest.approx(math.fsum(members))
    assert math.fsum(prediction.groups.values()) == pytest.approx(1.0, abs=1e-9)
    assert list(prediction.elapsed_ms) == STAGES
    assert prediction.elapsed_ms["total"] >= sum(prediction.elapsed_ms[s] for s in STAGES[:-1]) - 0.01
    assert prediction.runtime["model_sha256"] == classifier.model.sha256
    assert prediction.runtime["engine"].startswith("litert-c ")


def test_paths_and_bytes_give_the_same(classifier: Classifier, tmp_path: Path) -> None:
    data = p.jpeg(300, 200, index=2)
    photo = tmp_path / "photo"
    photo.write_bytes(data)
    by_bytes = classifier.classify(data)
    assert by_bytes.image == "photo"
    assert classifier.classify(data, name="x").image == "x"
    assert classifier.classify(str(photo)).scores == classifier.classify(photo).scores == by_bytes.scores


def test_photos_get_different_predictions() -> None:
    """A classifier that looks at nothing would pass much of the above."""
    with Classifier.open(FIXTURES / "tiny_uint8.tflite") as classifier:
        answers = {classifier.classify(p.saved(p.draw_photo(i), "PNG")).label for i in range(12)}
        assert answers == {"ash", "brick", "cyan"}


def test_scores_of_pixels(classifier: Classifier) -> None:
    pixels_u8 = fit_pixels(p.jpeg(), classifier.contract)
    assert classifier.runner.scores_of_pixels(pixels_u8) == list(
        classifier.classify(p.jpeg()).scores.values()
    )


def test_a_bad_photo_does_not_spoil_the_next(classifier: Classifier, tmp_path: Path) -> None:
    before = classifier.classify(p.jpeg()).scores
    with pytest.raises(ImageNotFound):
        classifier.classify(tmp_path / "none.jpg")
    with pytest.raises(ImageUnreadable, match=r"some\.jpg"):
        classifier.classify(b"text", name="some.jpg")
    assert classifier.classify(p.jpeg()).scores == before


def test_the_contract_decides(tmp_path: Path) -> None:
    def refer_all(contract: dict[str, Any]) -> None:
        contract["decision"]["refer"] = {"measure": "top_score", "threshold": 1.0, "source": "test"}

    prediction = opened(with_contract(good(), refer_all)).classify(p.jpeg())
    assert prediction.decision == "refer"
    assert "is below 1" in prediction.reason


def test_the_engine_is_closed_at_the_end_and_not_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is native: freed under an inference it is a crash, never freed it is a leak."""
    order: list[str] = []
    started, released = threading.Event(), threading.Event()
    with Classifier.open(FIXTURES / "tiny_uint8.tflite") as classifier:
        engine, run, close = classifier.engine, classifier.engine.run, classifier.engine.close

        def slow(input_tensor: bytes) -> bytes:
            started.set()
            assert released.wait(60)
            order.append("ran")
            return run(input_tensor)

        monkeypatch.setattr(engine, "run", slow)
        monkeypatch.setattr(engine, "close", lambda: (order.append("closed"), close()))
        calls = [
            threading.Thread(target=call)
            for call in (lambda: classifier.classify(p.jpeg()), classifier.close)
        ]
        calls[0].start()
        assert started.wait(60)
        calls[1].start()
        calls[1].join(0.2)
        released.set()
        for call in calls:
            call.join()
        assert order == ["ran", "closed"]
    assert order == ["ran", "closed", "closed"]
    with pytest.raises(InterpreterBroken) as caught:
        run(b"")
    assert caught.value.expected == "an open engine"


def test_waiting_for_the_engine_is_no_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Turn:
        def __enter__(self) -> None:
            nonlocal now
            now += 100.0

        def __exit__(self, *_: object) -> None:
            return

    monkeypatch.setattr("edge_runtime.classifier.perf_counter", lambda: now)
    with Classifier.open(FIXTURES / "tiny_uint8.tflite") as classifier:
        monkeypatch.setattr(classifier.runner, "turn", Turn())
        elapsed_ms = classifier.classify(p.jpeg()).elapsed_ms
    assert (elapsed_ms["inference"], elapsed_ms["total"]) == (0.0, 100_000.0)


def test_an_engine_for_another_model_is_refused() -> None:
    model = parse_model(good("tiny_uint8.tflite"), "m.tflite")
    with pytest.raises(ModelMismatch):
        Classifier.of(Opened(model, open_engine(good("tiny_float32.tflite"))))


def test_the_self_check_passes(classifier: Classifier) -> None:
    checked = self_check(classifier)
    assert checked.count == 3
    assert checked.largest_difference <= checked.tolerance
    assert "passed: 3 vectors" in checked.to_text()


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_self_check_fails_on_altered_weights(name: str) -> None:
    with pytest.raises(SelfCheckFailed) as caught:
        self_check(opened(with_altered_weights(good(name))))
    assert "outputs differ by" in caught.value.found


def test_the_self_check_holds_the_worst_picture_to_its_tolerance() -> None:
    def checked(tolerance: float) -> float:
        def change(contract: dict[str, Any]) -> None:
            contract["golden"][1]["output"][0] += 100
            for vector in contract["golden"]:
                vector["tolerance"] = tolerance

        return self_check(opened(with_contract(good(), change))).largest_difference

    largest = checked(200.0)
    # More only by what other kernels round otherwise.
    assert 90 <= largest <= 110 and checked(largest) == largest
    with pytest.raises(SelfCheckFailed) as caught:
        checked(largest - 0.5)
    assert caught.value.found.startswith("golden_1.png: outputs differ")


@pytest.mark.parametrize("place", range(4))
def test_the_self_check_fails_on_what_is_no_number(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands: `max` passes over a NaN that is not the first."""
    with Classifier.open(FIXTURES / "tiny_float32.tflite") as classifier:
        run = classifier.engine.run

        def broken(input_tensor: bytes) -> bytes:
            raw_output = bytearray(run(input_tensor))
            struct.pack_into("<f", raw_output, 4 * place, math.nan)
            return bytes(raw_output)

        monkeypatch.setattr(classifier.engine, "run", broken)
        with pytest.raises(SelfCheckFailed) as caught:
            self_check(classifier)
        assert "golden_2.png: outputs differ by inf" in caught.value.found


def test_the_self_check_fails_on_other_preprocessing() -> None:
    def crop_more(contract: dict[str, Any]) -> None:
        contract["geometry"]["crop_fraction"] = 0.5

    with pytest.raises(SelfCheckFailed) as caught:
        self_check(opened(with_contract(good(), crop_more)))
    assert "pixels" in caught.value.found
    assert all(f"golden_{i}.png" in caught.value.message for i in range(3))


def test_the_self_check_fails_on_another_picture() -> None:
    def swap(contract: dict[str, Any]) -> None:
        contract["golden"][0]["image"] = "golden_1.png"

    with pytest.raises(SelfCheckFailed) as caught:
        self_check(opened(with_contract(good(), swap)))
    assert "not the picture" in caught.value.found


def test_the_self_check_fails_when_there_is_nothing_to_check() -> None:
    with pytest.raises(SelfCheckFailed) as caught:
        self_check(opened(with_contract(good(), lambda contract: contract.update(golden=[]))))
    assert "no self-test vectors" in caught.value.found


def test_a_missing_self_test_picture() -> None:
    def rename(contract: dict[str, Any]) -> None:
        contract["golden"][0]["image"] = "nowhere.png"

    with pytest.raises(ContractInvalid, match=r"nowhere\.png"):
        self_check(opened(with_contract(good(), rename)))


def test_bench_measures_every_stage(classifier: Classifier) -> None:
    bench = measure(classifier, p.jpeg(), 5, name="x.jpg")
    assert bench.runs == 5
    assert list(bench.median_ms) == list(bench.min_ms) == STAGES[1:]
    assert all(0 <= bench.min_ms[stage] <= bench.median_ms[stage] for stage in STAGES[1:])
    assert bench.median_ms["total"] > 0
    assert "5 runs, litert-c" in bench.to_text()
    assert bench.to_dict()["bench"]["runs"] == 5


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_peak_memory_is_plausible() -> None:
    peak = peak_rss_mib()
    assert peak is not None and 10 < peak < 100_000


def test_the_package_exports_what_it_says() -> None:
    for name in edge_runtime.__all__:
        assert getattr(edge_runtime, name) is not None
    assert set(edge_runtime.__all__) <= set(dir(edge_runtime))
    assert issubclass(ImageError, EdgeError)
    with pytest.raises(AttributeError, match="classify_all"):
        _ = edge_runtime.classify_all


def test_importing_the_package_imports_the_standard_library_only() -> None:
    code = "import sys; before = set(sys.modules); import edge_runtime; print(*(set(sys.modules) - before))"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FIXTURES.parents[1])
    assert "edge_runtime" in ran.stdout.split()
    assert {name.partition(".")[0] for name in ran.stdout.split()} - sys.stdlib_module_names == {
        "edge_runtime"
    }


def test_predictions_are_values(classifier: Classifier) -> None:
    prediction, again, other = (classifier.classify(photo) for photo in (p.jpeg(), p.jpeg(), p.jpeg(index=5)))
    # Nobody has asked for it, and hashing a model takes longer than an inference.
    assert "_sha256" not in classifier.model.__dict__
    assert prediction == again != other and len({prediction, again, other}) == 2
    assert dataclasses.replace(prediction) == prediction
    for copied in (copy.deepcopy(prediction), pickle.loads(pickle.dumps(prediction))):
        assert copied == prediction and copied.runtime == prediction.runtime == classifier.describe_runtime()
    plain = json.loads(json.dumps(dataclasses.asdict(prediction)))
    assert plain["ran_on"] == prediction.runtime and plain["labels"][0]["score"] == prediction.labels[0].score
    assert set(get_type_hints(Prediction)) == set(plain)


def test_a_prediction_does_not_keep_the_engine() -> None:
    classifier = Classifier.open(FIXTURES / "tiny_uint8.tflite")
    prediction, engine = classifier.classify(p.jpeg()), weakref.ref(classifier.engine)
    sha256 = classifier.model.sha256
    del classifier
    gc.collect()
    assert engine() is None and prediction.runtime["model_sha256"] == sha256


def test_photos_in_any_buffer(classifier: Classifier) -> None:
    data = p.jpeg()
    for photo in (bytearray(data), memoryview(data)):
        assert classifier.classify(photo) == classifier.classify(data)
