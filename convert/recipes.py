"""Recipes: names that are specifications, decoded here. stdlib only.

    name          weights   activations  input, output   needs                    taken by
    float32       float32   float32      float32         nothing                  XNNPACK, GPU
    float16       float16   float32      float32         nothing                  XNNPACK, GPU
    dynamic_int8  int8      float32      float32         nothing                  XNNPACK
    int8_ptq      int8      int8         uint8           500 train photos         XNNPACK, Edge TPU, NPU
    int8_qat      int8      int8         uint8           the same, fine-tuning    XNNPACK, Edge TPU, NPU
    int16x8       int8      int16        float32         500 train photos         built-in kernels, some NPUs

float32       The network as trained; batch normalization folded into the kernels. The reference of every comparison.
float16       Half the size. Weights are widened to float32 when the file is loaded (a GPU delegate may compute in
              float16), so answers move by rounding of the weights only. No faster on a CPU, no smaller in its memory.
dynamic_int8  A quarter of the size, without calibration photos. Weights of layers with at least 1,024 of them are
              int8, per channel; each activation's range is measured anew for every photo, so times vary by kernel and
              a delegate that wants integers takes nothing. Layers below 1,024 weights stay float32.
int8_ptq      A quarter of the size, and integers throughout. Post-training quantization: ranges from calibration
              photos, weights rounded as they are (per channel; those of depthwise layers and the last layer too);
              batch normalization absorbs beforehand what rounding will shift
              (convert/quantization/rounding_shift.py). Loses most.
int8_qat      As int8_ptq, but the weights are first fine-tuned while rounding is simulated (quantization-aware
              training), so that they end where rounding hurts least. Minutes of fine-tuning.
int16x8       A quarter of the size; activations in 65,536 steps lose next to nothing. LiteRT has only plain kernels for
              it: XNNPACK, GPU and Edge TPU take none of it, and on a CPU it is the slowest of all. For NPUs that ask
              for it, and to tell what the activations cost from what the weights cost.

First part of a name: type of weights and activations. Second part: how the ranges and weights came about. uint8
recipes take pixels that map to themselves (scale 1/128, zero point 128) and give uint8 softmax (scale 1/256, zero
point 0); float32 ones take pixels normalized as the contract says and give float32 softmax. Every file has a batch of
exactly 1. Which operators a target takes says `python -m convert.tflite.inspect`; that a device does take them, only
the
device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_runtime.errors import UsageError

# From so many train photos the range of every activation is taken. A run that has fewer is refused: the ranges would be
# those of a few odd photos, and nobody would see it.
CALIBRATION_PHOTOS = 500
# The gate compares at least so many photos: with 200, an agreement of 0.95 has a 95 % half-width of 0.03.
CHECK_PHOTOS = 200


@dataclass(frozen=True)
class Limits:
    """How far the converted file may be from the Keras model on the gate's photos; beyond, nothing is written."""

    min_agreement: float
    """Share of photos with the same top label."""
    max_mean_score_difference: float
    """Mean over photos of the largest |difference| of any score."""
    max_score_difference: float
    """Largest |difference| of any score of any photo."""
    max_balanced_accuracy_loss: float
    """Keras minus converted, on the gate's photos."""


@dataclass(frozen=True)
class QatSettings:
    """Quantization-aware fine-tuning; convert/quantization/qat.py explains each choice."""

    epochs: int = 4
    """At most; of 512 views each, see convert/quantization/batches.py."""
    patience: int = 2
    """Epochs without a better file after which it ends."""
    batch: int = 32
    learning_rate: float = 1e-5
    """Peak; linear warm-up over a tenth of the steps, then a cosine down to zero. On HAM10000's MobileNetV2, whose
    simulated answers agree with the float model's on 96.6 % of the validation photos before the first step, an epoch
    at 1e-5 ended at 96.4 % with a smaller mean score difference; at 5e-5 two epochs ended at 95.0 %."""
    distillation_weight: float = 1.0
    """Weight of the divergence from the float model's answer to the same view; 0 leaves the float model out."""
    distillation_temperature: float = 2.0
    """Both models' logits are divided by this before they are compared."""
    hard_label_weight: float = 0.0
    """Weight of the cross-entropy to the true labels."""
    soft_label_weight: float = 0.25
    """Weight of the divergence from the soft labels of the run's own teacher, where it had one."""
    checkpoint_every_steps: int = 50
    seed: int = 0


# Settings that the command line can change.
QAT_OPTIONS = (
    "epochs",
    "patience",
    "batch",
    "learning_rate",
    "distillation_weight",
    "hard_label_weight",
    "soft_label_weight",
)


@dataclass(frozen=True)
class Recipe:
    """What a recipe name stands for."""

    name: str
    tensor_dtype: str
    """Of input and output: `float32` or `uint8`."""
    needs_calibration: bool
    needs_qat: bool
    limits: Limits
    weights: str = "float32"
    """`float32`, `float16` or `int8`."""
    activations: str = "float32"
    """`float32`, `int8` or `int16`."""

    @property
    def quantized(self) -> bool:
        """Whether every tensor must be integer, from uint8 pixels to uint8 scores."""
        return self.tensor_dtype != "float32"


# float32: only summation order and the folded batch normalization differ; 1e-3 is fifty times what is usual. The top
# label may flip where two scores are that near, hence not 1.0.
FLOAT32_LIMITS = Limits(0.995, 1e-4, 1e-3, 0.002)
# Quantized: steps of 1/256 alone flip near-ties. A broken conversion (wrong normalization, label order, range)
# agrees on 0.1 to 0.7 of the photos, far below. The loss limit is twice the 0.015 that the project promises on a
# large test split, since the gate's few photos of rare classes make it noisy. One photo in hundreds may sit on an
# edge and move far: the largest difference only guards against saturation.
# float16: weights keep 11 bits; on HAM10000's MobileNetV2 fifty layers add up to scores that move by 0.0055 on average,
# and broken conversions move them by more than 0.1. dynamic_int8 rounds the weights of int8_ptq, and nothing absorbs
# what that shifts: it cannot be held closer. int16x8: int8 weights, and integer kernels whose softmax has 65,536 steps.
INT8_PTQ_LIMITS = Limits(0.88, 0.06, 0.85, 0.05)
INT8_QAT_LIMITS = Limits(0.90, 0.05, 0.85, 0.03)
FLOAT16_LIMITS = Limits(0.98, 0.02, 0.2, 0.01)
DYNAMIC_INT8_LIMITS = INT8_PTQ_LIMITS
INT16X8_LIMITS = Limits(0.93, 0.04, 0.6, 0.02)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe("float32", "float32", needs_calibration=False, needs_qat=False, limits=FLOAT32_LIMITS),
            Recipe(
                "float16",
                "float32",
                needs_calibration=False,
                needs_qat=False,
                limits=FLOAT16_LIMITS,
                weights="float16",
            ),
            Recipe(
                "dynamic_int8",
                "float32",
                needs_calibration=False,
                needs_qat=False,
                limits=DYNAMIC_INT8_LIMITS,
                weights="int8",
            ),
            Recipe(
                "int8_ptq",
                "uint8",
                needs_calibration=True,
                needs_qat=False,
                limits=INT8_PTQ_LIMITS,
                weights="int8",
                activations="int8",
            ),
            Recipe(
                "int8_qat",
                "uint8",
                needs_calibration=True,
                needs_qat=True,
                limits=INT8_QAT_LIMITS,
                weights="int8",
                activations="int8",
            ),
            Recipe(
                "int16x8",
                "float32",
                needs_calibration=True,
                needs_qat=False,
                limits=INT16X8_LIMITS,
                weights="int8",
                activations="int16",
            ),
        )
    }
)


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: Unknown; the message lists the known ones.
    """
    if name not in RECIPES:
        raise UsageError("unknown recipe", found=name, expected=" or ".join(RECIPES))
    return RECIPES[name]


def options_of(
    recipe: Recipe, settings: QatSettings, seed: int, *, keep_float: float | None = None
) -> list[str]:
    """The command's options that differ from their defaults; paths are left out, they belong to one machine."""
    options = ["--recipe", recipe.name]
    if seed:
        options += ["--seed", str(seed)]
    if keep_float is not None:
        options += ["--keep-float", "auto", "--max-loss", str(keep_float)]
    if recipe.needs_qat:
        defaults = QatSettings()
        for name in QAT_OPTIONS:
            value = getattr(settings, name)
            if value != getattr(defaults, name):
                options += [f"--{name.replace('_', '-')}", str(value)]
    return options


def as_dict(recipe: Recipe) -> dict[str, object]:
    """Plain values for model.json."""
    return dataclasses.asdict(recipe)
