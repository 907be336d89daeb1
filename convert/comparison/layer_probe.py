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

from edge_runtime.errors import EXIT_OK, EdgeError
from edge_runtime.runner import Runner

KERNELS = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"


def main() -> int:
    """Read {"pairs": [[tensor of FIRST, of SECOND], ...], "photos": [path, ...]}; print sums over all photos.

    For each pair: `signal` of the first's squares, `power` of the second's, and `cross` of their products.
    """
    request = json.load(sys.stdin)
    sums = np.zeros((len(request["pairs"]), 3))
    try:
        runners = [
            Runner.open(path, engine="litert", kernels=KERNELS, keep_tensors=True) for path in sys.argv[1:3]
        ]
        # `tensor` is no part of the Engine protocol: only this engine keeps inner tensors.
        engines: list[Any] = [runner.engine for runner in runners]
        for path in request["photos"]:
            photo = Path(path).read_bytes()
            for runner in runners:
                runner.run(runner.input_tensor(runner.pixels_u8(photo, name=path)))
            for row, pair in zip(sums, request["pairs"], strict=True):
                one, other = (engine.tensor(index) for engine, index in zip(engines, pair, strict=True))
                row += (one @ one, other @ other, one @ other)
    except EdgeError as error:
        print(error.message, file=sys.stderr)
        return error.exit_status
    names = ("signal", "power", "cross")
    print(json.dumps({name: sums[:, i].tolist() for i, name in enumerate(names)}))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
