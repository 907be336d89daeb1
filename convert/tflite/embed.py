"""Puts metadata into the flatbuffer, and contract, labels and golden pictures into stored zip entries at its tail.

Stored and not deflated, since Android's reader takes only such entries; with a fixed date, since equal input must give
equal bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from convert.tflite.metadata import build_metadata, put_metadata
from convert.tflite.spec import read_object, write_object
from edge_runtime.contract import CONTRACT_ENTRY, LABELS_ENTRY, ModelContract

# The earliest that a zip archive can say.
ENTRY_DATE = (1980, 1, 1, 0, 0, 0)
# Regular file, readable by all, owner may write; Python's default would depend on nothing, but says 0600.
ENTRY_MODE = 0o100644 << 16


def embed_metadata(tflite: bytes, contract: ModelContract, *, quantized: bool) -> bytes:
    """The model with the standard TFLite metadata inside; tensors and operators unchanged."""
    model = read_object(tflite)
    put_metadata(model, build_metadata(contract, quantized=quantized))
    return write_object(model)


def embed_entries(tflite: bytes, contract: ModelContract, golden_pictures: Mapping[str, bytes]) -> bytes:
    """The model with its zip tail: edge_contract.json, labels.txt, golden pictures.

    Args:
        tflite: A flatbuffer without a tail.
        contract: Its golden vectors name the pictures.
        golden_pictures: Entry name to PNG bytes.
    """
    labels = "".join(f"{label.code}\n" for label in contract.labels)
    entries = {CONTRACT_ENTRY: contract.to_json().encode(), LABELS_ENTRY: labels.encode(), **golden_pictures}
    buffer = io.BytesIO(tflite)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name, ENTRY_DATE)
            info.compress_type = zipfile.ZIP_STORED
            info.create_system = 3
            info.external_attr = ENTRY_MODE
            archive.writestr(info, content)
    return buffer.getvalue()
