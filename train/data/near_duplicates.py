"""Finds photos that show the same picture under different ids, by perceptual hash. numpy and Pillow only.

Two hashes nearly always differ in an even number of bits, since each has its median as threshold. On HAM10000 4 bits
find practically every copy that was stored again, smaller, compressed or brighter, and most that were cropped; from 6
bits on one group of strangers swallows the data set.

**The rule holds for one decoding**: readers hash a JPEG decoded at the smallest scale of at least 64 px a side
(`HASH_DECODE_PX`). Decoded at full size the hash of a photo differs by a few bits: of HAM10000's 437 pairs within 4
bits then, 401 are the same, and 19 cross the folds of train/records, where each is 6 bits apart in the readers'
decoding. All 19 were looked at: different lesions (train/STUDY.md). Both decodings together would merge more
strangers and change the committed folds, so the rule stays.

Of the 18 published pairs across lesions (Abhishek, Jain, Hamarneh, Scientific Data 12, 196, 2025; arXiv 2401.14497)
two lie within 4 bits; the others were taken at another distance or angle and differ in 12 to 38 bits, as strangers
do; they stand in the label set instead. Of the other pairs within 4 bits 44 were looked at side by side: all show
different lesions, small and round in the middle of even skin. Merging such strangers costs nothing but freedom of the
split, as long as groups stay small.

Between data sets (2026-11; HAM10000, the 193 validation photos of ISIC 2018, 392 of PAD-UFES-20, 240 of Caltech-101)
no picture was found twice. Within 4 bits lie 8 pairs of HAM10000 with one validation photo and 22 with 4 phone
photos, a dark spot in the middle of even skin; 9 of these were looked at, all strangers. So data sets are split
apart. Within PAD-UFES-20 two photos are stored twice, under two diagnoses: PAT_56_86_479 (SCC) and PAT_56_88_274
(BCC), PAT_759_1433_914 (NEV) and PAT_759_1538_566 (BCC). Each pair is of one patient, so no split divides it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_BITS = 64
# Of 64; a pair of unrelated photos differs in about 32.
DEFAULT_NEAR_DUPLICATE_BITS = 4
GREY_SIDE_PX = 32
FREQUENCIES = 8
# Rows compared at once: 512 x 10,015 float32 products are 20 MB.
CHUNK_ROWS = 512


def _dct_matrix(size: int, frequencies: int) -> npt.NDArray[np.float64]:
    """The first rows of the DCT-II, float64 [frequencies, size]."""
    positions = np.arange(size) + 0.5
    matrix: npt.NDArray[np.float64] = np.cos(
        np.pi / size * np.arange(frequencies)[:, None] * positions[None, :]
    )
    return matrix


def phash(image: Image.Image) -> int:
    """The DCT hash of a photo, an unsigned 64-bit integer.

    The photo is shrunk to 32 x 32 grey pixels; each of the 8 x 8 lowest frequencies of its DCT gives one bit,
    whether it is above their median. Size, compression, brightness and contrast hardly change it; a turned or
    mirrored photo has another hash. The first bit stands for the mean brightness and is nearly always 1.
    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010.
    """
    grey = image.convert("L").resize((GREY_SIDE_PX, GREY_SIDE_PX), Image.Resampling.BILINEAR)
    dct = _dct_matrix(GREY_SIDE_PX, FREQUENCIES)
    lowest = (dct @ np.asarray(grey, dtype=np.float64) @ dct.T).ravel()
    bits = lowest > np.median(lowest[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_duplicate_pairs(hashes: Sequence[int], max_bits: int) -> list[tuple[int, int]]:
    """All pairs of hashes that differ in at most `max_bits` bits.

    Args:
        hashes: Unsigned 64-bit integers.
        max_bits: 0 to 64; negative finds nothing (the check is off).

    Returns:
        Pairs of indices (i, j), i < j, in order. 10,000 hashes take about a second.
    """
    if max_bits < 0 or len(hashes) < 2:
        return []
    # With bits as -1 and 1 the dot product of two hashes is 64 - 2 * differing bits: one matrix product.
    octets = np.array(hashes, dtype=">u8").view(np.uint8).reshape(len(hashes), 8)
    signs = np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1
    least_product = HASH_BITS - 2 * max_bits
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), CHUNK_ROWS):
        products = signs[start : start + CHUNK_ROWS] @ signs[start:].T
        rows, columns = np.nonzero(products >= least_product)
        later = columns > rows
        pairs.extend(zip((rows[later] + start).tolist(), (columns[later] + start).tolist(), strict=True))
    return pairs
