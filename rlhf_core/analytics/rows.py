"""The rows of feedback behind a figure, page by page.

The daily counts say on which days the rows of a page lie, and how many there are in all: of a
million rows those of a few days are looked at. Where a choice has no counts (one rater, one
cluster, one exchange), an index leads to its rows, which are few.
"""

import itertools
import uuid
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, assert_never

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics.feedback_counts import RATINGS
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.raw_rows import SLICES, row_conditions
from rlhf_core.analytics.rollup_days import given, within
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_good, is_neutral
from rlhf_core.store.tables import (
    AspectRollup,
    BadExchangeRollup,
    FailureClusterMember,
    FeedbackAspect,
    FeedbackRollup,
    Interaction,
    Rater,
    ReasoningStep,
    StepRollup,
)
from rlhf_core.vocabulary import RaterKind, Verdict

SHOWN_CHARS = 300

_INTERACTION, _RATER = table_of(Interaction), table_of(Rater)
_STEP, _ASPECT = table_of(ReasoningStep), table_of(FeedbackAspect)
_MEMBER, _EXCHANGE = table_of(FailureClusterMember), table_of(BadExchangeRollup)


@dataclass(frozen=True)
class RowChoice:
    """Which rows, beside the filters; None leaves it open.

    `rating` is that of the aspect where `aspect` is given. With `about_steps` the rows are labels
    of steps, chosen by `position`, `kind` and `label`; else feedback on completions.
    """

    verdict: Verdict | None = None
    rating: int | None = None
    thumb: int | None = None
    aspect: str | None = None
    rater_id: uuid.UUID | None = None
    pattern_hash: str | None = None
    cluster_id: uuid.UUID | None = None
    about_steps: bool = False
    position: int | None = None
    kind: str | None = None
    label: int | None = None


EVERY_ROW = RowChoice()


@dataclass(frozen=True)
class FeedbackLine:
    """A row of feedback beside the beginning of what it is about (`SHOWN_CHARS` of each text).

    `position` is the step's, None for feedback on the completion.
    """

    id: uuid.UUID
    interaction_id: uuid.UUID
    occurred_at: datetime
    rater_kind: RaterKind
    rating: int | None
    thumb: int | None
    label: int | None
    position: int | None
    comment: str | None
    prompt: str
    completion: str
    source: str
    action_type: str | None
    model_name: str | None


@dataclass(frozen=True)
class RowPage:
    """Some of the rows, the latest first, and how many there are in all."""

    rows: tuple[FeedbackLine, ...]
    num_all: int


def list_rows(
    db: Session,
    *,
    actor: Actor,
    filters: Filters,
    choice: RowChoice = EVERY_ROW,
    limit: int = 50,
    offset: int = 0,
) -> RowPage:
    """The rows that a figure with these filters counts. As fresh as the daily counts."""
    require(actor, Permission.READ_ANALYTICS)
    require(actor, Permission.READ_INTERACTIONS)
    found = _candidates(filters, choice)
    counts = _count_days(db, filters, choice)
    if counts is None:
        num_all = db.scalar(sa.select(sa.func.count()).select_from(found.subquery())) or 0
    else:
        num_all = sum(num for _, num in counts)
        days, skipped = _days_of_page(counts, limit, offset)
        found = found.where(within(FEEDBACK.c.occurred_at, days))
        offset -= skipped
    order = (FEEDBACK.c.occurred_at.desc(), FEEDBACK.c.id.desc())
    ids = list(db.scalars(found.order_by(*order).limit(limit).offset(offset)))
    return RowPage(_read(db, ids, order), num_all)


def _days_of_page(
    counts: list[tuple[date, int]], limit: int, offset: int
) -> tuple[list[date], int]:
    """The days that hold the page, and how many rows lie before the first of them."""
    ends = list(itertools.accumulate(num for _, num in counts))
    days = [
        day
        for (day, num), end in zip(counts, ends, strict=True)
        if end > offset and end - num < offset + limit
    ]
    return days, next((end - num for (_, num), end in zip(counts, ends, strict=True)
                       if end > offset), 0)  # fmt: skip


def _count_days(db: Session, filters: Filters, choice: RowChoice) -> list[tuple[date, int]] | None:
    """How many of the rows each day has, the latest first; None where no daily counts tell."""
    counted = _find_counts(choice)
    if counted is None:
        return None
    table, num, where = counted
    total = sa.func.sum(num)
    query = (
        sa.select(table.c.day, total)
        .where(*where, *filters.conditions(table))
        .group_by(table.c.day)
        .having(total > 0)
        .order_by(table.c.day.desc())
    )
    return [(day, int(num)) for day, num in db.execute(query)]


def _find_counts(choice: RowChoice) -> tuple[sa.Table, Any, list[Any]] | None:
    """(table, what of it to add up, conditions)."""
    if choice.rater_id or choice.pattern_hash or choice.cluster_id:
        return None
    if choice.about_steps:
        steps = table_of(StepRollup)
        by_label = {1: steps.c.num_good, 0: steps.c.num_neutral, -1: steps.c.num_wrong}
        num = sum(by_label.values()) if choice.label is None else by_label[choice.label]
        asked = {"position": choice.position, "kind": choice.kind}
        return steps, num, [steps.c[n] == value for n, value in asked.items() if value is not None]
    said = [choice.verdict, choice.rating, choice.thumb]
    if choice.aspect is not None:
        if choice.verdict or choice.thumb is not None:
            return None
        aspects = table_of(AspectRollup)
        among = RATINGS if choice.rating is None else (choice.rating,)
        num = sum(aspects.c[f"num_rating_{rating}"] for rating in among)
        return aspects, num, [aspects.c.name == choice.aspect]
    if sum(one is not None for one in said) > 1:
        return None
    table = table_of(FeedbackRollup)
    name = "num_feedback"
    if choice.verdict is not None:
        name = f"num_{choice.verdict.value}"
    elif choice.rating is not None:
        name = f"num_rating_{choice.rating}"
    elif choice.thumb is not None:
        name = "num_thumbs_" + {1: "up", 0: "neutral", -1: "down"}[choice.thumb]
    return table, table.c[name], []


def _candidates(filters: Filters, choice: RowChoice) -> sa.Select[Any]:
    """The ids of the rows. The period is a range of moments, which an index serves."""
    return (
        sa.select(FEEDBACK.c.id)
        .join(SLICES, SLICES.c.id == FEEDBACK.c.interaction_id)
        .where(*row_conditions(filters), *_chosen(choice))
    )


def _chosen(choice: RowChoice) -> list[Any]:
    where = _of_steps(choice) if choice.about_steps else _of_completions(choice)
    interaction_id = FEEDBACK.c.interaction_id
    if choice.rater_id is not None:
        where.append(FEEDBACK.c.rater_id == choice.rater_id)
    if choice.cluster_id is not None:
        of_it = sa.select(_MEMBER.c.interaction_id).where(_MEMBER.c.cluster_id == choice.cluster_id)
        where.append(interaction_id.in_(of_it))
    if choice.pattern_hash is not None:
        example, other = _INTERACTION.alias("example"), _INTERACTION.alias("other")
        one = (
            sa.select(_EXCHANGE.c.interaction_id)
            .where(_EXCHANGE.c.pattern_hash == choice.pattern_hash)
            .limit(1)
            .scalar_subquery()
        )
        same = sa.and_(
            other.c.prompt_hash == example.c.prompt_hash,
            other.c.completion == example.c.completion,
            given(other.c.action_type) == given(example.c.action_type),
        )
        alike = sa.select(other.c.id).select_from(other.join(example, same))
        alike = alike.where(example.c.id == one)
        where.append(interaction_id.in_(alike))
    return where


def _of_steps(choice: RowChoice) -> list[Any]:
    said = sa.func.coalesce(FEEDBACK.c.label, FEEDBACK.c.thumb)
    where: list[Any] = [FEEDBACK.c.step_id.is_not(None), said.is_not(None)]
    if choice.label is not None:
        where.append(said == choice.label)
    step = sa.select(_STEP.c.id).where(_STEP.c.id == FEEDBACK.c.step_id)
    if choice.position is not None:
        step = step.where(_STEP.c.position == choice.position)
    if choice.kind is not None:
        step = step.where(given(_STEP.c.kind) == choice.kind)
    if choice.position is not None or choice.kind is not None:
        where.append(step.exists())
    return where


def _of_completions(choice: RowChoice) -> list[Any]:
    where: list[Any] = [FEEDBACK.c.step_id.is_(None)]
    match choice.verdict:
        case None:
            pass
        case Verdict.GOOD:
            where.append(is_good(FEEDBACK))
        case Verdict.NEUTRAL:
            where.append(is_neutral(FEEDBACK))
        case Verdict.BAD:
            where.append(is_bad(FEEDBACK))
        case _:
            assert_never(choice.verdict)
    if choice.thumb is not None:
        where.append(FEEDBACK.c.thumb == choice.thumb)
    if choice.aspect is not None:
        of_it = sa.select(_ASPECT.c.feedback_id).where(
            _ASPECT.c.feedback_id == FEEDBACK.c.id, _ASPECT.c.name == choice.aspect
        )
        if choice.rating is not None:
            of_it = of_it.where(_ASPECT.c.rating == choice.rating)
        where.append(of_it.exists())
    elif choice.rating is not None:
        where.append(FEEDBACK.c.rating == choice.rating)
    return where


def _read(db: Session, ids: list[uuid.UUID], order: Any) -> tuple[FeedbackLine, ...]:
    columns = [FEEDBACK.c[name] for name in ("id", "interaction_id", "occurred_at")]
    said = [FEEDBACK.c[name] for name in ("rating", "thumb", "label")]
    texts = [
        sa.func.substr(text, 1, SHOWN_CHARS)
        for text in (FEEDBACK.c.comment, _INTERACTION.c.prompt, _INTERACTION.c.completion)
    ]
    slices = [_INTERACTION.c[name] for name in ("source", "action_type", "model_name")]
    query = (
        sa.select(*columns, _RATER.c.rater_kind, *said, _STEP.c.position, *texts, *slices)
        .select_from(FEEDBACK)
        .join(_INTERACTION, _INTERACTION.c.id == FEEDBACK.c.interaction_id)
        .join(_RATER, _RATER.c.id == FEEDBACK.c.rater_id)
        .outerjoin(_STEP, _STEP.c.id == FEEDBACK.c.step_id)
        .where(FEEDBACK.c.id.in_(ids))
        .order_by(*order)
    )
    return tuple(FeedbackLine(*tuple(row)) for row in db.execute(query))
