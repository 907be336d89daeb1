"""Self-test vectors: drawn pictures inside the file and the outputs that it must give for them. numpy, Pillow.

The outputs are those of the engine that `edge_runtime` prefers. Kernel sets differ in rounding, and a picture between
two classes turns one step in an early layer into many at the end, so:

- of several drawn pictures of each size the one is taken whose output differs least between the installed kernel sets,
  unsaturated outputs first (a saturated one would hide errors);
- its tolerance is max(least, SAFETY_FACTOR * largest difference measured on it), with `least` for kernel sets that are
  not installed here (other machines, delegates).
"""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from convert.tflite.kernel_probe import KERNEL_SETS, probe
from edge_runtime.contract import GoldenVector, ModelContract
from edge_runtime.model.model_file import ModelFile
from edge_runtime.runner import Runner

# Not square, so that a wrong crop is noticed; wide, high, and odd-sized.
PICTURE_SIZES_PX = ((120, 90), (90, 120), (101, 77))
CANDIDATES_PER_SIZE = 4
# A top score above this proves little: many wrong models give it too.
SATURATED_SCORE = 0.97
SAFETY_FACTOR = 2.0
# Steps of 1/256. XNNPACK, built-in and reference kernels were seen 5 steps apart on one photo, on x86 and arm64.
LEAST_TOLERANCE_STEPS = 8.0
# Float kernels differ by the order of their sums: 1e-6 is usual, GPUs in half precision reach 1e-3.
LEAST_TOLERANCE_FLOAT = 1e-3


@dataclass(frozen=True)
class GoldenResult:
    """Self-test vectors, and how far the kernel sets were apart."""

    vectors: tuple[GoldenVector, ...]
    pictures: dict[str, bytes]
    """Entry name to PNG."""
    kernel_sets: dict[str, float]
    """Largest difference from the vectors, in their unit, by kernel set."""
    unavailable: dict[str, str]
    """Kernel set to the reason why it was not run."""


def draw_picture(index: int) -> bytes:
    """A PNG that looks like skin with a spot: gradient, blobs, fine waves; the same bytes for the same index.

    Smooth apart from the waves, so that it stays near 10 KB.
    """
    rng = np.random.default_rng([20180806, index])
    width_px, height_px = PICTURE_SIZES_PX[index % len(PICTURE_SIZES_PX)]
    y, x = np.mgrid[0:height_px, 0:width_px].astype(np.float64)
    ground = np.array([205.0, 160.0, 140.0]) + rng.uniform(-25, 25, 3)
    direction = rng.uniform(-0.3, 0.3, 2)
    pixels = ground + (direction[0] * (x - width_px / 2) + direction[1] * (y - height_px / 2))[..., None]
    for _ in range(6):
        center = rng.uniform(0.3, 0.7, 2) * (width_px, height_px)
        radius = rng.uniform(0.08, 0.22, 2) * min(width_px, height_px)
        blob = np.exp(-(((x - center[0]) / radius[0]) ** 2 + ((y - center[1]) / radius[1]) ** 2))
        pixels -= blob[..., None] * rng.uniform(10, 60) * np.array([0.9, 1.2, 1.0])
    for _ in range(3):
        wave = rng.uniform(-0.9, 0.9, 2)
        pixels += (rng.uniform(1, 4) * np.sin(wave[0] * x + wave[1] * y + rng.uniform(0, 6)))[..., None]
    picture = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def make_golden(tflite: bytes, contract: ModelContract) -> GoldenResult:
    """Run drawn pictures through the model, with or without its zip tail, on every kernel set; keep one of each size.

    Raises:
        InterpreterError: The preferred engine cannot run the model.
    """
    drawn = [draw_picture(i) for i in range(len(PICTURE_SIZES_PX) * CANDIDATES_PER_SIZE)]
    with Runner.open(ModelFile("the converted model", tflite, contract, vouched=True)) as runner:
        pixels = [runner.pixels_u8(photo, name="self-test picture") for photo in drawn]
        tensors = [runner.input_tensor(pixels_u8) for pixels_u8 in pixels]
        outputs = [tuple(map(float, runner.raw_values(runner.run(tensor)))) for tensor in tensors]
        runtime = f"{runner.engine.name}, default kernels, {platform.machine()}"
        quantized = runner.engine.output.quantized
    least, unit = (LEAST_TOLERANCE_STEPS, 256.0) if quantized else (LEAST_TOLERANCE_FLOAT, 1.0)
    by_kernel_set, unavailable = _differences(tflite, tensors, outputs)
    spread = np.max(list(by_kernel_set.values()), axis=0)
    sizes = len(PICTURE_SIZES_PX)
    candidates = [range(size, len(drawn), sizes) for size in range(sizes)]
    chosen = [min(x, key=lambda i: (max(outputs[i]) / unit > SATURATED_SCORE, spread[i])) for x in candidates]
    vectors = tuple(
        GoldenVector(
            image=f"golden_{number}.png",
            image_sha256=hashlib.sha256(drawn[i]).hexdigest(),
            pixels_sha256=hashlib.sha256(pixels[i]).hexdigest(),
            output=outputs[i],
            tolerance=max(least, SAFETY_FACTOR * float(spread[i])),
            runtime=runtime,
        )
        for number, i in enumerate(chosen)
    )
    return GoldenResult(
        vectors,
        {vector.image: drawn[i] for vector, i in zip(vectors, chosen, strict=True)},
        {name: float(differences[chosen].max()) for name, differences in by_kernel_set.items()},
        unavailable,
    )


def _differences(
    tflite: bytes, input_tensors: Sequence[bytes], expected: Sequence[tuple[float, ...]]
) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, str]]:
    """Largest difference of each picture from `expected` by kernel set, and the sets that could not be run."""
    found, unavailable = {}, {}
    for kernel_set in KERNEL_SETS:
        name, outputs = probe(tflite, input_tensors, kernel_set)
        if outputs is None:
            unavailable[kernel_set] = name
        else:
            found[name] = np.abs(np.subtract(outputs, expected)).max(axis=1)
    return found, unavailable
