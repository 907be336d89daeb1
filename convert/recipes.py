"""Recipes: names that are specifications, decoded here. stdlib only.

    float32     weights float32, activations float32; float32 input and output. Needs nothing.
    int8_ptq    weights int8 (per channel), activations int8; uint8 input and output. Post-training quantization:
                ranges from calibration photos, weights rounded as they are; batch normalization absorbs beforehand
                what rounding will shift (convert/rounding_shift.py).
    int8_qat    as int8_ptq, but the weights are first fine-tuned while rounding is simulated (quantization-aware
                training), so that they end where rounding hurts least.

First part of a name: type of weights and activations. Second part: how the ranges and weights came about. Quantized
recipes take uint8 pixels that map to themselves (scale 1/128, zero point 128) and give uint8 softmax (scale 1/256,
zero point 0).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_runtime.errors import UsageError

# 500 photos are the least that the range of every activation is taken from; fewer only if the train split has fewer.
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
    """Quantization-aware fine-tuning; convert/qat.py explains each choice."""

    epochs: int = 1
    batch: int = 32
    learning_rate: float = 1e-5
    """Peak; linear warm-up over a tenth of the steps, then a cosine down to zero. On HAM10000's MobileNetV2, whose
    simulated answers agree with the float model's on 96.6 % of the validation photos before the first step, an epoch
    at 1e-5 ended at 96.4 % with a smaller mean score difference; at 5e-5 two epochs ended at 95.0 %."""
    distillation_temperature: float = 2.0
    """Both models' logits are divided by this before they are compared."""
    hard_label_weight: float = 0.0
    """Weight of the cross-entropy to the true labels; the distillation term has weight 1."""
    soft_label_weight: float = 0.25
    """Weight of the divergence from the soft labels of the run's own teacher, where it had one."""
    checkpoint_every_steps: int = 50
    seed: int = 0


# Settings that the command line can change.
QAT_OPTIONS = ("epochs", "batch", "learning_rate", "hard_label_weight", "soft_label_weight")


@dataclass(frozen=True)
class Recipe:
    """What a recipe name stands for."""

    name: str
    tensor_dtype: str
    """Of input and output: `float32` or `uint8`."""
    needs_calibration: bool
    needs_qat: bool
    limits: Limits

    @property
    def quantized(self) -> bool:
        """Whether every tensor must be integer."""
        return self.tensor_dtype != "float32"


# float32: only summation order and the folded batch normalization differ; 1e-3 is fifty times what is usual. The top
# label may flip where two scores are that near, hence not 1.0.
FLOAT32_LIMITS = Limits(0.995, 1e-4, 1e-3, 0.002)
# Quantized: steps of 1/256 alone flip near-ties. A broken conversion (wrong normalization, label order, range)
# agrees on 0.1 to 0.7 of the photos, far below. The loss limit is twice the 0.015 that the project promises on a
# large test split, since the gate's few photos of rare classes make it noisy. One photo in hundreds may sit on an
# edge and move far: the largest difference only guards against saturation.
INT8_PTQ_LIMITS = Limits(0.88, 0.06, 0.85, 0.05)
INT8_QAT_LIMITS = Limits(0.90, 0.05, 0.85, 0.03)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe("float32", "float32", needs_calibration=False, needs_qat=False, limits=FLOAT32_LIMITS),
            Recipe("int8_ptq", "uint8", needs_calibration=True, needs_qat=False, limits=INT8_PTQ_LIMITS),
            Recipe("int8_qat", "uint8", needs_calibration=True, needs_qat=True, limits=INT8_QAT_LIMITS),
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


def options_of(recipe: Recipe, settings: QatSettings, seed: int) -> list[str]:
    """The command's options that differ from their defaults; paths are left out, they belong to one machine."""
    options = ["--recipe", recipe.name]
    if seed:
        options += ["--seed", str(seed)]
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
