"""What a rule found when it looked."""

from dataclasses import dataclass, field
from typing import Any

from rlhf_core.vocabulary import AlertKind

NOT_GIVEN = "(none)"
"""How an action type or a model that was not given is called."""
ENDED_BY_ABSENCE = frozenset({AlertKind.NEW_ACTION_TYPE, AlertKind.CANARY_DUE})
"""What these watch goes away. Of the others, a slice without a finding has too little data."""


@dataclass(frozen=True)
class Finding:
    """What a rule says of one slice at one moment. `slice_key` is empty where nothing is split.

    `value` is the figure that was compared, None where there is none; `said` is a sentence without
    any text of people but names of actions, models and aspects. `is_unsure`: it does not fire, but
    is not well either, so that an alert stays as it is.
    """

    slice_key: str
    is_firing: bool
    value: float | None
    said: str
    details: dict[str, Any] = field(default_factory=dict)
    is_unsure: bool = False


def is_over(kind: AlertKind, finding: Finding | None) -> bool:
    """Whether an alert ends on this finding of its slice; None: there is none."""
    if finding is None:
        return kind in ENDED_BY_ABSENCE
    return not finding.is_firing and not finding.is_unsure
