"""The data sets that a config may name, drawn: HAM10000's shape, a phone set's, ordinary pictures."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from PIL import Image

from train.data.outliers import generate_outliers
from train.data.synthetic.dataset import draw_dataset

DIAGNOSIS_OF = {"akiec": "ACK", "bcc": "BCC", "bkl": "SEK", "mel": "MEL", "nv": "NEV"}


def draw_data_root(root: Path, photos: int = 130, seed: int = 1) -> Path:
    """HAM10000/, PAD-UFES-20/ and ood_photos/ under root; returns root."""
    draw_dataset(root / "HAM10000", photos=photos, seed=seed)
    draw_dataset(root / "drawn", photos=photos, seed=seed + 1)
    _as_phone_set(root / "drawn", root / "PAD-UFES-20")
    shutil.rmtree(root / "drawn")
    ordinary = root / "ood_photos"
    ordinary.mkdir()
    for i, pixels_u8 in enumerate(generate_outliers(24, 64, seed=seed)):
        Image.fromarray(pixels_u8).save(ordinary / f"thing{i // 2}_image_{i:04d}.jpg")
    return root


def _as_phone_set(drawn: Path, folder: Path) -> None:
    """A drawn data set in the layout of PAD-UFES-20, without the two classes that it lacks."""
    (folder / "images").mkdir(parents=True)
    with (drawn / "HAM10000_metadata.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["dx"] in DIAGNOSIS_OF]
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        columns = (
            "img_id",
            "diagnostic",
            "patient_id",
            "lesion_id",
            "fitspatrick",
            "biopsed",
            "age",
            "gender",
            "region",
        )
        writer.writerow(columns)
        for row in rows:
            photo = next(drawn.rglob(f"{row['image_id']}.jpg"))
            name = f"PAT_{row['image_id']}"
            shutil.copy(photo, folder / "images" / f"{name}.jpg")
            writer.writerow(
                [
                    f"{name}.png",
                    DIAGNOSIS_OF[row["dx"]],
                    row["lesion_id"],
                    "1",
                    "",
                    "False",
                    row["age"],
                    "MALE",
                    "ARM",
                ]
            )
