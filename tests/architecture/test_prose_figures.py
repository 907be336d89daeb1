"""No figure stands in prose without a record.

A figure is a percentage, a decimal fraction below 1, or a count such as `116 of 120`, in a document outside code; in a
docstring or a comment it is a percentage or a fraction of two decimals or more. Each must come from a sentence of
train/records/published_sentences.json, whose values are read from committed records, or be allowed here: thresholds,
settings, and what others published.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.test_figures import MARKED, ROW

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "train/records"
SENTENCES: dict[str, Any] = json.loads((RECORDS / "published_sentences.json").read_bytes())
NUMBER = r"(?<![\w.,])[-+−]?0\.\d{%d,}(?!\d|\.\d)|\d[\d.,]*\s?%%(?!\w)"
# Not steps of pixels or outputs, such as `within 1 of 255`.
COUNT = (
    r"(?<![\w.,])\d+(?:,\d{3})* of (?:(?:all|its|the|these|those) )?(?!25[56]\b)\d+(?:,\d{3})*(?!\w|[.,]\d)"
)
IN_DOCUMENTS, IN_SOURCES = re.compile(f"{NUMBER % 1}|{COUNT}"), re.compile(NUMBER % 2)
# Code, and what test_figures.py compares: the READMEs' table, the study's reference table.
COMPARED = (re.compile(r"^```.*?^```", re.M | re.S), MARKED, ROW)
DOCUMENTS = (
    *ROOT.glob("*.md"),
    *(path for path in ROOT.glob("*/*.md") if path.parent.name not in ("design", "shared")),
    *ROOT.glob("convert/cards/data_notes/*.md"),
    *(path for path in ROOT.glob("train/dossier/evidence/*.toml") if path.stem != "reader_tests"),
)
SOURCES = (
    *(path for package in ("edge_runtime", "train", "convert") for path in ROOT.glob(f"{package}/**/*.py")),
    *ROOT.glob("train/configs/**/*.toml"),
    ROOT / "dermedge.py",
)
# Level of all intervals; AUC of one model on dark and light skin (Daneshjou et al., Science Advances 8, 2022).
EVERYWHERE = {"95 %", "0.57", "0.72"}
ALLOWED = {
    "android_sample/README.md": {"8 of 300": "drawn files, whose number no record has"},
    "edge_runtime/README.md": {"50 of 50": "what `make test-pi` asserts"},
    "convert/README.md": {"2 %": "a setting"},
    "convert/__init__.py": {"0.02": "a default"},
    "convert/comparison/layers.py": {"1 %": "a definition"},
    "convert/quantization/fake_quant.py": {"0.999": "a constant of tfmot"},
    "convert/recipes.py": {"0.95": "an example", "0.03": "half of its binomial interval"},
    "edge_runtime/TRACE_FORMAT.md": {"0.0": "an example"},
    "edge_runtime/diagnostics/parity.py": {"0.35": "the width of a network"},
    "train/configs/ham10000_lite0.toml": {"0.45": "a setting", "0.65": "a setting"},
    "train/configs/ham10000_lite0_gpu.toml": {"0.45": "a setting"},
    "train/configs/schema.py": {"0.999": "a default of Keras", "0.998": "a setting"},
    "train/evaluation/decisions.py": {"0.02": "a limit"},
    "train/README.md": dict.fromkeys(("97 %", "98 %"), "claims: tests/benchmarks/test_interval_coverage.py"),
    "train/STUDY.md": {"0.83": "the target", "0.03": "what a fold cannot tell apart"},
    "train/dossier/evidence/paper.toml": dict.fromkeys(
        ("72.1 %", "65.56 %", "66.0 %", "55.4 %", "53.3 %", "55.0 %"), "of the paper"
    ),
}


def value_of(place: str, keys: str) -> Any:
    """Read a value of a record; `*` in the keys gives the list of all."""
    path = RECORDS / place
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        return [float(row[keys]) for row in rows if row["photo"] == "600x450.jpg"]
    return _walk(json.loads(path.read_bytes()), keys.split("."))


def _walk(found: Any, keys: list[str]) -> Any:
    for i, key in enumerate(keys):
        if key == "*":
            return [_walk(item, keys[i + 1 :]) for item in found.values()]
        if i == len(keys) - 1 and f"{key}_interval" in found:
            return [found[key], *found[f"{key}_interval"]]
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


def _estimate(values: list[float], form: str = ".3f") -> str:
    value, low, high = (format(round(value, 3), form) for value in values)
    return f"{value} ({low} to {high})"


def _effect(values: list[float]) -> str:
    return _estimate(values, "+.3f")


FORMATS: dict[str, Callable[[Any], str]] = {
    "estimate": _estimate,
    "effect": _effect,
    "korean": lambda values: "{:.3f}({:.3f} ~ {:.3f})".format(*values),
    # Of a loss, float less converted.
    "gain": lambda loss: _effect([-loss[0], -loss[2], -loss[1]]),
    "sum": lambda counts: f"{sum(counts):,}",
    "rejected": lambda of: f"{round(of['not_a_lesion_share'] * of['photos'])} of the {of['photos']}",
    "range": lambda values: f"{min(values):.2f} to {max(values):.2f}",
    "range3": lambda values: f"{min(values):.3f} to {max(values):.3f}",
    "changed": lambda agreement: f"{100 * (1 - agreement[0]):.1f} %",
}


def rendered(sentence: str) -> str:
    def figure(match: re.Match[str]) -> str:
        place, keys, form = match[1].split(":")
        value = value_of(place, keys)
        return FORMATS[form](value) if form in FORMATS else format(value, form)

    return re.sub(r"\{([^}]+)\}", figure, sentence)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def one_line(text: str) -> str:
    return " ".join(re.sub("^> ", "", text, flags=re.M).split())


def unrecorded(text: str, pattern: re.Pattern[str], name: str) -> list[str]:
    """Return the figures of a text that no sentence has and nothing allows."""
    text = one_line(text)
    for sentence in SENTENCES.get(name, ()):
        text = text.replace(rendered(sentence), "")
    text = re.sub(r"`[^`]*`", "", text)
    return [found for found in pattern.findall(text) if found not in {*EVERYWHERE, *ALLOWED.get(name, ())}]


def prose_of(source: str) -> Iterator[str]:
    """Give docstrings (of attributes too) and comments."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.value.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("name", [name for name in SENTENCES if name != "about"])
def test_each_sentence_stands_in_its_document(name: str) -> None:
    text = one_line((ROOT / name).read_text(encoding="utf-8"))
    assert [sentence for sentence in map(rendered, SENTENCES[name]) if sentence not in text] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_documents_have_no_other_figures(path: Path) -> None:
    if path.with_suffix(".tflite").exists():
        pytest.skip("a model card: test_figures.py makes it anew")
    text = path.read_text(encoding="utf-8")
    for compared in COMPARED:
        text = compared.sub("", text)
    assert unrecorded(text, IN_DOCUMENTS, name_of(path)) == []


def test_comments_publish_no_results() -> None:
    found = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        prose = prose_of(text) if path.suffix == ".py" else re.findall(r"#.*$", text, re.M)
        if "experiments" not in path.parts and (
            figures := unrecorded("\n".join(prose), IN_SOURCES, name_of(path))
        ):
            found[name_of(path)] = figures
    assert found == {}, found


def test_a_figure_without_a_record_is_found() -> None:
    text = "It reaches 0.912, or 91 %, and 0.83."
    assert unrecorded(text, IN_DOCUMENTS, "train/STUDY.md") == ["0.912", "91 %"]
    text = "It refuses 116 of 120 and 1,160 of the 1,200; pixels differ by 1 of 255, 7 of ham10000 do."
    assert unrecorded(text, IN_DOCUMENTS, "train/STUDY.md") == ["116 of 120", "1,160 of the 1,200"]
    assert unrecorded("version 0.2.0, in 0.5 s", IN_SOURCES, "README.md") == []
