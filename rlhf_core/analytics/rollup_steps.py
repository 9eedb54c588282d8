"""Counts of step labels, made anew for some days."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.analytics.rollup_days import day_of, delete_days, given, within
from rlhf_core.analytics.rollup_statements import (
    INTERACTION,
    RATER,
    SLICE,
    count_where,
)
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_counted, is_good
from rlhf_core.store.tables import (
    ReasoningStep,
    StepAnswerRollup,
    StepRollup,
)

NO_MISTAKE = -1
"""`first_wrong` of an answer none of whose steps is called wrong."""

STEP = table_of(ReasoningStep)
LABELS = table_of(StepRollup)
ANSWERS = table_of(StepAnswerRollup)

BY_SLICE = tuple(column.label(name) for name, column in SLICE.items())
SAID = sa.func.coalesce(FEEDBACK.c.label, FEEDBACK.c.thumb)
LABELED = (
    FEEDBACK.c.step_id.is_not(None),
    is_counted(FEEDBACK),
    SAID.is_not(None),
)


def rebuild_steps(db: Session, days: Sequence[date]) -> None:
    """Count the step labels of these days anew, and the answers of these days with labels."""
    delete_days(db, LABELS, days)
    delete_days(db, ANSWERS, days)
    _insert(db, LABELS, _count_labels(db, days))
    _insert(db, ANSWERS, _count_answers(db, days))


def _insert(db: Session, table: sa.Table, rows: sa.Select[Any]) -> None:
    names = [column.name for column in rows.selected_columns]
    db.execute(sa.insert(table).from_select(names, rows))


def _count_labels(db: Session, days: Sequence[date]) -> sa.Select[Any]:
    key = (
        day_of(db, FEEDBACK.c.occurred_at).label("day"),
        STEP.c.position,
        given(STEP.c.kind).label("kind"),
        RATER.c.rater_kind,
        *BY_SLICE,
    )
    return (
        sa.select(
            *key,
            count_where(SAID > 0).label("num_good"),
            count_where(SAID == 0).label("num_neutral"),
            count_where(SAID < 0).label("num_wrong"),
        )
        .select_from(FEEDBACK)
        .join(STEP, STEP.c.id == FEEDBACK.c.step_id)
        .join(RATER, RATER.c.id == FEEDBACK.c.rater_id)
        .join(INTERACTION, INTERACTION.c.id == FEEDBACK.c.interaction_id)
        .where(*LABELED, within(FEEDBACK.c.occurred_at, days))
        .group_by(*key)
    )


def _count_answers(db: Session, days: Sequence[date]) -> sa.Select[Any]:
    """A step is wrong where more of its raters say wrong than right."""
    signs = sa.case((SAID > 0, 1), (SAID < 0, -1), else_=0)
    steps = (
        sa.select(
            INTERACTION.c.id,
            STEP.c.position,
            sa.func.sum(signs).label("lead"),
        )
        .select_from(INTERACTION)
        .join(FEEDBACK, FEEDBACK.c.interaction_id == INTERACTION.c.id)
        .join(STEP, STEP.c.id == FEEDBACK.c.step_id)
        .where(*LABELED, within(INTERACTION.c.occurred_at, days))
        .group_by(INTERACTION.c.id, STEP.c.position)
        .cte("steps")
    )
    first = sa.func.min(sa.case((steps.c.lead < 0, steps.c.position)))
    answers = (
        sa.select(steps.c.id, sa.func.coalesce(first, NO_MISTAKE).label("first_wrong"))
        .group_by(steps.c.id)
        .cte("answers")
    )
    verdicts = (
        sa.select(
            answers.c.id,
            count_where(is_good(FEEDBACK)).label("num_good"),
            count_where(is_bad(FEEDBACK)).label("num_bad"),
        )
        .join_from(answers, FEEDBACK, FEEDBACK.c.interaction_id == answers.c.id)
        .where(
            FEEDBACK.c.step_id.is_(None),
            is_counted(FEEDBACK),
        )
        .group_by(answers.c.id)
        .cte("verdicts")
    )
    key = (day_of(db, INTERACTION.c.occurred_at).label("day"), answers.c.first_wrong, *BY_SLICE)
    return (
        sa.select(
            *key,
            sa.func.count().label("num_answers"),
            sa.func.coalesce(sa.func.sum(verdicts.c.num_good), 0).label("num_good"),
            sa.func.coalesce(sa.func.sum(verdicts.c.num_bad), 0).label("num_bad"),
        )
        .select_from(answers)
        .join(INTERACTION, INTERACTION.c.id == answers.c.id)
        .outerjoin(verdicts, verdicts.c.id == answers.c.id)
        .group_by(*key)
    )
