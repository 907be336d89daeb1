"""Metadata in the flatbuffer; contract, labels and self-test pictures in stored zip entries at its tail.

Stored and not deflated: Android's reader takes only such entries. With a fixed date: equal input gives equal bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from tensorflow.lite.tools import flatbuffer_utils

from convert.tflite.metadata import build_metadata, put_metadata
from edge_runtime.contract import CONTRACT_ENTRY, LABELS_ENTRY, ModelContract

# The earliest that a zip archive can say.
ENTRY_DATE = (1980, 1, 1, 0, 0, 0)
# Regular file, readable by all, owner may write; Python's default would depend on nothing, but says 0600.
ENTRY_MODE = 0o100644 << 16


def read_object(tflite: bytes) -> Any:
    """The model as TensorFlow's generated, mutable object."""
    return flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))


def write_object(model: Any) -> bytes:
    """The inverse of `read_object`."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def embed_metadata(tflite: bytes, contract: ModelContract, *, quantized: bool) -> bytes:
    """The model with the standard TFLite metadata inside; tensors and operators unchanged."""
    model = read_object(tflite)
    put_metadata(model, build_metadata(contract, quantized=quantized))
    return write_object(model)


def embed_entries(tflite: bytes, contract: ModelContract, pictures: Mapping[str, bytes]) -> bytes:
    """The model, until now without a tail, with its zip tail: edge_contract.json, labels.txt, self-test pictures.

    Pictures are PNG bytes by entry name, as the contract's self-test vectors name them.
    """
    labels = "".join(f"{label.code}\n" for label in contract.labels)
    entries = {CONTRACT_ENTRY: contract.to_json().encode(), LABELS_ENTRY: labels.encode(), **pictures}
    buffer = io.BytesIO(tflite)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name, ENTRY_DATE)
            info.compress_type = zipfile.ZIP_STORED
            info.create_system = 3
            info.external_attr = ENTRY_MODE
            archive.writestr(info, content)
    return buffer.getvalue()
