"""Whose judgements are in a version's training rows."""

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.registry.service import get_version
from rlhf_core.store.queries.verdicts import COMPARISON, FEEDBACK, is_counted
from rlhf_core.store.tables import Account, DatasetMember, DatasetVersion, Rater
from rlhf_core.vocabulary import RaterKind

MAX_RATERS = 200


@dataclass(frozen=True)
class LineageRater:
    """Somebody whose judgements the rows hold. `name` is the account's, else a short pseudonym."""

    rater_id: uuid.UUID
    name: str
    rater_kind: RaterKind
    num_judgements: int


@dataclass(frozen=True)
class LineageRaters:
    """Those with the most judgements first. End users are counted, never listed."""

    raters: tuple[LineageRater, ...]
    num_more: int
    num_end_users: int
    num_by_end_users: int


def list_lineage_raters(db: Session, version_id: uuid.UUID, *, actor: Actor) -> LineageRaters:
    """The raters behind the version's rows; what was withdrawn is left out.

    Of a row that names its judgement, who gave that one; else all who had judged its interaction
    when the rows were frozen.
    """
    require(actor, Permission.READ_MODELS)
    require(actor, Permission.READ_ANALYTICS)
    version = get_version(db, version_id, actor=actor)
    if version.dataset_version_id is None:
        return LineageRaters((), 0, 0, 0)
    said = _judgements(version.dataset_version_id)
    counted = sa.func.count(sa.distinct(said.c.judgement_id)).label("number")
    rows = db.execute(
        sa.select(Rater.id, Rater.pseudonym, Rater.rater_kind, Account.name, counted)
        .select_from(said)
        .join(Rater, Rater.id == said.c.rater_id)
        .outerjoin(Account, Account.id == Rater.account_id)
        .group_by(Rater.id, Rater.pseudonym, Rater.rater_kind, Account.name)
        .order_by(counted.desc(), Rater.pseudonym)
    ).all()
    listed = [row for row in rows if row.rater_kind is not RaterKind.END_USER]
    users = [row for row in rows if row.rater_kind is RaterKind.END_USER]
    return LineageRaters(
        raters=tuple(
            LineageRater(row.id, row.name or f"rater {row.pseudonym[2:10]}", row.rater_kind, row[4])
            for row in listed[:MAX_RATERS]
        ),
        num_more=max(0, len(listed) - MAX_RATERS),
        num_end_users=len(users),
        num_by_end_users=sum(row[4] for row in users),
    )


def _judgements(dataset_version_id: uuid.UUID) -> sa.Subquery:
    """(judgement_id, rater_id) of the rows, each by the index that fits how the row names it."""
    member = DatasetMember
    mine: Any = member.dataset_version_id == dataset_version_id
    frozen_at = (
        sa.select(DatasetVersion.created_at)
        .where(DatasetVersion.id == dataset_version_id)
        .scalar_subquery()
    )
    named = (
        sa.select(FEEDBACK.c.id.label("judgement_id"), FEEDBACK.c.rater_id)
        .join(member, member.feedback_id == FEEDBACK.c.id)
        .where(mine, FEEDBACK.c.withdrawn_at.is_(None))
    )
    compared = (
        sa.select(COMPARISON.c.id, COMPARISON.c.rater_id)
        .join(member, member.comparison_id == COMPARISON.c.id)
        .where(mine, COMPARISON.c.withdrawn_at.is_(None))
    )
    rated = (
        sa.select(FEEDBACK.c.id, FEEDBACK.c.rater_id)
        .join(member, member.interaction_id == FEEDBACK.c.interaction_id)
        .where(
            mine,
            member.feedback_id.is_(None),
            member.comparison_id.is_(None),
            is_counted(FEEDBACK),
            FEEDBACK.c.created_at <= frozen_at,
        )
    )
    return sa.union_all(named, compared, rated).subquery()
