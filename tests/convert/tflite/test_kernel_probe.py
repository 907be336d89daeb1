"""Kernel sets in processes of their own: an absent one is reported, a silent one ends the conversion."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from convert.tflite import kernel_probe
from edge_runtime.errors import ConversionRefused
from tests.fixtures import FIXTURES

MODEL = (FIXTURES / "tiny_uint8.tflite").read_bytes()


def test_a_kernel_set_that_takes_too_long_ends_the_conversion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were it taken for one that is not installed, a busy machine would choose other golden pictures."""

    def slow(*_: object, **options: Any) -> Any:
        raise subprocess.TimeoutExpired("probe", options["timeout"])

    monkeypatch.setattr(kernel_probe.subprocess, "run", slow)
    with pytest.raises(ConversionRefused) as caught:
        kernel_probe.probe(MODEL, [], "BUILTIN_REF")
    assert "BUILTIN_REF" in caught.value.what and "1200 s" in caught.value.found


def test_a_kernel_set_that_dies_is_reported() -> None:
    said, outputs = kernel_probe.probe(MODEL[:100], [b""], "BUILTIN_REF")
    assert outputs is None and said
