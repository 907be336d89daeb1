"""What users read is plain technical English: words of earlier versions do not come back.

Looked at: string constants of the packages that are no docstrings, READMEs and other documents, page templates, style
sheets and the app's texts. The changelog tells history and is left out.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

WORDS = re.compile(r"\b(?:learnt|asked|roads?|rooms?|told|workshop)\b", re.I)
SOURCES = ("dermedge.py", "edge_runtime", "convert", "train")
TEXTS = (
    "*.md",
    "*/README.md",
    "convert/cards/data_notes/*.md",
    "edge_runtime/models/*.md",
    *(f"{package}/**/*.{suffix}" for package in SOURCES[1:] for suffix in ("css", "html", "j2")),
    "android_sample/app/src/main/res/values*/strings.xml",
)
LEFT_OUT = ("CHANGELOG.md", "train/records/")
# Whole string constants that stay, each with its reason.
CONSTANTS = {
    "asked": "the JSON key `runtime.asked`, which scripts read",
}
# Parts of documents that stay, each with its reason.
QUOTES = {
    '"asked": ': "the JSON key `runtime.asked`, which scripts read",
    "(`asked`)": "the same key and that of robustness.json, where they are described",
}


def constants_of(source: str) -> list[tuple[int, str]]:
    """Return line and text of the string constants that are not docstrings."""
    tree = ast.parse(source)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements
    ]


def words_in(text: str) -> list[str]:
    """Return the words in a text that should be replaced."""
    for quote in QUOTES:
        text = text.replace(quote, "")
    return WORDS.findall(text)


def test_string_constants(repository: Path) -> None:
    files = [
        file
        for name in SOURCES
        for file in ([repository / name] if name.endswith(".py") else (repository / name).rglob("*.py"))
    ]
    assert len(files) >= 100
    found, used = [], set()
    for file in sorted(files):
        for line, text in constants_of(file.read_text(encoding="utf-8")):
            if text in CONSTANTS:
                used.add(text)
            elif words := WORDS.findall(text):
                found.append(f"{file.relative_to(repository)}:{line}: {words}: {text[:80]!r}")
    assert found == []
    assert used == set(CONSTANTS), "an exception that nothing needs any more"


def test_documents_and_templates(repository: Path) -> None:
    files = sorted({file for pattern in TEXTS for file in repository.glob(pattern)})
    names = {file.relative_to(repository).as_posix(): file for file in files}
    names = {name: file for name, file in names.items() if not name.startswith(LEFT_OUT)}
    assert {"README.md", "train/README.md", "SECURITY.md"} <= set(names)
    assert {Path(name).suffix for name in names} >= {".md", ".css", ".j2", ".xml"}
    found = [
        f"{name}:{number}: {words}"
        for name, file in names.items()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if (words := words_in(line))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('print("it was told")', ["told"]),
        ('print(f"the Road {x}")', ["Road"]),
        ('def f():\n    """Asked."""', []),
        ("x = 'broad, bathroom, roadmap, asking'", []),
        ("told = 1  # asked", []),
    ],
)
def test_the_search_finds_words_in_strings_alone(source: str, expected: list[str]) -> None:
    assert [word for _, text in constants_of(source) for word in WORDS.findall(text)] == expected


def test_a_quoted_key_is_not_a_word() -> None:
    assert words_in('{"asked": "cpu"}') == []
    assert words_in('{"asked": "cpu"} was asked') == ["asked"]
