"""Java refuses the same models as Python: the table is one, and generated graphs get equal verdicts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edge_runtime.errors import ModelFileError
from edge_runtime.model.model_file import parse_model
from tests.edge_runtime.contracts import contract_case
from tests.edge_runtime.fuzz import model_case
from tests.edge_runtime.graphs import graph_case

SEED, GRAPHS, CONTRACTS, MUTATIONS = 20261130, 400, 400, 200
CORE = "android_sample/core/src/main/java/dermedge/core"


def test_both_read_one_table(repository: Path) -> None:
    text = (repository / "edge_runtime/model/operators.txt").read_text(encoding="ascii")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    java = (repository / CORE / "OperatorTable.java").read_text(encoding="ascii")
    joined = re.sub(r'"\s*\+ "', "", java)
    assert re.findall(r'"([^"]+)"', joined) == lines
    assert len(lines) > 40


@pytest.mark.java
def test_generated_models_get_equal_verdicts(repository: Path, tmp_path: Path) -> None:
    core, test = (
        repository / CORE,
        repository / "android_sample/core/src/test/java/dermedge/core/Verdicts.java",
    )
    classes = tmp_path / "classes"
    command = [
        "javac",
        "-nowarn",
        "--release",
        "8",
        "-d",
        str(classes),
        *map(str, sorted(core.glob("*.java"))),
    ]
    subprocess.run([*command, str(test)], check=True, capture_output=True)
    cases = [graph_case(SEED, i) for i in range(GRAPHS)]
    cases += [contract_case(SEED, i) for i in range(CONTRACTS)]
    cases += [model_case(SEED, i) for i in range(1, MUTATIONS)]
    files = []
    for index, data in enumerate(cases):
        files.append(tmp_path / f"{index}.tflite")
        files[-1].write_bytes(data)
    ran = subprocess.run(
        ["java", "-cp", str(classes), "dermedge.core.Verdicts"],
        input="\n".join(map(str, files)),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [_verdict(data) for data in cases]
    assert ran.stdout.splitlines() == expected
    assert {"ok", "model-unsupported", "not-a-tflite", "contract-invalid"} <= set(expected)


def _verdict(data: bytes) -> str:
    try:
        parse_model(data, "model")
    except ModelFileError as error:
        return error.code
    return "ok"
