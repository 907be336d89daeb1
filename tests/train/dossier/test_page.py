"""The evidence report of generated predictions: complete, the same twice, and explicit about missing inputs."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import RunInvalid
from tests.train.dossier.test_binary_tasks import write_points
from tests.train.html_reader import Page
from train.artifacts.files import write_json
from train.artifacts.labels import load_labels
from train.artifacts.selection import KEY
from train.dossier import page as dossier
from train.dossier.checklists import (
    CHECKLISTS,
    CHECKOUT,
    LOCKED,
    LOCKS,
    licence_of,
    load_evidence,
    read_outcomes,
)
from train.dossier.page import robustness_part
from train.reports import html
from train.reports.published import published_rows, read_published

LABELS = load_labels("ham10000")
# Enough that every class has lesions in every fold, few enough that thousand draws take a second.
LESIONS = 210
FOLDS = 3
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.train.data.test_split" name="a"/>
<testcase classname="tests.train.data.test_split" name="b"><failure message="no"/></testcase>
<testcase classname="tests.train.evaluation.test_metrics" name="c"><skipped/></testcase>
<testcase classname="tests.train.evaluation.test_metrics" name="d"/>
</testsuite></testsuites>"""


def write_folder(folder: Path, *, quantized: bool = True, source: str = "clinic") -> Path:
    """Answers of a float and a quantized model to two photos of each lesion."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(4)
    rows, quantized_rows = [], []
    for lesion in range(LESIONS):
        label = LABELS.codes[lesion % len(LABELS.codes)]
        for view in range(2):
            logits = rng.normal(size=len(LABELS.codes)) + 2.5 * np.array(
                [code == label for code in LABELS.codes]
            )
            scores = np.round(255 * np.exp(logits) / np.exp(logits).sum()) / 255
            told = {
                "photo_id": f"P{lesion:03d}_{view}", "source": source if lesion < 180 else "phone",
                "fold": lesion // len(LABELS.codes) % FOLDS, "label": label, "group_id": f"L{lesion:03d}",
            }  # fmt: skip
            rows.append(told | {f"logit_{c}": f"{x:.5g}" for c, x in zip(LABELS.codes, logits, strict=True)})
            quantized_rows.append(
                told | {f"p_{c}": f"{x:.6g}" for c, x in zip(LABELS.codes, scores, strict=True)}
            )
    for name, content in (("oof.csv", rows), ("oof_int8_qat.csv", quantized_rows)):
        if name == "oof.csv" or quantized:
            with (folder / name).open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(content[0]))
                writer.writeheader()
                writer.writerows(content)
    return folder


def write_data(folder: Path) -> Path:
    """The readers' points and a table of every photo of the first data set, as HAM10000 is distributed."""
    root = folder / "HAM10000"
    (root / "HAM10000_images_part_1").mkdir(parents=True)
    write_points(folder / "readers.csv")
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for lesion in range(LESIONS):
        for view in range(2):
            photo_id = f"P{lesion:03d}_{view}"
            (root / "HAM10000_images_part_1" / f"{photo_id}.jpg").touch()
            label = LABELS.codes[lesion % len(LABELS.codes)]
            sex = ("male", "female")[lesion % 2]
            lines.append(f"L{lesion:03d},{photo_id},{label},histo,{20 + lesion % 60},{sex},back")
    (root / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_ingredients(folder: Path) -> None:
    """Everything that other commands make."""
    content: dict[str, Any] = {
        "name": "tiny", "folds": [0, 1, 2], "of": 3, "commit": "0123", "seconds_by_fold": [60.0, 60.0, None],
        "config": {"model": {"backbone": "efficientnet_lite0", "weights": "imagenet"}, "input": {"size_px": 224}},
    }  # fmt: skip
    (folder / "crossval.json").write_text(json.dumps(content), encoding="utf-8")
    points = dict.fromkeys(LABELS.codes, "0.1 0.2 0.3 0.4")
    content = {
        "about": {"network": "net", "weights": "run x", "size_px": 224, "photos": "14 test photos of clinic"},
        "method": "t-SNE", "photos": 14, "groups": 14, "points": points,
        "same_label_neighbour": dict.fromkeys(LABELS.codes, 0.5),
    }  # fmt: skip
    (folder / "embedding.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "hierarchy.json").write_text(json.dumps(study_content()), encoding="utf-8")
    (folder / "robustness.json").write_text(json.dumps(robustness_content()), encoding="utf-8")
    Image.new("RGB", (64, 64), "white").save(folder / "explanation.png")
    (folder / "tests.xml").write_text(JUNIT, encoding="utf-8")


def study_content() -> dict[str, Any]:
    def figures(difference: list[float] | None, nodes: int) -> dict[str, Any]:
        return {
            "classes_by_fold": [nodes, nodes], "balanced_accuracy": [0.6, 0.5, 0.7], "accuracy": [0.6, 0.5, 0.7],
            "balanced_accuracy_by_fold": [0.6, 0.6], "mean_over_folds": 0.6, "std_over_folds": 0.0,
            "less_direct": difference, "confusion": [[1] * nodes] * nodes,
        }  # fmt: skip

    nodes = {"three-way": ["benign", "malignant"], "nine-way": ["benign_dermal", "benign_epidermal"]}
    return {
        "about": {"network": "net", "weights": "imagenet", "size_px": 224, "photos": "x"}, "taxonomy": "nature2017",
        "photos": 10, "groups": 9, "folds": 9, "seed": 0, "heads": {"linear": "softmax"},
        "levels": {
            level: {"nodes": dict.fromkeys(codes, 5), "absent": [], "heads": {"linear": {
                "direct": figures(None, 2), "labels": figures([0.02, 0.01, 0.03], 2)}}}
            for level, codes in nodes.items()
        },
    }  # fmt: skip


def robustness_content() -> dict[str, Any]:
    """As convert/robustness/study.py describes it."""

    def figures(value: float) -> dict[str, Any]:
        estimate = [value, value - 0.1, value + 0.1]
        return {"balanced_accuracy": estimate, "change": [0, 0, 0], "agreement": estimate, "with_first": None}

    points = [{"strength": s, "models": [figures(0.8 - s / 10), figures(0.7)]} for s in (0, 0.5, 1)]
    rows = [
        {"value": "all", "photos": 30, "lesions": 25, "classes": 5, "models": [figures(0.4), figures(0.4)]},
        {"value": "2", "photos": 3, "lesions": 3, "classes": 1, "models": [dict.fromkeys(figures(0))] * 2},
    ]
    return {
        "schema_version": 1, "seconds": 1.0, "machine": "x",
        "models": [{"name": "float32", "caught": []}, {"name": "int8_qat", "caught": ["a golden picture"]}],
        "photos": {"answered": 9, "lesions": 9, "split": "test"},
        "disturbances": [{"name": "white_balance", "unit": "stops", "points": points}],
        "shift": {"photos": 30, "lesions": 25, "by": "fitspatrick", "rows": rows},
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with every ingredient, and the data beside it."""
    place = tmp_path_factory.mktemp("dossier")
    folder = write_folder(place / "run", source="HAM10000")
    write_ingredients(folder)
    return folder, write_data(place / "data")


@pytest.fixture(scope="module")
def page_of_whole(whole: tuple[Path, Path]) -> Page:
    folder, data = whole
    status = dossier.main([str(folder), "--data", str(data), "--readers", str(data / "readers.csv")])
    assert status == 0
    return Page.of(folder / "dossier.html")


def test_the_page_is_whole_and_loads_nothing(page_of_whole: Page) -> None:
    assert page_of_whole.problems == []
    assert len(page_of_whole.pictures) == 1
    for anchor in (entry["section"] for entry in load_evidence("paper")["element"]):
        assert anchor in page_of_whole.ids


def test_what_was_chosen_on_the_photos_stands_beside_their_figures(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", quantized=False)
    for chosen, times in (([], 0), (["the recipe"], 2)):
        write_json(folder / "metrics.json", {KEY: chosen})
        text = dossier.make_dossier(dossier.read_dossier(folder, tmp_path))
        assert text.count("Selection set: the recipe was chosen on these photos.") == times


def test_sealed_figures_come_first_and_for_their_label_set_alone(page_of_whole: Page, tmp_path: Path) -> None:
    text, row = page_of_whole.text, published_rows(read_published())[0]
    for cell in row:
        assert 0 <= text.index(cell) < text.index("Balanced accuracy, float")
    found = dossier.read_dossier(write_folder(tmp_path / "run", quantized=False), tmp_path)
    found.labels = dataclasses.replace(LABELS, name="catalogue")
    assert dossier._sealed(found) == []


def test_photos_confirmed_by_histology_come_first(page_of_whole: Page) -> None:
    text = page_of_whole.text
    for before, after in (
        ("histology photos, float", "all photos, float"),
        ("Curves and dermatologists, histology photos", "Curves and dermatologists, all photos"),
        ("By ground truth", "By sex"),
    ):
        assert 0 <= text.index(before) < text.index(after)


def test_without_the_ground_truth_nothing_is_claimed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", quantized=False)
    points = write_points(tmp_path / "points.csv")
    found = dossier.read_dossier(folder, tmp_path)
    text = dossier.make_dossier(found, readers=points)
    assert list(found.photo_sets) == ["all photos"]
    assert any("ground truth" in what for what, _ in found.missing["figures"])
    assert "the curve lies" not in text


def test_every_picture_says_what_it_shows(whole: tuple[Path, Path], page_of_whole: Page) -> None:
    text = (whole[0] / "dossier.html").read_text(encoding="utf-8")
    pictures = re.findall(r"<svg[^>]*>(<title>[^<]{20,}</title>)?", text)
    assert len(pictures) >= 10
    assert all(pictures)
    assert 'alt="A generated photo' in text


def test_equal_inputs_give_equal_bytes(whole: tuple[Path, Path], page_of_whole: Page, tmp_path: Path) -> None:
    folder, data = whole
    out = tmp_path / "again.html"
    assert (
        dossier.main(
            [str(folder), "--data", str(data), "--readers", str(data / "readers.csv"), "--out", str(out)]
        )
        == 0
    )
    assert out.read_bytes() == (folder / "dossier.html").read_bytes()


def test_figures_of_both_models_and_of_the_readers(page_of_whole: Page) -> None:
    for told in (
        "int8_qat file", "Readers under the curve", "0.800 at 0.750", "Operating points of the models",
        "Fine against coarse, nine-way: of 1 comparisons", "directly in 1, worse in 0", "By sex", "phone, all",
        "White balance in numbers", "Distribution shift, by fitspatrick", "int8_qat: a golden picture",
        "1 failed, 1 passed",
        "1 passed, 1 skipped", "not run: tests/train/training/test_crossval.py",
    ):  # fmt: skip
        assert told in page_of_whole.text


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "bare", quantized=False)
    assert dossier.main([str(folder), "--data", str(tmp_path / "nowhere")]) == 0
    told = capsys.readouterr().err
    page = Page.of(folder / "dossier.html")
    assert page.problems == []
    for section, what in (
        ("figures", "predictions of the int8_qat files"), ("origin", "crossval.json"),
        ("fine-coarse", "hierarchy.json"),
        ("embedding", "embedding.json"), ("explanation", "explanation.png"), ("robustness", "robustness.json"),
        ("requirements", "results of the tests"), ("parts", "the table of clinic"), ("melanoma", "the readers' table"),
    ):  # fmt: skip
        assert f"missing in {section}: {what}" in told
        assert what in page.text
    assert "All inputs present" not in page.text


def test_one_fold_of_several_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "one")
    for name in ("oof.csv", "oof_int8_qat.csv"):
        rows = list(csv.reader((folder / name).read_text(encoding="utf-8").splitlines()))
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([rows[0], *(row for row in rows[1:] if row[2] == "0")])
    (folder / "crossval.json").write_text(
        json.dumps({"name": "tiny", "folds": [0], "of": 3}), encoding="utf-8"
    )
    assert dossier.main([str(folder), "--data", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert "missing in origin: 2 of 3 folds" in told
    assert "missing in melanoma: operating points" in told
    assert "Operating points of the models" not in Page.of(folder / "dossier.html").text


def test_no_run_and_no_test_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dossier.main([str(tmp_path)]) == 2
    assert "crossval" in capsys.readouterr().err
    folder = write_folder(tmp_path / "bare")
    assert dossier.main([str(folder), "--tests", str(tmp_path / "gone.xml")]) == 2
    assert "no test results" in capsys.readouterr().err
    assert dossier.main([str(folder), "--explanation", str(folder / "oof.csv")]) == 2
    assert "not a picture" in capsys.readouterr().err
    assert not (folder / "dossier.html").exists()


@pytest.mark.parametrize(
    ("content", "told"), [({"schema_version": 2}, "schema_version 2"), ({"schema_version": 1}, "KeyError")]
)
def test_another_robustness_report(content: dict[str, Any], told: str) -> None:
    with pytest.raises(RunInvalid) as caught:
        robustness_part(content)
    assert caught.value.where == "robustness.json"
    assert told in caught.value.found


def test_a_claim_has_four_outcomes() -> None:
    def told(*differences: list[float]) -> str:
        choices = {str(i): {"less_direct": value} for i, value in enumerate(differences)}
        heads = {"linear": {"direct": {"less_direct": None}} | choices}
        return str(html.macros(dossier.TEMPLATE).verdict("nine-way", {"heads": heads}))

    assert "the paper's claim holds here" in told([0.1, 0.05, 0.2], [0.0, -0.1, 0.1])
    assert "the contrary does" in told([-0.1, -0.2, -0.05])
    assert "it depends" in told([0.1, 0.05, 0.2], [-0.1, -0.2, -0.05])
    assert "neither the paper's claim nor its contrary" in told([0.0, -0.1, 0.1])


# ------------------------------------------------------------------ evidence


@pytest.mark.parametrize("name", CHECKLISTS)
def test_every_item_of_a_checklist_is_answered_by_something_that_exists(
    name: str, page_of_whole: Page
) -> None:
    items = load_evidence(name)["item"]
    assert len(items) == {"clear_derm": 25, "tripod_ai": 52}[name]
    assert len({item["id"] for item in items}) == len(items)
    for item in items:
        assert ("undone" in item) != bool(item.get("where")), item["id"]
        for place in item.get("where", ()):
            found = place[1:] in page_of_whole.ids if place.startswith("#") else (CHECKOUT / place).is_file()
            assert found, f"{item['id']}: {place}"


def test_every_requirement_names_tests_that_exist() -> None:
    entries = load_evidence("requirements")["requirement"]
    assert len(entries) > 10
    assert [t for entry in entries for t in entry["tests"] if not (CHECKOUT / t).is_file()] == []


def test_outcomes_of_a_junit_file(tmp_path: Path) -> None:
    (tmp_path / "tests.xml").write_text(JUNIT, encoding="utf-8")
    outcomes = read_outcomes(tmp_path / "tests.xml")
    assert outcomes["tests/train/data/test_split.py"] == {"passed": 1, "failed": 1}
    assert outcomes["tests/train/evaluation/test_metrics.py"]["skipped"] == 1


def test_licences_of_what_is_installed() -> None:
    versions = dict(LOCKED.findall((CHECKOUT / "locks" / "dev.txt").read_text(encoding="utf-8")))
    assert len(versions) > 30
    assert set(LOCKS) == {"runtime", "dev"}
    assert "not installed" in licence_of("no-such-package", "1")
    assert "another version" in licence_of("Pillow", "0.1")
