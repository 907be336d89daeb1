"""Makes a run directory as training leaves it, from drawn photos and a tiny network, in seconds."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime import contract as c

LABELS = (
    c.Label("ash", "Ash grey", "benign"),
    c.Label("brick", "Brick red", "malignant"),
    c.Label("cyan", "Cyan blue", "benign"),
)
SIZE_PX = 48
# Of a contract without a network; `make_run` fits its own.
TEMPERATURE = 1.5
# Every fifth lesion validates, every fifth tests.
SPLITS = ("train", "train", "train", "val", "test")


def draw_photo(label: int, seed: int, width_px: int = 72, height_px: int = 60) -> Image.Image:
    """A noisy ground with a blob in the class's colour; the noise makes some photos hard."""
    rng = np.random.default_rng([label, seed])
    y, x = np.mgrid[0:height_px, 0:width_px]
    center = rng.uniform(0.3, 0.7, 2) * (height_px, width_px)
    blob = np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * rng.uniform(8, 14) ** 2))
    color = np.array([(-30, -30, -30), (60, -40, -40), (-50, 40, 50)][label]) * rng.uniform(0.6, 1.4)
    ground = rng.uniform(110, 170, 3)
    pixels = ground + blob[..., None] * color + rng.normal(0, 12, (height_px, width_px, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photos(data: Path, photos_per_class: int) -> list[dict[str, str]]:
    """Draws photos, two a lesion, and returns their manifest rows."""
    data.mkdir(parents=True, exist_ok=True)
    rows = []
    for label, spec in enumerate(LABELS):
        for i in range(photos_per_class):
            photo_id, lesion = f"{spec.code}_{i:03}", f"{spec.code}_lesion_{i // 2:03}"
            draw_photo(label, i).save(data / f"{photo_id}.jpg", quality=92)
            rows.append(
                {
                    "photo_id": photo_id,
                    "path": f"{photo_id}.jpg",
                    "label": spec.code,
                    "lesion_id": lesion,
                    "sex": "female" if i % 4 < 2 else "male",
                    "age": str(30 + i % 50),
                    "site": "back" if i % 2 else "face",
                    "dx_type": "histo",
                    "phash": "",
                    "group_id": lesion,
                    "split": SPLITS[(i // 2) % len(SPLITS)],
                }
            )
    return rows


def make_contract(**changes: Any) -> c.ModelContract:
    """The contract of the synthetic run."""
    fields: dict[str, Any] = {
        "schema_version": c.SCHEMA_VERSION,
        "model_id": "synthetic-mobilenet-v2",
        "labels": LABELS,
        "input": c.InputSpec(SIZE_PX, SIZE_PX, "RGB", "over_white"),
        "geometry": c.Geometry("jpeg_dct", 2, "transpose", "center_square", 1.0, "bilinear"),
        "normalization": c.Normalization(128.0, 128.0),
        "output": c.OutputSpec("softmax"),
        "calibration": c.Calibration("temperature", TEMPERATURE),
        "decision": c.Decision(None, None),
        "provenance": c.Provenance(
            "run-synthetic", "none", "drawn", hashlib.sha256(b"").hexdigest(), "CC0-1.0", "CC0-1.0", "none"
        ),
        "intended_use": "Tests only.",
        "golden": (),
    }
    return c.ModelContract(**{**fields, **changes})


def make_model(size_px: int = SIZE_PX, classes: int = len(LABELS), seed: int = 7) -> Any:
    """An inverted residual block between two convolutions: each kind of MobileNetV2 layer once. Flat, with logits."""
    import tf_keras as keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers

    def normalized(x: Any, name: str, *, linear: bool = False) -> Any:
        # Few steps must suffice for the statistics.
        x = layers.BatchNormalization(momentum=0.8, name=f"{name}_BN")(x)
        return x if linear else layers.ReLU(6.0, name=f"{name}_relu")(x)

    inputs = keras.Input((size_px, size_px, 3), name="input")
    stem = normalized(
        layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs), "stem"
    )
    wide = normalized(layers.Conv2D(16, 1, use_bias=False, name="expand")(stem), "expand")
    deep = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(wide)
    deep = normalized(deep, "depthwise")
    narrow = normalized(layers.Conv2D(8, 1, use_bias=False, name="project")(deep), "project", linear=True)
    summed = layers.Add(name="add")([stem, narrow])
    last = normalized(
        layers.Conv2D(24, 3, strides=2, padding="same", use_bias=False, name="last")(summed), "last"
    )
    pooled = layers.GlobalAveragePooling2D(name="pooled")(last)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(pooled), name="tiny_mobilenet_v2")


def write_run_files(folder: Path, *, photos_per_class: int = 280) -> tuple[Path, list[dict[str, str]]]:
    """Everything of RUN but the model: folder/run, with photos in folder/data. Needs no TensorFlow."""
    run, data = folder / "run", folder / "data"
    rows = write_photos(data, photos_per_class)
    run.mkdir(parents=True)
    write_manifest(run, rows)
    (run / "contract.json").write_text(make_contract().to_json(), encoding="utf-8")
    section = {"name": "drawn", "root": str(data), "licence": "CC0-1.0"}
    documents: dict[str, Any] = {
        "run": {
            "run_id": "run-synthetic",
            "status": "done",
            "seed": 0,
            "versions": {},
            "commit": "none",
            "data": section,
        },
        "config": {
            "name": "synthetic",
            "model": {"backbone": "tiny", "alpha": 1.0},
            "imbalance": {"sampling_exponent": -0.5, "lesion_exponent": 0.0},
        },
        "split": {
            "drawn": {
                "sizes": {
                    name: {x.code: photos_per_class // 5 for x in LABELS} for name in ("train", "val", "test")
                },
                "random_leak": 0.4,
                "random_leak_of_class": {x.code: 0.4 for x in LABELS},
                "near_duplicate_bits": 4,
                "near_duplicates_across_lesions": [],
            }
        },
        "metrics": {},
    }
    for name, document in documents.items():
        (run / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    (run / "model.keras").write_bytes(b"not yet")
    return run, rows


def write_manifest(run: Path, rows: list[dict[str, str]]) -> None:
    """RUN/manifest.csv."""
    with (run / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_run(
    folder: Path, *, photos_per_class: int = 280, epochs: int = 4, build: Callable[[], Any] = make_model
) -> Path:
    """Writes RUN and its photos (folder/run and folder/data), trains the model, and returns RUN."""
    run, rows = write_run_files(folder, photos_per_class=photos_per_class)
    model = build()
    _fit(model, rows, folder / "data", make_contract(), epochs)
    temperature = _write_predictions(model, rows, folder / "data", run / "predictions_val.csv")
    contract = make_contract(calibration=c.Calibration("temperature", temperature))
    (run / "contract.json").write_text(contract.to_json(), encoding="utf-8")
    model.save(run / "model.keras")
    return run


def _pixels(rows: list[dict[str, str]], data: Path, contract: c.ModelContract) -> Any:
    """Normalized, [n, SIZE_PX, SIZE_PX, 3] float32."""
    from edge_runtime.images.preprocess import fit_pixels

    photos = [fit_pixels((data / row["path"]).read_bytes(), contract) for row in rows]
    pixels_u8 = np.frombuffer(b"".join(photos), np.uint8).reshape(-1, SIZE_PX, SIZE_PX, 3)
    return (pixels_u8.astype(np.float32) - 128) / 128


def _write_predictions(model: Any, rows: list[dict[str, str]], data: Path, path: Path) -> float:
    """What training leaves of the validation photos: scores at temperature 1. Returns the temperature that fits."""
    from train.evaluation.decisions import fit_temperature

    val = [row for row in rows if row["split"] == "val"]
    logits = model(_pixels(val, data, make_contract()), training=False).numpy().astype(np.float64)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["photo_id", "label", *(f"p_{label.code}" for label in LABELS)])
        for row, values in zip(val, scores, strict=True):
            writer.writerow([row["photo_id"], row["label"], *(f"{value:.6g}" for value in values)])
    codes = [label.code for label in LABELS]
    return round(fit_temperature(np.array([codes.index(row["label"]) for row in val]), logits), 4)


def _fit(model: Any, rows: list[dict[str, str]], data: Path, contract: c.ModelContract, epochs: int) -> None:
    import tf_keras as keras

    codes = [label.code for label in LABELS]
    train = [row for row in rows if row["split"] == "train"]
    x = _pixels(train, data, contract)
    y = np.array([codes.index(row["label"]) for row in train])
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)
