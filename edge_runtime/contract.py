"""The contract inside a .tflite: everything a device needs to reproduce the desktop's prediction. stdlib only.

Read `ModelContract` first. JSON is read and written strictly: no field has a default, unknown and missing fields are
refused, and all problems are reported together. Scale and zero point are not here: they are read from the tensors.
"""

from __future__ import annotations

import math
import sys
import types

from edge_runtime._startup.json_reader import read_json
from edge_runtime._startup.records import TYPE_CHECKING, dataclass
from edge_runtime.errors import ContractInvalid, ContractTooNew

if TYPE_CHECKING:
    from typing import Any

SCHEMA_VERSION = 1
CONTRACT_ENTRY = "edge_contract.json"
LABELS_ENTRY = "labels.txt"
NOTICE = "Research use only. Not a medical device; not a diagnosis."
# The notice belongs to models whose intended use speaks of these; what a model is for is data, not code.
MEDICAL = ("medical", "diagnos")
CONVERT_AGAIN = "convert the model again with dermedge convert"

# What this runtime implements. A contract that requires anything else is refused, never approximated.
COLOR_SPACES = ("RGB",)
ALPHA_RULES = ("over_white",)
DECODE_SCALINGS = ("none", "jpeg_dct")
EXIF_RULES = ("transpose",)
CROPS = ("center_square", "stretch")
FILTERS = ("bilinear",)
ACTIVATIONS = ("softmax",)
CALIBRATIONS = ("none", "temperature")
MEASURES = ("top_score", "normalized_entropy")
_SCALARS = {"str": str, "int": int, "float": float}
MAX_SIDE_PX = 4096
MAX_LABELS = 10_000
MAX_OVERSAMPLING = 64
MAX_CONTRACT_BYTES = 1024 * 1024
"""Of the JSON document: 10,000 labels fit, and what a hostile one can cost is bounded."""
MAX_GOLDEN = 100
# Beside control characters and lone surrogates: marks that turn the direction of a terminal's text or have no width.
# The two joiners stay: Persian and the languages of India are written with them.
DIRECTION_MARKS = (
    "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
# Beyond these a float32 tensor or a quantizer cannot represent a normalized pixel.
MIN_STD, MAX_STD, MAX_MEAN = 1e-3, 1e6, 1e6


@dataclass(frozen=True)
class Label:
    """One output of the model, in output order."""

    code: str
    """Short unique key, as in the dataset: `mel`."""
    name: str
    """Name to display: `Melanoma`."""
    group: str
    """Parent in the taxonomy: `malignant`. A group's score is the sum of its labels'."""


@dataclass(frozen=True)
class InputSpec:
    """Input tensor: [1, height_px, width_px, 3]."""

    height_px: int
    width_px: int
    color_space: str
    """`RGB`."""
    alpha: str
    """`over_white`: transparent pixels are blended over white."""


@dataclass(frozen=True)
class Geometry:
    """Preprocessing of a photo of any size to height_px x width_px pixels."""

    decode_scaling: str
    """`none`; or `jpeg_dct`: a JPEG is decoded at the smallest scale n/8 (1, 1/2, 1/4, 1/8) that keeps the
    cropped region at least `decode_oversampling` times as large as the input on both sides."""
    decode_oversampling: int
    """1 to 64. Has no effect when decode_scaling is `none`."""
    exif: str
    """`transpose`: EXIF orientation 1 to 8 is applied before the crop."""
    crop: str
    """`center_square`: the central square whose side is round(crop_fraction * shorter side).
    `stretch`: the central crop_fraction of both sides, its aspect ratio not kept."""
    crop_fraction: float
    """In (0, 1]."""
    filter: str
    """`bilinear`: Pillow's BILINEAR, antialiased when shrinking, 8-bit fixed point."""


@dataclass(frozen=True)
class Normalization:
    """real_value = (pixel - mean) / std, pixel in 0..255, the same for the three channels."""

    mean: float
    std: float


@dataclass(frozen=True)
class OutputSpec:
    """Output tensor: [1, labels]."""

    activation: str
    """`softmax`: probabilities, applied inside the model."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of the scores; folded into the model's weights, the runtime applies nothing."""

    method: str
    """`none` or `temperature`."""
    temperature: float
    """Logits were divided by this; 1.0 for `none`."""


@dataclass(frozen=True)
class Rule:
    """A threshold on one number of the prediction."""

    measure: str
    """`top_score`: fires below the threshold. `normalized_entropy` (0 certain, 1 uniform): fires above it."""
    threshold: float
    """In [0, 1]."""
    source: str
    """Photos that were used to set the threshold, and the method."""


@dataclass(frozen=True)
class Decision:
    """Rules for predictions that are not to be used. None: the model has no such rule."""

    refer: Rule | None
    not_a_lesion: Rule | None


@dataclass(frozen=True)
class Provenance:
    """Origin of the model."""

    run_id: str
    recipe: str
    """`float32`, `int8_ptq`, `int8_qat`, ...; `none` for a run directory that is not converted yet."""
    data_name: str
    data_manifest_sha256: str
    data_licence: str
    model_licence: str
    commit: str


@dataclass(frozen=True)
class GoldenVector:
    """A self-test vector: a picture inside the model file and the output that it must give."""

    image: str
    """Name of a stored zip entry, a PNG."""
    image_sha256: str
    pixels_sha256: str
    """Of the height_px * width_px * 3 bytes after crop and resize."""
    output: tuple[float, ...]
    """Raw output tensor: integers for a quantized model, probabilities for a float one."""
    tolerance: float
    """Largest accepted difference of any output, in the unit of `output`. 0 holds only on the runtime below."""
    runtime: str
    """Library and version, kernel set and machine that computed `output`."""


@dataclass(frozen=True)
class ModelContract:
    """Everything a device needs beside the tensors of the file."""

    schema_version: int
    model_id: str
    labels: tuple[Label, ...]
    input: InputSpec
    geometry: Geometry
    normalization: Normalization
    output: OutputSpec
    calibration: Calibration
    decision: Decision
    provenance: Provenance
    intended_use: str
    golden: tuple[GoldenVector, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the labels, in output order."""
        return tuple(label.code for label in self.labels)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of the labels, each once, in order of first appearance."""
        return tuple(dict.fromkeys(label.group for label in self.labels))

    @property
    def notice(self) -> str:
        """What goes with every prediction and page, in one line."""
        intended_use = " ".join(self.intended_use.split())
        medical = any(word in intended_use.lower() for word in MEDICAL)
        return f"{NOTICE} " * medical + f"Intended use: {intended_use}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts and lists, ready for JSON."""
        import json

        plain: dict[str, Any] = json.loads(self.to_json())
        return plain

    def to_json(self) -> str:
        """Return indented JSON with a final newline; equal contracts give equal bytes."""
        import dataclasses
        import json

        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "contract") -> ModelContract:
        """Read and validate a contract.

        Args:
            text: The JSON document, UTF-8 if bytes.
            where: Named in errors: a path, or a path and an entry.

        Raises:
            ContractInvalid: Not JSON, or it breaks the schema; `details` lists the problems.
            ContractTooNew: Written for a later schema.
        """
        try:
            if len(text) > MAX_CONTRACT_BYTES:
                raise ValueError(f"{len(text):,} bytes, more than {MAX_CONTRACT_BYTES:,}")
            # UTF-8 alone, which Java reads: `json` would take UTF-16 and UTF-32 too.
            document = text if isinstance(text, str) else text.decode("utf-8")
            data = read_json(document, _object_without_repeats)
        except (ValueError, RecursionError) as error:
            raise _invalid(": not JSON", where, found=str(error), expected="a JSON object") from error
        return cls.from_dict(data, where=where)

    @classmethod
    def from_dict(cls, data: object, *, where: str = "contract") -> ModelContract:
        """Validate parsed JSON; arguments and errors as `from_json`."""
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
            found, expected = f"schema_version {version}", f"at most {SCHEMA_VERSION}"
            # Not `pip install --upgrade dermedge`: anybody may register that name on an index.
            fix = "install a newer dermedge wheel, from where this one came"
            problem = "unsupported contract schema"
            raise ContractTooNew(problem, where=where, found=found, expected=expected, fix=fix)
        problems: list[str] = []
        contract: ModelContract = _decode(cls, data, "", problems)
        if not problems:
            problems = _semantic_problems(contract)
        if problems:
            expected = "every field of the schema, with a valid value"
            raise _invalid("", where, details=problems, expected=expected)
        return contract


def _invalid(how: str, where: str, **more: Any) -> ContractInvalid:
    problem = f"Invalid contract (schema {SCHEMA_VERSION}){how}"
    return ContractInvalid(problem, where=where, fix=CONVERT_AGAIN, **more)


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate keys: Python takes the last one silently, another reader may take the first."""
    decoded = dict(pairs)
    if len(decoded) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {repeated!r}")
    return decoded


def _decode(expected: Any, data: object, path: str, problems: list[str]) -> Any:
    """Build `expected` (a dataclass, tuple[X, ...], X | None or a scalar type) from parsed JSON."""
    if isinstance(expected, types.UnionType):
        inner = next(arm for arm in expected.__args__ if arm is not type(None))
        return None if data is None else _decode(inner, data, path, problems)
    if isinstance(expected, types.GenericAlias):
        if not isinstance(data, list):
            problems.append(f"{path} is {_kind(data)}, not a list")
            return ()
        item_type = expected.__args__[0]
        return tuple(_decode(item_type, item, f"{path}[{i}]", problems) for i, item in enumerate(data))
    if isinstance(expected, type) and hasattr(expected, "__match_args__"):
        return _decode_object(expected, data, path, problems)
    return _decode_scalar(expected, data, path, problems)


def _decode_object(expected: type, data: object, path: str, problems: list[str]) -> Any:
    if not isinstance(data, dict):
        problems.append(f"{path or 'the document'} is {_kind(data)}, not an object")
        return None
    prefix = f"{path}." if path else ""
    hints = _hints(expected)
    problems.extend(f"{prefix}{key} is unknown" for key in data if key not in hints)
    problems.extend(f"{prefix}{key} is missing" for key in hints if key not in data)
    values = {
        key: _decode(hint, data[key], prefix + key, problems) for key, hint in hints.items() if key in data
    }
    return expected(**values) if len(values) == len(hints) else None


def _hints(expected: type) -> dict[str, Any]:
    """Return type hints as `typing.get_type_hints`, without importing it."""
    names = vars(sys.modules[expected.__module__])
    return {
        field: _SCALARS.get(text) or eval(text, names) for field, text in expected.__annotations__.items()
    }


def _decode_scalar(expected: Any, data: object, path: str, problems: list[str]) -> Any:
    if expected is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            data = float(data)
        except OverflowError:
            data = math.inf
    if not isinstance(data, expected) or (isinstance(data, bool) and expected is not bool):
        problems.append(f"{path} is {_kind(data)}, not {expected.__name__}")
    elif isinstance(data, float) and not math.isfinite(data):
        problems.append(f"{path} is {data}, not a finite number")
    elif isinstance(data, str) and not data.isprintable() and has_control_characters(data):
        problems.append(f"{path} holds a control character")
    return data


def has_control_characters(text: str) -> bool:
    """Whether text could move the cursor, turn the direction of what follows, or cannot be encoded."""
    return any(
        char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" or char in DIRECTION_MARKS
        for char in text
    )


def _kind(data: object) -> str:
    return "null" if data is None else type(data).__name__


def _semantic_problems(contract: ModelContract) -> list[str]:
    """Return the problems that types cannot express."""
    problems: list[str] = []

    def require(holds: bool, problem: str) -> None:
        if not holds:
            problems.append(problem)

    def one_of(value: str, allowed: tuple[str, ...], field: str) -> None:
        require(value in allowed, f"{field} is {value!r}, not one of {', '.join(allowed)}")

    codes = contract.codes
    require(contract.schema_version >= 1, f"schema_version is {contract.schema_version}")
    require(bool(contract.model_id), "model_id is empty")
    require(2 <= len(codes) <= MAX_LABELS, f"labels has {len(codes)} entries, not 2 to {MAX_LABELS}")
    require(len(set(codes)) == len(codes), "labels has a code twice")
    filled = all(label.code and label.name and label.group for label in contract.labels)
    require(filled, "labels has an empty text")

    for field in ("height_px", "width_px"):
        side_px = getattr(contract.input, field)
        require(1 <= side_px <= MAX_SIDE_PX, f"input.{field} is {side_px}, not 1 to {MAX_SIDE_PX}")
    one_of(contract.input.color_space, COLOR_SPACES, "input.color_space")
    one_of(contract.input.alpha, ALPHA_RULES, "input.alpha")

    geometry = contract.geometry
    one_of(geometry.decode_scaling, DECODE_SCALINGS, "geometry.decode_scaling")
    factor, fraction = geometry.decode_oversampling, geometry.crop_fraction
    oversampling = f"geometry.decode_oversampling is {factor}, not 1 to {MAX_OVERSAMPLING}"
    require(1 <= factor <= MAX_OVERSAMPLING, oversampling)
    one_of(geometry.exif, EXIF_RULES, "geometry.exif")
    one_of(geometry.crop, CROPS, "geometry.crop")
    require(0 < fraction <= 1, f"geometry.crop_fraction is {fraction}, not in (0, 1]")
    one_of(geometry.filter, FILTERS, "geometry.filter")

    mean, std = contract.normalization.mean, contract.normalization.std
    require(abs(mean) <= MAX_MEAN, f"normalization.mean is {mean}, beyond {MAX_MEAN:g}")
    require(MIN_STD <= std <= MAX_STD, f"normalization.std is {std}, not {MIN_STD:g} to {MAX_STD:g}")
    one_of(contract.output.activation, ACTIVATIONS, "output.activation")
    one_of(contract.calibration.method, CALIBRATIONS, "calibration.method")
    require(contract.calibration.temperature > 0, "calibration.temperature is not positive")
    for name in ("refer", "not_a_lesion"):
        rule = getattr(contract.decision, name)
        if rule is not None:
            one_of(rule.measure, MEASURES, f"decision.{name}.measure")
            require(0 <= rule.threshold <= 1, f"decision.{name}.threshold is {rule.threshold}, not in [0, 1]")
    count = len(contract.golden)
    require(count <= MAX_GOLDEN, f"golden has {count} entries, not 0 to {MAX_GOLDEN}")
    for i, golden in enumerate(contract.golden):
        width = len(golden.output)
        require(width == len(codes), f"golden[{i}].output has {width} values for {len(codes)} labels")
        require(golden.tolerance >= 0, f"golden[{i}].tolerance is negative")
    return problems
