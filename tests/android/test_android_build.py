"""The files that Android Studio reads, as far as they can be read without it, and what the two builds must share."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge_runtime.images import memory
from edge_runtime.images.photos import MAX_JPEG_PIXELS, MAX_PHOTO_BYTES, MAX_PIXELS

ANDROID = "{http://schemas.android.com/apk/res/android}"
TOOLS = "{http://schemas.android.com/tools}"
MODULES = ("core", "engine-litert", "app")
FORMAT = re.compile(r"%\d\$s")


@pytest.fixture(scope="module")
def sample(repository: Path) -> Path:
    return repository / "android_sample"


@pytest.fixture(scope="module")
def scripts(sample: Path) -> dict[str, str]:
    """Every Gradle script without its comments, by its module; "" is the root."""
    paths = {
        "": sample / "build.gradle.kts",
        **{name: sample / name / "build.gradle.kts" for name in MODULES},
    }
    return {name: re.sub(r"//.*", "", path.read_text()) for name, path in paths.items()}


@pytest.fixture(scope="module")
def catalog(sample: Path) -> dict[str, dict[str, object]]:
    return tomllib.loads((sample / "gradle" / "libs.versions.toml").read_text())


def constant(path: Path, name: str) -> str:
    """A Java constant or a shell variable."""
    found = re.search(rf'\b{name} ?= ?"?([\w.]+)"?', path.read_text())
    assert found is not None, f"{name} in {path}"
    return found[1]


def test_the_settings_name_the_modules_that_are_there(sample: Path) -> None:
    settings = (sample / "settings.gradle.kts").read_text()
    assert re.findall(r'":([\w-]+)"', settings) == list(MODULES)


def test_every_alias_is_in_the_catalog_and_every_entry_is_used(
    scripts: dict[str, str], catalog: dict[str, dict[str, object]]
) -> None:
    text = "\n".join(scripts.values())
    plugins = set(re.findall(r"libs\.plugins\.([\w.]+)\)", text))
    libraries = set(re.findall(r"libs\.(?!plugins\b)([\w.]+)\)", text))
    assert plugins == {name.replace("-", ".") for name in catalog["plugins"]}
    assert libraries == {name.replace("-", ".") for name in catalog["libraries"]}
    entries = [*catalog["plugins"].values(), *catalog["libraries"].values()]
    named = {entry["version"]["ref"] for entry in entries if isinstance(entry["version"], dict)}  # type: ignore[index]
    assert named == set(catalog["versions"])


def test_scripts_are_balanced_and_name_folders_that_are_there(scripts: dict[str, str], sample: Path) -> None:
    for name, text in scripts.items():
        for opening, closing in ("{}", "()"):
            assert text.count(opening) == text.count(closing), name
        for path in re.findall(r'"(src/[^"]+)"', text):
            assert (sample / name / path).exists(), path
        for module in re.findall(r'project\(":([\w-]+)"\)', text):
            assert module in MODULES


def test_both_builds_are_of_one_app(scripts: dict[str, str], sample: Path) -> None:
    script = sample / "tools" / "build_apk.sh"
    app = scripts["app"]
    assert f"minSdk = {constant(script, 'min_sdk')}" in app
    assert f"targetSdk = {constant(script, 'target_sdk')}" in app
    assert "compileSdk = 36" in app
    assert 'applicationId = "dermedge.app"' in app
    assert 'package="dermedge.app"' in script.read_text()
    version = constant(script, "version")
    assert f'versionName = "{version}"' in app
    assert constant(sample / "app/src/main/java/dermedge/app/Session.java", "APP_VERSION") == version
    assert 'noCompress += "tflite"' in app
    for abi in ("arm64-v8a", "x86_64"):
        assert f'"{abi}"' in app
        assert f"jni/{abi}/" in script.read_text()


def test_one_litert_everywhere(sample: Path, catalog: dict[str, dict[str, object]], repository: Path) -> None:
    version = catalog["versions"]["litert"]
    phone = sample / "engine-litert/src/main/java/dermedge/engine/litert/LiteRtEngineFactory.java"
    desktop = sample / "engine-desktop/src/main/java/dermedge/engine/desktop/DesktopEngineFactory.java"
    assert constant(phone, "VERSION") == constant(desktop, "PROVEN_VERSION") == version
    assert f"ai-edge-litert=={version}" in (repository / "locks" / "runtime.txt").read_text()


def test_one_limit_for_photos_everywhere(sample: Path) -> None:
    photo = sample / "core/src/main/java/dermedge/core/Photo.java"
    assert int(constant(photo, "MAX_BYTES")) == MAX_PHOTO_BYTES
    assert int(constant(photo, "MAX_PIXELS")) == MAX_PIXELS
    assert int(constant(photo, "MAX_JPEG_PIXELS")) == MAX_JPEG_PIXELS
    bounds = sample / "core/src/main/java/dermedge/core/PhotoMemory.java"
    for name in ("MAX_DECODED_BYTES", "MAX_TOGETHER_BYTES", "MAX_SCANS"):
        assert int(constant(bounds, name)) == getattr(memory, name)


def test_what_thinks_has_no_android_in_it(sample: Path) -> None:
    files = [path for name in ("core", "engine-litert") for path in (sample / name / "src").rglob("*.java")]
    assert len(files) > 30
    for path in files:
        assert not re.search(r"^import (static )?androidx?\.", path.read_text(), re.MULTILINE), path


def test_no_permission_is_asked_for_and_none_is_brought_along(sample: Path) -> None:
    own = ElementTree.parse(sample / "app/src/main/AndroidManifest.xml").getroot()
    assert own.findall("uses-permission") == []
    gradle = ElementTree.parse(sample / "app/src/gradle/AndroidManifest.xml").getroot()
    removed = {
        element.get(f"{ANDROID}name"): element.get(f"{TOOLS}node")
        for element in gradle.iter("uses-permission")
    }
    assert removed["android.permission.INTERNET"] == "remove"
    assert set(removed.values()) == {"remove"}


def test_korean_has_every_text_and_the_same_blanks(sample: Path) -> None:
    resources = sample / "app/src/main/res"
    english, korean = (
        {
            element.get("name"): element.text or ""
            for element in ElementTree.parse(resources / folder / "strings.xml").iter("string")
        }
        for folder in ("values", "values-ko")
    )
    assert english.keys() == korean.keys()
    for name, text in english.items():
        assert sorted(FORMAT.findall(text)) == sorted(FORMAT.findall(korean[name])), name


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2, from `#RRGGBB`."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("folder", ["values", "values-night"])
def test_every_text_stands_out_from_the_background(folder: str, sample: Path) -> None:
    path = sample / "app/src/main/res" / folder / "colors.xml"
    elements = ElementTree.parse(path).iter("color")
    colors = {element.get("name"): luminance(element.text or "") for element in elements}
    # WCAG 2.1 AA, 1.4.3 for text and 1.4.11 for a bar.
    for name, contrast in {"text": 4.5, "quiet": 4.5, "refer": 4.5, "accent": 3.0}.items():
        darker, lighter = sorted((colors[name], colors["background"]))
        assert (lighter + 0.05) / (darker + 0.05) >= contrast, f"{name} of {folder}"
