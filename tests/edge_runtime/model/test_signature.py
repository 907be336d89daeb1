"""Detached signatures: the right one opens, everything else is refused before native code sees the model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.errors import ModelUnsigned, UsageError
from edge_runtime.model.model_file import open_model
from edge_runtime.model.signature import require_signature
from tests.fixtures import FIXTURES
from tests.fixtures.bad_models import good, with_altered_weights

try:
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    ed25519 = None  # type: ignore[assignment, unused-ignore]

signing = pytest.mark.skipif(ed25519 is None, reason="cryptography is not installed")
U8 = FIXTURES / "tiny_uint8.tflite"


def pem(key: object) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A signed model and the public key."""
    key = ed25519.Ed25519PrivateKey.generate()
    model = Path(shutil.copy(U8, tmp_path / "model.tflite"))
    Path(f"{model}.sig").write_bytes(key.sign(model.read_bytes()))
    public = tmp_path / "public.pem"
    public.write_bytes(pem(key.public_key()))
    return model, public


@signing
def test_a_signed_model_opens(signed: tuple[Path, Path]) -> None:
    model, public = signed
    with Classifier.open(model, signature_key=str(public)) as classifier:
        assert classifier.engine.name


@signing
def test_a_tampered_model_is_refused(signed: tuple[Path, Path]) -> None:
    model, public = signed
    model.write_bytes(with_altered_weights(good()))
    Classifier.open(model).close()
    with pytest.raises(ModelUnsigned) as caught:
        Classifier.open(model, signature_key=str(public))
    assert caught.value.code == "model-unsigned"
    assert caught.value.exit_status == 3


@signing
def test_the_bytes_in_memory_are_verified_and_not_the_file(signed: tuple[Path, Path]) -> None:
    path, public = signed
    whole = path.read_bytes()
    path.write_bytes(with_altered_weights(good()))
    altered = open_model(path)
    path.write_bytes(whole)
    require_signature(open_model(path), str(public))
    with pytest.raises(ModelUnsigned) as caught:
        require_signature(altered, str(public))
    assert caught.value.code == "model-unsigned"


@signing
def test_other_signatures_and_keys_are_refused(signed: tuple[Path, Path], tmp_path: Path) -> None:
    model, public = signed
    signature = Path(f"{model}.sig")
    whole = signature.read_bytes()
    for wrong in (b"", whole[:-1], whole + b"\n", bytes(64)):
        signature.write_bytes(wrong)
        with pytest.raises(ModelUnsigned):
            Classifier.open(model, signature_key=str(public))
    signature.unlink()
    with pytest.raises(ModelUnsigned) as caught:
        Classifier.open(model, signature_key=str(public))
    assert "No such file" in caught.value.found
    signature.write_bytes(whole)
    public.write_bytes(pem(ed25519.Ed25519PrivateKey.generate().public_key()))
    with pytest.raises(ModelUnsigned):
        Classifier.open(model, signature_key=str(public))
    public.write_bytes(pem(rsa.generate_private_key(65537, 2048).public_key()))
    dotted = tmp_path / "my.own.key.pem"
    for key, found in (
        (public, "RSAPublicKey"),
        (model, "MalformedFraming"),
        (dotted, "No such file or directory"),
    ):
        with pytest.raises(UsageError, match="key cannot be used") as caught:
            Classifier.open(model, signature_key=str(key))
        assert found in caught.value.found
        assert "Errno" not in caught.value.found and "\n" not in caught.value.found


@pytest.mark.skipif(ed25519 is not None, reason="cryptography is installed")
def test_without_cryptography_the_cure_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        Classifier.open(U8, signature_key="key.pem")
    assert caught.value.fix == "pip install cryptography"
