"""The completions and steps on which raters are evenly split, and what was decided on them."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics.scope import EVERYTHING, Scope, about
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.verdicts import split_completions, split_steps
from rlhf_core.store.tables import Account, Adjudication, Interaction, ReasoningStep
from rlhf_core.vocabulary import AdjudicationDecision

PAGE_SIZE = 20
EXCERPT_CHARS = 160

DECISION = table_of(Adjudication)


@dataclass(frozen=True)
class DisputedItem:
    """A completion, or with `step_id` one of its steps. Texts are cut to 160 characters.

    Of an open one `num_for` raters say good (right) and as many, `num_against`, the opposite. Of
    one that was decided `decision` and what follows are set, and the numbers are 0.
    """

    interaction_id: uuid.UUID
    step_id: uuid.UUID | None
    position: int | None
    source: str
    prompt: str
    content: str
    num_for: int
    num_against: int
    decision: AdjudicationDecision | None = None
    rating: int | None = None
    thumb: int | None = None
    label: int | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None


@dataclass(frozen=True)
class DisputePage:
    """Some of `num_all` items."""

    items: tuple[DisputedItem, ...]
    num_all: int


def list_disputes(
    db: Session,
    *,
    actor: Actor,
    scope: Scope = EVERYTHING,
    is_decided: bool = False,
    offset: int = 0,
    limit: int = PAGE_SIZE,
) -> DisputePage:
    """Open disputes, those with the most answers first; or what was decided, the newest first.

    A dispute is a thing of which as many raters say good (a rating of 4 or more, a thumb up) as
    bad: the rule by which a dataset may leave disputes out. It is open until somebody decides it,
    or excludes the whole completion.
    """
    require(actor, Permission.ADJUDICATE)
    if is_decided:
        return _list_decided(db, scope, offset, limit)
    found = _open(scope).cte()
    rows = db.execute(
        sa.select(found, sa.func.count().over().label("num_all"))
        .order_by(found.c.num_for.desc(), found.c.interaction_id, found.c.position)
        .offset(offset)
        .limit(limit)
    ).all()
    num_all = rows[0].num_all if rows else 0
    if not rows and offset:
        num_all = db.scalar(sa.select(sa.func.count()).select_from(found)) or 0
    texts = _load_texts(db, rows)
    return DisputePage(
        tuple(
            DisputedItem(
                **texts[row.interaction_id, row.step_id],
                num_for=row.num_for,
                num_against=row.num_against,
            )
            for row in rows
            if (row.interaction_id, row.step_id) in texts
        ),
        num_all,
    )


def _open(scope: Scope) -> Any:
    completions, steps = split_completions(), split_steps()
    return sa.union_all(
        sa.select(
            completions.c.interaction_id,
            sa.cast(sa.null(), sa.Uuid).label("step_id"),
            sa.literal(-1).label("position"),
            completions.c.num_for,
            completions.c.num_against,
        ).where(
            *about(scope, completions.c.interaction_id),
            ~_is_decided(completions.c.interaction_id, DECISION.c.step_id.is_(None)),
        ),
        sa.select(
            steps.c.interaction_id,
            steps.c.step_id,
            ReasoningStep.position,
            steps.c.num_for,
            steps.c.num_against,
        )
        .join(ReasoningStep, ReasoningStep.id == steps.c.step_id)
        .where(
            *about(scope, steps.c.interaction_id),
            ~_is_decided(
                steps.c.interaction_id,
                sa.or_(
                    DECISION.c.step_id == steps.c.step_id,
                    sa.and_(
                        DECISION.c.step_id.is_(None),
                        DECISION.c.decision == AdjudicationDecision.EXCLUDED,
                    ),
                ),
            ),
        ),
    )


def _is_decided(interaction_id: Any, which: Any) -> sa.ColumnElement[bool]:
    return (
        sa.select(sa.literal(1))
        .where(
            DECISION.c.interaction_id == interaction_id, DECISION.c.superseded_at.is_(None), which
        )
        .correlate_except(DECISION)
        .exists()
    )


def _list_decided(db: Session, scope: Scope, offset: int, limit: int) -> DisputePage:
    stands = [DECISION.c.superseded_at.is_(None), *about(scope, DECISION.c.interaction_id)]
    rows = db.execute(
        sa.select(
            DECISION.c.interaction_id, DECISION.c.step_id, DECISION.c.decision, DECISION.c.rating,
            DECISION.c.thumb, DECISION.c.label, DECISION.c.created_at, Account.name,
        )
        .outerjoin(Account, Account.id == DECISION.c.adjudicator_id)
        .where(*stands)
        .order_by(DECISION.c.created_at.desc(), DECISION.c.id.desc())
        .offset(offset)
        .limit(limit)
    ).all()  # fmt: skip
    texts = _load_texts(db, rows)
    return DisputePage(
        tuple(
            DisputedItem(
                **texts[row.interaction_id, row.step_id],
                num_for=0,
                num_against=0,
                decision=row.decision,
                rating=row.rating,
                thumb=row.thumb,
                label=row.label,
                decided_by=row.name or "the machine's owner",
                decided_at=row.created_at,
            )
            for row in rows
            if (row.interaction_id, row.step_id) in texts
        ),
        db.scalar(sa.select(sa.func.count()).select_from(DECISION).where(*stands)) or 0,
    )


def _load_texts(db: Session, rows: Any) -> dict[tuple[uuid.UUID, uuid.UUID | None], dict[str, Any]]:
    """What is to be shown of each thing, by interaction and step."""

    def excerpt(column: Any) -> Any:
        return sa.func.substr(column, 1, EXCERPT_CHARS)

    ids = {row.interaction_id for row in rows}
    step_ids = {row.step_id for row in rows if row.step_id is not None}
    interactions = {
        row.id: row
        for row in db.execute(
            sa.select(
                Interaction.id, Interaction.source,
                excerpt(Interaction.prompt).label("prompt"),
                excerpt(Interaction.completion).label("completion"),
            ).where(Interaction.id.in_(ids))
        )
    }  # fmt: skip
    steps = {
        row.id: row
        for row in db.execute(
            sa.select(
                ReasoningStep.id, ReasoningStep.position,
                excerpt(ReasoningStep.content).label("content"),
            ).where(ReasoningStep.id.in_(step_ids))
        )
    }  # fmt: skip
    found: dict[tuple[uuid.UUID, uuid.UUID | None], dict[str, Any]] = {}
    for row in rows:
        whole, step = interactions.get(row.interaction_id), steps.get(row.step_id)
        if whole is None or (row.step_id is not None and step is None):
            continue
        found[row.interaction_id, row.step_id] = {
            "interaction_id": row.interaction_id,
            "step_id": row.step_id,
            "position": None if step is None else step.position,
            "source": whole.source,
            "prompt": whole.prompt,
            "content": whole.completion if step is None else step.content,
        }
    return found
