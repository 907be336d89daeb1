"""Model files with generated zip tails: one to three faults of offsets, sizes, names and records, for the fuzzers."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass

from edge_runtime.contract import CONTRACT_ENTRY, LABELS_ENTRY
from tests.fixtures.bad_models import entries_of, flatbuffer_of, good

BASES = ("tiny_float32.tflite", "tiny_int8.tflite", "tiny_uint8.tflite")
NAMES = (
    *(
        b"",
        b"a\nb",
        b"\x1b[2J",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        "\u202egnp".encode(),
        b"\x00",
        b"x" * 65535,
        b"\x7f",
    ),
    *(b"../a", b"/etc/passwd", b"edge_contract.json\x00", b"Edge_Contract.json", "\ud55c\uae00".encode()),
    *(CONTRACT_ENTRY.encode(), LABELS_ENTRY.encode()),
)
ODD = (0, 1, 4, 22, 46, 100, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
ZIP64_EXTRA = struct.pack("<HHQQQ", 1, 24, 5, 5, 0)


@dataclass
class Entry:
    """What the two headers of an entry say; None is what its content gives."""

    name: bytes
    content: bytes
    local_name: bytes | None = None
    flags: int = 0
    method: int = 0
    checksum: int | None = None
    packed: int | None = None
    size: int | None = None
    offset: int | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    comment: bytes = b""
    signature: bytes = b"PK\1\2"
    local_signature: bytes = b"PK\3\4"


def tail_case(seed: int, index: int) -> bytes:
    """The bytes of a model with a generated zip tail; the same on every machine."""
    chance = random.Random(f"tail {seed} {index}")
    model = good(chance.choice(BASES))
    body = flatbuffer_of(model)
    entries = [Entry(name.encode(), content) for name, content in entries_of(model).items()]
    end: dict[str, int] = {}
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        _change(entries, end, chance)
    tail = _written(entries, end, chance, len(body) if chance.random() < 0.3 else 0)
    data = body + bytes(chance.choice((0, 0, 0, 3))) + tail
    if chance.random() < 0.05:
        at = len(data) - 1 - chance.randrange(min(len(tail), 400))
        data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    return data[: len(data) - chance.randrange(60)] if chance.random() < 0.05 else data


def _change(entries: list[Entry], end: dict[str, int], chance: random.Random) -> None:
    """One fault, or something unusual that is none."""
    entry = chance.choice(entries)
    odd = chance.choice((*ODD, chance.randrange(5000), len(entry.content) + chance.choice((-1, 1))))
    kind = chance.randrange(14)
    if kind == 0:
        entry.name = chance.choice(NAMES)
    elif kind == 1:
        entry.local_name = chance.choice(NAMES)
    elif kind == 2:
        entries.insert(chance.randrange(len(entries) + 1), Entry(chance.choice(NAMES), bytes(5)))
    elif kind == 3:
        setattr(entry, chance.choice(("checksum", "packed", "size", "offset")), odd & 0xFFFFFFFF)
    elif kind == 4:
        entry.size = entry.packed = odd & 0xFFFFFFFF
    elif kind == 5:
        entry.flags, entry.method = chance.choice(((1, 0), (8, 0), (0x800, 0), (0, 8), (0, 12), (0xFFFF, 0)))
    elif kind == 6:
        field = chance.choice(("extra", "local_extra", "comment"))
        setattr(entry, field, chance.choice((ZIP64_EXTRA, bytes(7), b"PK\5\6" + bytes(18), bytes(65535))))
    elif kind == 7:
        setattr(
            entry,
            chance.choice(("signature", "local_signature")),
            chance.choice((b"PK\5\6", b"PK\6\6", bytes(4))),
        )
    elif kind == 8:
        # Two names of one content: entries that overlap.
        entries.append(Entry(chance.choice(NAMES), b"", local_name=b"", offset=0, size=odd & 0xFFFF))
    elif kind == 9:
        entries.append(Entry(entry.name, entry.content))
    elif kind == 10:
        content = entry.content
        entry.content = chance.choice(
            (b"", content + b"\n", content[:-1], b"\xff" + content, content.replace(b"\n", b"\r\n"))
        )
    elif kind == 11:
        entries += [Entry(b"%d" % number, b"") for number in range(chance.choice((990, 1001)))]
    else:
        end[chance.choice(("disk", "directory_disk", "here", "count", "size", "offset", "comment"))] = odd


def _written(entries: list[Entry], end: dict[str, int], chance: random.Random, base: int) -> bytes:
    """The archive; offsets count from `base` bytes before it."""
    local = directory = b""
    for entry in entries:
        at = len(local) + base if entry.offset is None else entry.offset
        size = len(entry.content) if entry.size is None else entry.size
        packed = size if entry.packed is None else entry.packed
        checksum = zlib.crc32(entry.content) if entry.checksum is None else entry.checksum
        same = (20, entry.flags, entry.method, 0, 33, checksum, packed, size)
        name = entry.name if entry.local_name is None else entry.local_name
        local += entry.local_signature + struct.pack("<HHHHHIIIHH", *same, len(name), len(entry.local_extra))
        local += name + entry.local_extra + entry.content
        sizes = (len(entry.name), len(entry.extra), len(entry.comment), 0, 0, 0, at & 0xFFFFFFFF)
        directory += entry.signature + struct.pack("<HHHHHHIIIHHHHHII", 20, *same, *sizes)
        directory += entry.name + entry.extra + entry.comment
    zip64 = b""
    if chance.random() < 0.1:
        record = struct.pack(
            "<QHHIIQQQQ", 44, 45, 45, 0, 0, len(entries), len(entries), len(directory), len(local)
        )
        zip64 = b"PK\6\6" + record + b"PK\6\7" + struct.pack("<IQI", 0, len(local) + len(directory), 1)
        if chance.random() < 0.5:
            end |= {"count": 0xFFFF, "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
    comment = chance.choice((b"", b"", b"", b"note", b"PK\5\6" + bytes(18), b"PK\5\6" + bytes(10)))
    counts = (end.get("here", len(entries)) & 0xFFFF, end.get("count", len(entries)) & 0xFFFF)
    places = (end.get("size", len(directory)), end.get("offset", len(local) + base))
    fields = (end.get("disk", 0) & 0xFFFF, end.get("directory_disk", 0) & 0xFFFF, *counts)
    record = struct.pack(
        "<HHHHIIH", *fields, *(one & 0xFFFFFFFF for one in places), end.get("comment", len(comment)) & 0xFFFF
    )
    return local + directory + zip64 + b"PK\5\6" + record + comment
