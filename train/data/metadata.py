"""What data sets say of photos beside the label, read from their tables without decoding a photo. stdlib."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import DataInvalid
from train.artifacts.labels import load_labels
from train.artifacts.manifest import Photo
from train.data.readers import READERS
from train.data.readers.pad_ufes_20 import read_fitzpatrick
from train.data.readers.scan import ProblemReport
from train.data.sources import data_root as data_root

# Folder of a published data set to its reader.
READER_OF = {
    "HAM10000": "ham10000",
    "PAD-UFES-20": "pad_ufes_20",
    "ISIC2018_Task3_Validation": "isic2018_task3",
}


def read_facts(root: Path, sources: Iterable[str], label_set: str) -> dict[str, Photo]:
    """photo_id to everything that its data set's table says; empty where no data set is there.

    `sources` are folders in `root`; those that READER_OF does not know are left out.
    """
    facts: dict[str, Photo] = {}
    for source in filter(READER_OF.__contains__, sources):
        # The caller names one that is not on this machine.
        with suppress(DataInvalid):
            _, photos = READERS[READER_OF[source]](root / source, load_labels(label_set), ProblemReport())
            facts |= {photo.photo_id: photo for photo in photos}
    return facts


def read_skin_types(root: Path, sources: Collection[str]) -> dict[str, dict[str, str]]:
    """Data set to photo_id to Fitzpatrick type; data sets that do not record it, or are not there, are left out."""
    found = {}
    for source, reader in READER_OF.items():
        if source in sources and reader == "pad_ufes_20":
            with suppress(DataInvalid):
                found[source] = read_fitzpatrick(root / source)
    return found
