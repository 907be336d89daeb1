"""`dermedge dossier RUN`: the evidence report of a model, one page. numpy, scikit-learn; a minute.

RUN is a cross-validation's folder, or the record of one: oof.csv (or .gz) is enough. Inputs that are found there are
shown, missing ones are named with the command that makes them:

  oof_int8_qat.csv[.gz]   predictions of the quantized files    python -m convert.crossval RUN --recipe int8_qat
  crossval.json           config, commit, seconds               dermedge crossval
  hierarchy.json          fine classes against coarse ones      dermedge experiment hierarchy
  embedding.json          t-SNE of held-out photos              dermedge experiment embedding
  robustness.json         disturbances and phone photos         dermedge robustness
  explanation.png         a heat map of a generated photo       dermedge explain
  tests.xml               results of the tests                  python -m pytest --junitxml
  ../readers              the paper's dermatologists, beside the datasets (DERMEDGE_DATA)

The page loads nothing and holds no photo of a dataset; equal inputs give equal bytes.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataInvalid, RunInvalid
from train.artifacts.command import NOTHING_WRITTEN, command_parser, run_command
from train.artifacts.files import read_object
from train.artifacts.labels import LabelSet, load_labels
from train.artifacts.manifest import Photo
from train.artifacts.selection import mark
from train.data.metadata import data_root, read_facts, read_skin_types
from train.dossier import checklists, figures, levels
from train.dossier.binary_tasks import (
    LINES,
    BinaryResult,
    auc_differences,
    data_set_of,
    evaluate_task,
    legend,
    reader_claim,
    shown_name,
    task_charts,
)
from train.dossier.dermatologists import (
    HISTOLOGY,
    Question,
    ReaderTest,
    find_reader_points,
    load_questions,
    read_reader_tests,
)
from train.evaluation.intervals import few_note, indistinct
from train.evaluation.metrics import Estimate
from train.evaluation.out_of_fold import FLOAT, Answers, find_answers, read_answers, require_same_photos
from train.evaluation.subgroups import LEAST_LESIONS
from train.reports import html as page
from train.reports.html import Markup, Section
from train.reports.published import HEADER, published_rows, read_published
from train.reports.sections import INTERVALS, estimate_of
from train.taxonomy.tree import Taxonomy, load_taxonomy

NAME = "dossier.html"
TEMPLATE = Path(__file__).with_name("page.html.j2")
DEPTHS = (1, 2)
RECIPE = "int8_qat"
CONVERT = f"python -m convert.crossval RUN --recipe {RECIPE}"
CROSSVAL = "dermedge crossval CONFIG.toml --workdir RUN"
DATA = "DERMEDGE_DATA, or --data DIR"
ROBUSTNESS_SCHEMA = 1
HISTOLOGY_PHOTOS, ALL_PHOTOS = "histology photos", "all photos"

Summaries = Sequence[tuple[str, Answers, dict[str, Any]]]
"""Set of photos, predictions, and `summarize` of them."""
Results = Mapping[str, Sequence[BinaryResult]]
"""Set of photos to each model's result."""


@dataclass
class Dossier:
    """The inputs that were found, and the missing ones."""

    run: Path
    answers: dict[str, Answers]
    """Model to its predictions, the float one first."""
    taxonomy: Taxonomy
    labels: LabelSet
    data: Path
    """The folder that holds the datasets."""
    missing: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Section to what it lacks, and the command that makes it."""

    @property
    def main(self) -> str:
        """The dataset that the metrics are about."""
        return self.answers[FLOAT].source_names[0]

    @property
    def marks(self) -> list[Markup]:
        """What was chosen on the photos, as a note."""
        chosen = mark(self.answers[FLOAT].selection)
        return [page.note(chosen)] if chosen else []

    @functools.cached_property
    def facts(self) -> dict[str, Photo]:
        """What the tables of the datasets that are here say of each photo."""
        return read_facts(self.data, self.answers[FLOAT].source_names, self.labels.name)

    @property
    def photo_sets(self) -> dict[str, list[Answers]]:
        """Every model's predictions on the photos confirmed by histology, where that is known, and on all photos."""
        every = self.models()
        kinds = [photo.dx_type if (photo := self.facts.get(i)) else "" for i in every[0].photo_ids]
        confirmed = [answers.where([kind == HISTOLOGY for kind in kinds]) for answers in every]
        return {HISTOLOGY_PHOTOS: confirmed, ALL_PHOTOS: every} if HISTOLOGY in kinds else {ALL_PHOTOS: every}

    @property
    def macros(self) -> Any:
        """The page's template."""
        return page.macros(TEMPLATE)

    def models(self, source: str | None = None) -> list[Answers]:
        """Every model's predictions on one dataset."""
        name = source or self.main
        return [part for answers in self.answers.values() if (part := answers.of_source(name)).photo_ids]

    def lacks(self, section: str, what: str, command: str) -> Markup:
        """Record a missing input and note it on the page."""
        self.missing.setdefault(section, []).append((what, command))
        return Markup(self.macros.missing(what, command))

    def names_of(self, nodes: Sequence[str]) -> list[str]:
        """The names of nodes."""
        return [self.taxonomy.by_code[code].name for code in nodes]


def read_dossier(run: Path, data: Path | None = None) -> Dossier:
    """Find a run's inputs.

    Raises:
        RunInvalid: No out-of-fold predictions, or the quantized ones are of other photos.
        DataInvalid: Labels that the taxonomy does not map.
    """
    answers = {FLOAT: read_answers(run)}
    if find_answers(run, RECIPE):
        answers[RECIPE] = read_answers(run, RECIPE)
        require_same_photos(answers[FLOAT], answers[RECIPE])
    taxonomy = load_taxonomy(load_questions()[0])
    labels = load_labels(data_set_of(taxonomy, answers[FLOAT].codes))
    return Dossier(run, answers, taxonomy, labels, data or data_root())


def make_dossier(
    found: Dossier, *, tests: Path | None = None, readers: Path | None = None, explanation: Path | None = None
) -> str:
    """Make the page.

    Args:
        found: The inputs.
        tests: A JUnit file; None looks for RUN/tests.xml.
        readers: The readers' table; None looks beside the datasets.
        explanation: A heat map; None looks for RUN/explanation.png.

    Raises:
        DataInvalid, RunInvalid: An input that exists cannot be read.
    """
    macros, answers, load = found.macros, found.answers[FLOAT], checklists.load_evidence
    points = readers or find_reader_points(found.data)
    reader_tests = read_reader_tests(points) if points.is_file() else {}
    questions = load_questions()[1]
    summaries = [
        (photos, model, figures.summary_of(model, found.labels))
        for photos, models in found.photo_sets.items()
        for model in models
    ]
    results = {question.code: _evaluate(found, question, reader_tests) for question in questions}
    sheet = macros.data_sheet(
        list(answers.codes), checklists.composition(answers), load("data_sheet")["source"]
    )
    sections = [
        Section("figures", "Metrics", _metrics(found, summaries)),
        Section("origin", "Origin", _origin(found)),
        Section("taxonomy", "Taxonomy", [_taxonomy(found)]),
        Section("levels", "Three-way and nine-way", [_levels(found)]),
        Section("fine-coarse", "Fine against coarse", [_fine_coarse(found)]),
        *(
            Section(q.code, q.title, _question(found, q, results[q.code], with_tests=bool(reader_tests)))
            for q in questions
        ),
        Section("embedding", "Feature embedding (t-SNE)", [_embedding(found)]),
        Section("explanation", "Heat map of the int8 file", _explanation(found, explanation)),
        Section("robustness", "Robustness", [_robustness(found)]),
        Section("parts", "Subgroup analysis", [_subgroups(found)]),
        Section("data", "Dataset sheet", [sheet]),
        Section("requirements", "Requirements and tests", _requirements(found, tests)),
        Section("limits", "Known limits", [macros.limits(load("limits")["limit"])]),
        Section("licences", "Licences", [_licences(found)]),
    ]
    guidelines = [
        macros.checklist(content["name"], content["item"], found.missing)
        for content in map(load, checklists.CHECKLISTS)
    ]
    sections.append(Section("checklists", "Reporting checklists", guidelines))
    overview = Section(
        "overview", "Overview", _overview(found, summaries, list(results.values()), bool(reader_tests))
    )
    licences = checklists.licence_line(answers.source_names)
    shown = [*_sealed(found), overview, *sections]
    return page.page(f"Evidence report: {_name(found)}", _subtitle(found), licences, shown)


def _sealed(found: Dossier) -> list[Section]:
    """Make the section of the published figures, for the label set of the bundled model."""
    published = read_published()
    if published["sealed"]["label_set"] != found.labels.name:
        return []
    rows = published_rows(published)
    return [
        Section("sealed", "Sealed test", [found.macros.sealed(HEADER, rows, published["sealed"]["date"])])
    ]


def _name(found: Dossier) -> str:
    """The experiment's, or the folder's where that is not recorded."""
    path = found.run / "crossval.json"
    return str(read_object(path).get("name")) if path.is_file() else found.run.resolve().name


def _subtitle(found: Dossier) -> str:
    answers = found.answers[FLOAT]
    sources = ", ".join(
        f"{len(answers.of_source(source).photo_ids):,} photos of {source}" for source in answers.source_names
    )
    folds = page.counted(len(answers.fold_numbers), "fold")
    return f"Out-of-fold predictions of {folds} on {sources}"


# ------------------------------------------------------------------ sections


def _overview(
    found: Dossier,
    summaries: Summaries,
    results: Sequence[Results],
    with_readers: bool,
) -> list[Markup]:
    tiles: list[tuple[str, Estimate | None, str]] = [
        (
            f"Balanced accuracy, {shown_name(answers.model)}",
            estimate_of(summary, "balanced_accuracy"),
            f"{photos}, {len(answers.codes)} classes, out of fold",
        )
        for photos, answers, summary in summaries
    ]
    last = [{photos: of_set[-1] for photos, of_set in of_question.items()} for of_question in results]
    for photos, result in (entry for of_question in last for entry in of_question.items()):
        title = f"{result.question.title}, {photos}"
        tiles.append((f"AUC, {shown_name(result.model)}", result.curve.auc, title))
    compared = [
        of_question for of_question in last if with_readers and any(r.against for r in of_question.values())
    ]
    elements = levels.paper_table()["element"]
    return [*found.marks, found.macros.overview(tiles, compared, reader_claim, elements, found.missing)]


def _metrics(found: Dossier, summaries: Summaries) -> list[Markup]:
    few = few_note(summaries[0][2]["classes_few"])
    shown = [*found.marks, found.macros.metrics(summaries, figures.METRICS, estimate_of, INTERVALS, few)]
    if HISTOLOGY_PHOTOS not in found.photo_sets:
        shown.insert(
            0, found.lacks("figures", f"the kind of ground truth of the photos of {found.main}", DATA)
        )
    if RECIPE in found.answers:
        return shown
    return [found.lacks("figures", f"predictions of the {RECIPE} files", CONVERT), *shown]


def _origin(found: Dossier) -> list[Markup]:
    cards = sorted(path.name for path in (checklists.CHECKOUT / "edge_runtime" / "models").glob("*.md"))
    use, path = found.labels.intended_use, found.run / "crossval.json"
    if not path.is_file():
        gap = found.lacks("origin", "crossval.json with config and commit", CROSSVAL)
        return [gap, found.macros.origin(None, cards, use, "")]
    content = read_object(path)
    seconds = [s for s in content.get("seconds_by_fold", []) if s]
    minutes = f"{sum(seconds) / len(seconds) / 60:.0f} minutes a fold" if seconds else ""
    shown = found.macros.origin(content, cards, use, minutes)
    lacking = content.get("of", 0) - len(content.get("folds", []))
    if lacking <= 0:
        return [shown]
    what = f"{lacking} of {content['of']} folds, so metrics are of a part of the photos"
    return [found.lacks("origin", what, CROSSVAL), shown]


def _taxonomy(found: Dossier) -> Markup:
    tree, photos = found.taxonomy, levels.photos_of_nodes(found.taxonomy, found.models()[0])
    rows, classes = levels.tree_rows(tree, photos), levels.partition_rows(tree, photos)
    return Markup(found.macros.taxonomy(tree, rows, classes, levels.MOST_PHOTOS))


def _levels(found: Dossier) -> Markup:
    results = [
        levels.level_result(answers, found.taxonomy, depth) for depth in DEPTHS for answers in found.models()
    ]
    papers = {entry["depth"]: entry for entry in levels.paper_table()["level"]}
    return Markup(found.macros.levels(results, papers, found.names_of))


def _evaluate(found: Dossier, question: Question, tests: dict[tuple[str, str], ReaderTest]) -> Results:
    results = {
        photos: [evaluate_task(answers, found.taxonomy, question, tests) for answers in models]
        for photos, models in found.photo_sets.items()
    }
    known = {photos: [r for r in of_set if r is not None] for photos, of_set in results.items()}
    return {photos: of_set for photos, of_set in known.items() if of_set}


def _question(found: Dossier, question: Question, results: Results, *, with_tests: bool) -> list[Markup]:
    code = question.code
    if not results:
        return [found.lacks(code, "photos of both sides", "a dataset with both")]
    blocks = []
    if RECIPE not in found.answers:
        blocks.append(found.lacks(code, f"the {RECIPE} curve", CONVERT))
    if not with_tests:
        blocks.append(found.lacks(code, "the readers' table", "DERMEDGE_DATA, or --readers FILE.csv"))
    if not any(result.points for of_set in results.values() for result in of_set):
        what = "operating points: one fold was evaluated, and another must choose its thresholds"
        blocks.append(found.lacks(code, what, CROSSVAL))
    for photos, of_set in results.items():
        shown = with_tests and bool(of_set[0].against)
        key, drawn = legend(of_set, with_tests=shown), task_charts(of_set, with_tests=shown)
        differences = auc_differences(of_set)
        blocks.append(found.macros.question(photos, of_set, shown, key, drawn, differences, indistinct))
    blocks.append(found.macros.conclusion(results, reader_claim if with_tests else None))
    others = [(source, False) for source in found.answers[FLOAT].source_names[1:]]
    if question.narrow:
        others.insert(0, (found.main, True))
    for source, narrow in others:
        evaluated = (
            evaluate_task(answers, found.taxonomy, question, {}, narrow=narrow)
            for answers in found.models(source)
        )
        if further := [result for result in evaluated if result is not None]:
            node = found.taxonomy.by_code[question.narrow].name if narrow and question.narrow else ""
            caption = f"Positive side: {node} alone" if narrow else f"Distribution shift: {source}"
            blocks.append(found.macros.further(further, caption))
    return blocks


def _from_file(
    found: Dossier, section: str, name: str, command: str, show: Callable[[dict[str, Any]], Any]
) -> Markup:
    path = found.run / name
    return Markup(show(read_object(path))) if path.is_file() else found.lacks(section, name, command)


def _fine_coarse(found: Dossier) -> Markup:
    def show(study: dict[str, Any]) -> Any:
        verdicts = {level: levels.verdict(level, content) for level, content in study["levels"].items()}
        return found.macros.fine_coarse(study, verdicts, found.names_of)

    command = "dermedge experiment hierarchy FEATURES.npz --out RUN/hierarchy.json"
    return _from_file(found, "fine-coarse", "hierarchy.json", command, show)


def _embedding(found: Dossier) -> Markup:
    names = {label.code: label.name for label in found.labels.labels}
    command = "dermedge experiment embedding RUN/fold0 --out RUN/embedding.json"
    return _from_file(
        found, "embedding", "embedding.json", command,
        lambda content: found.macros.embedding(content, figures.embedding_panels(content, names)),
    )  # fmt: skip


def _explanation(found: Dossier, path: Path | None) -> list[Markup]:
    picture = path or found.run / "explanation.png"
    if path is not None or picture.is_file():
        return [found.macros.explanation(figures.heat_map(picture))]
    command = "dermedge explain build/sample.jpg --out RUN/explanation.png"
    return [found.macros.explanation(None), found.lacks("explanation", "explanation.png", command)]


def _robustness(found: Dossier) -> Markup:
    command = "dermedge robustness FLOAT.tflite INT8.tflite --data RUN/fold0 --out DIR"
    return _from_file(found, "robustness", "robustness.json", command, robustness_part)


def robustness_part(report: dict[str, Any]) -> Markup:
    """Show curves over each disturbance, and other photos as a distribution shift.

    Args:
        report: The content of robustness.json; convert/robustness/study.py describes its fields.

    Raises:
        RunInvalid: Another version of it, or fields are missing.
    """
    where, fix = "robustness.json", "Run dermedge robustness of this checkout"
    if report.get("schema_version") != ROBUSTNESS_SCHEMA:
        found = f"schema_version {report.get('schema_version')}"
        raise RunInvalid(
            "unsupported version", where=where, found=found, expected=str(ROBUSTNESS_SCHEMA), fix=fix
        )
    try:
        names = [f"{model['name']} (pale: 95 %)" for model in report["models"]]
        key = list(zip(names, LINES, strict=False))
        return Markup(page.macros(TEMPLATE).robustness(report, key, figures.robustness_charts(report)))
    except (KeyError, TypeError, IndexError) as error:
        raise RunInvalid(
            "fields are missing", where=where, found=f"{type(error).__name__}: {error}", fix=fix
        ) from error


def _subgroups(found: Dossier) -> Markup:
    answers = found.answers[FLOAT]
    main = found.models()[0]
    others = [answers.of_source(source) for source in answers.source_names[1:]]
    if not set(main.photo_ids) <= set(found.facts):
        what = f"the table of {found.main} with age, sex and site"
        return found.lacks("parts", what, DATA)
    skin_types = read_skin_types(found.data, answers.source_names)
    tables = figures.subgroups(main, found.labels, found.facts, others, skin_types)
    return Markup(found.macros.subgroups(main.sources[0], tables, LEAST_LESIONS))


def _requirements(found: Dossier, tests: Path | None) -> list[Markup]:
    path = tests or found.run / "tests.xml"
    command = "python -m pytest --junitxml RUN/tests.xml"
    if tests is not None and not path.is_file():
        raise DataInvalid("no test results", where=str(path), expected="a JUnit file", fix=f"Run {command}")
    outcomes = checklists.read_outcomes(path) if path.is_file() else None
    entries = checklists.load_evidence("requirements")["requirement"]
    results = [checklists.describe(entry["tests"], outcomes) for entry in entries]
    gaps = [] if outcomes is not None else [found.lacks("requirements", "results of the tests", command)]
    return [*gaps, found.macros.requirements(entries, results)]


def _licences(found: Dossier) -> Markup:
    packages = checklists.dependencies()
    on_device = sum(needed == "device" for _, _, needed, _ in packages)
    return Markup(found.macros.licences(checklists.data_licences(found.labels.name), packages, on_device))


# ------------------------------------------------------------------ the command


def parser() -> argparse.ArgumentParser:
    """Build the parser of `dermedge dossier`."""
    made = command_parser(
        "dossier",
        "Write the evidence report of a cross-validation: metrics, subgroups, checklists, licences.",
        "example:\n  dermedge dossier train/records/ham10000_lite0_crossval --out dossier.html",
    )
    made.add_argument("run", type=Path, metavar="RUN", help="read a cross-validation's folder, or its record")
    made.add_argument("--out", type=Path, metavar="FILE", help=f"write the page there (default: RUN/{NAME})")
    made.add_argument(
        "--data", type=Path, metavar="DIR", help="folder that holds the datasets (default: $DERMEDGE_DATA)"
    )
    made.add_argument(
        "--tests", type=Path, metavar="FILE.xml", help="results of pytest --junitxml (default: RUN/tests.xml)"
    )
    made.add_argument(
        "--explanation", type=Path, metavar="FILE.png",
        help="heat map of a generated photo (default: RUN/explanation.png)",
    )  # fmt: skip
    made.add_argument(
        "--readers", type=Path, metavar="FILE.csv",
        help="points of the paper's dermatologists (default: readers/ beside the datasets)",
    )  # fmt: skip
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0, also with inputs missing (stderr names them), 2 on an error, 130 on Ctrl-C."""
    arguments = parser().parse_args(argv)
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
        for what, command in entries:
            print(f"missing in {section}: {what} ({command})", file=sys.stderr)
    print(out)
    return 0
