"""The evaluation as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_runtime.contract import ModelContract
from train.artifacts.selection import KEY
from train.evaluation.metrics import Estimate
from train.reports import html
from train.reports.html import Section

Report = Mapping[str, Any]


def make_page(report: Report, contract: ModelContract) -> str:
    """Make the page of the content of evaluation.json and of the model's contract."""
    sample = f"{report['photos']:,} photos of {report['lesions']:,} lesions"
    error, floor = report["calibration"]["error"], report["calibration"]["perfectly_calibrated"]
    over = f"{report['classes_present']} classes, {sample}"
    bins = f"{report['calibration']['bins']} bins; perfectly calibrated: {floor[1]:.3f} to {floor[2]:.3f}"
    main = [
        ("Balanced accuracy", html.estimate(report["balanced_accuracy"]), over),
        ("Accuracy", html.estimate(report["accuracy"]), sample),
        *(
            (f"AUC: {group} against the rest", html.estimate(value), sample)
            for group, value in report["groups"].items()
            if value
        ),
        ("Calibration error", html.estimate(error), bins),
    ]
    sections = [
        Section("summary", "Summary", [*_notes(report), html.tiles(main)]),
        Section("classes", "Labels", [_classes(report)]),
        Section("confusion", "Confusion matrix", [_confusion(report)]),
        Section("decisions", "Decisions", [_decisions(report)]),
    ]
    if report["subgroups"]:
        tables = [_subgroup(title, rows) for title, rows in report["subgroups"].items()]
        sections.append(Section("subgroups", "Subgroup analysis", tables))
    subtitle = f"{report['model']['name']} ({report['model']['model_id']}) on {report['data']['folder']}"
    return html.page("Evaluation", subtitle, contract.provenance.data_licence, sections)


def _notes(report: Report) -> list[object]:
    notes = [*report["data"][KEY]]
    if report["classes_few"]:
        few = ", ".join(report["classes_few"])
        notes.append(
            f"Fewer than {report['few_lesions']} lesions: {few}. Their recall is the word of a few cases."
        )
    if not report["data"]["grouped"]:
        notes.append(
            "No column says which photos show the same lesion; intervals treat every photo as its own."
        )
    if left := report["data"]["left_out"]:
        notes.append(f"{left:,} photos of labels that the model does not have were left out.")
    if failures := report["data"]["failures"]:
        notes.append(f"{len(failures):,} photos could not be read.")
    return list(map(html.note, notes))


def _classes(report: Report) -> html.Markup:
    few = {True: "few lesions", False: ""}
    rows = [
        (code, one["photos"], one["lesions"], _cell(one["recall"]), _cell(one["auc"]), few[one["few"]])
        for code, one in report["per_class"].items()
    ]
    return html.table(("Label", "Photos", "Lesions", "Recall", "AUC", ""), rows, texts=(5,))


def _confusion(report: Report) -> html.Markup:
    codes = list(report["per_class"])
    return html.heat_table("true / predicted", codes, list(zip(codes, report["confusion"], strict=True)))


def _decisions(report: Report) -> html.Markup:
    rows = [(kind, count, html.share(count, report["photos"])) for kind, count in report["decisions"].items()]
    return html.table(("Decision", "Photos", "Share"), rows)


def _subgroup(title: str, rows: Sequence[Report]) -> html.Markup:
    groups = sorted({group for row in rows for group in row.get("groups", {})})
    of_groups = (f"AUC: {one}" for one in groups)
    header = (title, "Photos", "Lesions", "Balanced accuracy", "Accuracy", *of_groups, "Absent")
    shown = [
        (
            *(row[name] for name in ("value", "photos", "lesions")),
            *(_cell(row.get(name)) for name in ("balanced_accuracy", "accuracy")),
            *(_cell(row.get("groups", {}).get(group)) for group in groups),
            ", ".join(row.get("classes_absent", ())),
        )
        for row in rows
    ]
    return html.table(header, shown, caption=f"{title}; balanced accuracy over the labels that are present")


def _cell(value: Sequence[float] | None) -> Estimate | None:
    return None if value is None else Estimate(*value)
