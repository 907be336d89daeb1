"""The photos on which a Pi must answer as the desktop does."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo
from train.data.synthetic.dataset import SHARES, draw_sample

PHOTOS = 50
"""Generated ones; as many real ones where the data sets are."""
_TURNED_OR_SIZED = re.compile(r"_exif_|_\d+x\d+$")


def draw_photos(folder: Path) -> list[Path]:
    """Fifty photos: every kind of file that is read, drawn lesions of every class, sizes up to 12 megapixels."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {name: make() for name, make in p.READABLE.items() if not _TURNED_OR_SIZED.search(name)}
    kinds.update({f"jpeg_exif_{turn}": p.with_orientation(turn, "JPEG") for turn in (3, 6, 8)})
    kinds["jpeg_display_p3"] = p.saved(
        draw_photo(7, 600, 450), "JPEG", icc_profile=p.icc_profile(p.DISPLAY_P3, 2.2)
    )
    kinds["jpeg_12_megapixels"] = p.saved(draw_photo(2, 4000, 3000), "JPEG", quality=85)
    for name, content in kinds.items():
        (folder / f"{name}.{name.partition('_')[0]}").write_bytes(content)
    codes = list(SHARES)
    for index in range(PHOTOS - len(kinds)):
        code = codes[index % len(codes)]
        draw_sample(folder / f"lesion_{index:02d}.jpg", code=code, seed=index)
    return sorted(folder.iterdir())


def real_photos(data_root: Path) -> list[Path]:
    """Fifty dermatoscopic photos, evenly taken."""
    found = sorted((data_root / "HAM10000").rglob("*.jpg"))
    return found[:: len(found) // PHOTOS][:PHOTOS]
