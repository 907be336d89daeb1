"""The sections of a run's report, whose text is run.html.j2: its figures and charts. numpy, scikit-learn."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, roc_curve

from train.artifacts.labels import units_of
from train.evaluation.decisions import ANSWER, NOT_A_LESION, REFER
from train.evaluation.intervals import ClassRecall, few_note, recalls, share_of
from train.evaluation.metrics import (
    CALIBRATION_BINS,
    Estimate,
    FloatArray,
    GroupDraws,
    calibration_estimate,
    expected_calibration_error,
)
from train.evaluation.results import Finished, History
from train.evaluation.subgroups import COLUMNS, LEAST_LESIONS, Subgroup, subgroup_columns, subgroup_tables
from train.reports import charts
from train.reports import html as page
from train.reports.html import Figure, Markup, Section
from train.reports.mistakes import mistakes

TEMPLATE = page.TEMPLATES / "run.html.j2"
REPEATS = 1000
EstimateOf = Callable[..., Estimate | None]


def estimate_of(summary: dict[str, Any], name: str, code: str | None = None) -> Estimate | None:
    """Return a metric of `metrics.summarize` with its interval; None where there is none."""
    if name == "balanced_accuracy":
        value, interval = summary[name], summary[f"{name}_interval"]
    elif code is None:
        value, interval = summary.get(name), summary["intervals"].get(name)
    else:
        value, interval = summary["per_class"][code][name], summary["intervals"]["per_class"][code][name]
    return None if value is None or interval is None else Estimate(value, *interval)


def run_sections(whole: Finished, run: Finished, summary: dict[str, Any], *, photos: bool) -> list[Section]:
    """Make all sections about `run`, one dataset's part of `whole`, and its `summarize`; with `photos`, thumbnails."""
    units = units_of(run.contract.labels)
    macros, of = page.macros(TEMPLATE, units), functools.partial(estimate_of, summary)
    malignant = int(np.asarray(run.malignant)[run.y_true].sum())
    tables = _tables(run, subgroup_columns(run.photos, run.sources))
    lists = mistakes(run, run.root if photos else None)
    sections = [
        ("metrics", "Metrics", macros.metrics(run, summary, of, malignant, **_metrics(run, summary, units))),
        ("confusion", "Confusion matrix", macros.confusion(run.codes, summary["confusion"])),
        ("roc", "ROC", macros.roc(summary, of, malignant, *_roc_curves(run, of))),
        ("precision", "Precision and recall", macros.precision(summary, of, _precision_curves(run, summary))),
        ("calibration", "Calibration", macros.calibration(summary, of, *_calibration(run))),
        ("decisions", "Decisions", macros.decisions(run, _decisions(run), _ood(run))),
        ("curves", "Learning curves", macros.curves(**_learning_curves(run))),
        ("subgroups", "Subgroup analysis", macros.subgroups(tables, COLUMNS, LEAST_LESIONS)),
        ("errors", "Errors", macros.errors(run, lists, photos)),
    ]
    if len(whole.source_names) > 1:
        sections.insert(1, ("datasets", "Datasets", macros.datasets(_data_sets(whole), run.sources[0])))
    return [Section(anchor, title, [content]) for anchor, title, content in sections]


def _metrics(run: Finished, summary: dict[str, Any], units: str) -> dict[str, Any]:
    temperatures = dict.fromkeys(contract.calibration.temperature for contract in run.contracts)
    return {
        "folds": _folds(run) if run.folds else None,
        "config": json.dumps(run.config, indent=2, ensure_ascii=False),
        "temperatures": [f"{temperature:g}" for temperature in temperatures],
        "few": few_note(summary["classes_few"], units),
    }


def _folds(run: Finished) -> dict[str, Any]:
    rows = _tables(run, {"fold": list(run.folds)}, least_lesions=1)["fold"]
    rows.sort(key=lambda row: (len(row.value), row.value))
    values = [row.balanced_accuracy.value for row in rows if row.balanced_accuracy is not None]
    deviation = np.std(values, ddof=1) if len(values) > 1 else None
    return {"rows": rows, "mean": np.mean(values), "deviation": deviation}


def _data_sets(run: Finished) -> list[tuple[Subgroup, list[Estimate | None]]]:
    """Evaluate each dataset, however small, since its intervals are shown too: with it calibration error and shares."""
    rows = []
    tables = _tables(run, {"source": list(run.sources)}, least_lesions=1)["source"]
    for row in sorted(tables, key=lambda row: run.source_names.index(row.value)):
        part = run.part(row.value)
        draws = GroupDraws.draw(part.groups, part.y_true, repeats=REPEATS)
        shares = (_share_decided(part, decision) for decision in (REFER, NOT_A_LESION))
        rows.append((row, [calibration_estimate(draws, part.y_true, part.probs), *shares]))
    return rows


def _tables(
    run: Finished, columns: dict[str, list[str]], *, least_lesions: int = LEAST_LESIONS
) -> dict[str, list[Subgroup]]:
    of_run = (run.y_true, run.probs, run.codes, run.groups, run.malignant)
    return subgroup_tables(*of_run, columns, least_lesions=least_lesions, repeats=REPEATS)


# ------------------------------------------------------------------ ROC, precision and recall


def _roc_curves(run: Finished, of: EstimateOf) -> tuple[Markup | None, dict[str, Markup]]:
    """Draw the ROC curve of malignant against benign, and of each class against the rest."""
    whole, by_class = None, {}
    if auc := of("malignant_auc"):
        axes = charts.unit_axis("false positive rate (benign)"), charts.unit_axis("sensitivity (malignant)")
        plot = charts.Plot(f"ROC curve of malignant against benign, AUC {auc.value:.3f}", *axes, height=280)
        malignant = np.asarray(run.malignant)
        whole = _draw_roc(plot, malignant[run.y_true], run.probs[:, malignant].sum(axis=1))
    for i, code in enumerate(run.codes):
        if auc := of("auc", code):
            plot = _small_plot(f"ROC curve of {code} against the rest, AUC {auc.value:.3f}")
            by_class[code] = _draw_roc(plot, run.y_true == i, run.probs[:, i])
    return whole, by_class


def _draw_roc(plot: charts.Plot, positive: npt.NDArray[Any], score: FloatArray) -> Markup:
    plot.line([0, 1], [0, 1], "dashed")
    false_positives, sensitivity, _ = roc_curve(positive, score)
    plot.line(false_positives, sensitivity, "first")
    return plot.svg()


def _precision_curves(run: Finished, summary: dict[str, Any]) -> dict[str, Markup]:
    """Draw one small plot a class; the point is the prediction by the highest score."""
    by_class = {}
    for i, code in enumerate(run.codes):
        recall, precision = (summary["per_class"][code][name] for name in ("recall", "precision"))
        if recall is None:
            continue
        precisions, recalls, _ = precision_recall_curve(run.y_true == i, run.probs[:, i])
        plot = _small_plot(f"Precision over recall of {code}")
        plot.line([0, 1], [float((run.y_true == i).mean())] * 2, "dashed")
        plot.line(recalls, precisions, "first")
        if precision is not None:
            text = f"recall {recall:.3f}, precision {precision:.3f}"
            plot.points([recall], [precision], "second", radii=[4.5], titles=[text])
        by_class[code] = plot.svg()
    return by_class


def _small_plot(title: str) -> charts.Plot:
    axis = charts.unit_axis(ticks=3)
    return charts.Plot(title, axis, axis, charts.SMALL_WIDTH, charts.SMALL_HEIGHT)


# ------------------------------------------------------------------ calibration and decisions


def _calibration(run: Finished) -> tuple[float, Markup, Markup]:
    """Return the error before temperature scaling, accuracy by top score, and the histogram of top scores."""
    top, right = run.probs.max(axis=1), run.y_pred == run.y_true
    which = np.minimum((top * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    axis = charts.unit_axis("top score")
    plot = charts.Plot(
        "Reliability: accuracy over the top score", axis, charts.unit_axis("accuracy"), height=280
    )
    plot.line([0, 1], [0, 1], "dashed")
    counts = np.bincount(which, minlength=CALIBRATION_BINS)
    shares = recalls(which, np.where(right, which, -1), CALIBRATION_BINS, run.groups)
    edges = np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS
    for i, found in enumerate(share.estimate() for share in shares):
        if found is None:
            continue
        place, (part, low, high) = float(top[which == i].mean()), found
        text = (
            f"top score {edges[i]:.2f} to {edges[i + 1]:.2f}: {int(counts[i]):,} photos, "
            f"accuracy {part:.3f} ({low:.3f} to {high:.3f})"
        )
        plot.line([place, place], [low, high], "first faint")
        radius = 2.5 + 6 * math.sqrt(counts[i] / counts.max())
        plot.points([place], [part], "first", radii=[radius], titles=[text])
    y = charts.nice_axis(0, float(counts.max()), "photos", ticks=3)
    histogram = charts.Plot("Photos by top score", axis, y, height=120)
    histogram.bars(edges[:-1], edges[1:], counts, "first")
    plain = expected_calibration_error(run.y_true, run.plain_probs)
    return plain, plot.svg(), histogram.svg()


def _decisions(run: Finished) -> list[tuple[str, Estimate | None, Subgroup | None]]:
    """Count what the contract's rules decide, and evaluate the predictions that remain."""
    parts = {row.value: row for row in _tables(run, {"decision": list(run.decisions)})["decision"]}
    names = {ANSWER: "predicted", REFER: "referred", NOT_A_LESION: "rejected"}
    return [(name, _share_decided(run, decision), parts.get(decision)) for decision, name in names.items()]


def _share_decided(run: Finished, decision: str) -> Estimate | None:
    return share_of(np.asarray(run.decisions) == decision, run.groups).estimate()


def _ood(run: Finished) -> list[tuple[str, int, Estimate | None]]:
    """Evaluate the OOD images that were used neither for training nor for the threshold."""
    rows = []
    for fold, kinds in run.outliers.items():
        for kind, counted in kinds.items():
            photos, share = counted["photos"], counted["not_a_lesion_share"]
            rejected = ClassRecall(photos, photos, round(share * photos), photos)
            rows.append((f"{fold} {kind}".strip(), photos, rejected.estimate()))
    return rows


# ------------------------------------------------------------------ curves


def _learning_curves(run: Finished) -> dict[str, Any]:
    """Draw loss and balanced accuracy over epochs; of folds each one faint and their mean."""
    histories = [history for history in run.histories.values() if history]
    epochs = max(map(len, histories), default=0)
    names = [str(row["name"]) for row in histories[0]] if histories else []
    starts = [i for i in range(1, len(names)) if names[i] != names[i - 1]]
    figures = []
    for measure, title in (
        ("loss", "Loss (training: augmented photos)"),
        ("balanced_accuracy", "Balanced accuracy"),
    ):
        parts = {
            class_: np.array([_column(history, f"{part}_{measure}", epochs) for history in histories])
            for part, class_ in (("train", "second"), ("val", "first"))
        }
        if not any(np.isfinite(columns).any() for columns in parts.values()):
            continue
        highest = max(float(np.nanmax(columns, initial=0)) for columns in parts.values())
        y = charts.nice_axis(0, highest) if measure == "loss" else charts.unit_axis()
        plot = charts.Plot(f"{title} over {epochs} epochs", epoch_axis(epochs), y)
        for start in starts:
            plot.upright(start + 0.5)
        for class_, columns in parts.items():
            _draw_history(plot, columns, class_)
        figures.append(Figure(plot.svg(), title=title))
    return {"figures": figures, "starts": starts, "stages": dict.fromkeys(names), "folds": len(histories)}


def _draw_history(plot: charts.Plot, columns: FloatArray, class_: str) -> None:
    epochs = np.arange(1, columns.shape[1] + 1, dtype=float)
    for column in columns if len(columns) > 1 else ():
        plot.line(epochs, column, f"{class_} faint")
    # A fold that stopped early has no later values; the mean ends where the first one does.
    mean = np.mean(columns, axis=0)
    plot.line(epochs, mean, class_)
    if len(epochs) < 2:
        plot.points(epochs, mean, class_)


def epoch_axis(epochs: int) -> charts.Axis:
    """Return an axis with ticks at the first, the last, and round numbers between them."""
    step = next(k for k in (1, 2, 5, 10, 20, 50, 100, 1000) if epochs / k <= 10)
    between = [epoch for epoch in range(step, epochs - step // 2, step) if epoch > 1]
    return charts.Axis(0.5, epochs + 0.5, "epoch", sorted({1, *between, epochs}))


def mean_curve(run: Finished, column: str) -> FloatArray:
    """Average a column of the history over folds, [epochs], as long as all folds have it; empty where none do."""
    columns = [_column(history, column, len(history)) for history in run.histories.values() if history]
    shortest = min(map(len, columns), default=0)
    mean: FloatArray = np.mean([values[:shortest] for values in columns], axis=0) if shortest else np.empty(0)
    return np.asarray(mean[np.isfinite(mean)], np.float64)


def _column(history: History, name: str, epochs: int) -> FloatArray:
    values = [row.get(name, math.nan) for row in history]
    numbers = [value if isinstance(value, int | float) else math.nan for value in values]
    return np.array(numbers + [math.nan] * (epochs - len(numbers)))
