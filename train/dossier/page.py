"""`python -m train.dossier.page RUN --out dossier.html`: everything that can be said of a model, on one page.

RUN is a cross-validation's folder, or the record of one: oof.csv (or .gz) is enough. What else is found there is shown,
and what is not there is named with the command that makes it:

  oof_int8_qat.csv[.gz]   the quantized files' answers          dermedge convert RUN --recipe int8_qat
  crossval.json           config, commit, seconds               python -m train.training.crossval
  hierarchy.json          fine classes against coarse ones      python -m train.taxonomy.hierarchy
  embedding.json          t-SNE of held-out photos              python -m train.taxonomy.embedding
  robustness.json         disturbances and phone photos         dermedge robustness
  explanation.png         a heat map of a generated photo       edge-classify PHOTO --explain
  tests.xml               results of the tests                  python -m pytest --junitxml
  ../readers              the paper's dermatologists, beside the data sets (DERMEDGE_DATA)

The page loads nothing and holds no photo of a data set; equal inputs give equal bytes. numpy, scikit-learn; a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataInvalid
from train.artifacts.command import NOTHING_WRITTEN, run_command
from train.artifacts.files import read_object
from train.data.metadata import read_facts, read_skin_types
from train.dossier import checklists as evidence_pack
from train.dossier import figures as dossier_parts
from train.dossier.binary_tasks import BinaryResult, ask
from train.dossier.coarse_levels import level_result
from train.dossier.dermatologists import FORBIDDEN, binary_part, narrow_table, shown_name
from train.dossier.found import CONVERT, RECIPE, Dossier, read_dossier
from train.dossier.levels import fine_coarse_part, levels_part, paper_table, taxonomy_part
from train.dossier.reader_tests import (
    Question,
    ReaderTest,
    find_reader_points,
    load_questions,
    read_reader_tests,
)
from train.dossier.robustness import robustness_part
from train.evaluation.out_of_fold import FLOAT, Answers
from train.reports import html as page
from train.reports.html import Markup, Section
from train.reports.sections import estimate_of

NAME = "dossier.html"
DEPTHS = (1, 2)
WHAT_WOULD_CHANGE_IT = (
    "What would change it: more lesions of the rarer side to learn from, a larger network or several views of a photo "
    "at the price of time on the device; and, to know what it is worth, readers on the same photos."
)


def make_dossier(
    found: Dossier,
    *,
    tests: Path | None = None,
    readers: Path | None = None,
    explanation: Path | None = None,
) -> str:
    """The page.

    Args:
        found: What `read_dossier` found.
        tests: A JUnit file; None looks for RUN/tests.xml.
        readers: The readers' table; None looks beside the data sets.
        explanation: A heat map; None looks for RUN/explanation.png.

    Raises:
        DataInvalid, RunInvalid: An ingredient that is there cannot be read.
    """
    points = readers or find_reader_points(found.data / "readers" / find_reader_points().name)
    reader_tests = read_reader_tests(points) if points.is_file() else {}
    summaries = [(answers, dossier_parts.summary_of(answers, found.labels)) for answers in found.models()]
    results = {question.code: _ask_all(found, question, reader_tests) for question in load_questions()[1]}
    sections = [
        Section("figures", "Figures", _figures(found, summaries)),
        Section("origin", "Origin", [_origin(found)]),
        Section("taxonomy", "Taxonomy", [taxonomy_part(found.taxonomy, found.models()[0])]),
        Section("levels", "Three-way and nine-way", [_levels(found)]),
        Section("fine-coarse", "Fine against coarse", [_fine_coarse(found)]),
        *(
            Section(question.code, question.title, _question(found, question, results[question.code],
            bool(reader_tests))) for question in load_questions()[1]
        ),
        Section("embedding", "What the network sorts together", [_embedding(found)]),
        Section("explanation", "Heat map of the int8 file", [_explanation(found, explanation)]),
        Section("robustness", "Robustness", [_robustness(found)]),
        Section("parts", "Parts of the photos", [_parts(found)]),
        Section("data", "Data sheet", [evidence_pack.data_sheet(found.answers[FLOAT])]),
        Section("requirements", "Requirements and tests", [_requirements(found, tests)]),
        Section("limits", "Known limits", [evidence_pack.limits()]),
        Section("licences", "Licences", [evidence_pack.data_licences(found.labels.name), evidence_pack.dependencies()]),
    ]  # fmt: skip
    checklists = [evidence_pack.checklist(name, found.missing) for name in evidence_pack.CHECKLISTS]
    sections.append(Section("checklists", "Reporting checklists", checklists))
    overview = Section("overview", "Overview", _overview(found, summaries, results, bool(reader_tests)))
    licences = evidence_pack.licence_line(found.answers[FLOAT].source_names)
    return page.page(f"Dossier of {_name(found)}", _subtitle(found), licences, [overview, *sections])


def _name(found: Dossier) -> str:
    """The experiment's, or the folder's where that is not recorded."""
    path = found.run / "crossval.json"
    return str(read_object(path).get("name")) if path.is_file() else found.run.resolve().name


def _subtitle(found: Dossier) -> str:
    answers = found.answers[FLOAT]
    sources = ", ".join(
        f"{len(answers.of_source(source).photo_ids):,} photos of {source}" for source in answers.source_names
    )
    return f"Out-of-fold answers of {page.counted(len(answers.fold_numbers), 'fold')} to {sources}"


# ------------------------------------------------------------------ overview


def _overview(
    found: Dossier,
    summaries: Sequence[tuple[Answers, dict[str, Any]]],
    results: dict[str, list[BinaryResult]],
    with_readers: bool,
) -> list[Markup]:
    tiles = []
    for answers, summary in summaries:
        name = shown_name(answers.model)
        note = f"{len(answers.codes)} classes, out of fold"
        tiles.append(
            dossier_parts.tile(f"Balanced accuracy, {name}", estimate_of(summary, "balanced_accuracy"), note)
        )
    for asked in results.values():
        result = asked[-1]
        tiles.append(
            dossier_parts.tile(f"AUC, {shown_name(result.model)}", result.curve.auc, result.question.title)
        )
        if with_readers and result.against:
            against = result.against[0]
            tiles.append(
                dossier_parts.tile(
                    f"Readers under the curve, {shown_name(result.model)}",
                    against.share_under,
                    f"of {len(against.test.points)}; {result.question.title.lower()}, {against.test.title}",
                )
            )
    rows = [
        (_state(found, entry["section"]), entry["paper"], entry["ours"]) for entry in paper_table()["element"]
    ]
    table = page.table(
        ("Section", "In the paper", "Here"),
        rows,
        texts=(1, 2),
        caption="Esteva et al. 2017, element by element",
    )
    return [page.tiles(tiles), *_answers_in_words(found, results), table, _missing(found)]


def _state(found: Dossier, section: str) -> Markup:
    link = page.element("a", section, href=f"#{section}")
    return page.join((link, " (incomplete)")) if section in found.missing else link


def _answers_in_words(found: Dossier, results: dict[str, list[BinaryResult]]) -> list[Markup]:
    lines = []
    for asked in results.values():
        result = asked[-1]
        for against in result.against[:1]:
            sensitivity, specificity = against.test.mean
            above = against.above_mean
            where, change = ("lies", "") if above.value > 0 else ("does not lie", f" {WHAT_WOULD_CHANGE_IT}")
            lines.append(
                page.paragraph(
                    f"{result.question.title}: the curve of the {shown_name(result.model)} {where} above the "
                    f"mean reader of {against.test.title} ({sensitivity:.3f} sensitivity at {specificity:.3f} "
                    f"specificity): by {page.signed(above.value)} in sensitivity ({page.signed(above.low)} to "
                    f"{page.signed(above.high)}); {page.share(against.share_under.value)} of "
                    f"{len(against.test.points)} readers are under it. Other photos than the readers': see there what "
                    f"that forbids.{change}"
                )
            )
    return lines


def _missing(found: Dossier) -> Markup:
    if not found.missing:
        return page.paragraph("Nothing that this page knows of is missing.")
    items = [
        page.element("li", page.element("a", section, href=f"#{section}"), f": {what}")
        for section, entries in found.missing.items()
        for what, _ in entries
    ]
    return page.join([page.element("h3", "Missing"), page.element("ul", *items)])


# ------------------------------------------------------------------ sections


def _figures(found: Dossier, summaries: Sequence[tuple[Answers, dict[str, Any]]]) -> list[Markup]:
    blocks = [dossier_parts.figures_part(summaries)]
    if RECIPE not in found.answers:
        blocks.insert(0, found.lacks("figures", f"answers of the {RECIPE} files", CONVERT))
    return blocks


def _origin(found: Dossier) -> Markup:
    folder = evidence_pack.CHECKOUT / "edge_runtime" / "models"
    cards = [page.element("code", f"edge_runtime/models/{card.name}") for card in sorted(folder.glob("*.md"))]
    told = page.paragraph(
        "Model card and licence of the shipped file: ",
        page.join([part for card in cards for part in (", ", card)][1:]),
        f". Intended use: {found.labels.intended_use}",
    )
    path = found.run / "crossval.json"
    if not path.is_file():
        return page.join(
            [
                found.lacks(
                    "origin", "crossval.json with config and commit", "python -m train.training.crossval"
                ),
                told,
            ]
        )
    content = read_object(path)
    config = content.get("config", {})
    model, seconds = config.get("model", {}), [s for s in content.get("seconds_by_fold", []) if s]
    pairs = {
        "Experiment": content.get("name", ""),
        "Network": str(model.get("backbone", "")),
        "First weights": str(model.get("weights", "")),
        "Input": f"{config.get('input', {}).get('size_px', '')} px",
        "Folds": f"{len(content.get('folds', []))} of {content.get('of', '')} answered",
        "Training": f"{sum(seconds) / len(seconds) / 60:.0f} minutes a fold" if seconds else "",
        "Commit": str(content.get("commit", "")),
    }
    blocks = [page.definitions(pairs), told]
    if (lacking := content.get("of", 0) - len(content.get("folds", []))) > 0:
        what = f"{lacking} of {content['of']} folds, so figures are of a part of the photos"
        blocks.insert(
            0, found.lacks("origin", what, "python -m train.training.crossval CONFIG.toml --workdir RUN")
        )
    return page.join(blocks)


def _levels(found: Dossier) -> Markup:
    results = [level_result(answers, found.taxonomy, depth) for depth in DEPTHS for answers in found.models()]
    return levels_part(found.taxonomy, results)


def _ask_all(
    found: Dossier, question: Question, tests: dict[tuple[str, str], ReaderTest]
) -> list[BinaryResult]:
    asked = (ask(answers, found.taxonomy, question, tests) for answers in found.models())
    return [result for result in asked if result is not None]


def _question(
    found: Dossier, question: Question, results: Sequence[BinaryResult], with_readers: bool
) -> list[Markup]:
    if not results:
        return [found.lacks(question.code, "photos of both sides", "a data set with both")]
    blocks = [
        binary_part(results, with_tests=with_readers and bool(results[0].against)),
        page.note(FORBIDDEN),
    ]
    if not any(result.points for result in results):
        what = "operating points: one fold has answered, and another must choose its thresholds"
        blocks.insert(
            0, found.lacks(question.code, what, "python -m train.training.crossval CONFIG.toml --workdir RUN")
        )
    if not with_readers:
        blocks.insert(
            0, found.lacks(question.code, "the readers' table", "DERMEDGE_DATA, or --readers FILE.csv")
        )
    if RECIPE not in found.answers:
        blocks.insert(
            0,
            found.lacks(question.code, f"the {RECIPE} curve", CONVERT),
        )
    others = [(source, False) for source in found.answers[FLOAT].source_names[1:]]
    if question.narrow:
        others.insert(0, (found.main, True))
    for source, narrow in others:
        further = [
            result
            for answers in found.models(source)
            if (result := ask(answers, found.taxonomy, question, {}, narrow=narrow)) is not None
        ]
        if further:
            looked_for = found.taxonomy.by_code[question.narrow].name if narrow and question.narrow else ""
            name = (
                f"The same, looking for {looked_for} alone"
                if narrow
                else f"The same on {source}, as a true shift"
            )
            blocks.append(narrow_table(further, name))
    return blocks


def _ingredient(found: Dossier, section: str, name: str, fix: str, show: Callable[[Path], Markup]) -> Markup:
    path = found.run / name
    return show(path) if path.is_file() else found.lacks(section, name, fix)


def _fine_coarse(found: Dossier) -> Markup:
    fix = "python -m train.taxonomy.hierarchy FEATURES.npz --out RUN/hierarchy.json"
    return _ingredient(
        found,
        "fine-coarse",
        "hierarchy.json",
        fix,
        lambda path: fine_coarse_part(found.taxonomy, read_object(path)),
    )


def _embedding(found: Dossier) -> Markup:
    fix = "python -m train.taxonomy.embedding RUN/fold0 --out RUN/embedding.json"
    names = {label.code: label.name for label in found.labels.labels}
    return _ingredient(
        found,
        "embedding",
        "embedding.json",
        fix,
        lambda path: dossier_parts.embedding_part(read_object(path), names),
    )


def _explanation(found: Dossier, picture: Path | None) -> Markup:
    told = page.paragraph(
        "The int8 file itself says on the device where it looked: ",
        page.element("code", "edge-classify PHOTO --explain OUT.png"),
    )
    if picture is not None:
        return page.join([told, dossier_parts.explanation_part(picture)])
    fix = "edge-classify build/sample.jpg --explain RUN/explanation.png"
    shown = _ingredient(found, "explanation", "explanation.png", fix, dossier_parts.explanation_part)
    return page.join([told, shown])


def _robustness(found: Dossier) -> Markup:
    fix = "dermedge robustness FLOAT.tflite INT8.tflite --data RUN/fold0 --out DIR"
    return _ingredient(
        found, "robustness", "robustness.json", fix, lambda path: robustness_part(read_object(path))
    )


def _parts(found: Dossier) -> Markup:
    answers = found.answers[FLOAT]
    facts = read_facts(found.data, answers.source_names, found.labels.name)
    main = found.models()[0]
    others = [answers.of_source(source) for source in answers.source_names[1:]]
    if not set(main.photo_ids) <= set(facts):
        return found.lacks(
            "parts", f"the table of {found.main} with age, sex and site", "DERMEDGE_DATA, or --data DIR"
        )
    return dossier_parts.parts_part(
        main, found.labels, facts, others, read_skin_types(found.data, answers.source_names)
    )


def _requirements(found: Dossier, tests: Path | None) -> Markup:
    path = tests or found.run / "tests.xml"
    fix = "python -m pytest --junitxml RUN/tests.xml"
    if not path.is_file():
        if tests is not None:
            raise DataInvalid(
                f"{path}: no test results", found="no such file", expected="a JUnit file", fix=fix
            )
        return page.join(
            [found.lacks("requirements", "results of the tests", fix), evidence_pack.requirements(None)]
        )
    return evidence_pack.requirements(evidence_pack.read_outcomes(path))


# ------------------------------------------------------------------ the command


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, also with ingredients missing (stderr names them), 2 on an error, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m train.dossier.page", allow_abbrev=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="a cross-validation's folder, or its record")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"the page (default: RUN/{NAME})")
    parser.add_argument("--tests", type=Path, metavar="FILE.xml", help="results of pytest --junitxml")
    parser.add_argument("--explanation", type=Path, metavar="FILE.png", help="from edge-classify --explain")
    parser.add_argument("--readers", type=Path, metavar="FILE.csv", help="the paper's readers")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder that holds the data sets")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _write_dossier(arguments), interrupted=NOTHING_WRITTEN)


def _write_dossier(arguments: argparse.Namespace) -> int:
    out = arguments.out or arguments.run / NAME
    found = read_dossier(arguments.run, arguments.data)
    page.require_place(out)
    text = make_dossier(
        found, tests=arguments.tests, readers=arguments.readers, explanation=arguments.explanation
    )
    page.write_page(out, text)
    for section, entries in found.missing.items():
        for what, fix in entries:
            print(f"missing in {section}: {what} ({fix})", file=sys.stderr)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
