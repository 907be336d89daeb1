"""The heat map: exact arithmetic, only models that can give one, and a picture that is whole and says what it is."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from edge_runtime import Classifier
from edge_runtime.classifier import Prepared
from edge_runtime.engines import open_engine
from edge_runtime.errors import EdgeError, HeatMapUnwritten, ImageNotFound, ModelNotExplainable
from edge_runtime.explain.explainer import Explainer, centred_weights, lead_map
from edge_runtime.explain.graph_end import MEAN, SOFTMAX, read_graph_end, with_feature_map_as_output
from edge_runtime.explain.heat_files import Explained, explain_each
from edge_runtime.explain.heat_picture import (
    RAMP,
    describe,
    draw_picture,
    ramp_colour,
    shown_label,
    write_picture,
)
from edge_runtime.model.flatbuffer import Table
from edge_runtime.model.model_file import ModelFile, open_model, parse_model, read_contract
from edge_runtime.model.tensors import TensorSpec, dequantize
from tests.edge_runtime.cli.test_cli import NOTICE, U8, run
from tests.edge_runtime.test_isolation import ROOT, TRAINING, run_blocked
from tests.fixtures import FIXTURES, MODEL_NAMES, PREDICTION_FIELDS
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import flatbuffer_of, good
from tests.fixtures.make_models import draw_photo, png_bytes

PHOTOS = [png_bytes(draw_photo(index)) for index in range(6)]
# Logits. Float: rounding. Quantized: the mean, the logits and the softmax are each rounded to their own steps; the
# largest difference over the photos below is 0.09 (uint8) and 0.09 (int8).
ADDS_UP = {"tiny_float32.tflite": 1e-4, "tiny_uint8.tflite": 0.15, "tiny_int8.tflite": 0.15}
SUM, LOGISTIC, RELU = 74, 14, 1


def model_of(name: str) -> ModelFile:
    return open_model(FIXTURES / name)


def map_of_labels(model: ModelFile, prepared: Prepared) -> list[list[float]]:
    """By label, the sum over channels of weights times features at every place."""
    end = read_graph_end(model)
    engine = open_engine(with_feature_map_as_output(model, end))
    features = dequantize(engine.run(prepared.input_tensor), engine.output)
    engine.close()
    channels = end.shape[2]
    places = [features[i : i + channels] for i in range(0, len(features), channels)]
    return [[sum(w * f for w, f in zip(row, place, strict=True)) for place in places] for row in end.weights]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_map_adds_up_to_the_logits(name: str) -> None:
    """Its mean over places is the logit less the bias; between two photos the bias cancels."""
    model = model_of(name)
    found: list[tuple[list[float], list[float]]] = []
    with Classifier.open(FIXTURES / name) as classifier:
        for photo in PHOTOS:
            prepared = classifier.prepare(photo)
            scores = [label.score for label in classifier.classify_prepared(prepared).labels]
            # Below a few steps of 1/256 the logarithm of a quantized score says nothing.
            if min(scores) > 0.03:
                logits = [math.log(score) for score in scores]
                means = [math.fsum(places) / len(places) for places in map_of_labels(model, prepared)]
                found.append(([v - logits[0] for v in logits], [v - means[0] for v in means]))
    assert len(found) >= 3
    (first_logits, first_means), *others = found
    for logits, means in others:
        for label in range(1, len(logits)):
            assert means[label] - first_means[label] == pytest.approx(
                logits[label] - first_logits[label], abs=ADDS_UP[name]
            )


@pytest.mark.parametrize("engine", ["litert-c", "litert", "tflite-runtime"])
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_prediction_is_the_same_as_without_a_map(name: str, engine: str) -> None:
    if engine == "tflite-runtime":
        pytest.importorskip("tflite_runtime", reason="tflite-runtime is not installed")
    with Classifier.open(FIXTURES / name, engine=engine) as classifier, Explainer(classifier) as explainer:
        height, width, _ = read_graph_end(classifier.model).shape
        for photo in PHOTOS[:3]:
            explanation = explainer.explain(photo)
            plain = classifier.classify(photo)
            assert explanation.prediction.scores == plain.scores
            assert explanation.prediction.label == plain.label
            assert [len(row) for row in explanation.lead] == [width] * height
            values = [value for row in explanation.lead for value in row]
            assert math.fsum(values) == pytest.approx(0, abs=1e-6 * max(map(abs, values)))
            assert explanation.peak == max(values) > 0
            assert min(min(row) for row in explanation.heat) == 0


def test_what_changes_no_prediction_changes_no_map() -> None:
    """More of a feature everywhere is a bias; the same weights for all labels are nothing to a softmax."""
    random_ = random.Random(5)
    spec = TensorSpec((1, 2, 3, 4), "float32", 0.0, 0)
    features = [random_.random() for _ in range(24)]
    weights = tuple(tuple(random_.gauss(0, 1) for _ in range(4)) for _ in range(3))

    def lead(weights: tuple[tuple[float, ...], ...], features: list[float]) -> list[float]:
        grid = lead_map(struct.pack("<24f", *features), spec, centred_weights(weights)[1])
        return [value for row in grid for value in row]

    plain = lead(weights, features)
    assert max(map(abs, plain)) > 0.1
    common = [random_.gauss(0, 1) for _ in range(4)]
    shifted = tuple(tuple(w + c for w, c in zip(row, common, strict=True)) for row in weights)
    assert lead(shifted, features) == pytest.approx(plain, abs=1e-6)
    everywhere = [value + 3 * (i % 4) for i, value in enumerate(features)]
    assert lead(weights, everywhere) == pytest.approx(plain, abs=1e-5)
    # And what does change the answer shows: more of a feature at one place.
    there = [value + (i == 5) for i, value in enumerate(features)]
    assert lead(weights, there) != pytest.approx(plain, abs=1e-2)


def test_quantized_and_real_features_give_the_same_map() -> None:
    spec = TensorSpec((1, 2, 2, 3), "int8", 0.25, -7)
    raw = struct.pack("<12b", *range(-8, 4))
    real = struct.pack("<12f", *dequantize(raw, spec))
    weights = (0.5, -1.0, 2.0)
    of_floats = lead_map(real, TensorSpec((1, 2, 2, 3), "float32", 0.0, 0), weights)
    assert [v for row in lead_map(raw, spec, weights) for v in row] == pytest.approx(
        [v for row in of_floats for v in row], abs=1e-6
    )


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_only_the_number_of_the_output_differs(name: str) -> None:
    model = model_of(name)
    kept = bytes(model.data)
    changed = with_feature_map_as_output(model, read_graph_end(model))
    assert model.data == kept
    assert len(changed) == len(kept)
    differing = [i for i, (a, b) in enumerate(zip(changed, kept, strict=True)) if a != b]
    # In the subgraph and in its signature, one byte of a small number each.
    assert len(differing) == 2


# -------------------------------------------------------------------- models that cannot


def root_of(model: bytes) -> Table:
    return Table(model, len(flatbuffer_of(model)), struct.unpack_from("<I", model, 0)[0], "Model")


def with_operator(model: bytes, old: int, new: int) -> bytes:
    data = bytearray(model)
    changed = 0
    for code in root_of(model).children(1, "OperatorCode"):
        for number, form in ((0, "<b"), (3, "<i")):
            place = code.field(number, struct.calcsize(form))
            if place is not None and struct.unpack_from(form, data, place)[0] == old:
                struct.pack_into(form, data, place, new)
                changed += 1
    assert changed
    return bytes(data)


def with_activation(model: bytes) -> bytes:
    """FULLY_CONNECTED gets the options of a convolution, whose first field, VALID padding, is here read as RELU."""
    data = bytearray(model)
    operators = root_of(model).children(2, "SubGraph")[0].children(3, "Operator")
    convolution, head = [one for one in operators if len(one.numbers(1, "i")) == 3][-2:]
    options, place = convolution.child(4, "options"), head.field(4, 4)
    assert options is not None and options.scalar(0, "b") == RELU
    assert place is not None and options.position > place
    struct.pack_into("<I", data, place, options.position - place)
    return bytes(data)


def with_axes(model: bytes) -> bytes:
    data = bytearray(model)
    assert data.count(struct.pack("<III", 8, 1, 2)) == 1
    at = data.index(struct.pack("<III", 8, 1, 2))
    struct.pack_into("<II", data, at + 4, 0, 1)
    return bytes(data)


def with_shared_output(model: bytes) -> bytes:
    """The subgraph's outputs are the very bytes that say what its last operator makes."""
    data = bytearray(model)
    graph = root_of(model).children(2, "SubGraph")[0]
    theirs, _ = graph.children(3, "Operator")[-1].vector(2, 4)
    place = graph.field(2, 4)
    assert place is not None and theirs - 4 > place
    struct.pack_into("<I", data, place, theirs - 4 - place)
    return bytes(data)


OTHER_FORMS = {
    "sigmoid": (lambda: with_operator(good(), SOFTMAX, LOGISTIC), "LOGISTIC instead of SOFTMAX"),
    "sum": (lambda: with_operator(good(), MEAN, SUM), "operator 74 instead of MEAN"),
    "axes": (lambda: with_axes(good()), "a MEAN over the axes [0, 1]"),
    "shared": (lambda: with_shared_output(good()), "shares its bytes"),
    "activation": (lambda: with_activation(good("tiny_float32.tflite")), "activation of its own"),
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_a_model_of_another_form_is_refused(name: str) -> None:
    make, found = OTHER_FORMS[name]
    data = make()
    # Not parse_model, which refuses some of them already for what their operators' options mean.
    model = ModelFile("other.tflite", data, read_contract(data))
    with pytest.raises(ModelNotExplainable) as caught:
        with_feature_map_as_output(model, read_graph_end(model))
    message = caught.value.message
    assert found in message
    assert "other.tflite" in message and caught.value.expected and caught.value.fix
    assert caught.value.exit_status == 3


def test_mutated_models_are_mapped_or_refused_with_our_errors() -> None:
    """No native code runs here: what the reader makes of tables that the walk has let through."""
    random_ = random.Random(20261124)
    outcomes = {"mapped": 0, "refused": 0}
    for _ in range(1500):
        data = bytearray(good(random_.choice(MODEL_NAMES)))
        end = len(flatbuffer_of(bytes(data)))
        for _ in range(random_.randint(1, 3)):
            data[random_.randrange(end)] = random_.choice((0, 1, 2, 4, 9, 40, 127, 128, 255))
        try:
            model = parse_model(bytes(data), "mutated")
            with_feature_map_as_output(model, read_graph_end(model))
            outcomes["mapped"] += 1
        except EdgeError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100


# -------------------------------------------------------------------- pictures and the command


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "mole.jpg"
    path.write_bytes(p.with_orientation(6, "JPEG"))
    return path


def test_the_command_writes_a_picture_that_says_what_it_is(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.png"
    ran = run("--model", U8, photo, "--explain", out)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[-1] == f"  heat map: {out}"
    assert ran.stdout.startswith(run("--model", U8, photo).stdout.splitlines()[0])
    with Image.open(out) as picture:
        picture.load()
        assert picture.mode == "RGB"
        texts = picture.text  # type: ignore[attr-defined]
        assert "exif" not in picture.info and "icc_profile" not in picture.info
        assert not picture.getexif()
    assert texts["Disclaimer"].startswith(NOTICE)
    answer = json.loads(run("--model", U8, "--json", photo).stdout)
    assert f"({answer['label']})" in texts["Description"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "mole.jpg"]


def test_json_has_one_field_more(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.png"
    answer = json.loads(run("--model", U8, "--json", photo, "--explain", out).stdout)
    assert list(answer) == [*PREDICTION_FIELDS, "explanation"]
    explanation = answer["explanation"]
    assert list(explanation) == ["label", "lead", "peak", "picture", "elapsed_ms"]
    assert explanation["label"] == answer["label"]
    assert explanation["picture"] == str(out)
    assert explanation["peak"] == max(map(max, explanation["lead"]))


def test_several_photos_go_to_a_folder(photo: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "maps"
    other.mkdir()
    out.mkdir()
    (other / "mole.jpg").write_bytes(photo.read_bytes())
    (other / "text.jpg").write_text("no photo")
    ran = run("--model", U8, "--json", photo, other, "-", "--explain", out, stdin=photo.read_bytes())
    assert ran.returncode == 1
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [row.get("explanation", {}).get("picture") for row in rows] == [
        str(out / "mole.explain.png"),
        str(out / "mole.explain-2.png"),
        None,
        str(out / "stdin.explain.png"),
    ]
    assert len(list(out.iterdir())) == 3


def test_invalid_options_are_refused_before_anything_is_opened(photo: Path, tmp_path: Path) -> None:
    photo.with_suffix(".png").write_bytes(png_bytes(draw_photo(0)))
    cases: list[tuple[str | Path, ...]] = [
        (photo, photo, "--explain", tmp_path / "map.png"),
        (tmp_path, "--explain", tmp_path / "map.png"),
        (photo, "--explain", tmp_path / "map.jpg"),
        (photo, "--explain", ""),
        (photo, "--explain", tmp_path / "none" / "map.png"),
        (photo.with_suffix(".png"), "--explain", photo.with_suffix(".png")),
        (photo, "--explain", photo.with_suffix(".png")),
        (photo, "--explain", tmp_path / "map.png", "--bench", "2"),
        ("--watch", tmp_path, "--explain", tmp_path),
        ("--self-check", "--explain", tmp_path / "map.png"),
    ]
    for arguments in cases:
        ran = run("--model", "no such model", *arguments)
        assert (ran.returncode, ran.stdout) == (2, ""), arguments
        assert ran.stderr.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mole.jpg", "mole.png"]


def test_a_model_without_a_map_ends_the_command(photo: Path, tmp_path: Path) -> None:
    model = tmp_path / "sigmoid.tflite"
    model.write_bytes(with_operator(good(), MEAN, SUM))
    ran = run("--model", model, photo, "--explain", tmp_path / "map.png")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "heat maps are not supported" in ran.stderr
    assert not (tmp_path / "map.png").exists()


def test_an_unwritten_picture_leaves_the_prediction_and_no_file(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / f"{'x' * 300}.png"
    ran = run("--model", U8, photo, "--explain", out)
    assert ran.returncode == 1
    assert ran.stdout.startswith(run("--model", U8, photo).stdout.splitlines()[0])
    assert "  no heat map: " in ran.stdout
    assert "error: " in ran.stderr and "cannot be written" in ran.stderr and "too long" in ran.stderr
    ran = run("--model", U8, "--json", photo, "--explain", out)
    (answer,) = map(json.loads, ran.stdout.splitlines())
    assert answer["explanation"]["picture"] is None
    assert answer["explanation"]["error"]["code"] == "heat-map-unwritten"
    assert [path.name for path in tmp_path.iterdir()] == ["mole.jpg"]


def test_one_unwritten_picture_does_not_end_the_run(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def fail_for_the_first(source: str, target: str) -> None:
        if str(target).endswith("mole.explain.png"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail_for_the_first)
    answers: list[object] = []
    with Classifier.open(U8) as classifier, pytest.raises(HeatMapUnwritten, match="No space") as caught:
        for _, answer in explain_each(classifier, [str(photo), "none.jpg", str(photo)], str(tmp_path)):
            answers.append(answer)
    assert caught.value.exit_status == 1
    first, missing, second = answers
    assert isinstance(first, Explained) and first.picture is None and first.failure is not None
    assert isinstance(missing, ImageNotFound)
    assert isinstance(second, Explained) and second.picture == str(tmp_path / "mole.explain-2.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mole.explain-2.png", "mole.jpg"]


@pytest.mark.parametrize("stem", ["n" * 240, "n" * 251, "\ud55c" * 80, "\ud55c" * 83])
def test_a_long_name_is_cut_for_its_picture(stem: str, photo: Path, tmp_path: Path) -> None:
    long = tmp_path / "photos" / f"{stem}.jpg"
    long.parent.mkdir()
    long.write_bytes(photo.read_bytes())
    out = tmp_path / "maps"
    out.mkdir()
    with Classifier.open(U8) as classifier:
        ((_, answer),) = explain_each(classifier, [str(long)], str(out))
    assert isinstance(answer, Explained) and answer.failure is None
    (written,) = out.iterdir()
    kept = written.name.removesuffix(".explain.png")
    # A whole number of characters, as many as fit.
    assert stem.startswith(kept) and 240 <= len(f"{kept}.explain.png".encode()) <= 255


def test_a_photo_is_never_written_over(photo: Path, tmp_path: Path) -> None:
    """Whatever its name, whether it is named on the line or only lies there."""
    taken = {"mole.explain.png": png_bytes(draw_photo(0)), "mole.explain-2.png": png_bytes(draw_photo(1))}
    for name, data in taken.items():
        (tmp_path / name).write_bytes(data)
    for _ in range(2):
        ran = run("--model", U8, "--json", photo, tmp_path / "mole.explain.png", "--explain", tmp_path)
        assert ran.returncode == 0
        rows = [json.loads(line) for line in ran.stdout.splitlines()]
        assert [row["explanation"]["picture"] for row in rows] == [
            str(tmp_path / "mole.explain-3.png"),
            str(tmp_path / "mole.explain.explain.png"),
        ]
        assert {name: (tmp_path / name).read_bytes() for name in taken} == taken


def test_heat_maps_in_their_own_folder_are_no_photos(photo: Path, tmp_path: Path) -> None:
    for _ in range(2):
        ran = run("--model", U8, "--json", tmp_path, "--explain", tmp_path)
        assert ran.returncode == 0
        assert [json.loads(line)["image"] for line in ran.stdout.splitlines()] == [str(photo)]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mole.explain.png", "mole.jpg"]
    heat_map = tmp_path / "mole.explain.png"
    ran = run("--model", "no such model", photo, heat_map, "--explain", tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"{heat_map}: a heat map of an earlier run" in ran.stderr
    photo.unlink()
    ran = run("--model", U8, tmp_path, "--explain", tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "no photo to classify" in ran.stderr
    # Elsewhere a picture is a picture.
    other = tmp_path / "maps"
    other.mkdir()
    assert run("--model", U8, heat_map, "--explain", other).returncode == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Melanoma (in situ)", "Melanoma (in situ) (mel)"),
        ("M\u00e9lanome", "mel"),
        ("\ud751\uc0c9\uc885", "mel"),
    ],
)
def test_a_name_without_glyphs_is_drawn_as_its_code(name: str, shown: str) -> None:
    assert shown_label(name, "mel") == shown


def test_no_box_stands_for_a_character(photo: Path, tmp_path: Path) -> None:
    """The entries say the name, the picture the code: as if it had always been the name."""
    with Classifier.open(U8) as classifier, Explainer(classifier) as explainer:
        explanation = explainer.explain(photo)
    korean, code = "\ud751\uc0c9\uc885", explanation.prediction.label
    labels = tuple(dataclasses.replace(one, name=korean) for one in explanation.prediction.labels)
    named = dataclasses.replace(
        explanation, prediction=dataclasses.replace(explanation.prediction, labels=labels)
    )
    write_picture(str(tmp_path / "map.png"), named, f"{korean}.")
    with Image.open(tmp_path / "map.png") as picture:
        picture.load()
        texts = picture.text  # type: ignore[attr-defined]
        assert f"{korean} ({code})" in texts["Description"] and texts["Disclaimer"] == f"{korean}."
        assert picture.tobytes() == draw_picture(named, [*describe(named, code), "???."]).tobytes()


def test_it_needs_no_numpy(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.png"
    status, _, imported = run_blocked(["numpy", *TRAINING], "--model", U8, str(photo), "--explain", str(out))
    assert status == 0 and out.is_file()
    assert "numpy" not in imported


def test_classifying_without_a_map_imports_none_of_it(photo: Path) -> None:
    probe = "import sys; from edge_runtime.cli.command import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"  # noqa: E501
    command = [sys.executable, "-c", probe, "--model", U8, str(photo)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(ran.stderr.splitlines()[-1].split())
    assert "edge_runtime.classifier" in loaded
    extra = {"explain", "graph_end", "heat_files", "heat_picture"}
    assert not loaded & ({f"edge_runtime.{name}" for name in extra} | {"PIL.ImageDraw", "PIL.ImageFont"})


def test_the_ramp_gets_brighter_all_the_way() -> None:
    def luminance(colour: tuple[int, int, int]) -> float:
        """ITU-R BT.709, of linear light."""
        linear = [((v / 255 + 0.055) / 1.055) ** 2.4 if v > 10 else v / 255 / 12.92 for v in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    # Not each of 256: neighbours are rounded to the same bytes.
    shades = [luminance(ramp_colour(i / 64)) for i in range(65)]
    assert all(a < b for a, b in pairwise(shades))
    assert (ramp_colour(0), ramp_colour(1)) == (RAMP[0], RAMP[-1])


@pytest.mark.parametrize("size", [(12, 12), (3000, 1000), (40, 120), (224, 224)])
def test_a_photo_of_any_shape_fits(size: tuple[int, int]) -> None:
    with Classifier.open(U8) as classifier, Explainer(classifier) as explainer:
        explanation = explainer.explain(png_bytes(draw_photo(1, *size)))
    picture = draw_picture(explanation, ["A word.", "and " * 60])
    assert picture.mode == "RGB"
    assert max(picture.size) < 1200
