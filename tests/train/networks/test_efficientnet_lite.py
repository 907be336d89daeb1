"""EfficientNet-Lite is the published network, and reads the published checkpoint or says why not."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import ConfigInvalid
from train.configs.schema import ModelConfig

pytestmark = pytest.mark.tf

# Trained weights with a head of 1000 classes: 4.652, 5.417, 6.092, 8.197 and 13.007 million, as published.
PARAMETERS = {
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
}
# Of the published lite0: a block that does not expand counts its convolutions and norms from 0 all the same.
PUBLISHED_SHAPES = {
    "efficientnet-lite0/stem/conv2d/kernel": [3, 3, 3, 32],
    "efficientnet-lite0/stem/tpu_batch_normalization/gamma": [32],
    "efficientnet-lite0/blocks_0/depthwise_conv2d/depthwise_kernel": [3, 3, 32, 1],
    "efficientnet-lite0/blocks_0/conv2d/kernel": [1, 1, 32, 16],
    "efficientnet-lite0/blocks_0/tpu_batch_normalization_1/beta": [16],
    "efficientnet-lite0/blocks_1/conv2d/kernel": [1, 1, 16, 96],
    "efficientnet-lite0/blocks_1/conv2d_1/kernel": [1, 1, 96, 24],
    "efficientnet-lite0/blocks_1/tpu_batch_normalization_2/moving_variance": [24],
    "efficientnet-lite0/blocks_15/conv2d_1/kernel": [1, 1, 1152, 320],
    "efficientnet-lite0/head/conv2d/kernel": [1, 1, 320, 1280],
    "efficientnet-lite0/head/tpu_batch_normalization/moving_mean": [1280],
}
AVERAGED = "/ExponentialMovingAverage"
# Pictures at 128 px whose nearest neighbour by features is of the same kind, of 160 pictures of 43 kinds: 0.78 with
# the published weights, 0.06 with random ones, 0.02 by chance.
ENOUGH_NEIGHBOURS, RANDOM_NEIGHBOURS = 0.65, 0.2


def _features(variant: str = "efficientnet_lite0", size_px: int | None = 32) -> Any:
    from train.networks.efficientnet_lite import build_features

    return build_features(variant, size_px)


def _published_name(weight: Any) -> str:
    return weight.name.removesuffix(":0").replace("_lite", "-lite", 1)


def _write_checkpoint(prefix: Path, values: dict[str, np.ndarray]) -> None:
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    """A value for each variable of lite0, by its published name."""
    rng = np.random.default_rng(0)
    return {_published_name(w): rng.uniform(0.1, 1, w.shape).astype(np.float32) for w in _features().weights}


@pytest.mark.parametrize(
    "variant",
    [
        name if name <= "efficientnet_lite1" else pytest.param(name, marks=pytest.mark.long)
        for name in PARAMETERS
    ],
)
def test_each_variant_has_the_published_size(variant: str):
    features = _features(variant, 64)
    assert features.output_shape == (None, 2, 2, 1280)
    assert (
        sum(w.shape.num_elements() for w in features.trainable_weights) + 1281 * 1000 == PARAMETERS[variant]
    )
    names = [layer.name for layer in features.layers]
    assert len(set(names)) == len(names)


def test_layers_are_the_published_ones(values: dict[str, np.ndarray]):
    from tf_keras import layers

    features = _features()
    assert {name: list(values[name].shape) for name in PUBLISHED_SHAPES} == PUBLISHED_SHAPES
    convolutions = [x for x in features.layers if isinstance(x, layers.Conv2D | layers.DepthwiseConv2D)]
    norms = [x for x in features.layers if isinstance(x, layers.BatchNormalization)]
    assert len(convolutions) == len(norms) == 49
    assert {x.padding for x in convolutions} == {"same"}
    assert {x.use_bias for x in convolutions} == {False}
    assert {x.epsilon for x in norms} == {1e-3}
    assert sum(isinstance(x, layers.Add) for x in features.layers) == 9
    assert {float(x.max_value) for x in features.layers if isinstance(x, layers.ReLU)} == {6.0}


def test_random_weights_differ_from_layer_to_layer():
    kernels = [w.numpy() for w in _features("efficientnet_lite1").weights if "kernel" in w.name]
    assert len(kernels) > 60
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)
    # He over the fan-out, so that a network without weights of its own trains at once.
    wide = next(k for k in kernels if k.shape == (1, 1, 1152, 320))
    assert wide.std() == pytest.approx((2 / 320) ** 0.5, rel=0.05)


@pytest.mark.parametrize("averaged", ["", AVERAGED])
@pytest.mark.parametrize("by", ["folder", "prefix", "name"])
def test_a_checkpoint_is_read_by_its_names(
    values: dict[str, np.ndarray],
    averaged: str,
    by: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    from train.networks.registry import build_model

    folder = tmp_path / "efficientnet-lite0"
    folder.mkdir()
    written = {name + averaged: value for name, value in values.items()}
    if averaged:  # what training left, beside what is to be used
        written |= {name: value * 0 for name, value in values.items()}
    written["efficientnet-lite0/head/dense/kernel"] = np.zeros((1280, 1000), np.float32)
    _write_checkpoint(folder / "model.ckpt", written)
    monkeypatch.setenv("DERMEDGE_WEIGHTS", str(tmp_path))
    weights = {"folder": str(folder), "prefix": str(folder / "model.ckpt"), "name": "imagenet"}[by]
    model = build_model(ModelConfig("efficientnet_lite0", weights=weights), 7, None)
    read = {_published_name(w): w.numpy() for w in model.weights if not w.name.startswith("logits")}
    assert read.keys() == values.keys()
    assert len(read) == 245
    for name, value in values.items():
        np.testing.assert_array_equal(read[name], value, err_msg=name)


def test_another_variant_or_a_missing_variable_is_named(values: dict[str, np.ndarray], tmp_path: Path):
    from train.networks.efficientnet_lite import load_checkpoint

    _write_checkpoint(tmp_path / "whole", values)
    with pytest.raises(ConfigInvalid, match="does not fit efficientnet_lite1.*320 of 320.*lite1/stem/conv2d"):
        load_checkpoint(_features("efficientnet_lite1"), tmp_path / "whole")
    lacking = "efficientnet-lite0/blocks_3/conv2d/kernel"
    _write_checkpoint(tmp_path / "part", {k: v for k, v in values.items() if k != lacking})
    features = _features()
    before = features.get_weights()
    with pytest.raises(ConfigInvalid, match=rf"1 of 245 variables.*{lacking} .*missing"):
        load_checkpoint(features, tmp_path / "part")
    wider = values | {lacking: np.zeros((1, 1, 24, 145), np.float32)}
    _write_checkpoint(tmp_path / "wider", wider)
    with pytest.raises(ConfigInvalid, match=r"1 of 245 variables.*\[1, 1, 24, 144\].*\[1, 1, 24, 145\]"):
        load_checkpoint(features, tmp_path / "wider")
    for old, new in zip(before, features.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_no_checkpoint_or_a_damaged_one_is_refused(
    values: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from train.networks.efficientnet_lite import load_checkpoint
    from train.networks.registry import build_model

    features = _features()
    for nothing in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigInvalid, match="no TensorFlow checkpoint.*efficientnet-lite0.tar.gz"):
            load_checkpoint(features, nothing)
    monkeypatch.setenv("DERMEDGE_WEIGHTS", str(tmp_path))
    with pytest.raises(
        ConfigInvalid, match="checkpoint of efficientnet_lite2.*efficientnet-lite2/model.ckpt"
    ):
        build_model(ModelConfig("efficientnet_lite2"), 7, None)
    assert build_model(ModelConfig("efficientnet_lite2", weights="none"), 7, None)
    _write_checkpoint(tmp_path / "model.ckpt", values)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigInvalid, match="cannot be read.*both files"):
        load_checkpoint(features, tmp_path)
    data.unlink()
    with pytest.raises(ConfigInvalid, match="cannot be read.*both files"):
        load_checkpoint(features, tmp_path)
    (tmp_path / "model.ckpt.index").write_bytes(b"nothing")
    with pytest.raises(ConfigInvalid, match="cannot be read.*both files"):
        load_checkpoint(features, tmp_path)


@pytest.mark.real_data
@pytest.mark.long
def test_published_weights_tell_kinds_of_pictures_apart(data_root: Path, weights_root: Path):
    from train.networks.efficientnet_lite import load_checkpoint

    kind_of = {
        path: re.sub(r"_image_\d+$", "", path.stem)
        for path in sorted((data_root / "ood_photos" / "caltech101").glob("*.jpg"))
    }
    pictures = Counter(kind_of.values())
    # Faces come under two names.
    kept = [
        p for p, kind in kind_of.items() if pictures[kind] >= 3 and not kind.startswith(("BACK", "Faces"))
    ]
    kinds = np.array([kind_of[path] for path in kept])
    assert len(kept) > 100
    levels = np.stack([_square(path, 128) for path in kept])

    def neighbours_alike(features: Any) -> float:
        vectors = features.predict((levels - 128.0) / 128.0, batch_size=32, verbose=0).mean(axis=(1, 2))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -1)
        return float((kinds[likeness.argmax(axis=1)] == kinds).mean())

    features = _features(size_px=128)
    assert neighbours_alike(features) < RANDOM_NEIGHBOURS
    load_checkpoint(features, weights_root / "efficientnet-lite0")
    assert neighbours_alike(features) > ENOUGH_NEIGHBOURS


def _square(path: Path, side: int) -> np.ndarray:
    with Image.open(path) as picture:
        short = min(picture.size)
        left, top = (picture.width - short) // 2, (picture.height - short) // 2
        square = picture.convert("RGB").crop((left, top, left + short, top + short))
        return np.asarray(square.resize((side, side), Image.Resampling.BILINEAR), np.float32)
