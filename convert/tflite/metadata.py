"""The standard TFLite metadata: labels, normalization and image properties for MediaPipe, ML Kit and Task Library.

A flatbuffer of the published schema `metadata_schema.fbs` (google-ai-edge/mediapipe, mediapipe/tasks/metadata), file
identifier M001, stored in the model's buffer named TFLITE_METADATA. It is built slot by slot: the publisher's writer
comes only with MediaPipe, which pins packages that tensorflow-model-optimization cannot live with. Everything in it is
generated from the contract; what it has no field for (crop, filter) only the contract says.
"""

from __future__ import annotations

from collections.abc import Sequence
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

Slot = tuple[int, str, int | str]
"""Slot number; `int8`, `uint8` or `uint32` with a number, `offset` with an offset, `text` with a string."""


def build_metadata(contract: ModelContract, *, quantized: bool) -> bytes:
    """The metadata of a model with one image input and one score per label.

    Args:
        contract: Of the model.
        quantized: Whether its input is uint8; the tensor's value range is said in its own unit.

    Returns:
        A ModelMetadata flatbuffer.
    """
    builder = flatbuffers.Builder(1024)
    input_tensor = _input_tensor(builder, contract, quantized)
    output_tensor = _output_tensor(builder, quantized)
    subgraph = _table(
        builder,
        10,
        [
            (0, "text", "main"),
            (2, "offset", _offsets(builder, [input_tensor])),
            (3, "offset", _offsets(builder, [output_tensor])),
        ],
    )
    provenance = contract.provenance
    model = _table(
        builder,
        8,
        [
            (0, "text", contract.model_id),
            (1, "text", contract.intended_use),
            (2, "text", f"{provenance.run_id} {provenance.recipe}"),
            (3, "offset", _offsets(builder, [subgraph])),
            (4, "text", AUTHOR),
            (5, "text", provenance.model_licence),
            (7, "text", MIN_PARSER_VERSION),
        ],
    )
    builder.Finish(model, FILE_IDENTIFIER)
    return bytes(builder.Output())


def _input_tensor(builder: Any, contract: ModelContract, quantized: bool) -> int:
    mean, std = contract.normalization.mean, contract.normalization.std
    size = _table(
        builder, 2, [(0, "uint32", contract.input.width_px), (1, "uint32", contract.input.height_px)]
    )
    image = _table(builder, 2, [(0, "int8", COLOR_SPACE_RGB), (1, "offset", size)])
    content = _table(builder, 3, [(0, "uint8", CONTENT_IMAGE), (1, "offset", image)])
    options = _table(
        builder, 2, [(0, "offset", _floats(builder, [mean])), (1, "offset", _floats(builder, [std]))]
    )
    unit = _table(builder, 2, [(0, "uint8", PROCESS_NORMALIZATION), (1, "offset", options)])
    low, high = (0.0, 255.0) if quantized else ((0 - mean) / std, (255 - mean) / std)
    stats = _table(
        builder, 2, [(0, "offset", _floats(builder, [high])), (1, "offset", _floats(builder, [low]))]
    )
    return _table(
        builder,
        7,
        [
            (0, "text", "image"),
            (1, "text", "The photo, cropped and resized as edge_contract.json says, RGB."),
            (3, "offset", content),
            (4, "offset", _offsets(builder, [unit])),
            (5, "offset", stats),
        ],
    )


def _output_tensor(builder: Any, quantized: bool) -> int:
    properties = _table(builder, 0, [])
    content = _table(builder, 3, [(0, "uint8", CONTENT_FEATURE), (1, "offset", properties)])
    labels = _table(
        builder,
        5,
        [
            (0, "text", LABELS_ENTRY),
            (1, "text", "Label codes in output order, one a line."),
            (2, "int8", TENSOR_AXIS_LABELS),
        ],
    )
    high = 255.0 if quantized else 1.0
    stats = _table(
        builder, 2, [(0, "offset", _floats(builder, [high])), (1, "offset", _floats(builder, [0.0]))]
    )
    return _table(
        builder,
        7,
        [
            (0, "text", "scores"),
            (1, "text", "Probability of each label."),
            (3, "offset", content),
            (5, "offset", stats),
            (6, "offset", _offsets(builder, [labels])),
        ],
    )


def _table(builder: Any, slots: int, fields: Sequence[Slot]) -> int:
    """Writes a table with the schema's number of slots; returns its offset."""
    # Strings lie outside the table and must be written before it.
    ready = [(i, kind, builder.CreateString(x) if kind == "text" else x) for i, kind, x in fields]
    builder.StartObject(slots)
    for slot, kind, value in ready:
        if kind in ("text", "offset"):
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        elif kind == "int8":
            builder.PrependInt8Slot(slot, value, 0)
        elif kind == "uint8":
            builder.PrependUint8Slot(slot, value, 0)
        else:
            builder.PrependUint32Slot(slot, value, 0)
    offset: int = builder.EndObject()
    return offset


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return _end_vector(builder)


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return _end_vector(builder)


def _end_vector(builder: Any) -> int:
    offset: int = builder.EndVector()
    return offset


def put_metadata(model: Any, metadata: bytes) -> None:
    """Adds the metadata to a model object (see `tensors.read_object`), replacing any that is there."""
    model.metadata = [entry for entry in model.metadata or [] if entry.name != BUFFER_NAME]
    buffer = schema.BufferT()
    # A list and not an array: an array is written without the 16-byte alignment that the schema asks for.
    buffer.data = list(metadata)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name = BUFFER_NAME
    entry.buffer = len(model.buffers) - 1
    model.metadata.append(entry)
