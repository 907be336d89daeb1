"""Draws the photos for the tests of the app itself, and beside each what Python makes of it.

Run as `python -m tests.android.screen_photos FOLDER MODEL.tflite`:

    lesion.jpg ...      photos in every format that the phone decodes, turned, large, with a colour profile
    lesion.jpg.png      the same, decoded, turned and converted by Python; lossless
    lesion.jpg.label    the code of the label that Python finds best
    cut_half.jpg ...    the same, cut short: what a phone decodes in part
    cut_half.jpg.code   the code of Python's error for it
    refused.heic        no photo at all: the app says why
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from edge_runtime import Classifier
from edge_runtime.errors import ImageError
from edge_runtime.images.preprocess import decode_rgb
from tests.fixtures import pictures
from tests.fixtures.make_models import draw_photo
from train.data.synthetic.dataset import draw_sample

# A photo from a phone's camera: the contract lets a JPEG of this size be decoded at half its sides.
LARGE_PX = (2000, 1500)


def photos() -> dict[str, bytes]:
    """File name to bytes."""
    plain = draw_photo(4, 320, 240)
    profile = pictures.icc_profile(pictures.DISPLAY_P3, 2.2)
    return {
        "turned.jpg": pictures.with_orientation(6, "JPEG", (320, 240)),
        "mirrored.jpg": pictures.with_orientation(7, "JPEG", (320, 240)),
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
        **oddly_ended(plain),
    }


def oddly_ended(plain: Image.Image) -> dict[str, bytes]:
    """Whole photos in which something else ends too, or follows: what must not be taken for cut short."""
    jpeg = pictures.saved(plain, "JPEG", quality=90)
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0" + pictures.saved(plain.resize((80, 60)), "JPEG")
    second = plain.transpose(Image.Transpose.ROTATE_180)
    bmp = pictures.saved(plain, "BMP")
    return {
        "preview.jpg": pictures.saved(plain, "JPEG", quality=90, exif=exif),
        "restarts.jpg": pictures.saved(plain, "JPEG", quality=90, restart_marker_rows=1),
        "two_pictures.jpg": pictures.saved(plain, "MPO", quality=90, save_all=True, append_images=[second]),
        "second_cut.jpg": jpeg + jpeg[: len(jpeg) // 2],
        "zeros_after.jpg": jpeg + bytes(4000),
        "zeros_after.webp": pictures.saved(plain, "WEBP", quality=80) + bytes(4000),
        "zeros_after.bmp": bmp + bytes(4000),
        "palette.bmp": pictures.saved(plain.quantize(64), "BMP"),
        "run_lengths.bmp": run_length_bmp(),
    }


def cut_photos() -> dict[str, bytes]:
    """File name to the bytes of a photo of which the end is missing."""
    whole = photos()
    # A preview with an end of its own, in a photo without one.
    cuts = {
        "cut_preview.jpg": whole["preview.jpg"][:-300],
        "cut_run_lengths.bmp": whole["run_lengths.bmp"][:-200],
    }
    for name in (
        "grey.jpg",
        "restarts.jpg",
        "full_chroma.jpg",
        "progressive.jpg",
        "lossy.webp",
        "lossless.webp",
    ):
        cuts[f"cut_half_{name}"] = whole[name][: len(whole[name]) // 2]
    for name in ("full_chroma.jpg", "lossy.webp", "plain.bmp", "palette.bmp"):
        cuts[f"cut_200_{name}"] = whole[name][:-200]
    # Without the two bytes that say that it ends.
    cuts["cut_2_full_chroma.jpg"] = whole["full_chroma.jpg"][:-2]
    return cuts


def run_length_bmp() -> bytes:
    """A BMP of 160 x 120 pixels whose rows are run-length coded; Pillow does not write them."""
    plain = draw_photo(4, 160, 120).quantize(64)
    bmp = pictures.saved(plain, "BMP")
    (first,) = struct.unpack_from("<I", bmp, 10)
    pixels = plain.tobytes()
    rows = [pixels[at : at + 160] for at in range(0, len(pixels), 160)]
    coded = (
        b"".join(b"".join(bytes((1, pixel)) for pixel in row) + b"\0\0" for row in reversed(rows)) + b"\0\1"
    )
    return bmp[:30] + struct.pack("<II", 1, len(coded)) + bmp[38:first] + coded


def code_of_refusal(photo: bytes, classifier: Classifier, name: str) -> str:
    """The code of Python's error."""
    try:
        decode_rgb(photo, classifier.contract, name=name)
    except ImageError as error:
        return error.code
    raise SystemExit(f"error: {name}: Python decodes it (expected a refusal). Cut it differently.")


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry."""
    folder, model = sys.argv[1:] if argv is None else argv
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    draw_sample(out / "lesion.jpg")
    for name, data in {**photos(), **cut_photos()}.items():
        (out / name).write_bytes(data)
    with Classifier.open(model) as classifier:
        for name in ("lesion.jpg", *photos()):
            photo = (out / name).read_bytes()
            buffer = io.BytesIO()
            decode_rgb(photo, classifier.contract, name=name).save(buffer, "PNG")
            (out / f"{name}.png").write_bytes(buffer.getvalue())
            (out / f"{name}.label").write_text(classifier.classify(photo, name=name).label)
        for name, photo in cut_photos().items():
            (out / f"{name}.code").write_text(code_of_refusal(photo, classifier, name))
    (out / "refused.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    return 0


if __name__ == "__main__":
    sys.exit(main())
