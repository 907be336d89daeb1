"""Finished runs and cross-validations without training: real photos, split and contract, answers drawn at random."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.contract import Calibration, Decision, Rule
from train.artifacts import files
from train.artifacts.manifest import write_manifest
from train.configs.contract import make_contract
from train.configs.loading import load_config
from train.data.sources import DataSet, merged_labels, read_sources, split_sources
from train.evaluation.metrics import softmax

FOLDS = 4
SECOND_SOURCE = "clinic"
CONFIG = """
name = "tiny"
seed = 3
[data]
reader = "ham10000"
folder = "phantom"
labels = "ham10000"
[split]
folds = 4
val_share = 0.2
method = "{method}"
[input]
size_px = 32
[model]
alpha = 0.35
weights = "none"
[[stage]]
name = "head"
trains = "head"
epochs = 1
size_px = 32
learning_rate = 1e-2
[[stage]]
name = "network"
trains = "all"
epochs = 3
size_px = 32
learning_rate = 1e-3
"""
SECOND = f"""
[[source]]
reader = "ham10000"
folder = "{SECOND_SOURCE}"
"""


def write_config(folder: Path, *, method: str = "grouped", several: bool = False) -> Path:
    """A config whose data are the phantom's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.toml"
    path.write_text(CONFIG.format(method=method) + (SECOND if several else ""), encoding="utf-8")
    return path


def write_run(
    run: Path,
    data: Path,
    *,
    fold: int = 0,
    skill: float = 2.0,
    temperature: float = 1.0,
    decision: Decision = Decision(None, None),  # noqa: B008 (frozen)
    method: str = "grouped",
    several: bool = False,
    seed: int = 0,
) -> DataSet:
    """Writes a run directory as training does, but for the network.

    Args:
        run: The folder to make.
        data: The first data set's folder.
        fold: Which one is test.
        skill: How far the logits lean towards the truth.
        temperature: Of the contract.
        decision: Of the contract.
        method: `grouped` or `random`.
        several: With a second data set beside the first.
        seed: Of the answers.
    """
    config_path = write_config(run, method=method, several=several)
    config = load_config(config_path)
    config = dataclasses.replace(config, split=dataclasses.replace(config.split, test_fold=fold))
    found = split_sources(config, read_sources(config, data))
    labels = merged_labels(config)
    state: dict[str, Any] = {
        "run_id": f"tiny-{fold}",
        "status": "done",
        "started": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789ab",
    }
    contract = dataclasses.replace(
        make_contract(config, labels, found.manifest, state),
        calibration=Calibration("temperature", temperature),
        decision=decision,
    )
    state["data"] = {
        "name": found.manifest.name,
        "root": str(found.manifest.root),
        "licence": labels.licence,
    }
    files.write_json(run / "run.json", state)
    files.write_json(run / "config.json", config.to_dict())
    files.write_json(
        run / "split.json", {name: dataclasses.asdict(leak) for name, leak in found.leaks.items()}
    )
    files.write_text(run / "contract.json", contract.to_json())
    write_manifest(run / "manifest.csv", found.manifest, found.assignment, found.group_of)
    files.write_rows(run / "history.csv", [_epoch(i) for i in range(4)])
    rng = np.random.default_rng([seed, fold])
    label_of = {photo.photo_id: photo.label for photo in found.manifest.photos}
    for part in ("val", "test"):
        rows = []
        for photo_id in found.ids(part):
            lean = skill * np.eye(len(labels.codes))[labels.index(label_of[photo_id])]
            probs = softmax((rng.normal(size=len(labels.codes)) + lean)[None])[0]
            scores = {f"p_{code}": f"{p:.6g}" for code, p in zip(labels.codes, probs, strict=True)}
            rows.append({"photo_id": photo_id, "label": label_of[photo_id], **scores})
        files.write_rows(run / f"predictions_{part}.csv", rows)
    return found


def _epoch(i: int) -> dict[str, Any]:
    return {
        "stage": int(i > 0),
        "epoch": i,
        "name": "network" if i else "head",
        "size_px": 32,
        "learning_rate": 1e-3,
        "train_loss": 2.0 / (i + 1),
        "train_balanced_accuracy": 0.3 + 0.1 * i,
        "val_loss": 2.2 / (i + 1),
        "val_balanced_accuracy": 0.25 + 0.1 * i,
        "val_accuracy": 0.5,
    }


def write_crossval(folder: Path, data: Path, *, temperatures: tuple[float, ...], **options: Any) -> None:
    """Writes as many folds as there are temperatures, and their out-of-fold answers as train/training/crossval.py does."""  # noqa: E501
    rows: list[dict[str, Any]] = []
    for fold, temperature in enumerate(temperatures):
        run = folder / f"fold{fold}"
        found = write_run(run, data, fold=fold, temperature=temperature, **options)
        with (run / "predictions_test.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                codes = [key.removeprefix("p_") for key in row if key.startswith("p_")]
                logits = {f"logit_{c}": f"{np.log(float(row[f'p_{c}'])) / temperature:.5g}" for c in codes}
                told = {
                    "photo_id": row["photo_id"],
                    "source": found.source_of[row["photo_id"]],
                    "fold": fold,
                    "label": row["label"],
                    "group_id": found.group_of[row["photo_id"]],
                }
                rows.append(told | logits)
    files.write_rows(folder / "oof.csv", rows)


def change_json(path: Path, **values: Any) -> None:
    """Replaces top-level values of a JSON file; None removes one."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content.update(values)
    files.write_json(path, {key: value for key, value in content.items() if value is not None})


def change_to_another_trade(run: Path) -> None:
    """Makes the labels and texts of a run's contract those of tiles; the photos stay."""
    contract = json.loads((run / "contract.json").read_text(encoding="utf-8"))
    tiles = [label | {"name": label["code"], "group": "tile"} for label in contract["labels"]]
    provenance = contract["provenance"] | {"data_licence": "CC0-1.0", "model_licence": "CC0-1.0"}
    texts = {"intended_use": "Sorting tiles.", "provenance": provenance}
    change_json(run / "contract.json", labels=tiles, **texts)


def rule(threshold: float) -> Rule:
    """Fires below a top score."""
    return Rule("top_score", threshold, "a test")
