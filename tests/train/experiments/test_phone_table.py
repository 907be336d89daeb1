"""The table of phone photos: labels of another set, patients as groups, skin types, and nothing that a run has seen."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.train.generated_sets import draw_data_root
from train.experiments.phone_table import main


@pytest.fixture(scope="module")
def phones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data_root(tmp_path_factory.mktemp("data"), photos=60) / "PAD-UFES-20"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_photos_get_labels_patients_and_skin_types(phones: Path, tmp_path: Path) -> None:
    table = phones / "metadata.csv"
    given = rows_of(table)
    for i, row in enumerate(given):
        row["fitspatrick"] = ["", "2.0", "5.0"][i % 3]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(given[0]))
        writer.writeheader()
        writer.writerows(given)
    out = tmp_path / "phones.csv"
    assert main([str(phones), "--out", str(out)]) == 0
    found = rows_of(out)
    assert list(found[0]) == ["photo_id", "path", "label", "group_id", "fitzpatrick"]
    assert len(found) == len(given) > 20
    by_id = {row["photo_id"]: row for row in found}
    for row in given:
        one = by_id[row["img_id"].rpartition(".")[0]]
        assert (one["group_id"], one["fitzpatrick"]) == (row["patient_id"], row["fitspatrick"][:1])
        assert (phones / one["path"]).is_file()
    assert {row["label"] for row in found} == {"akiec", "bcc", "bkl", "mel", "nv"}


def test_what_a_run_has_seen_is_left_out(
    phones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "phones.csv", tmp_path / "run"
    assert main([str(phones), "--out", str(out)]) == 0
    ids = [row["photo_id"] for row in rows_of(out)]
    run.mkdir()

    def write_split(parts: list[str]) -> None:
        lines = [f"{name},{parts[i % len(parts)]}" for i, name in enumerate(ids)]
        (run / "manifest.csv").write_text("\n".join(["photo_id,split", *lines]) + "\n")

    write_split(["train", "test", "val"])
    assert main([str(phones), "--unseen-by", str(run), "--out", str(out)]) == 0
    assert [row["photo_id"] for row in rows_of(out)] == ids[1::3]
    write_split(["train"])
    assert main([str(phones), "--unseen-by", str(run), "--out", str(tmp_path / "none.csv")]) == 2
    assert "have seen all" in capsys.readouterr().err
    assert not (tmp_path / "none.csv").exists()
    assert main([str(tmp_path), "--out", str(out)]) == 2
