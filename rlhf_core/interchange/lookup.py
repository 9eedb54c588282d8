"""What the database knows already of the things a batch names."""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.interchange.prepare import KeyPair
from rlhf_core.store.base import table_of
from rlhf_core.store.bulk import find_rows, in_slices
from rlhf_core.store.tables import Comparison, Feedback, ReasoningStep

STEP = table_of(ReasoningStep)
FEEDBACK = table_of(Feedback)
COMPARISON = table_of(Comparison)

Slot = tuple[str, str | None, str]
"""What feedback is on and whose: (interaction, step or None, rater); of a comparison (left, right,
rater). Ids as hexadecimal digits."""


@dataclass(slots=True)
class Target:
    """An interaction that feedback may be on. `day` is the UTC day on which it happened."""

    id: str
    prompt_hash: str
    completion: str
    day: str
    step_ids: list[str] = field(default_factory=list)


def find_targets(db: Session, keys: Iterable[KeyPair]) -> dict[KeyPair, Target]:
    """The stored interactions among these, without their steps."""
    columns = ("external_id", "id", "prompt_hash", "completion", "occurred_at")
    found: dict[KeyPair, Target] = {}
    for source, names in _by_source(keys):
        rows = find_rows(db, "interactions", columns, "external_id", names, source=source)
        for name, own, prompt_hash, completion, moment in rows:
            found[source, name] = Target(_hex(own), prompt_hash, completion, _day(moment))
    return found


def load_steps(db: Session, targets: Iterable[Target]) -> None:
    """Fill in the step ids of stored interactions, in order."""
    by_id = {target.id: target for target in targets}
    for part in in_slices(by_id):
        query = (
            sa.select(STEP.c.interaction_id, STEP.c.id)
            .where(STEP.c.interaction_id.in_(_ids(part)))
            .order_by(STEP.c.interaction_id, STEP.c.position)
        )
        for owner, step in db.execute(query):
            by_id[owner.hex].step_ids.append(step.hex)


def find_feedback(db: Session, keys: Iterable[KeyPair]) -> dict[KeyPair, str]:
    """The stored feedback among these, with the interaction it is on."""
    return _find_owners(db, "feedback", "interaction_id", keys)


def find_comparisons(db: Session, keys: Iterable[KeyPair]) -> dict[KeyPair, str]:
    """The stored comparisons among these, with the left interaction."""
    return _find_owners(db, "comparisons", "left_interaction_id", keys)


def _find_owners(
    db: Session, table: str, owner: str, keys: Iterable[KeyPair]
) -> dict[KeyPair, str]:
    found: dict[KeyPair, str] = {}
    for source, names in _by_source(keys):
        rows = find_rows(db, table, ("external_id", owner), "external_id", names, source=source)
        found.update(((source, name), _hex(own)) for name, own in rows)
    return found


def find_feedback_occasions(
    db: Session, interactions: Iterable[str], raters: Iterable[str]
) -> dict[Slot, set[int]]:
    """Occasions at which these raters left feedback on these interactions."""
    columns = (
        FEEDBACK.c.interaction_id,
        FEEDBACK.c.step_id,
        FEEDBACK.c.rater_id,
        FEEDBACK.c.occasion,
    )
    wanted = set(raters)
    found: dict[Slot, set[int]] = defaultdict(set)
    for part in in_slices(interactions):
        query = sa.select(*columns).where(FEEDBACK.c.interaction_id.in_(_ids(part)))
        if len(wanted) <= 500:
            query = query.where(FEEDBACK.c.rater_id.in_(_ids(wanted)))
        for owner, step, rater, occasion in db.execute(query):
            if rater.hex in wanted:
                found[owner.hex, None if step is None else step.hex, rater.hex].add(occasion)
    return found


def find_comparison_occasions(db: Session, lefts: Iterable[str]) -> dict[Slot, set[int]]:
    """Occasions at which comparisons with these left interactions were made."""
    columns = (
        COMPARISON.c.left_interaction_id,
        COMPARISON.c.right_interaction_id,
        COMPARISON.c.rater_id,
        COMPARISON.c.occasion,
    )
    found: dict[Slot, set[int]] = defaultdict(set)
    for part in in_slices(lefts):
        query = sa.select(*columns).where(COMPARISON.c.left_interaction_id.in_(_ids(part)))
        for left, right, rater, occasion in db.execute(query):
            found[left.hex, right.hex, rater.hex].add(occasion)
    return found


def find_raters(db: Session, pseudonyms: Iterable[str]) -> dict[str, str]:
    """The ids of the stored raters among these pseudonyms."""
    rows = find_rows(db, "raters", ("pseudonym", "id"), "pseudonym", pseudonyms)
    return {name: _hex(own) for name, own in rows}


def _by_source(keys: Iterable[KeyPair]) -> Iterable[tuple[str, list[str]]]:
    names: dict[str, set[str]] = defaultdict(set)
    for source, name in keys:
        names[source].add(name)
    return [(source, list(known)) for source, known in names.items()]


def _ids(values: Iterable[str]) -> list[Any]:
    return [uuid.UUID(hex=value) for value in values]


def _hex(own: uuid.UUID | str) -> str:
    return own if isinstance(own, str) else own.hex


def _day(moment: datetime | str) -> str:
    if isinstance(moment, str):
        return moment[:10]
    return moment.astimezone(UTC).date().isoformat()
