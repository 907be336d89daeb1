r"""Signed models: a statement of name, version and SHA-256 under an Ed25519 signature, verified before any parser runs.

    printf 'dermedge-signature 1\nname %s\nversion %d\nsha256 %s\n' MODEL_ID 3 \
        "$(sha256sum model.tflite | cut -c1-64)" > statement
    openssl pkeyutl -sign -rawin -inkey key.pem -in statement -out statement.sig
    cat statement statement.sig > model.tflite.sig

The key is made by `openssl genpkey -algorithm ed25519 -out key.pem` and `openssl pkey -in key.pem -pubout -out
public.pem`. The version is a whole number that grows with each release. A file MODEL.sig of 64 bytes is the older form,
a signature of the model's bytes: it binds neither name nor version, and is refused where a version is required.
Which version is the oldest to accept is the caller's to say; nothing is remembered. Java reads the same form.
"""

from __future__ import annotations

import os
import re

from edge_runtime.errors import ModelOutdated, ModelUnsigned, UsageError
from edge_runtime.model.flatbuffer import DEFAULT_LIMITS, Limits
from edge_runtime.model.model_file import ModelFile, parse_model, read_model, read_regular

SUFFIX = ".sig"
SIGNATURE_BYTES = 64
MAX_STATEMENT_BYTES = 1024
MAX_KEY_BYTES = 65_536
_VERSION = "[0-9]{1,9}"
_STATEMENT = (
    rb"dermedge-signature 1\nname ([^\x00-\x1f]{1,256})\nversion (%b)\nsha256 ([0-9a-f]{64})\n"
    % _VERSION.encode()
)


def open_signed(
    path: str | os.PathLike[str] | None,
    key_path: str,
    min_version: str | int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> ModelFile:
    """Open a model file whose signature fits.

    Args:
        path: As `open_model`; the signature stands beside it, in MODEL.sig.
        key_path: A PEM file with an Ed25519 public key.
        min_version: The oldest version to accept, N or NAME:N; with a name, only the model of that name. None accepts
            any version, and the older form of signatures.
        limits: As `open_model`.

    Raises:
        ModelUnsigned: No signature, or one that does not fit file and key, or of another model.
        ModelOutdated: An older version.
        UsageError: No such key, an invalid `min_version`, or `cryptography` is not installed.
        ModelFileError: As `open_model`.
    """
    wanted, oldest = _wanted(min_version)
    where, data = read_model(path)
    name, version = _verified(where, data, key_path)
    if oldest is not None:
        if version is None:
            raise _unsigned(where, "a signature of the model's bytes alone, without a version")
        if wanted and name != wanted:
            raise _unsigned(where, f"a signature of the model {name}, not {wanted}")
        if version < oldest:
            problem, fix = "the model is older than required", "get the newest model"
            found, expected = f"version {version}", f"version {oldest} or newer"
            raise ModelOutdated(problem, where=where, found=found, expected=expected, fix=fix)
    model = parse_model(data, where, trusted=path is None, vouched=True, limits=limits)
    if version is not None and name != model.contract.model_id:
        raise _unsigned(where, f"a signature of the model {name}; the file holds {model.contract.model_id}")
    return model


def _wanted(min_version: str | int | None) -> tuple[str, int | None]:
    """Return name, empty for any, and version of `min_version`."""
    if min_version is None:
        return "", None
    name, _, number = str(min_version).rpartition(":")
    if not re.fullmatch(_VERSION, number):
        found = str(min_version)
        raise UsageError("invalid version", where="--min-version", found=found, expected="N or NAME:N")
    return name, int(number)


def _verified(where: str, data: bytes, key_path: str) -> tuple[str, int | None]:
    """Return name and version of the statement; "" and None of a signature in the older form."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # type: ignore[import-not-found, unused-ignore]
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # type: ignore[import-not-found, unused-ignore]
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UsageError(
            "signatures cannot be verified", found="no cryptography", fix="pip install cryptography"
        ) from error
    try:
        key = load_pem_public_key(read_regular(key_path, MAX_KEY_BYTES))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        found = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise _no_key(key_path, found, "openssl pkey -in key.pem -pubout -out public.pem") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(key_path, type(key).__name__)
    path = where + SUFFIX
    try:
        content = read_regular(path, MAX_STATEMENT_BYTES + SIGNATURE_BYTES)
        statement, signature = content[:-SIGNATURE_BYTES], content[-SIGNATURE_BYTES:]
        key.verify(signature, statement or data)
    except OSError as error:
        raise _unsigned(where, f"{path}: {error.strerror or error}") from error
    except InvalidSignature as error:
        raise _unsigned(where, f"{path} does not fit this file and this key") from error
    return _read(statement, where, data) if statement else ("", None)


def _read(statement: bytes, where: str, data: bytes) -> tuple[str, int]:
    """Return name and version of a statement whose signature fits."""
    import hashlib

    fields = re.fullmatch(_STATEMENT, statement)
    if fields is None:
        raise _unsigned(where, "a statement of another form")
    if fields[3].decode() != hashlib.sha256(data).hexdigest():
        raise _unsigned(where, "a signature of another file")
    return fields[1].decode("utf-8", "replace"), int(fields[2])


def _no_key(path: str, found: str, fix: str = "") -> UsageError:
    expected = "an Ed25519 public key in PEM form"
    return UsageError("the key cannot be used", where=path, found=found, expected=expected, fix=fix)


def _unsigned(path: str, found: str) -> ModelUnsigned:
    return ModelUnsigned(
        "the model is not signed with the required key",
        where=path,
        found=found,
        expected=f"its Ed25519 signature in {path}{SUFFIX}",
        fix="get model and signature again from where the key is from; use neither until they fit",
    )
