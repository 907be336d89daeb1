"""Learning curves and confusion matrices as PNG. matplotlib, without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from train.run_dir import whole_file

TRAIN_COLOR, VAL_COLOR = "#9a6a3a", "#1f5f8b"


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and balanced accuracy over epochs, training and validation, stages separated by lines."""
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    epochs = np.arange(1, len(history) + 1)
    for axes, measure, title in zip(
        figure.subplots(1, 2),
        ("loss", "balanced_accuracy"),
        ("Loss (training: augmented, smoothed labels)", "Balanced accuracy"),
        strict=True,
    ):
        for part, color in (("train", TRAIN_COLOR), ("val", VAL_COLOR)):
            values = [row[f"{part}_{measure}"] for row in history]
            axes.plot(epochs, values, marker="o", markersize=3, color=color, label=part)
        _mark_stages(axes, history)
        axes.set(title=title, xlabel="epoch", xticks=epochs)
        axes.grid(alpha=0.25)
        axes.legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary)


def _mark_stages(axes: Any, history: Sequence[Mapping[str, Any]]) -> None:
    for i, row in enumerate(history):
        if i == 0 or history[i - 1]["stage"] != row["stage"]:
            axes.axvline(i + 0.5, color="#888888", linewidth=0.8, linestyle=":")
            axes.text(
                i + 0.55, 0.02, row["name"], transform=axes.get_xaxis_transform(), fontsize=7, color="#555555"
            )


def draw_confusion(
    confusion: Sequence[Sequence[int]], codes: Sequence[str], path: Path, *, title: str
) -> None:
    """A confusion matrix: rows are the truth, colour is the share of the row, the text counts photos."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.55 * len(codes)
    figure = Figure(figsize=(side + 0.6, side), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        axes.text(
            j, i, str(count), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black"
        )
    ticks = range(len(codes))
    axes.set_xticks(ticks, codes, rotation=45)
    axes.set_yticks(
        ticks, [f"{code} ({total})" for code, total in zip(codes, counts.sum(axis=1), strict=True)]
    )
    axes.set(title=title, xlabel="answer", ylabel="truth")
    axes.title.set_fontsize(9)
    figure.colorbar(drawn, label="share of the truth's photos", shrink=0.8)
    with whole_file(path) as temporary:
        figure.savefig(temporary)
