"""The page of the data: its counts are the manifest's, and it shows what the network sees."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.contract import InputSpec, ModelContract
from edge_runtime.images.preprocess import fit_pixels
from tests.train.finished_runs import (
    change_json,
    change_to_another_trade,
    write_config,
    write_crossval,
    write_run,
)
from tests.train.html_reader import Page
from tests.train.reports.conftest import PHOTOS
from train.artifacts import files
from train.artifacts.tables import read_rows
from train.reports import explore
from train.reports import html as page

METADATA = "HAM10000_metadata.csv"


@pytest.fixture(scope="module")
def rows(data: Path) -> list[dict[str, str]]:
    with (data / METADATA).open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert len(found) == PHOTOS
    return found


@pytest.fixture(scope="module")
def finished_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    write_run(run, data)
    return run


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(finished_run, tmp_path / "one"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "configs")


def whole(*arguments: object) -> Page:
    given = list(map(str, arguments))
    assert explore.main(given) == 0
    out = Path(given[given.index("--out") + 1]) if "--out" in given else Path(given[0]) / "data.html"
    read = Page.of(out)
    assert read.problems == []
    return read


def test_the_page_counts_what_is_there(
    config: Path, data: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    read = whole(config, "--data", data, "--out", tmp_path / "page.html")
    lesions = {row["lesion_id"] for row in rows}
    assert f"Photos {PHOTOS} of {len(lesions)} lesions" in read.text
    for code, photos in Counter(row["dx"] for row in rows).items():
        assert f"{code} {photos} ({100 * photos / PHOTOS:.1f} %)" in read.text
    for column, heading in (("dx_type", "Kind of diagnosis"), ("sex", "Sex"), ("localization", "Site")):
        section = read.text.split(f" {heading} ")[-1]
        for value, photos in Counter(row[column] for row in rows).items():
            assert f"{value.replace('_', ' ')} {photos} (" in section, value
    known = [float(row["age"]) for row in rows if row["age"]]
    assert 0 < len(known) < PHOTOS
    assert f"{len(known)} of {PHOTOS} photos with an age; median {np.median(known):g} years" in read.text
    sizes = Counter(Counter(row["lesion_id"] for row in rows).values())
    assert f"1 photo {sizes[1]} (" in read.text
    assert f"2 photos {sizes[2]} (" in read.text
    assert page.NOTICE in read.text
    assert "CC BY-NC 4.0" in read.text
    assert "no lesion occurs in two splits" in read.text


def test_data_of_another_trade_shows_no_lesions(run: Path) -> None:
    change_to_another_trade(run)
    read = whole(run, "--no-photos")
    assert not re.search("lesion|malignant", read.text, re.IGNORECASE)
    assert "no object occurs in two splits" in read.text


def test_a_cross_table_counts_pairs(
    config: Path, data: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    read = whole(config, "--data", data, "--out", tmp_path / "page.html")
    table = read.text.split("kind of diagnosis \\ class")[1].split(" Age ")[0]
    of_class = Counter(row["dx"] for row in rows if row["dx_type"] == "histo")
    total = sum(of_class.values())
    cells = [f"{n} {100 * n / total:.0f} %" for code in sorted(of_class) if (n := of_class[code])]
    assert f"histo ({total}) {' '.join(cells)}" in table


def test_a_run_tells_the_same_as_its_config(config: Path, run: Path, data: Path, tmp_path: Path) -> None:
    of_config = whole(config, "--data", data, "--out", tmp_path / "page.html")
    of_run = whole(run)
    assert of_config.text.replace("tiny.toml", "") == of_run.text.replace("run one", "")
    assert of_config.pictures == of_run.pictures
    assert len(of_run.pictures) > 20


def test_an_unfinished_run_and_a_cross_validation_will_do(run: Path, data: Path, tmp_path: Path) -> None:
    change_json(run / "run.json", status="training")
    (run / "predictions_test.csv").unlink()
    text = whole(run).text
    write_crossval(tmp_path / "cv", data, temperatures=(1.0,))
    assert whole(tmp_path / "cv").text.replace("fold0", "one") == text


def test_the_sample_sheet_shows_what_the_network_sees(run: Path, data: Path) -> None:
    read = whole(run)
    sheet = read.text.split("Sample sheet")[-1]
    shown = re.findall(r"PHANTOM_\d+", sheet)
    assert len(shown) == len(set(shown)) >= 7 * 6
    contract = ModelContract.from_json((run / "contract.json").read_bytes())
    size = page.THUMBNAIL_PX
    contract = dataclasses.replace(contract, input=InputSpec(size, size, "RGB", "over_white"))
    for photo_id, picture in list(zip(shown, read.pictures[-len(shown) :], strict=True))[::9]:
        (path,) = data.glob(f"*/{photo_id}.jpg")
        exact = np.frombuffer(fit_pixels(path.read_bytes(), contract), np.uint8).reshape(size, size, 3)
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))), float)
        # JPEG of quality 82 against exact pixels; another photo differs by tens.
        assert np.abs(seen - exact).mean() < 6


def test_near_duplicates_across_lesions_stand_side_by_side(config: Path, data: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(data, tmp_path / "copied"))
    table = copied / METADATA
    lines = table.read_text(encoding="utf-8").splitlines()
    lesion, photo, rest = lines[1].split(",", 2)
    table.write_text("\n".join([*lines, f"ANOTHER,COPY_1,{rest}"]) + "\n", encoding="utf-8")
    (path,) = copied.glob(f"*/{photo}.jpg")
    shutil.copyfile(path, path.with_name("COPY_1.jpg"))
    read = whole(config, "--data", copied, "--out", tmp_path / "page.html")
    section = read.text.split("Near-duplicates across lesions")[-1].split("Sample sheet")[0]
    assert re.search(rf"COPY_1 (\S+ )+{photo} 0 bits apart", section)
    without = whole(config, "--data", copied, "--no-photos", "--out", tmp_path / "page.html")
    assert f"COPY_1, {photo}" in without.text
    assert f"ANOTHER, {lesion}" in without.text
    assert without.pictures == []
    assert "Sample sheet" not in without.text


def test_known_pairs_come_first_then_the_most_alike(run: Path) -> None:
    rows = read_rows(run / "manifest.csv", ("photo_id", "phash"))
    apart = sorted(
        ((int(a["phash"], 16) ^ int(b["phash"], 16)).bit_count(), a["photo_id"], b["photo_id"])
        for a, b in itertools.combinations(rows[:40], 2)
    )
    close, closer, known = apart[100], apart[0], apart[-1]
    assert closer[0] < close[0] < known[0]
    content = json.loads((run / "split.json").read_text(encoding="utf-8"))
    content["phantom"]["near_duplicate_bits"] = close[0]
    content["phantom"]["near_duplicates_across_lesions"] = [pair[1:] for pair in (close, closer, known)]
    files.write_json(run / "split.json", content)
    text = whole(run, "--no-photos").text
    places = [text.index(", ".join(pair[1:])) for pair in (known, closer, close)]
    assert places == sorted(places)
    assert (
        f"2 whose perceptual hashes differ in at most {close[0]} of 64 bits, 1 that are further apart" in text
    )


def test_what_a_random_split_would_leak_is_told_by_class(run: Path) -> None:
    leak = {
        "method": "grouped",
        "random_leak": 0.386,
        "random_leak_of_class": {"mel": 0.683, "nv": 0.295},
        "leaked": 0,
        "near_duplicate_bits": 4,
        "near_duplicates_across_lesions": [],
        "merged_groups": 0,
        "sizes": {"train": {"mel": 1113, "nv": 6705}, "test": {"mel": 10, "nv": 20}},
        "group_sizes": {"train": 5000, "test": 25},
    }
    for content in ({"phantom": leak}, leak):
        files.write_json(run / "split.json", content)
        read = whole(run)
        assert "mel 68.3 % nv 29.5 %" in read.text
        assert "38.6 % of random test photos" in read.text
        assert "train 7,818 5,000" in read.text
    files.write_json(run / "split.json", {"phantom": {**leak, "method": "random", "leaked": 12}})
    assert "leaky by design): 12 test photos" in whole(run).text


def test_photos_that_moved_cost_thumbnails_only(run: Path, data: Path) -> None:
    change_json(run / "run.json", data={"name": "phantom", "root": str(run / "gone")})
    read = whole(run)
    assert read.pictures == []
    assert "not on this machine" in read.text
    assert whole(run, "--data", data).pictures


def test_data_that_says_nothing_but_labels(tmp_path: Path, data: Path, rows: list[dict[str, str]]) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    table = []
    for row in rows:
        (path,) = data.glob(f"*/{row['image_id']}.jpg")
        shutil.copyfile(path, folder / path.name)
        table.append({"photo_id": row["image_id"], "path": path.name, "label": row["dx"]})
    files.write_rows(folder / "manifest.csv", table)
    config = write_config(tmp_path / "configs")
    config.write_text(config.read_text().replace('reader = "ham10000"', 'reader = "csv"'), encoding="utf-8")
    read = whole(config, "--data", folder, "--out", tmp_path / "page.html")
    assert "No sex metadata" in read.text
    assert "No age metadata" in read.text
    assert f"Photos {PHOTOS} of {PHOTOS} lesions" in read.text


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no run": (lambda run: (run / "run.json").unlink(), "not a run directory"),
    "no manifest": (lambda run: (run / "manifest.csv").unlink(), "manifest.csv: no such file"),
    "no contract": (lambda run: (run / "contract.json").unlink(), "contract.json: cannot be read"),
    "no leak report": (lambda run: files.write_json(run / "split.json", {"a": {}}), "not a leak report"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_run_is_explained(kind: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = BROKEN[kind]
    damage(run)
    assert explore.main([str(run)]) == 2
    assert message in capsys.readouterr().err
    assert not (run / "data.html").exists()
    assert not list(run.glob(".*"))


def test_bad_commands_are_explained(
    config: Path, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "page.html")
    misspelt = tmp_path / "misspelt.toml"
    misspelt.write_text(config.read_text().replace("alpha", "alhpa"), encoding="utf-8")
    for arguments, message in (
        ([str(config), "--data", str(data)], "--out: "),
        ([str(tmp_path / "absent.toml"), "--out", out], "cannot be read"),
        ([str(misspelt), "--out", out], "did you mean model.alpha?"),
        ([str(config), "--out", out, "--data", str(tmp_path / "absent")], "data folder does not exist"),
        ([str(run), "--out", out, "--data", str(tmp_path / "absent")], "no such data folder"),
        (
            [str(config), "--out", str(tmp_path / "absent" / "page.html"), "--data", str(data)],
            "cannot write the page",
        ),
    ):
        assert explore.main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert message in captured.err
        assert captured.out == ""
    assert not Path(out).exists()
    with pytest.raises(SystemExit) as left:
        explore.main([])
    assert left.value.code == 2


def test_the_thumbnail_of_a_photo_that_is_none(run: Path, tmp_path: Path) -> None:
    contract = ModelContract.from_json((run / "contract.json").read_bytes())
    (tmp_path / "text.jpg").write_text("not a photo", encoding="utf-8")
    assert page.thumbnail(tmp_path / "text.jpg", contract) is None
    assert page.thumbnail(tmp_path / "absent.jpg", contract) is None
