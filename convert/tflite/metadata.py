"""The standard TFLite metadata: labels, normalization and image properties for MediaPipe, ML Kit and Task Library.

A flatbuffer of the published schema `metadata_schema.fbs` (google-ai-edge/mediapipe, mediapipe/tasks/metadata), file
identifier M001, stored in the model's buffer named TFLITE_METADATA. It is written slot by slot: the publisher's writer
comes only with MediaPipe, whose pins exclude tensorflow-model-optimization. All of it is generated from the contract;
crop and filter, for which it has no field, are in the contract only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema

from edge_runtime.contract import LABELS_ENTRY, ModelContract

BUFFER_NAME = b"TFLITE_METADATA"
FILE_IDENTIFIER = b"M001"
# Of the schema: the first version that knows every field used here is 1.0.0.
MIN_PARSER_VERSION = "1.0.0"
AUTHOR = "DermEdge"
# Numbers of the schema's enumerations and unions.
TENSOR_AXIS_LABELS = 2
COLOR_SPACE_RGB = 1
CONTENT_FEATURE, CONTENT_IMAGE = 1, 2
PROCESS_NORMALIZATION = 1

Fields = dict[int, Any]
"""Slot to value: a string, a number with its type (`("Int8", 2)`), a `_Table`, or a list of tables or floats."""


@dataclass(frozen=True)
class _Table:
    slots: int
    """Of the schema."""
    fields: Fields


def build_metadata(contract: ModelContract, *, quantized: bool) -> bytes:
    """The metadata, a ModelMetadata flatbuffer, of a model with one image input and one score per label.

    The input is uint8 if quantized; its value range is in its own unit.
    """
    provenance = contract.provenance
    subgraph = {0: "main", 2: [_input_tensor(contract, quantized)], 3: [_output_tensor(quantized)]}
    model = {
        0: contract.model_id,
        1: contract.intended_use,
        2: f"{provenance.run_id} {provenance.recipe}",
        3: [_Table(10, subgraph)],
        4: AUTHOR,
        5: provenance.model_licence,
        7: MIN_PARSER_VERSION,
    }
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, _Table(8, model)), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _input_tensor(contract: ModelContract, quantized: bool) -> _Table:
    mean, std = contract.normalization.mean, contract.normalization.std
    size = _Table(2, {0: ("Uint32", contract.input.width_px), 1: ("Uint32", contract.input.height_px)})
    image = _Table(2, {0: ("Int8", COLOR_SPACE_RGB), 1: size})
    unit = _Table(2, {0: ("Uint8", PROCESS_NORMALIZATION), 1: _Table(2, {0: [mean], 1: [std]})})
    low, high = (0.0, 255.0) if quantized else ((0 - mean) / std, (255 - mean) / std)
    fields = {
        0: "image",
        1: "The photo, cropped and resized as edge_contract.json says, RGB.",
        3: _Table(3, {0: ("Uint8", CONTENT_IMAGE), 1: image}),
        4: [unit],
        5: _Table(2, {0: [high], 1: [low]}),
    }
    return _Table(7, fields)


def _output_tensor(quantized: bool) -> _Table:
    labels = {0: LABELS_ENTRY, 1: "Label codes in output order, one a line.", 2: ("Int8", TENSOR_AXIS_LABELS)}
    fields = {
        0: "scores",
        1: "Probability of each label.",
        3: _Table(3, {0: ("Uint8", CONTENT_FEATURE), 1: _Table(0, {})}),
        6: [_Table(5, labels)],
        5: _Table(2, {0: [255.0 if quantized else 1.0], 1: [0.0]}),
    }
    return _Table(7, fields)


def _write(builder: Any, table: _Table) -> int:
    """Write a table and all below it, tables first, then vectors, then strings; return its offset."""
    ready: Fields = {}
    for slot, value in table.fields.items():
        if isinstance(value, _Table):
            ready[slot] = _write(builder, value)
        elif isinstance(value, list) and isinstance(value[0], _Table):
            ready[slot] = [_write(builder, child) for child in value]
    for slot, value in table.fields.items():
        if isinstance(value, list):
            ready[slot] = _vector(builder, ready.get(slot, value))
    for slot, value in table.fields.items():
        if isinstance(value, str):
            ready[slot] = builder.CreateString(value)
    builder.StartObject(table.slots)
    for slot, value in sorted(table.fields.items()):
        if isinstance(value, tuple):
            getattr(builder, f"Prepend{value[0]}Slot")(slot, value[1], 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, ready[slot], 0)
    offset: int = builder.EndObject()
    return offset


def _vector(builder: Any, items: Sequence[int | float]) -> int:
    """Offsets of tables, or floats."""
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        if isinstance(item, float):
            builder.PrependFloat32(item)
        else:
            builder.PrependUOffsetTRelative(item)
    offset: int = builder.EndVector()
    return offset


def put_metadata(model: Any, metadata: bytes) -> None:
    """Set the metadata of a model object (`embed.read_object`)."""
    model.metadata = [entry for entry in model.metadata or [] if entry.name != BUFFER_NAME]
    buffer = schema.BufferT()
    # A list and not an array: an array is written without the 16-byte alignment that the schema asks for.
    buffer.data = list(metadata)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = BUFFER_NAME
    entry.buffer = len(model.buffers) - 1
    model.metadata.append(entry)
