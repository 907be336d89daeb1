"""Each network in its smallest form: flat, trainable, of any size, storable; and every wrong wish is named."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import ConfigInvalid
from train.configs.schema import ModelConfig

pytestmark = pytest.mark.tf

CLASSES = 3
# Each in its smallest form, and two sizes that it takes.
SMALLEST = {
    "mobilenet_v2": (ModelConfig("mobilenet_v2", alpha=0.35, weights="none"), (32, 64)),
    "efficientnet_lite0": (ModelConfig("efficientnet_lite0", weights="none"), (32, 64)),
    "small_cnn": (ModelConfig("small_cnn", weights="none"), (32, 64)),
    "resnet50": (ModelConfig("resnet50", weights="none"), (32, 64)),
    "inception_v3": (ModelConfig("inception_v3", weights="none"), (96, 128)),
}
# Two builds of one network, or a copy from a file, differ by the order of a few additions: relative to the answers.
SAME = 1e-4


def fast(*names: str) -> list[Any]:
    """All networks, those that are not named here in the long tier."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.long) for name in SMALLEST]


@pytest.fixture(autouse=True)
def _seed() -> None:
    import tf_keras

    tf_keras.utils.set_random_seed(1)


def _build(config: ModelConfig, size_px: int | None = None, **options: bool) -> Any:
    from train.networks.registry import build_model

    return build_model(config, CLASSES, size_px, **options)


def _pixels(size_px: int) -> np.ndarray:
    return np.random.default_rng(size_px).uniform(-1, 1, (2, size_px, size_px, 3)).astype(np.float32)


def test_every_backbone_has_its_smallest_form_here():
    from train.networks.registry import BACKBONES

    larger = {f"efficientnet_lite{i}" for i in (1, 2, 3, 4)}  # in test_efficientnet_lite.py
    assert set(BACKBONES) == set(SMALLEST) | larger


@pytest.mark.slow
@pytest.mark.parametrize("name", fast("efficientnet_lite0", "small_cnn"))
def test_a_network_is_flat_trainable_and_storable(name: str, tmp_path: Path):
    import tensorflow as tf
    import tf_keras

    config, sizes = SMALLEST[name]
    model = _build(config)
    assert model.name == name
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    assert names[-2:] == ["pooled", "logits"]
    assert not [x for x in model.layers if isinstance(x, tf_keras.Model)]
    assert not [x for x in model.layers if type(x).__module__.startswith("tf_keras.src.layers.preprocessing")]
    assert model.layers[-1].activation is tf_keras.activations.linear
    norms = [x for x in model.layers if isinstance(x, tf_keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == (
        {config.batch_norm_momentum} if name != "small_cnn" else set()
    )

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(_pixels(sizes[0]), training=True)[:, 0])
    gradients = tape.gradient(loss, model.trainable_variables)
    assert len(gradients) > 8
    assert not [v.name for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None]

    for size in sizes:
        assert model(_pixels(size)).shape == (2, CLASSES)
    answers = model(_pixels(sizes[1])).numpy()
    assert np.isfinite(answers).all()
    same = {"rtol": 0, "atol": SAME * np.ptp(answers)}
    assert np.ptp(answers) > 0
    fixed = _build(config, sizes[1])
    fixed.set_weights(model.get_weights())
    assert fixed.input_shape == (None, sizes[1], sizes[1], 3)
    np.testing.assert_allclose(fixed(_pixels(sizes[1])), answers, **same)
    fixed.save(str(tmp_path / "model.keras"))
    loaded = tf_keras.models.load_model(str(tmp_path / "model.keras"))
    np.testing.assert_allclose(loaded(_pixels(sizes[1])), answers, **same)
    model.save_weights(str(tmp_path / "kept.h5"), save_format="h5")
    again = _build(config)
    again.load_weights(str(tmp_path / "kept.h5"))
    np.testing.assert_allclose(again(_pixels(sizes[1])), answers, **same)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", pytest.param("mobilenet_v2", marks=pytest.mark.long)])
def test_what_devices_carry_can_be_quantized(name: str):
    import tensorflow_model_optimization as tfmot
    import tf_keras

    config, sizes = SMALLEST[name]
    model = _build(ModelConfig(name, alpha=config.alpha, weights="none", dropout=0.3), sizes[0])
    quantized = tfmot.quantization.keras.quantize_model(model)
    wrapped = [getattr(layer, "layer", None) for layer in quantized.layers]
    convolutions = [
        x for x in model.layers if isinstance(x, tf_keras.layers.Conv2D | tf_keras.layers.DepthwiseConv2D)
    ]
    assert len(convolutions) > 40
    assert {x.name for x in convolutions} | {"logits"} <= {x.name for x in wrapped if x is not None}
    assert quantized(_pixels(sizes[0])).shape == (2, CLASSES)


def test_dropout_is_a_layer_only_when_asked_for():
    plain, dropping = (
        _build(ModelConfig("small_cnn", weights="none")),
        ModelConfig("small_cnn", weights="none", dropout=0.4),
    )
    model = _build(dropping)
    assert [x.name for x in model.layers[1:]] == [*(x.name for x in plain.layers[1:-1]), "dropout", "logits"]
    assert model.get_layer("dropout").rate == 0.4
    assert len(model.get_weights()) == len(plain.get_weights())


@pytest.mark.long
def test_every_width_of_mobilenet_v2_builds():
    from train.networks.registry import MOBILENET_V2_ALPHAS

    assert MOBILENET_V2_ALPHAS == (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
    sizes = [_build(ModelConfig(alpha=a, weights="none"), 32).count_params() for a in MOBILENET_V2_ALPHAS]
    assert sizes == sorted(set(sizes))


def test_a_width_that_is_not_published_is_refused():
    for alpha in (0.4, 2.0, 0.0):
        with pytest.raises(ConfigInvalid, match=rf"{alpha}.*0.35 or 0.5 or 0.75 or 1.0 or 1.3 or 1.4"):
            _build(ModelConfig(alpha=alpha, weights="none"), 32)


def test_a_width_that_would_be_ignored_is_refused():
    with pytest.raises(ConfigInvalid, match="small_cnn has no such width.*0.5.*1.0"):
        _build(ModelConfig("small_cnn", alpha=0.5, weights="none"))


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(ConfigInvalid, match="resnet5.*mobilenet_v2.*efficientnet_lite4") as caught:
        _build(ModelConfig("resnet5"))
    assert "resnet50" in caught.value.fix


def test_small_photos_are_refused_where_nothing_would_be_left_of_them():
    with pytest.raises(ConfigInvalid, match="64 px.*75 px or more"):
        _build(ModelConfig("inception_v3", weights="none"), 64)


# ---------------------------------------------------------------- first weights


def test_small_cnn_has_no_published_weights():
    with pytest.raises(ConfigInvalid, match="small_cnn.*imagenet.*none"):
        _build(ModelConfig("small_cnn"))
    assert _build(ModelConfig("small_cnn"), pretrained=False)


def test_a_local_copy_comes_before_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from train.networks.registry import KERAS

    file_name = KERAS["mobilenet_v2"][1].format(0.35)
    source = _build(ModelConfig(alpha=0.35, weights="none"), 32)
    import tf_keras

    features = tf_keras.Model(source.input, source.get_layer("out_relu").output)
    features.save_weights(str(tmp_path / file_name), save_format="h5")
    monkeypatch.setenv("DERMEDGE_WEIGHTS", str(tmp_path))
    loaded = _build(ModelConfig(alpha=0.35))
    wanted = features.get_weights()
    assert len(wanted) > 200
    for given, expected in zip(loaded.get_weights(), wanted, strict=False):
        np.testing.assert_array_equal(given, expected)
    # The same file by its path; and ignored when no weights are wanted.
    named = _build(ModelConfig(alpha=0.35, weights=str(tmp_path / file_name)))
    np.testing.assert_array_equal(named.get_weights()[0], wanted[0])
    fresh = _build(ModelConfig(alpha=0.35), pretrained=False)
    assert not np.array_equal(fresh.get_weights()[0], wanted[0])


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v2", *(pytest.param(name, marks=pytest.mark.long) for name in ("resnet50", "inception_v3"))],
)
def test_a_failed_download_says_where_the_file_belongs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tf_keras.src.utils import data_utils

    def offline(*_: object) -> None:
        raise urllib.error.URLError("no way out")

    monkeypatch.setattr(data_utils, "urlretrieve", offline)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("DERMEDGE_WEIGHTS", str(tmp_path))
    with pytest.raises(ConfigInvalid, match=f"weights of {name} could not be downloaded") as caught:
        _build(ModelConfig(name))
    assert "no way out" in caught.value.found
    assert f"{name}_weights_tf_dim_ordering_tf_kernels_" in caught.value.expected
    assert str(tmp_path) in caught.value.expected
    assert "DERMEDGE_WEIGHTS" in caught.value.fix


def test_weights_that_are_not_there_or_not_this_networks(tmp_path: Path):
    with pytest.raises(ConfigInvalid, match="does not exist.*nowhere.h5"):
        _build(ModelConfig(weights=str(tmp_path / "nowhere.h5")))
    (tmp_path / "text.h5").write_text("no weights", encoding="utf-8")
    with pytest.raises(ConfigInvalid, match="does not fit mobilenet_v2.*text.h5"):
        _build(ModelConfig(weights=str(tmp_path / "text.h5")))
    other = _build(ModelConfig("small_cnn", weights="none"))
    other.save_weights(str(tmp_path / "other.h5"), save_format="h5")
    with pytest.raises(ConfigInvalid, match="does not fit mobilenet_v2.*other.h5"):
        _build(ModelConfig(weights=str(tmp_path / "other.h5")))


@pytest.mark.long
def test_resnet50_sees_normalized_rgb_as_its_weights_saw_bgr_levels(tmp_path: Path):
    import tf_keras
    from tf_keras.applications import resnet50

    rng = np.random.default_rng(0)
    published = tf_keras.applications.ResNet50(input_shape=(None, None, 3), include_top=False, weights=None)
    # Statistics of layers that see levels; one variance is no larger than epsilon.
    variance = np.append(rng.uniform(10, 5000, 63), 1e-5)
    published.get_layer("conv1_bn").set_weights(
        [rng.uniform(0.5, 2, 64), rng.normal(0, 1, 64), rng.normal(0, 50, 64), variance]
    )
    kernel = published.get_layer("conv1_conv").get_weights()[0]
    published.get_layer("conv1_conv").set_weights([kernel, rng.normal(0, 1, 64)])
    path = tmp_path / "resnet50.h5"
    published.save_weights(str(path), save_format="h5")
    model = _build(ModelConfig("resnet50", weights=str(path)))

    levels = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    entry = [tf_keras.Model(x.input, x.get_layer("conv1_bn").output) for x in (published, model)]
    wanted = entry[0](resnet50.preprocess_input(levels.copy())).numpy()
    given = entry[1]((levels - 128) / 128).numpy()
    # The network's own border of three pixels is what cannot be the same.
    np.testing.assert_allclose(given[:, 2:-2, 2:-2], wanted[:, 2:-2, 2:-2], rtol=1e-3, atol=1e-3)
    assert np.abs(given - wanted).max() > 1e-3
    assert np.std(wanted) > 1
