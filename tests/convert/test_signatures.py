"""Every command of `convert` that opens a model file verifies its signature first."""

from __future__ import annotations

from pathlib import Path

import pytest

import dermedge
from tests.fixtures import FIXTURES

U8 = str(FIXTURES / "tiny_uint8.tflite")
COMMANDS = {
    "inspect": [U8],
    "evaluate": [U8, "--data", "absent"],
    "compare": [U8, U8, "--data", "absent"],
    "robustness": [U8, "--data", "absent"],
    "card": ["absent", U8, "--out", "card.md"],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_refuses_a_model_without_its_signature(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crypto = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = crypto.Ed25519PrivateKey.generate().public_key()
    public = tmp_path / "public.pem"
    public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    monkeypatch.chdir(tmp_path)
    assert dermedge.main([verb, *COMMANDS[verb], "--require-signature", str(public)]) == 3
    assert f"{U8}.sig" in capsys.readouterr().err
    assert dermedge.main([verb, *COMMANDS[verb], "--min-version", "1"]) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["public.pem"]
