"""`dermedge report RUN...`: one HTML page about finished runs or cross-validations. numpy.

One run: metrics with intervals, confusion, ROC, calibration, learning curves, subgroups, errors. Several:
first a comparison, paired on the photos that they share, then each run. Without TensorFlow; seconds a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import RunInvalid, UsageError
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.evaluation.metrics import (
    Estimate,
    FloatArray,
    balanced_accuracy,
    paired_difference_interval,
    summarize,
)
from train.evaluation.results import Finished, read_finished
from train.reports import charts
from train.reports import html as page
from train.reports import sections as run_figures
from train.reports.html import Markup, Section
from train.reports.mistakes import mistakes
from train.reports.sections import REPEATS, estimate_of

ONE_NAME, SEVERAL_NAME = "report.html", "comparison.html"
PART_NAMES = ("first", "second", "third", "fourth")


def make_report(runs: Sequence[Finished], *, source: str | None = None, photos: bool = True) -> str:
    """Make the page.

    Args:
        runs: One or more; the others are compared with the first.
        source: The dataset to evaluate on; None takes each run's first one.
        photos: Whether to show thumbnails of errors, where the photos are on this machine.

    Raises:
        RunInvalid: No photos of this dataset, or two runs give a photo two labels.
    """
    whole = runs
    runs = [
        run if source is None and len(run.source_names) == 1 else run.part(source or run.source_names[0])
        for run in whole
    ]
    summaries = [
        summarize(run.y_true, run.probs, run.codes, run.groups, run.malignant, repeats=REPEATS)
        for run in runs
    ]
    licences = list(dict.fromkeys(run.contract.provenance.data_licence for run in runs))
    if len(runs) == 1:
        run = runs[0]
        subtitle = f"{run.state.get('run_id', run.name)}: {len(run.y_true):,} {run.of_photos}"
        return page.page(
            f"{'Cross-validation' if run.folds else 'Run'} {run.name}",
            subtitle,
            "; ".join(licences),
            _of_run(whole[0], run, summaries[0], photos),
        )
    names = distinct_names(runs)
    sections = [Section("comparison", "Comparison", [comparison(runs, summaries, names)])]
    for i, (run, summary, name) in enumerate(zip(runs, summaries, names, strict=True)):
        parts = (
            part
            for section in _of_run(whole[i], run, summary, photos)
            for part in (page.element("h3", section.title), *section.content)
        )
        sections.append(Section(f"run-{i + 1}", name, [page.details(f"{name}: all metrics", *parts)]))
    subtitle = f"{len(runs)} runs, compared with the first on the photos that they share"
    return page.page("Comparison of runs", subtitle, "; ".join(licences), sections)


def distinct_names(runs: Sequence[Finished]) -> list[str]:
    """Return the folders' names, with as many parents as make them distinct."""
    paths = [run.folder.resolve() for run in runs]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({i + 1})" for i, path in enumerate(paths)]


def _of_run(whole: Finished, run: Finished, summary: dict[str, Any], photos: bool) -> list[Section]:
    figures = [
        run_figures.headline(run, summary),
        run_figures.per_class(run, summary),
        run_figures.folds(run),
    ]
    sections = [
        Section("metrics", "Metrics", figures),
        Section("confusion", "Confusion matrix", [run_figures.confusion(run, summary)]),
        Section("roc", "ROC", [run_figures.roc_curves(run, summary)]),
        Section("precision", "Precision and recall", [run_figures.precision_recall_curves(run, summary)]),
        Section("calibration", "Calibration", [run_figures.reliability(run, summary)]),
        Section("decisions", "Decisions", [run_figures.decisions(run)]),
        Section("curves", "Learning curves", [run_figures.learning_curves(run)]),
        Section("subgroups", "Subgroup analysis", [run_figures.subgroups(run)]),
        Section("errors", "Errors", _mistakes(run, photos)),
    ]
    if len(whole.source_names) > 1:
        text = f"All other sections are about {run.sources[0]}; --source selects another dataset."
        content = [run_figures.data_sets(whole), page.paragraph(text)]
        sections.insert(1, Section("datasets", "Datasets", content))
    return sections


def _mistakes(run: Finished, photos: bool) -> list[Markup]:
    if photos and run.root is None:
        root = run.state.get("data", {}).get("root", "unknown folder")
        return [
            page.note(
                f"The photos are not on this machine any more ({root}): no thumbnails. Name their folder with --data."
            ),
            mistakes(run, None),
        ]
    if not photos:
        return [mistakes(run, None)]
    licence = f"The photos are the dataset's, under its licence: {run.contract.provenance.data_licence}."
    shown = mistakes(run, run.root)
    unreadable = shown.count('class="missing"')
    remark = (
        [page.note(f"{page.counted(unreadable, 'photo')} of these cannot be read any more.")]
        if unreadable
        else []
    )
    return [page.paragraph(licence, " --no-photos leaves them out."), *remark, shown]


# ------------------------------------------------------------------ several runs


def comparison(runs: Sequence[Finished], summaries: Sequence[dict[str, Any]], names: Sequence[str]) -> Markup:
    """Show metrics side by side, differences on shared photos, recall by class, validation curves."""
    header = (
        "Run", "Photos", "Lesions", "Balanced accuracy", "Malignant AUC", "Accuracy", "Calibration error",
        "Evaluated on",
    )  # fmt: skip
    figures = ("balanced_accuracy", "malignant_auc", "accuracy", "expected_calibration_error")
    own = [
        (name, s["photos"], s["lesions"], *(estimate_of(s, figure) for figure in figures), run.of_photos)
        for run, s, name in zip(runs, summaries, names, strict=True)
    ]
    remarks = [
        page.note(f"{name}: {remark}")
        for run, name in zip(runs, names, strict=True)
        for remark in run.remarks
    ]
    blocks = [
        *remarks,
        page.table(header, own, caption="Each run on its own photos", texts=(7,)),
        page.paragraph(run_figures.INTERVALS, class_="subtitle"),
        _paired(runs, names),
        _recall_by_class(runs, summaries, names),
        _validation_curves(runs, names),
    ]
    return page.join(blocks)


def _paired(runs: Sequence[Finished], names: Sequence[str]) -> Markup:
    header = (
        "Run", "Shared photos", "Lesions", f"{names[0]}", "This run", "Difference", "Wrong to right",
        "Right to wrong",
    )  # fmt: skip
    rows = [(name, *paired_row(runs[0], run)) for name, run in zip(names[1:], runs[1:], strict=True)]
    text = (
        f"Difference in balanced accuracy to {names[0]} on the photos that both were evaluated on and neither was "
        "trained on. A difference whose interval contains 0 is not significant. A dash: no photo in common, or other "
        "labels."
    )
    return page.join([page.table(header, rows, caption="Paired with the first"), page.paragraph(text)])


def paired_row(first: Finished, second: Finished) -> tuple[page.Cell, ...]:
    """Compare two runs on shared photos: photos, lesions, balanced accuracies, difference, changed predictions.

    Raises:
        RunInvalid: A photo has two labels.
    """
    place = {photo.photo_id: i for i, photo in enumerate(second.photos)}
    mine = [i for i, photo in enumerate(first.photos) if photo.photo_id in place]
    if first.codes != second.codes or not mine:
        return (None,) * 7
    theirs = [place[first.photos[i].photo_id] for i in mine]
    y_true = first.y_true[mine]
    if (y_true != second.y_true[theirs]).any():
        i = mine[int(np.argmax(y_true != second.y_true[theirs]))]
        raise RunInvalid(
            "the same photo with two labels",
            where=f"{first.folder} and {second.folder}",
            found=first.photos[i].photo_id,
            expected="runs of the same data",
        )
    groups = [first.groups[i] for i in mine]
    before, after = first.y_pred[mine], second.y_pred[theirs]
    classes = len(first.codes)
    difference = paired_difference_interval(y_true, before, after, classes, groups, repeats=REPEATS)
    right, right_after = before == y_true, after == y_true
    return (
        len(mine),
        len(set(groups)),
        page.number(balanced_accuracy(y_true, before, classes)),
        page.number(balanced_accuracy(y_true, after, classes)),
        page.estimate(difference, sign=True),
        int((~right & right_after).sum()),
        int((right & ~right_after).sum()),
    )


def _recall_by_class(
    runs: Sequence[Finished], summaries: Sequence[dict[str, Any]], names: Sequence[str]
) -> Markup:
    codes = list(dict.fromkeys(code for run in runs for code in run.codes))

    def recall(run: Finished, summary: dict[str, Any], code: str) -> Estimate | None:
        return estimate_of(summary, "recall", code) if code in run.codes else None

    rows = [
        (code, *(recall(run, summary, code) for run, summary in zip(runs, summaries, strict=True)))
        for code in codes
    ]
    return page.table(("Class", *names), rows, caption="Recall of each class, on each run's own photos")


def _validation_curves(runs: Sequence[Finished], names: Sequence[str]) -> Markup:
    """Draw validation balanced accuracy over epochs, of the first four runs: more lines are hard to distinguish."""
    drawn: list[tuple[str, FloatArray]] = []
    epochs = 1
    for run, name in zip(runs, names, strict=True):
        curve = run_figures.mean_curve(run, "val_balanced_accuracy")
        if len(curve) and len(drawn) < len(PART_NAMES):
            drawn.append((name, curve))
            epochs = max(epochs, len(curve))
    if not drawn:
        return Markup("")
    plot = charts.Plot(
        "Validation balanced accuracy over epochs", run_figures.epoch_axis(epochs), charts.unit_axis()
    )
    for (_, curve), class_ in zip(drawn, PART_NAMES, strict=False):
        plot.line(np.arange(1, len(curve) + 1, dtype=float), curve, class_)
    shown = page.figure(plot.svg(), title="Balanced accuracy, validation split")
    marks = [(name, class_) for (name, _), class_ in zip(drawn, PART_NAMES, strict=False)]
    return page.join([page.legend(marks), page.grid(shown, size="wide")])


# ------------------------------------------------------------------ the command


def parser() -> argparse.ArgumentParser:
    """Build the parser of `dermedge report`."""
    made = command_parser(
        "report",
        "Write a self-contained HTML page about one or more finished runs.",
        "example:\n  dermedge report runs/first runs/second --out comparison.html",
    )
    made.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="read a run directory, or a cross-validation's folder",
    )
    made.add_argument(
        "--out", type=Path, metavar="FILE",
        help=f"write the page there (default: {ONE_NAME} in the run; of several, {SEVERAL_NAME} in the first)",
    )  # fmt: skip
    made.add_argument(
        "--split", choices=("test", "val"), help="split to evaluate on (default: test, or val without one)"
    )
    made.add_argument(
        "--source", metavar="NAME", help="dataset to report on, of several (default: the first)"
    )
    made.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the first dataset (default: as the run says)"
    )
    made.add_argument(
        "--no-photos", action="store_true",
        help="leave out thumbnails, so that the page can be shared (default: show them)",
    )  # fmt: skip
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 2 on an error, 130 when interrupted."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _write_report(arguments), interrupted=NOTHING_WRITTEN)


def _write_report(arguments: argparse.Namespace) -> int:
    name = ONE_NAME if len(arguments.runs) == 1 else SEVERAL_NAME
    out = arguments.out or arguments.runs[0] / name
    if len({run.resolve() for run in arguments.runs}) < len(arguments.runs):
        raise UsageError("named twice", where="RUN", fix="Name each run once")
    runs = [read_finished(run, split=arguments.split, data=arguments.data) for run in arguments.runs]
    page.require_place(out)
    page.write_page(out, make_report(runs, source=arguments.source, photos=not arguments.no_photos))
    print(out)
    return 0
