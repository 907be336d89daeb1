"""What the house looks like: rooms with doors, no attic, files of a readable size, nothing that must not be in git."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

ROOMS = ("edge_runtime", "train", "convert", "tests", "android_sample")
ATTIC = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_LINES = 500
SOURCE_SUFFIXES = {".java", ".kt", ".py", ".sh"}
# Locks list thousands of hashes; the rest is text that people write.
TEXT_SUFFIXES = SOURCE_SUFFIXES | {
    ".cfg",
    ".gradle",
    ".json",
    ".md",
    ".toml",
    ".txt",
    ".xml",
    ".yaml",
    ".yml",
    "",
}
# A home or temporary folder of one machine. Not /dev, /usr or /etc, which documents may name.
MACHINE_PATH = re.compile(r"(?<![\w.:/~$}>*-])/(?:home|root|tmp|Users|work|mnt|opt)/[\w.]")
# Photos of the data sets this project uses: HAM10000 and ISIC, PAD-UFES-20, Caltech-101.
DATA_SET_PHOTO = re.compile(
    r"(?:^|/)(?:ISIC_\d+|PAT_\d+_\d+_\d+|image_\d{4})[^/]*\.(?:jpe?g|png|bmp|tiff?|webp)$", re.I
)


@pytest.fixture(scope="session")
def files(repository: Path) -> list[PurePosixPath]:
    """Every file that is in git or about to be."""
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    names = sorted({name for name in listed.stdout.split("\0") if name})
    found = [PurePosixPath(name) for name in names if (repository / name).is_file()]
    assert len(found) > 20
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_readme_stands_on_every_door(repository: Path, room: str) -> None:
    text = (repository / room / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    # What comes in, what goes out, where to begin reading.
    for sign in (r"\*\*In\b", r"\*\*Out\b", r"Read (?:\S+ )?first"):
        assert re.search(sign, text), f"{room}/README.md has no {sign}"


def test_no_attic(files: list[PurePosixPath]) -> None:
    attic = [str(path) for path in files if ATTIC & {part.partition(".")[0].lower() for part in path.parts}]
    assert attic == []


def test_files_stay_readable(repository: Path, files: list[PurePosixPath]) -> None:
    long = {
        str(path): lines
        for path in files
        if path.suffix in SOURCE_SUFFIXES
        and (lines := len((repository / path).read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert long == {}


def test_no_path_of_one_machine(repository: Path, files: list[PurePosixPath]) -> None:
    here = PurePosixPath(Path(__file__).relative_to(repository).as_posix())
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path in files
        if path.suffix in TEXT_SUFFIXES and path != here
        for number, line in enumerate((repository / path).read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ('DATA = "/home/me/HAM10000"', True),
        ("cd /work" + "/checkout", True),
        ("(/tmp/x.tflite)", True),
        ("tests/tmp/x", False),
        ("https://example.org/home/x", False),
        ("$HOME/tmp/x ../tmp/x ~/work/x", False),
        ("/usr/lib/chromium", False),
    ],
)
def test_the_path_pattern(line: str, is_one: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is is_one


def test_no_photo_of_a_data_set(files: list[PurePosixPath]) -> None:
    assert [str(path) for path in files if DATA_SET_PHOTO.search(str(path))] == []
    assert DATA_SET_PHOTO.search("tests/fixtures/ISIC_0024306.jpg")
    assert DATA_SET_PHOTO.search("PAT_1516_1765_530.png")
    assert not DATA_SET_PHOTO.search("tests/fixtures/exif_6.jpg")


def test_images_stand_only_among_fixtures(files: list[PurePosixPath]) -> None:
    pictures = [
        path for path in files if path.suffix.lower() in {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".webp"}
    ]
    elsewhere = [
        str(path)
        for path in pictures
        if path.parts[:2] not in {("tests", "fixtures"), ("android_sample", "app")}
    ]
    assert elsewhere == []


def test_locks_name_no_host_and_pin_every_package_by_hash(repository: Path) -> None:
    names = sorted(
        path.name for path in (repository / "locks").glob("*.txt") if path.name != "constraints.txt"
    )
    assert len(names) >= 4
    for name in names:
        text = (repository / "locks" / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"^-", text, re.M), f"locks/{name} has an option line"
        entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.M))
        assert len(entries) >= 8
        unpinned = [
            entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry
        ]
        assert unpinned == []


def test_both_locks_run_the_same_runtime(repository: Path) -> None:
    pinned = {}
    for name in ("runtime.txt", "dev.txt"):
        text = (repository / "locks" / name).read_text(encoding="utf-8")
        pinned[name] = re.findall(r"^(?:pillow|ai-edge-litert)==\S+", text, re.M)
    assert len(pinned["runtime.txt"]) == 2
    # A lock of its own could test other pixels than a device makes.
    assert pinned["runtime.txt"] == pinned["dev.txt"]
