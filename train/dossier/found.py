"""A cross-validation's folder, or its record, as the dossier finds it: answers, labels, what is not there. numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from train.artifacts.labels import LabelSet, load_labels
from train.data.metadata import data_root
from train.dossier.binary_tasks import data_set_of
from train.dossier.reader_tests import load_questions
from train.evaluation.out_of_fold import FLOAT, Answers, find_answers, read_answers, require_same_photos
from train.reports import html as page
from train.reports.html import Markup
from train.taxonomy.tree import Taxonomy, load_taxonomy

RECIPE = "int8_qat"
CONVERT = f"dermedge convert RUN --recipe {RECIPE}"


@dataclass
class Dossier:
    """What was found, and what was not."""

    run: Path
    answers: dict[str, Answers]
    """Model to its answers, the float one first."""
    taxonomy: Taxonomy
    labels: LabelSet
    data: Path
    """The folder that holds the data sets."""
    missing: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Section to what it lacks, and what makes it."""

    @property
    def main(self) -> str:
        """The data set that the figures are about."""
        return self.answers[FLOAT].source_names[0]

    def models(self, source: str | None = None) -> list[Answers]:
        """Every model's answers to the photos of a data set."""
        name = source or self.main
        return [part for answers in self.answers.values() if (part := answers.of_source(name)).photo_ids]

    def lacks(self, section: str, what: str, fix: str) -> Markup:
        """Notes that an ingredient is missing, and says so on the page."""
        self.missing.setdefault(section, []).append((what, fix))
        return page.note(
            page.element("strong", "Missing: "), f"{what}. To make it: ", page.element("code", fix)
        )


def read_dossier(run: Path, data: Path | None = None) -> Dossier:
    """Finds a run's ingredients.

    Raises:
        RunInvalid: No out-of-fold answers, or the quantized ones are to other photos.
        DataInvalid: Labels that the taxonomy does not map.
    """
    answers = {FLOAT: read_answers(run)}
    if find_answers(run, RECIPE):
        answers[RECIPE] = read_answers(run, RECIPE)
        require_same_photos(answers[FLOAT], answers[RECIPE])
    taxonomy = load_taxonomy(load_questions()[0])
    labels = load_labels(data_set_of(taxonomy, answers[FLOAT].codes))
    return Dossier(run, answers, taxonomy, labels, data or data_root())
