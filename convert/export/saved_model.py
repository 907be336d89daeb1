"""A SavedModel as a float model: from normalized pixels to logits or probabilities. TensorFlow.

Its graph stays as it is, so fine-tuning and the correction of rounding shifts, which need layers, are not available.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from convert.export.saved_graph import require_plain_graph
from edge_runtime.contract import ModelContract
from edge_runtime.errors import RunInvalid

SIGNATURE = "serving_default"
# Of a softmax in float32.
SUM_TOLERANCE = 1e-3
LEAST_PROBABILITY = 1e-30


class SavedNetwork:
    """Callable like a Keras model that ends in logits.

    Raises:
        ModelHoldsCode: Its graph does more than compute; nothing of it was run.
        RunInvalid: Not loadable, or its signature does not fit the contract.
    """

    def __init__(self, path: Path, contract: ModelContract) -> None:
        try:
            require_plain_graph(path)
            # Kept: its variables live as long as it does.
            self._loaded = tf.saved_model.load(str(path))
            self._function = self._loaded.signatures[SIGNATURE]
        # A file of variables that was cut off is an IndexError.
        except (OSError, ValueError, LookupError, AttributeError, tf.errors.OpError) as error:
            found = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            expected = f"a SavedModel with the signature {SIGNATURE!r}"
            raise RunInvalid(f"{path}: cannot call the SavedModel", found=found, expected=expected) from error
        (_, inputs), outputs = self._function.structured_input_signature, self._function.structured_outputs
        wanted = (contract.input.height_px, contract.input.width_px, 3)
        specs, results = list(inputs.values()), list(outputs.values())
        if (
            len(specs) != 1
            or len(results) != 1
            or specs[0].dtype != tf.float32
            or specs[0].shape.rank != 4
            or not specs[0].shape[1:].is_compatible_with(wanted)
            or specs[0].shape[0] not in (None, 1)
            or results[0].dtype != tf.float32
            or not results[0].shape.is_compatible_with((None, len(contract.labels)))
        ):
            described = [[(x.dtype.name, x.shape) for x in part] for part in (specs, results)]
            raise RunInvalid(
                f"{path}: unsupported SavedModel signature",
                found=f"inputs {described[0]}, outputs {described[1]}",
                expected=f"one float32 [batch, {', '.join(map(str, wanted))}] of normalized pixels, batch free or 1, "
                f"and one float32 [batch, {len(contract.labels)}]",
                fix="export it with this signature",
            )
        self._input, self._one_by_one = next(iter(inputs)), specs[0].shape[0] == 1
        self._temperature = contract.calibration.temperature
        self.gives_probabilities = self._looks_like_probabilities(wanted)
        if self.gives_probabilities and self._temperature != 1:
            raise RunInvalid(
                f"{path}: cannot fold a temperature into a SavedModel that ends in a softmax",
                found=f"temperature {self._temperature:g} in the contract",
                expected="temperature 1, or a SavedModel that returns logits",
            )

    def __call__(self, images: Any, *, training: bool = False) -> Any:
        """Logits, divided by the temperature; logarithms of a model's probabilities."""
        found = self._raw(images)
        if self.gives_probabilities:
            return tf.math.log(tf.maximum(found, LEAST_PROBABILITY))
        return found / self._temperature

    def scores(self, images: Any, *, training: bool = False) -> Any:
        """Probabilities."""
        found = self._raw(images)
        return found if self.gives_probabilities else tf.nn.softmax(found / self._temperature)

    def _raw(self, images: Any) -> Any:
        def call(batch: Any) -> Any:
            return next(iter(self._function(**{self._input: batch}).values()))

        if self._one_by_one and images.shape[0] != 1:
            return tf.map_fn(lambda image: call(image[tf.newaxis])[0], images)
        return call(images)

    def _looks_like_probabilities(self, shape: tuple[int, int, int]) -> bool:
        rng = np.random.default_rng(0)
        images = rng.uniform(-1, 1, (2, *shape)).astype(np.float32)
        found = np.concatenate([self._raw(tf.constant(image[np.newaxis])).numpy() for image in images])
        return bool((found >= 0).all() and (np.abs(found.sum(axis=1) - 1) <= SUM_TOLERANCE).all())
