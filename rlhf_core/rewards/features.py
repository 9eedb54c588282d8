"""Joint features of a prompt and a completion, from their embeddings and their texts.

One embedding of both texts joined is the textbook form, and weak: it cannot say how near the two
are. The products and differences, coordinate by coordinate, can.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_core.rewards.style import NUM_STYLE, describe_style

Array = npt.NDArray[np.floating[Any]]

FEATURE_NAMES = ("prompt", "completion", "product", "difference", "lengths", "style")
NUM_LENGTH_FEATURES = 5
NUM_COUNTS = 2 + NUM_STYLE
NUM_TEXT_FEATURES = NUM_LENGTH_FEATURES + NUM_STYLE
LIMIT = 3.0
"""Standard deviations. A text longer than nearly all in training counts as one that long: the
squares would carry the score away otherwise. Likewise for whatever else is counted."""


@dataclass(frozen=True)
class TextScale:
    """Mean and standard deviation of what `count_texts` counts, over the training rows."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def count_characters(prompts: Sequence[str], completions: Sequence[str]) -> Array:
    """log(1 + characters) of both texts: (n, 2), float64."""
    counts = [
        (len(prompt), len(completion))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return np.log1p(np.array(counts, dtype=np.float64).reshape(-1, 2))


def count_texts(prompts: Sequence[str], completions: Sequence[str]) -> Array:
    """The logs of both lengths and the style of each pair, not scaled: (n, 20), float64."""
    return np.hstack([count_characters(prompts, completions), describe_style(prompts, completions)])


def measure_scale(counts: Array) -> TextScale:
    """The scale that standardises the counts of the training rows. Equal values: deviation 1."""
    deviations = counts.std(axis=0)
    deviations[deviations < 1e-9] = 1.0
    return TextScale(mean=tuple(counts.mean(axis=0).tolist()), deviation=tuple(deviations.tolist()))


def build_text_features(counts: Array, scale: TextScale) -> Array:
    """Standardised lengths, their squares and product, then what else was counted: (n, 3 + m).

    `counts` (n, m) begin with the two lengths: with nothing else, these are the length features.
    Ratings rise with length and fall again, and how long is too long depends on the prompt.
    """
    unit = np.clip((counts - scale.mean) / scale.deviation, -LIMIT, LIMIT)
    lengths = unit[:, :2]
    return np.hstack([lengths, lengths**2, lengths[:, :1] * lengths[:, 1:], unit[:, 2:]])


def build_joint_features(prompts: Array, completions: Array, texts: Array) -> Array:
    """[p, c, p*c, |p-c|, texts] of embeddings (n, d) and text features: (n, 4 d + 23)."""
    return np.hstack(
        [prompts, completions, prompts * completions, np.abs(prompts - completions), texts]
    )


def apply_weights(weights: Array, prompts: Array, completions: Array, texts: Array) -> Array:
    """`build_joint_features(...) @ weights` without building the features: (n,)."""
    width = prompts.shape[1]
    of_prompt, of_completion, of_product, of_difference = np.split(weights[: 4 * width], 4)
    total: Array = (
        prompts @ of_prompt
        + completions @ of_completion
        + (prompts * completions) @ of_product
        + np.abs(prompts - completions) @ of_difference
        + texts @ weights[4 * width :]
    )
    return total
