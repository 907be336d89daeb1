"""Small changes of bytes, for the fuzzers."""

from __future__ import annotations

import random

INTERESTING = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)


def mutate(data: bytes, chance: random.Random, end: int) -> bytes:
    """One to four small changes before `end`: bits, integers, copies of other places, cuts, insertions."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        limit = max(1, min(end, len(changed)))
        # Structure stands at both ends, constants between them.
        at = chance.choice((chance.randrange(limit), chance.randrange(min(limit, 512)), limit - 1 -
                            chance.randrange(min(limit, 6000))))  # fmt: skip
        kind = chance.randrange(10)
        if kind < 3:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind < 6:
            at &= ~3
            value = chance.choice((*INTERESTING, chance.randrange(limit)))
            changed[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
        elif kind == 6:
            changed[at : at + 2] = chance.choice(INTERESTING).to_bytes(8, "little")[:2]
        elif kind == 7:
            source, length = chance.randrange(limit), chance.choice((4, 8, 64))
            changed[at : at + length] = changed[source : source + length]
        elif kind == 8:
            del changed[at : at + chance.choice((1, 4, 64, len(changed)))]
        else:
            changed[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 4, 16))))
    return bytes(changed)
