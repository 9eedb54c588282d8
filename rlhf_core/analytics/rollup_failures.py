"""Counting the exchanges that were called bad: the same prompt, completion and action.

Kept by day, to be filtered, and in total, so that the frequent ones are found without a sum.
"""

import hashlib
from collections.abc import Iterable
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.analytics.rollup_days import day_of, delete_days, given, on_days, within
from rlhf_core.store.base import table_of
from rlhf_core.store.bulk import in_slices
from rlhf_core.store.queries.verdicts import is_bad, is_counted
from rlhf_core.store.tables import BadExchange, BadExchangeRollup, Feedback, Interaction, Rater

_BY_DAY, _TOTAL = table_of(BadExchangeRollup), table_of(BadExchange)
_FEEDBACK, _INTERACTION, _RATER = table_of(Feedback), table_of(Interaction), table_of(Rater)


def rebuild_bad_exchanges(db: Session, days: Iterable[date]) -> None:
    """Count the bad exchanges of these days anew, in the caller's writing transaction.

    One at a time (`refresh_rollups` sees to it): two who count different days share the totals.
    """
    wanted = sorted(set(days))
    if not wanted:
        return
    if db.get_bind().dialect.name == "sqlite":
        driver: Any = db.connection().connection.driver_connection
        driver.create_function("exchange_hash", 1, _hash, deterministic=True)
    hashes = sa.select(_BY_DAY.c.pattern_hash).where(on_days(_BY_DAY, wanted)).distinct()
    touched = set(db.scalars(hashes))
    delete_days(db, _BY_DAY, wanted)
    db.execute(_count(db, wanted))
    touched.update(db.scalars(hashes))
    for part in in_slices(sorted(touched)):
        db.execute(sa.delete(_TOTAL).where(_TOTAL.c.pattern_hash.in_(part)))
        total = (
            sa.select(_BY_DAY.c.pattern_hash, sa.func.sum(_BY_DAY.c.num_bad))
            .where(_BY_DAY.c.pattern_hash.in_(part))
            .group_by(_BY_DAY.c.pattern_hash)
        )
        db.execute(sa.insert(_TOTAL).from_select(["pattern_hash", "num_bad"], total))


def _count(db: Session, days: list[date]) -> Any:
    """INSERT ... SELECT: the bad feedback of the days."""
    keys = {
        "pattern_hash": _exchange_hash(db),
        "day": day_of(db, _FEEDBACK.c.occurred_at),
        "source": _INTERACTION.c.source,
        "model_name": given(_INTERACTION.c.model_name),
        "rater_kind": _RATER.c.rater_kind,
        "action_type": given(_INTERACTION.c.action_type),
    }
    each = (
        sa.select(
            *(key.label(name) for name, key in keys.items()),
            sa.cast(_INTERACTION.c.id, sa.Text).label("interaction_id"),
        )
        .select_from(_FEEDBACK)
        .join(_INTERACTION, _INTERACTION.c.id == _FEEDBACK.c.interaction_id)
        .join(_RATER, _RATER.c.id == _FEEDBACK.c.rater_id)
        .where(
            is_bad(_FEEDBACK),
            _FEEDBACK.c.step_id.is_(None),
            is_counted(_FEEDBACK),
            within(_FEEDBACK.c.occurred_at, days),
        )
        .subquery()
    )
    columns = [each.c[name] for name in keys]
    # as text: before PostgreSQL 18 there is no min() of a UUID
    example = sa.cast(sa.func.min(each.c.interaction_id), _INTERACTION.c.id.type)
    counted = sa.select(*columns, example, sa.func.count()).group_by(*columns)
    return sa.insert(_BY_DAY).from_select([*keys, "interaction_id", "num_bad"], counted)


def _exchange_hash(db: Session) -> Any:
    action = given(_INTERACTION.c.action_type)
    exchange = (
        _INTERACTION.c.prompt_hash  # always 32 digits
        + sa.cast(sa.func.length(action), sa.Text)  # keeps "a" + "bc" apart from "ab" + "c"
        + ":"
        + action
        + _INTERACTION.c.completion
    )
    if db.get_bind().dialect.name == "sqlite":
        return sa.func.exchange_hash(exchange)
    as_bytes = sa.func.convert_to(exchange, "UTF8")
    return sa.func.left(sa.func.encode(sa.func.sha256(as_bytes), "hex"), 32)


def _hash(exchange: str) -> str:
    return hashlib.sha256(exchange.encode()).hexdigest()[:32]
