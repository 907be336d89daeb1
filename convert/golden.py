"""Golden vectors: drawn pictures inside the file and the answers that it must give to them. numpy, Pillow, engines.

The answers come from the engine that `edge_runtime` prefers. Kernel sets differ in rounding, so the tolerance is taken
from measurement: the same file is run on every kernel set that is installed, and the rule is

    tolerance = max(least, SAFETY_FACTOR * largest difference measured)

with `least` covering kernel sets that are not installed here (other machines, delegates).
"""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from convert.kernel_probe import KERNEL_SETS, probe
from edge_runtime.contract import GoldenVector, ModelContract
from edge_runtime.engines import Engine, open_engine, raw_values
from edge_runtime.preprocess import fit_pixels, input_bytes

# Not square, so that a wrong crop is noticed; wide, high, and odd-sized.
PICTURE_SIZES_PX = ((120, 90), (90, 120), (101, 77))
SAFETY_FACTOR = 2.0
# Steps of 1/256. XNNPACK, built-in and reference kernels were seen 5 steps apart on one photo, on x86 and arm64.
LEAST_TOLERANCE_STEPS = 8.0
# Float kernels differ by the order of their sums: 1e-6 is usual, GPUs in half precision reach 1e-3.
LEAST_TOLERANCE_FLOAT = 1e-3


@dataclass(frozen=True)
class GoldenResult:
    """Golden vectors and how far the kernel sets were apart."""

    vectors: tuple[GoldenVector, ...]
    pictures: dict[str, bytes]
    """Entry name to PNG."""
    kernel_sets: dict[str, float]
    """Largest difference from the vectors, in their unit, by kernel set."""
    unavailable: dict[str, str]
    """Kernel set to why it was not run."""


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
    """Runs the drawn pictures through the model on every kernel set.

    Args:
        tflite: The model, with or without its zip tail.
        contract: Says how pictures become pixels.

    Raises:
        InterpreterError: The preferred engine cannot run the model.
    """
    pictures = {f"golden_{i}.png": draw_picture(i) for i in range(len(PICTURE_SIZES_PX))}
    pixels = {name: fit_pixels(photo, contract, name=name) for name, photo in pictures.items()}
    with closing_engine(tflite) as engine:
        tensors = {name: fill(engine, pixels_u8, contract) for name, pixels_u8 in pixels.items()}
        outputs = {name: run_raw(engine, tensor) for name, tensor in tensors.items()}
        runtime = f"{engine.name}, default kernels, {platform.machine()}"
        least = LEAST_TOLERANCE_STEPS if engine.output.quantized else LEAST_TOLERANCE_FLOAT
    kernel_sets, unavailable = _differences(tflite, list(tensors.values()), list(outputs.values()))
    tolerance = max(least, SAFETY_FACTOR * max(kernel_sets.values(), default=0.0))
    vectors = tuple(
        GoldenVector(
            image=name,
            image_sha256=hashlib.sha256(photo).hexdigest(),
            pixels_sha256=hashlib.sha256(pixels[name]).hexdigest(),
            output=outputs[name],
            tolerance=tolerance,
            runtime=runtime,
        )
        for name, photo in pictures.items()
    )
    return GoldenResult(vectors, pictures, kernel_sets, unavailable)


@contextmanager
def closing_engine(tflite: bytes, name: str = "auto", threads: int = 1) -> Iterator[Engine]:
    """An engine that is closed at the end of the block."""
    engine = open_engine(tflite, engine=name, threads=threads)
    try:
        yield engine
    finally:
        engine.close()


def fill(engine: Engine, pixels_u8: bytes, contract: ModelContract) -> bytes:
    """The engine's input tensor for the contract's pixels."""
    spec = engine.input
    return input_bytes(pixels_u8, contract.normalization, spec.dtype, spec.scale, spec.zero_point)


def run_raw(engine: Engine, input_tensor: bytes) -> tuple[float, ...]:
    """Raw output values: integers for a quantized model."""
    return tuple(float(value) for value in raw_values(engine.run(input_tensor), engine.output))


def _differences(
    tflite: bytes, input_tensors: Sequence[bytes], expected: Sequence[tuple[float, ...]]
) -> tuple[dict[str, float], dict[str, str]]:
    """Largest difference from `expected` by kernel set, and the sets that could not be run."""
    found: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for kernel_set in KERNEL_SETS:
        name, outputs = probe(tflite, input_tensors, kernel_set)
        if outputs is None:
            unavailable[kernel_set] = name
        else:
            found[name] = float(np.abs(np.subtract(outputs, expected)).max())
    return found, unavailable
