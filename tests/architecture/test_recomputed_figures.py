"""The values of train/records/published_figures.json follow from records, photos and the bundled file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from edge_runtime import Classifier
from train.configs.schema import SplitConfig
from train.data.near_duplicates import near_duplicate_pairs, phash
from train.data.readers import _decoded_hash
from train.evaluation.metrics import (
    GroupDraws,
    area_under_roc,
    balanced_accuracy,
    percentile_interval,
    recall_per_class,
    softmax,
)

pytestmark = pytest.mark.real_data
RECORDS = Path(__file__).parents[2] / "train/records"
PUBLISHED: dict[str, Any] = json.loads((RECORDS / "published_figures.json").read_bytes())
FOLDS = "ham10000_lite0_crossval"
# Digits in which a figure is published.
DIGITS = 3


@pytest.fixture(scope="module")
def photos(data_root: Path) -> pd.DataFrame:
    """The photos of HAM10000 by id."""
    return pd.read_csv(data_root / "HAM10000" / "HAM10000_metadata.csv").set_index("image_id")


def out_of_fold(record: str) -> pd.DataFrame:
    table = pd.read_csv(RECORDS / record / "oof.csv.gz").set_index("photo_id").sort_index()
    return table[table["source"] == "HAM10000"]


def probs_of(table: pd.DataFrame) -> np.ndarray:
    return softmax(table.filter(like="logit_").to_numpy(float))


@pytest.mark.parametrize("key", ["histology", "all_out_of_fold"])
def test_photos_out_of_fold(key: str, photos: pd.DataFrame) -> None:
    said, codes = PUBLISHED[key], sorted(photos["dx"].unique())
    table = out_of_fold(said["record"]).join(photos)
    others = table[table["dx_type"] != "histo"]
    table = table[table["dx_type"] == "histo"] if key == "histology" else table
    malignant = np.array([code in ("akiec", "bcc", "mel") for code in codes])
    y_true, probs = table["dx"].map(codes.index).to_numpy(), probs_of(table)
    y_pred, lesions = probs.argmax(1), table["group_id"].tolist()
    interval = percentile_interval(GroupDraws.draw(lesions).balanced_accuracy(y_true, y_pred, len(codes)))
    estimate = [balanced_accuracy(y_true, y_pred, len(codes)), *interval]
    assert [len(table), len(set(lesions))] == [said["photos"], said["lesions"]]
    assert [round(value, DIGITS) for value in estimate] == said["balanced_accuracy"]
    if key == "histology":
        auc = area_under_roc(malignant[y_true], probs[:, malignant].sum(1))
        assert auc is not None
        assert round(auc, DIGITS) == said["malignant_auc"]
        nevus = recall_per_class(y_true, y_pred, len(codes))[codes.index("nv")]
        assert round(float(nevus), 2) == said["nevus_recall"]
        nevi = others[others["dx"] == "nv"]
        found = (probs_of(nevi).argmax(1) == codes.index("nv")).mean()
        assert round(float(found), 2) == said["nevus_recall_other_photos"]


@pytest.mark.parametrize("key", [key for key, said in PUBLISHED["paired"].items() if "record" in said])
def test_paired_effects(key: str, photos: pd.DataFrame) -> None:
    said, codes = PUBLISHED["paired"][key], sorted(photos["dx"].unique())
    first, second = out_of_fold(said["record"]), out_of_fold(said["less"])
    both = first.index.intersection(second.index)
    probs, others = probs_of(first.loc[both]), probs_of(second.loc[both])
    if "and" in said:
        probs = (probs + probs_of(out_of_fold(said["and"]).loc[both])) / 2
    y_true = photos["dx"][both].map(codes.index).to_numpy()
    draws = GroupDraws.draw(second.loc[both, "group_id"].tolist())
    values, drawn = [], []
    for scores in (probs, others):
        values.append(balanced_accuracy(y_true, scores.argmax(1), len(codes)))
        drawn.append(np.asarray(draws.balanced_accuracy(y_true, scores.argmax(1), len(codes))))
    effect = [values[0] - values[1], *percentile_interval(drawn[0] - drawn[1])]
    assert effect == pytest.approx(said["effect"], abs=0.6 * 10**-DIGITS)
    assert round(values[0], DIGITS) == said.get("balanced_accuracy", round(values[0], DIGITS))


def test_the_selection_set(data_root: Path) -> None:
    said, folder = PUBLISHED["official_validation"], data_root / "ISIC2018_Task3_Validation"
    table = pd.read_csv(folder / "labels.csv").set_index("image_id")
    with Classifier() as classifier:
        found = {path.stem: classifier.classify(str(path)).label for path in folder.rglob("*.jpg")}
    right = table["dx"] == pd.Series(found)[table.index]
    recall = right.groupby(table["dx"]).mean()
    sizes = table["dx"].value_counts()
    assert sizes.sort_index().to_dict() == said["photos_per_class"]
    assert table.groupby("dx")["lesion_id"].nunique().to_dict() == said["lesions_per_class"]
    assert [len(table), round(recall.mean(), DIGITS)] == [said["photos"], said["balanced_accuracy"]]
    large = recall[sizes[recall.index] >= 8]
    assert [len(large), round(large.mean(), DIGITS)] == [
        5,
        said["balanced_accuracy_of_classes_with_8_photos"],
    ]


@pytest.mark.slow
def test_near_duplicates_by_decoding(data_root: Path, photos: pd.DataFrame) -> None:
    said, folder = PUBLISHED["near_duplicates"], data_root / "HAM10000"
    paths = sorted(folder.glob("*/*.jpg"), key=lambda path: path.stem)
    fold = out_of_fold(FOLDS)["fold"]
    pairs = {}
    for decoding, hash_of in (("hash_decoding", _decoded_hash), ("full_size", _full_size_hash)):
        places = near_duplicate_pairs([hash_of(path) for path in paths], SplitConfig().near_duplicate_bits)
        pairs[decoding] = {(paths[i].stem, paths[j].stem) for i, j in places}
        across = [pair for pair in pairs[decoding] if fold[pair[0]] != fold[pair[1]]]
        assert len(pairs[decoding]) == said[decoding]["pairs"]
        assert len(across) == said[decoding]["across_folds"]
    assert len(pairs["hash_decoding"] & pairs["full_size"]) == said["in_both"]
    suspects = Counter(photo for pair in across for photo in pair)
    assert len(suspects) == said["full_size"]["photos_across_folds"]
    codes = sorted(photos["dx"].unique())
    for record in (FOLDS, "ham10000_lite0_settled", "ham10000_lite0_gpu"):
        table = out_of_fold(record)
        y_true, y_pred = photos["dx"][table.index].map(codes.index).to_numpy(), probs_of(table).argmax(1)
        kept = ~table.index.isin(list(suspects))
        change = balanced_accuracy(y_true, y_pred, 7) - balanced_accuracy(y_true[kept], y_pred[kept], 7)
        assert abs(change) < said["largest_change_without_them"]


def _full_size_hash(path: Path) -> int:
    with Image.open(path) as image:
        return phash(ImageOps.exif_transpose(image))
