"""Every kind of JSON line, validated against the published JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import Classifier, Explainer
from edge_runtime.cli import command as cli
from edge_runtime.errors import HeatMapUnwritten
from edge_runtime.explain.heat_files import Explained
from edge_runtime.result import JSON_SCHEMA
from tests.edge_runtime.cli.test_cli import F32, U8
from tests.fixtures import pictures as p
from tests.fixtures.bad_models import good, with_contract

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.jpg"
    path.write_bytes(p.jpeg())
    return str(path)


@pytest.fixture
def schema(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `edge-classify --schema` prints."""
    assert cli.main(["--schema"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    return printed


def refers(contract: dict[str, Any]) -> None:
    contract["decision"]["refer"] = {"measure": "top_score", "threshold": 1.0, "source": "test"}


def kinds(schema: dict[str, Any], line: dict[str, Any]) -> list[str]:
    """The kinds of line that fit."""
    return [
        name
        for name in ("prediction", "explanation", "error", "self_check", "bench")
        if jsonschema.Draft202012Validator({**schema, "oneOf": [{"$ref": f"#/$defs/{name}"}]}).is_valid(line)
    ]


def test_every_kind_of_line(
    schema: dict[str, Any], photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    referring = tmp_path / "refers.tflite"
    referring.write_bytes(with_contract(good(), refers))
    map_path = str(tmp_path / "map.png")
    commands = {
        "prediction": [(cli.main, ["--model", U8, photo]), (cli.classify, ["--model", F32, photo])],
        "explanation": [
            (cli.main, ["--model", U8, photo, "--explain", map_path]),
            (cli.explain, ["--model", U8, photo, "--out", map_path]),
        ],
        "error": [
            (cli.main, ["--model", U8, photo + ".none"]),
            (cli.main, ["--list", "/none", "--model", U8]),
        ],
        "self_check": [(cli.main, ["--self-check", "--model", U8]), (cli.check, [F32])],
        "bench": [
            (cli.main, ["--bench", "1", "--model", U8, photo]),
            (cli.bench, [U8, photo, "--runs", "1"]),
        ],
    }
    for kind, calls in commands.items():
        for main, words in calls:
            assert main([*words, "--json"]) == (kind == "error")
            (line,) = map(json.loads, capsys.readouterr().out.splitlines())
            assert line["schema"] == JSON_SCHEMA
            jsonschema.validate(line, schema)
            assert kinds(schema, line) == [kind]
    assert cli.main(["--json", "--model", str(referring), photo]) == 0
    line = json.loads(capsys.readouterr().out)
    jsonschema.validate(line, schema)
    assert line["decision"] == "refer"
    assert line["rule"] == {
        "name": "refer", "measure": "top_score", "value": line["score"], "threshold": 1.0,
    }  # fmt: skip


def test_a_line_without_its_heat_map(schema: dict[str, Any], photo: str) -> None:
    with Classifier(U8) as classifier, Explainer(classifier) as explainer:
        lost = Explained(
            explainer.explain(photo), None, HeatMapUnwritten("cannot be written", where="map.png")
        )
    line = json.loads(lost.to_json())
    jsonschema.validate(line, schema)
    assert line["explanation"]["picture"] is None
    assert line["explanation"]["error"]["code"] == "heat-map-unwritten"


@pytest.mark.parametrize("change", [{"schema": 2}, {"score": 1.5}, {"decision": "maybe"}, {"more": 1}])
def test_other_lines_do_not_fit(
    change: dict[str, object], schema: dict[str, Any], photo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--json", "--model", U8, photo]) == 0
    line = {**json.loads(capsys.readouterr().out), **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line, schema)
