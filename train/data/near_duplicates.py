"""Find near-duplicates, the same image under different ids, by perceptual hash. numpy and Pillow only.

Two hashes nearly always differ in an even number of bits, because the threshold of each is its median. On HAM10000 a
threshold of 4 bits finds nearly every copy that was resized, compressed or brightened, and most that were cropped; from
6 bits on one group of unrelated lesions dominates the data set.

**The threshold holds for one decoding**: readers hash a JPEG decoded at the smallest scale of at least 64 px a side
(`HASH_DECODE_PX`). Decoded at full size the hash of a photo differs by a few bits: of HAM10000's 437 pairs within 4
bits then, 401 are the same, and 19 cross the folds of train/records, where each is 6 bits apart in the readers'
decoding. All 19 were inspected: different lesions (train/STUDY.md). Both decodings together would merge more unrelated
lesions and change the committed folds, so the rule stays.

Of the 18 published pairs across lesions (Abhishek, Jain, Hamarneh, Scientific Data 12, 196, 2025; arXiv 2401.14497)
two differ in at most 4 bits. The others, taken at another distance or angle, differ in 12 to 38 bits, as unrelated
photos do, and are listed in the label set. Of the other pairs within 4 bits 44 were inspected: all show different
lesions, small and round on even skin. Merging unrelated lesions only constrains the split while groups are small.

Between data sets (2026-11; HAM10000, the 193 validation photos of ISIC 2018, 392 of PAD-UFES-20, 240 of Caltech-101)
there is no duplicate: of 30 pairs within 4 bits, 9 were inspected, all unrelated. So each data set is split separately.
PAD-UFES-20 has two duplicates, each of one patient, so that no split divides it, with two diagnoses: PAT_56_86_479
(SCC) and PAT_56_88_274 (BCC); PAT_759_1433_914 (NEV) and PAT_759_1538_566 (BCC).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

HASH_BITS = 64
"""Unrelated photos differ in about half of them."""
GREY_SIDE_PX = 32
FREQUENCIES = 8
# Rows compared at once: 512 x 10,015 float32 products are 20 MB.
CHUNK_ROWS = 512


def phash(image: Image.Image) -> int:
    """Compute the DCT hash of a photo, an unsigned 64-bit integer.

    The photo is resized to 32 x 32 grey pixels; each of the 8 x 8 lowest frequencies of its DCT-II gives one bit,
    1 if it is above their median. The hash is robust to size, compression, brightness and contrast, not to rotation
    and mirroring. The first bit stands for the mean brightness and is nearly always 1.
    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010.
    """
    grey = image.convert("L").resize((GREY_SIDE_PX, GREY_SIDE_PX), Image.Resampling.BILINEAR)
    frequencies, positions = np.arange(FREQUENCIES)[:, None], np.arange(GREY_SIDE_PX) + 0.5
    dct = np.cos(np.pi / GREY_SIDE_PX * frequencies * positions)
    lowest = (dct @ np.asarray(grey, dtype=np.float64) @ dct.T).ravel()
    bits = lowest > np.median(lowest[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_duplicate_pairs(hashes: Sequence[int], max_bits: int) -> list[tuple[int, int]]:
    """Find all pairs of unsigned 64-bit hashes that differ in at most `max_bits` bits; negative finds nothing.

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
