"""`dermedge inspect`: what a file holds, and which targets support it. No TensorFlow."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from convert.tflite.inspect import describe, main
from convert.tflite.reader import read_tflite
from convert.tflite.targets import xnnpack_problem
from edge_runtime.engines import open_engine
from edge_runtime.model.flatbuffer import Table
from edge_runtime.model.model_file import bundled_model_path
from tests.edge_runtime.graphs import GraphFile, pack
from tests.fixtures import FIXTURES, MODEL_NAMES

REPOSITORY = Path(__file__).parents[3]
# An operator of no image classifier.
SVDF = 27


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_tensors_are_those_that_the_runtime_sees(name: str) -> None:
    file = read_tflite(FIXTURES / name)
    with closing(open_engine(file.data)) as engine:
        for index, spec in ((file.inputs[0], engine.input), (file.outputs[0], engine.output)):
            tensor = file.tensors[index]
            assert (tensor.dtype, tensor.shape) == (spec.dtype, spec.shape)
            if spec.scale:
                assert (tensor.scales, tensor.zero_points) == (
                    (pytest.approx(spec.scale),),
                    (spec.zero_point,),
                )


def _xnnpack_leaves(path: Path) -> list[int]:
    """Outputs of operators that LiteRT did not give to XNNPACK: those that neither a delegate made nor hid."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    return [
        int(output)
        for node in interpreter._get_ops_details()
        if node["op_name"] == "DELEGATE"
        for output in node["outputs"]
    ]


def test_xnnpack_takes_what_is_said_of_the_bundled_model() -> None:
    file = read_tflite(bundled_model_path())
    left = [operator.index for operator in file.operators if xnnpack_problem(operator, file)]
    assert [file.operators[i].kind for i in left] == ["QUANTIZE", "SOFTMAX", "QUANTIZE"]
    # LiteRT makes one delegate of everything between: what it hands on is what the softmax reads.
    assert _xnnpack_leaves(bundled_model_path()) == list(file.operators[left[1]].inputs)


def test_an_integer_model_is_for_the_edge_tpu_and_a_float_one_is_not() -> None:
    integer, floating = (describe(read_tflite(FIXTURES / f"tiny_{x}.tflite")) for x in ("uint8", "float32"))
    assert {row["edge_tpu"] for row in integer["operators"]} == {"taken"}
    assert "float32 tensors" in floating["operators"][0]["edge_tpu"]
    assert floating["operators"][-1]["edge_tpu"] != "taken"


def test_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    path = bundled_model_path()
    assert main([str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["contract"]["labels"][0]["code"] == "akiec"
    assert report["interchange"] == []
    count = len(report["operators"])
    left = [row["kind"] for row in report["operators"] if row["xnnpack"] != "taken"]
    assert left == ["QUANTIZE", "SOFTMAX", "QUANTIZE"]  # uint8 at both ends, and no 8-bit softmax
    assert main([str(path)]) == 0
    text = capsys.readouterr().out
    for words in (
        "akiec, bcc",
        f"XNNPACK supports {count - 3} of {count}",
        f"Edge TPU supports {count} of {count}",
        "zero point 128",
    ):
        assert words in text
    assert main([str(path), "--tensors"]) == 0
    assert capsys.readouterr().out.count("scales of axis") > 50


def test_a_file_without_contract_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edge_runtime.model.zip_tail import ZipTail

    data = (FIXTURES / "tiny_int8.tflite").read_bytes()
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(data[: ZipTail(data, "x").start])
    assert main([str(bare)]) == 0
    text = capsys.readouterr().out
    assert "no contract inside" in text and "input int8, expected uint8 or float32" in text


def test_clients_need_labels(tmp_path: Path) -> None:
    from edge_runtime.model.zip_tail import ZipTail

    data = (FIXTURES / "tiny_uint8.tflite").read_bytes()
    tail = ZipTail(data, "x")
    buffer = io.BytesIO(data[: tail.start])
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("edge_contract.json", tail.read("edge_contract.json") or b"")
    path = tmp_path / "m.tflite"
    path.write_bytes(buffer.getvalue())
    assert any("labels.txt" in problem for problem in describe(read_tflite(path))["interchange"])


@pytest.mark.parametrize(
    "content", [b"", b"no model", b"\0\0\0\0TFL3", (FIXTURES / "tiny_int8.tflite").read_bytes()[:900]]
)
def test_what_is_no_model_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    assert main([str(path)]) == 3
    assert capsys.readouterr().err.startswith("error: ")
    assert main([str(tmp_path / "absent.tflite")]) == 3


def test_a_model_that_no_device_runs_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Operators that the runtime refuses, from the wrong kind on."""
    data = bytearray((FIXTURES / "tiny_uint8.tflite").read_bytes())
    root = Table(bytes(data), len(data), int.from_bytes(data[:4], "little"), "Model")
    code = root.children(1, "OperatorCode")[0]
    for field, size in ((0, 1), (3, 4)):
        if position := code.field(field, size):
            data[position : position + size] = SVDF.to_bytes(size, "little")
    path = tmp_path / "odd.tflite"
    path.write_bytes(data)
    assert main([str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["contract"] is None and str(path) in report["contract_problem"]
    assert "SVDF" in report["operator_counts"]


def test_no_tensorflow_is_needed() -> None:
    code = (
        "import sys\nfor name in ('tensorflow', 'tf_keras', 'numpy', 'PIL'): sys.modules[name] = None\n"
        f"from convert.tflite.inspect import main\nsys.exit(main([{str(FIXTURES / 'tiny_int8.tflite')!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "XNNPACK" in done.stdout


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full: Linux"
)
def test_a_full_disk_is_an_error_and_a_closed_pipe_is_none() -> None:
    command = [sys.executable, "-m", "dermedge", "inspect", str(bundled_model_path()), "--tensors"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "No space left on device" in done.stderr
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 0
    assert process.stderr is not None and process.stderr.read() == b""
    process.stderr.close()


def test_texts_of_a_file_reach_the_terminal_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = GraphFile("tiny_uint8.tflite")
    for tensor in graph.model.subgraphs[0].tensors:
        tensor.name = b"\x1b[2J\nforged: \xe2\x80\xae\xc2\x85"
    graph.model.description = b"\x1b]0;\x07\nforged"
    model = tmp_path / "a\nforged\x1b.tflite"
    model.write_bytes(pack(graph.model))
    assert main([str(model), "--tensors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(map(str.isprintable, lines))
    assert not any(line.startswith("forged") for line in lines)
    assert main([str(model), "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed.isascii() and all(map(str.isprintable, printed.splitlines()))
