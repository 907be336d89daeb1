"""Model files with generated contracts: from the schema's own fields, some of them wrong, for the fuzzers."""

from __future__ import annotations

import json
import random
from typing import Any

from edge_runtime.contract import CONTRACT_ENTRY, LABELS_ENTRY
from tests.fixtures.bad_models import append_entries, entries_of, flatbuffer_of, good

TEXTS = (
    *(
        "",
        "mel",
        "a\nb",
        "\x1b[2J",
        "\u202egnp",
        "\u061c",
        "x\u200b",
        "\ufeffy",
        "\u200d",
        "\ud800",
        "\udc00x",
        "\U0001f600",
        "x" * 5000,
        "\u0000",
    ),
    *("\u00a0", "\u0085", "한국어", "=1+1", "\ufeff", "mel\u2028"),
)
NUMBERS = (0, 1, -1, 2, 4096, 4097, 10**30, -(10**30), 0.5, 1e-9, 1e308, True, float("nan"), float("inf"))


def contract_case(seed: int, index: int) -> bytes:
    """The bytes of a model with a generated contract; the same on every machine."""
    chance = random.Random(f"contract {seed} {index}")
    model = good(chance.choice(("tiny_float32.tflite", "tiny_int8.tflite", "tiny_uint8.tflite")))
    entries = entries_of(model)
    document = json.loads(entries[CONTRACT_ENTRY])
    for _ in range(chance.choice((0, 1, 1, 1, 2, 5))):
        change(document, chance)
    if chance.random() < 0.9:
        labels = document.get("labels") if isinstance(document, dict) else None
        if isinstance(labels, list) and all(isinstance(one, dict) for one in labels):
            listed = "\n".join(str(one.get("code", "")) for one in labels)
            entries[LABELS_ENTRY] = listed.encode("utf-8", "replace")
    entries[CONTRACT_ENTRY] = _written(document, chance)
    return append_entries(flatbuffer_of(model), list(entries.items()))


def change(document: Any, chance: random.Random) -> None:
    """One change somewhere in the document."""
    place = document
    while True:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(place[key], dict | list) and chance.random() < 0.8:
            place = place[key]
            continue
        break
    kind = chance.randrange(6)
    if kind == 0:
        del place[key]
    elif kind == 1:
        place[key] = chance.choice(TEXTS)
    elif kind == 2:
        place[key] = chance.choice(NUMBERS)
    elif kind == 3:
        place[key] = chance.choice((None, [], {}, [1], {"a": 1}))
    elif kind == 4 and isinstance(place, dict):
        place[chance.choice(("more", "\x1b", "a\nb", "\ud800"))] = 1
    elif isinstance(place, list):
        place += [place[key]] * chance.choice((1, 2, 120))


def _written(document: Any, chance: random.Random) -> bytes:
    text = json.dumps(document, ensure_ascii=chance.random() < 0.7, indent=chance.choice((None, 1)))
    kind = chance.randrange(24)
    if kind == 0:
        text = text.replace("{", '{"model_id": "twice", ', 1)
    elif kind == 1:
        text = text[: chance.randrange(len(text))]
    elif kind == 2:
        text += chance.choice((" ", "\n", "x", "{}", "\x00", " " * 2**20))
    elif kind == 3:
        text = "[" * 200 + text
    encoding = chance.choice(("utf-8",) * 12 + ("utf-16", "utf-32", "utf-8-sig", "latin-1"))
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
