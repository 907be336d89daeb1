"""Arguments to photo bytes: files, folders, pipes, devices."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import ImageNotFound, ImageTooLarge, ImageUnreadable
from edge_runtime.images import photos
from edge_runtime.images.photos import list_photos, read_photo


def test_a_photo_is_itself_whether_it_is_there_or_not(tmp_path: Path) -> None:
    for name in ("-", str(tmp_path / "none.jpg"), "any\0thing"):
        assert list_photos(name) == [name]


def test_a_folder_is_its_photos(tmp_path: Path) -> None:
    for name in ("2.tiff", "10.jpeg", "a.TIF", "b.webp", "c.bmp", ".d.jpg", "e.gif", "f", "g.jpg.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "2.tiff")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "none")
    names = ["10.jpeg", "2.tiff", "a.TIF", "b.webp", "c.bmp", "link.png"]
    assert list_photos(str(tmp_path)) == [str(tmp_path / name) for name in names]
    assert list_photos(f"{tmp_path}/") == [str(tmp_path / name) for name in names]


def test_what_a_folder_has_beside_its_photos_is_counted(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.JPE", "c.mpo", "d.apng", "e.gif", "f.GIF", "g.avif", "h", ".i.jpg"):
        (tmp_path / name).touch()
    for name in ("sub/deep/j.jpg", "sub/k.txt", ".hidden/l.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "m.jpg").symlink_to("none")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "n.jpg")
    names = ["a.jfif", "b.JPE", "c.mpo", "d.apng"]
    counts = {".gif": 2, "hidden": 2, ".avif": 1, "without suffix": 1, "dangling links": 1}
    counts["pipes, sockets or devices"] = 1
    found = photos.by_kind(str(tmp_path))
    assert sorted(found.pop("photos")) == [str(tmp_path / name) for name in names]
    assert {kind: len(paths) for kind, paths in found.items()} == counts | {"subfolders": 1}
    others = photos.by_kind(str(tmp_path), recursive=True)
    found = sorted(others.pop("photos"))
    assert found == [str(tmp_path / name) for name in (*names, "sub/deep/j.jpg")]
    assert {kind: len(paths) for kind, paths in others.items()} == counts | {".txt": 1, "linked folders": 1}
    told: list[str] = []
    assert list_photos(str(tmp_path), recursive=True, tell=told.append) == found
    assert len(told) == 1 and told[0].startswith(f"{tmp_path}: 10 passed over: 2 ")
    assert list_photos(str(tmp_path / "sub" / "deep"), tell=pytest.fail) == [found[-1]]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_subfolder_that_may_not_be_listed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "sub").mkdir(0)
    found = photos.by_kind(str(tmp_path), recursive=True)
    assert found == {"photos": [str(tmp_path / "a.jpg")], "unreadable subfolders": [str(tmp_path / "sub")]}


def test_lists_end_names_by_line_or_by_nul(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "CHUNK_BYTES", 5)
    listed = tmp_path / "list"
    for content, end, names in (
        (b"a.jpg\r\n\n  b\tc.jpg\n-", b"\n", ["a.jpg", "  b\tc.jpg", "./-"]),
        (b"a\nb.jpg\0\0 c\r\0\xff.jpg", b"\0", ["a\nb.jpg", " c\r", os.fsdecode(b"\xff.jpg")]),
        # Windows' editors write a byte order mark, and cat puts such lists together.
        ("\ufeffa.jpg\n\ufeffb\ud55c.jpg\n".encode(), b"\n", ["a.jpg", "b\ud55c.jpg"]),
    ):
        listed.write_bytes(content)
        assert list(photos.listed_photos(str(listed), end)) == names
    for content in ("\ufeffa.jpg\n".encode("utf-16"), b"a.jpg\0b.jpg\0"):
        listed.write_bytes(content)
        with pytest.raises(ImageNotFound) as caught:
            list(photos.listed_photos(str(listed)))
        assert "NUL" in caught.value.found


def test_a_folder_without_photos(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound) as caught:
        list_photos(str(tmp_path))
    assert caught.value.code == "image-not-found" and ".jpg" in caught.value.expected


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with pytest.raises(ImageNotFound, match="cannot be listed"):
        list_photos(str(tmp_path))
    tmp_path.chmod(0o700)


def test_files_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(b"bytes")
    assert read_photo(path) == read_photo(str(path)) == b"bytes"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"x" * 100_000,))
    writer.start()
    assert read_photo(pipe) == b"x" * 100_000
    writer.join()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_has_no_end_and_is_not_read() -> None:
    with pytest.raises(ImageUnreadable) as caught:
        read_photo("/dev/zero")
    assert caught.value.code == "image-unreadable"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for name in (tmp_path / "none.jpg", tmp_path, "nul\0byte", tmp_path / ("x" * 5000)):
        with pytest.raises(ImageNotFound) as caught:
            read_photo(name)
        assert caught.value.code == "image-not-found"
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageUnreadable) as caught:
        read_photo(tmp_path / "empty.jpg")
    assert caught.value.found == "0 bytes"


def test_stdin_is_read_no_further_than_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe may have no end."""

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            nonlocal given
            given += len(buffer)
            assert given < 1_000_000
            return len(buffer)

    given = 0
    monkeypatch.setattr(photos, "MAX_PHOTO_BYTES", 1000)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    with pytest.raises(ImageTooLarge, match="at most 1,000 bytes"):
        read_photo("-")


def test_the_limit_of_pixels_is_accepted() -> None:
    photos.require_size(12_000, 10_000, "p.jpg")
    with pytest.raises(ImageTooLarge, match="got 12001 x 10000 pixels, expected at most 120,000,000 pixels"):
        photos.require_size(12_001, 10_000, "p.jpg")


def test_files_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MAX_PHOTO_BYTES", 1000)
    path = tmp_path / "photo"
    path.write_bytes(b"x" * 1000)
    assert len(read_photo(path)) == 1000
    path.write_bytes(b"x" * 1001)
    with pytest.raises(ImageTooLarge, match="at most 1,000 bytes"):
        read_photo(path)
