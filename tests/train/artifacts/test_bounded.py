"""Files that unpack to more than they should."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from edge_runtime.errors import DataInvalid, RunInvalid
from train.artifacts import bounded
from train.artifacts.files import read_object
from train.artifacts.tables import read_table

PEAK_BYTES = 1_000_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("MAX_TEXT_BYTES", 100_000), ("MAX_CELLS", 1000), ("MAX_ARRAYS_BYTES", 100_000)):
        monkeypatch.setattr(bounded, name, limit)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
@pytest.mark.parametrize(
    "content",
    [
        b"path,label\n" + b"a" * 200_000,
        b"path,label\n" + b"a,b\n" * 600,
        b"path" + b",x" * 999 + b"\n1\n",
        b"a,b\r" * 600,
    ],
)
def test_tables_too_large(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataInvalid) as caught:
        read_table(path, ["path"])
    assert caught.value.code == "data-invalid" and "more than" in caught.value.found


def test_gigabytes_are_not_unpacked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = 0

    class Counting(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal unpacked
            data = super().read(size)
            unpacked += len(data)
            return data

    monkeypatch.setattr(gzip, "GzipFile", Counting)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(ValueError, match="more than 100,000 bytes"):
        bounded.read_table_bytes(tmp_path / "t.csv.gz")
    assert unpacked <= PEAK_BYTES


def test_tables_within_the_limits(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"path,label\n" + b"a,b\n" * 400))
    assert len(read_table(tmp_path / "t.csv.gz", ["label"])) == 400


def test_json_and_archives_too_large(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b'{"a": "' + b"x" * 200_000 + b'"}')
    with pytest.raises(RunInvalid):
        read_object(tmp_path / "run.json")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(200_000))
    with pytest.raises(ValueError, match="200,000 bytes of arrays"):
        bounded.require_small_archive(tmp_path / "a.npz")
