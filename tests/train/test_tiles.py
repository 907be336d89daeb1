"""Tiles: where they lie, in which order, and how their answers are put together."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_runtime.contract import Normalization
from train.configs.loading import parse_config
from train.configs.schema import AugmentConfig, TilesConfig
from train.evaluation.metrics import softmax
from train.evaluation.predict import predict_logits, predict_tiles

PLAIN = Normalization(0.0, 1.0)
SIDE, TILE = 10, 4


class Recorder:
    """Stands for a network. Keeps what it is shown; its logits are the mean row and column of a tile."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
        self.seen.append(pixels)
        return pixels.mean(axis=(1, 2))[:, :2] / 4


def numbered_square(photos: int = 1) -> np.ndarray:
    """Each pixel holds its row, its column, and its photo's number."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.stack(
        [np.stack([rows, columns, np.full_like(rows, i)], axis=-1) for i in range(photos)]
    ).astype(np.uint8)


def corners(seen: list[np.ndarray]) -> list[tuple[int, int]]:
    return [(int(tile[0, 0, 0, 0]), int(tile[0, 0, 0, 1])) for tile in seen]


@pytest.mark.parametrize(("grid", "places"), [(1, [3]), (2, [0, 6]), (3, [0, 3, 6]), (4, [0, 2, 4, 6])])
def test_tiles_stand_in_reading_order_and_cover_the_square(grid: int, places: list[int]) -> None:
    network = Recorder()
    predict_tiles(network, numbered_square(), PLAIN, TILE, grid)
    assert corners(network.seen) == [(top, left) for top in places for left in places]
    covered = np.zeros((SIDE, SIDE), bool)
    for tile in network.seen:
        assert tile.shape == (1, TILE, TILE, 3)
        rows, columns = tile[0, ..., 0].astype(int), tile[0, ..., 1].astype(int)
        # A tile is a piece of the square as it lies there, not mirrored and without gaps.
        assert (np.diff(rows, axis=0) == 1).all()
        assert (np.diff(columns, axis=1) == 1).all()
        covered[rows, columns] = True
    # Two tiles of 4 pixels cannot cover 10; three can.
    assert covered.all() == (grid >= 3)
    assert covered[[0, 0, -1, -1], [0, -1, 0, -1]].all() == (grid >= 2)


def test_a_grid_of_one_is_the_centre() -> None:
    centre = numbered_square(3)[:, 3:7, 3:7]
    logits = predict_tiles(Recorder(), numbered_square(3), PLAIN, TILE, 1)
    np.testing.assert_allclose(softmax(logits), softmax(predict_logits(Recorder(), centre, PLAIN)), rtol=1e-5)


def test_the_answer_is_the_mean_of_the_scores() -> None:
    logits = predict_tiles(Recorder(), numbered_square(2), PLAIN, TILE, 2)
    # Means of rows and columns of the four tiles, and from them the scores by hand.
    tiles = np.array([[1.5, 1.5], [1.5, 7.5], [7.5, 1.5], [7.5, 7.5]]) / 4
    expected = (np.exp(tiles) / np.exp(tiles).sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(np.exp(logits), np.tile(expected, (2, 1)), rtol=1e-6)


def test_photos_keep_their_order() -> None:
    class Numbers(Recorder):
        def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
            return np.stack([pixels[:, 0, 0, 2], np.zeros(len(pixels))], axis=1)

    logits = predict_tiles(Numbers(), numbered_square(3), PLAIN, TILE, 2)
    np.testing.assert_allclose(logits[:, 0] - logits[:, 1], [0, 1, 2], atol=1e-5)


def test_training_sees_tiles_of_the_same_scale_anywhere_in_the_square() -> None:
    from train.training.inputs import Inputs, tile_augmentation

    tiles = TilesConfig(grid=2, fraction=0.5)
    given: Any = SimpleNamespace(config=SimpleNamespace(tiles=tiles))
    assert Inputs.square_px(given, 32) == 64
    views: Any = tile_augmentation(AugmentConfig(zoom=(0.8, 1.0), shift=0.05, rotation_deg=7.0), tiles)
    assert views.zoom == (0.4, 0.5)
    # A view of half the side that is moved by a quarter of the square touches its border.
    assert views.shift == 0.25
    assert views.rotation_deg == 7.0


def test_a_stage_may_have_its_own_views() -> None:
    from train.training.inputs import stage_augmentation

    stage = {"name": "all", "trains": "all", "epochs": 1, "size_px": 64, "learning_rate": 1e-3}
    data = {"reader": "folders", "folder": "photos", "labels": "phantom"}
    config = parse_config(
        {"name": "views", "data": data, "augment": {"zoom": [0.5, 1.0]}, "stage": [stage]}, "here"
    )
    wide = dataclasses.replace(config.stage[0], zoom=(0.8, 1.0))
    assert stage_augmentation(config, config.stage[0]).zoom == (0.5, 1.0)
    assert stage_augmentation(config, wide).zoom == (0.8, 1.0)
    tiled = dataclasses.replace(config, tiles=TilesConfig(grid=2, fraction=0.5))
    assert stage_augmentation(tiled, wide).zoom == (0.4, 0.5)
