"""Joint features of a prompt and a completion, from their embeddings and their lengths.

One embedding of both texts joined is the textbook form, and weak: it cannot say how near the two
are. The products and differences, coordinate by coordinate, can.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

FEATURE_NAMES = ("prompt", "completion", "product", "difference", "lengths")
NUM_LENGTH_FEATURES = 5
LENGTH_LIMIT = 3.0
"""Standard deviations. A text longer than nearly all in training counts as one that long: the
squares would carry the score away otherwise."""


@dataclass(frozen=True)
class LengthScale:
    """Mean and standard deviation of log(1 + characters), of prompts and of completions."""

    mean: tuple[float, float]
    deviation: tuple[float, float]


def count_characters(prompts: Sequence[str], completions: Sequence[str]) -> Array:
    """log(1 + characters) of both texts: (n, 2), float64."""
    counts = [
        (len(prompt), len(completion))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return np.log1p(np.array(counts, dtype=np.float64).reshape(-1, 2))


def measure_lengths(logs: Array) -> LengthScale:
    """The scale that standardises the logs of the training rows. Equal lengths: deviation 1."""
    means = logs.mean(axis=0)
    deviations = logs.std(axis=0)
    deviations[deviations < 1e-9] = 1.0
    return LengthScale(
        mean=(float(means[0]), float(means[1])),
        deviation=(float(deviations[0]), float(deviations[1])),
    )


def build_length_features(logs: Array, scale: LengthScale) -> Array:
    """Standardised logs, their squares and their product: (n, 5).

    Ratings rise with length and fall again, and how long is too long depends on the prompt.
    """
    unit = np.clip((logs - scale.mean) / scale.deviation, -LENGTH_LIMIT, LENGTH_LIMIT)
    return np.hstack([unit, unit**2, unit[:, :1] * unit[:, 1:]])


def build_joint_features(prompts: Array, completions: Array, lengths: Array) -> Array:
    """[p, c, p*c, |p-c|, lengths] of embeddings (n, d) and length features: (n, 4 d + 5)."""
    return np.hstack(
        [prompts, completions, prompts * completions, np.abs(prompts - completions), lengths]
    )


def apply_weights(weights: Array, prompts: Array, completions: Array, lengths: Array) -> Array:
    """`build_joint_features(...) @ weights` without building the features: (n,)."""
    width = prompts.shape[1]
    of_prompt, of_completion, of_product, of_difference = np.split(weights[: 4 * width], 4)
    total: Array = (
        prompts @ of_prompt
        + completions @ of_completion
        + (prompts * completions) @ of_product
        + np.abs(prompts - completions) @ of_difference
        + lengths @ weights[4 * width :]
    )
    return total
