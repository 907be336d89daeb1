"""Blocks of a run's report: tables and charts of its predictions. numpy, scikit-learn."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from train.evaluation.decisions import ANSWER, NOT_A_LESION, REFER, wilson_interval
from train.evaluation.metrics import (
    Estimate,
    FloatArray,
    GroupDraws,
    calibration_error_interval,
    expected_calibration_error,
    percentile_interval,
)
from train.evaluation.results import Finished, History
from train.evaluation.subgroups import COLUMNS, LEAST_LESIONS, Subgroup, subgroup_columns, subgroup_tables
from train.reports import charts
from train.reports import html as page
from train.reports.html import Markup

CALIBRATION_BINS = 15
REPEATS = 1000
INTERVALS = f"Intervals: 95 %, bootstrap by lesion, {REPEATS:,} draws."


def estimate_of(summary: dict[str, Any], name: str, code: str | None = None) -> Estimate | None:
    """Return a metric of `metrics.summarize` with its interval; None where there is none."""
    if name == "balanced_accuracy":
        value, interval = summary[name], summary[f"{name}_interval"]
    elif code is None:
        value, interval = summary.get(name), summary["intervals"].get(name)
    else:
        value, interval = summary["per_class"][code][name], summary["intervals"]["per_class"][code][name]
    return None if value is None or interval is None else Estimate(value, *interval)


def headline(run: Finished, summary: dict[str, Any]) -> Markup:
    """Show the main metrics as tiles, the remarks, and the run's origin."""
    counted = f"{page.counted(summary['photos'], 'photo')} of {page.counted(summary['lesions'], 'lesion')}"
    y_malignant = np.asarray(run.malignant)[run.y_true]
    sides = f"{y_malignant.sum():,} malignant against {(~y_malignant).sum():,} benign photos"
    figures = [
        ("Balanced accuracy", "balanced_accuracy", f"mean recall of {len(run.codes)} classes; {counted}"),
        ("Malignant AUC", "malignant_auc", sides),
        ("Accuracy", "accuracy", counted),
        ("Calibration error", "expected_calibration_error", f"{CALIBRATION_BINS} bins of the top score"),
    ]
    shown = [
        (title, page.estimate(estimate_of(summary, name)), note)
        for title, name, note in figures
        if summary.get(name) is not None
    ]
    return page.join(
        [
            *(page.note(remark) for remark in run.remarks),
            page.tiles(shown),
            page.paragraph(INTERVALS, class_="subtitle"),
            _origin(run),
        ]
    )


def _origin(run: Finished) -> Markup:
    model, given = run.config.get("model", {}), run.config.get("input", {})
    temperatures = [contract.calibration.temperature for contract in run.contracts]
    pairs: dict[str, object] = {
        "Run": run.state.get("run_id", run.name),
        "Photos": run.of_photos,
        "Data": run.contract.provenance.data_name,
        "Network": " ".join(str(model[key]) for key in ("backbone", "alpha") if key in model),
        "Input": f"{given['size_px']} px, {given.get('crop', '')}" if "size_px" in given else "",
        "Temperature": ", ".join(f"{t:g}" for t in dict.fromkeys(temperatures)),
        "Started": str(run.state.get("started", "")).replace("T", " ")[:16],
        "Commit": run.state.get("commit", ""),
        "Model's licence": run.contract.provenance.model_licence,
        "Intended use": run.contract.intended_use,
    }
    resolved = json.dumps(run.config, indent=2, ensure_ascii=False)
    return page.join(
        [
            page.definitions(pairs),
            page.details("Config", page.element("pre", resolved, tabindex=0)),
        ]
    )


def per_class(run: Finished, summary: dict[str, Any]) -> Markup:
    """Tabulate recall, precision and one-against-rest AUC of each class."""
    lesions = [
        len({g for g, y in zip(run.groups, run.y_true.tolist(), strict=True) if y == i})
        for i in range(len(run.codes))
    ]
    rows = [
        (
            label.code,
            *(estimate_of(summary, name, label.code) for name in ("recall", "precision", "auc")),
            summary["per_class"][label.code]["photos"],
            lesions[i],
            label.name,
            label.group,
        )
        for i, label in enumerate(run.contract.labels)
    ]
    header = ("Class", "Recall", "Precision", "AUC", "Photos", "Lesions", "Name", "Group")
    return page.table(header, rows, caption="Each class; AUC against the rest", texts=(6, 7))


def confusion(run: Finished, summary: dict[str, Any]) -> Markup:
    """Cross true classes (rows) with predictions (columns)."""
    rows = [(code, counts) for code, counts in zip(run.codes, summary["confusion"], strict=True)]
    intro = page.paragraph(
        "Rows are true classes, columns predictions. Below each count, its share of the row."
    )
    return page.join([intro, page.heat_table("truth \\ prediction", run.codes, rows)])


# ------------------------------------------------------------------ ROC, precision and recall


def roc_curves(run: Finished, summary: dict[str, Any]) -> Markup:
    """Draw the ROC curve of malignant against benign, then of each class against the rest."""
    blocks = []
    malignant = np.asarray(run.malignant)
    side, score = malignant[run.y_true], run.probs[:, malignant].sum(axis=1)
    found = estimate_of(summary, "malignant_auc")
    if found is not None:
        plot = charts.Plot(
            f"ROC curve of malignant against benign, AUC {found.value:.3f}",
            charts.unit_axis("false positive rate (benign)"),
            charts.unit_axis("sensitivity (malignant)"),
            height=280,
        )
        plot.line([0, 1], [0, 1], "dashed")
        false_positives, sensitivity, _ = roc_curve(side, score)
        plot.line(false_positives, sensitivity, "first")
        caption = (
            f"AUC {found.value:.3f} ({found.low:.3f} to {found.high:.3f}); {side.sum():,} malignant, "
            f"{(~side).sum():,} benign photos. The score is the sum over the malignant classes."
        )
        blocks.append(
            page.grid(
                page.figure(plot.svg(), caption, title="ROC curve, malignant against benign"), size="wide"
            )
        )
    small = []
    for i, code in enumerate(run.codes):
        auc = estimate_of(summary, "auc", code)
        if auc is not None:
            plot = _small_plot(f"ROC curve of {code} against the rest, AUC {auc.value:.3f}")
            plot.line([0, 1], [0, 1], "dashed")
            false_positives, sensitivity, _ = roc_curve(run.y_true == i, run.probs[:, i])
            plot.line(false_positives, sensitivity, "first")
            small.append(page.figure(plot.svg(), _of_class("AUC", auc, summary, code), title=code))
    intro = page.paragraph("Each class against the rest: sensitivity (up) over false positive rate (across).")
    return page.join([*blocks, intro, page.grid(*small, size="small")])


def precision_recall_curves(run: Finished, summary: dict[str, Any]) -> Markup:
    """Draw one small plot a class; the point is the prediction by the highest score."""
    small = []
    for i, code in enumerate(run.codes):
        recall = estimate_of(summary, "recall", code)
        if recall is None:
            continue
        precisions, recalls, _ = precision_recall_curve(run.y_true == i, run.probs[:, i])
        plot = _small_plot(f"Precision over recall of {code}")
        base = float((run.y_true == i).mean())
        plot.line([0, 1], [base, base], "dashed")
        plot.line(recalls, precisions, "first")
        precision = summary["per_class"][code]["precision"]
        if precision is not None:
            text = f"recall {recall.value:.3f}, precision {precision:.3f}"
            plot.points([recall.value], [precision], "second", radii=[4.5], titles=[text])
        small.append(page.figure(plot.svg(), _of_class("recall", recall, summary, code), title=code))
    intro = (
        "Precision (up) over recall (across). The point is the prediction by the highest score; the dashed line is a "
        "random classifier."
    )
    return page.join([page.paragraph(intro), page.grid(*small, size="small")])


def _small_plot(title: str) -> charts.Plot:
    return charts.Plot(
        title,
        charts.unit_axis(ticks=3),
        charts.unit_axis(ticks=3),
        charts.SMALL_WIDTH,
        charts.SMALL_HEIGHT,
    )


def _of_class(name: str, found: Estimate, summary: dict[str, Any], code: str) -> str:
    photos = page.counted(summary["per_class"][code]["photos"], "photo")
    return f"{name} {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), {photos}"


# ------------------------------------------------------------------ calibration


def reliability(run: Finished, summary: dict[str, Any]) -> Markup:
    """Draw accuracy by top score with intervals, and the histogram of top scores."""
    top, right = run.probs.max(axis=1), run.y_pred == run.y_true
    which = np.minimum((top * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    plot = charts.Plot(
        "Reliability: accuracy over the top score",
        charts.unit_axis("top score"),
        charts.unit_axis("accuracy"),
        height=280,
    )
    plot.line([0, 1], [0, 1], "dashed")
    draws = GroupDraws.draw(run.groups, repeats=REPEATS)
    inside = np.eye(CALIBRATION_BINS)[which]
    totals, hits = draws.sums(inside), draws.sums(inside * right[:, None])
    counts = inside.sum(axis=0)
    for i in np.flatnonzero(counts):
        place, part = float(top[which == i].mean()), float(right[which == i].mean())
        of_draws = np.divide(hits[:, i], totals[:, i], out=np.full(REPEATS, np.nan), where=totals[:, i] > 0)
        low, high = percentile_interval(of_draws)
        text = (
            f"top score {i / CALIBRATION_BINS:.2f} to {(i + 1) / CALIBRATION_BINS:.2f}: "
            f"{int(counts[i]):,} photos, accuracy {part:.3f} ({low:.3f} to {high:.3f})"
        )
        plot.line([place, place], [low, high], "first faint")
        radius = 2.5 + 6 * math.sqrt(counts[i] / counts.max())
        plot.points([place], [part], "first", radii=[radius], titles=[text])
    histogram = charts.Plot(
        "Photos by top score",
        charts.unit_axis("top score"),
        charts.nice_axis(0, float(counts.max()), "photos", ticks=3),
        height=120,
    )
    edges = np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS
    histogram.bars(edges[:-1], edges[1:], counts, "first")
    name = "expected_calibration_error"
    found = Estimate(summary[name], *summary["intervals"][name])
    plain = expected_calibration_error(run.y_true, run.plain_probs)
    caption = (
        f"Expected calibration error {found.value:.3f} ({found.low:.3f} to {found.high:.3f}), the mean distance to "
        f"the dashed line; {plain:.3f} before temperature scaling. {page.counted(len(top), 'photo')}, "
        f"{CALIBRATION_BINS} bins; larger points hold more photos, vertical lines are 95 % intervals by lesion."
    )
    return page.grid(
        page.figure(plot.svg(), caption, title="Reliability diagram"),
        page.figure(histogram.svg(), "Photos by top score.", title="Top scores"),
        size="wide",
    )


# ------------------------------------------------------------------ decisions and subgroups


def decisions(run: Finished) -> Markup:
    """Count what the contract's rules decide, and evaluate the predictions that remain."""
    decision = run.contract.decision
    if decision.refer is None and decision.not_a_lesion is None:
        return page.paragraph("The contract has no decision rules: every photo gets a prediction.")
    lines = [
        f"{name}: {rule.measure} {rule.threshold:g}, chosen as {rule.source}."
        for name, rule in (("Refer", decision.refer), ("Not a lesion", decision.not_a_lesion))
        if rule is not None
    ]
    if len(run.contracts) > 1:
        lines.append("The thresholds shown are the first fold's; each fold's own were applied.")
    draws = GroupDraws.draw(run.groups, repeats=REPEATS)
    given = np.asarray(run.decisions)
    parts = {row.value: row for row in _tables(run, {"decision": list(run.decisions)})["decision"]}
    rows = []
    for value, name in ((ANSWER, "predicted"), (REFER, "referred"), (NOT_A_LESION, "rejected as non-lesion")):
        share = Estimate(float((given == value).mean()), *percentile_interval(draws.mean(given == value)))
        part = parts.get(value)
        counts = (0, 0) if part is None else (part.photos, part.lesions)
        rest = (None, None, None) if part is None else _figures(part)
        rows.append((name, *counts, share, *rest))
    header = (
        "Decision", "Photos", "Lesions", "Share of photos", "Balanced accuracy", "Malignant AUC", "Accuracy",
    )  # fmt: skip
    table = page.table(header, rows, caption="Photos of lesions")
    return page.join([*(page.paragraph(line) for line in lines), table, _ood(run)])


def _ood(run: Finished) -> Markup:
    """OOD images that were used neither for training nor for the threshold."""
    rows = []
    for fold, kinds in run.outliers.items():
        for kind, counted in kinds.items():
            photos, share = counted["photos"], counted["not_a_lesion_share"]
            interval = wilson_interval(round(share * photos), photos)
            rows.append((f"{fold} {kind}".strip(), photos, Estimate(share, *interval)))
    if not rows:
        return Markup("")
    header = ("Images", "Number", "Rejected as non-lesion")
    return page.table(header, rows, caption="Out-of-distribution test set (Wilson 95 % intervals)")


def folds(run: Finished) -> Markup:
    """Tabulate the metrics of each fold of a cross-validation and their spread; nothing for a run."""
    if not run.folds:
        return Markup("")
    tables = _tables(run, {"fold": list(run.folds)}, least_lesions=1)["fold"]
    rows = [
        (row.value, *_figures(row), row.photos, row.lesions)
        for row in sorted(tables, key=lambda row: (len(row.value), row.value))
    ]
    values = [row.balanced_accuracy.value for row in tables if row.balanced_accuracy is not None]
    spread = f", standard deviation {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    text = f"Mean balanced accuracy over folds {np.mean(values):.3f}{spread}; the metrics above pool all folds' photos."
    header = ("Fold", "Balanced accuracy", "Malignant AUC", "Accuracy", "Photos", "Lesions")
    return page.join([page.table(header, rows, caption="Each fold"), page.paragraph(text)])


def data_sets(run: Finished) -> Markup:
    """Tabulate the metrics of each dataset of a run that has several, and what the rules decide."""
    rows = []
    # A dataset is shown however small it is: its intervals are shown too.
    tables = _tables(run, {"source": list(run.sources)}, least_lesions=1)["source"]
    for row in sorted(tables, key=lambda row: run.source_names.index(row.value)):
        part = run.part(row.value)
        error = expected_calibration_error(part.y_true, part.probs)
        draws = GroupDraws.draw(part.groups, repeats=REPEATS)
        interval = calibration_error_interval(draws.calibration_error(part.y_true, part.probs), error)
        given = np.asarray(part.decisions)
        shares = (
            Estimate(float((given == value).mean()), *percentile_interval(draws.mean(given == value)))
            for value in (REFER, NOT_A_LESION)
        )
        absent = ", ".join(row.absent) or "none"
        rows.append(
            (row.value, *_figures(row), Estimate(error, *interval), *shares, row.photos, row.lesions, absent)
        )
    header = (
        "Dataset", "Balanced accuracy", "Malignant AUC", "Accuracy", "Calibration error", "Referred",
        "Rejected as non-lesion", "Photos", "Lesions", "Absent classes",
    )  # fmt: skip
    return page.table(header, rows, texts=(len(header) - 1,))


def subgroups(run: Finished) -> Markup:
    """Make a table for each metadata column that has values."""
    tables = _tables(run, subgroup_columns(run.photos, run.sources))
    if not tables:
        return page.paragraph("No metadata on sex, age, site or diagnosis.")
    intro = (
        "Balanced accuracy is the mean recall over the classes that occur in the row; absent ones are named, since "
        f"rows with other classes cannot be compared. Rows of fewer than {LEAST_LESIONS} lesions show counts only."
    )
    blocks = [page.paragraph(intro)]
    for column, rows in tables.items():
        header = (
            COLUMNS[column], "Photos", "Lesions", "Balanced accuracy", "Malignant AUC", "Accuracy",
            "Malignant photos", "Absent classes",
        )  # fmt: skip
        cells = [
            (
                row.value,
                row.photos,
                row.lesions,
                *_figures(row),
                row.malignant,
                ", ".join(row.absent) or "none",
            )
            for row in rows
        ]
        caption = f"By {COLUMNS[column][0].lower()}{COLUMNS[column][1:]}"
        blocks.append(page.table(header, cells, caption=caption, texts=(len(header) - 1,)))
    return page.join(blocks)


def _tables(
    run: Finished, columns: dict[str, list[str]], *, least_lesions: int = LEAST_LESIONS
) -> dict[str, list[Subgroup]]:
    return subgroup_tables(
        run.y_true,
        run.probs,
        run.codes,
        run.groups,
        run.malignant,
        columns,
        least_lesions=least_lesions,
        repeats=REPEATS,
    )


def _figures(row: Subgroup) -> tuple[Estimate | None, ...]:
    return row.balanced_accuracy, row.malignant_auc, row.accuracy


# ------------------------------------------------------------------ curves


def learning_curves(run: Finished) -> Markup:
    """Draw loss and balanced accuracy over epochs; of folds each one faint and their mean."""
    histories = [history for history in run.histories.values() if history]
    if not histories:
        return page.paragraph("The run has no history.")
    epochs = max(map(len, histories))
    names = list(dict.fromkeys(str(row["name"]) for row in histories[0]))
    starts = [
        i for i in range(1, len(histories[0])) if histories[0][i]["name"] != histories[0][i - 1]["name"]
    ]
    figures = []
    for measure, title in (
        ("loss", "Loss (training: augmented photos)"),
        ("balanced_accuracy", "Balanced accuracy"),
    ):
        parts = {
            part: [_column(history, f"{part}_{measure}", epochs) for history in histories]
            for part in ("train", "val")
        }
        values = np.array([*parts["train"], *parts["val"]])
        if not np.isfinite(values).any():
            continue
        y = charts.nice_axis(0, float(np.nanmax(values))) if measure == "loss" else charts.unit_axis()
        plot = charts.Plot(f"{title} over {epochs} epochs", epoch_axis(epochs), y)
        for start in starts:
            plot.upright(start + 0.5)
        for part, class_ in (("train", "second"), ("val", "first")):
            _draw(plot, parts[part], class_)
        figures.append(page.figure(plot.svg(), title=title))
    caption = f"Dashed: the next stage begins ({', '.join(names)})." if starts else ""
    if len(histories) > 1:
        caption += f" Faint: each of {len(histories)} folds; bold: their mean."
    shown = page.legend((("training", "second"), ("validation", "first")))
    return page.join([shown, page.grid(*figures, size="wide"), page.paragraph(caption, class_="subtitle")])


def _draw(plot: charts.Plot, columns: Sequence[FloatArray], class_: str) -> None:
    epochs = np.arange(1, len(columns[0]) + 1, dtype=float)
    if len(columns) > 1:
        for column in columns:
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
    numbers = [value if isinstance(value, float) else math.nan for value in values]
    return np.array(numbers + [math.nan] * (epochs - len(numbers)))
