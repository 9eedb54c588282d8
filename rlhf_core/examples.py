"""Training rows, with TRL's column names.

`group` is the hash of the normalised prompt: a split never cuts a group. `segments` says what kind
of row it is (`action_type`, `source`, `language`, `model_name`; absent where not known), so that
figures can be given by slice. `interaction_id` and its like tie a row to where it came from; rows
that come from no database leave them empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ScoredCompletion:
    """A completion with the score (1..5) that its raters gave; `aspects` likewise, by name.

    `spread` is the standard deviation between the raters (0 with one).
    """

    prompt: str
    completion: str
    score: float
    num_ratings: int
    group: str
    interaction_id: str = ""
    aspects: Mapping[str, float] = field(default_factory=dict)
    spread: float = 0.0
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreferencePair:
    """Two completions of one prompt, the better one named.

    `margin` >= 0 in rating points; `origin` is a `vocabulary.PairOrigin`. A correction has no
    interaction of its own: `chosen_interaction_id` is then the corrected one's.
    """

    prompt: str
    chosen: str
    rejected: str
    margin: float
    group: str
    origin: str = ""
    num_votes: int = 1
    chosen_interaction_id: str = ""
    rejected_interaction_id: str = ""
    comparison_id: str = ""
    feedback_id: str = ""
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UnpairedPreference:
    """A completion with a thumb; `label` is True for up."""

    prompt: str
    completion: str
    label: bool
    group: str
    interaction_id: str = ""
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptOnly:
    """A prompt to sample completions for."""

    prompt: str
    group: str
    interaction_id: str = ""
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SteppedCompletion:
    """A completion in steps; `labels[i]` says whether step i is right (None: not judged)."""

    prompt: str
    completions: tuple[str, ...]
    labels: tuple[bool | None, ...]
    group: str
    interaction_id: str = ""
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SftExample:
    """A completion to imitate: one that people found good, or an expert's correction."""

    prompt: str
    completion: str
    group: str
    is_correction: bool = False
    interaction_id: str = ""
    feedback_id: str = ""
    segments: Mapping[str, str] = field(default_factory=dict)


Example = (
    ScoredCompletion
    | PreferencePair
    | UnpairedPreference
    | PromptOnly
    | SteppedCompletion
    | SftExample
)
"""A row of any purpose."""
