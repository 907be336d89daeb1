"""`dermedge init`: its files load, train, and serve the commands that take a table of photos."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest

from edge_runtime.errors import DataInvalid, UsageError
from tests.train.generated_sets import draw_data_root
from train.artifacts.labels import load_labels
from train.configs.loading import load_config
from train.data.init import FILES, main, write_project
from train.data.sources import find_data, read_sources, split_sources


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data_root(tmp_path_factory.mktemp("data"), photos=60)


@pytest.fixture
def photos(drawn: Path, tmp_path: Path) -> Path:
    """A folder per class, one of them with a name that TOML must escape."""
    folder = tmp_path / "photos"
    with (drawn / "HAM10000" / "HAM10000_metadata.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            code = {"nv": 'n"v', "bkl": "b\\k"}.get(row["dx"], row["dx"])
            (folder / code).mkdir(parents=True, exist_ok=True)
            shutil.copy(next((drawn / "HAM10000").rglob(f"{row['image_id']}.jpg")), folder / code)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_of_photos(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "project"
    assert main(["--data", str(photos), "--out", str(out)]) == 0
    assert f"dermedge train {out / 'config.toml'} --data {photos}" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    config = load_config(out / "config.toml")
    assert (config.data.reader, config.data.folder, config.name) == ("folders", "photos", "photos")
    labels = load_labels(config.data.labels)
    assert labels.codes == ("akiec", "b\\k", "bcc", "df", "mel", 'n"v', "vasc")
    rows = rows_of(out / "manifest.csv")
    assert len(rows) == 60
    assert all((photos / row["path"]).is_file() and row["label"] in labels.codes for row in rows)


def test_its_config_splits_the_photos(photos: Path, tmp_path: Path) -> None:
    write_project(photos, tmp_path / "project")
    config = load_config(tmp_path / "project" / "config.toml")
    config = dataclasses.replace(config, split=dataclasses.replace(config.split, folds=3, val_share=0.2))
    data = split_sources(config, read_sources(config, find_data(config, photos)))
    assert {part: len(data.ids(part)) > 7 for part in ("train", "val", "test")} == dict.fromkeys(
        ("train", "val", "test"), True
    )


def test_phone_photos_get_labels_patients_and_skin_types(drawn: Path, tmp_path: Path) -> None:
    phones = tmp_path / "PAD-UFES-20"
    shutil.copytree(drawn / "PAD-UFES-20", phones)
    table = phones / "metadata.csv"
    given = rows_of(table)
    for i, row in enumerate(given):
        row["fitspatrick"] = ["", "2.0", "5.0"][i % 3]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(given[0]))
        writer.writeheader()
        writer.writerows(given)
    out = tmp_path / "project"
    assert main(["--data", str(phones), "--reader", "pad_ufes_20", "--out", str(out)]) == 0
    found = {row["photo_id"]: row for row in rows_of(out / "manifest.csv")}
    assert len(found) == len(given) > 20
    for row in given:
        one = found[row["img_id"].rpartition(".")[0]]
        assert (one["group_id"], one["fitzpatrick"]) == (row["patient_id"], row["fitspatrick"][:1])
        assert (one["sex"], one["site"]) == ("male", "arm")
        assert (phones / one["path"]).is_file()
    assert {row["label"] for row in found.values()} == {"akiec", "bcc", "bkl", "mel", "nv"}
    assert load_labels(load_config(out / "config.toml").data.labels) == load_labels("ham10000")


def test_training_photos_of_a_run_are_left_out(drawn: Path, tmp_path: Path) -> None:
    data, run = drawn / "HAM10000", tmp_path / "run"
    assert write_project(data, tmp_path / "all", "ham10000") == 60
    ids = [row["photo_id"] for row in rows_of(tmp_path / "all" / "manifest.csv")]
    run.mkdir()
    lines = [f"{name},{('train', 'test', 'val')[i % 3]}" for i, name in enumerate(ids)]
    (run / "manifest.csv").write_text("\n".join(["photo_id,split", *lines]) + "\n")
    assert write_project(data, tmp_path / "some", "ham10000", [run]) == 20
    assert [row["photo_id"] for row in rows_of(tmp_path / "some" / "manifest.csv")] == ids[1::3]
    (run / "manifest.csv").write_text("\n".join(["photo_id,split", *(f"{i},train" for i in ids)]) + "\n")
    with pytest.raises(DataInvalid) as caught:
        write_project(data, tmp_path / "none", "ham10000", [run])
    assert caught.value.where == str(data)
    assert list((tmp_path / "none").iterdir()) == []


def test_nothing_is_overwritten_and_no_class_is_made_up(photos: Path, tmp_path: Path) -> None:
    (photos / "manifest.csv").write_text("photo_id,path,label\n")
    with pytest.raises(UsageError):
        write_project(photos, photos)
    assert (photos / "manifest.csv").read_text() == "photo_id,path,label\n"
    for data in (photos, tmp_path / "absent"):
        with pytest.raises(DataInvalid):
            write_project(data, tmp_path / "project")
    assert not (tmp_path / "project").exists()


@pytest.mark.tf
@pytest.mark.long
def test_its_config_trains(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written but for the sizes, which real photos need."""
    from train.training.run import run_experiment

    write_project(photos, tmp_path / "project")
    path = tmp_path / "project" / "config.toml"
    config = load_config(path)
    stages = tuple(dataclasses.replace(stage, size_px=32, batch=8, epochs=1) for stage in config.stage[:1])
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, alpha=0.35, weights="none"),
        input=dataclasses.replace(config.input, size_px=32),
        split=dataclasses.replace(config.split, folds=3, val_share=0.2),
        stage=stages,
    )
    metrics = run_experiment(path, tmp_path / "run", photos, config=config)
    assert metrics["test"]["photos"] > 7
