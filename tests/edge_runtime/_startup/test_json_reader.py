"""JSON read by Python's own parser, with and without the package around it."""

from __future__ import annotations

import _json
import json
import subprocess
import sys
from typing import Any

import pytest

from edge_runtime._startup.json_reader import read_json
from tests.edge_runtime._startup import needs_tricks
from tests.fixtures import FIXTURES

GOOD = [
    "{}",
    '{"a": [1, -2.5e3, true, false, null, "\\u00e9\\n"], "b": {"c": {}}}',
    '{"a": 1} \n\t\r ',
    ' {"a": 1}',
    "[1, 2]",
    "3",
    '{"\u00fc": "\ud55c\uad6d"}',
]
BAD = [
    "",
    "{",
    '{"a": 1} x',
    '{"a": 1}{"b": 2}',
    '{"a" 1}',
    '{"a": 01}',
    "{'a': 1}",
    '{"a": "\n"}',
    '{"a": 1,}',
    '{"a": ' + "[" * 100_000,
    '{"a": ' + "1" * 5000 + "}",
]


def _pairs(pairs: list[tuple[str, Any]]) -> Any:
    return pairs


@pytest.mark.parametrize("text", GOOD)
@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-16", "utf-32-le"])
def test_it_reads_what_json_reads(text: str, encoding: str | None) -> None:
    document = text if encoding is None else text.encode(encoding)
    assert repr(read_json(document, _pairs)) == repr(json.loads(document, object_pairs_hook=_pairs))


@pytest.mark.parametrize("text", BAD)
def test_it_refuses_what_json_refuses_in_the_same_words(text: str) -> None:
    for document in (text, text.encode()):
        with pytest.raises((ValueError, RecursionError)) as expected:
            json.loads(document, object_pairs_hook=_pairs)
        with pytest.raises(type(expected.value)) as caught:
            read_json(document, _pairs)
        if not isinstance(expected.value, RecursionError):
            assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_it_refuses_what_only_python_writes(constant: str) -> None:
    for document in (f'{{"a": {constant}}}', f"[{constant}]"):
        with pytest.raises(ValueError, match=f"^{constant} is no JSON$"):
            read_json(document, _pairs)


def test_a_byte_order_mark_is_taken_in_bytes_only_as_json_does() -> None:
    assert read_json("\ufeff{}".encode(), _pairs) == []
    with pytest.raises(ValueError, match="BOM"):
        read_json("\ufeff{}", _pairs)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        read_json(b'{"a": "\xff"}', _pairs)


def test_what_the_hook_raises_arrives() -> None:
    def refuse(pairs: list[tuple[str, Any]]) -> Any:
        raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        read_json('{"a": 1}', refuse)


@pytest.mark.parametrize(
    "python",
    [
        lambda options: options.attribute_of_tomorrow,
        lambda options: lambda text, at: options.attribute_of_tomorrow,
        lambda options, tomorrow: None,
    ],
)
def test_another_python_uses_the_package(python: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_json.make_scanner", python)
    assert read_json('{"a": 1}', _pairs) == [("a", 1)]


@needs_tricks
def test_the_parser_of_python_3_15_finds_all_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _json.make_scanner

    def asking(options: Any) -> Any:
        assert options.array_hook is None
        asked.append(options)
        return real(options)

    asked: list[Any] = []
    monkeypatch.setattr(_json, "make_scanner", asking)
    monkeypatch.setattr(json, "loads", None)
    assert read_json('{"a": 1}', _pairs) == [("a", 1)]
    assert len(asked) == 1


@needs_tricks
def test_a_contract_is_read_without_the_package() -> None:
    code = (
        "import sys; from edge_runtime.model.model_file import open_model; open_model(sys.argv[1]); "
        "print('json' in sys.modules)"
    )
    model = str(FIXTURES / "tiny_uint8.tflite")
    ran = subprocess.run(
        [sys.executable, "-c", code, model],
        capture_output=True,
        text=True,
        check=True,
        cwd=FIXTURES.parents[1],
    )
    assert ran.stdout == "False\n"
