"""`dermedge dossier RUN`: the evidence report of a model, one page. numpy, scikit-learn; a minute.

RUN is a cross-validation's folder, or the record of one: oof.csv (or .gz) is enough. Inputs that are found there are
shown, missing ones are named with the command that makes them:

  oof_int8_qat.csv[.gz]   predictions of the quantized files    dermedge convert RUN --recipe int8_qat
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

from edge_runtime.errors import DataInvalid, RunInvalid, escaped
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
    task_charts,
)
from train.dossier.dermatologists import (
    HISTOLOGY,
    Question,
    ReaderTests,
    find_reader_points,
    load_evidence,
    load_questions,
    read_reader_tests,
)
from train.evaluation.intervals import few_note, indistinct
from train.evaluation.out_of_fold import FLOAT, Answers, find_answers, read_answers, require_same_photos
from train.evaluation.subgroups import LEAST_LESIONS
from train.reports import html as page
from train.reports.html import Markup, Section
from train.reports.published import HEADER, published_rows, read_published
from train.reports.sections import estimate_of
from train.taxonomy.tree import Taxonomy, load_taxonomy

NAME = "dossier.html"
TEMPLATE = Path(__file__).with_name("page.html.j2")
DEPTHS = (1, 2)
RECIPE = "int8_qat"
CONVERT = f"dermedge convert RUN --recipe {RECIPE}"
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
        return [page.note(chosen)] if (chosen := mark(self.answers[FLOAT].selection)) else []

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
    macros, answers = found.macros, found.answers[FLOAT]
    points = readers or find_reader_points(found.data)
    reader_tests = read_reader_tests(points) if points.is_file() else {}
    questions = load_questions()[1]
    summaries = [
        (photos, model, figures.summary_of(model, found.labels))
        for photos, models in found.photo_sets.items()
        for model in models
    ]
    results = {question.code: _evaluate(found, question, reader_tests) for question in questions}
    composed = checklists.composition(answers)
    sections = [
        ("figures", "Metrics", _metrics(found, summaries)),
        ("origin", "Origin", _origin(found)),
        ("taxonomy", "Taxonomy", _taxonomy(found)),
        ("levels", "Three-way and nine-way", _levels(found)),
        ("fine-coarse", "Fine against coarse", _fine_coarse(found)),
        *((q.code, q.title, _question(found, q, results[q.code], bool(reader_tests))) for q in questions),
        ("embedding", "Feature embedding (t-SNE)", _embedding(found)),
        ("explanation", "Heat map of the int8 file", _explanation(found, explanation)),
        ("robustness", "Robustness", _robustness(found)),
        ("parts", "Subgroup analysis", _subgroups(found)),
        (
            "data",
            "Dataset sheet",
            [macros.data_sheet(answers.codes, composed, load_evidence("data_sheet")["source"])],
        ),
        ("requirements", "Requirements and tests", _requirements(found, tests)),
        ("limits", "Known limits", [macros.limits(load_evidence("limits")["limit"])]),
        ("licences", "Licences", _licences(found)),
    ]
    guidelines = [macros.checklist(load_evidence(name), found.missing) for name in checklists.CHECKLISTS]
    elements = load_evidence("paper")["element"]
    overview = macros.overview(
        summaries, results.values(), estimate_of, reader_claim, elements, found.missing
    )
    sections = [
        *_sealed(found),
        ("overview", "Overview", [*found.marks, overview]),
        *sections,
        ("checklists", "Reporting checklists", guidelines),
    ]
    licences, shown = checklists.licence_line(answers.source_names), [Section(*one) for one in sections]
    return page.page(f"Evidence report: {_name(found)}", _subtitle(found), licences, shown)


def _sealed(found: Dossier) -> list[tuple[str, str, list[Markup]]]:
    """Make the section of the published figures, for the label set of the bundled model."""
    published = read_published()
    if (sealed := published["sealed"])["label_set"] != found.labels.name:
        return []
    shown = found.macros.sealed(HEADER, published_rows(published), sealed["date"])
    return [("sealed", "Sealed test", [shown])]


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


def _metrics(found: Dossier, summaries: Summaries) -> list[Markup]:
    few, gaps = few_note(summaries[0][2]["classes_few"]), []
    if RECIPE not in found.answers:
        gaps.append(found.lacks("figures", f"predictions of the {RECIPE} files", CONVERT))
    if HISTOLOGY_PHOTOS not in found.photo_sets:
        gaps.append(found.lacks("figures", f"the kind of ground truth of the photos of {found.main}", DATA))
    shown = found.macros.metrics(summaries, figures.METRICS, estimate_of, few)
    return [*gaps, *found.marks, shown]


def _origin(found: Dossier) -> list[Markup]:
    cards = sorted(path.name for path in (checklists.CHECKOUT / "edge_runtime" / "models").glob("*.md"))
    path, gaps = found.run / "crossval.json", []
    content = read_object(path) if path.is_file() else None
    if content is None:
        gaps.append(found.lacks("origin", "crossval.json with config and commit", CROSSVAL))
    elif (lacking := content.get("of", 0) - len(content.get("folds", []))) > 0:
        what = f"{lacking} of {content['of']} folds, so metrics are of a part of the photos"
        gaps.append(found.lacks("origin", what, CROSSVAL))
    return [*gaps, found.macros.origin(content, cards, found.labels.intended_use)]


def _taxonomy(found: Dossier) -> list[Markup]:
    tree, photos = found.taxonomy, levels.photos_of_nodes(found.taxonomy, found.models()[0])
    rows, classes = levels.tree_rows(tree, photos), levels.partition_rows(tree, photos)
    return [found.macros.taxonomy(tree, rows, classes, levels.MOST_PHOTOS)]


def _levels(found: Dossier) -> list[Markup]:
    results = [
        levels.level_result(answers, found.taxonomy, depth) for depth in DEPTHS for answers in found.models()
    ]
    papers = {entry["depth"]: entry for entry in load_evidence("paper")["level"]}
    return [found.macros.levels(results, papers, found.names_of)]


def _evaluate(found: Dossier, question: Question, tests: ReaderTests) -> Results:
    sets = {photos: _answered(found, models, question, tests) for photos, models in found.photo_sets.items()}
    return {photos: of_set for photos, of_set in sets.items() if of_set}


def _answered(
    found: Dossier, models: Sequence[Answers], question: Question, tests: ReaderTests, *, narrow: bool = False
) -> list[BinaryResult]:
    results = [evaluate_task(one, found.taxonomy, question, tests, narrow=narrow) for one in models]
    return [result for result in results if result is not None]


def _question(found: Dossier, question: Question, results: Results, with_tests: bool) -> list[Markup]:
    lacks = functools.partial(found.lacks, question.code)
    if not results:
        return [lacks("photos of both sides", "a dataset with both")]
    blocks = []
    if RECIPE not in found.answers:
        blocks.append(lacks(f"the {RECIPE} curve", CONVERT))
    if not with_tests:
        blocks.append(lacks("the readers' table", "DERMEDGE_DATA, or --readers FILE.csv"))
    if not any(result.points for of_set in results.values() for result in of_set):
        what = "operating points: one fold was evaluated, and another must choose its thresholds"
        blocks.append(lacks(what, CROSSVAL))
    for photos, of_set in results.items():
        shown = photos, of_set, legend(of_set), task_charts(of_set), auc_differences(of_set), indistinct
        blocks.append(found.macros.question(*shown))
    blocks.append(found.macros.conclusion(results, reader_claim))
    others = [(f"Distribution shift: {name}", name, False) for name in found.answers[FLOAT].source_names[1:]]
    if question.narrow:
        node = found.taxonomy.by_code[question.narrow].name
        others.insert(0, (f"Positive side: {node} alone", found.main, True))
    for caption, source, narrow in others:
        if further := _answered(found, found.models(source), question, {}, narrow=narrow):
            blocks.append(found.macros.further(further, caption))
    return blocks


def _from_file(
    found: Dossier, section: str, name: str, command: str, show: Callable[..., Markup], *more: Any
) -> list[Markup]:
    path = found.run / name
    return [show(read_object(path), *more) if path.is_file() else found.lacks(section, name, command)]


def _fine_coarse(found: Dossier) -> list[Markup]:
    command = "dermedge experiment hierarchy FEATURES.npz --out RUN/hierarchy.json"
    shown = found.macros.fine_coarse, found.names_of
    return _from_file(found, "fine-coarse", "hierarchy.json", command, *shown)


def _embedding(found: Dossier) -> list[Markup]:
    def show(content: dict[str, Any]) -> Any:
        names = {label.code: label.name for label in found.labels.labels}
        return found.macros.embedding(content, figures.embedding_panels(content, names))

    command = "dermedge experiment embedding RUN/fold0 --out RUN/embedding.json"
    return _from_file(found, "embedding", "embedding.json", command, show)


def _explanation(found: Dossier, path: Path | None) -> list[Markup]:
    picture = path or found.run / "explanation.png"
    if path is not None or picture.is_file():
        return [found.macros.explanation(figures.heat_map(picture))]
    command = "dermedge explain build/sample.jpg --out RUN/explanation.png"
    return [found.macros.explanation(None), found.lacks("explanation", "explanation.png", command)]


def _robustness(found: Dossier) -> list[Markup]:
    command = "dermedge robustness FLOAT.tflite INT8.tflite --data RUN/fold0 --out DIR"
    return _from_file(found, "robustness", "robustness.json", command, robustness_part)


def robustness_part(report: dict[str, Any]) -> Markup:
    """Show robustness.json (convert/robustness/study.py): curves over disturbances, other photos as distribution shift.

    Raises:
        RunInvalid: Another version of it, or fields are missing.
    """
    where, fix = "robustness.json", "Run dermedge robustness of this checkout"
    if (version := report.get("schema_version")) != ROBUSTNESS_SCHEMA:
        found, expected = f"schema_version {version}", str(ROBUSTNESS_SCHEMA)
        raise RunInvalid("unsupported version", where=where, found=found, expected=expected, fix=fix)
    try:
        key = [
            (f"{model['name']} (pale: 95 %)", line)
            for model, line in zip(report["models"], LINES, strict=False)
        ]
        return Markup(page.macros(TEMPLATE).robustness(report, key, figures.robustness_charts(report)))
    except (KeyError, TypeError, IndexError) as error:
        found = f"{type(error).__name__}: {error}"
        raise RunInvalid("fields are missing", where=where, found=found, fix=fix) from error


def _subgroups(found: Dossier) -> list[Markup]:
    answers, main = found.answers[FLOAT], found.models()[0]
    if not set(main.photo_ids) <= set(found.facts):
        return [found.lacks("parts", f"the table of {found.main} with age, sex and site", DATA)]
    others = [answers.of_source(source) for source in answers.source_names[1:]]
    skin_types = read_skin_types(found.data, answers.source_names)
    tables = figures.subgroups(main, found.labels, found.facts, others, skin_types)
    return [found.macros.subgroups(found.main, tables, LEAST_LESIONS)]


def _requirements(found: Dossier, tests: Path | None) -> list[Markup]:
    path = tests or found.run / "tests.xml"
    command = "python -m pytest --junitxml RUN/tests.xml"
    if tests is not None and not path.is_file():
        raise DataInvalid("no test results", where=str(path), expected="a JUnit file", fix=f"Run {command}")
    outcomes = checklists.read_outcomes(path) if path.is_file() else None
    entries = load_evidence("requirements")["requirement"]
    results = [checklists.describe(entry["tests"], outcomes) for entry in entries]
    gaps = [] if outcomes is not None else [found.lacks("requirements", "results of the tests", command)]
    return [*gaps, found.macros.requirements(entries, results)]


def _licences(found: Dossier) -> list[Markup]:
    licences = checklists.data_licences(found.labels.name)
    return [found.macros.licences(licences, checklists.dependencies())]


# ------------------------------------------------------------------ the command


def parser() -> argparse.ArgumentParser:
    """Build the parser of `dermedge dossier`."""
    made = command_parser(
        "dossier",
        "Write the evidence report of a cross-validation: metrics, subgroups, checklists, licences.",
        "example:\n  dermedge dossier train/records/ham10000_lite0_crossval --out dossier.html",
    )
    made.add_argument("run", type=Path, metavar="RUN", help="read a cross-validation's folder, or its record")
    points = "points of the paper's dermatologists (default: readers/ beside the datasets)"
    for name, metavar, text in (
        ("--out", "FILE", f"write the page there (default: RUN/{NAME})"),
        ("--data", "DIR", "folder that holds the datasets (default: $DERMEDGE_DATA)"),
        ("--tests", "FILE.xml", "results of pytest --junitxml (default: RUN/tests.xml)"),
        ("--explanation", "FILE.png", "heat map of a generated photo (default: RUN/explanation.png)"),
        ("--readers", "FILE.csv", points),
    ):
        made.add_argument(name, type=Path, metavar=metavar, help=text)
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0, also with inputs missing (stderr names them), 2 on an error, 130 on Ctrl-C."""
    arguments = parser().parse_args(argv)
    return run_command(lambda: _write_dossier(arguments), interrupted=NOTHING_WRITTEN)


def _write_dossier(arguments: argparse.Namespace) -> int:
    out = arguments.out or arguments.run / NAME
    found = read_dossier(arguments.run, arguments.data)
    page.require_place(out)
    given = {name: getattr(arguments, name) for name in ("tests", "readers", "explanation")}
    page.write_page(out, make_dossier(found, **given))
    for section, entries in found.missing.items():
        for what, command in entries:
            print(f"missing in {section}: {what} ({command})", file=sys.stderr)
    print(escaped(str(out)))
    return 0
