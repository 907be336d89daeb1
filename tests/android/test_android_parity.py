"""The Java core against Python, photo by photo: 200 of them, byte for byte, and four mistakes that must be found.

`make test-android` builds what these tests run. Without that build they are skipped, except under
DERMEDGE_ANDROID=1, which `make test-android` sets: then they fail.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_runtime import Classifier
from edge_runtime.diagnostics.parity import compare, trace
from edge_runtime.engines.litert_c import find_library
from edge_runtime.errors import EdgeError
from edge_runtime.model.model_file import bundled_model_path
from tests.fixtures import pictures
from tests.fixtures.make_models import draw_photo

pytestmark = [pytest.mark.java, pytest.mark.slow]

DRAWN_PHOTOS = 140
REAL_PHOTOS = 60
FIXTURES = Path(__file__).parent.parent / "fixtures"
# Python and Java run one library on one machine: nothing may differ, not even in the last bit of a float.
BIT_FOR_BIT = dict.fromkeys(("decoded", "cropped", "resized", "input_tensor", "raw_output", "scores"), 0.0)


@pytest.fixture(scope="module")
def classpath(repository: Path) -> str:
    built = repository / "build" / "android"
    jars = [
        *built.glob("core/core-*.jar"),
        *built.glob("engine-desktop/engine-desktop-*.jar"),
        *built.glob("engine-desktop/lib/jna-*.jar"),
    ]
    modules = [repository / "android_sample" / module for module in ("core", "engine-desktop")]
    newest_source = max(
        path.stat().st_mtime for module in modules for path in (module / "src" / "main").rglob("*.java")
    )
    if len(jars) != 3 or max(jar.stat().st_mtime for jar in jars) < newest_source:
        message = "NOT RUN: the Java side is not built, or older than its sources. Run make test-android."
        if os.environ.get("DERMEDGE_ANDROID"):
            pytest.fail(message)
        pytest.skip(message)
    return os.pathsep.join(map(str, jars))


def run_java(classpath: str, model: Path, folder: Path, mistake: str = "none") -> dict[str, dict[str, Any]]:
    """What Java makes of every PNG of a folder, by file name."""
    command = ["java", "-Xmx1g", "-cp", classpath, "dermedge.engine.desktop.TraceCommand"]
    command += [find_library()[0], str(model), str(folder), mistake]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["photo"]: line for line in lines}


def odd_pngs() -> Iterator[tuple[str, bytes]]:
    """Every kind of PNG: depths, palettes, transparency, turned, tiny."""
    for width_px, height_px in pictures.ODD_SIZES:
        yield f"odd_{width_px}x{height_px}", pictures.saved(draw_photo(7, width_px, height_px), "PNG")
    for orientation in range(1, 9):
        yield f"turned_{orientation}", pictures.with_orientation(orientation, "PNG")
    yield "grey_16", pictures.grey_16_png()
    yield "rgb_16", pictures.rgb_16_png()
    yield "palette", pictures.palette_png(transparent=False)
    yield "palette_transparent", pictures.palette_png(transparent=True)
    photo = draw_photo(5, 53, 41)
    for mode in ("1", "L", "LA", "RGBA"):
        yield f"mode_{mode}", pictures.saved(photo.convert(mode), "PNG")
    alpha = Image.linear_gradient("L").resize(photo.size)
    see_through = photo.copy()
    see_through.putalpha(alpha)
    yield "alpha", pictures.saved(see_through, "PNG")
    yield "alpha_palette", pictures.saved(see_through.quantize(32), "PNG")
    yield "grey_transparent", pictures.saved(photo.convert("L"), "PNG", transparency=100)
    yield "rgb_transparent", pictures.saved(photo, "PNG", transparency=photo.getpixel((3, 3)))
    for bits in (1, 2, 4):
        rows = bytes(range(1, 1 + 8 * 3))
        yield f"grey_{bits}", pictures.png(64 // bits, 3, bits, 0, rows)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 PNG files: drawn, odd, and of HAM10000 where it is present."""
    folder = tmp_path_factory.mktemp("photos")
    for name, data in odd_pngs():
        (folder / f"{name}.png").write_bytes(data)
    drawn = folder.parent / "drawn"
    from train.data.synthetic.dataset import draw_dataset

    real = sorted(ham10000())
    draw_dataset(drawn, photos=DRAWN_PHOTOS + REAL_PHOTOS, seed=6)
    jpegs = sorted(drawn.rglob("*.jpg"))[: DRAWN_PHOTOS if real else None]
    # One in so many, over the whole set.
    chosen = jpegs + real[:: max(1, len(real) // REAL_PHOTOS)][:REAL_PHOTOS]
    for jpeg in chosen:
        buffer = io.BytesIO()
        with Image.open(jpeg) as image:
            image.convert("RGB").save(buffer, "PNG", compress_level=1)
        (folder / f"photo_{jpeg.stem}.png").write_bytes(buffer.getvalue())
    assert len(list(folder.iterdir())) >= 200
    return folder


def ham10000() -> list[Path]:
    """The real photos, none where they are not."""
    named = os.environ.get("DERMEDGE_DATA")
    root = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    return list((root / "HAM10000").glob("*/*.jpg"))


@pytest.fixture(scope="module")
def java_says(classpath: str, photos: Path) -> dict[str, dict[str, Any]]:
    return run_java(classpath, bundled_model_path(), photos)


def test_200_photos_get_the_same_bytes_and_the_same_answer(
    java_says: dict[str, dict[str, Any]], photos: Path
) -> None:
    if not ham10000():
        print("NOT RUN: HAM10000 is not here, all photos are drawn. Set DERMEDGE_DATA.")
    with Classifier.open(engine="litert-c") as classifier:
        for path in sorted(photos.iterdir()):
            assert_same(java_says[path.name], classifier, path)
    assert len(java_says) >= 200


@pytest.mark.parametrize("model", ["tiny_uint8", "tiny_int8", "tiny_float32"])
def test_every_dtype_gets_the_same_bits(model: str, classpath: str, tmp_path: Path) -> None:
    for name, data in odd_pngs():
        (tmp_path / f"{name}.png").write_bytes(data)
    # Pillow 13 shrinks the height first in these: an input that is not square, or a crop that is not.
    for width_px, height_px in ((41, 300), (24, 57), (20, 90), (333, 990)):
        tall = draw_photo(3, width_px, height_px)
        (tmp_path / f"tall_{width_px}x{height_px}.png").write_bytes(pictures.saved(tall, "PNG"))
    java = run_java(classpath, FIXTURES / f"{model}.tflite", tmp_path)
    with Classifier.open(FIXTURES / f"{model}.tflite", engine="litert-c") as classifier:
        for path in sorted(tmp_path.iterdir()):
            assert_same(java[path.name], classifier, path)


@pytest.mark.parametrize(
    ("mistake", "stage"),
    [("crop", "cropped"), ("filter", "resized"), ("rounding", "input_tensor"), ("labels", "scores")],
)
def test_a_mistake_is_found_at_its_stage(mistake: str, stage: str, classpath: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(pictures.saved(draw_photo(2, 333, 240), "PNG"))
    model = FIXTURES / "tiny_uint8.tflite"
    with Classifier.open(model, engine="litert-c") as classifier:
        here = trace(classifier, photo.read_bytes(), name="photo.png")
    honest = run_java(classpath, model, tmp_path)["photo.png"]["trace"]
    assert compare(here, honest).first_difference is None
    wrong = run_java(classpath, model, tmp_path, mistake)["photo.png"]["trace"]
    first = compare(here, wrong).first_difference
    assert first is not None
    assert first.stage == stage


def test_what_python_refuses_java_refuses_with_the_same_code(classpath: str, tmp_path: Path) -> None:
    whole = pictures.saved(draw_photo(1, 40, 30), "PNG")
    bad = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "gif": b"GIF89a" + bytes(20),
        "transparent_16": pictures.png(2, 1, 16, 2, bytes(12), extra=pictures.png_chunk(b"tRNS", bytes(6))),
        "huge": pictures.png(20_000, 10_000, 8, 0, b"\0" * 10_000),
        "wrong_sum": whole.replace(b"IDAT", b"IDAX", 1),
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    java = run_java(classpath, FIXTURES / "tiny_uint8.tflite", tmp_path)
    with Classifier.open(FIXTURES / "tiny_uint8.tflite") as classifier:
        for name, data in bad.items():
            with pytest.raises(EdgeError) as refused:
                classifier.classify(data)
            assert java[name].get("error") == refused.value.code, name


def assert_same(line: dict[str, Any], classifier: Classifier, path: Path) -> None:
    """Trace and answer of Java are Python's."""
    photo = path.read_bytes()
    try:
        expected = classifier.classify(photo, name=path.name).to_dict()
        here = trace(classifier, photo, name=path.name)
    except EdgeError as error:
        assert line["error"] == error.code, path.name
        return
    assert "trace" in line, line
    comparison = compare(here, line["trace"], BIT_FOR_BIT)
    assert comparison.first_difference is None, f"{path.name}: {comparison.to_text()}"
    assert here["stages"]["raw_output"]["values"] == line["trace"]["stages"]["raw_output"]["values"]
    answer = line["prediction"]
    for field in ("label", "name", "score", "scores", "groups", "decision", "reason"):
        assert answer[field] == expected[field], f"{path.name}: {field}"
