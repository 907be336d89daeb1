"""A comparison as text for a terminal, from text.txt.j2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import escaped
from train.reports.html import render_text

TEMPLATE = Path(__file__).with_name("text.txt.j2")


def terminal_summary(report: dict[str, Any]) -> str:
    """Format verdicts, a table of the models, changed predictions, and the layers with the largest loss."""
    filters = {"estimate": estimate_text, "p_value": p_value}
    safe = terminal_safe(report)
    return render_text(TEMPLATE, safe | {"table": _models(safe)}, filters).rstrip("\n")


def terminal_safe(report: Any) -> Any:
    """Escape every text of a report: names of photos and models could control the terminal or forge a line."""
    if isinstance(report, dict):
        return {terminal_safe(key): terminal_safe(value) for key, value in report.items()}
    if isinstance(report, list | tuple):
        return [terminal_safe(value) for value in report]
    return escaped(report) if isinstance(report, str) else report


def p_value(value: float) -> str:
    """Format a p-value: `0.23`; `< 0.001` below that."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _models(report: dict[str, Any]) -> str:
    codes = list(report["photos"]["per_class"])
    rows = [["model", "recipe", "MB", "ops", "ms", "balanced accuracy", "calibration error", *codes]]
    for model in report["models"]:
        figures, ms = model["figures"], model["ms_per_photo"]
        rows.append(
            [
                model["name"],
                model["recipe"],
                f"{model['bytes'] / 1e6:.2f}",
                str(sum(model["operators"].values())),
                "-" if ms is None else f"{ms:.1f}",
                estimate_text(figures["balanced_accuracy"]),
                estimate_text(figures["expected_calibration_error"]),
                *(estimate_text(figures["recall"][code]).split(" ")[0] for code in codes),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def estimate_text(estimate: Sequence[float] | None) -> str:
    """Format an estimate: `0.812 (0.790 to 0.833)`; `-` where there is none."""
    return "-" if estimate is None else f"{estimate[0]:.3f} ({estimate[1]:.3f} to {estimate[2]:.3f})"
