"""What a rule found when it looked."""

from dataclasses import dataclass, field
from typing import Any

NOT_GIVEN = "(none)"
"""How an action type or a model that was not given is called."""


@dataclass(frozen=True)
class Finding:
    """What a rule says of one slice at one moment. `slice_key` is empty where nothing is split.

    `value` is the figure that was compared, None where there is none; `said` is a sentence without
    any text of people but names of actions, models and aspects.
    """

    slice_key: str
    is_firing: bool
    value: float | None
    said: str
    details: dict[str, Any] = field(default_factory=dict)
