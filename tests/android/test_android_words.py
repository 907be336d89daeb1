"""Words that a user of the app reads: no private vocabulary, both languages complete."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.architecture.test_words import WORDS

LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')


@pytest.fixture(scope="module")
def sample(repository: Path) -> Path:
    return repository / "android_sample"


def strings(sample: Path, folder: str) -> dict[str, str]:
    tree = ElementTree.parse(sample / "app/src/main/res" / folder / "strings.xml")
    return {str(item.get("name")): item.text or "" for item in tree.iter("string")}


def test_the_strings_are_plain_and_translated(sample: Path) -> None:
    english, korean = strings(sample, "values"), strings(sample, "values-ko")
    assert list(english) == list(korean) and len(english) > 40
    for name, text in english.items():
        assert not WORDS.search(text), f"{name}: {text}"
        assert re.findall(r"%\d\$s", text) == re.findall(r"%\d\$s", korean[name]), name


def test_the_messages_are_plain(sample: Path) -> None:
    sources = list(sample.rglob("src/main/java/**/*.java"))
    assert len(sources) > 30
    found = [
        f"{path.name}: {text}"
        for path in sources
        for text in LITERAL.findall(path.read_text(encoding="utf-8"))
        if WORDS.search(text)
    ]
    assert found == []


def test_the_readme_is_plain(sample: Path) -> None:
    assert WORDS.findall((sample / "README.md").read_text(encoding="utf-8")) == []
