"""Everything that is there only to start fast: one photo must be classified in half the time of a ten-line script.

DERMEDGE_PLAIN=1 in the environment switches all of it off: standard library and Pillow as anybody would use them, the
same bytes and the same JSON (tests/edge_runtime/_startup/test_plain.py). Use it to see whether a trick is to blame, and
with releases of Python or Pillow that are newer than this code. Milliseconds are processor time saved of one
`edge-classify` on a 600 x 450 JPEG, x86-64, Python 3.11, 30 November 2026.

    trick                    where                    saves   without it
    records                  records.py                9 ms   dataclasses (imports inspect, ast, dis)
    TYPE_CHECKING = False    records.py                5 ms   typing
    JSON by the C scanner    json_reader.py            4 ms   json (imports re, enum); also where that scanner differs
    JPEG by Pillow's core    fast_jpeg, core_image    24 ms   PIL.Image and the JPEG plugin; also on releases of Pillow
                                                              that the tests have not compared, and for other files
    photos need no argparse  cli/command.parse         6 ms   argparse
    import ahead             process.import_ahead      4 ms   imports one after another
    no garbage collection    process.GcPaused          3 ms   the collector as Python sets it
    no finalization          process.end               3 ms   sys.exit

Not switched, since there is nothing to fall back to: functions and modules that are imported where they are used;
`os.path` instead of pathlib (4 ms); the version of ai-edge-litert read from a folder's name instead of
importlib.metadata (20 ms); the model's SHA-256 computed when it is read. LiteRT's C API is an engine, not a trick: it
needs no numpy (100 ms), gives the Interpreter's bits, and `engine="litert"` selects the Interpreter.
"""

from __future__ import annotations

import os

PLAIN = os.environ.get("DERMEDGE_PLAIN", "") not in ("", "0")
