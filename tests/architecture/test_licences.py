"""Every data set that a shipped config or the bundled model used is named: authors, title, DOI, licence, changes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from edge_runtime.model.model_file import bundled_model_path, open_model
from train.artifacts.labels import LABELS_DIR, load_labels
from train.configs.loading import load_config
from train.configs.schema import OutliersConfig, SourceConfig, TrainConfig
from train.data.sources import merged_labels

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "train/records/ham10000_lite0_bundled/config.toml"
CONFIGS = [*ROOT.glob("train/configs/*.toml"), *ROOT.glob("train/records/*/config.toml")]
# NAME: AUTHORS, "TITLE", WHERE, doi:..., LICENCE, changes were made: WHICH
ENTRY = re.compile(
    r'[^:"]+: [^"]*\b[A-Z]\. [^"]+, "[^"]+", .*doi:10\.\d+/.+(?:CC BY|Apache-2)\b.*, changes were made: .+'
)
DOI = re.compile(r"doi:10\.\d+/[^\s,;)]+")
TITLE = re.compile(r'"[^"]+"')


def entries(licence: str) -> list[str]:
    return licence.split("; ")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_dataset_of_a_config_has_an_entry(path: Path) -> None:
    config = load_config(path)
    if not (LABELS_DIR / f"{config.data.labels}.toml").is_file():
        pytest.skip("generated pictures: their label set is made with them")
    for entry in entries(merged_labels(config).licence):
        assert ENTRY.fullmatch(entry), entry


def test_what_has_no_entry_is_named() -> None:
    config = dataclasses.replace(
        load_config(BUNDLED),
        source=(SourceConfig(reader="folders", folder="ours"),),
        outliers=OutliersConfig(folder="rooms"),
    )
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, weights="x/own.h5"))
    _, *others = entries(merged_labels(config).licence.removeprefix(load_labels("ham10000").licence))
    assert others == [f"{name}: licence not stated" for name in ("ours", "rooms", "weights of own.h5")]


def test_the_bundled_file_names_all_that_it_was_trained_on() -> None:
    config: TrainConfig = load_config(BUNDLED)
    labels, provenance = merged_labels(config), open_model().contract.provenance
    assert provenance.data_licence == labels.licence
    assert provenance.model_licence == labels.model_licence
    beside = (bundled_model_path().parent / "LICENSE.md").read_text(encoding="utf-8")
    names = [entry.split(":")[0].split(" (")[0] for entry in entries(labels.licence)]
    assert names == ["HAM10000", "ISIC 2018", "PAD-UFES-20", "Caltech 101", "ImageNet weights"]
    found = [*names, *DOI.findall(labels.licence), *TITLE.findall(labels.licence)]
    assert [text for text in found if text not in beside] == []
