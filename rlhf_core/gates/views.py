"""What callers see of rules, of what they found, and of vetoes."""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from rlhf_core.vocabulary import GateKind, GateState

Number = float | int | str | None


class RuleSource(StrEnum):
    """Where a rule comes from."""

    DEFAULT = "default"
    ALL_MODELS = "all_models"
    MODEL = "model"


@dataclass(frozen=True)
class RuleView:
    """A rule as it holds for a model. `must_be_measured`: it blocks also where nothing is known.

    `spares_first`: but not while no other version serves, whom the first one could harm.
    """

    kind: GateKind
    params: dict[str, Any]
    is_required: bool
    is_on: bool
    must_be_measured: bool
    source: RuleSource
    spares_first: bool = False
    created_by: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True)
class GateResult:
    """What a rule found. `sentence` says it in words, with its numbers."""

    kind: GateKind
    state: GateState
    sentence: str
    numbers: dict[str, Number] = field(default_factory=dict)
    is_required: bool = True
    must_be_measured: bool = False

    @property
    def blocks(self) -> bool:
        """Whether it keeps the version from users."""
        if not self.is_required or self.state is GateState.PASS:
            return False
        return self.state is GateState.FAIL or self.must_be_measured

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are kept with the move of an alias."""
        return {
            "kind": self.kind.value,
            "state": self.state.value,
            "sentence": self.sentence,
            "numbers": dict(self.numbers),
            "is_required": self.is_required,
            "blocks": self.blocks,
        }


@dataclass(frozen=True)
class Finding:
    """What a check says, before the rule says what follows from it."""

    state: GateState
    sentence: str
    numbers: dict[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class VetoView:
    """An expert's word against a version. It stands while `withdrawn_at` is None."""

    id: uuid.UUID
    version_id: uuid.UUID
    account_id: uuid.UUID | None
    who: str | None
    reason: str
    created_at: datetime
    withdrawn_at: datetime | None


def passed(sentence: str, **numbers: Number) -> Finding:
    """The version keeps the rule."""
    return Finding(GateState.PASS, sentence, numbers)


def failed(sentence: str, **numbers: Number) -> Finding:
    """The version breaks the rule."""
    return Finding(GateState.FAIL, sentence, numbers)


def not_measured(sentence: str, **numbers: Number) -> Finding:
    """Nothing is known; the sentence says how to find out."""
    return Finding(GateState.NOT_MEASURED, sentence, numbers)


def list_blocking(results: Iterable[GateResult]) -> tuple[GateResult, ...]:
    """Those that keep the version from users."""
    return tuple(result for result in results if result.blocks)


def describe_evidence(evidence: Mapping[str, Any] | None) -> str:
    """What was known when an alias moved, in a line; empty where nothing was kept.

    Other people's words are in it: show it as plain text.
    """
    found = evidence or {}
    said = []
    states = Counter(str(gate["state"]) for gate in found.get("gates") or ())
    if states:
        others = [(GateState.FAIL, "failed"), (GateState.NOT_MEASURED, "not measured")]
        parts = [f"{states[GateState.PASS]} of {states.total()} rules kept"]
        parts += [f"{states[state]} {word}" for state, word in others if states[state]]
        said.append(", ".join(parts))
    if found.get("overridden"):
        said.append(
            f"passed over {', '.join(found['overridden'])}: {found.get('override_reason') or ''}"
        )
    sentence = (found.get("verdict") or {}).get("sentence")
    if sentence:
        said.append(str(sentence))
    return "; ".join(said)
