"""`python -m convert.tflite.kernel_probe MODEL KERNEL_SET < tensors > outputs.json`: one kernel set in a process of
its own.

Alone, since tflite-runtime crashes in a process that has loaded TensorFlow (measured: 2.14.0 with 2.21.0), and a
kernel set that dies must not take a conversion with it. numpy and edge_runtime's engines; no TensorFlow.
"""  # noqa: D205

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.engines import open_engine, raw_values
from edge_runtime.errors import EXIT_OK, EXIT_USAGE, ConversionRefused, EdgeError

ENGINE_SETS = ("litert-c", "litert", "tflite-runtime")
# Kernel sets of LiteRT's Interpreter that `edge_runtime` never asks for.
RESOLVER_SETS = ("BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF")
KERNEL_SETS = (*ENGINE_SETS, *RESOLVER_SETS)
# Reference kernels need seconds a picture, on a busy machine minutes.
PROBE_SECONDS = 1200
ROOT = Path(__file__).parents[2]


def probe(
    tflite: bytes, input_tensors: Sequence[bytes], kernel_set: str
) -> tuple[str, list[tuple[float, ...]] | None]:
    """Runs a model in a fresh process.

    Args:
        tflite: The model.
        input_tensors: Each the bytes of one input tensor.
        kernel_set: One of KERNEL_SETS.

    Returns:
        The full name (library, version, kernels) and the raw outputs; or why it could not run, and None.

    Raises:
        ConversionRefused: It is here, but did not answer in time: without it other pictures would be chosen, and the
            same run would not give the same bytes.
    """
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(tflite)
        file.flush()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "convert.tflite.kernel_probe", file.name, kernel_set],
                cwd=ROOT,
                input=b"".join(input_tensors),
                capture_output=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ConversionRefused(
                f"{kernel_set} kernels did not answer the golden pictures",
                found=f"no answer within {PROBE_SECONDS} s",
                expected="an answer, or that they are not installed",
                fix="convert again when the machine is less busy",
            ) from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if done.returncode > 0 and lines else f"died of signal {-done.returncode}", None
    answer = json.loads(done.stdout)
    return answer["name"], [tuple(output) for output in answer["outputs"]]


def main(argv: Sequence[str] | None = None) -> int:
    """Reads input tensors from stdin, prints {"name", "outputs"}."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 2 or arguments[1] not in KERNEL_SETS:
        print(f"usage: kernel_probe MODEL {'|'.join(KERNEL_SETS)} < tensors", file=sys.stderr)
        return EXIT_USAGE
    tflite, kernel_set = Path(arguments[0]).read_bytes(), arguments[1]
    tensors = sys.stdin.buffer.read()
    try:
        name, outputs = (_run_engine if kernel_set in ENGINE_SETS else _run_resolver)(
            tflite, tensors, kernel_set
        )
    except EdgeError as error:
        print(error.message, file=sys.stderr)
        return error.exit_status
    print(json.dumps({"name": name, "outputs": outputs}))
    return EXIT_OK


def _run_engine(tflite: bytes, tensors: bytes, kernel_set: str) -> tuple[str, list[list[float]]]:
    engine = open_engine(tflite, engine=kernel_set)
    parts = (tensors[i : i + engine.input.nbytes] for i in range(0, len(tensors), engine.input.nbytes))
    outputs = [[float(x) for x in raw_values(engine.run(part), engine.output)] for part in parts]
    engine.close()
    return f"{engine.name}, default kernels", outputs


def _run_resolver(tflite: bytes, tensors: bytes, kernel_set: str) -> tuple[str, list[list[float]]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType[kernel_set]
    interpreter: Any = Interpreter(
        model_content=tflite, num_threads=1, experimental_op_resolver_type=resolver
    )
    interpreter.allocate_tensors()
    info, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for tensor in np.frombuffer(tensors, info["dtype"]).reshape(-1, *info["shape"]):
        interpreter.set_tensor(info["index"], tensor)
        interpreter.invoke()
        outputs.append([float(x) for x in interpreter.get_tensor(output["index"]).ravel()])
    return f"litert {metadata.version('ai-edge-litert')}, {kernel_set}", outputs


if __name__ == "__main__":
    sys.exit(main())
