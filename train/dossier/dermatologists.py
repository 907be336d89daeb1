"""The dossier's part on dermatologists: curves, tables, and what the readers' other photos forbid. numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.dossier.binary_tasks import Against, BinaryResult
from train.dossier.reader_tests import BIOPSY, DIAGNOSIS, ReaderTest
from train.evaluation.metrics import Estimate
from train.evaluation.out_of_fold import FLOAT
from train.evaluation.roc import auc_difference
from train.reports import charts
from train.reports import html as page
from train.reports.html import Markup

# Line of each model: colour and, for those who do not see it, dashes.
LINES = ("first", "second broken")
FORBIDDEN = (
    "The dermatologists judged the paper's photos, the models judged ours. Which set is harder nobody has measured, so "
    "a curve above or below a point does not say that the model is better or worse than that dermatologist, nor that "
    "it would be on the same patients. Readers saw one photo without history or touch. What can be concluded: how far "
    "our out-of-fold answers are from points that are widely quoted, and what quantization changes on the same photos."
)


def shown_name(model: str) -> str:
    """`float`, or `int8_qat file`."""
    return model if model == FLOAT else f"{model} file"


def binary_part(results: Sequence[BinaryResult], *, with_tests: bool) -> Markup:
    """One question: its curves against each test's readers, and the tables.

    Args:
        results: Of one question and one data set, the float model first.
        with_tests: Whether the readers' table was there.
    """
    first = results[0]
    counted = ", ".join(f"{code} {page.count(photos)}" for code, photos in first.photos_of.items())
    curve = first.curve
    intro = (
        f"{page.counted(curve.positives, 'photo')} to be found among {page.counted(len(curve.score), 'photo')} of "
        f"{page.counted(curve.lesions, 'group')} of lesions in {first.source} ({counted}), each answered by a network "
        "that did not learn from it."
    )
    codes = list(dict.fromkeys(against.test.code for against in first.against))
    figures = [_chart(results, code) for code in codes] if with_tests else [_chart(results, None)]
    blocks = [
        page.paragraph(intro),
        _legend(results, with_tests),
        page.grid(*figures, size="wide"),
        _areas(results),
    ]
    if with_tests:
        blocks.append(_against(results))
    blocks.append(_points(results))
    return page.join(blocks)


def _legend(results: Sequence[BinaryResult], with_tests: bool) -> Markup:
    entries = [
        (f"{shown_name(result.model)} (pale: 95 %)", line)
        for result, line in zip(results, LINES, strict=False)
    ]
    if with_tests:
        entries += [
            ("dermatologist, diagnosis", "circle"),
            ("dermatologist, whether to biopsy", "ring"),
            ("mean dermatologist, diagnosis", "cross"),
        ]
    return page.legend(entries)


def _chart(results: Sequence[BinaryResult], code: str | None) -> Markup:
    own = [against for against in results[0].against if against.test.code == code]
    title = own[0].test.title if own else "Curves"
    plot = charts.Plot(
        _alternative(results, own, title),
        charts.unit_axis("specificity"),
        charts.unit_axis("sensitivity"),
        height=300,
    )
    for result, line in zip(results, LINES, strict=False):
        low, high = result.curve.band
        plot.band(result.curve.specificity, low, high, line.split(" ")[0])
    for result, line in zip(results, LINES, strict=False):
        plot.line(result.curve.specificity, result.curve.sensitivity, line)
    for against in own:
        _readers(plot, against.test)
    caption = ""
    if own:
        numbers = " and ".join(f"{len(against.test.points)} ({against.test.decision})" for against in own)
        caption = f"Readers: {numbers}; photos of the paper's own test, {title}."
    return page.figure(plot.svg(), caption, title=f"Against readers of {title}" if own else title)


def _alternative(results: Sequence[BinaryResult], own: Sequence[Against], title: str) -> str:
    told = "; ".join(f"{shown_name(r.model)} AUC {r.curve.auc.value:.3f}" for r in results)
    text = f"{results[0].question.title}: sensitivity over specificity. {told}."
    if own:
        mean = own[0].test.mean
        text += (
            f" Dermatologists on {title}: mean sensitivity {mean[0]:.3f} at mean specificity {mean[1]:.3f}."
        )
    return text


def _readers(plot: charts.Plot, test: ReaderTest) -> None:
    shape = "circle" if test.decision == DIAGNOSIS else "ring"
    titles = [f"{test.decision}: sensitivity {s:.3f}, specificity {p:.3f}" for s, p in test.points]
    plot.marks(test.points[:, 1], test.points[:, 0], shape, "plain", titles=titles)
    if test.decision == DIAGNOSIS:
        sensitivity, specificity = test.mean
        said = f"mean of {len(test.points)}: sensitivity {sensitivity:.3f}, specificity {specificity:.3f}"
        plot.marks([specificity], [sensitivity], "cross", "second", titles=[said])


def _areas(results: Sequence[BinaryResult]) -> Markup:
    rows = [
        (
            shown_name(result.model),
            result.curve.auc,
            None
            if result is results[0] or len(result.curve.score) != len(results[0].curve.score)
            else page.estimate(auc_difference(results[0].curve, result.curve), sign=True),
            len(result.curve.score),
            result.curve.lesions,
        )
        for result in results
    ]
    header = ("Model", "AUC", f"Less {shown_name(results[0].model)}", "Photos", "Groups")
    return page.table(header, rows, caption="Area under the curve, the difference on the same photos")


def _against(results: Sequence[BinaryResult]) -> Markup:
    rows = []
    for i, against in enumerate(results[0].against):
        sensitivity, specificity = against.test.mean
        asked = {DIAGNOSIS: "diagnosis", BIOPSY: "biopsy or not"}[against.test.decision]
        for result in results:
            own = result.against[i]
            reached = Estimate(*(value + sensitivity for value in own.above_mean))
            rows.append(
                (
                    shown_name(result.model),
                    f"{against.test.title}: {asked}",
                    f"{sensitivity:.3f} at {specificity:.3f}",
                    reached,
                    page.estimate(own.above_mean, sign=True),
                    _verdict(own.above_mean),
                    page.join(
                        (
                            page.share(own.share_under.value),
                            page.element(
                                "small",
                                f"{page.share(own.share_under.low)} to {page.share(own.share_under.high)}",
                                class_="interval",
                            ),
                        )
                    ),
                    len(own.test.points),
                )
            )
    header = (
        "Model", "Readers' test", "Mean reader: sensitivity at specificity", "Model's sensitivity there", "Difference",
        "Curve and mean reader", "Readers under the curve", "Readers",
    )  # fmt: skip
    return page.table(header, rows, caption="Curves and dermatologists", texts=(1, 5))


def _verdict(above: Estimate) -> str:
    if above.low > 0:
        return "above, with its whole interval"
    if above.high < 0:
        return "below, with its whole interval"
    return "above, but the interval holds 0" if above.value > 0 else "not above; the interval holds 0"


def _points(results: Sequence[BinaryResult]) -> Markup:
    rows = [
        (
            shown_name(result.model),
            point.name,
            point.sensitivity,
            point.specificity,
            f"{np.min(point.thresholds):.3f} to {np.max(point.thresholds):.3f}",
        )
        for i in range(max(len(result.points) for result in results))
        for result in results
        if i < len(result.points)
        for point in [result.points[i]]
    ]
    if not rows:
        # The dossier names what is missing.
        return Markup("")
    header = ("Model", "Aim", "Sensitivity", "Specificity", "Thresholds of the folds")
    told = (
        "Each fold's threshold was chosen on the other folds' answers and counted on the fold itself, so what was "
        "aimed at is not quite what is reached."
    )
    return page.join(
        [page.table(header, rows, caption="Our operating points", texts=(1,)), page.paragraph(told)]
    )


def narrow_table(results: Sequence[BinaryResult], name: str) -> Markup:
    """The question asked by one disease of its positive node, and of other data sets: a row each."""
    rows = [
        (
            f"{result.source}, {shown_name(result.model)}",
            result.curve.auc,
            ", ".join(f"{code} {photos:,}" for code, photos in result.photos_of.items()),
            result.curve.lesions,
        )
        for result in results
    ]
    return page.table(("Photos of, model", "AUC", "Photos", "Groups"), rows, caption=name, texts=(2,))
