"""The exchanges that are called bad again and again."""

import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics.filters import Filters, today
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import BadExchange, BadExchangeRollup, Interaction

MORE_THAN = 2
"""So often an exchange must be called bad to be frequent; an index holds those over all days."""
LOOKS = (40, 160, 640)
"""So many of the most frequent of all days are looked at, then so many more; then all are."""
SHORT = timedelta(days=7)
SHOWN_CHARS = 300

_BY_DAY, _TOTAL = table_of(BadExchangeRollup), table_of(BadExchange)


@dataclass(frozen=True)
class FrequentExchange:
    """One prompt, completion and action that was called bad `num_bad` times.

    `action_type` is "" where none was given. Texts are cut to `SHOWN_CHARS`. `interaction_id` is
    one of the interactions that were called so.
    """

    pattern_hash: str
    num_bad: int
    last_day: date
    action_type: str
    interaction_id: uuid.UUID
    prompt: str
    completion: str


def list_frequent(
    db: Session, *, actor: Actor, filters: Filters, limit: int = 20
) -> list[FrequentExchange]:
    """The exchanges called bad more than twice within the filters, the most frequent first."""
    require(actor, Permission.READ_ANALYTICS)
    require(actor, Permission.READ_INTERACTIONS)
    is_short = filters.since is not None and (filters.until or today()) - filters.since < SHORT
    find = _find_all if is_short else _find_most_frequent
    return _describe(db, find(db, filters, limit), filters)


def _find_all(db: Session, filters: Filters, limit: int) -> list[tuple[int, str]]:
    """(less the count, exchange), in order: one walk over the counts of the days."""
    found = _count(filters).order_by(sa.desc("num_bad"), _BY_DAY.c.pattern_hash).limit(limit)
    return [(-int(num), name) for name, num in db.execute(found)]


def _find_most_frequent(db: Session, filters: Filters, limit: int) -> list[tuple[int, str]]:
    """The same, from the most frequent of all days on, until no other can be among them."""
    found: list[tuple[int, str]] = []
    # no parameter: the index is used only where it is seen to hold all that is asked
    frequent = sa.select(_TOTAL).where(_TOTAL.c.num_bad > sa.literal_column(str(MORE_THAN)))
    rest = frequent.order_by(_TOTAL.c.num_bad.desc(), _TOTAL.c.pattern_hash)
    for at_once in LOOKS:
        most = db.execute(rest.limit(at_once)).all()
        among = _BY_DAY.c.pattern_hash.in_([row.pattern_hash for row in most])
        counted = db.execute(_count(filters).where(among))
        found = sorted([*found, *((-int(num), name) for name, num in counted)])[:limit]
        if len(most) < at_once:
            return found
        last = most[-1]
        # within the filters no exchange is more frequent than over all days
        if len(found) == limit and found[-1] <= (-last.num_bad, last.pattern_hash):
            return found
        rest = rest.where(
            _TOTAL.c.num_bad <= last.num_bad,
            sa.or_(_TOTAL.c.num_bad < last.num_bad, _TOTAL.c.pattern_hash > last.pattern_hash),
        )
    return _find_all(db, filters, limit)


def _count(filters: Filters) -> sa.Select[Any]:
    num_bad = sa.func.sum(_BY_DAY.c.num_bad)
    return (
        sa.select(_BY_DAY.c.pattern_hash, num_bad.label("num_bad"))
        .where(*filters.conditions(_BY_DAY))
        .group_by(_BY_DAY.c.pattern_hash)
        .having(num_bad > MORE_THAN)
    )


def _describe(
    db: Session, found: list[tuple[int, str]], filters: Filters
) -> list[FrequentExchange]:
    details = {
        row.pattern_hash: (row.last_day, row.action_type, uuid.UUID(row.example))
        for row in db.execute(
            sa.select(
                _BY_DAY.c.pattern_hash,
                sa.func.max(_BY_DAY.c.day).label("last_day"),
                sa.func.min(_BY_DAY.c.action_type).label("action_type"),
                # as text: before PostgreSQL 18 there is no min() of a UUID
                sa.func.min(sa.cast(_BY_DAY.c.interaction_id, sa.Text)).label("example"),
            )
            .where(
                _BY_DAY.c.pattern_hash.in_([name for _, name in found]),
                *filters.conditions(_BY_DAY),
            )
            .group_by(_BY_DAY.c.pattern_hash)
        )
    }
    ids = [example for _, _, example in details.values()]
    texts = {
        row.id: (row.prompt, row.completion)
        for row in db.execute(
            sa.select(
                Interaction.id,
                sa.func.substr(Interaction.prompt, 1, SHOWN_CHARS).label("prompt"),
                sa.func.substr(Interaction.completion, 1, SHOWN_CHARS).label("completion"),
            ).where(Interaction.id.in_(ids))
        )
    }
    return [
        FrequentExchange(name, -less, *details[name], *texts[details[name][2]])
        for less, name in found
        if details[name][2] in texts  # else erased since the day was counted
    ]
