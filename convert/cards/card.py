"""`dermedge card RUN MODEL.tflite --out CARD.md`: write a model card whose every figure is read from a file.

The text is card.md.j2; this module fills it from RUN's files, the model, and the .json beside it (sources.py). What is
known of a dataset's limits is in data_notes/NAME.md. No TensorFlow.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convert.cards.sources import Sources, read_sources
from convert.files import selection_sets
from edge_runtime.engines.opening import add_signature_options, require_signed
from edge_runtime.errors import EXIT_OK
from train.artifacts.command import AND_NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import write_text
from train.artifacts.run import SOURCE_SEPARATOR
from train.artifacts.selection import KEY, mark
from train.evaluation.intervals import few_note, indistinct, mcnemar_p
from train.reports.html import render_text
from train.reports.published import HEADER, published_rows, read_published

NOTES = Path(__file__).parent / "data_notes"
TEMPLATE = Path(__file__).with_name("card.md.j2")
Row = Sequence[object]


def write_card(sources: Sources) -> str:
    """Make the card, as Markdown."""
    functions = (
        _split_rows,
        _worst_class,
        _pair_rows,
        _epoch_rows,
        _loss_of,
        _interval,
        _table,
        _indistinct_loss,
    )
    values = _values(sources) | {function.__name__[1:]: function for function in functions}
    return render_text(TEMPLATE, values, {"percent": _percent, "number": _number})


def _values(s: Sources) -> dict[str, Any]:
    """Make the values of the template."""
    contract, report, test = s.contract, s.report, s.test
    check, decision = report["check"], contract.decision
    notes = [NOTES / f"{name.lower()}.md" for name in contract.provenance.data_name.split(SOURCE_SEPARATOR)]
    named_rules = (("refer", decision.refer), ("not_a_lesion", decision.not_a_lesion))
    versions = {**s.run.get("versions", {}), **{k: v for k, v in report["versions"].items() if v}}
    hashes = {name: value for name, value in report["run"].items() if name.endswith("_sha256")}
    this_file = f"{contract.provenance.recipe}, this file" if s.crossval is None else "converted"
    commands, weights = _training(s)
    published = read_published()
    return {
        "published": published
        if published["sealed"]["bundled_sha256"] == report["model"]["sha256"]
        else None,
        "published_rows": published_rows(published),
        "published_header": HEADER,
        "model_name": s.model_name,
        "contract": contract,
        "provenance": contract.provenance,
        "codes": [label.code for label in contract.labels],
        "facts": _facts(s),
        "limits": "\n".join(path.read_text(encoding="utf-8").strip() for path in notes if path.is_file()),
        "rules": [(name, rule) for name, rule in named_rules if rule is not None],
        "leaks": s.leaks,
        "test": test,
        "few": few_note((test or {}).get("classes_few", ())),
        "marked": mark((test or {}).get(KEY, ())),
        "selection": [_selection_row(entry) for entry in selection_sets(report)],
        "test_photos": sum(sum(leak["sizes"].get("test", {}).values()) for leak in s.leaks.values()),
        "crossval": s.crossval,
        "malignant_auc": None if s.crossval else s.metrics.get("test", {}).get("malignant_auc"),
        "this_file": this_file,
        "converted": "this file" if s.crossval is None else "converted",
        "class_rows": [] if test is None else _class_rows(s, test),
        "subgroup_rows": _subgroup_rows(report["test"]),
        "check": check,
        "check_splits": ", ".join(f"{n} of {name}" for name, n in check["photos_by_split"].items() if n),
        "operators": ", ".join(f"{count} {name}" for name, count in report["tensors"]["operators"].items()),
        "calibration": report["calibration"],
        "kept": report.get("kept_float"),
        "qat": report["qat"],
        "temperature": report.get("temperature"),
        "golden": report["golden"],
        "kernel_sets": "; ".join(
            f"{name}: {value:g}"
            for name, value in report["golden"]["largest_difference_by_kernel_set"].items()
        ),
        "commands": [
            *commands,
            f"dermedge convert runs/{s.run_folder.name} {' '.join(report['options'])} --out {s.model_name}",
            f"dermedge card runs/{s.run_folder.name} {s.model_name} --out CARD.md",
        ],
        "weights": weights,
        "seed": s.run.get("seed"),
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
        "hashes": [(k.removesuffix("_sha256").replace("_", "."), f"`{v}`") for k, v in hashes.items()],
    }


def _selection_row(entry: dict[str, Any]) -> Row:
    return entry["set"], entry.get("photos", len(entry["photo_ids"])), ", ".join(entry["chosen"])


def _facts(s: Sources) -> list[Row]:
    contract, model = s.contract, s.config["model"]
    # Only MobileNetV2 has a width; an EfficientNet-Lite's is in its name.
    width = f", width {model['alpha']}" if model["backbone"] == "mobilenet_v2" else ""
    size = f"{contract.input.height_px} x {contract.input.width_px}"
    return [
        ("file", f"`{s.model_name}`, {s.report['model']['bytes']:,} bytes"),
        ("sha256", f"`{s.report['model']['sha256']}`"),
        ("recipe", f"`{contract.provenance.recipe}`"),
        ("network", f"{model['backbone']}{width}"),
        ("input", f"{size} RGB, {s.report['tensors']['input']['dtype']}"),
        ("output", ", ".join(f"`{x.code}` {x.name} ({x.group})" for x in contract.labels)),
        ("run", f"`{contract.provenance.run_id}`, commit `{contract.provenance.commit}`"),
        ("licence of the model", contract.provenance.model_licence),
    ]


def _split_rows(leak: dict[str, Any], codes: Sequence[str]) -> list[Row]:
    """Count one dataset's photos by split and class."""
    groups = leak.get("group_sizes", {})
    return [
        (split, sum(of.values()), groups.get(split, ""), *(of.get(code, 0) for code in codes))
        for split, of in leak["sizes"].items()
    ]


def _worst_class(leak: dict[str, Any]) -> str:
    of_class: dict[str, float | None] = leak["random_leak_of_class"]
    return max(of_class, key=lambda code: of_class[code] or 0)


def _pair_rows(figures: dict[str, Any], this_file: str) -> list[Row]:
    return [
        (
            title,
            _interval(figures[side]["balanced_accuracy"], figures[side]["balanced_accuracy_interval"]),
            _percent(figures[side]["accuracy"]),
            _number(figures[side]["expected_calibration_error"]),
            _range(figures[side].get("perfectly_calibrated")),
        )
        for title, side in (("float, Keras", "keras"), (this_file, "converted"))
    ]


def _class_rows(s: Sources, test: dict[str, Any]) -> list[Row]:
    float_figures = s.metrics.get("test", {}).get("per_class", {}) if s.crossval is None else {}
    return [
        (
            f"`{label.code}`",
            test["photos_per_class"][label.code],
            *(_number(test[side]["recall"][label.code]) for side in ("keras", "converted")),
            *(_number(float_figures.get(label.code, {}).get(name)) for name in ("precision", "auc")),
        )
        for label in s.contract.labels
    ]


def _subgroup_rows(test: dict[str, Any] | None) -> list[Row]:
    names = ("keras_balanced_accuracy", "converted_balanced_accuracy", "agreement")
    shown = {"dx_type": "ground truth"}
    return [
        (
            f"{shown.get(column, column)}: {value}",
            row["photos"],
            row["classes"],
            *(_number(row[name]) for name in names),
        )
        for column, values in (test["subgroups"] if test else {}).items()
        for value, row in values.items()
    ]


def _epoch_rows(qat: dict[str, Any]) -> list[Row]:
    return [
        (
            f"{row['epoch']}{' (kept)' if row['epoch'] == qat['best_epoch'] else ''}",
            _number(row["agreement"]),
            f"{row['mean_score_difference']:.4f}",
            _number(row["balanced_accuracy"]),
        )
        for row in qat["history"]
    ]


def _loss_of(settings: dict[str, Any]) -> str:
    """Describe the loss of fine-tuning."""
    labels = settings["hard_label_weight"]
    # Older reports do not name it: it was 1.
    if not settings.get("distillation_weight", 1.0):
        return "labels alone"
    distilled = f"distilled from the float model at temperature {settings['distillation_temperature']}"
    return f"{distilled}, the labels with weight {labels:g}" if labels else distilled


def _training(s: Sources) -> tuple[list[str], str]:
    """Return the commands that gave the run its weights, and a remark on these."""
    config, run = f"train/configs/{s.config['name']}.toml", f"runs/{s.run_folder.name}"
    averaged = s.run.get("mean_of", [])
    # The experiment `average` writes run ids, or "NAME.tflite, sha256 ..." of a shipped file whose run is gone.
    if len(averaged) == 1 and ".tflite, sha256 " in averaged[0]:
        shipped = averaged[0].partition(", ")[0]
        return (
            [f"dermedge experiment average RECORD/config.toml {shipped} --trained-on RECORD --workdir {run}"],
            f"Its weights are those of {averaged[0]}, with new batch-norm statistics; RECORD is that of its training.",
        )
    if averaged:
        return (
            [
                f"dermedge crossval {config} --workdir runs/folds",
                f"dermedge experiment average {config} runs/folds/fold* --workdir {run}",
            ],
            f"Its weights are the mean of those of {', '.join(averaged)}.",
        )
    no_test = " --no-test" if s.config.get("split", {}).get("test_fold", 0) < 0 else ""
    return [f"dermedge train {config} --workdir {run}{no_test}"], ""


def _table(header: Row, rows: Iterable[Row]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _range(estimate: Sequence[float] | None) -> str:
    return "-" if estimate is None else f"{estimate[1]:.3f} to {estimate[2]:.3f}"


def _indistinct_loss(figures: dict[str, Any]) -> str:
    """Say whether the converted model can be told from the float one."""
    loss = figures["balanced_accuracy_loss"], *figures["balanced_accuracy_loss_interval"]
    p = mcnemar_p(figures["right_to_wrong"], figures["wrong_to_right"])
    return f", {text}" if (text := indistinct("the float model", loss, p)) else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    made = command_parser(
        "card",
        "Write a model card from a run directory and its converted model.",
        "example:\n  dermedge card runs/x model.tflite --out CARD.md",
    )
    add = made.add_argument
    add("run", type=Path, metavar="RUN", help="Run directory")
    add("model", type=Path, metavar="MODEL.tflite", help="Its model, with the .json beside it")
    add("--out", required=True, type=Path, metavar="CARD.md", help="File to write (required)")
    text = (
        "Cross-validation of the same config, whose metrics replace those of the test split (default: none)"
    )
    add("--crossval", type=Path, metavar="DIR", help=text)
    add_signature_options(made)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the card; return 0, or the error's exit status."""
    arguments = parser().parse_args(argv)

    def write() -> int:
        require_signed(arguments, arguments.model)
        card = write_card(read_sources(arguments.run, arguments.model, arguments.crossval))
        write_text(arguments.out, card)
        return EXIT_OK

    return run_command(write, after_os_error=AND_NOTHING_WRITTEN)
