"""The layout of the repository: a README for each package, folders and files of readable size, no copied code."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from tests.architecture.equal_lines import equal_runs

PACKAGES = ("edge_runtime", "train", "convert")
FOLDERS_WITH_README = (*PACKAGES, "tests", "android_sample")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_LINES = 500
MAX_FILES_PER_FOLDER = 12
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


@pytest.mark.parametrize("folder", FOLDERS_WITH_README)
def test_each_package_has_a_readme(repository: Path, folder: str) -> None:
    text = (repository / folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    # Input, output, where to begin reading.
    for sign in (r"\*\*In\b", r"\*\*Out\b", r"Read (?:\S+ )?first"):
        assert re.search(sign, text), f"{folder}/README.md has no {sign}"


def test_no_vague_names(files: list[PurePosixPath]) -> None:
    vague = [
        str(path) for path in files if VAGUE_NAMES & {part.partition(".")[0].lower() for part in path.parts}
    ]
    assert vague == []


def test_folders_can_be_surveyed(files: list[PurePosixPath]) -> None:
    counts = Counter(path.parent for path in files if path.suffix == ".py" and path.parts[0] in PACKAGES)
    assert len(counts) >= 20
    assert {str(folder): count for folder, count in counts.items() if count > MAX_FILES_PER_FOLDER} == {}


def test_no_code_stands_in_two_files(repository: Path, files: list[PurePosixPath]) -> None:
    sources = {
        str(path): (repository / path).read_text(encoding="utf-8")
        for path in files
        if path.suffix == ".py" and path.parts[0] in {*PACKAGES, "dermedge.py"}
    }
    assert len(sources) >= 100
    assert equal_runs(sources) == {}


def test_the_search_for_copies_finds_one() -> None:
    body = [f"x{i} = {i}" for i in range(12)]
    copy = ["import os", "def f():", "    # why", *(f"    {line}\n" for line in body), "    return x1"]
    sources = {"a.py": "\n".join(["y = 0", *body]), "b.py": "\n".join(copy), "c.py": "\n".join(body[1:])}
    assert equal_runs(sources) == {("a.py", "b.py"): 12}
    assert equal_runs(sources, 11) == {("a.py", "b.py"): 12, ("a.py", "c.py"): 11, ("b.py", "c.py"): 11}


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


def test_images_are_only_among_fixtures(files: list[PurePosixPath]) -> None:
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
    # Otherwise tests would see other pixels than a device makes.
    assert pinned["runtime.txt"] == pinned["dev.txt"]
