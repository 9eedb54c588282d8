"""The pairs of completions on which raters are evenly split, and what was decided on them."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics.disputes import EXCERPT_CHARS, PAGE_SIZE
from rlhf_core.analytics.scope import EVERYTHING, Scope, about_pair
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.verdicts import split_pairs
from rlhf_core.store.tables import Account, Interaction, PairAdjudication
from rlhf_core.vocabulary import Choice

DECISION = table_of(PairAdjudication)


@dataclass(frozen=True)
class DisputedPair:
    """Two completions of one prompt, the first having the lower id. Texts are cut.

    Of an open one `num_each` raters prefer the first and as many the second. Of one that was
    decided what follows is set: `choice` LEFT means the first, None that the pair is excluded.
    """

    first_id: uuid.UUID
    second_id: uuid.UUID
    source: str
    prompt: str
    first: str
    second: str
    num_each: int = 0
    choice: Choice | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None


@dataclass(frozen=True)
class PairPage:
    """Some of `num_all` pairs."""

    items: tuple[DisputedPair, ...]
    num_all: int


def list_pair_disputes(
    db: Session,
    *,
    actor: Actor,
    scope: Scope = EVERYTHING,
    is_decided: bool = False,
    offset: int = 0,
    limit: int = PAGE_SIZE,
) -> PairPage:
    """Open disputes, those with the most voices first; or what was decided, the newest first.

    A dispute is a pair of which as many raters prefer one side as the other; ties and "both bad"
    speak for neither. Completions of different prompts are no pair.
    """
    require(actor, Permission.ADJUDICATE)
    found = (_decided(scope) if is_decided else _open(scope)).cte()
    first, second = aliased(Interaction), aliased(Interaction)
    order = [found.c.decided_at.desc(), found.c.id] if is_decided else [found.c.num_each.desc()]
    rows = db.execute(
        sa.select(
            found, first.source, _excerpt(first.prompt).label("prompt"),
            _excerpt(first.completion).label("first"), _excerpt(second.completion).label("second"),
        )
        .join(first, first.id == found.c.first_id)
        .join(second, second.id == found.c.second_id)
        .order_by(*order, found.c.first_id, found.c.second_id)
        .offset(offset)
        .limit(limit)
    ).all()  # fmt: skip
    items = []
    for row in rows:
        fields = row._asdict()
        fields.pop("id", None)
        if is_decided:
            fields["decided_by"] = fields["decided_by"] or "the machine's owner"
        items.append(DisputedPair(**fields))
    num_all = db.scalar(sa.select(sa.func.count()).select_from(found)) or 0
    return PairPage(tuple(items), num_all)


def count_pair_disputes(db: Session, *, actor: Actor, scope: Scope = EVERYTHING) -> int:
    """How many open ones there are."""
    require(actor, Permission.ADJUDICATE)
    return db.scalar(sa.select(sa.func.count()).select_from(_open(scope).subquery())) or 0


def _open(scope: Scope) -> sa.Select[Any]:
    split = split_pairs()
    first, second = aliased(Interaction), aliased(Interaction)
    is_decided = (
        sa.select(sa.literal(1))
        .where(
            DECISION.c.first_interaction_id == split.c.first,
            DECISION.c.second_interaction_id == split.c.second,
            DECISION.c.superseded_at.is_(None),
        )
        .exists()
    )
    return (
        sa.select(
            split.c.first.label("first_id"),
            split.c.second.label("second_id"),
            split.c.num_for.label("num_each"),
        )
        .join(first, first.id == split.c.first)
        .join(second, second.id == split.c.second)
        .where(
            first.prompt_hash == second.prompt_hash,
            _text(first.context).is_not_distinct_from(_text(second.context)),
            ~is_decided,
            *about_pair(scope, split.c.first, split.c.second),
        )
    )


def _decided(scope: Scope) -> sa.Select[Any]:
    first, second = DECISION.c.first_interaction_id, DECISION.c.second_interaction_id
    return (
        sa.select(
            DECISION.c.id,
            first.label("first_id"),
            second.label("second_id"),
            DECISION.c.choice,
            DECISION.c.created_at.label("decided_at"),
            Account.name.label("decided_by"),
        )
        .outerjoin(Account, Account.id == DECISION.c.adjudicator_id)
        .where(DECISION.c.superseded_at.is_(None), *about_pair(scope, first, second))
    )


def _text(column: Any) -> Any:
    return sa.cast(column, sa.Text)


def _excerpt(column: Any) -> Any:
    return sa.func.substr(column, 1, EXCERPT_CHARS)
