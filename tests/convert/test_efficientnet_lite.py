"""Conversion of EfficientNet-Lite: flat, with slashes in its layers' names, kernels of 3 and 5, dropout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import convert
from convert.tflite.reader import read_tflite
from tests.convert.conftest import RUN_SOURCES
from tests.convert.synthetic_run import LABELS, SIZE_PX, make_contract, make_run
from tests.shared_artifact import shared_artifact

pytestmark = pytest.mark.tf

pytest.importorskip("tensorflow", exc_type=ImportError)
import tf_keras  # noqa: E402 - after the skip

from convert.export.float_model import Predictor  # noqa: E402
from convert.quantization.equalize import equalized_copy  # noqa: E402
from convert.quantization.fake_quant import quantize  # noqa: E402
from train.configs.schema import ModelConfig  # noqa: E402
from train.networks import efficientnet_lite  # noqa: E402
from train.networks import registry as backbones  # noqa: E402

# One block of each kind: without expansion, with a stride, with the addition.
TINY_STAGES = ((1, 3, 1, 1, 8), (1, 5, 2, 6, 16), (2, 3, 1, 6, 16))
LITE_SOURCES = (
    *RUN_SOURCES,
    "tests/convert/test_efficientnet_lite.py",
    "train/networks",
    "train/configs/schema.py",
)
# Float32 products in another order; logits are of size 1.
SAME_FUNCTION = 1e-4
# Simulated 8-bit rounding of an untrained network's scores.
EIGHT_BITS = 0.03


@pytest.fixture(scope="module")
def tiny_lite() -> Iterator[Any]:
    """Builds a network of the true builder, a hundred times smaller."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet_lite, "STAGES", TINY_STAGES)
        patch.setattr(efficientnet_lite, "STEM_FILTERS", 8)
        patch.setattr(efficientnet_lite, "HEAD_FILTERS", 32)
        yield _build


def _build() -> Any:
    config = ModelConfig(backbone="efficientnet_lite0", weights="none", dropout=0.3, batch_norm_momentum=0.8)
    tf_keras.utils.set_random_seed(7)
    return backbones.build_model(config, len(LABELS), SIZE_PX)


@pytest.fixture(scope="module")
def lite_run(tiny_lite: Any) -> Path:
    """A trained run; read only, RUN/convert aside."""
    return shared_artifact("lite-run", LITE_SOURCES, lambda folder: make_run(folder, build=tiny_lite)) / "run"


@pytest.fixture(scope="module")
def converted(lite_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run's file of a recipe, made once."""

    @cache
    def convert_once(recipe: str) -> Path:
        out = tmp_path_factory.mktemp("lite") / f"{recipe}.tflite"
        convert(lite_run, recipe, out)
        return out

    return convert_once


@pytest.fixture(scope="module")
def quantized(tiny_lite: Any) -> tuple[Any, Any]:
    """A network and its quantization-aware twin."""
    model = tiny_lite()
    return model, quantize(model, make_contract(), _photos())


def _photos(count: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(40, 220, (count, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["float32", "int8_ptq", "int8_qat"])
def test_the_file_predicts_as_the_network(recipe: str, converted: Callable[[str], Path]) -> None:
    report = json.loads(converted(recipe).with_suffix(".json").read_text())
    assert report["check"]["agreement"] > 0.97
    assert report["test"]["converted"]["balanced_accuracy"] > 0.6
    # Four blocks. Stem, three expansions (the first block has none), four projections, head; all but one block add.
    assert report["tensors"]["operators"]["DEPTHWISE_CONV_2D"] == 4
    assert report["tensors"]["operators"]["CONV_2D"] == 9
    assert report["tensors"]["operators"]["ADD"] == 3
    assert "BATCH" not in " ".join(report["tensors"]["operators"])


@pytest.mark.long
@pytest.mark.parametrize("recipe", ["int8_ptq", "int8_qat"])
def test_layer_names_survive(recipe: str, converted: Callable[[str], Path]) -> None:
    names = " ".join(tensor.name for tensor in read_tflite(converted(recipe)).tensors)
    for layer in ("efficientnet_lite0/stem/", "efficientnet_lite0/blocks_1/depthwise_conv2d", "logits"):
        assert layer in names


def test_every_depthwise_kernel_is_equalized_and_the_function_stays(tiny_lite: Any) -> None:
    model = tiny_lite()
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.DepthwiseConv2D):
            (kernel,) = layer.get_weights()
            spread = rng.uniform(0.05, 2, kernel.shape[2]).reshape(1, 1, -1, 1)
            layer.set_weights([kernel * spread])
    copy = equalized_copy(model)
    images = _photos().astype(np.float32) / 128 - 1
    np.testing.assert_allclose(
        copy(images, training=False).numpy(), model(images, training=False).numpy(), atol=SAME_FUNCTION
    )
    kernels = [x for x in copy.layers if isinstance(x, tf_keras.layers.DepthwiseConv2D)]
    assert len(kernels) == 4
    for layer in kernels:
        np.testing.assert_allclose(np.abs(layer.get_weights()[0]).max(axis=(0, 1, 3)), 1, rtol=1e-5)


def test_rounding_is_absorbed_in_every_normalization(quantized: tuple[Any, Any]) -> None:
    """A normalization that the walk over layers missed would keep the statistics that it had."""
    model, twin = quantized
    equalized = {x.name: x for x in equalized_copy(model).layers}
    inner = [getattr(layer, "layer", layer) for layer in twin.layers]
    normalizations = [x for x in inner if isinstance(x, tf_keras.layers.BatchNormalization)]
    assert len(normalizations) == 13
    for layer in normalizations:
        before = equalized[layer.name].get_weights()
        assert not np.array_equal(layer.get_weights()[2], before[2]), layer.name
    scores = [Predictor(x, make_contract())(_photos()) for x in quantized]
    assert 0 < np.abs(scores[0] - scores[1]).max() < EIGHT_BITS


def test_dropout_is_off_during_fine_tuning(quantized: tuple[Any, Any]) -> None:
    """The distillation target is the float model without dropout; a student with dropout would fit something else."""
    model, twin = quantized
    assert any(isinstance(x, tf_keras.layers.Dropout) and x.rate > 0 for x in model.layers)
    images = _photos(4).astype(np.float32) / 128 - 1
    runs = [twin(images, training=True).numpy() for _ in range(2)]
    np.testing.assert_allclose(runs[0], runs[1], atol=0.05)
