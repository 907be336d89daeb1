"""A detached Ed25519 signature of a model file, verified with `cryptography` before any native code sees the model.

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out public.pem
    openssl pkeyutl -sign -rawin -inkey key.pem -in model.tflite -out model.tflite.sig

The signature is the 64 bytes that OpenSSL writes, in the file MODEL.sig; the key is a public key in PEM form.
"""

# ruff: noqa: PTH123

from __future__ import annotations

from edge_runtime.errors import ModelUnsigned, UsageError
from edge_runtime.model.model_file import ModelFile

SUFFIX = ".sig"
SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 65_536


def require_signature(model: ModelFile, key_path: str) -> None:
    """Refuses a model that is not signed with this key.

    Args:
        model: An opened model; its signature stands beside its file.
        key_path: A PEM file with an Ed25519 public key.

    Raises:
        ModelUnsigned: No signature, or one that does not fit file and key.
        UsageError: No such key, or `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # type: ignore[import-not-found, unused-ignore]
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # type: ignore[import-not-found, unused-ignore]
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UsageError(
            "signatures cannot be verified", found="no cryptography", fix="pip install cryptography"
        ) from error
    try:
        key = load_pem_public_key(_read(key_path, MAX_KEY_BYTES))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        found = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise _no_key(key_path, found, "openssl pkey -in key.pem -pubout -out public.pem") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(key_path, type(key).__name__)
    path = model.path + SUFFIX
    try:
        signature = _read(path, SIGNATURE_BYTES + 1)
    except OSError as error:
        raise _unsigned(model.path, f"{path}: {error.strerror or error}") from error
    try:
        key.verify(signature, model.data)
    except InvalidSignature as error:
        raise _unsigned(model.path, f"{path} does not fit this file and this key") from error


def _read(path: str, most: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(most)


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
