"""One thing that raters judged, as its adjudicator sees it: everybody's answers side by side."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import NotFound
from rlhf_core.feedback.views import InteractionView, SpanView, StepView, get_interaction
from rlhf_core.store.tables import (
    Account,
    Adjudication,
    Feedback,
    FeedbackAspect,
    FeedbackSpan,
    Rater,
)
from rlhf_core.vocabulary import AdjudicationDecision, RaterKind

MAX_OPINIONS = 100


@dataclass(frozen=True)
class Opinion:
    """What one rater said. Accounts are named; of an end user only that it is one."""

    name: str
    rater_kind: RaterKind
    said_at: datetime
    occasion: int
    rating: int | None
    thumb: int | None
    label: int | None
    comment: str | None
    correction: str | None
    aspects: dict[str, int] = field(default_factory=dict)
    spans: tuple[SpanView, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What an adjudicator decided; `superseded_at` is None while it stands."""

    id: uuid.UUID
    decision: AdjudicationDecision
    rating: int | None
    thumb: int | None
    label: int | None
    reason: str | None
    decided_by: str
    created_at: datetime
    superseded_at: datetime | None


@dataclass(frozen=True)
class Dispute:
    """A completion, or one of its steps, with all that was said of it and decided on it.

    `decisions` are the newest first; at most the first of them stands.
    """

    interaction: InteractionView
    step: StepView | None
    opinions: tuple[Opinion, ...]
    decisions: tuple[Decision, ...]

    @property
    def standing(self) -> Decision | None:
        """The decision that counts; None where none does."""
        return next((one for one in self.decisions if one.superseded_at is None), None)


def get_dispute(
    db: Session, interaction_id: uuid.UUID, *, actor: Actor, step_id: uuid.UUID | None = None
) -> Dispute:
    """The thing, what everybody says of it, and what was decided.

    Raises:
        NotFound: there is no such interaction or step, or not any more.
    """
    require(actor, Permission.ADJUDICATE)
    interaction = get_interaction(db, interaction_id, actor=actor)
    step = next((step for step in interaction.steps if step.id == step_id), None)
    if step_id is not None and step is None:
        raise NotFound(f"Interaction {interaction_id} has no step {step_id}.")
    return Dispute(
        interaction,
        step,
        tuple(_list_opinions(db, interaction_id, step_id)),
        tuple(_list_decisions(db, interaction_id, step_id)),
    )


def _list_opinions(
    db: Session, interaction_id: uuid.UUID, step_id: uuid.UUID | None
) -> list[Opinion]:
    rows = db.execute(
        sa.select(
            Feedback.id, Feedback.rating, Feedback.thumb, Feedback.label, Feedback.comment,
            Feedback.correction, Feedback.occasion, Feedback.created_at, Rater.pseudonym,
            Rater.rater_kind, Account.name,
        )
        .join(Rater, Rater.id == Feedback.rater_id)
        .outerjoin(Account, Account.id == Rater.account_id)
        .where(
            Feedback.interaction_id == interaction_id,
            Feedback.step_id.is_not_distinct_from(step_id),
            Feedback.withdrawn_at.is_(None),
        )
        .order_by(Feedback.created_at, Feedback.id)
        .limit(MAX_OPINIONS)
    ).all()  # fmt: skip
    ids = [row.id for row in rows]
    aspects: dict[uuid.UUID, dict[str, int]] = {}
    for one in db.scalars(sa.select(FeedbackAspect).where(FeedbackAspect.feedback_id.in_(ids))):
        aspects.setdefault(one.feedback_id, {})[one.name] = one.rating
    spans: dict[uuid.UUID, list[SpanView]] = {}
    marked = sa.select(FeedbackSpan).where(FeedbackSpan.feedback_id.in_(ids))
    for span in db.scalars(marked.order_by(FeedbackSpan.start_at, FeedbackSpan.end_at)):
        view = SpanView(span.start_at, span.end_at, span.tag, span.note)
        spans.setdefault(span.feedback_id, []).append(view)
    return [
        Opinion(
            name=rater_name(row),
            rater_kind=row.rater_kind,
            said_at=row.created_at,
            occasion=row.occasion,
            rating=row.rating,
            thumb=row.thumb,
            label=row.label,
            comment=row.comment,
            correction=row.correction,
            aspects=aspects.get(row.id, {}),
            spans=tuple(spans.get(row.id, ())),
        )
        for row in rows
    ]


def rater_name(row: Any) -> str:
    """What a rater is called beside others; `row` has name, pseudonym and kind."""
    if row.rater_kind is RaterKind.END_USER:
        return "an end user"
    return row.name or f"rater {row.pseudonym[2:10]}"


def _list_decisions(
    db: Session, interaction_id: uuid.UUID, step_id: uuid.UUID | None
) -> list[Decision]:
    rows = db.execute(
        sa.select(Adjudication, Account.name)
        .outerjoin(Account, Account.id == Adjudication.adjudicator_id)
        .where(
            Adjudication.interaction_id == interaction_id,
            Adjudication.step_id.is_not_distinct_from(step_id),
        )
        .order_by(Adjudication.created_at.desc(), Adjudication.id.desc())
    )
    return [
        Decision(
            id=row.id,
            decision=row.decision,
            rating=row.rating,
            thumb=row.thumb,
            label=row.label,
            reason=row.reason,
            decided_by=name or "the machine's owner",
            created_at=row.created_at,
            superseded_at=row.superseded_at,
        )
        for row, name in rows
    ]
