"""EfficientNet-Lite on its way to a file: flat, with slashes in its layers' names, kernels of 3 and 5, dropout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.convert.synthetic_run import LABELS, SIZE_PX, make_contract, make_run

pytestmark = pytest.mark.tf

pytest.importorskip("tensorflow", exc_type=ImportError)
import tf_keras  # noqa: E402 - after the skip

from convert.export.float_model import Predictor  # noqa: E402
from convert.quantization.equalize import equalized_copy  # noqa: E402
from convert.quantization.fake_quant import quantize  # noqa: E402
from convert.tflite.embed import read_object  # noqa: E402
from train.configs.schema import ModelConfig  # noqa: E402
from train.networks import efficientnet_lite  # noqa: E402
from train.networks import registry as backbones  # noqa: E402

# One block of each kind: without expansion, with a stride, with the addition.
TINY_STAGES = ((1, 3, 1, 1, 8), (1, 5, 2, 6, 16), (2, 3, 1, 6, 16))
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
def converted(tiny_lite: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained run's files by recipe; read-only."""
    from convert.__main__ import main

    folder = tmp_path_factory.mktemp("lite")
    run = make_run(folder, build=tiny_lite)
    files = {}
    for recipe in ("float32", "int8_ptq", "int8_qat"):
        files[recipe] = folder / f"{recipe}.tflite"
        assert main([str(run), "--recipe", recipe, "--out", str(files[recipe])]) == 0
    return files


def _photos(count: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(40, 220, (count, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)


@pytest.mark.parametrize("recipe", ["float32", "int8_ptq", "int8_qat"])
def test_the_file_answers_as_the_network(recipe: str, converted: dict[str, Path]) -> None:
    report = json.loads(converted[recipe].with_suffix(".json").read_text())
    assert report["check"]["agreement"] > 0.97
    assert report["test"]["converted"]["balanced_accuracy"] > 0.6
    # Four blocks. Stem, three expansions (the first block has none), four projections, head; all but one block add.
    assert report["tensors"]["operators"]["DEPTHWISE_CONV_2D"] == 4
    assert report["tensors"]["operators"]["CONV_2D"] == 9
    assert report["tensors"]["operators"]["ADD"] == 3
    assert "BATCH" not in " ".join(report["tensors"]["operators"])


@pytest.mark.parametrize("recipe", ["int8_ptq", "int8_qat"])
def test_layer_names_survive(recipe: str, converted: dict[str, Path]) -> None:
    model = read_object(converted[recipe].read_bytes())
    names = b" ".join(tensor.name for tensor in model.subgraphs[0].tensors)
    for layer in (b"efficientnet_lite0/stem/", b"efficientnet_lite0/blocks_1/depthwise_conv2d", b"logits"):
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


def test_rounding_is_absorbed_in_every_normalization(tiny_lite: Any) -> None:
    """A normalization that the walk over layers missed would keep the statistics that it had."""
    model, photos = tiny_lite(), _photos()
    quantized = quantize(model, make_contract(), photos)
    equalized = {x.name: x for x in equalized_copy(model).layers}
    inner = [getattr(layer, "layer", layer) for layer in quantized.layers]
    normalizations = [x for x in inner if isinstance(x, tf_keras.layers.BatchNormalization)]
    assert len(normalizations) == 13
    for layer in normalizations:
        before = equalized[layer.name].get_weights()
        assert not np.array_equal(layer.get_weights()[2], before[2]), layer.name
    answers = [Predictor(x, make_contract())(photos) for x in (model, quantized)]
    assert 0 < np.abs(answers[0] - answers[1]).max() < EIGHT_BITS


def test_dropout_is_off_while_the_network_learns_to_round(tiny_lite: Any) -> None:
    """The float model's answer is what is learnt; a student that forgets features at random learns something else."""
    model, photos = tiny_lite(), _photos(4)
    assert any(isinstance(x, tf_keras.layers.Dropout) and x.rate > 0 for x in model.layers)
    quantized = quantize(model, make_contract(), photos)
    images = photos.astype(np.float32) / 128 - 1
    runs = [quantized(images, training=True).numpy() for _ in range(2)]
    np.testing.assert_allclose(runs[0], runs[1], atol=0.05)
