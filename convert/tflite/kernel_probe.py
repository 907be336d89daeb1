"""Run one kernel set in a process of its own: `kernel_probe MODEL KERNEL_SET < input tensors > outputs.json`.

Alone, since tflite-runtime crashes in a process that has loaded TensorFlow (measured: 2.14.0 with 2.21.0), and a
kernel set that crashes must not end a conversion. No TensorFlow.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.engines import open_engine
from edge_runtime.errors import EXIT_OK, ConversionRefused, EdgeError
from edge_runtime.model.tensors import raw_values

ENGINE_SETS = ("litert-c", "litert", "tflite-runtime")
# Kernel sets of LiteRT's Interpreter that `edge_runtime` does not use by itself.
RESOLVER_SETS = ("BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF")
KERNEL_SETS = (*ENGINE_SETS, *RESOLVER_SETS)
# Reference kernels need seconds a picture, on a busy machine minutes.
PROBE_SECONDS = 1200
ROOT = Path(__file__).parents[2]


def probe(
    tflite: bytes, input_tensors: Sequence[bytes], kernel_set: str
) -> tuple[str, list[tuple[float, ...]] | None]:
    """Run a model in a fresh process, on one of KERNEL_SETS and the bytes of each input tensor.

    Returns:
        The full name (library, version, kernels) and the raw outputs; or why it could not run, and None.

    Raises:
        ConversionRefused: It is installed, but did not finish in time: without it other pictures would be chosen, and
            the same run would not give the same bytes.
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
            problem = f"{kernel_set} kernels did not finish the self-test pictures"
            fix = "convert again when the machine is less busy"
            raise ConversionRefused(problem, found=f"no output within {PROBE_SECONDS} s", fix=fix) from error
    if done.returncode != 0:
        if done.returncode < 0:
            return f"died of signal {-done.returncode}", None
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {done.returncode}", None
    found = json.loads(done.stdout)
    return found["name"], [tuple(output) for output in found["outputs"]]


def main() -> int:
    """Read input tensors from stdin, print {"name", "outputs"}."""
    _, path, kernel_set = sys.argv
    tflite = Path(path).read_bytes()
    kernels = kernel_set if kernel_set in RESOLVER_SETS else ""
    tensors = sys.stdin.buffer.read()
    try:
        engine = open_engine(tflite, engine="litert" if kernels else kernel_set, kernels=kernels)
        size = engine.input.nbytes
        parts = (tensors[i : i + size] for i in range(0, len(tensors), size))
        outputs = [[float(x) for x in raw_values(engine.run(part), engine.output)] for part in parts]
        engine.close()
    except EdgeError as error:
        print(error.message, file=sys.stderr)
        return error.exit_status
    print(json.dumps({"name": f"{engine.name}, {kernels or 'default kernels'}", "outputs": outputs}))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
