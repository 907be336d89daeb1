"""Draws the photos for the tests of the app itself, and beside each what Python makes of it.

Run as `python -m tests.android.screen_photos FOLDER MODEL.tflite`:

    lesion.jpg ...      photos in every format that the phone decodes, turned, large, with a colour profile
    lesion.jpg.png      the same, decoded, turned and converted by Python; lossless
    lesion.jpg.label    the code of the label that Python finds best
    refused.heic        no photo at all: the app says why
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_runtime import Classifier
from edge_runtime.preprocess import decode_rgb
from tests.fixtures import pictures
from tests.fixtures.make_models import draw_photo
from train.phantom import draw_sample

# A photo from a phone's camera: the contract lets a JPEG of this size be decoded at half its sides.
LARGE_PX = (2000, 1500)


def photos() -> dict[str, bytes]:
    """File name to bytes."""
    plain = draw_photo(4, 320, 240)
    profile = pictures.icc_profile(pictures.DISPLAY_P3, 2.2)
    return {
        "turned.jpg": pictures.with_orientation(6, "JPEG"),
        "mirrored.jpg": pictures.with_orientation(7, "JPEG"),
        "large.jpg": pictures.saved(draw_photo(2, *LARGE_PX), "JPEG", quality=90),
        "grey.jpg": pictures.saved(plain.convert("L"), "JPEG", quality=90),
        "progressive.jpg": pictures.saved(plain, "JPEG", quality=90, progressive=True),
        "full_chroma.jpg": pictures.saved(plain, "JPEG", quality=90, subsampling=0),
        "p3.jpg": pictures.saved(plain, "JPEG", quality=95, subsampling=0, icc_profile=profile),
        "p3.png": pictures.saved(plain, "PNG", icc_profile=profile),
        "plain.png": pictures.saved(plain, "PNG"),
        "plain.bmp": pictures.saved(plain, "BMP"),
        "lossy.webp": pictures.saved(plain, "WEBP", quality=80),
        "lossless.webp": pictures.saved(plain, "WEBP", lossless=True),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry."""
    folder, model = sys.argv[1:] if argv is None else argv
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    draw_sample(out / "lesion.jpg")
    for name, data in photos().items():
        (out / name).write_bytes(data)
    with Classifier.open(model) as classifier:
        for name in ("lesion.jpg", *photos()):
            photo = (out / name).read_bytes()
            buffer = io.BytesIO()
            decode_rgb(photo, classifier.contract, name=name).save(buffer, "PNG")
            (out / f"{name}.png").write_bytes(buffer.getvalue())
            (out / f"{name}.label").write_text(classifier.classify(photo, name=name).label)
    (out / "refused.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    return 0


if __name__ == "__main__":
    sys.exit(main())
