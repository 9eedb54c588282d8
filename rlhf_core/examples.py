"""Training rows, with TRL's column names.

`group` is the hash of the normalised prompt: a split never cuts a group.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoredCompletion:
    """A completion with the mean of its ratings (1..5)."""

    prompt: str
    completion: str
    score: float
    num_ratings: int
    group: str
    interaction_id: str


@dataclass(frozen=True)
class PreferencePair:
    """Two completions of one prompt, the better one named. `margin` >= 0 in rating points."""

    prompt: str
    chosen: str
    rejected: str
    margin: float
    group: str


@dataclass(frozen=True)
class UnpairedPreference:
    """A completion with a thumb; `label` is True for up."""

    prompt: str
    completion: str
    label: bool
    group: str


@dataclass(frozen=True)
class SteppedCompletion:
    """A completion in steps; `labels[i]` says whether step i is right (None: not judged)."""

    prompt: str
    completions: tuple[str, ...]
    labels: tuple[bool | None, ...]
    group: str
