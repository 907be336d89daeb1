"""Everything that is there only to start fast: one photo must be classified in half the time of a ten-line script.

DERMEDGE_PLAIN=1 in the environment switches all of it off: standard library and Pillow as anybody would use them, the
same bytes and the same JSON (tests/edge_runtime/_startup/test_plain.py). Use it to see whether a trick is to blame, and
with releases of Python or Pillow that are newer than this code. Milliseconds are the processor time that switching one
trick off adds to one `edge-classify` on a 600 x 450 JPEG, of 57 ms (lowest of 15 to 50 paired runs, x86-64, Python
3.11, 30 November 2026); they overlap, and all together are 83 ms.

    trick                    where                   saves   without it
    records                  records.py              37 ms   dataclasses (imports inspect, ast, dis, re, typing)
    TYPE_CHECKING = False    records.py              16 ms   typing
    JSON by the C scanner    json_reader.py           6 ms   json (imports re, enum); also where that scanner differs
    JPEG by Pillow's core    fast_jpeg, core_image   40 ms   PIL.Image and the JPEG plugin; also on releases of Pillow
                                                             that the tests have not compared, and for other files
    photos need no argparse  cli/command.parse       19 ms   argparse
    import ahead             process.import_ahead    (wall)  imports one after another
    no garbage collection    process.GcPaused         2 ms   the collector as Python sets it
    no finalization          process.run              5 ms   sys.exit

Not switched, since there is nothing to fall back to: functions and modules that are imported where they are used;
`os.path` instead of pathlib; the version of ai-edge-litert read from a folder's name instead of importlib.metadata; the
model's SHA-256 computed when it is read; tables remembered in a dict instead of functools.lru_cache. LiteRT's C API is
an engine, not a trick: it needs no numpy, gives the Interpreter's bits, and `engine="litert"` selects the Interpreter.
"""

from __future__ import annotations

import os

PLAIN = os.environ.get("DERMEDGE_PLAIN", "") not in ("", "0")
