"""Start-up tricks against what they replace."""

import pytest

from edge_runtime._startup import PLAIN
from edge_runtime._startup.core_image import usable_core

needs_tricks = pytest.mark.skipif(PLAIN, reason="DERMEDGE_PLAIN")
needs_tested_pillow = pytest.mark.skipif(
    usable_core() is None, reason="DERMEDGE_PLAIN, or a Pillow that is not in TESTED_RELEASES"
)
