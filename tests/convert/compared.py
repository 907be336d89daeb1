"""Models with altered contracts, and tables of drawn photos to compare them on. No TensorFlow."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from convert.tflite.embed import embed_entries
from edge_runtime.contract import ModelContract
from edge_runtime.model.model_file import open_model
from edge_runtime.model.zip_tail import ZipTail
from tests.convert.synthetic_run import LABELS, draw_photo


def with_contract(source: Path, out: Path, **changes: object) -> Path:
    """A copy of a model with another contract; weights, self-test pictures and outputs as they were."""
    model = open_model(source)
    flat = model.data[: ZipTail(model.data, str(source)).start]
    pictures = {vector.image: model.read_entry(vector.image) for vector in model.contract.golden}
    contract: ModelContract = dataclasses.replace(model.contract, **changes)  # type: ignore[arg-type]
    out.write_bytes(embed_entries(flat, contract, pictures))
    return out


def draw_table(folder: Path, photos_per_class: int = 20, columns: Sequence[str] = ()) -> Path:
    """folder/table.csv and its photos, two a lesion."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for label, spec in enumerate(LABELS):
        for i in range(photos_per_class):
            name = f"{spec.code}_{i:03}"
            draw_photo(label, i).save(folder / f"{name}.jpg", quality=92)
            rows.append(
                {
                    "photo_id": name,
                    "path": f"{name}.jpg",
                    "label": spec.code,
                    "group_id": f"{spec.code}_{i // 2}",
                    "split": "test",
                    "sex": "female" if i % 2 else "male",
                    "age": str(25 + i),
                    "site": "",
                }
            )
    kept = list(columns) or list(rows[0])
    table = folder / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return table
