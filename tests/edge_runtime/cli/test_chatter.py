"""What libraries write to stderr: nothing without the photo's name, whatever is wrong with the photo."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.edge_runtime.cli.test_cli import U8, process
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo

COMPRESSIONS = ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "group4")


def damaged(content: bytes, seed: int) -> bytes:
    """Cut, or with bytes of the header or anywhere overwritten."""
    draw = random.Random(seed)
    if seed % 3 == 0:
        return content[: draw.randrange(8, len(content))]
    changed = bytearray(content)
    for _ in range(draw.choice((1, 5, 50))):
        changed[draw.randrange(8, len(content) if seed % 3 == 1 else 400)] = draw.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("options", [(), ("--json",), ("--threads", "1")], ids=str)
def test_every_line_on_stderr_is_ours_and_names_a_photo(options: tuple[str, ...], tmp_path: Path) -> None:
    picture = draw_photo(1).resize((300, 200))
    for compression in COMPRESSIONS:
        drawn = picture.convert("1") if compression == "group4" else picture
        content = p.saved(drawn, "TIFF", compression=compression)
        for seed in range(12):
            (tmp_path / f"{compression}{seed}.tif").write_bytes(damaged(content, seed))
    for format_name in ("JPEG", "PNG", "WEBP", "BMP"):
        content = p.saved(picture, format_name)
        for seed in range(6):
            (tmp_path / f"{format_name}{seed}.jpg").write_bytes(damaged(content, seed))
    # Pillow warns of EXIF blocks that it cannot read, and of sizes beyond its own limit.
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    (tmp_path / "exif.png").write_bytes(p.saved(picture, "PNG", exif=exif))
    (tmp_path / "exif.webp").write_bytes(p.saved(picture, "WEBP", exif=exif))
    ran = process(*options, "--model", U8, tmp_path)
    notice, *lines = ran.stderr.splitlines()
    assert notice.startswith("Intended use: ")
    assert all(line.startswith(("error: ", "note: ")) and str(tmp_path) + os.sep in line for line in lines)
    assert ran.stdout
