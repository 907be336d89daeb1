"""A study of the last layer alone: which variants it takes, and that their switches act."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from train.features import Features, write_features
from train.head_study import main
from train.hierarchy import fold_numbers
from train.manifest import load_labels

pytestmark = pytest.mark.tf

WIDTH, RARE, COMMON = 12, 10, 80
STUDY = """
[base]
[base.data]
reader = "ham10000"
folder = "HAM10000"
labels = "ham10000"
[base.split]
folds = 2
[base.imbalance]
sampling_exponent = 0.0
[[base.stage]]
name = "network"
trains = "all"
epochs = 1
size_px = 32
learning_rate = 1e-3
[[variant]]
name = "as_they_are"
why = "the baseline"
[[variant]]
name = "balanced"
why = "rare classes as often as common ones"
set.imbalance = { sampling_exponent = -1.0 }
[[variant]]
name = "merged"
why = "two labels as one"
set.merge = [{ code = "akbcc", name = "Carcinoma or precursor", labels = ["akiec", "bcc"] }]
[[variant]]
name = "at_random"
why = "lesions on two sides"
set.split = { method = "random" }
[[variant]]
name = "mixed"
why = "not of the last layer"
set.augment = { mixup = 0.2 }
"""


def drawn_features() -> Features:
    """Two photos a lesion; classes overlap, so that the common one swallows the rare ones unless it is held back."""
    rng = np.random.default_rng(2)
    codes = load_labels("ham10000").codes
    labels = [code for code in codes for _ in range(COMMON if code == "nv" else RARE)]
    centers = rng.normal(size=(len(codes), WIDTH)) * 0.6
    values = np.array([centers[codes.index(label)] for label in labels]) + rng.normal(
        size=(len(labels), WIDTH)
    )
    return Features(
        tuple(f"p{i}" for i in range(len(labels))),
        tuple(labels),
        tuple(f"g{i // 2}" for i in range(len(labels))),
        values.astype(np.float32),
        {},
    )


def test_switches_of_the_last_layer_are_compared_and_others_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    write_features(tmp_path / "features.npz", drawn_features())
    workdir = tmp_path / "heads"
    status = main([str(tmp_path / "study.toml"), str(tmp_path / "features.npz"), "--workdir", str(workdir)])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert "left to train.study: mixed" in captured.err
    rows = {row["name"]: row for row in json.loads((workdir / "study.json").read_text())}
    assert list(rows) == ["as_they_are", "balanced", "merged", "at_random"]
    assert {row["photos"] for row in rows.values()} == {6 * RARE + COMMON}
    # Sampling trades plain accuracy for the rare classes.
    assert rows["balanced"]["difference"] > 0
    assert rows["balanced"]["accuracy"] < rows["as_they_are"]["accuracy"]
    assert (workdir / "merged" / "oof.csv").read_text().splitlines()[0].count("logit_") == 6


@pytest.mark.parametrize(("method", "leaks"), [("grouped", False), ("random", True)])
def test_only_a_random_split_divides_a_lesion(method: str, leaks: bool) -> None:
    features = drawn_features()
    numbers = fold_numbers(features, "ham10000", 2, 0, method=method)
    assert sorted(set(numbers)) == [0, 1]
    folds_of: dict[str, set[int]] = {}
    for group, number in zip(features.groups, numbers, strict=True):
        folds_of.setdefault(group, set()).add(int(number))
    assert any(len(folds) > 1 for folds in folds_of.values()) == leaks


def test_what_holds_no_features_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "features.npz").write_bytes(b"none")
    assert (
        main([str(tmp_path / "study.toml"), str(tmp_path / "features.npz"), "--workdir", str(tmp_path)]) == 2
    )
    assert "no features" in capsys.readouterr().err
