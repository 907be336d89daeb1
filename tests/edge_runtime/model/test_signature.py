"""Detached signatures: the right one opens, everything else is refused before native code sees the model."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.diagnostics import parity
from edge_runtime.errors import ModelOutdated, ModelUnsigned, UsageError
from edge_runtime.model import signature
from tests.fixtures import FIXTURES, pictures
from tests.fixtures.bad_models import good, with_altered_weights

try:
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    ed25519 = None  # type: ignore[assignment, unused-ignore]

signing = pytest.mark.skipif(ed25519 is None, reason="cryptography is not installed")
U8 = FIXTURES / "tiny_uint8.tflite"
SEED = bytes(range(32))


def write_statement(model: Path, name: str = "tiny_uint8", version: str = "3", **changes: bytes) -> None:
    """Signs a statement beside a model; `end` and `head` change its text."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    text = f"dermedge-signature 1\nname {name}\nversion {version}\nsha256 {digest}\n".encode()
    text = changes.get("head", b"") + text + changes.get("end", b"")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)
    Path(f"{model}.sig").write_bytes(text + key.sign(text))


def pem(key: object) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A model with a signature in the older form, and the public key."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)
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
@pytest.mark.parametrize("hostile", ["statement", "bytes"])
def test_nothing_is_parsed_before_the_signature_fits(
    signed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, hostile: str
) -> None:
    model, public = signed
    if hostile == "bytes":
        model.write_bytes(b"not a model")
    else:
        Path(f"{model}.sig").write_bytes(b"dermedge-signature 1\n" + bytes(64))
    parsed: list[str] = []
    monkeypatch.setattr(signature, "parse_model", lambda *_, **__: parsed.append("parsed"))
    with pytest.raises(ModelUnsigned):
        Classifier.open(model, signature_key=str(public))
    assert parsed == []


@signing
def test_other_signatures_and_keys_are_refused(signed: tuple[Path, Path], tmp_path: Path) -> None:
    model, public = signed
    signature = Path(f"{model}.sig")
    whole = signature.read_bytes()
    for wrong in (b"", whole[:-1], whole + b"\n", bytes(64), bytes(2000)):
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


@signing
@pytest.mark.parametrize("oldest", [None, 3, "2", "tiny_uint8:3"])
def test_a_statement_opens(signed: tuple[Path, Path], oldest: str | int | None) -> None:
    model, public = signed
    write_statement(model)
    Classifier(model, signature_key=str(public), min_version=oldest).close()


@signing
@pytest.mark.parametrize(
    ("name", "version", "changes", "oldest", "error"),
    [
        ("tiny_uint8", "2", {}, "3", ModelOutdated),
        ("tiny_uint8", "9", {}, "10", ModelOutdated),
        ("tiny_uint8", "9", {}, "other:1", ModelUnsigned),
        ("other", "9", {}, None, ModelUnsigned),
        ("tiny_uint8", "-1", {}, None, ModelUnsigned),
        ("tiny_uint8", "1.0", {}, None, ModelUnsigned),
        ("tiny_uint8", "\u0663", {}, None, ModelUnsigned),
        ("tiny_uint8", "1" * 10, {}, None, ModelUnsigned),
        ("tiny_uint8\nversion 9", "1", {}, None, ModelUnsigned),
        ("x" * 257, "1", {}, None, ModelUnsigned),
        ("", "1", {}, None, ModelUnsigned),
        ("tiny_uint8", "1", {"end": b"version 9\n"}, None, ModelUnsigned),
        ("tiny_uint8", "1", {"head": b"\n"}, None, ModelUnsigned),
        ("tiny_uint8", "1", {"end": b"x" * 2000}, None, ModelUnsigned),
    ],
)
def test_other_statements_are_refused(
    signed: tuple[Path, Path],
    name: str,
    version: str,
    changes: dict[str, bytes],
    oldest: str | None,
    error: type,
) -> None:
    model, public = signed
    write_statement(model, name, version, **changes)
    with pytest.raises(error) as caught:
        Classifier(model, signature_key=str(public), min_version=oldest)
    assert caught.value.code == ("model-outdated" if error is ModelOutdated else "model-unsigned")


@signing
def test_a_statement_is_of_one_file_and_the_older_form_has_no_version(signed: tuple[Path, Path]) -> None:
    model, public = signed
    with pytest.raises(ModelUnsigned) as caught:
        Classifier(model, signature_key=str(public), min_version=0)
    assert caught.value.code == "model-unsigned"
    write_statement(model)
    model.write_bytes(with_altered_weights(good()))
    with pytest.raises(ModelUnsigned):
        Classifier(model, signature_key=str(public))


def test_a_version_needs_a_key_and_a_number() -> None:
    with pytest.raises(UsageError) as caught:
        Classifier(U8, min_version=1)
    assert caught.value.code == "usage"
    for version in ("", "x", "1.2", "a:", "-1", -1, "1" * 10):
        with pytest.raises(UsageError) as caught:
            Classifier(U8, signature_key="key.pem", min_version=version)
        assert caught.value.where == "--min-version"


@signing
def test_key_and_signature_are_small_regular_files(signed: tuple[Path, Path], tmp_path: Path) -> None:
    model, public = signed
    huge, fifo = tmp_path / "huge", tmp_path / "fifo"
    with huge.open("wb") as file:
        file.truncate(10 * 2**30)
    os.mkfifo(fifo)
    for other in (fifo, huge, tmp_path, Path(os.devnull), Path("/dev/zero"), Path("/dev/tty")):
        with pytest.raises(UsageError) as caught:
            Classifier(model, signature_key=str(other))
        assert caught.value.code == "usage"
        Path(f"{model}.sig").unlink()
        Path(f"{model}.sig").symlink_to(other)
        with pytest.raises(ModelUnsigned) as unsigned:
            Classifier(model, signature_key=str(public))
        assert unsigned.value.code == "model-unsigned"


@signing
@pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed. Install it to run this test"
)
def test_the_commands_of_the_documentation_sign_a_model(tmp_path: Path) -> None:
    model = Path(shutil.copy(U8, tmp_path / "model.tflite"))
    documented = re.search(r"^    printf.*?model\.tflite\.sig$", signature.__doc__ or "", re.M | re.S)
    assert documented is not None
    keys = (
        "openssl genpkey -algorithm ed25519 -out key.pem\nopenssl pkey -in key.pem -pubout -out public.pem\n"
    )
    commands = keys + documented[0].replace("MODEL_ID", "tiny_uint8")
    subprocess.run(["sh", "-e", "-c", commands], cwd=tmp_path, check=True, capture_output=True)
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(pictures.jpeg())
    words = [str(model), str(photo), "--out", str(tmp_path / "trace.json")]
    key = ["--require-signature", str(tmp_path / "public.pem"), "--min-version"]
    assert parity.main(["trace", *words, *key, "tiny_uint8:3"]) == 0
    assert parity.main(["trace", *words, *key, "4"]) == 3
