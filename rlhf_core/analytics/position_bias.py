"""Whether raters prefer a side: with shuffled sides, left should win as often as right."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval
from rlhf_core.agreement.shares import wilson_interval
from rlhf_core.store.tables import Comparison, Rater
from rlhf_core.vocabulary import Choice, RaterKind

MIN_COMPARISONS = 20
"""Of fewer comparisons of one rater nothing can be said: P(left) is 0.5 +- 0.2."""
EVEN = 0.5


@dataclass(frozen=True)
class PositionBias:
    """How often the left side won, of the comparisons that one side won.

    `left` is P(left wins) with its 95 % interval; None where nothing was decided. `rater_id` None:
    all raters together. Comparisons of one rater are not independent: the interval of all of them
    together is a little too narrow.
    """

    rater_id: uuid.UUID | None
    num_left: int
    num_right: int
    num_undecided: int
    left: Interval | None

    @property
    def is_biased(self) -> bool:
        """Whether an even chance lies outside of the interval."""
        return self.left is not None and not self.left.low <= EVEN <= self.left.high


def position_bias(
    db: Session,
    *,
    actor: Actor,
    queue_id: uuid.UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    sources: Collection[str] = (),
    rater_kind: RaterKind | None = None,
) -> PositionBias:
    """P(left wins) of all comparisons that stand and fit.

    Not of those that the best of three or four left behind: they are one decision among several
    places, not several between two.
    Those of the page had their sides shuffled; for others name the `sources` whose senders did so:
    where one model always stands on the left, the better model looks like a bias.
    """
    require(actor, Permission.READ_ANALYTICS)
    where = _conditions(queue_id, since, until, sources, rater_kind)
    query = sa.select(sa.null(), *_counts()).select_from(Comparison).join(Rater).where(*where)
    return _bias(db.execute(query).one())


def list_position_bias(
    db: Session,
    *,
    actor: Actor,
    queue_id: uuid.UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    sources: Collection[str] = (),
    rater_kind: RaterKind | None = None,
    least: int = MIN_COMPARISONS,
) -> list[PositionBias]:
    """The same by rater, of those who decided at least `least` comparisons; the busiest first."""
    require(actor, Permission.READ_ANALYTICS)
    where = _conditions(queue_id, since, until, sources, rater_kind)
    rows = db.execute(
        sa.select(Comparison.rater_id, *_counts())
        .join(Rater)
        .where(*where)
        .group_by(Comparison.rater_id)
    )
    found = [_bias(row) for row in rows]
    found = [one for one in found if one.num_left + one.num_right >= least]
    return sorted(found, key=lambda one: (-one.num_left - one.num_right, str(one.rater_id)))


def _bias(row: Any) -> PositionBias:
    rater_id, left, right, undecided = row
    return PositionBias(rater_id, left, right, undecided, wilson_interval(left, left + right))


def _counts() -> list[sa.ColumnElement[int]]:
    sides = Comparison.choice.in_([Choice.LEFT, Choice.RIGHT])
    return [
        sa.func.count().filter(Comparison.choice == Choice.LEFT),
        sa.func.count().filter(Comparison.choice == Choice.RIGHT),
        sa.func.count().filter(~sides),
    ]


def _conditions(
    queue_id: uuid.UUID | None,
    since: datetime | None,
    until: datetime | None,
    sources: Collection[str],
    rater_kind: RaterKind | None,
) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [
        Comparison.withdrawn_at.is_(None),
        Comparison.group_id.is_(None),
    ]
    if queue_id is not None:
        where.append(Comparison.queue_id == queue_id)
    if since is not None:
        where.append(Comparison.occurred_at >= since)
    if until is not None:
        where.append(Comparison.occurred_at < until)
    if sources:
        where.append(Comparison.source.in_(sources))
    if rater_kind is not None:
        where.append(Rater.rater_kind == rater_kind)
    return where
