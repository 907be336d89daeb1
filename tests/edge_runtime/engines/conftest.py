from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.engines import validation


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of verdicts, which is this test's own, also for what the process remembers."""
    monkeypatch.setenv(validation.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(validation, "_known", {})
    return tmp_path / "cache" / "dermedge"
