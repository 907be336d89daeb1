"""Facts for the evidence report: test results, dataset sheet, dependencies, licences. stdlib.

Texts are data in train/dossier/evidence; the rest is read from files: test results from a JUnit file, versions from the
locks, licences from the installed packages, licences of data from the label sets.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import cast

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import load_labels, source_licence
from train.dossier.dermatologists import load_evidence
from train.evaluation.out_of_fold import Answers

CHECKOUT = Path(__file__).parents[2]
CHECKLISTS = ("clear_derm", "tripod_ai")
LOCKS = ("runtime", "dev")
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.M)
# A classifier's last part where a package gives no licence field.
CLASSIFIER = "License :: "
LONGEST_LICENCE = 60
KINDS = ("failed", "passed", "skipped")


# ------------------------------------------------------------------ tests


def read_outcomes(path: Path) -> dict[str, Counter[str]]:
    """Count the tests of each file that `passed`, `failed` or were `skipped`, from what `pytest --junitxml` wrote.

    Raises:
        DataInvalid: Not a JUnit file.
    """
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        raise DataInvalid(
            "cannot be read", where=str(path), found=str(error), expected="a JUnit file",
            fix="Run python -m pytest --junitxml FILE",
        ) from error  # fmt: skip
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        # The name of a test class would follow; the tests are functions.
        file = case.get("classname", "").replace(".", "/") + ".py"
        counts.setdefault(file, Counter())[kind] += 1
    return counts


def describe(tests: Sequence[str], outcomes: Mapping[str, Counter[str]] | None) -> str:
    """Describe the results of a requirement's tests; outcomes are None without a JUnit file."""
    if outcomes is None:
        return "missing: no test results"
    total = sum((outcomes.get(test, Counter()) for test in tests), Counter[str]())
    unrun = [test for test in tests if test not in outcomes]
    parts = [f"{total[kind]:,} {kind}" for kind in KINDS if total[kind] or (total and kind == "passed")]
    return ", ".join([*parts, f"not run: {', '.join(unrun)}"] if unrun else parts)


# ------------------------------------------------------------------ data


def composition(answers: Answers) -> list[tuple[object, ...]]:
    """Count photos, groups and classes of each dataset and fold."""
    rows: list[tuple[object, ...]] = []
    for source in answers.source_names:
        part = answers.of_source(source)
        for fold in part.fold_numbers:
            inside = part.where(part.folds == fold)
            counts = [int((inside.y_true == i).sum()) for i in range(len(answers.codes))]
            rows.append((f"{source}, fold {fold}", len(inside.photo_ids), len(set(inside.groups)), *counts))
    return rows


def data_licences(label_set: str) -> list[tuple[str, str]]:
    """List the licences of photos, of models with this label set, and of the code."""
    rows = [(entry["folder"], licence_of_source(entry)) for entry in load_evidence("data_sheet")["source"]]
    return [
        *rows,
        ("models trained on them", load_labels(label_set).model_licence),
        ("readers' points", "numbers of Esteva et al., Nature 542 (2017)"),
        ("code", "Apache-2.0 (LICENSE)"),
    ]


def licence_of_source(entry: Mapping[str, str]) -> str:
    """Return the licence of a dataset's photos, from an entry of data_sheet.toml."""
    return source_licence(entry["labels"]) or load_labels(entry["labels"]).licence


def licence_line(sources: Collection[str]) -> str:
    """Join the licences of the datasets that occur."""
    entries = load_evidence("data_sheet")["source"]
    return "; ".join(
        dict.fromkeys(licence_of_source(entry) for entry in entries if entry["folder"] in sources)
    )


# ------------------------------------------------------------------ dependencies


def dependencies() -> list[tuple[str, str, str, str]]:
    """List every locked package with its version, where it is needed, and the licence that the installed one names."""
    needed: dict[tuple[str, str], list[str]] = {}
    for lock in LOCKS:
        for name, version in LOCKED.findall((CHECKOUT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")):
            needed.setdefault((name, version), []).append(lock)
    return [
        (name, version, "device" if "runtime" in locks else "development", licence_of(name, version))
        for (name, version), locks in sorted(needed.items())
    ]


def licence_of(name: str, version: str) -> str:
    """Return the licence that an installed package names, or why there is none."""
    try:
        about = cast(Message, metadata.metadata(name))
    except metadata.PackageNotFoundError:
        return "not installed here (another platform or Python)"
    if metadata.version(name) != version:
        return "another version is installed here"
    field = (about.get("License") or "").strip()
    # Some packages have the whole text in the field.
    named = field != "UNKNOWN" and "\n" not in field and len(field) <= LONGEST_LICENCE
    classifiers = (one for one in about.get_all("Classifier") or () if one.startswith(CLASSIFIER))
    stated = ", ".join(one.rsplit(" :: ", 1)[-1] for one in classifiers)
    return about.get("License-Expression") or (field if named else "") or stated or "not stated"
