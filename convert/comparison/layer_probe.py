"""`python -m convert.comparison.layer_probe FIRST SECOND < REQUEST > SUMS`: inner tensors of two models.

A process of its own, since the tensors of one photo take tens of megabytes; only sums come back. Both models run on
LiteRT's built-in kernels with every tensor kept: XNNPACK would keep none. numpy, LiteRT, edge_runtime.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from convert.comparison.workers import model_of
from edge_runtime.errors import EXIT_OK, EdgeError, ImageError
from edge_runtime.runner import Runner

KERNELS = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"


def main() -> int:
    """Read {"pairs": [[tensor of FIRST, of SECOND], ...], "photos": [path, ...], "count": N}; print sums.

    For each pair: `signal` of the first's squares, `power` of the second's, and `cross` of their products, over the
    first N readable photos, whose number is `photos`.
    """
    request = json.load(sys.stdin)
    sums = np.zeros((len(request["pairs"]), 3))
    try:
        runners = [
            Runner.open(model_of(word), engine="litert", kernels=KERNELS, keep_tensors=True)
            for word in sys.argv[1:3]
        ]
        # `tensor` is no part of the Engine protocol: only this engine keeps inner tensors.
        engines: list[Any] = [runner.engine for runner in runners]
        used = 0
        for path in request["photos"]:
            try:
                photo = Path(path).read_bytes()
                tensors = [runner.input_tensor(runner.pixels_u8(photo, name=path)) for runner in runners]
            except (OSError, ImageError):
                continue
            for runner, tensor in zip(runners, tensors, strict=True):
                runner.run(tensor)
            for row, pair in zip(sums, request["pairs"], strict=True):
                one, other = (engine.tensor(index) for engine, index in zip(engines, pair, strict=True))
                row += (one @ one, other @ other, one @ other)
            used += 1
            if used == request["count"]:
                break
    except EdgeError as error:
        print(error.message, file=sys.stderr)
        return error.exit_status
    signal, power, cross = sums.T.tolist()
    print(json.dumps({"photos": used, "signal": signal, "power": power, "cross": cross}))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
