"""Disturbed photos: what a disturbance does, metrics on the right pixels, and what must be noticed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from convert.comparison.report import Measured
from convert.comparison.statistics import Truth
from convert.comparison.workers import PhotoScores, Workers, photo_scores
from convert.inputs import Photo
from convert.robustness import disturbances, study
from convert.robustness.disturbances import (
    DISTURBANCES,
    blur,
    compress,
    disturb,
    expose,
    rotate,
    steps,
    warm,
    zoom,
)
from convert.robustness.figures import choose_evenly, disturbance_figures, shift_rows
from convert.robustness.study import main
from edge_runtime import Classifier
from edge_runtime.errors import InterpreterBroken
from edge_runtime.images.preprocess import crop, decode_rgb, resize
from edge_runtime.model.flatbuffer import Table
from edge_runtime.model.model_file import open_model
from edge_runtime.runner import Runner
from tests.fixtures import FIXTURES
from tests.fixtures.bad_models import good, with_altered_weights
from tests.fixtures.make_models import draw_photo, png_bytes
from train.artifacts.selection import mark
from train.evaluation.intervals import balanced_accuracy_estimate, recalls
from train.evaluation.metrics import GroupDraws

U8, I8, F32 = (FIXTURES / f"tiny_{kind}.tflite" for kind in ("uint8", "int8", "float32"))
CODES = ("ash", "brick", "cyan")
PHOTO = draw_photo(3, 120, 90)
STEPS = steps()
# A builtin operator that wants five inputs.
SVDF = 27


def pixels(photo: Image.Image) -> np.ndarray:
    return np.asarray(photo).astype(float)


def grey(value: int) -> Image.Image:
    return Image.new("RGB", (40, 30), (value, value, value))


# -------------------------------------------------------------------- what a disturbance means


def test_strength_zero_is_the_photo_itself() -> None:
    assert len(DISTURBANCES) == 6
    for disturbance in DISTURBANCES.values():
        assert disturbance(PHOTO, 0) is PHOTO
        assert 0 in disturbance.strengths
        assert list(disturbance.strengths) == sorted(disturbance.strengths)


@pytest.mark.parametrize(("name", "strength"), STEPS)
def test_every_step_changes_pixels_and_nothing_else(name: str, strength: float) -> None:
    given = PHOTO.tobytes()
    disturbed = DISTURBANCES[name](PHOTO, strength)
    assert (disturbed.mode, disturbed.size) == (PHOTO.mode, PHOTO.size)
    assert disturbed.tobytes() != given == PHOTO.tobytes()
    assert disturbed.tobytes() == DISTURBANCES[name](PHOTO, strength).tobytes()


@pytest.mark.parametrize("name", ["zoom", "blur", "jpeg", "brightness", "white_balance"])
def test_more_strength_changes_more(name: str) -> None:
    strengths = DISTURBANCES[name].strengths
    for side in ([s for s in strengths if s >= 0], [-s for s in strengths[::-1] if s <= 0]):
        sign = 1 if side[-1] in strengths else -1
        moved = [np.abs(pixels(DISTURBANCES[name](PHOTO, sign * s)) - pixels(PHOTO)).mean() for s in side]
        assert moved == sorted(moved)


def test_zoom_by_two_shows_the_middle_half() -> None:
    photo = Image.new("RGB", (80, 60), (0, 0, 0))
    photo.paste((255, 255, 255), (20, 15, 60, 45))
    assert pixels(zoom(photo, 1))[5:-5, 5:-5].min() == 255
    assert 0.2 < (pixels(zoom(photo, 0.5))[..., 0] < 128).mean() < 0.6


def test_a_turn_is_about_the_centre_and_without_black_corners() -> None:
    assert np.abs(pixels(rotate(PHOTO, 180)) - pixels(PHOTO.transpose(Image.Transpose.ROTATE_180))).max() == 0
    square = PHOTO.crop((0, 0, 90, 90))
    assert np.abs(pixels(rotate(square, 90)) - pixels(square.transpose(Image.Transpose.ROTATE_90))).mean() < 2
    assert pixels(rotate(grey(200), 45)).min() == 200


def test_light_is_counted_in_stops_of_linear_light() -> None:
    # sRGB 188 is half the light of 255, and 137 is half the light of 188.
    assert expose(grey(255), -1).getpixel((0, 0)) == (188, 188, 188)
    assert expose(grey(188), -1).getpixel((0, 0)) == (137, 137, 137)
    assert expose(grey(137), 1).getpixel((0, 0)) == (188, 188, 188)
    assert expose(grey(230), 1).getpixel((0, 0)) == (255, 255, 255)
    red, green, blue = warm(grey(188), 2).getpixel((0, 0))  # type: ignore[misc]
    assert (red, green, blue) == (255, 188, 137)
    assert warm(grey(188), -2).getpixel((0, 0)) == (137, 188, 255)


def test_blur_is_of_the_shorter_side_and_compression_of_the_quality_scale() -> None:
    wide = PHOTO.crop((0, 0, 120, 50))
    for photo in (wide, wide.transpose(Image.Transpose.ROTATE_90)):
        assert np.array_equal(pixels(blur(photo, 20)), pixels(photo.filter(ImageFilter.GaussianBlur(1.0))))
    stored = io.BytesIO()
    PHOTO.save(stored, "JPEG", quality=60, subsampling="4:2:0")
    assert np.array_equal(pixels(compress(PHOTO, 40)), pixels(Image.open(stored)))


def test_blur_and_compression_keep_an_even_photo() -> None:
    assert np.abs(pixels(blur(grey(120), 20)) - 120).max() == 0
    assert np.abs(pixels(compress(grey(120), 90)) - 120).max() <= 2
    assert pixels(blur(PHOTO, 20)).std() < pixels(PHOTO).std()


# -------------------------------------------------------------------- every score belongs to its pixels


@pytest.fixture
def photo_file(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png_bytes(PHOTO))
    return path


def test_the_first_version_has_the_undisturbed_scores_exactly(photo_file: Path) -> None:
    opened = [Runner.open(path) for path in (U8, I8)]
    found = photo_scores(opened, photo_file, STEPS, disturb)
    for k, path in enumerate((U8, I8)):
        with Classifier.open(path) as classifier:
            raw = found.scores[0][k]
            plain = classifier.classify(photo_file).scores
            assert [value / sum(raw) for value in raw] == pytest.approx(list(plain.values()), abs=1e-12)
    # And one by one, in another way: disturbed, saved without loss, read back as any photo.
    for number, (name, strength) in enumerate(STEPS, start=1):
        photo_file.with_name("disturbed.png").write_bytes(png_bytes(DISTURBANCES[name](PHOTO, strength)))
        alone = photo_scores(opened, photo_file.with_name("disturbed.png"), [])
        assert alone.scores[0] == found.scores[number], (name, strength)
        assert alone.pixels_sha256[0] == found.pixels_sha256[number]
    # Were steps exchanged, the comparison above would fail: their pixels are all different.
    assert max(Counter(found.pixels_sha256).values()) == 1


def test_processes_give_what_one_process_gives(photo_file: Path) -> None:
    other = photo_file.with_name("other.png")
    other.write_bytes(png_bytes(draw_photo(1, 120, 90)))
    broken = photo_file.with_name("broken.jpg")
    broken.write_text("no photo")
    files = [photo_file, broken, other, photo_file.with_name("none.png")]
    with Workers([open_model(U8), open_model(I8)], 2, module=disturbances.__name__) as pool:
        found = list(pool.run(files, STEPS[:3]))
    opened = [Runner.open(path) for path in (U8, I8)]
    one_process = [photo_scores(opened, file, STEPS[:3], disturb) for file in files]
    assert [replace(one, inference_ms=()) for one in found] == [
        replace(one, inference_ms=()) for one in one_process
    ]
    assert [bool(one.problem) for one in found] == [False, True, False, True]


def test_a_model_with_state_is_noticed(photo_file: Path) -> None:
    class Drifting(Runner):
        """Gives the same scores in another order after the first run."""

        runs = 0

        def softmax(self, raw_output: bytes) -> list[float]:
            self.runs += 1
            scores = super().softmax(raw_output)
            return scores if self.runs == 1 else scores[::-1]

    with pytest.raises(InterpreterBroken) as caught:
        photo_scores([Drifting.open(U8)], photo_file, STEPS[:1], disturb)
    assert str(photo_file) in caught.value.what and caught.value.expected == "equal scores"


# -------------------------------------------------------------------- figures


def photo_of(number: int, label: int, group: str = "") -> Photo:
    return Photo(f"p{number}", Path(f"p{number}.png"), label, group or f"g{number}", "test", "", "", "")


def test_photos_are_chosen_evenly_over_classes() -> None:
    photos = [photo_of(i, 0) for i in range(50)] + [photo_of(100 + i, 1) for i in range(7)]
    photos += [photo_of(200 + i, 2) for i in range(3)]
    chosen = choose_evenly(photos, 24, 0)
    assert Counter(photo.label for photo in chosen) == {0: 14, 1: 7, 2: 3}
    assert chosen == choose_evenly(photos, 24, 0) != choose_evenly(photos, 24, 1)
    assert len(choose_evenly(photos, 1000, 0)) == 60


def test_agreement_is_a_mean_over_true_classes() -> None:
    photos = [photo_of(i, 0) for i in range(8)] + [photo_of(10 + i, 1) for i in range(2)]
    truth = Truth.of(photos, CODES)
    one = np.array([0, 0, 0, 0, 1, 1, 2, 2, 1, 2])
    other = np.array([0, 0, 0, 0, 1, 1, 2, 1, 1, 1])
    value, low, high = truth.agreement(one, one)
    assert low < 0.9 < value == high == 1
    assert truth.agreement(one, other)[0] == pytest.approx((7 / 8 + 1 / 2) / 2)
    assert truth.balanced(one)[0] == pytest.approx((4 / 8 + 1 / 2) / 2)
    assert truth.change(one, other)[0] == pytest.approx(0.25)
    low, high = truth.change(one, other)[1:]
    assert low <= 0.25 <= high


def measured_of(photos: list[Photo], said: np.ndarray) -> Measured:
    """One result per photo, of [versions, models, photos] predicted labels."""
    rows = np.eye(3)[said].transpose(2, 0, 1, 3).tolist()
    names = tuple(map(str, range(len(said))))
    results = [PhotoScores(tuple(tuple(map(tuple, version)) for version in row), (), names) for row in rows]
    return Measured(tuple(photos), results=results)


def by_class(labels: np.ndarray, same: np.ndarray) -> float:
    return float(np.mean([same[labels == label].mean() for label in range(3)]))


def test_each_model_is_compared_with_itself_undisturbed_and_with_the_first_on_the_same_pixels() -> None:
    rng = np.random.default_rng(6)
    labels, groups = rng.integers(0, 3, 45), [f"lesion{i // 3}" for i in range(45)]
    photos = [photo_of(i, int(label), groups[i]) for i, label in enumerate(labels)]
    said = np.where(rng.random((1 + len(STEPS), 2, 45)) < 0.7, labels, rng.integers(0, 3, 45))
    found = disturbance_figures(measured_of(photos, said), CODES)
    place = {step: number for number, step in enumerate(STEPS, start=1)}
    draws = GroupDraws.draw(groups, labels)
    checked = 0
    for one in found:
        for point in one["points"]:
            version = place.get((one["name"], point["strength"]), 0)
            for model, figures in enumerate(point["models"]):
                now, before, first = said[version, model], said[0, model], said[version, 0]
                estimate = balanced_accuracy_estimate(recalls(labels, now, 3, groups))
                assert figures["balanced_accuracy"] == list(estimate or ())
                change = draws.balanced_difference(labels, before, now, 3)
                assert figures["change"] == list(change)
                loss = by_class(labels, now == labels) - by_class(labels, before == labels)
                assert change.value == pytest.approx(loss)
                assert figures["agreement"][0] == pytest.approx(by_class(labels, now == before))
                assert figures["with_first"][0] == pytest.approx(by_class(labels, now == first))
                checked += version > 0
    assert checked == 2 * len(STEPS) == 48


def test_photos_that_took_part_in_a_choice_are_marked(tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(U8.read_bytes())
    first = photo_of(0, 0, "lesion0")
    chosen = {"set": "val", "chosen": ["the temperature"], "photo_ids": [first.photo_id]}
    model.with_suffix(".json").write_text(json.dumps({"selection": [chosen]}))
    photos = (first, photo_of(1, 0, "lesion1"))
    found = Measured(photos, results=[PhotoScores((), (), ())] * 2)
    marked = mark(["the temperature"], "1 of these 2 photos")
    assert study._marks([open_model(U8), open_model(model), open_model(model)], found) == [marked]


def test_rows_of_too_few_lesions_have_no_figures_however_many_their_photos() -> None:
    rng = np.random.default_rng(9)
    labels = np.arange(60) % 3
    groups = [f"few{i // 3}" if i < 30 else f"many{i}" for i in range(60)]
    photos = [photo_of(i, int(label), groups[i]) for i, label in enumerate(labels)]
    said = rng.integers(0, 3, (1, 2, 60))
    values = {photo.photo_id: "few" if i < 30 else "many" for i, photo in enumerate(photos)}
    every, few, many = shift_rows(measured_of(photos, said), values, CODES)
    assert [(row["value"], row["photos"], row["lesions"]) for row in (every, few, many)] == [
        ("all", 60, 40), ("few", 30, 10), ("many", 30, 30),
    ]  # fmt: skip
    assert few["models"] == [{"balanced_accuracy": None, "with_first": None}] * 2
    for row, inside in ((every, slice(None)), (many, slice(30, None))):
        truth, first, second = labels[inside], *said[0][:, inside]
        for model, predicted in zip(row["models"], (first, second), strict=True):
            assert model["balanced_accuracy"][0] == pytest.approx(by_class(truth, predicted == truth))
            assert model["with_first"][0] == pytest.approx(by_class(truth, predicted == first))


# -------------------------------------------------------------------- the command


def write_table(folder: Path, count: int, **columns: Any) -> Path:
    """Drawn photos, three in a row of equal labels two of a lesion."""
    rows = []
    for index in range(count):
        (folder / f"{index}.png").write_bytes(png_bytes(draw_photo(index, 60, 45)))
        row = {"path": f"{index}.png", "label": CODES[index % 3], "lesion_id": f"L{index // 6}{index % 3}"}
        rows.append(row | {name: values[index] for name, values in columns.items()})
    with (folder / "table.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "table.csv"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path, 24)
    phones = tmp_path / "phones"
    phones.mkdir()
    shift = write_table(phones, 48, tone=["1", "2", "", "2"] * 12)
    (phones / "7.png").write_text("no photo")
    out = tmp_path / "out"
    arguments = [str(U8), str(I8), "--data", str(table), "--limit", "12", "--workers", "1", "--out", str(out)]
    assert main(arguments) == 0
    assert main([*arguments, "--shift", str(shift), "--by", "tone"]) == 1
    assert sorted(path.name for path in out.iterdir()) == ["robustness.html", "robustness.json"]
    report = json.loads((out / "robustness.json").read_text())
    assert str(tmp_path) not in json.dumps(report)
    assert report["photos"]["selection"] == []
    assert report["photos"]["per_class"] == {"ash": 4, "brick": 4, "cyan": 4}
    assert [one["name"] for one in report["disturbances"]] == list(DISTURBANCES)
    for one in report["disturbances"]:
        points = one["points"]
        assert [point["strength"] for point in points] == list(DISTURBANCES[one["name"]].strengths)
        zero = next(point for point in points if point["strength"] == 0)
        for figures in zero["models"]:
            assert figures["change"] == [0, 0, 0]
            assert figures["agreement"][0] == figures["agreement"][2] == 1
        assert zero["models"][0]["with_first"][0] == 1
        assert len({point["pixels_sha256"] for point in points}) == len(points)
    check_pixels(report, table)
    rows = report["shift"]["rows"]
    assert [(row["value"], row["photos"]) for row in rows] == [
        ("all", 47),
        ("1", 12),
        ("2", 23),
        ("unknown", 12),
    ]
    assert rows[0]["models"][0]["balanced_accuracy"] is not None
    # Fewer than twenty lesions.
    assert rows[1]["models"][0]["balanced_accuracy"] is None
    assert list(report["shift"]["failures"]) == ["7.png"]
    said = capsys.readouterr().out
    assert "rotation" in said and "other photos, unknown" in said
    page = (out / "robustness.html").read_text()
    assert "lesion" not in page.lower()
    assert page.count("<svg") == 12 and "White balance" in page


def check_pixels(report: dict[str, Any], table: Path) -> None:
    """A report holds the hash of its pixels; here they are made again, beside the command."""
    contract = open_model(U8).contract
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    photos = [replace(photo_of(0, CODES.index(row["label"])), photo_id=row["path"]) for row in rows]
    chosen = choose_evenly(photos, 12, 0)
    for name, strength in (("blur", 5), ("rotation", 30), ("jpeg", 0)):
        hashes = ""
        for photo in chosen:
            image = decode_rgb((table.parent / photo.photo_id).read_bytes(), contract)
            fitted = resize(crop(DISTURBANCES[name](image, strength), contract.geometry), contract.input)
            hashes += hashlib.sha256(fitted.tobytes()).hexdigest()
        (one,) = [one for one in report["disturbances"] if one["name"] == name]
        (point,) = [point for point in one["points"] if point["strength"] == strength]
        assert point["pixels_sha256"] == hashlib.sha256(hashes.encode()).hexdigest()


def test_of_several_data_sets_the_first_is_disturbed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    rows = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name, 6)
        rows += [f"{name}/{i}.png,{CODES[i % 3]},test" for i in range(6)]
    (run / "manifest.csv").write_text("\n".join(["path,label,split", *rows]))
    (run / "run.json").write_text(
        json.dumps({"run_id": "x", "data": {"name": "one+two", "root": str(tmp_path)}})
    )
    arguments = [
        str(U8),
        "--data",
        str(run),
        "--workers",
        "1",
        "--limit",
        "12",
        "--out",
        str(tmp_path / "out"),
    ]
    for more, source, photos in (([], "one", 6), (["--source", "two"], "two", 6)):
        assert main([*arguments, *more]) == 0
        found = json.loads((tmp_path / "out" / "robustness.json").read_text())["photos"]
        assert (found["source"], found["answered"]) == (source, photos)
    assert main([*arguments, "--source", "three"]) == 2


def test_a_tampered_model_is_caught(tmp_path: Path) -> None:
    table = write_table(tmp_path, 12)
    tampered = tmp_path / "tampered.tflite"
    tampered.write_bytes(with_altered_weights(good("tiny_int8.tflite")))
    out = tmp_path / "out"
    arguments = [str(U8), str(tampered), "--data", str(table), "--workers", "1", "--out", str(out)]
    assert main(arguments) == 1
    report = json.loads((out / "robustness.json").read_text())
    assert report["models"][0]["caught"] == []
    assert "output differs by" in report["models"][1]["caught"][0]
    assert "output differs by" in (out / "robustness.html").read_text()


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path, 6)
    out = ["--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([str(U8), str(F32), "--data", str(table), *out]) == 3
    assert str(F32) in capsys.readouterr().err
    for path in tmp_path.glob("*.png"):
        path.unlink()
    assert main([str(U8), "--data", str(table), *out]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--by", "tone"], "--by needs --shift"),
        (["--shift-photos", "DIR"], "--shift-photos needs --shift"),
        (["--shift", "table.csv", "--by", "tone"], "tone"),
        (["--shift", "absent.csv"], "absent.csv"),
        (["--shift", "table.csv", "--shift-photos", "absent"], "absent"),
        (["--out", "table.csv"], "--out is not a folder"),
        (["--out", "table.csv/deeper"], "table.csv is a file"),
    ],
)
def test_options_are_checked_before_anything_is_measured(
    options: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_table(tmp_path, 6)
    monkeypatch.chdir(tmp_path)

    def never(*_: object, **__: object) -> Any:
        raise AssertionError("measured before the options were checked")

    monkeypatch.setattr("convert.robustness.study.Workers", never)
    assert main([str(U8), "--data", "table.csv", "--out", "out", *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_permission_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # By name: a superuser, as in many containers, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode == os.W_OK))
    assert main([str(U8), "--data", "absent.csv", "--out", str(tmp_path / "out" / "deeper")]) == 2
    assert f"(got {tmp_path})" in capsys.readouterr().err


def with_other_operator(model: bytes, builtin: int) -> bytes:
    """A model whose first operator is of another kind, for which it has neither the inputs nor the options."""
    data = bytearray(model)
    root = Table(bytes(model), len(model), struct.unpack_from("<I", model, 0)[0], "Model")
    code = root.children(1, "OperatorCode")[0]
    for field, form in ((0, "<b"), (3, "<i")):
        if position := code.field(field, struct.calcsize(form)):
            struct.pack_into(form, data, position, builtin)
    return bytes(data)


def test_a_model_that_no_engine_runs_ends_it_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(with_other_operator(good("tiny_uint8.tflite"), SVDF))
    arguments = ["--data", str(write_table(tmp_path, 6)), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([str(U8), str(broken), *arguments]) == 3
    assert f"error: {broken}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
