"""Java refuses the same models as Python: the table is one, and generated files get equal verdicts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.android.verdicts import CORE, compared, compiled, of_java, of_python
from tests.edge_runtime.graphs import GraphFile

SEED = 20261130
COUNTS = {"graphs": 400, "contracts": 400, "models": 200, "tails": 2000}


def test_both_read_one_table(repository: Path) -> None:
    text = (repository / "edge_runtime/model/operators.txt").read_text(encoding="ascii")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    java = (CORE / "OperatorTable.java").read_text(encoding="ascii")
    *joined, names = re.findall(r'"([^"]+)"', re.sub(r'"\s*\+ "', "", java))
    assert joined == lines
    assert len(lines) > 40
    assert names.split() == (repository / "edge_runtime/model/operator_names.txt").read_text("ascii").split()


@pytest.mark.java
def test_custom_operators_are_refused_where_no_delegate_can_be_named(tmp_path: Path) -> None:
    """Android's engines have no delegates but the library's own, so Java has no way to name one."""
    files = [tmp_path / f"{i}.tflite" for i in range(2)]
    for file, name in zip(files, (b"edgetpu-custom-op", b"TFLite_Detection_PostProcess"), strict=True):
        file.write_bytes(GraphFile("tiny_uint8.tflite").with_last_as_custom(name))
    verdicts = of_java(compiled(tmp_path / "classes"), files)
    assert verdicts == [of_python(file.read_bytes()) for file in files] == ["model-unsupported"] * 2


@pytest.mark.java
@pytest.mark.parametrize("kind", COUNTS)
def test_generated_models_get_equal_verdicts(kind: str) -> None:
    # Case 0 of the mutations is the bundled model, which may be absent.
    found = list(compared(kind, SEED, 1, COUNTS[kind]))
    assert [case for case in found if case[1] != case[2]] == []
    assert {"ok", "contract-invalid" if kind in ("contracts", "tails") else "model-unsupported"} <= {
        python for _, python, _ in found
    }
