"""Bounds before decoding: by bytes, by scans, one photo and many at once. Hostile files are headers with few pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform != "win32":
    import resource

from edge_runtime._startup import fast_jpeg
from edge_runtime.contract import ModelContract
from edge_runtime.errors import ImageTooLarge, ImageUnreadable, OutOfMemory
from edge_runtime.images import formats, memory
from edge_runtime.images.memory import (
    MAX_DECODED_BYTES,
    MAX_SCANS,
    MAX_TOGETHER_BYTES,
    UNCOUNTED_BYTES,
    Reservation,
    coefficient_bytes,
    require_memory,
)
from edge_runtime.images.preprocess import decode_rgb
from edge_runtime.model.model_file import open_model
from tests.fixtures import FIXTURES
from tests.fixtures import pictures as p
from tests.fixtures.make_models import draw_photo

# A header is refused in milliseconds; decoding what it says would take seconds and gigabytes.
REFUSAL_S = 0.5
WIDTH_PX, HEIGHT_PX = 3000, 2000
# Of the estimate: strips, Python's objects, Pillow's blocks.
SPARE_BYTES = 12 * 1024**2


@pytest.fixture(scope="module")
def contract() -> ModelContract:
    return open_model(FIXTURES / "tiny_float32.tflite").contract


def riff(*chunks: bytes) -> bytes:
    content = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def webp_lossless(width_px: int, height_px: int) -> bytes:
    return riff(chunk(b"VP8L", struct.pack("<BI", 0x2F, width_px - 1 | height_px - 1 << 14) + bytes(9)))


def webp_lossy(width_px: int, height_px: int) -> bytes:
    return riff(chunk(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width_px, height_px) + bytes(16)))


def webp_extended(width_px: int, height_px: int) -> bytes:
    size = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return riff(chunk(b"VP8X", b"\x02\0\0\0" + size), chunk(b"ANIM", bytes(6)))


def tiff(width_px: int, height_px: int, *further: tuple[int, int, int], samples: int = 1) -> bytes:
    """A little-endian TIFF of one deflated strip, grey or CMYK, with further numbers in its directory."""
    packed, space = zlib.compress(bytes(64)), 1 if samples == 1 else 5
    entries = [
        (256, 4, width_px),
        (257, 4, height_px),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, space),
        (277, 3, samples),
    ]
    entries += [(273, 4, 8), (278, 4, height_px), (279, 4, len(packed)), *further]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries))
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(packed))
        + packed
        + struct.pack("<H", len(entries))
        + directory
        + bytes(4)
    )


def run_length_bmp(width_px: int, height_px: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width_px, height_px, 1, 8, 1, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + header + bytes(1024) + b"\0\x02\0\xff\0\x01"


def resized(jpeg: bytes, width_px: int, height_px: int) -> bytes:
    """The same scans under another size."""
    frame = next(at for mark in (b"\xff\xc0", b"\xff\xc2") if (at := jpeg.find(mark)) >= 0)
    return jpeg[: frame + 5] + struct.pack(">HH", height_px, width_px) + jpeg[frame + 9 :]


def many_scans(times: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    jpeg = p.jpeg(progressive=True)
    last = jpeg.rfind(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * times + b"\xff\xd9"


def cmyk_jpeg() -> bytes:
    return p.saved(draw_photo(1).convert("CMYK"), "JPEG", progressive=True)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "webp_lossless": lambda: webp_lossless(12_000, 9_900),
    "webp_lossy": lambda: webp_lossy(10_000, 10_000),
    "webp_extended": lambda: webp_extended(11_000, 10_000),
    "png_rgba": lambda: p.png(12_000, 10_000, 8, 6, bytes(10_000)),
    "png_grey_alpha": lambda: p.png(12_000, 10_000, 8, 4, bytes(10_000)),
    "jpeg_progressive_444": lambda: resized(p.jpeg(progressive=True, subsampling=0), 12_000, 10_000),
    "jpeg_progressive_cmyk": lambda: resized(cmyk_jpeg(), 12_000, 9_000),
    "jpeg_scans": lambda: many_scans(MAX_SCANS),
    "tiff_one_strip": lambda: tiff(12_000, 10_000, samples=4),
    "tiff_wide_tile": lambda: tiff(64, 64, (322, 4, 65_536), (323, 4, 16_384), (324, 4, 8), (325, 4, 64)),
    "bmp_run_length": lambda: run_length_bmp(6_000, 4_000),
    "bmp_run_length_wide": lambda: run_length_bmp(10_000_000, 1),
}  # fmt: skip


# Pillow warns of more pixels than its own limit while it opens a TIFF.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_too_much_is_refused_before_it_is_decoded(name: str, contract: ModelContract) -> None:
    photo = HOSTILE[name]()
    started = time.process_time()
    with pytest.raises(ImageTooLarge) as caught:
        decode_rgb(photo, contract, name="x")
    assert time.process_time() - started < REFUSAL_S
    assert caught.value.code == "image-too-large" and caught.value.where == "x"
    assert caught.value.found and "at most" in caught.value.expected and caught.value.fix


def test_a_tiff_of_a_million_strips_is_refused(contract: ModelContract) -> None:
    few = tiff(64, 64)
    where = few.index(struct.pack("<HHI", 273, 4, 1))
    many = few[: where + 4] + struct.pack("<I", 1_000_000) + few[where + 8 :]
    with pytest.raises(ImageTooLarge) as caught:
        decode_rgb(many, contract)
    assert caught.value.found.startswith("1,000,0")


def test_scans_of_previews_and_of_further_pictures_do_not_count(contract: ModelContract) -> None:
    jpeg = p.jpeg(progressive=True)
    marks = b"\xff\xda\0\x02" * 2 * MAX_SCANS
    application = b"\xff\xeb" + struct.pack(">H", len(marks) + 2) + marks
    photo = jpeg[:2] + application + jpeg[2:] + marks
    assert decode_rgb(photo, contract).tobytes() == decode_rgb(jpeg, contract).tobytes()
    assert decode_rgb(many_scans(MAX_SCANS - 9), contract).size == (90, 70)


@pytest.mark.parametrize(
    ("decoder_bytes", "pixels", "transparent", "refused"),
    [
        (MAX_DECODED_BYTES, 0, False, False),
        (MAX_DECODED_BYTES + 1, 0, False, True),
        (0, MAX_TOGETHER_BYTES // 8, False, False),
        (0, MAX_TOGETHER_BYTES // 8, True, True),
        (4 * 108_000_000, 108_000_000, True, False),
        (12 * 50_000_000, 50_000_000, False, False),
    ],
)
def test_the_limits(decoder_bytes: int, pixels: int, transparent: bool, refused: bool) -> None:
    if refused:
        with pytest.raises(ImageTooLarge):
            require_memory(decoder_bytes, pixels, "x", transparent=transparent)
    else:
        require_memory(decoder_bytes, pixels, "x", transparent=transparent)


def test_coefficients_are_two_bytes_for_each_sample() -> None:
    assert coefficient_bytes(100, [(2, 2), (1, 1), (1, 1)]) == 300
    assert coefficient_bytes(100, [(1, 1)] * 3) == 600
    assert coefficient_bytes(100, [(2, 1)]) == 200


def test_photos_in_progress_wait_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight photos of a third of the limit: never more than three at once."""
    share = MAX_TOGETHER_BYTES // 3
    most, now, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, now
        with Reservation("x"):
            require_memory(share, 0, "x")
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 < most <= 3
    assert memory._held_bytes == 0


def test_a_reservation_is_given_back_after_errors_and_taken_once() -> None:
    with pytest.raises(ImageUnreadable), Reservation("x"):
        require_memory(2 * UNCOUNTED_BYTES, 0, "x")
        require_memory(3 * UNCOUNTED_BYTES, 0, "x")
        assert memory._held_bytes == 3 * UNCOUNTED_BYTES
        raise ImageUnreadable("damaged")
    assert memory._held_bytes == 0
    with pytest.raises(OutOfMemory) as caught, Reservation("x"):
        raise MemoryError
    assert caught.value.where == "x" and caught.value.code == "out_of_memory"
    assert caught.value.found and caught.value.expected and caught.value.fix


@pytest.mark.parametrize(
    "error", [ImportError("cannot import name"), SystemError("x"), RuntimeError("x")], ids=repr
)
def test_what_fails_oddly_when_nothing_is_free_is_want_of_memory(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, kind in ((1024**2, OutOfMemory), (1024**3, type(error))):
        monkeypatch.setattr(memory, "free_bytes", lambda count=count: count)
        with pytest.raises(kind), Reservation("x"):
            raise error


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(memory, "free_bytes", lambda: count)


def budget() -> int:
    """The largest reservation that is accepted."""
    low, high = UNCOUNTED_BYTES, MAX_TOGETHER_BYTES
    while high - low > 1:
        middle = (low + high) // 2
        try:
            with Reservation("x") as reservation:
                reservation.hold(middle)
            low = middle
        except OutOfMemory:
            high = middle
    return low


def test_the_budget_is_seven_eighths_of_what_is_free_or_what_is_said(free: Callable[[int], None]) -> None:
    free(400 * 1024**2)
    assert budget() == 350 * 1024**2
    free(64 * 1024**3)
    with Reservation("x") as reservation:
        reservation.hold(MAX_TOGETHER_BYTES)
    memory.limit(50 * 1024**2)
    assert budget() == 50 * 1024**2
    free(0)
    assert budget() == 50 * 1024**2
    memory.limit(None)
    assert budget() == UNCOUNTED_BYTES


def test_one_that_waits_gets_its_turn_though_less_is_free_by_then(free: Callable[[int], None]) -> None:
    free(4 * 1024**3)
    order: list[str] = []

    def work() -> None:
        with Reservation("second") as reservation:
            reservation.hold(MAX_TOGETHER_BYTES)
            order.append("second")

    second = threading.Thread(target=work)
    with Reservation("first") as first:
        first.hold(MAX_TOGETHER_BYTES)
        second.start()
        time.sleep(0.05)
        free(1)
        order.append("first")
    second.join(10)
    assert order == ["first", "second"] and memory._held_bytes == 0


def proc(root: Path, texts: dict[str, str]) -> str:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


MEMINFO = {"proc/meminfo": "MemTotal:  4000 kB\nMemAvailable:   3000 kB\nSwapFree: 1 kB\n"}
V2 = {"proc/self/cgroup": "0::/a.slice/b\n", "sys/fs/cgroup/a.slice/b/memory.max": "max\n"}
SLICE = "sys/fs/cgroup/a.slice"
V1 = {"proc/self/cgroup": "3:cpu:/x\n2:memory:/host/only\n0::/\n"}


@pytest.mark.parametrize(
    ("texts", "owed"),
    [
        ({}, sys.maxsize),
        (MEMINFO, 3_072_000),
        (MEMINFO | V2, 3_072_000),
        (MEMINFO | V2 | {f"{SLICE}/memory.max": "1000000", f"{SLICE}/memory.current": "10"}, 999_990),
        (
            V2
            | {
                "sys/fs/cgroup/memory.max": "1000", "sys/fs/cgroup/memory.current": "900",
                "sys/fs/cgroup/memory.stat": "anon 500\ninactive_file 400\n",
            },
            500,
        ),
        (V2 | {"sys/fs/cgroup/memory.max": "1000", "sys/fs/cgroup/memory.current": "1001"}, 0),
        (
            MEMINFO
            | V1
            | {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
            },
            4000,
        ),
        ({"proc/meminfo": "MemAvailable:", "proc/self/cgroup": "nonsense\n\n0:"}, sys.maxsize),
    ],
)  # fmt: skip
def test_free_memory_is_the_least_of_machine_and_groups(
    texts: dict[str, str], owed: int, tmp_path: Path
) -> None:
    if sys.platform != "win32":
        assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    found = memory.free_bytes(proc(tmp_path, texts))
    assert found == owed or (owed == sys.maxsize and found > owed)


FAILURES = [
    MemoryError(),
    OSError("out of memory error when reading image file"),
    OSError("decoding error when reading image file"),
    ValueError("x"),
]


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_want_of_memory_is_never_called_damage(
    format_name: str,
    error: Exception,
    contract: ModelContract,
    monkeypatch: pytest.MonkeyPatch,
    free: Callable[[int], None],
) -> None:
    photo = p.saved(draw_photo(1), format_name)
    monkeypatch.setattr(formats, "load", raises(error))
    monkeypatch.setattr(fast_jpeg, "decode", lambda *_: None)
    free(1024)
    with pytest.raises(OutOfMemory) as caught:
        decode_rgb(photo, contract, name="x")
    assert caught.value.where == "x"
    free(1024**3)
    with pytest.raises((OutOfMemory, ImageUnreadable)) as caught:
        decode_rgb(photo, contract, name="x")
    assert (caught.value.code == "out_of_memory") is (error in FAILURES[:2])


def raises(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


def photo_of(kind: str) -> bytes:
    """A drawn photo of WIDTH_PX x HEIGHT_PX."""
    photo = draw_photo(1).resize((WIDTH_PX, HEIGHT_PX))
    format_name, *options = kind.split(" ")
    if "alpha" in options:
        photo.putalpha(photo.getchannel("R"))
    further: dict[str, dict[str, object]] = {
        "progressive": {"progressive": True, "subsampling": 0},
        "lossless": {"lossless": True},
        "strip": {"compression": "tiff_adobe_deflate", "tiffinfo": {278: HEIGHT_PX}},
    }
    if "palette" in options:
        return p.saved(photo.convert("P"), format_name, transparency=3)
    return p.saved(photo, format_name, **{k: v for name in options for k, v in further.get(name, {}).items()})


PEAK = """
import sys
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from edge_runtime.images import formats, memory
photo = sys.stdin.buffer.read()
taken = []
memory.Reservation.hold = lambda reservation, needed_bytes: taken.append(needed_bytes)
def peak():  # Not ru_maxrss, which counts what pytest held before the process began.
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
with memory.Reservation("x"):
    formats.decode_any(photo, None, name="x", notes=[])
print(peak() - before, max(taken))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak's unit is another one elsewhere")
@pytest.mark.parametrize(
    "kind",
    [
        "JPEG", "JPEG progressive", "PNG", "PNG alpha", "PNG palette", "WEBP", "WEBP alpha", "WEBP lossless",
        "BMP", "TIFF", "TIFF strip", "TIFF strip alpha",
    ],
)  # fmt: skip
def test_the_estimate_is_what_decoding_takes(kind: str) -> None:
    ran = subprocess.run([sys.executable, "-c", PEAK], input=photo_of(kind), capture_output=True, check=True)
    measured, estimated = map(int, ran.stdout.split())
    assert measured <= estimated + SPARE_BYTES
    assert estimated <= 14 * WIDTH_PX * HEIGHT_PX


@pytest.mark.parametrize("path", ["fast", "plugin"])
def test_the_limit_of_a_jpeg_is_that_of_what_is_decoded(
    path: str, contract: ModelContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone's 200 megapixels at an eighth of the scale; the scans are few, so that decoding ends early."""
    if path == "plugin":
        monkeypatch.setattr(fast_jpeg, "decode_ordinary", lambda *_: None)
    whole = dataclasses.replace(
        contract,
        geometry=dataclasses.replace(contract.geometry, decode_scaling="none", decode_oversampling=1),
    )
    scaled = dataclasses.replace(
        contract,
        geometry=dataclasses.replace(contract.geometry, decode_scaling="jpeg_dct", decode_oversampling=2),
    )
    phone = resized(p.jpeg(), 16_320, 12_240)
    with contextlib.suppress(ImageUnreadable):
        assert decode_rgb(phone, scaled).size == (2040, 1530)
    tall = dataclasses.replace(scaled, input=dataclasses.replace(scaled.input, height_px=4000))
    for photo, how in (
        (phone, whole),
        (resized(p.jpeg(), 30_000, 20_000), scaled),
        (p.png(16_320, 12_240, 8, 2, bytes(12_240)), scaled),
        (resized(p.jpeg(), 65_000, 7_000), tall),
    ):
        with pytest.raises(ImageTooLarge) as caught:
            decode_rgb(photo, how)
        assert "pixels" in caught.value.expected
