"""The contract: strict both ways, and the same in every field after a trip through a file."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import pytest

from edge_runtime.contract import CONTRACT_ENTRY, MAX_CONTRACT_BYTES, MAX_LABELS, ModelContract, Rule
from edge_runtime.errors import ContractInvalid, ContractTooNew
from edge_runtime.model.model_file import open_model, parse_model
from tests.fixtures import FIXTURES, MODEL_NAMES
from tests.fixtures.bad_models import append_entries, flatbuffer_of, good, with_contract

FULL = "tiny_float32.tflite"  # the fixture whose contract leaves nothing out: rules, golden vectors
OTHER_TYPES: dict[type, tuple[object, ...]] = {
    str: (None, True, 1, 1.5, [], {}),
    int: (None, True, "1", 1.5, [], {}),
    float: (None, True, "1", [], {}),
}


def leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all scalars in parsed JSON."""
    if isinstance(node, dict):
        return [leaf for key, child in node.items() for leaf in leaves(child, (*path, key))]
    if isinstance(node, list):
        return [leaf for i, child in enumerate(node) for leaf in leaves(child, (*path, i))]
    return [path]


def containers(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all objects in parsed JSON."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    here = [path] if isinstance(node, dict) else []
    return here + [found for key, child in children for found in containers(child, (*path, key))]


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


@pytest.fixture
def plain() -> dict[str, Any]:
    return open_model(FIXTURES / FULL).contract.to_dict()


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_field_survives_json_and_a_model_file(name: str) -> None:
    contract = open_model(FIXTURES / name).contract
    assert ModelContract.from_json(contract.to_json()) == contract
    assert ModelContract.from_dict(contract.to_dict()) == contract
    tail = [(CONTRACT_ENTRY, contract.to_json().encode())]
    again = parse_model(append_entries(flatbuffer_of(good(name)), tail), name).contract
    for field in dataclasses.fields(ModelContract):
        assert getattr(again, field.name) == getattr(contract, field.name), field.name


def test_every_changed_leaf_changes_the_contract(plain: dict[str, Any]) -> None:
    """No field is dropped on the way in: whatever is changed is seen, or refused."""
    original = ModelContract.from_dict(plain)
    paths = leaves(plain)
    assert len(paths) > 50
    for path in paths:
        changed = json.loads(json.dumps(plain))
        value = at(changed, path)
        at(changed, path[:-1])[path[-1]] = value + "x" if isinstance(value, str) else value + 1
        try:
            assert ModelContract.from_dict(changed) != original, path
        except (ContractInvalid, ContractTooNew) as error:
            assert str(path[-1]) in error.message or str(path[-2]) in error.message


def test_no_field_has_a_default(plain: dict[str, Any]) -> None:
    paths = [(*path, key) for path in containers(plain) for key in at(plain, path)]
    assert len(paths) > 40
    for path in paths:
        changed = json.loads(json.dumps(plain))
        del at(changed, path[:-1])[path[-1]]
        with pytest.raises(ContractInvalid, match="is missing"):
            ModelContract.from_dict(changed)


def test_unknown_fields_are_refused_everywhere(plain: dict[str, Any]) -> None:
    for path in containers(plain):
        changed = json.loads(json.dumps(plain))
        at(changed, path)["surprise"] = 1
        with pytest.raises(ContractInvalid, match="surprise is unknown"):
            ModelContract.from_dict(changed)


@pytest.mark.parametrize("wrong", [None, True, [], {}, "text", 10**400, float("nan"), float("inf"), -1])
def test_every_leaf_of_another_type_is_refused_or_valid(plain: dict[str, Any], wrong: object) -> None:
    """Never a crash, never NaN: a wrong value is ContractInvalid (or TooNew for the version)."""
    for path in leaves(plain):
        changed = json.loads(json.dumps(plain))
        at(changed, path[:-1])[path[-1]] = wrong
        try:
            contract = ModelContract.from_dict(changed)
        except (ContractInvalid, ContractTooNew):
            continue
        assert "NaN" not in contract.to_json() and "Infinity" not in contract.to_json()


def test_no_leaf_takes_another_type(plain: dict[str, Any]) -> None:
    """Least of all a bool, which Python takes for 0 or 1."""
    paths = leaves(plain)
    assert len(paths) > 50
    for path in paths:
        name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]
        for wrong in OTHER_TYPES[type(at(plain, path))]:
            changed = json.loads(json.dumps(plain))
            at(changed, path[:-1])[path[-1]] = wrong
            with pytest.raises(ContractInvalid) as caught:
                ModelContract.from_dict(changed)
            kind = "null" if wrong is None else type(wrong).__name__
            assert f"{name} is {kind}, not " in caught.value.found


def test_all_problems_are_listed_together(plain: dict[str, Any]) -> None:
    plain["geometry"]["crop"] = "thirds"
    plain["geometry"]["crop_fraction"] = 1.5
    plain["labels"][1]["code"] = plain["labels"][0]["code"]
    with pytest.raises(ContractInvalid) as caught:
        ModelContract.from_dict(plain, where="m.tflite")
    for part in ("m.tflite", "thirds", "crop_fraction is 1.5", "code twice"):
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 0),
        (("input", "height_px"), 0),
        (("input", "width_px"), 5000),
        (("input", "color_space"), "BGR"),
        (("geometry", "decode_oversampling"), 0),
        (("geometry", "decode_oversampling"), 65),
        (("geometry", "crop_fraction"), 0),
        (("normalization", "std"), 0),
        (("normalization", "std"), -1),
        (("normalization", "std"), 1e-9),
        (("normalization", "mean"), 1e300),
        (("output", "activation"), "sigmoid"),
        (("calibration", "temperature"), 0),
        (("decision", "refer", "measure"), "mood"),
        (("decision", "refer", "threshold"), 1.01),
        (("labels",), []),
        (("golden", 0, "output"), [1.0]),
        (("golden", 0, "tolerance"), -1),
    ],
)
def test_values_that_cannot_be_meant(plain: dict[str, Any], path: tuple[Any, ...], value: object) -> None:
    at(plain, path[:-1])[path[-1]] = value
    with pytest.raises(ContractInvalid) as caught:
        ModelContract.from_dict(plain)
    assert ".".join(str(key) for key in path[:1]) in caught.value.message


@pytest.mark.parametrize(
    ("path", "least", "most", "step"),
    [
        (("input", "height_px"), 1, 4096, 1),
        (("input", "width_px"), 1, 4096, 1),
        (("geometry", "decode_oversampling"), 1, 64, 1),
        (("geometry", "crop_fraction"), 1e-9, 1.0, 1e-6),
        (("normalization", "mean"), -1e6, 1e6, 1.0),
        (("normalization", "std"), 1e-3, 1e6, 1e-4),
        (("calibration", "temperature"), 1e-9, 1e9, 1e-6),
        (("decision", "refer", "threshold"), 0.0, 1.0, 1e-6),
        (("decision", "not_a_lesion", "threshold"), 0.0, 1.0, 1e-6),
        (("golden", 0, "tolerance"), 0.0, 1e9, 1e-6),
    ],
)
def test_both_ends_of_a_range_are_meant_and_no_more(
    plain: dict[str, Any], path: tuple[Any, ...], least: float, most: float, step: float
) -> None:
    def read(value: float) -> ModelContract:
        at(plain, path[:-1])[path[-1]] = value
        return ModelContract.from_dict(plain)

    read(least)
    read(most)
    # Temperatures and tolerances have no upper end.
    for beyond in (least - step, *([] if most == 1e9 else [most + step])):
        with pytest.raises(ContractInvalid) as caught:
            read(beyond)
        assert str(path[-1]) in caught.value.found and ";" not in caught.value.found


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (("input", "color_space"), "RGB"),
        (("input", "alpha"), "over_white"),
        (("geometry", "decode_scaling"), "none, jpeg_dct"),
        (("geometry", "exif"), "transpose"),
        (("geometry", "crop"), "center_square, stretch"),
        (("geometry", "filter"), "bilinear"),
        (("output", "activation"), "softmax"),
        (("calibration", "method"), "none, temperature"),
        (("decision", "refer", "measure"), "top_score, normalized_entropy"),
        (("decision", "not_a_lesion", "measure"), "top_score, normalized_entropy"),
    ],
)
def test_what_this_runtime_does_not_do_is_refused_by_name(
    plain: dict[str, Any], path: tuple[Any, ...], known: str
) -> None:
    """If ignored, a rule of a later schema would change predictions."""
    for unknown in ("of_tomorrow", ""):
        at(plain, path[:-1])[path[-1]] = unknown
        with pytest.raises(ContractInvalid) as caught:
            ModelContract.from_dict(plain)
        assert caught.value.found == f"{'.'.join(path)} is {unknown!r}, not one of {known}"


def relabelled(plain: dict[str, Any], count: int) -> dict[str, Any]:
    labels = [{"code": f"c{i}", "name": "n", "group": "g"} for i in range(count)]
    return {**plain, "labels": labels, "golden": []}


def test_as_many_labels_as_can_be_meant(plain: dict[str, Any]) -> None:
    for count in (2, MAX_LABELS):
        assert len(ModelContract.from_dict(relabelled(plain, count)).labels) == count
    for count in (1, MAX_LABELS + 1):
        with pytest.raises(ContractInvalid, match=f"labels has {count} entries, not 2 to 10000"):
            ModelContract.from_dict(relabelled(plain, count))


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("code", "", "labels has an empty text"),
        ("name", "", "labels has an empty text"),
        ("group", "", "labels has an empty text"),
        ("code", "a\nb", "labels[1].code holds a control character"),
        ("code", "a\rb", "labels[1].code holds a control character"),
    ],
)
def test_labels_that_nobody_could_read(plain: dict[str, Any], field: str, text: str, problem: str) -> None:
    plain["labels"][1][field] = text
    with pytest.raises(ContractInvalid) as caught:
        ModelContract.from_dict(plain)
    assert caught.value.found == problem


def test_a_model_has_a_name(plain: dict[str, Any]) -> None:
    with pytest.raises(ContractInvalid, match="model_id is empty"):
        ModelContract.from_dict({**plain, "model_id": ""})


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"[" * 100_000, b'{"a": 1, "a": 2}']
)
def test_what_is_no_contract_at_all(text: bytes) -> None:
    with pytest.raises(ContractInvalid):
        ModelContract.from_json(text, where="m.tflite")


def test_a_repeated_key_is_named(plain: dict[str, Any]) -> None:
    text = json.dumps(plain).replace('"model_id"', '"model_id": "other", "model_id"', 1)
    with pytest.raises(ContractInvalid) as caught:
        ModelContract.from_json(text)
    assert caught.value.found == "duplicate key 'model_id'"


def test_a_newer_schema_says_to_upgrade(plain: dict[str, Any]) -> None:
    with pytest.raises(ContractTooNew) as caught:
        ModelContract.from_dict({**plain, "schema_version": 2, "field_of_tomorrow": 1})
    # A name that nobody owns on an index: whoever claims it would be installed.
    assert "newer dermedge wheel" in caught.value.fix and "pip install" not in caught.value.message


def test_rules_may_be_null_but_not_absent(plain: dict[str, Any]) -> None:
    plain["decision"]["refer"] = None
    contract = ModelContract.from_dict(plain)
    assert contract.decision.refer is None
    assert isinstance(contract.decision.not_a_lesion, Rule)


def test_groups_keep_their_order() -> None:
    contract = open_model(FIXTURES / FULL).contract
    assert contract.groups == ("plain", "vivid")
    groups = [*"zazaz"][: len(contract.labels)]
    labels = [dataclasses.replace(label, group=g) for label, g in zip(contract.labels, groups, strict=True)]
    assert dataclasses.replace(contract, labels=tuple(labels)).groups == ("z", "a")


def test_labels_may_hold_any_printable_character() -> None:
    odd = "흑색종 (Melanom), \u00e9\U0001f600"

    def rename(contract: dict[str, Any]) -> None:
        contract["labels"][0]["code"] = odd

    assert parse_model(with_contract(good(), rename), "m").contract.labels[0].code == odd


@pytest.mark.parametrize(
    "text",
    [
        "a\nb",
        "\x1b[2J",
        "\u202egnp",
        "\ud800",
        "\x7f",
        "\u0085",
        "\u061c",
        "\u200b",
        "\u2060",
        "\ufeff",
        "\u2067a",
    ],
)
@pytest.mark.parametrize("field", ["code", "name", "group"])
def test_control_characters_in_labels_are_refused(field: str, text: str) -> None:
    document = json.loads(open_model(FIXTURES / FULL).contract.to_json())
    document["labels"][0][field] = text
    with pytest.raises(ContractInvalid) as caught:
        ModelContract.from_dict(document)
    assert caught.value.details == (f"labels[0].{field} holds a control character",)
    assert "\x1b" not in caught.value.message


def test_spaces_of_other_scripts_are_text() -> None:
    document = json.loads(open_model(FIXTURES / FULL).contract.to_json())
    document["labels"][0]["name"] = "\u00a0한국어\u3000"
    assert ModelContract.from_dict(document).labels[0].name == "\u00a0한국어\u3000"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(ContractInvalid):
        ModelContract.from_json(open_model(FIXTURES / FULL).contract.to_json().encode(encoding))


def test_large_contracts_are_refused_before_they_are_read() -> None:
    text = open_model(FIXTURES / FULL).contract.to_json()
    with pytest.raises(ContractInvalid) as caught:
        ModelContract.from_json(text + " " * MAX_CONTRACT_BYTES)
    assert f"{MAX_CONTRACT_BYTES:,}" in caught.value.found


def test_a_repeated_key_is_found_in_one_pass() -> None:
    pairs = ", ".join(f'"k{i}": 1' for i in range(40_000))
    started = time.process_time()
    with pytest.raises(ContractInvalid) as caught:
        ModelContract.from_json("{" + pairs + ', "k39999": 2}')
    assert "duplicate key 'k39999'" in caught.value.found
    assert time.process_time() - started < 2
