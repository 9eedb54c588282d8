"""Which prompts are nearly the same: MinHash of their character shingles, in constant memory.

Two prompts count as near-duplicates where the shares of their shingles that they have in common
(Jaccard) are estimated at `SIMILARITY` or more: a changed number, name or full stop in a sentence.
Near-duplicates of near-duplicates belong together too. Broder 1997, "On the resemblance and
containment of documents"; banding as in Leskovec et al., "Mining of Massive Datasets", 3.4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Hashes = npt.NDArray[np.uint64]
    Signatures = npt.NDArray[np.uint32]

SIMILARITY = 0.7
SHINGLE_CHARS = 6
NUM_BANDS = 16
BAND_ROWS = 4  # at a similarity of 0.7 a pair shares a band with a probability of 0.988
NUM_HASHES = NUM_BANDS * BAND_ROWS
CHUNK = 4_096
SEED = 20_061_112  # fixed: the same prompts are near-duplicates on every machine


@dataclass(frozen=True)
class NearDuplicates:
    """`num_prompts` that are nearly the same as another, in `num_clusters`; the `largest`."""

    num_prompts: int
    num_clusters: int
    largest: int


class PromptSketches:
    """Prompts by their group (hash of the normalised prompt), each with a sketch of 256 bytes.

    `is_comparing` False: no sketches, every prompt is on its own.
    """

    def __init__(self, *, is_comparing: bool) -> None:
        self.summary: NearDuplicates | None = None
        self._places: dict[str, int] = {}
        self._signatures = bytearray()
        self._hasher = _Hasher() if is_comparing else None

    def __len__(self) -> int:
        return len(self._places)

    def add(self, group: str, prompt: str) -> int:
        """The place of the group, in the order in which they were first added."""
        place = self._places.setdefault(group, len(self._places))
        if self._hasher is not None and place * NUM_HASHES * 4 == len(self._signatures):
            self._signatures += self._hasher.sign(prompt).tobytes()
        return place

    def find_leaders(self) -> list[str]:
        """For each place the smallest group of all that are nearly the same.

        It does not depend on the order in which the prompts were added.
        """
        groups = list(self._places)
        if self._hasher is None or not groups:
            return groups
        import numpy as np

        signatures = np.frombuffer(bytes(self._signatures), dtype=np.uint32)
        order = sorted(range(len(groups)), key=groups.__getitem__)
        joined = _join(signatures.reshape(len(groups), NUM_HASHES)[order])
        parents = [0] * len(groups)
        for place, first in zip(order, joined, strict=True):
            parents[place] = order[first]
        sizes: dict[int, int] = {}
        for parent in parents:
            sizes[parent] = sizes.get(parent, 0) + 1
        several = [size for size in sizes.values() if size > 1]
        self.summary = NearDuplicates(sum(several), len(several), max(several, default=0))
        return [groups[parent] for parent in parents]


class _Hasher:
    """MinHash signatures (Dietzfelbinger's multiply-shift over hashed shingles)."""

    def __init__(self) -> None:
        import numpy as np

        drawn = np.random.default_rng(SEED)
        self._factors = drawn.integers(1, 2**63, NUM_HASHES, dtype=np.uint64) * 2 + 1
        self._shifts = drawn.integers(0, 2**63, NUM_HASHES, dtype=np.uint64)
        self._powers = drawn.integers(1, 2**63, SHINGLE_CHARS, dtype=np.uint64) * 2 + 1

    def sign(self, prompt: str) -> "Signatures":
        """The signature (NUM_HASHES,) of the normalised prompt."""
        import numpy as np

        text = " ".join(prompt.casefold().split()).ljust(SHINGLE_CHARS)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        found = np.full(NUM_HASHES, 2**32 - 1, dtype=np.uint64)
        for hashes in self._hash_shingles(codes.astype(np.uint64)):
            mixed = hashes[:, None] * self._factors + self._shifts
            np.minimum(found, (mixed >> 32).min(axis=0), out=found)
        return found.astype(np.uint32)

    def _hash_shingles(self, codes: "Hashes") -> Iterator["Hashes"]:
        """One hash a shingle, in chunks: a text of 100,000 characters needs no 50 MB."""
        num_shingles = len(codes) - SHINGLE_CHARS + 1
        for start in range(0, num_shingles, CHUNK):
            end = min(num_shingles, start + CHUNK)
            hashes = sum(
                codes[start + at : end + at] * power for at, power in enumerate(self._powers)
            )
            yield _mix(hashes)


def _mix(hashes: Any) -> Any:
    """The finaliser of SplitMix64 (Steele et al. 2014): near sums become far hashes."""
    hashes = (hashes ^ (hashes >> 30)) * 0xBF58476D1CE4E5B9
    hashes = (hashes ^ (hashes >> 27)) * 0x94D049BB133111EB
    return hashes ^ (hashes >> 31)


def _join(signatures: "Signatures") -> list[int]:
    """For each row the first row of its cluster: near pairs are looked for within equal bands."""
    import numpy as np

    parents = list(range(len(signatures)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for band in range(NUM_BANDS):
        part = np.ascontiguousarray(signatures[:, band * BAND_ROWS : (band + 1) * BAND_ROWS])
        keys = part.view(np.dtype((np.void, part.itemsize * BAND_ROWS))).ravel()
        order = np.argsort(keys, kind="stable")
        is_same = keys[order[1:]] == keys[order[:-1]]
        starts = np.maximum.accumulate(
            np.where(np.concatenate(([True], ~is_same)), np.arange(len(order)), 0)
        )
        others = np.flatnonzero(is_same) + 1
        # each with the one before it in the bucket, and with the bucket's first
        for before in (others - 1, starts[others]):
            for at in range(0, len(others), CHUNK):
                left, right = order[before[at : at + CHUNK]], order[others[at : at + CHUNK]]
                near = (signatures[left] == signatures[right]).mean(axis=1) >= SIMILARITY
                for one, two in zip(left[near].tolist(), right[near].tolist(), strict=True):
                    first, second = sorted((root(one), root(two)))
                    parents[second] = first
    return [root(place) for place in range(len(signatures))]
