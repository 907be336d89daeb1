"""The evidence pack: checklists, requirements and their tests, data sheet, dependencies, licences. stdlib.

What people wrote stands as data in train/dossier/evidence; what can be read from files is read: test results from a
JUnit file,
versions from the locks, licences from the installed packages, licences of data from the label sets. Nothing is
invented: what is not there is named.
"""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import load_labels, source_licence
from train.dossier.reader_tests import EVIDENCE_DIR
from train.reports import html as page
from train.reports.html import Markup

if TYPE_CHECKING:
    from email.message import Message

    from train.evaluation.out_of_fold import Answers

CHECKOUT = Path(__file__).parents[2]
CHECKLISTS = ("clear_derm", "tripod_ai")
LOCKS = ("runtime", "dev")
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.M)
UNDONE = "not done"
# A classifier's last part where a package gives no licence field.
CLASSIFIER = "License :: "
LONGEST_LICENCE = 60


def load_evidence(name: str) -> dict[str, Any]:
    """A table of train/dossier/evidence."""
    return tomllib.loads((EVIDENCE_DIR / f"{name}.toml").read_text(encoding="utf-8"))


# ------------------------------------------------------------------ checklists


def checklist(name: str, missing: Collection[str]) -> Markup:
    """Items of a reporting guideline, and where each is answered.

    Args:
        name: Of CHECKLISTS.
        missing: Anchors of sections whose ingredient is not there.
    """
    content = load_evidence(name)
    rows = []
    done = 0
    for item in content["item"]:
        places = [_place(place, missing) for place in item.get("where", ())]
        if "undone" in item:
            told: object = page.join((page.element("strong", UNDONE), f": {item['undone']}"))
        else:
            done += 1
            said = [f" ({item['said']})"] if "said" in item else []
            told = page.join([part for place in places for part in (", ", place)][1:] + said)
        rows.append((item["id"], item["asks"], told))
    summary = f"{content['name']}: {done} of {len(rows)} items answered, {len(rows) - done} not done"
    table = page.table(("Item", "Asks for", "Answer"), rows, texts=(1, 2), caption=content["name"])
    return page.details(summary, table)


def _place(place: str, missing: Collection[str]) -> Markup:
    if not place.startswith("#"):
        return page.element("code", place)
    anchor = place[1:]
    link = page.element("a", f"section {anchor}", href=place)
    return page.join((link, " (its ingredient is missing)")) if anchor in missing else link


# ------------------------------------------------------------------ requirements


@dataclass(frozen=True)
class Outcome:
    """Of the tests below one file."""

    passed: int
    failed: int
    skipped: int


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """Test file to its results, from what `pytest --junitxml` wrote.

    Raises:
        DataInvalid: Not such a file.
    """
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise DataInvalid(
            f"{path}: cannot be read",
            found=str(error),
            expected="a JUnit file",
            fix="python -m pytest --junitxml FILE",
        ) from error
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        # A class of tests would add its name; the house has none.
        file = case.get("classname", "").replace(".", "/") + ".py"
        counts.setdefault(file, Counter())[kind] += 1
    return {file: Outcome(c["passed"], c["failed"], c["skipped"]) for file, c in counts.items()}


def requirements(outcomes: Mapping[str, Outcome] | None) -> Markup:
    """What is promised, the tests that hold it, and what they said; None where no results are there."""
    rows = []
    for number, entry in enumerate(load_evidence("requirements")["requirement"], start=1):
        tests = page.join(
            [part for test in entry["tests"] for part in (", ", page.element("code", test))][1:]
        )
        rows.append((str(number), entry["text"], tests, _result(entry["tests"], outcomes)))
    header = ("", "Requirement", "Tests", "Result")
    return page.table(header, rows, texts=(1, 2, 3), caption="Requirement, test, result")


def _result(tests: Sequence[str], outcomes: Mapping[str, Outcome] | None) -> str:
    if outcomes is None:
        return "missing: no test results were given"
    found = [outcomes[test] for test in tests if test in outcomes]
    unrun = [test for test in tests if test not in outcomes]
    parts = [
        f"{sum(outcome.failed for outcome in found)} failed" if any(o.failed for o in found) else "",
        f"{sum(outcome.passed for outcome in found):,} passed" if found else "",
        f"{sum(outcome.skipped for outcome in found)} skipped" if any(o.skipped for o in found) else "",
        f"not run: {', '.join(unrun)}" if unrun else "",
    ]
    return ", ".join(filter(None, parts))


# ------------------------------------------------------------------ data


def data_sheet(answers: Answers) -> Markup:
    """What the publishers say of each data set, and what was counted of the photos answered out of fold."""
    entries = load_evidence("data_sheet")["source"]
    blocks = []
    for entry in entries:
        pairs = {
            "Made for": entry["made_for"],
            "Images": entry["images"],
            "Collected": entry["collected"],
            "People": entry["people"],
            "Labels": entry["labelled"],
            "Known errors": entry["known_errors"],
        }
        blocks += [page.element("h3", entry["folder"]), page.definitions(pairs)]
    return page.join([_composition(answers), *blocks])


def _composition(answers: Answers) -> Markup:
    rows = []
    for source in answers.source_names:
        part = answers.of_source(source)
        for fold in part.fold_numbers:
            inside = part.where(part.folds == fold)
            counts = [int((inside.y_true == i).sum()) for i in range(len(answers.codes))]
            rows.append((f"{source}, fold {fold}", len(inside.photo_ids), len(set(inside.groups)), *counts))
    header = ("Held out in", "Photos", "Groups", *answers.codes)
    told = (
        "A group is a lesion with its near-duplicates, of the phone photos a patient; none is divided. Each fold's "
        "model learnt from the photos of the other folds, less a small validation part that chose temperature and "
        "thresholds."
    )
    return page.join([page.table(header, rows, caption="Photos answered out of fold"), page.paragraph(told)])


def data_licences(label_set: str) -> Markup:
    """Of photos and models, from the label sets.

    Args:
        label_set: That of the models.
    """
    rows = []
    for entry in load_evidence("data_sheet")["source"]:
        rows.append((entry["folder"], licence_of_source(entry)))
    rows.append(("models trained on them", load_labels(label_set).model_licence))
    rows.append(("readers' points", "numbers of Esteva et al., Nature 542 (2017)"))
    rows.append(("code", "Apache-2.0 (LICENSE)"))
    return page.table(
        ("What", "Licence and source"), rows, texts=(1,), caption="Licences of data, models and code"
    )


def licence_of_source(entry: Mapping[str, str]) -> str:
    """The licence of a data set's photos, of an entry of data_sheet.toml."""
    return source_licence(entry["labels"]) or load_labels(entry["labels"]).licence


def licence_line(sources: Collection[str]) -> str:
    """Licences of the data sets that occur, in one line."""
    entries = load_evidence("data_sheet")["source"]
    return "; ".join(
        dict.fromkeys(licence_of_source(entry) for entry in entries if entry["folder"] in sources)
    )


def limits() -> Markup:
    """Known limits, one a line."""
    return page.element(
        "ul", *(page.element("li", entry["text"]) for entry in load_evidence("limits")["limit"])
    )


# ------------------------------------------------------------------ dependencies


def dependencies() -> Markup:
    """Every locked package with its version, where it is needed, and the licence that the installed one names."""
    needed: dict[tuple[str, str], list[str]] = {}
    for lock in LOCKS:
        for name, version in LOCKED.findall((CHECKOUT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")):
            needed.setdefault((name, version), []).append(lock)
    rows = [
        (
            name,
            version,
            "device and workshop" if "runtime" in locks else "workshop",
            licence_of(name, version),
        )
        for (name, version), locks in sorted(needed.items())
    ]
    header = ("Package", "Version", "Needed on", "Licence")
    return page.details(
        f"{len(rows)} locked packages, {sum('runtime' in locks for locks in needed.values())} of them on a device",
        page.table(header, rows, texts=(1, 2, 3), caption="Dependencies"),
    )


def licence_of(name: str, version: str) -> str:
    """What an installed package says of its licence; that it is not installed here, or says nothing."""
    try:
        about = cast("Message", metadata.metadata(name))
    except metadata.PackageNotFoundError:
        return "not installed here (another platform or Python)"
    if metadata.version(name) != version:
        return "another version is installed here"
    given = about.get("License-Expression") or _one_line(about.get("License"))
    classifiers = [
        value.rsplit(" :: ", 1)[-1]
        for value in about.get_all("Classifier") or ()
        if value.startswith(CLASSIFIER)
    ]
    return given or ", ".join(classifiers) or "says nothing"


def _one_line(text: str | None) -> str:
    """A licence's name; packages that put the whole text into the field are read by their classifier."""
    line = (text or "").strip()
    return line if line and "\n" not in line and len(line) <= LONGEST_LICENCE and line != "UNKNOWN" else ""
