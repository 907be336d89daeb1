"""What the input pipeline costs: an epoch's steps on its batches against the same steps on one constant batch.

    python -m train.pipeline_cost CONFIG.toml [--steps N] [--rounds N]

Both kinds of round alternate in one process, so a busy machine slows both; the ratio of the sums is the answer. The
pixels are random bytes in a memory-mapped file of the real shape: their content costs nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.contract import Normalization
from train.command import run_command
from train.config import TrainConfig
from train.config_reading import load_config

if TYPE_CHECKING:
    from train.training_data import Photos

CLASSES = 7
PHOTOS = 2048
OUTLIERS = 64
# The share of an epoch that the input pipeline may cost.
TARGET = 0.12


def main(argv: list[str] | None = None) -> int:
    """Prints seconds per step of both kinds and their ratio for each stage; 0, 2 refused, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m train.pipeline_cost", allow_abbrev=False)
    parser.add_argument("config", type=Path, metavar="CONFIG.toml")
    parser.add_argument("--steps", type=int, default=12, help="steps a round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (default %(default)s)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _measure_stages(arguments))


def _measure_stages(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    for index, stage in enumerate(config.stage):
        piped, constant = measure_stage(config, index, arguments.steps, arguments.rounds)
        print(
            f"{stage.name}: {piped * 1000:.0f} ms a step, {constant * 1000:.0f} ms on constant input; "
            f"the pipeline costs {1 - constant / piped:.1%} of an epoch (target: at most {TARGET:.0%})"
        )
    return 0


def measure_stage(config: TrainConfig, index: int, steps: int, rounds: int) -> tuple[float, float]:
    """Mean seconds per step with the pipeline and on constant input."""
    from train.backbones import build_model
    from train.loop import Trainer
    from train.pipeline import training_batches
    from train.training_data import TrainingData, stage_augmentation

    stage = config.stage[index]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        photos = _random_photos(config, index, Path(folder), rng)
        data = TrainingData(
            rows=np.arange(PHOTOS),
            drawn=np.full(PHOTOS, 1 / PHOTOS),
            epoch_photos=PHOTOS,
            prior=np.full(CLASSES, 1 / CLASSES),
            loss_weights=np.ones(CLASSES),
            photos_by_stage=[photos] * len(config.stage),
            val_labels=photos.labels[:0],
            val_by_stage=[],
        )
        normalization = Normalization(config.input.mean, config.input.std)
        model = build_model(dataclasses.replace(config.model, weights="none"), CLASSES, None)
        learn = Trainer(model, config, data, normalization, Path(folder)).compile_step(stage)

        def batches() -> Any:
            return training_batches(
                photos,
                rng.integers(PHOTOS, size=stage.batch * (steps + 1)),
                first_step=0,
                batch=stage.batch,
                size_px=stage.size_px,
                augmentation=stage_augmentation(config, stage),
                normalization=normalization,
                seed=(0, 0),
            )

        constant = next(iter(batches()))
        _time(learn, [constant] * 3)
        totals = np.zeros(2)
        for _ in range(rounds):
            stream = iter(batches())
            next(stream)  # Starting the pipeline is paid once an epoch, not once in so few steps.
            totals += _time(learn, stream), _time(learn, [constant] * steps)
    return totals[0] / (rounds * steps), totals[1] / (rounds * steps)


def _random_photos(config: TrainConfig, index: int, folder: Path, rng: np.random.Generator) -> Photos:
    """Photos of the stage's size, with outliers and a teacher where the config has them; none of its files are read."""
    from train.training_data import Photos, margin_px, tile_px

    size_px = config.stage[index].size_px
    side = tile_px(size_px, config.tiles) if config.tiles.grid else margin_px(size_px)
    path = folder / "pixels.npy"
    np.save(path, rng.integers(256, size=(PHOTOS, side, side, 3), dtype=np.uint8))
    pixels_u8 = np.load(path, mmap_mode="r")
    return Photos(
        pixels_u8,
        rng.integers(CLASSES, size=PHOTOS),
        CLASSES,
        np.full((PHOTOS, CLASSES), 1 / CLASSES, np.float32) if config.distill.teacher else None,
        pixels_u8[:OUTLIERS] if config.outliers.folder else None,
        config.outliers.per_batch,
    )


def _time(learn: Any, batches: Iterable[Any]) -> float:
    started = time.perf_counter()
    for batch in batches:
        learn(batch)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
