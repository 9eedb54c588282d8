"""Whose judgements a figure is about: all, those on a queue's items, or those on one source."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from rlhf_core.analytics.filters import EVERYTHING as ALL_USUAL
from rlhf_core.store.tables import Interaction, RatingQueueItem


@dataclass(frozen=True)
class Scope:
    """Judgements of the items in a queue, wherever they were given, or of a source; None: any.

    `since` (in) and `until` (out) are moments of the judgement, see `in_period`. `is_usual`:
    without demo data wherever there is any other.
    """

    queue_id: uuid.UUID | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_usual: bool = False


EVERYTHING = Scope()


def about(scope: Scope, interaction_id: Any) -> list[sa.ColumnElement[bool]]:
    """Conditions: the interaction lies in the scope."""
    where = _of_source(scope, interaction_id)
    if scope.queue_id is not None:
        items = sa.select(RatingQueueItem.interaction_id).where(
            RatingQueueItem.queue_id == scope.queue_id,
            RatingQueueItem.other_interaction_id.is_(None),
        )
        where.append(interaction_id.in_(items))
    return where


def about_pair(scope: Scope, first: Any, second: Any) -> list[sa.ColumnElement[bool]]:
    """Conditions: the pair, `first` having the lower id, lies in the scope."""
    where = _of_source(scope, first)
    if scope.queue_id is not None:
        where.append(
            sa.select(sa.literal(1))
            .where(
                RatingQueueItem.queue_id == scope.queue_id,
                RatingQueueItem.interaction_id == first,
                RatingQueueItem.other_interaction_id == second,
            )
            .exists()
        )
    return where


def in_period(scope: Scope, occurred_at: Any) -> list[sa.ColumnElement[bool]]:
    """Conditions: the judgement lies in the period of the scope."""
    where = []
    if scope.since is not None:
        where.append(occurred_at >= scope.since)
    if scope.until is not None:
        where.append(occurred_at < scope.until)
    return where


def _of_source(scope: Scope, interaction_id: Any) -> list[sa.ColumnElement[bool]]:
    where = []
    if scope.source is not None:
        where.append(Interaction.source == scope.source)
    if scope.is_usual:
        where += ALL_USUAL.conditions(Interaction)
    return [interaction_id.in_(sa.select(Interaction.id).where(*where))] if where else []
