"""Whether rows to test on were seen in training: the same prompts, or nearly the same."""

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

SHINGLE_WORDS = 3
NEAR = 0.7
"""Share of shingles in common (Jaccard) from which two prompts are nearly alike."""
NUM_BANDS, HASHES_A_BAND = 16, 3
"""Two prompts with 0.7 in common share a band with a probability of 0.999, with 0.3 of 0.35."""
PRIME = (1 << 31) - 1
MAX_CANDIDATES = 200
READ_CHARS = 20_000
WORDS = re.compile(r"\w+")


def find_near(prompts: Sequence[str], known: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Which prompts (n,) share at least `NEAR` of their shingles with a known one.

    MinHash finds candidates (Broder 1997), the shingles themselves decide. Constant memory a
    known prompt but for its shingles.
    """
    rng = np.random.default_rng(0)
    factors = rng.integers(1, PRIME, size=NUM_BANDS * HASHES_A_BAND)
    offsets = rng.integers(0, PRIME, size=NUM_BANDS * HASHES_A_BAND)
    buckets: dict[bytes, list[int]] = defaultdict(list)
    shingles = []
    for number, prompt in enumerate(dict.fromkeys(known)):
        shingles.append(cut_shingles(prompt))
        for band in _sign(shingles[-1], factors, offsets):
            buckets[band].append(number)
    return np.array(
        [_is_near(cut_shingles(prompt), buckets, shingles, factors, offsets) for prompt in prompts],
        dtype=bool,
    )


def cut_shingles(text: str) -> frozenset[int]:
    """Hashes of each three words in a row, lower case; of a shorter text, of all its words."""
    words = WORDS.findall(text[:READ_CHARS].lower())
    last = max(1, len(words) - SHINGLE_WORDS + 1)
    return frozenset(
        zlib.crc32(" ".join(words[at : at + SHINGLE_WORDS]).encode()) % PRIME for at in range(last)
    )


def _is_near(
    wanted: frozenset[int],
    buckets: dict[bytes, list[int]],
    shingles: list[frozenset[int]],
    factors: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
) -> bool:
    candidates: set[int] = set()
    for band in _sign(wanted, factors, offsets):
        candidates.update(buckets.get(band, [])[:MAX_CANDIDATES])
    return any(
        len(wanted & shingles[number]) >= NEAR * len(wanted | shingles[number])
        for number in candidates
    )


def _sign(
    shingles: frozenset[int], factors: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
) -> list[bytes]:
    """The keys of the bands that the text falls into."""
    values = np.fromiter(shingles, dtype=np.int64, count=len(shingles))
    # Below 2^31 times below 2^31 stays below 2^62.
    hashed = (values[None, :] * factors[:, None] + offsets[:, None]) % PRIME
    lowest = hashed.min(axis=1).reshape(NUM_BANDS, HASHES_A_BAND)
    return [bytes([band]) + row.tobytes() for band, row in enumerate(lowest)]
