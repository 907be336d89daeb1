from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from convert.inputs import Run, read_run
from convert.quantization.soft_labels import FILE_NAME, read_soft_labels
from edge_runtime.errors import RunInvalid
from tests.convert.synthetic_run import TEMPERATURE

CODES = ("ash", "brick", "cyan")


def _distilled(folder: Path, rows: dict[str, tuple[float, ...]], *, prior_correction: float = 0.0) -> Run:
    config = json.loads((folder / "config.json").read_text())
    config |= {"distill": {"teacher": "teacher.csv"}, "decision": {"prior_correction": prior_correction}}
    (folder / "config.json").write_text(json.dumps(config))
    lines = [",".join(["photo_id", "label", *(f"p_{code}" for code in CODES)])]
    lines += [",".join([photo_id, "ash", *map(str, row)]) for photo_id, row in rows.items()]
    (folder / FILE_NAME).write_bytes(gzip.compress("\n".join(lines).encode()))
    return read_run(folder)


def _scores(folder: Path) -> dict[str, tuple[float, ...]]:
    photos = read_run(folder).split("train")
    return {p.photo_id: (0.5, 0.3, 0.2) if p.label else (0.7, 0.2, 0.1) for p in photos}


def test_a_run_without_a_teacher(run_without_model: Path) -> None:
    run = read_run(run_without_model)
    assert read_soft_labels(run, run.split("train"), np.ones(36) / 36) is None


def test_each_photo_gets_its_teachers_scores_at_the_models_temperature(run_without_model: Path) -> None:
    run = _distilled(run_without_model, dict(reversed(_scores(run_without_model).items())))
    train = run.split("train")
    soft = read_soft_labels(run, train, np.ones(36) / 36)
    assert soft is not None and soft.shape == (36, 3) and soft.dtype == np.float32
    for photo, row in zip(train, soft, strict=True):
        powers = np.array((0.5, 0.3, 0.2) if photo.label else (0.7, 0.2, 0.1)) ** (1 / TEMPERATURE)
        assert row == pytest.approx(powers / powers.sum(), abs=1e-6)


def test_the_prior_that_training_subtracted_is_subtracted(run_without_model: Path) -> None:
    run = _distilled(run_without_model, _scores(run_without_model), prior_correction=1.0)
    train = run.split("train")
    drawn = np.array([3.0 if photo.label == 0 else 1.0 for photo in train])
    soft = read_soft_labels(run, train, drawn / drawn.sum())
    assert soft is not None
    powers = (np.array((0.7, 0.2, 0.1)) / (3, 1, 1)) ** (1 / TEMPERATURE)
    assert train[0].label == 0 and soft[0] == pytest.approx(powers / powers.sum(), abs=1e-6)


def test_the_prior_of_the_first_data_set_is_subtracted_where_training_did_that(
    run_without_model: Path,
) -> None:
    """decision.prior_of = first: the share of phone photos in the prior was added back to adjusted logits."""
    run = _distilled(run_without_model, _scores(run_without_model))
    train = run.split("train")
    from_phones = [photo.label == 1 and i % 2 == 0 for i, photo in enumerate(train)]
    assert sum(from_phones) == 6
    photos = [
        dataclasses.replace(photo, source="phones" if phone else "drawn")
        for photo, phone in zip(train, from_phones, strict=True)
    ]
    decision = {"prior_correction": 0.5, "prior_of": "first"}
    joined = dataclasses.replace(
        run,
        run=run.run | {"data": {**run.run["data"], "name": "drawn+phones"}},
        config=run.config | {"decision": decision, "imbalance": {"logit_adjustment": 1.0}},
    )
    drawn = np.where(from_phones, 2.0, 1.0)
    soft = read_soft_labels(joined, photos, drawn / drawn.sum())
    assert soft is not None
    first, every = np.array([12, 6, 12]) / 30, np.array([12, 18, 12]) / 42
    powers = (np.array((0.7, 0.2, 0.1)) / (first / every * first**0.5)) ** (1 / TEMPERATURE)
    assert train[0].label == 0 and soft[0] == pytest.approx(powers / powers.sum(), abs=1e-6)
    mean_of_runs = dataclasses.replace(
        joined,
        run=joined.run | {"prior_of_runs": decision},
        config=joined.config | {"decision": {"prior_correction": 0.0, "prior_of": "all"}},
    )
    np.testing.assert_array_equal(soft, read_soft_labels(mean_of_runs, photos, drawn / drawn.sum()))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("one photo", "ash_001"),
        ("no file", "No such file"),
        ("other labels", "p_ash"),
        ("no probabilities", "sum 4"),
        ("below zero", "ash_000"),
        ("no numbers", "much"),
        ("not gzip", "gzip"),
    ],
)
def test_what_cannot_be_used_is_refused(run_without_model: Path, damage: str, found: str) -> None:
    scores = _scores(run_without_model)
    if damage == "one photo":
        scores = {"ash_000": (0.5, 0.3, 0.2)}
    elif damage == "below zero":
        scores["ash_000"] = (-0.5, 1.3, 0.2)
    run = _distilled(run_without_model, scores)
    path = run_without_model / FILE_NAME
    text = gzip.decompress(path.read_bytes())
    changed = {
        "other labels": text.replace(b"p_", b"q_"),
        "no probabilities": text.replace(b"0.", b"1."),
        "no numbers": text.replace(b"0.3", b"much"),
    }
    if damage == "no file":
        path.unlink()
    elif damage == "not gzip":
        path.write_bytes(text)
    elif damage in changed:
        path.write_bytes(gzip.compress(changed[damage]))
    with pytest.raises(RunInvalid) as caught:
        read_soft_labels(run, run.split("train"), np.ones(36) / 36)
    assert str(path) in caught.value.what and found in caught.value.found
