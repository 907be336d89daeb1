"""The perceptual hash stays when a picture is merely stored otherwise, and the pairs are those of a slow count."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from train.configs.schema import SplitConfig
from train.data.near_duplicates import CHUNK_ROWS, near_duplicate_pairs, phash
from train.data.synthetic.dataset import PAINTERS, draw_photo

# Between pictures of different lesions; a random pair differs in about 31 of 63 bits.
FAR_BITS = 12


def _bits(one: Image.Image, other: Image.Image) -> int:
    return (phash(one) ^ phash(other)).bit_count()


def _again_as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=quality)
    return Image.open(stored)


@pytest.mark.parametrize("code", PAINTERS)
@pytest.mark.parametrize("seed", range(3))
def test_storing_a_picture_otherwise_keeps_it_a_near_duplicate(code: str, seed: int):
    image = draw_photo(code, seed, 0)
    copies = {
        "smaller": image.resize((150, 112), Image.Resampling.BICUBIC),
        "larger": image.resize((600, 450), Image.Resampling.LANCZOS),
        "jpeg": _again_as_jpeg(image, 40),
        "brighter": ImageEnhance.Brightness(image).enhance(1.1),
        "less contrast": ImageEnhance.Contrast(image).enhance(0.8),
    }
    far = {name: _bits(image, copy) for name, copy in copies.items()}
    assert max(far.values()) <= SplitConfig().near_duplicate_bits, far


def test_other_lesions_are_far():
    images = [draw_photo(code, seed, 0, (113, 150)) for code in PAINTERS for seed in range(6)]
    hashes = [phash(image) for image in images]
    distances = [(a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]]
    assert len(distances) == 42 * 41 // 2
    assert np.median(distances) > FAR_BITS


def test_the_hash_is_a_64_bit_number_of_the_picture_alone():
    image = draw_photo("nv", 1, 1)
    assert 0 <= phash(image) < 2**64
    assert phash(image) == phash(image.convert("RGBA")) == phash(image.copy())
    assert phash(image) != phash(image.rotate(90))
    # The threshold is the median of what varies: of 63 bits 31 are above it, so two hashes differ in an even number.
    for code in PAINTERS:
        assert (phash(draw_photo(code, 1, 0)) & (2**63 - 1)).bit_count() == 31


def test_a_picture_without_contents_has_a_hash_too():
    assert 0 <= phash(Image.new("RGB", (1, 1), "white")) < 2**64
    assert 0 <= phash(Image.new("L", (5000, 3))) < 2**64


@pytest.mark.parametrize("count", [0, 1, 2, 300, CHUNK_ROWS + 5])
@pytest.mark.parametrize("max_bits", [0, 3, 20])
def test_pairs_are_those_of_counting_bits_one_by_one(count: int, max_bits: int):
    rng = np.random.default_rng(count)
    hashes = [int(h) for h in rng.integers(0, 2**64, count, dtype=np.uint64)]
    # Close ones, also across the border between two chunks.
    for i in range(count // 2):
        hashes[-1 - i] = hashes[i] ^ int(rng.integers(0, 16)) << int(rng.integers(0, 60))
    expected = [
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if (hashes[i] ^ hashes[j]).bit_count() <= max_bits
    ]
    assert near_duplicate_pairs(hashes, max_bits) == expected
    assert bool(expected) == (count >= 2 and (count > 2 or (hashes[0] ^ hashes[1]).bit_count() <= max_bits))


def test_extreme_hashes_and_limits():
    hashes = [0, 2**64 - 1, 0]
    assert near_duplicate_pairs(hashes, 0) == [(0, 2)]
    assert near_duplicate_pairs(hashes, 63) == [(0, 2)]
    assert near_duplicate_pairs(hashes, 64) == [(0, 1), (0, 2), (1, 2)]
    assert near_duplicate_pairs(hashes, -1) == []
