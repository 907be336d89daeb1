"""Predictions with heat maps where something lacks for one photo."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from edge_runtime import Classifier
from edge_runtime.errors import HeatMapUnwritten, OutOfMemory
from edge_runtime.explain.heat_files import Explained, explain_each
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p

U8 = FIXTURES / "tiny_uint8.tflite"


def test_want_of_memory_is_the_error_of_one_photo_or_of_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "mole.jpg"
    photo.write_bytes(p.jpeg())

    def no_memory(*_: object) -> None:
        raise MemoryError

    with Classifier.open(U8) as classifier:
        for module, name in (("explainer", "lead_map"), ("heat_picture", "draw_picture")):
            with monkeypatch.context() as patched, contextlib.suppress(HeatMapUnwritten):
                patched.setattr(f"edge_runtime.explain.{module}.{name}", no_memory)
                for _, answer in explain_each(classifier, [str(photo)], str(tmp_path)):
                    if name == "lead_map":
                        assert isinstance(answer, OutOfMemory)
                    else:
                        assert isinstance(answer, Explained) and answer.failure is not None
    assert [path.name for path in tmp_path.iterdir()] == ["mole.jpg"]
