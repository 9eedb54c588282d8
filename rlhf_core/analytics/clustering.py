"""Grouping texts by what they mean: pure functions on embeddings, no database.

Embeddings of one product lie close together; less their common mean, what is left tells them apart.
HDBSCAN (Campello et al. 2013) finds dense groups among many texts, in 30 dimensions: in all of them
nothing is dense. It likes to split a fault by its wordings, so groups whose members are alike on
average are put together again; among few texts that is all there is to do (average linkage).
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_core.agreement import Interval, wilson_interval
from rlhf_core.analytics.differences import subtract_shares

Array = np.ndarray[Any, Any]

OUTLIER = -1
FEW = 200
"""Below so many texts the groups are found by average linkage alone."""
ALIKE = 0.7
"""Mean cosine distance (0..2) of the members of two groups below which they are one."""
REACH = 1.1
DIMENSIONS = 30
DENSE = 3
"""Neighbours that HDBSCAN looks at: fewer than the smallest group, for small groups to be found."""
NUM_REDRAWS, REDRAWN_SHARE = 5, 0.8
NUM_WORDS = 8

_WORD = re.compile(r"[^\W\d_][\w'-]+")


@dataclass(frozen=True)
class Groups:
    """Groups of texts, numbered from 0 by size. `labels` of the texts, `OUTLIER` for none.

    A group reaches from its centre (unit vectors, less `mean`) a little farther than its farthest
    member lies from the centre of the others (`radii`, cosine distance). `stability` (0..1): how
    much of it is found again, as mean Jaccard index over redrawn samples (Hennig 2007); None where
    there was nothing to redraw.
    """

    labels: Array
    mean: Array
    centres: Array
    radii: Array
    stability: tuple[float | None, ...]

    def __len__(self) -> int:
        return len(self.radii)


def find_groups(vectors: Array, *, mean: Array, min_size: int, seed: int = 0) -> Groups:
    """Group unit vectors (n, dimension); `mean` is what texts of the kind have in common."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # many small products: threads only wait for each other
        return _find_groups(_centre(vectors, mean), mean, min_size, seed)


def _find_groups(centred: Array, mean: Array, min_size: int, seed: int) -> Groups:
    labels = _label(centred, min_size)
    num = int(labels.max(initial=OUTLIER)) + 1
    centres = np.zeros((num, centred.shape[1]))
    radii = np.zeros(num)
    for group in range(num):
        members = centred[labels == group]
        total = members.sum(axis=0)
        centres[group] = _to_units(total[None])[0]
        # each from the centre of the others: from its own it is nearer than a newcomer would be
        of_others = _to_units(total - members)
        radii[group] = REACH * float((1 - (members * of_others).sum(axis=1)).max())
    stability = _measure_stability(centred, labels, num, min_size, seed)
    return Groups(labels, mean, centres, radii, stability)


def assign(vectors: Array, groups: Groups) -> tuple[Array, Array]:
    """(labels, distances) of other texts: the nearest centre within whose radius they lie."""
    if not len(groups) or not len(vectors):
        return np.full(len(vectors), OUTLIER), np.full(len(vectors), np.nan)
    distances = 1 - _centre(vectors, groups.mean) @ groups.centres.T
    beyond = distances > groups.radii + 1e-9
    distances = np.where(beyond, np.inf, distances)
    labels = distances.argmin(axis=1)
    nearest = distances.min(axis=1)
    return np.where(np.isinf(nearest), OUTLIER, labels), nearest


def find_words(
    texts: Sequence[str], labels: Sequence[int], others: Sequence[str]
) -> list[list[str]]:
    """The typical words of each group by class-based TF-IDF (Grootendorst 2022).

    A word counts once a text; stop words count where there are no others. The classes are the
    groups, the outliers, and `others`, so that what all texts say is typical of none.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    num = max(labels, default=OUTLIER) + 1
    counts: list[Counter[str]] = [Counter() for _ in range(num)]
    everywhere: Counter[str] = Counter()
    for text, label in (
        *zip(texts, labels, strict=True), *((text, OUTLIER) for text in others)
    ):  # fmt: skip
        said = set(_WORD.findall(text.lower()))
        words = said - ENGLISH_STOP_WORDS or said
        everywhere.update(words)
        if label != OUTLIER:
            counts[label].update(words)
    mean_size = sum(everywhere.values()) / max(1, num + 1)

    def weigh(group: Counter[str], word: str) -> float:
        return group[word] * math.log1p(mean_size / everywhere[word])

    return [
        sorted((word for word in group), key=lambda word: (-weigh(group, word), word))[:NUM_WORDS]
        for group in counts
    ]


def compare_approval(
    group: Sequence[tuple[str, float]],
    rest: Sequence[tuple[str, float]],
    *,
    confidence: float = 0.95,
) -> tuple[Interval | None, Interval | None, Interval | None]:
    """Approval (0..1) of the group, of the rest, and their difference, with intervals.

    Items are (prompt, approval). Answers to one prompt are no independent witnesses: a prompt
    counts once, by its mean. Intervals: Wilson; of the difference Newcombe's (1998, method 10).
    """
    ours, theirs = (_by_prompt(items) for items in (group, rest))
    first, second = (
        wilson_interval(sum(each), len(each), confidence=confidence) for each in (ours, theirs)
    )
    if first is None or second is None:
        return first, second, None
    return first, second, subtract_shares(first, second)


def _by_prompt(items: Sequence[tuple[str, float]]) -> list[float]:
    found: dict[str, list[float]] = {}
    for prompt, approval in items:
        found.setdefault(prompt, []).append(approval)
    return [sum(each) / len(each) for each in found.values()]


def _centre(vectors: Array, mean: Array) -> Array:
    return _to_units(vectors - mean)


def _to_units(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Array = vectors / np.maximum(lengths, 1e-12)
    return units


def _label(centred: Array, min_size: int) -> Array:
    """Labels by size, the largest 0; groups below `min_size` are outliers."""
    if len(centred) < max(2, min_size):
        return np.full(len(centred), OUTLIER)
    labels = np.arange(len(centred)) if len(centred) < FEW else _find_dense(centred, min_size)
    labels = _join_alike(centred, labels)
    return _by_size(_leave_out_far(centred, labels), min_size)


def _find_dense(centred: Array, min_size: int) -> Array:
    from sklearn.cluster import HDBSCAN

    less = centred - centred.mean(axis=0)
    _, axes = np.linalg.eigh(less.T @ less)
    reduced = less @ axes[:, -DIMENSIONS:]
    searcher = HDBSCAN(
        min_cluster_size=min_size, min_samples=min(DENSE, min_size), copy=True, n_jobs=1
    )
    labels: Array = searcher.fit_predict(reduced)
    return labels


def _join_alike(centred: Array, labels: Array) -> Array:
    """Average linkage from these groups on: the mean distance of two is 1 less their means' dot."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    names = [name for name in np.unique(labels) if name != OUTLIER]
    if len(names) < 2:
        return labels
    if len(names) == len(labels):
        distances = np.clip(1 - centred @ centred.T, 0, 2)
        np.fill_diagonal(distances, 0)
        tree = linkage(squareform(distances, checks=False), method="average")
        joined: Array = fcluster(tree, ALIKE, criterion="distance") - 1
        return joined
    sums = np.stack([centred[labels == name].sum(axis=0) for name in names])
    sizes = np.array([(labels == name).sum() for name in names], dtype=float)
    distances = 1 - (sums @ sums.T) / np.outer(sizes, sizes)
    np.fill_diagonal(distances, np.inf)
    into = list(range(len(names)))
    while True:
        one, other = divmod(int(distances.argmin()), len(names))
        if not distances[one, other] < ALIKE:
            break
        sums[one] += sums[other]
        sizes[one] += sizes[other]
        into = [one if place == other else place for place in into]
        alive = np.isfinite(distances[one]) | (np.arange(len(names)) == one)
        alive[other] = False
        row = np.where(alive, 1 - sums @ sums[one] / (sizes * sizes[one]), np.inf)
        row[one] = np.inf
        distances[one], distances[:, one] = row, row
        distances[other], distances[:, other] = np.inf, np.inf
    by_name = dict(zip(names, into, strict=True))
    return np.array([by_name.get(label, OUTLIER) for label in labels])


def _leave_out_far(centred: Array, labels: Array) -> Array:
    """Members that are not `ALIKE` the middle of their group are outliers."""
    kept = labels.copy()
    for name in np.unique(labels[labels != OUTLIER]):
        members = np.flatnonzero(labels == name)
        centre = _to_units(centred[members].sum(axis=0)[None])[0]
        kept[members[1 - centred[members] @ centre > ALIKE]] = OUTLIER
    return kept


def _by_size(labels: Array, min_size: int) -> Array:
    sizes = Counter(label for label in labels.tolist() if label != OUTLIER)
    kept = [name for name, size in sizes.most_common() if size >= min_size]
    numbers = {name: number for number, name in enumerate(kept)}
    return np.array([numbers.get(label, OUTLIER) for label in labels.tolist()], dtype=int)


def _measure_stability(
    centred: Array, labels: Array, num: int, min_size: int, seed: int
) -> tuple[float | None, ...]:
    rng = np.random.default_rng(seed)
    size = int(REDRAWN_SHARE * len(centred))
    if not num or size < 2 * min_size:
        return (None,) * num
    found = np.zeros((NUM_REDRAWS, num))
    for redraw in range(NUM_REDRAWS):
        drawn = rng.choice(len(centred), size, replace=False)
        again = _label(centred[drawn], max(2, round(REDRAWN_SHARE * min_size)))
        for group in range(num):
            here = labels[drawn] == group
            overlaps = (
                (here & there).sum() / (here | there).sum()
                for there in (again == other for other in range(again.max(initial=-1) + 1))
            )
            found[redraw, group] = max(overlaps, default=0.0)
    return tuple(float(value) for value in found.mean(axis=0))
