"""`dermedge report RUN...`: one HTML page about finished runs or cross-validations. numpy.

One run: metrics with intervals, confusion, ROC, calibration, learning curves, subgroups, errors. Several:
first a comparison, paired on the photos that they share, then each run. Without TensorFlow; seconds a run.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_runtime.errors import RunInvalid, UsageError, escaped
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.labels import units_of
from train.artifacts.run import consistent
from train.evaluation.intervals import indistinct, mcnemar_p
from train.evaluation.metrics import Estimate, balanced_accuracy, paired_difference_interval
from train.evaluation.results import Finished, read_finished
from train.evaluation.summary import summarize
from train.reports import charts
from train.reports import html as page
from train.reports.html import Markup, Section
from train.reports.sections import REPEATS, epoch_axis, estimate_of, mean_curve, run_sections

TEMPLATE = page.TEMPLATES / "comparison.html.j2"
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
    with consistent(runs[0].folder):
        return _report(runs, source, photos)


def _report(runs: Sequence[Finished], source: str | None, photos: bool) -> str:
    whole = runs
    runs = [
        run if source is None and len(run.source_names) == 1 else run.part(source or run.source_names[0])
        for run in whole
    ]
    summaries = [
        summarize(run.y_true, run.probs, run.codes, run.groups, run.malignant, repeats=REPEATS)
        for run in runs
    ]
    of_runs = [run_sections(*of_run, photos=photos) for of_run in zip(whole, runs, summaries, strict=True)]
    licences = "; ".join(dict.fromkeys(run.contract.provenance.data_licence for run in runs))
    notices = " ".join(dict.fromkeys(run.contract.notice for run in runs))
    if len(runs) == 1:
        run = runs[0]
        subtitle = f"{run.state.get('run_id', run.name)}: {len(run.y_true):,} {run.of_photos}"
        title = f"{'Cross-validation' if run.folds else 'Run'} {run.name}"
        return page.page(title, subtitle, licences, of_runs[0], notices)
    units = units_of(runs[0].contract.labels)
    names, macros = page.distinct_names([run.folder for run in runs]), page.macros(TEMPLATE, units)
    paired = [paired_row(runs[0], run) for run in runs[1:]]
    of = [functools.partial(estimate_of, summary) for summary in summaries]
    curves = _validation_curves(runs, names)
    comparison = macros.comparison(runs, names, summaries, of, paired, *curves)
    sections = [Section("comparison", "Comparison", [comparison])]
    for i, (name, of_run) in enumerate(zip(names, of_runs, strict=True)):
        sections.append(Section(f"run-{i + 1}", name, [macros.folded(name, of_run)]))
    subtitle = f"{len(runs)} runs, compared with the first on the photos that they share"
    return page.page("Comparison of runs", subtitle, licences, sections, notices)


def paired_row(first: Finished, second: Finished) -> tuple[float | Estimate | str | None, ...]:
    """Compare two runs on shared photos.

    Returns:
        Photos, lesions, both balanced accuracies, difference, changes to right and to wrong, `indistinct` of the two.

    Raises:
        RunInvalid: A photo has two labels.
    """
    place = {photo.photo_id: i for i, photo in enumerate(second.photos)}
    mine = [i for i, photo in enumerate(first.photos) if photo.photo_id in place]
    if first.codes != second.codes or not mine:
        return (*(None,) * 7, "")
    theirs = [place[first.photos[i].photo_id] for i in mine]
    y_true = first.y_true[mine]
    if (y_true != second.y_true[theirs]).any():
        i = mine[int(np.argmax(y_true != second.y_true[theirs]))]
        problem, where = "the same photo with two labels", f"{first.folder} and {second.folder}"
        raise RunInvalid(
            problem, where=where, found=first.photos[i].photo_id, expected="runs of the same data"
        )
    groups = [first.groups[i] for i in mine]
    before, after = first.y_pred[mine], second.y_pred[theirs]
    classes = len(first.codes)
    difference = paired_difference_interval(y_true, before, after, classes, groups, repeats=REPEATS)
    right, right_after = before == y_true, after == y_true
    return (
        len(mine),
        len(set(groups)),
        balanced_accuracy(y_true, before, classes),
        balanced_accuracy(y_true, after, classes),
        difference,
        (better := int((~right & right_after).sum())),
        (worse := int((right & ~right_after).sum())),
        indistinct("the first", difference, mcnemar_p(worse, better)),
    )


def _validation_curves(
    runs: Sequence[Finished], names: Sequence[str]
) -> tuple[list[tuple[str, str]], Markup | None]:
    """Draw validation balanced accuracy over epochs, of the first four runs: more lines are hard to distinguish.

    Returns:
        Name and class of each line, and the chart; nothing where no run has a history.
    """
    curves = [mean_curve(run, "val_balanced_accuracy") for run in runs]
    known = [(name, curve) for name, curve in zip(names, curves, strict=True) if len(curve)]
    drawn = [(*of_run, class_) for of_run, class_ in zip(known, PART_NAMES, strict=False)]
    if not drawn:
        return [], None
    x = epoch_axis(max(len(curve) for _, curve, _ in drawn))
    plot = charts.Plot("Validation balanced accuracy over epochs", x, charts.unit_axis())
    for _, curve, class_ in drawn:
        plot.line(np.arange(1, len(curve) + 1, dtype=float), curve, class_)
    return [(name, class_) for name, _, class_ in drawn], plot.svg()


# ------------------------------------------------------------------ the command


def parser() -> argparse.ArgumentParser:
    """Build the parser of `dermedge report`."""
    made = command_parser(
        "report",
        "Write a self-contained HTML page about one or more finished runs.",
        "example:\n  dermedge report runs/first runs/second --out comparison.html",
    )
    read = "read a run directory, or a cross-validation's folder"
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=read)
    split, source = "test, or val without one", "dataset to report on, of several (default: the first)"
    made.add_argument("--split", choices=("test", "val"), help=f"split to evaluate on (default: {split})")
    made.add_argument("--source", metavar="NAME", help=source)
    out = f"{ONE_NAME} in the run; of several, {SEVERAL_NAME} in the first"
    page.add_options(made, out=out, data="as the run says")
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
    print(escaped(str(out)))
    return 0
