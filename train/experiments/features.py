"""`dermedge experiment features CONFIG.toml|RUN --out FILE.npz`: penultimate-layer activations. TensorFlow.

CONFIG.toml   the config's network with its published weights, on every photo of the first dataset: it was trained on
              none of them, so the features can be divided into folds in any way
RUN           a finished run's network, on its test photos of the first dataset

FILE.npz
  photo_id, label, group_id   [n] texts; a group (lesion and near-duplicates) is never divided
  features                    [n, width] float16, the mean over places of the last activation
  about                       JSON: network, weights, size_px, photos
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import ModelContract, Normalization
from edge_runtime.errors import DataInvalid
from edge_runtime.images.preprocess import fit_file
from train.artifacts.bounded import DAMAGED_ZIP, require_small_archive
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import read_object, whole_file
from train.artifacts.keras_file import load_keras
from train.artifacts.manifest import Photo, read_parts
from train.artifacts.run import find_root, finished_state, read_contract, source_names, source_of
from train.configs.loading import load_config
from train.data.sources import find_data, merged_labels, read_sources
from train.data.split import make_split
from train.evaluation.results import read_photos_of
from train.experiments.networks import network_file

PENULTIMATE = "pooled"
BATCH = 32
# Two hundred photos of 224 px are 30 MB; the whole set would be 1.5 GB.
PHOTOS_AT_ONCE = 256
Network = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]


@dataclass(frozen=True)
class Features:
    """Penultimate-layer activations of photos."""

    photo_ids: tuple[str, ...]
    labels: tuple[str, ...]
    """[n] codes."""
    groups: tuple[str, ...]
    """[n] what is never divided."""
    values: npt.NDArray[np.float32]
    """[n, width]."""
    about: dict[str, Any]
    """`network`, `weights`, `size_px`, `photos` (which ones they are)."""


def write_features(path: Path, features: Features) -> None:
    """Write FILE.npz, whole or not at all."""
    packed = io.BytesIO()
    np.savez(
        packed,
        photo_id=np.array(features.photo_ids),
        label=np.array(features.labels),
        group_id=np.array(features.groups),
        features=features.values.astype(np.float16),
        about=np.array(json.dumps(features.about)),
    )
    with whole_file(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def read_features(path: Path) -> Features:
    """Read FILE.npz.

    Raises:
        DataInvalid: No such file, or another one.
    """
    try:
        require_small_archive(path)
        with np.load(path, allow_pickle=False) as file:
            photo_ids, labels, groups = (file[name].tolist() for name in ("photo_id", "label", "group_id"))
            return Features(
                tuple(photo_ids), tuple(labels), tuple(groups), file["features"].astype(np.float32),
                json.loads(str(file["about"])),
            )  # fmt: skip
    except (OSError, KeyError, ValueError, *DAMAGED_ZIP) as error:
        raise DataInvalid(
            "not a file of features",
            where=str(path),
            found=str(error),
            fix="Make it with dermedge experiment features CONFIG.toml --out FILE.npz",
        ) from error


def pooled_features(
    network: Network, photos: Sequence[Path], contract: ModelContract, *, progress: str = ""
) -> npt.NDArray[np.float32]:
    """Run a network on photos, through the runtime's preprocessing.

    Args:
        network: [n, s, s, 3] normalized pixels -> [n, width].
        photos: Files.
        contract: Input, geometry and normalization.
        progress: Name of a progress bar on stderr; none where empty.

    Returns:
        [photos, width].

    Raises:
        ImageError: A photo that cannot be decoded.
    """
    from tqdm import tqdm

    given: Normalization = contract.normalization
    side = (contract.input.height_px, contract.input.width_px, 3)
    fit = partial(fit_file, contract=contract)
    parts = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(photos), desc=progress, unit="photo", disable=not progress) as bar,
    ):
        for start in range(0, len(photos), PHOTOS_AT_ONCE):
            fitted = pool.map(fit, photos[start : start + PHOTOS_AT_ONCE])
            pixels_u8 = np.stack([np.frombuffer(pixels, np.uint8).reshape(side) for pixels in fitted])
            for first in range(0, len(pixels_u8), BATCH):
                pixels = pixels_u8[first : first + BATCH].astype(np.float32)
                parts.append(np.asarray(network((pixels - given.mean) / given.std), np.float32))
            bar.update(len(pixels_u8))
    return np.concatenate(parts)


def _penultimate(model: Any) -> Network:
    import tf_keras

    inner = tf_keras.Model(model.input, model.get_layer(PENULTIMATE).output)
    return lambda pixels: inner(pixels, training=False)


def published_features(config_path: Path, data_folder: Path | None = None) -> Features:
    """Compute the features of every photo of a config's first dataset, by published weights.

    Raises:
        ConfigInvalid, DataInvalid: As for training; weights "none" are refused.
    """
    from train.configs.contract import make_contract
    from train.networks.registry import build_model

    config = load_config(config_path)
    if config.model.weights == "none":
        raise DataInvalid(
            "no published weights to compute features with",
            where=str(config_path),
            found='model.weights = "none"',
            expected="imagenet, or a weights file",
        )
    manifest = read_sources(config, find_data(config, data_folder))[0]
    split = make_split(
        manifest,
        folds=config.split.folds,
        test_fold=0,
        val_share=0,
        near_duplicate_bits=config.split.near_duplicate_bits,
        seed=config.seed,
    )
    state = {"run_id": config.name, "commit": "unknown"}
    contract = make_contract(config, merged_labels(config), manifest, state)
    size_px = contract.input.height_px
    model = build_model(config.model, len(manifest.labels.codes), size_px)
    photos = sorted(manifest.photos, key=lambda photo: photo.photo_id)
    values = pooled_features(
        _penultimate(model), [manifest.root / photo.path for photo in photos], contract, progress="features"
    )
    about = {
        "network": config.model.backbone,
        "weights": config.model.weights,
        "size_px": size_px,
        "photos": f"all {len(photos):,} photos of {manifest.name}",
    }
    return _features(photos, [split.group_of[photo.photo_id] for photo in photos], values, about)


def run_features(run: Path, data_folder: Path | None = None) -> tuple[Features, list[Photo], Path]:
    """Compute the features of a finished run's test photos of the first dataset.

    Returns:
        The features; the photos in their order; the folder where their paths start.

    Raises:
        RunInvalid: Not a finished run.
        DataInvalid: Its photos are not on this machine, or none were held out.
    """
    state, contract, config = finished_state(run), read_contract(run), read_object(run / "config.json")
    root = find_root(state, data_folder)
    part_of = {row["photo_id"]: row["split"] for row in read_parts(run)}
    first = config["data"]["folder"]
    held_out = [
        (photo, group)
        for photo, group in read_photos_of(run).values()
        if part_of[photo.photo_id] == "test"
        and (not config.get("source") or source_of(photo.path, source_names(state)) == first)
    ]
    if root is None or not held_out:
        raise DataInvalid(
            "no test photos on this machine",
            where=str(run),
            found="no test photos" if root else f"no folder {state.get('data', {}).get('root')}",
            fix="Name the first dataset's folder with --data"
            if held_out
            else "Choose a run with a test split",
        )
    model = load_keras(network_file(run))
    photos = [photo for photo, _ in held_out]
    values = pooled_features(
        _penultimate(model), [root / photo.path for photo in photos], contract, progress="features"
    )
    about = {
        "network": config["model"]["backbone"],
        "weights": f"run {state.get('run_id', run.name)}",
        "size_px": contract.input.height_px,
        "photos": f"{len(photos):,} test photos of {first}",
    }
    return _features(photos, [group for _, group in held_out], values, about), photos, root


def _features(
    photos: Sequence[Photo], groups: Sequence[str], values: npt.NDArray[np.float32], about: dict[str, Any]
) -> Features:
    return Features(
        tuple(photo.photo_id for photo in photos),
        tuple(photo.label for photo in photos),
        tuple(groups),
        values,
        about,
    )


def parser() -> argparse.ArgumentParser:
    """Build the parser of `dermedge experiment features`."""
    made = command_parser(
        "experiment features",
        "Store the penultimate layer's activations of photos.",
        "example:\n  dermedge experiment features train/configs/ham10000_lite0.toml --out features.npz",
    )
    made.add_argument(
        "source", type=Path, metavar="CONFIG.toml|RUN",
        help="use the config's network with published weights on all photos, or a run's on its test photos",
    )  # fmt: skip
    made.add_argument(
        "--out", type=Path, required=True, metavar="FILE.npz", help="write the file there (required)"
    )
    made.add_argument(
        "--data", type=Path, metavar="DIR",
        help="folder of the first dataset (default: as the config or the run says)",
    )  # fmt: skip
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 on an error, 130 when interrupted."""
    arguments = parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return run_command(lambda: _keep_features(arguments), interrupted=NOTHING_WRITTEN)


def _keep_features(arguments: argparse.Namespace) -> int:
    if arguments.source.is_dir():
        features = run_features(arguments.source, arguments.data)[0]
    else:
        features = published_features(arguments.source, arguments.data)
    write_features(arguments.out, features)
    print(arguments.out)
    return 0
