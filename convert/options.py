"""Command-line options that `python -m convert` and `python -m convert.crossval` share. stdlib only."""

from __future__ import annotations

import argparse
import dataclasses
import math

from convert.recipes import QAT_OPTIONS, QatSettings, Recipe
from edge_runtime.errors import UsageError
from train.artifacts.command import positive


def add_qat_options(parser: argparse.ArgumentParser) -> None:
    """Adds what can be changed of quantization-aware fine-tuning."""
    defaults = QatSettings()
    group = parser.add_argument_group("quantization-aware fine-tuning (int8_qat)")
    group.add_argument("--epochs", type=positive, help=f"at most; default {defaults.epochs}")
    group.add_argument(
        "--patience",
        type=positive,
        help=f"ends after so many epochs whose file agrees no better; default {defaults.patience}",
    )
    group.add_argument("--batch", type=positive, help=f"default {defaults.batch}")
    group.add_argument("--learning-rate", type=float, help=f"peak; default {defaults.learning_rate}")
    group.add_argument(
        "--distillation-weight",
        type=float,
        help="of the float model's answers; 0 with --hard-label-weight 1 learns the labels alone; "
        f"default {defaults.distillation_weight}",
    )
    group.add_argument("--hard-label-weight", type=float, help=f"default {defaults.hard_label_weight}")
    group.add_argument(
        "--soft-label-weight",
        type=float,
        help=f"of a distilled run's teacher; default {defaults.soft_label_weight}",
    )


def qat_settings(arguments: argparse.Namespace, recipe: Recipe) -> QatSettings:
    """The settings that the options make.

    Args:
        arguments: With the options of `add_qat_options`, and `seed`.
        recipe: The chosen one.

    Raises:
        UsageError: Options of fine-tuning for a recipe without, a rate that is none, or weights that leave nothing
            to learn.
    """
    changed = {name: getattr(arguments, name) for name in QAT_OPTIONS if getattr(arguments, name) is not None}
    if changed and not recipe.needs_qat:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(
            f"recipe {recipe.name} does no fine-tuning", found=options, fix="leave these options out"
        )
    settings = dataclasses.replace(QatSettings(seed=arguments.seed), **changed)
    # Said of the settings and not of the options, so that NaN, which compares as nothing, is refused as well.
    if not (math.isfinite(settings.learning_rate) and settings.learning_rate > 0):
        raise UsageError(
            "--learning-rate is no learning rate",
            found=f"{settings.learning_rate:g}",
            expected="a number above 0",
        )
    weights = {
        name: getattr(settings, f"{name}_weight") for name in ("distillation", "hard_label", "soft_label")
    }
    # Soft labels alone will not do: only a distilled run has them.
    usable = all(math.isfinite(value) and value >= 0 for value in weights.values())
    if not usable or weights["distillation"] + weights["hard_label"] == 0:
        raise UsageError(
            "fine-tuning has nothing to learn from",
            found=", ".join(
                f"--{name.replace('_', '-')}-weight {value:g}" for name, value in weights.items()
            ),
            expected="finite weights, none below 0, and one of --distillation-weight and --hard-label-weight above 0",
        )
    return settings
