"""A comparison as text for a terminal. stdlib only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SHOWN_FLIPS = 8
SHOWN_LAYERS = 5


def terminal_summary(report: dict[str, Any]) -> str:
    """Format verdicts, a table of the models, changed predictions, and the layers with the largest loss."""
    photos = report["photos"]
    lines = [
        f"{photos['answered']:,} photos of {photos['lesions']:,} lesions, split {photos['split']}",
        *(f"note: {remark}" for remark in report["remarks"]),
        "",
        *(pair["verdict"] for pair in report["pairs"]),
        "",
        *_table(*_models(report)),
    ]
    for model in report["models"]:
        lines += [f"INTEGRITY ERROR {model['name']}: {problem}" for problem in model["caught"]]
    for pair in report["pairs"]:
        lines += ["", f"{pair['name']} against {pair['against']}:", *_pair(pair)]
    timing = report["timing"]
    lines += [
        "",
        f"{timing['answering_seconds']:.1f} s for the photos, of which {timing['inference_seconds']:.1f} s inference, "
        f"in {timing['processes']} processes; ms: inference of one photo, one thread, median",
    ]
    return "\n".join(lines)


def p_value(value: float) -> str:
    """Format a p-value: `0.23`; `< 0.001` below that."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _models(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["model", "recipe", "MB", "ops", "ms", "balanced accuracy", "calibration error"]
    codes = list(report["photos"]["per_class"])
    rows = []
    for model in report["models"]:
        figures = model["figures"]
        rows.append(
            [
                model["name"],
                model["recipe"],
                f"{model['bytes'] / 1e6:.2f}",
                str(sum(model["operators"].values())),
                "-" if model["ms_per_photo"] is None else f"{model['ms_per_photo']:.1f}",
                _with_interval(figures["balanced_accuracy"]),
                _with_interval(figures["expected_calibration_error"]),
                *(_plain(figures["recall"][code]) for code in codes),
            ]
        )
    return [*header, *codes], rows


def _pair(pair: dict[str, Any]) -> list[str]:
    agreement, change = pair["agreement"], pair["largest_score_change"]
    lines = [
        f"  agreement {_with_interval(agreement)}, McNemar p {p_value(pair['mcnemar_p'])}, largest score change "
        f"{change['value']:.3f} ({change['label']} of {change['photo_id']})"
    ]
    flips = pair["flips"]
    for flip in flips[:SHOWN_FLIPS]:
        lines.append(
            f"  {flip['photo_id']}: {flip['first']} -> {flip['second']} (truth {flip['truth']}), {flip['kind']}, "
            f"score change {flip['score_change']:.3f}"
        )
    if len(flips) > SHOWN_FLIPS:
        lines.append(f"  and {len(flips) - SHOWN_FLIPS:,} more in the report")
    layers = pair.get("layers")
    if layers and layers["rows"]:
        worst = sorted(layers["rows"], key=lambda row: row["snr_db"])[:SHOWN_LAYERS]
        lines.append("  worst layers: " + ", ".join(f"{row['name']} {row['snr_db']:.1f} dB" for row in worst))
        at = layers["first_large_loss"]
        if at is not None:
            row = layers["rows"][at]
            lines.append(
                f"  first large loss: {row['name']} ({row['kind']}, operator {at + 1} of {len(layers['rows'])}), "
                f"{row['snr_db']:.1f} dB left"
            )
    elif layers:
        lines.append(f"  layers: {layers['problem']}")
    return lines


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def _with_interval(estimate: Sequence[float] | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate[0]:.3f} ({estimate[1]:.3f} to {estimate[2]:.3f})"


def _plain(estimate: Sequence[float] | None) -> str:
    return "-" if estimate is None else f"{estimate[0]:.3f}"
