"""The parity harness, and the proof that it fails, at the right stage, when something is altered."""

from __future__ import annotations

import base64
import json
import platform
import zlib
from typing import Any

import pytest
from PIL import Image

from edge_runtime import Classifier, runner
from edge_runtime.contract import Geometry, InputSpec
from edge_runtime.diagnostics.parity import STAGES, compare, tolerance_of, trace
from edge_runtime.diagnostics.trace_format import values_of
from edge_runtime.engines import open_engine
from edge_runtime.engines.opening import Opened
from edge_runtime.errors import UsageError
from edge_runtime.images.preprocess import crop_box, pixel_bytes
from edge_runtime.model.model_file import parse_model
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import good, with_altered_weights, with_contract

ROOT = FIXTURES.parents[1]
U8 = "tiny_uint8.tflite"
F32 = "tiny_float32.tflite"
PHOTO = p.jpeg(300, 200, index=3)


def traced(model: bytes, photo: bytes = PHOTO, engine: str = "auto") -> dict[str, Any]:
    """A trace as another machine would read it: through JSON."""
    opened = parse_model(model, "m.tflite")
    with Classifier.of(Opened(opened, open_engine(opened.data, engine=engine))) as classifier:
        return json.loads(json.dumps(trace(classifier, photo, name="p.jpg")))  # type: ignore[no-any-return]


def changed(name: str, section: str, field: str, value: object) -> bytes:
    return with_contract(good(name), lambda contract: contract[section].update({field: value}))


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_two_traces_of_the_same_agree_exactly(name: str) -> None:
    comparison = compare(traced(good(name)), traced(good(name)))
    assert [stage.stage for stage in comparison.stages] == list(STAGES)
    assert all(stage.agrees and stage.difference == 0 for stage in comparison.stages)
    assert comparison.verdict == "agree: all 6 stages, 6 of them exactly"


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_a_trace_is_what_the_classifier_does(name: str) -> None:
    opened = parse_model(good(name), "m.tflite")
    with Classifier.of(Opened(opened, open_engine(opened.data))) as classifier:
        written = trace(classifier, PHOTO)
        prediction = classifier.classify(PHOTO)
    scores = written["stages"]["scores"]
    assert dict(zip(scores["codes"], scores["values"], strict=True)) == prediction.scores
    assert list(written["stages"]) == list(STAGES)
    assert written["model"]["sha256"] == opened.sha256


@pytest.mark.parametrize("name", [U8, F32])
def test_an_altered_crop_is_found(name: str) -> None:
    comparison = compare(traced(good(name)), traced(changed(name, "geometry", "crop_fraction", 0.8)))
    assert comparison.first_difference is not None
    assert comparison.first_difference.stage == "cropped"
    assert "first at stage cropped: size" in comparison.verdict


def test_a_crop_of_the_same_size_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = traced(good(U8))

    def shifted(image: Image.Image, geometry: Geometry) -> Image.Image:
        left, top, right, bottom = crop_box(image.width, image.height, geometry)
        return image.crop((left + 1, top, right + 1, bottom))

    monkeypatch.setattr(runner, "crop", shifted)
    assert_first(before, traced(good(U8)), "cropped")


@pytest.mark.parametrize(
    "other",
    [Image.Resampling.BICUBIC, Image.Resampling.NEAREST, Image.Resampling.LANCZOS, Image.Resampling.BOX],
)
def test_an_altered_filter_is_found(monkeypatch: pytest.MonkeyPatch, other: Image.Resampling) -> None:
    before = traced(good(F32))

    def resized(image: Image.Image, spec: InputSpec) -> Image.Image:
        return image.resize((spec.width_px, spec.height_px), other)

    monkeypatch.setattr(runner, "resize", resized)
    assert_first(before, traced(good(F32)), "resized")


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_an_altered_normalization_is_found(name: str) -> None:
    for field, value in (("mean", 120.0), ("std", 60.0)):
        assert_first(traced(good(name)), traced(changed(name, "normalization", field, value)), "input_tensor")


def test_one_wrong_pixel_value_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest skew there is: one pixel, one step."""
    before = traced(good(U8))
    real = runner.resize

    def off_by_one(image: Image.Image, spec: InputSpec) -> Image.Image:
        pixels = bytearray(pixel_bytes(real(image, spec)))
        pixels[100] ^= 1
        return Image.frombytes("RGB", (spec.width_px, spec.height_px), bytes(pixels))

    monkeypatch.setattr(runner, "resize", off_by_one)
    assert_first(before, traced(good(U8)), "resized")


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_an_altered_label_order_is_found(name: str) -> None:
    def swap(contract: dict[str, Any]) -> None:
        contract["labels"][0], contract["labels"][1] = contract["labels"][1], contract["labels"][0]

    comparison = compare(traced(good(name)), traced(with_contract(good(name), swap)))
    assert comparison.first_difference is not None
    assert comparison.first_difference.stage == "scores"
    assert "label order" in comparison.verdict


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_altered_weights_are_found(name: str) -> None:
    assert_first(traced(good(name)), traced(with_altered_weights(good(name))), "raw_output")


def test_another_exif_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = p.with_orientation(3, "JPEG")
    before = traced(good(U8), photo)
    for module in ("_startup.fast_jpeg", "images.formats"):  # with DERMEDGE_PLAIN the second one decodes
        monkeypatch.setattr(f"edge_runtime.{module}.UPRIGHT", {})
    assert_first(before, traced(good(U8), photo), "decoded")


def test_other_decode_scaling_is_found() -> None:
    photo = p.jpeg(1200, 900)
    assert_first(
        traced(good(F32), photo), traced(changed(F32, "geometry", "decode_scaling", "none"), photo), "decoded"
    )


def assert_first(
    one: dict[str, Any], other: dict[str, Any], stage: str, tolerances: dict[str, float] | None = None
) -> None:
    comparison = compare(one, other, tolerances)
    assert comparison.first_difference is not None, comparison.to_text()
    assert comparison.first_difference.stage == stage, comparison.to_text()
    assert f"differ: first at stage {stage}" in comparison.verdict
    # Everything before it is the same, or the stage would be blamed wrongly.
    assert all(before.difference == 0 for before in comparison.stages[: STAGES.index(stage)])


def test_the_same_kernels_owe_the_same_integers() -> None:
    one, other = traced(good(U8)), traced(good(U8), engine="litert")
    assert one["runtime"]["kernels"] == other["runtime"]["kernels"] != one["runtime"]["engine"]
    assert one["runtime"]["kernels"].split() == [*other["runtime"]["engine"].split(), platform.machine()]
    other["stages"]["raw_output"]["values"][0] += 1
    assert_first(one, other, "raw_output")


def test_tolerances_decide() -> None:
    one, other = traced(good(U8)), traced(good(U8))
    other["runtime"]["kernels"] = "something else"
    values = other["stages"]["raw_output"]["values"]
    values[0] += 3
    comparison = compare(one, other)
    stage = comparison.stages[STAGES.index("raw_output")]
    assert stage.agrees and stage.difference == 3 and "within the tolerance 64" in stage.note
    assert comparison.verdict == "agree: all 6 stages, 5 of them exactly"
    for tighter in (2.0, 0.0):
        assert_first(one, other, "raw_output", {"raw_output": tighter})
    values[0] += 62
    assert compare(one, other).first_difference is not None


def test_floats_of_other_kernels_have_no_tolerance_of_64_units() -> None:
    one, other = traced(good(F32)), traced(good(F32))
    other["runtime"]["kernels"] = "something else"
    for stage in ("raw_output", "scores"):
        values = other["stages"][stage]["values"]
        values[0] += 5e-5
        assert compare(one, other).first_difference is None
        values[0] += 1e-3
        assert_first(one, other, stage)
        values[0] = one["stages"][stage]["values"][0]


@pytest.mark.parametrize("stage", ["input_tensor", "raw_output"])
@pytest.mark.parametrize(("field", "value"), [("scale", 0.5), ("zero_point", 7)])
def test_the_same_integers_of_another_quantization_are_a_difference(
    stage: str, field: str, value: float
) -> None:
    one, other = traced(good(U8)), without(stage, **{field: value})
    assert_first(one, other, stage)
    assert f"{field} {one['stages'][stage][field]} against {value}" in compare(one, other).verdict


def test_a_looser_tolerance_admits_another_jpeg_decoder() -> None:
    """A grid of means stands in for the pixels when they are not owed exactly."""
    one, other = traced(good(U8)), traced(good(U8))
    for stage in ("decoded", "cropped"):
        other["stages"][stage]["sha256"] = "0" * 64
        other["stages"][stage]["grid"][0] += 1
    assert compare(one, other).first_difference.stage == "decoded"  # type: ignore[union-attr]
    assert compare(one, other, {"decoded": 1.0, "cropped": 1.0}).first_difference is None


def test_a_hash_alone_is_a_difference_at_tolerance_0() -> None:
    one, other = traced(good(U8)), traced(good(U8))
    other["stages"]["decoded"]["sha256"] = "0" * 64
    assert compare(one, other).first_difference.stage == "decoded"  # type: ignore[union-attr]


def test_nan_never_agrees() -> None:
    one = traced(good(F32))
    for place in range(4):
        other = json.loads(json.dumps(one))
        other["stages"]["raw_output"]["values"][place] = float("nan")
        assert_first(one, other, "raw_output")


def test_every_stage_has_a_tolerance() -> None:
    for stage in STAGES:
        for dtype in ("uint8", "int8", "float32"):
            same, other = (tolerance_of(stage, dtype, same_kernels=same) for same in (True, False))
            assert 0 <= same <= other <= 64
            assert other == 0 or stage in ("raw_output", "scores")


def test_traces_of_different_photos_are_not_compared() -> None:
    with pytest.raises(UsageError) as caught:
        compare(traced(good(U8)), traced(good(U8), p.jpeg(index=5)))
    assert caught.value.expected == "two traces of the same bytes"


def test_traces_of_different_models_differ_in_what_they_say() -> None:
    comparison = compare(traced(good(U8)), traced(good("tiny_int8.tflite")))
    assert comparison.first_difference is not None
    assert comparison.first_difference.stage == "input_tensor"
    assert "dtype uint8 against int8" in comparison.verdict


@pytest.mark.parametrize(("field", "value"), [("sha256", "0" * 64), ("id", "another")])
def test_two_models_differ_unless_they_are_accepted(field: str, value: str) -> None:
    one, other = traced(good(U8)), traced(good(U8))
    other["model"][field] = value
    comparison = compare(one, other)
    assert not comparison.agrees
    # Every stage is as it was: it is not blamed.
    assert comparison.first_difference is None
    assert comparison.verdict.startswith("differ: model ") and value[:12] in comparison.verdict
    assert "DIFFERS" in comparison.to_text()
    meant = compare(one, other, different_models=True)
    assert meant.agrees and meant.verdict == "agree: all 6 stages, 6 of them exactly"


def without(stage: str, **changes: object) -> dict[str, Any]:
    """A trace that lacks something in a stage."""
    one = traced(good(U8))
    one["stages"][stage].update(changes)
    return one


def deflated(count: int) -> str:
    return base64.b64encode(zlib.compress(bytes(count))).decode()


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("decoded", {"grid": []}),
        ("cropped", {"grid": [0] * 191}),
        ("cropped", {"size": [0, 0]}),
        ("decoded", {"sha256": ""}),
        ("resized", {"deflated": deflated(0)}),
        ("resized", {"deflated": deflated(24 * 32 * 3 + 1)}),
        ("input_tensor", {"deflated": deflated(24 * 32 * 3 - 1)}),
        ("input_tensor", {"deflated": deflated(50_000_000)}),
        ("raw_output", {"values": []}),
        ("raw_output", {"values": [], "size": [0]}),
        ("raw_output", {"values": [1, 2]}),
        ("scores", {"values": []}),
        ("scores", {"values": [1.0], "codes": ["a"]}),
        ("scores", {"codes": ["a"]}),
    ],
)
def test_missing_values_do_not_agree(stage: str, changes: dict[str, object]) -> None:
    damaged = without(stage, **changes)
    with pytest.raises(UsageError) as caught:
        compare(damaged, damaged)
    assert caught.value.what.endswith(f"stage {stage}") and caught.value.expected


def test_no_more_is_unpacked_than_requested() -> None:
    assert len(values_of({"dtype": "float32", "deflated": deflated(50_000_000)}, 10)) == 10


def test_a_trace_waits_for_its_turn_at_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = parse_model(good(U8), "m.tflite")
    with Classifier.of(Opened(opened, open_engine(opened.data))) as classifier:
        held = []
        run = classifier.engine.run
        monkeypatch.setattr(
            classifier.engine,
            "run",
            lambda tensor: held.append(classifier.runner.turn.locked()) or run(tensor),
        )
        trace(classifier, PHOTO)
    assert held == [True]
