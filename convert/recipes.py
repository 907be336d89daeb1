"""Recipes: a name stands for the numbers inside a file and for the steps that make it. stdlib only.

README.md says what each gives and costs. uint8 recipes take pixels that map to themselves (scale 1/128, zero point 128)
and give uint8 softmax (scale 1/256, zero point 0); float32 ones take pixels normalized by the contract and give float32
softmax. The batch size is always 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edge_runtime.errors import UsageError
from train.artifacts.command import not_negative, positive

# The range of every activation comes from so many train photos. With fewer, the ranges would be those of a few odd
# photos, and nobody would see it: such a run is refused.
CALIBRATION_PHOTOS = 500
# The acceptance test compares at least so many photos: with 200, an agreement of 0.95 has a 95 % half-width of 0.03.
CHECK_PHOTOS = 200
# Share of predictions that may change in a mixed-precision file.
DEFAULT_MAX_LOSS = 0.02


@dataclass(frozen=True)
class Limits:
    """Largest accepted differences between the converted file and the Keras model on the acceptance test's photos."""

    min_agreement: float
    """Share of photos with the same top label."""
    max_mean_score_difference: float
    """Mean over photos of the largest |difference| of any score."""
    max_score_difference: float
    """Largest |difference| of any score of any photo."""
    max_balanced_accuracy_loss: float
    """Keras minus converted."""


@dataclass(frozen=True)
class QatSettings:
    """Quantization-aware fine-tuning; quantization/qat.py explains each choice."""

    epochs: int = 4
    """At most; of 512 views each, see quantization/batches.py."""
    patience: int = 2
    """Early stopping: epochs without better float/int8 agreement."""
    batch: int = 32
    learning_rate: float = 1e-5
    """Peak. On HAM10000's MobileNetV2 5e-5 ended with less agreement than before the first step."""
    distillation_weight: float = 1.0
    """Of the divergence from the float model's prediction on the same view; 0 turns distillation off."""
    distillation_temperature: float = 2.0
    """Divides both models' logits."""
    hard_label_weight: float = 0.0
    """Of the cross-entropy with the true labels."""
    soft_label_weight: float = 0.25
    """Of the divergence from the soft labels of the run's own teacher, where it had one."""
    checkpoint_every_steps: int = 50
    seed: int = 0


QAT_OPTIONS: Mapping[str, tuple[type, str]] = MappingProxyType(
    {
        "epochs": (int, "Largest number of epochs"),
        "patience": (int, "Early stopping: epochs without better float/int8 agreement"),
        "batch": (int, "Photos per step"),
        "learning_rate": (float, "Peak learning rate"),
        "distillation_weight": (float, "Weight of the distillation loss (0 = off)"),
        "hard_label_weight": (float, "Weight of the cross-entropy with the true labels"),
        "soft_label_weight": (float, "Weight of the soft labels of a distilled run's teacher"),
    }
)
"""Settings that the command line can change: type and help."""


@dataclass(frozen=True)
class Recipe:
    """A name with its numbers; its steps are those of `convert.export.steps.Steps.apply_recipe`."""

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

    @property
    def dynamic(self) -> bool:
        """Whether activations are quantized at run time, layer by layer; small layers stay float."""
        return self.weights == "int8" and self.activations == "float32"


# float32: only summation order and the folded batch normalization differ; 1e-3 is fifty times the usual. The top label
# may flip where two scores are that near, hence not 1.0.
# Quantized: steps of 1/256 alone flip near-ties. A broken conversion (wrong normalization, label order, range) agrees
# on 0.1 to 0.7 of the photos, far below. The loss limit is wide, since few photos of rare classes make it noisy. One
# photo in hundreds may move far: the largest difference only guards against saturation.
# float16: weights keep 11 bits; fifty layers add up to scores that move a little, broken conversions move them by more
# than 0.1. dynamic_int8 rounds the weights of int8_ptq, and nothing absorbs
# what that shifts: no tighter limit holds. int16x8: int8 weights, and integer kernels whose softmax has 65,536 steps.
INT8_PTQ_LIMITS = Limits(0.88, 0.06, 0.85, 0.05)
_ALL = (
    Recipe("float32", "float32", False, False, Limits(0.995, 1e-4, 1e-3, 0.002)),
    Recipe("float16", "float32", False, False, Limits(0.98, 0.02, 0.2, 0.01), "float16"),
    Recipe("dynamic_int8", "float32", False, False, INT8_PTQ_LIMITS, "int8"),
    Recipe("int8_ptq", "uint8", True, False, INT8_PTQ_LIMITS, "int8", "int8"),
    Recipe("int8_qat", "uint8", True, True, Limits(0.90, 0.05, 0.85, 0.03), "int8", "int8"),
    Recipe("int16x8", "float32", True, False, Limits(0.93, 0.04, 0.6, 0.02), "int8", "int16"),
)
RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _ALL})


@dataclass(frozen=True)
class Request:
    """A recipe with its options."""

    recipe: Recipe
    qat: QatSettings = QatSettings()
    seed: int = 0
    """Of the choice of calibration photos."""
    max_loss: float | None = None
    """Mixed precision: the share of predictions that may change; None quantizes every layer."""
    test_report: bool = True
    """Whether float and converted are also compared on the test split."""

    def options(self) -> list[str]:
        """The command's options that differ from their defaults, without paths, which belong to one machine."""
        options = ["--recipe", self.recipe.name]
        if self.seed:
            options += ["--seed", str(self.seed)]
        if self.max_loss is not None:
            options += ["--keep-float", "auto", "--max-loss", str(self.max_loss)]
        if self.recipe.needs_qat:
            for name in QAT_OPTIONS:
                value = getattr(self.qat, name)
                if value != getattr(QatSettings(), name):
                    options += [_option(name), str(value)]
        return options


def make_request(
    recipe: str,
    *,
    seed: int = 0,
    keep_float: str | None = None,
    max_loss: float | None = None,
    test_report: bool = True,
    **fine_tuning: float | None,
) -> Request:
    """Check a recipe's options, which are those of `convert.convert`; None keeps a default.

    Raises:
        UsageError: An unknown recipe, or options that do not fit it.
    """
    if recipe not in RECIPES:
        raise UsageError("--recipe: unknown recipe", found=recipe, expected=", ".join(RECIPES))
    chosen = RECIPES[recipe]
    settings = _qat_settings(chosen, seed, {k: v for k, v in fine_tuning.items() if v is not None})
    return Request(chosen, settings, seed, _max_loss(chosen, keep_float, max_loss), test_report)


def _max_loss(recipe: Recipe, keep_float: str | None, max_loss: float | None) -> float | None:
    if keep_float is None and max_loss is None:
        return None
    if keep_float is None:
        raise UsageError(
            "--max-loss needs --keep-float auto", found="no --keep-float", fix="add --keep-float auto"
        )
    if recipe.name != "int8_ptq":
        raise UsageError("--keep-float needs recipe int8_ptq", found=recipe.name, expected="int8_ptq")
    limit = DEFAULT_MAX_LOSS if max_loss is None else float(max_loss)
    if not 0 <= limit < 1:
        raise UsageError("--max-loss: not a share", found=str(limit), expected="at least 0 and below 1")
    return limit


def _qat_settings(recipe: Recipe, seed: int, changed: Mapping[str, Any]) -> QatSettings:
    if changed and not recipe.needs_qat:
        problem = f"recipe {recipe.name} does no fine-tuning"
        raise UsageError(problem, found=", ".join(map(_option, changed)), fix="remove these options")
    settings = dataclasses.replace(QatSettings(seed=seed), **changed)
    # Checked after the merge, so that NaN, which compares as nothing, is refused as well.
    if not (math.isfinite(settings.learning_rate) and settings.learning_rate > 0):
        problem = "--learning-rate: not a learning rate"
        raise UsageError(problem, found=f"{settings.learning_rate:g}", expected="a number above 0")
    weights = {name: getattr(settings, name) for name in QAT_OPTIONS if name.endswith("_weight")}
    # Soft labels alone will not do: only a distilled run has them.
    usable = all(math.isfinite(value) and value >= 0 for value in weights.values())
    if not usable or weights["distillation_weight"] + weights["hard_label_weight"] == 0:
        found = ", ".join(f"{_option(name)} {value:g}" for name, value in weights.items())
        expected = "finite weights, none below 0, and --distillation-weight or --hard-label-weight above 0"
        raise UsageError("the fine-tuning loss has no usable weights", found=found, expected=expected)
    return settings


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command which converts has: recipe, seed, fine-tuning."""
    add = parser.add_argument
    add("--recipe", required=True, metavar="NAME", help=f"Recipe: {', '.join(RECIPES)} (required)")
    text = "Seed of calibration photos and fine-tuning (default: 0)"
    add("--seed", type=not_negative, default=0, metavar="N", help=text)
    group = parser.add_argument_group("quantization-aware fine-tuning (int8_qat)")
    for name, (kind, text) in QAT_OPTIONS.items():
        number, metavar = (positive, "N") if kind is int else (float, "X")
        shown = f"{text} (default: {getattr(QatSettings(), name)})"
        group.add_argument(_option(name), type=number, metavar=metavar, help=shown)
