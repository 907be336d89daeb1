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
from edge_runtime.engines.opening import add_model_options, open_requested
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
    contract, report, test = sources.contract, sources.report, sources.test or {}
    notes = [NOTES / f"{name.lower()}.md" for name in contract.provenance.data_name.split(SOURCE_SEPARATOR)]
    versions = {**sources.run.get("versions", {}), **{k: v for k, v in report["versions"].items() if v}}
    published = read_published()
    values = {
        "s": sources,
        "contract": contract,
        "provenance": contract.provenance,
        "report": report,
        "test": sources.test,
        "codes": contract.codes,
        "published": published
        if published["sealed"]["bundled_sha256"] == report["model"]["sha256"]
        else None,
        "published_table": _table(HEADER, published_rows(published)),
        "limits": "\n".join(path.read_text(encoding="utf-8").strip() for path in notes if path.is_file()),
        "few": few_note(test.get("classes_few", ()), "groups"),
        "marked": mark(test.get(KEY, ())),
        "selection": selection_sets(report),
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
        "worst_class": _worst_class,
        "indistinct_loss": _indistinct_loss,
    }
    return render_text(TEMPLATE, values, {"percent": _percent, "number": _number})


def _worst_class(leak: dict[str, Any]) -> str:
    of_class: dict[str, float | None] = leak["random_leak_of_class"]
    return max(of_class, key=lambda code: of_class[code] or 0)


def _table(header: Row, rows: Iterable[Row]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _indistinct_loss(figures: dict[str, Any]) -> str:
    """Say whether the converted model can be told from the float one."""
    loss = figures["balanced_accuracy_loss"], *figures["balanced_accuracy_loss_interval"]
    p = mcnemar_p(figures["right_to_wrong"], figures["wrong_to_right"])
    return f", {text}" if (text := indistinct("the float model", loss, p)) else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


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
    add_model_options(made, runs=False)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the card; return 0, or the error's exit status."""
    arguments = parser().parse_args(argv)

    def write() -> int:
        (model,) = open_requested(arguments, arguments.model)
        card = write_card(read_sources(arguments.run, model, arguments.crossval))
        write_text(arguments.out, card)
        return EXIT_OK

    return run_command(write, after_os_error=AND_NOTHING_WRITTEN)
