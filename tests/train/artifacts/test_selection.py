"""Selection marks: their sentence, and that every committed figure says what was chosen on its photos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from train.artifacts.files import write_json
from train.artifacts.selection import KEY, OLD_VALIDATION, choices_on, mark


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ([], ""),
        (["the recipe"], "Selection set: the recipe was chosen on these photos."),
        (["a", "b"], "Selection set: a and b were chosen on these photos."),
        (["a", "b", "c"], "Selection set: a, b and c were chosen on these photos."),
    ],
)
def test_a_mark_names_every_choice(choices: list[str], said: str) -> None:
    assert mark(choices) == said


def test_a_run_older_than_the_mark_has_one_on_its_validation_photos(tmp_path: Path) -> None:
    assert choices_on(tmp_path, "val") == OLD_VALIDATION
    assert choices_on(tmp_path, "test") == choices_on(tmp_path) == ()
    write_json(tmp_path / "metrics.json", {KEY: ["the recipe"], "val": {KEY: []}})
    assert choices_on(tmp_path, "val") == ()
    assert choices_on(tmp_path) == ("the recipe",)


def test_every_record_says_what_was_chosen_on_its_photos(repository: Path) -> None:
    records = sorted((repository / "train/records").glob("*/metrics*.json"))
    assert len(records) >= 11
    for path in records:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        measured = [metrics] if "photos" in metrics else [metrics[s] for s in ("val", "test") if s in metrics]
        assert measured, path
        for figures in measured:
            assert KEY in figures, path
    published = json.loads((repository / "train/records/published_figures.json").read_text(encoding="utf-8"))
    assert {name: bool(block[KEY]) for name, block in published.items()} == {
        "sealed": False, "histology": True, "all_out_of_fold": True, "official_validation": True, "paired": True,
        "near_duplicates": False,
    }  # fmt: skip


def test_the_bundled_card_names_the_selection_sets_of_the_file(repository: Path) -> None:
    from convert.files import selection_marks, selection_sets

    (path,) = (repository / "edge_runtime/models").glob("*.json")
    sets = selection_sets(json.loads(path.read_text(encoding="utf-8")))
    counts = [entry.get("photos", len(entry["photo_ids"])) for entry in sets]
    assert counts == [9790, 617, 193, 120, 500]
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for entry, count in zip(sets, counts, strict=True):
        assert f"| {entry['set']} | {count} | {', '.join(entry['chosen'])} |" in card
    model, official = path.with_suffix(".tflite"), [(name,) for name in sets[2]["photo_ids"]]
    assert selection_marks(model, official) == [mark(["the file to bundle"], "193 of these 193 photos")]
    assert selection_marks(model, [("never seen",)]) == []
