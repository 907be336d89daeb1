"""The only place that touches an inference library, and where its errors become ours.

    engine.py              what an engine is; names of engines and accelerators
    loading.py             `open_engine`: which library runs the model, and which were skipped
    litert_c.py            LiteRT by its C API through ctypes: no numpy, the fastest
    interpreter.py         LiteRT by `ai_edge_litert.interpreter`, and tflite-runtime, its predecessor: numpy
    fallback.py, probe.py  accelerators, validated in a child process; the CPU where they fail
    first_load.py          a model of unknown origin, tried in a child process first
    validation.py          starts the child process, child.py, and caches its results
    opening.py             model file and engine together, for `Classifier`

Importing this package imports no inference library.
"""

from edge_runtime.engines.engine import ACCELERATORS as ACCELERATORS
from edge_runtime.engines.engine import ENGINES as ENGINES
from edge_runtime.engines.engine import Engine as Engine
from edge_runtime.engines.loading import open_engine as open_engine
