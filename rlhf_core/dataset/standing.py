"""What became of frozen rows since: whose consent was withdrawn, what was erased or taken back."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.dataset.said import CONSENT_PURPOSE, erased, withdrew
from rlhf_core.store.tables import (
    Comparison,
    Consent,
    Dataset,
    DatasetMember,
    DatasetVersion,
    Erasure,
    Feedback,
    Interaction,
    Rater,
)
from rlhf_core.vocabulary import ConsentState, DatasetPurpose, Split

LEARNED = (Split.TRAIN, Split.VALIDATION)
LICENCE_NAMES = ("license", "licence")
"""Under either, imported rows keep what they may be used for (in `extra`)."""
Members = sa.Select[*tuple[Any, ...]]


@dataclass(frozen=True)
class Standing:
    """Rows that a model learns from (training and validation) of some frozen versions.

    `num_opted_out`: of people (who asked, or who rated) that withdrew their consent since;
    `num_erased`: whose interaction is gone, or whose person asked to be erased; `num_withdrawn`:
    on which a rating or comparison was taken back since.
    """

    names: tuple[str, ...]
    num_rows: int
    num_opted_out: int
    num_erased: int
    num_withdrawn: int


def read_standing(db: Session, version_ids: Collection[uuid.UUID]) -> Standing:
    """Look at the rows of these versions as they stand now."""
    learned = _is_learned(version_ids)
    names = db.execute(
        sa.select(Dataset.name, DatasetVersion.number)
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .where(DatasetVersion.id.in_(version_ids))
        .order_by(Dataset.name, DatasetVersion.number)
    )
    opted_out_since = Consent.recorded_at > DatasetVersion.created_at
    rater_withdrew = sa.and_(
        Rater.pseudonym.in_(withdrew()),
        sa.exists().where(
            Consent.pseudonym == Rater.pseudonym,
            Consent.purpose == CONSENT_PURPOSE,
            Consent.state == ConsentState.WITHDRAWN,
            opted_out_since,
        ),
    )
    rater_erased = sa.exists().where(
        Erasure.pseudonym == Rater.pseudonym, Erasure.requested_at > DatasetVersion.created_at
    )
    gone = _members(learned).where(DatasetMember.interaction_id.is_(None))
    return Standing(
        names=tuple(f"{name} v{number}" for name, number in names),
        num_rows=_count(db, _members(learned)),
        num_opted_out=_count(
            db, _asked_by(learned, withdrew()),
            *_voiced_by(learned, Rater.pseudonym.in_(withdrew()), rater_withdrew),
        ),
        num_erased=_count(
            db, gone, _asked_by(learned, erased()),
            *_voiced_by(learned, Rater.pseudonym.in_(erased()), rater_erased),
        ),
        num_withdrawn=_count(db, *_taken_back(learned)),
    )  # fmt: skip


def count_licences(db: Session, version_ids: Collection[uuid.UUID]) -> dict[str | None, int]:
    """Rows that a model learns from by the licence that came with them; None: none was named."""
    named = sa.func.coalesce(
        *(Interaction.extra[name].as_string() for name in LICENCE_NAMES), type_=sa.Text
    )
    rows = db.execute(
        sa.select(named.label("licence"), sa.func.count())
        .select_from(DatasetMember)
        .join(Interaction, Interaction.id == DatasetMember.interaction_id)
        .where(_is_learned(version_ids))
        .group_by("licence")
    ).all()
    return {licence: count for licence, count in rows}


def _is_learned(version_ids: Collection[uuid.UUID]) -> sa.ColumnElement[bool]:
    return sa.and_(
        DatasetMember.dataset_version_id.in_(version_ids), DatasetMember.split.in_(LEARNED)
    )


def _members(learned: sa.ColumnElement[bool]) -> Members:
    return (
        sa.select(DatasetMember.dataset_version_id, DatasetMember.row_number)
        .join(DatasetVersion, DatasetVersion.id == DatasetMember.dataset_version_id)
        .where(learned)
    )


def _asked_by(learned: sa.ColumnElement[bool], people: sa.Select[tuple[str]]) -> Members:
    return (
        _members(learned)
        .join(Interaction, Interaction.id == DatasetMember.interaction_id)
        .where(Interaction.user_pseudonym.in_(people))
    )


def _voiced_by(
    learned: sa.ColumnElement[bool],
    is_named: sa.ColumnElement[bool],
    is_merged: sa.ColumnElement[bool],
) -> tuple[Members, ...]:
    """Rows of what these people said.

    Of a row that names its feedback or comparison, whoever said it was heard when it was frozen.
    A row that merges several says not whose: there only those count who said no since.
    """
    named = _named_by(learned)
    return (
        *(rows.join(Rater, Rater.id == word.rater_id).where(is_named) for rows, word in named),
        _merged_of(learned).join(Rater, Rater.id == Feedback.rater_id).where(is_merged),
    )


def _taken_back(learned: sa.ColumnElement[bool]) -> tuple[Members, ...]:
    """Rows on which a rating or a comparison was withdrawn since."""
    words = [*_named_by(learned), (_merged_of(learned), Feedback)]
    return tuple(rows.where(word.withdrawn_at > DatasetVersion.created_at) for rows, word in words)


def _named_by(learned: sa.ColumnElement[bool]) -> list[tuple[Members, Any]]:
    """Rows that name the comparison or the feedback that they are made of, joined with it."""
    rows = _members(learned)
    return [
        (rows.join(Comparison, Comparison.id == DatasetMember.comparison_id), Comparison),
        (rows.join(Feedback, Feedback.id == DatasetMember.feedback_id), Feedback),
    ]


def _merged_of(learned: sa.ColumnElement[bool]) -> Members:
    """Rows that merge what several people said, joined with all that was said before freezing.

    Rows of steps are made of what was said of steps; rows of prompts of nobody's word.
    """
    purpose, is_of_step = Dataset.purpose, Feedback.step_id.is_not(None)
    is_used = sa.or_(
        sa.and_(purpose == DatasetPurpose.STEPS, is_of_step),
        sa.and_(purpose.not_in((DatasetPurpose.STEPS, DatasetPurpose.PROMPTS)), ~is_of_step),
    )
    return (
        _members(learned)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(Feedback, Feedback.interaction_id == DatasetMember.interaction_id)
        .where(
            DatasetMember.feedback_id.is_(None),
            DatasetMember.comparison_id.is_(None),
            Feedback.created_at <= DatasetVersion.created_at,
            is_used,
        )
    )


def _count(db: Session, *parts: Members) -> int:
    """How many different rows the parts hold together."""
    rows = sa.union(*parts).subquery() if len(parts) > 1 else parts[0].distinct().subquery()
    return db.scalar(sa.select(sa.func.count()).select_from(rows)) or 0
