"""Command-line options that `python -m convert` and `python -m convert.crossval` share. stdlib only."""

from __future__ import annotations

import argparse
import dataclasses

from convert.command import positive
from convert.recipes import QAT_OPTIONS, QatSettings, Recipe
from edge_runtime.errors import UsageError


def add_qat_options(parser: argparse.ArgumentParser) -> None:
    """Adds what can be changed of quantization-aware fine-tuning."""
    defaults = QatSettings()
    group = parser.add_argument_group("quantization-aware fine-tuning (int8_qat)")
    group.add_argument("--epochs", type=positive, help=f"default {defaults.epochs}")
    group.add_argument("--batch", type=positive, help=f"default {defaults.batch}")
    group.add_argument("--learning-rate", type=float, help=f"peak; default {defaults.learning_rate}")
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
        UsageError: Options of fine-tuning for a recipe without.
    """
    changed = {name: getattr(arguments, name) for name in QAT_OPTIONS if getattr(arguments, name) is not None}
    if changed and not recipe.needs_qat:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UsageError(
            f"recipe {recipe.name} does no fine-tuning", found=options, fix="leave these options out"
        )
    return dataclasses.replace(QatSettings(seed=arguments.seed), **changed)
