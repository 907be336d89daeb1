from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convert.inputs import Sampling, read_photo_list, read_run, require_float_contract
from edge_runtime.errors import ContractInvalid, ContractTooNew, EdgeError, RunInvalid, UsageError
from tests.convert.synthetic_run import write_manifest
from train.artifacts.run import DATA_VARIABLE


def _change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "manifest.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_reads_a_run(run_without_model: Path) -> None:
    run = read_run(run_without_model)
    assert len(run.photos) == 60
    assert {name: len(run.split(name)) for name in ("train", "val", "test")} == {
        "train": 36,
        "val": 12,
        "test": 12,
    }
    assert run.sampling == Sampling(-0.5, 0.0, 0.0, {})
    assert run.sources == ("drawn",) and run.photos[0].source == "drawn"
    assert run.photos[0].group_id == "ash_lesion_000"
    assert all(photo.path.is_absolute() for photo in run.photos)


def test_not_a_run_directory(tmp_path: Path) -> None:
    for folder, found in ((tmp_path / "absent", "nothing"), (tmp_path, "no run.json, no contract.json")):
        with pytest.raises(RunInvalid) as caught:
            read_run(folder)
        assert str(folder) in caught.value.what and found in caught.value.found


def test_unfinished_training(run_without_model: Path) -> None:
    _change_json(run_without_model / "run.json", lambda run: run.update(status="training"))
    with pytest.raises(RunInvalid) as caught:
        read_run(run_without_model)
    assert "training" in caught.value.found


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("run.json", "{", RunInvalid),
        ("run.json", "[]", RunInvalid),
        ("run.json", '{"status": "done"}', RunInvalid),
        ("contract.json", "{", ContractInvalid),
        ("contract.json", '{"schema_version": 99}', ContractTooNew),
        ("manifest.csv", "photo_id,path\n", RunInvalid),
        ("manifest.csv", "photo_id,path,label,group_id,split\nk\xe4se,a.jpg,ash,g,train\n", RunInvalid),
        ("manifest.csv", "photo_id,label,split,group_id,path\na,ash,train\n", RunInvalid),
        ("manifest.csv", "photo_id,path,label,group_id,split\n", RunInvalid),
    ],
)
def test_broken_files(run_without_model: Path, name: str, text: str, error: type[EdgeError]) -> None:
    (run_without_model / name).write_text(text, encoding="latin-1")
    with pytest.raises(error) as caught:
        read_run(run_without_model)
    assert str(run_without_model) in caught.value.message


def test_all_bad_rows_are_counted_and_some_named(run_without_model: Path) -> None:
    rows = _rows(run_without_model)
    for row in rows[:7]:
        row["label"] = "unheard"
    rows[7]["split"] = "holdout"
    write_manifest(run_without_model, rows)
    with pytest.raises(RunInvalid) as caught:
        read_run(run_without_model)
    assert "8 problems" in caught.value.what
    assert "line 2: label 'unheard'" in caught.value.found
    assert "and 3 more" in caught.value.found


def test_missing_photos_are_counted_and_named(run_without_model: Path) -> None:
    for name in ("ash_000.jpg", "cyan_001.jpg"):
        (run_without_model.parent / "data" / name).unlink()
    with pytest.raises(RunInvalid) as caught:
        read_run(run_without_model)
    assert "2 of the run's 60 photos" in caught.value.what
    assert caught.value.found == "ash_000.jpg; cyan_001.jpg"


def test_photos_are_found_elsewhere(
    run_without_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "drawn"
    moved.parent.mkdir()
    (run_without_model.parent / "data").rename(moved)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(RunInvalid) as caught:
        read_run(run_without_model)
    assert "--data" in caught.value.fix
    assert read_run(run_without_model, moved).photos[0].path == moved / "ash_000.jpg"
    monkeypatch.setenv(DATA_VARIABLE, str(moved.parent))
    assert read_run(run_without_model).photos[0].path == moved / "ash_000.jpg"


@pytest.mark.parametrize("option", ["--photos", "--data", "--shift-photos"])
def test_the_option_that_names_the_photos_is_that_of_the_command(
    run_without_model: Path, tmp_path: Path, option: str
) -> None:
    codes = [label.code for label in read_run(run_without_model).contract.labels]
    table = tmp_path / "photos.csv"
    table.write_text("path,label\n")
    nowhere = tmp_path / "nowhere"
    with pytest.raises(RunInvalid) as of_run:
        read_photo_list(run_without_model, codes, root=nowhere, option=option)
    assert f"{option} DIR" in of_run.value.fix
    with pytest.raises(UsageError) as of_table:
        read_photo_list(table, codes, root=nowhere, option=option)
    assert of_table.value.what.startswith(f"{option}:")


def test_given_data_folder_is_not_replaced_by_another(run_without_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunInvalid) as caught:
        read_run(run_without_model, tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in caught.value.found


def test_a_run_on_two_data_sets(run_without_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths start with the data set's folder, and the root is what holds both."""
    run, parent = run_without_model, run_without_model.parent
    (parent / "phone").mkdir()
    rows = _rows(run)
    for row in rows:
        folder = "phone" if row["label"] == "cyan" else "data"
        if folder == "phone":
            (parent / "data" / row["path"]).rename(parent / "phone" / row["path"])
        row["path"] = f"{folder}/{row['path']}"
    write_manifest(run, rows)
    _change_json(run / "run.json", lambda x: x["data"].update(name="data+phone", root=str(parent)))
    sources = [{"reader": "csv", "folder": "phone", "draw": 2.0}]
    _change_json(run / "config.json", lambda x: x.update(source=sources))
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    found = read_run(run)
    assert found.sources == ("data", "phone")
    assert {p.source for p in found.photos} == {"data", "phone"}
    assert all((p.source == "phone") == (p.label == 2) for p in found.photos)
    assert found.sampling.source_draw == {"phone": 2.0}
    _change_json(run / "run.json", lambda x: x["data"].update(root=str(parent / "moved")))
    assert read_run(run, parent / "data").photos == found.photos
    monkeypatch.setenv(DATA_VARIABLE, str(parent))
    assert read_run(run).photos == found.photos


def test_a_run_that_training_marked_is_refused(run_without_model: Path) -> None:
    _change_json(run_without_model / "run.json", lambda x: x.update(not_for_conversion="it leaks"))
    with pytest.raises(RunInvalid) as caught:
        read_run(run_without_model)
    assert caught.value.found == "it leaks"


def test_a_converted_contract_is_named_where_it_lies(run_without_model: Path, tmp_path: Path) -> None:
    import dataclasses

    run = read_run(run_without_model)
    provenance = dataclasses.replace(run.contract.provenance, recipe="float32")
    converted = dataclasses.replace(run, contract=dataclasses.replace(run.contract, provenance=provenance))
    with pytest.raises(RunInvalid) as caught:
        require_float_contract(converted)
    assert str(run.folder / "contract.json") in caught.value.what and "'float32'" in caught.value.found
    foreign = dataclasses.replace(converted, contract_path=tmp_path / "mine.json", foreign=True)
    with pytest.raises(RunInvalid) as caught:
        require_float_contract(foreign)
    assert str(tmp_path / "mine.json") in caught.value.what and "train again" not in caught.value.fix
