"""`dermedge evaluate`: true labels from folders and tables, figures with what they rest on, refusals."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from convert.evaluation.evaluate import PAGE_NAME, REPORT_NAME, evaluate, main
from convert.evaluation.metrics import figures
from convert.evaluation.page import make_page, terminal_summary
from convert.evaluation.truth import read_truth
from convert.files import TRAINED, WEIGHTS, selection_sets
from edge_runtime.errors import DataInvalid, UsageError
from edge_runtime.model.model_file import bundled_model_path, open_model
from tests.fixtures import FIXTURES
from train.artifacts.files import write_json
from train.artifacts.selection import KEY, mark

MODEL = FIXTURES / "tiny_uint8.tflite"
CODES = [label.code for label in open_model(MODEL).contract.labels]
PHOTOS = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in folders named by label."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for index in range(PHOTOS):
        place = folder / CODES[index % len(CODES)]
        place.mkdir(exist_ok=True)
        pixels = rng.integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"photo_{index}.png")
    return folder


def table_of(folder: Path, out: Path, **columns: object) -> Path:
    files = sorted(folder.rglob("*.png"))
    table = pd.DataFrame({"image": [path.stem for path in files], "dx": [path.parent.name for path in files]})
    table.assign(**columns).to_csv(out, index=False)
    return out


def test_folders_and_tables_give_the_same_labels(photos: Path, tmp_path: Path) -> None:
    by_folder = read_truth(photos, CODES)
    by_table = read_truth(photos, CODES, labels=table_of(photos, tmp_path / "t.csv"))
    assert list(by_folder.table["label"]) == list(by_table.table["label"])
    assert len(by_folder.table) == PHOTOS and by_folder.units == "photos"
    one_hot = pd.DataFrame({"image": [path.stem for path in by_folder.table["path"]]})
    for index, code in enumerate(CODES):
        one_hot[code.upper()] = (by_folder.table["label"] == index).astype(float)
    one_hot.to_csv(tmp_path / "hot.csv", index=False)
    assert list(read_truth(photos, CODES, labels=tmp_path / "hot.csv").table["label"]) == list(
        by_folder.table["label"]
    )


def test_labels_are_mapped_or_left_out(photos: Path, tmp_path: Path) -> None:
    path = table_of(photos, tmp_path / "t.csv")
    path.write_text(path.read_text().replace(f",{CODES[0]}\n", ",OTHER\n"))
    with pytest.raises(DataInvalid) as caught:
        read_truth(photos, CODES, labels=path)
    assert caught.value.found == "OTHER"
    assert "--map" in caught.value.fix
    mapped = read_truth(photos, CODES, labels=path, mapping={"other": CODES[0]})
    assert list(mapped.table["label"]) == list(read_truth(photos, CODES).table["label"])
    left = read_truth(photos, CODES, labels=path, mapping={"OTHER": ""})
    assert left.left_out == sum(path.parent.name == CODES[0] for path in photos.rglob("*.png"))
    assert len(left.table) + left.left_out == PHOTOS
    with pytest.raises(UsageError) as unknown:
        read_truth(photos, CODES, labels=path, mapping={"other": "no-code"})
    assert unknown.value.found == "no-code" and unknown.value.expected == ", ".join(CODES)


def test_photos_have_the_suffixes_of_the_runtime_and_are_not_hidden(tmp_path: Path) -> None:
    (tmp_path / CODES[0]).mkdir()
    for name in ("a.jfif", "b.HEIC", "c.jpg", "._c.jpg", "notes.txt"):
        (tmp_path / CODES[0] / name).touch()
    assert [path.name for path in read_truth(tmp_path, CODES).table["path"]] == ["a.jfif", "b.HEIC", "c.jpg"]


def test_dots_of_a_name_are_no_suffix(photos: Path, tmp_path: Path) -> None:
    for path in photos.rglob("*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name / f"1.2.{path.name}")
    assert len(read_truth(tmp_path, CODES, labels=table_of(tmp_path, tmp_path / "t.csv")).table) == PHOTOS


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda rows: [*rows, "absent,x"], "absent"),
        (lambda rows: [*rows, rows[1]], "photo_"),
        (lambda rows: [rows[0].replace("image", "picture"), *rows[1:]], "picture"),
    ],
)
def test_tables_that_cannot_be_used(photos: Path, tmp_path: Path, change: object, named: str) -> None:
    path = table_of(photos, tmp_path / "t.csv")
    rows = path.read_text().splitlines()
    path.write_text("\n".join(change(rows)) + "\n")  # type: ignore[operator]
    with pytest.raises(DataInvalid) as caught:
        read_truth(photos, CODES, labels=path)
    assert named in caught.value.found


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_truth(tmp_path / "none", CODES)


def test_the_command_writes_figures_and_a_page(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = table_of(
        photos,
        tmp_path / "t.csv",
        lesion_id=[f"L{i // 2}" for i in range(PHOTOS)],
        sex=["f", "m"] * (PHOTOS // 2),
        gender=["x", "y"] * (PHOTOS // 2),
    )
    out = tmp_path / "out"
    words = [str(MODEL), "--data", str(photos), "--labels", str(labels), "--out", str(out), "--workers", "1"]
    assert main(words) == 0
    report = json.loads((out / REPORT_NAME).read_text())
    assert report["schema"] == 1
    assert (report["photos"], report["lesions"]) == (PHOTOS, PHOTOS // 2)
    assert sum(report["decisions"].values()) == PHOTOS
    assert report["classes_few"] == [code for code, one in report["per_class"].items() if one["photos"]]
    value, low, high = report["balanced_accuracy"]
    assert low < value < high and high - low > 0.1
    assert {row["value"] for row in report["subgroups"]["Sex"]} == {"f", "m"}
    assert {row["value"] for row in report["subgroups"]["gender"]} == {"x", "y"}
    assert np.array(report["confusion"]).sum() == PHOTOS
    page = (out / PAGE_NAME).read_text()
    assert "Fewer than 10 lesions" in page and "<script" not in page
    assert "balanced accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("grouped", [False, True])
def test_a_label_set_of_another_trade_is_not_called_medical(
    grouped: bool, photos: Path, tmp_path: Path
) -> None:
    groups = {"group": [f"G{i // 2}" for i in range(PHOTOS)]} if grouped else {}
    labels = table_of(photos, tmp_path / "t.csv", scene=["in", "out"] * (PHOTOS // 2), **groups)
    report = evaluate(MODEL, photos, labels=labels, workers=1)
    assert report["data"]["units"] == ("groups" if grouped else "photos")
    assert list(report["subgroups"]) == ["scene"]
    contract = dataclasses.replace(
        open_model(MODEL).contract, intended_use="Sorting pictures of a catalogue."
    )
    page = re.sub(r"<style>.*?</style>|not_a_lesion", "", make_page(report, contract), flags=re.DOTALL)
    said = page.lower() + terminal_summary(report).lower().replace("not_a_lesion", "")
    assert not re.search("lesion|medical|diagnos|patient", said)
    assert contract.notice in page
    assert f"of {PHOTOS // 2} groups" in said or not grouped


def test_photos_that_took_part_in_a_choice_are_marked(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copy(MODEL, tmp_path / "model.tflite"))
    chosen = {"set": "validation split", "chosen": ["the temperature"], "photo_ids": ["photo_3", "absent"]}
    words = [str(model), "--data", str(photos), "--out", str(tmp_path / "out"), "--workers", "1"]
    marked = mark(["the temperature"], f"1 of these {PHOTOS} photos")
    for given, expected in ([chosen], True), ([chosen | {"photo_ids": ["foreign"]}], False):
        write_json(model.with_suffix(".json"), {KEY: given})
        assert main(words) == 0
        assert json.loads((tmp_path / "out" / REPORT_NAME).read_text())["data"][KEY] == [marked] * expected
        assert (marked in (tmp_path / "out" / PAGE_NAME).read_text()) is expected
        assert (marked in capsys.readouterr().out) is expected


def test_training_photos_are_recognized(photos: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(MODEL, tmp_path / "model.tflite"))
    trained = {"set": "training split", "chosen": WEIGHTS, "photo_ids": ["photo_3", "photo_5", "absent"]}
    write_json(model.with_suffix(".json"), {KEY: [trained]})
    report = evaluate(model, photos, workers=1)
    assert report["data"][KEY] == [TRAINED.format(f"2 of these {PHOTOS} photos")]
    assert report["data"][KEY][0] in make_page(report, open_model(model).contract)


def test_the_bundled_file_knows_its_training_photos() -> None:
    first, second, *_ = selection_sets(json.loads(bundled_model_path().with_suffix(".json").read_bytes()))
    assert [first["chosen"], len(first["photo_ids"])] == [WEIGHTS, 9_790]
    assert not {*first["photo_ids"]} & {*second["photo_ids"]}


def test_two_groups_have_one_area() -> None:
    contract = open_model(MODEL).contract
    scores = np.random.default_rng(0).dirichlet(np.ones(len(CODES)), 60)
    table = pd.DataFrame({"label": np.arange(60) % len(CODES), "group": [str(i) for i in range(60)]})
    for groups, expected in ((["b", "a", "a"], ["b"]), (["b", "a", "c"], ["a", "b", "c"])):
        labels = tuple(map(lambda x, g: dataclasses.replace(x, group=g), contract.labels, groups))
        of_groups = dataclasses.replace(contract, labels=labels)
        assert list(figures(table, scores, ["answer"] * 60, of_groups)["groups"]) == expected


def test_an_unreadable_photo_is_counted(photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data" / CODES[0]
    broken.mkdir(parents=True)
    (broken / "broken.png").write_bytes(b"no picture")
    for path in photos.rglob("*.png"):
        place = tmp_path / "data" / path.parent.name
        place.mkdir(exist_ok=True)
        (place / path.name).write_bytes(path.read_bytes())
    report = evaluate(MODEL, tmp_path / "data", workers=1)
    assert report["photos"] == PHOTOS
    assert [Path(name).name for name in report["data"]["failures"]] == ["broken.png"]


def test_a_perfectly_calibrated_model_lies_within_its_own_floor() -> None:
    """On photos whose labels are drawn from the scores themselves, the error is one that the floor calls usual."""
    contract = open_model(MODEL).contract
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(20):
        scores = rng.dirichlet(np.ones(len(CODES)), 300)
        labels = np.array([rng.choice(len(CODES), p=row) for row in scores])
        table = pd.DataFrame({"label": labels, "group": [str(i) for i in range(300)]})
        made = figures(table, scores, ["answer"] * 300, contract)["calibration"]
        _, low, high = made["perfectly_calibrated"]
        inside += low <= made["error"][0] <= high
    assert inside >= 16
