"""What length and style alone say of a completion: the ground that a transformer starts from.

A linear model of the counts in `features` is fitted first; the transformer then learns what is left
over. With a few thousand rows it would need most of them to find out by itself what counting shows.
On the rows that it learns from, the linear model's word is that of one fitted without the prompt.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.features import Array, TextScale, build_text_features, measure_scale
from rlhf_core.rewards.logistic import fit_line, turn_to_axes

if TYPE_CHECKING:
    from rlhf_core.rewards.transformer_rows import Corpus

NUM_FOLDS = 5
PENALTY = 0.01
"""Of the ridge, as a share of the rows: 23 features and hundreds of rows need little."""
PAIR_C = 1.0


@dataclass(frozen=True)
class Manner:
    """A linear model of lengths and style: rating points above the mean, or a reward."""

    scale: TextScale
    weights: tuple[float, ...]
    intercept: float

    def apply(self, counts: Array) -> Floats:
        """One number a text (n,), from what `features.count_texts` counted (n, 20)."""
        found: Floats = build_text_features(counts, self.scale) @ np.array(self.weights)
        return found + self.intercept

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Manner":
        """What `dataclasses.asdict` made of one."""
        scale = {name: tuple(map(float, values)) for name, values in plain["scale"].items()}
        return cls(
            scale=TextScale(**scale),
            weights=tuple(map(float, plain["weights"])),
            intercept=float(plain["intercept"]),
        )


def fit_manner(learned: "Corpus", seed: int) -> tuple[Manner, "Corpus"]:
    """The model of all these rows; and the rows with the word, out of fold, of such models."""
    names, members = np.unique(np.asarray(learned.groups), return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(names))
    folds = (drawn % min(NUM_FOLDS, len(names)))[members]
    offsets = np.zeros_like(learned.offsets)
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds == fold)
        outside = learned.take(np.flatnonzero(folds != fold))
        if len(outside):
            offsets[inside] = put_offsets(learned.take(inside), _fit(outside)).offsets
    return _fit(learned), replace(learned, offsets=offsets)


def put_offsets(corpus: "Corpus", manner: Manner) -> "Corpus":
    """The rows with what the model says of them."""
    flat = corpus.counts.reshape(-1, corpus.counts.shape[2])
    return replace(corpus, offsets=manner.apply(flat).reshape(corpus.offsets.shape))


def _fit(corpus: "Corpus") -> Manner:
    flat = corpus.counts.reshape(-1, corpus.counts.shape[2])
    scale = measure_scale(flat)
    if corpus.has_pairs:
        first, second = (build_text_features(corpus.counts[:, side], scale) for side in range(2))
        both = np.vstack([first - second, second - first])
        is_first = np.repeat([True, False], len(corpus))
        basis = turn_to_axes(both)
        line = fit_line(
            basis, np.arange(len(both)), is_first, np.tile(corpus.weights, 2),
            regularisation=PAIR_C,
        )  # fmt: skip
        weights = basis.axes @ line.coefficients
        return Manner(scale=scale, weights=tuple(weights.tolist()), intercept=0.0)
    features = build_text_features(flat, scale)
    target = corpus.targets[:, 0]
    share = corpus.weights / corpus.weights.sum()
    middle, mean = share @ features, float(share @ target)
    centered = features - middle
    moment = (centered * share[:, None]).T @ centered + PENALTY * np.eye(features.shape[1])
    weights = np.linalg.solve(moment, (centered * share[:, None]).T @ (target - mean))
    return Manner(scale=scale, weights=tuple(weights.tolist()), intercept=-float(middle @ weights))
