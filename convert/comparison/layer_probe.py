"""`python -m convert.comparison.layer_probe FIRST SECOND < REQUEST > SUMS`: inner tensors of two models.

A process of its own, since the tensors of one photo take tens of megabytes; only sums come back. Both models run on
LiteRT's built-in kernels with every tensor kept: XNNPACK would keep none. numpy, LiteRT, edge_runtime.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import ModelContract
from edge_runtime.errors import EXIT_OK, EXIT_USAGE, EdgeError
from edge_runtime.images.preprocess import fit_pixels, input_bytes
from edge_runtime.model.model_file import open_model

FloatArray = npt.NDArray[np.float64]


class _Interpreter:
    def __init__(self, path: str) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        model = open_model(path)
        self.contract: ModelContract = model.contract
        self._interpreter: Any = Interpreter(
            model_content=model.data,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        self._input: dict[str, Any] = self._interpreter.get_input_details()[0]
        self._scales = {
            details["index"]: details["quantization"] for details in self._interpreter.get_tensor_details()
        }

    def run(self, photo: bytes, name: str) -> None:
        pixels_u8 = fit_pixels(photo, self.contract, name=name)
        details = self._input
        scale, zero_point = details["quantization"]
        dtype = np.dtype(details["dtype"])
        tensor = input_bytes(
            pixels_u8, self.contract.normalization, dtype.name, float(scale), int(zero_point)
        )
        self._interpreter.set_tensor(details["index"], np.frombuffer(tensor, dtype).reshape(details["shape"]))
        self._interpreter.invoke()

    def tensor(self, index: int) -> FloatArray:
        """Real values, flat."""
        raw = self._interpreter.get_tensor(index)
        scale, zero_point = self._scales[index]
        values: FloatArray = raw.astype(np.float64).ravel()
        return values if raw.dtype.kind == "f" or scale == 0 else scale * (values - zero_point)


def main(argv: Sequence[str] | None = None) -> int:
    """Read {"pairs": [[tensor of FIRST, of SECOND], ...], "photos": [path, ...]}; print sums over all photos.

    For each pair: `signal` of the first's squares, `power` of the second's, and `cross` of their products.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 2:
        print("usage: layer_probe FIRST.tflite SECOND.tflite < request", file=sys.stderr)
        return EXIT_USAGE
    request = json.load(sys.stdin)
    pairs = request["pairs"]
    sums = np.zeros((len(pairs), 3))
    try:
        first, second = map(_Interpreter, arguments)
        for path in request["photos"]:
            photo = Path(path).read_bytes()
            for model in (first, second):
                model.run(photo, path)
            for row, (i, j) in zip(sums, pairs, strict=True):
                one, other = first.tensor(i), second.tensor(j)
                row += (one @ one, other @ other, one @ other)
    except EdgeError as error:
        print(error.message, file=sys.stderr)
        return error.exit_status
    names = ("signal", "power", "cross")
    print(json.dumps({name: sums[:, i].tolist() for i, name in enumerate(names)}))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
