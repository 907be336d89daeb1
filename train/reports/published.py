"""Published figures of the bundled model: train/records/published_figures.json. stdlib only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.artifacts.files import read_object

PUBLISHED = Path(__file__).parents[1] / "records" / "published_figures.json"
HEADER = ("Measured on", "photos", "balanced accuracy (95 % CI)", "AUC")


def read_published() -> dict[str, Any]:
    """Read the figures."""
    return read_object(PUBLISHED)


def published_rows(published: dict[str, Any]) -> list[tuple[str, ...]]:
    """Make the rows of the published figures, for cards and the README."""
    first, *others = [entry for entry in published["sealed"].values() if isinstance(entry, dict)]
    return [_published_row(entry) for entry in (first, published["histology"], *others)]


def _published_row(entry: dict[str, Any]) -> tuple[str, ...]:
    accuracy = ""
    if "balanced_accuracy" in entry:
        value, *interval = (f"{value:.3f}" for value in entry["balanced_accuracy"])
        accuracy = value + (f" ({' to '.join(interval)})" if interval else f", {entry['classes']} classes")
    elif "refused_share" in entry:
        accuracy = f"{100 * entry['refused_share']:.1f} %"
    found = {key.removesuffix("_auc"): value for key, value in entry.items() if key.endswith("_auc")}
    auc = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in found.items()]
    return entry["title"], f"{entry['photos']:,}" if "photos" in entry else "", accuracy, "; ".join(auc)
