"""Approval at a glance."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.store.tables import Feedback, Interaction


@dataclass(frozen=True)
class ActionSummary:
    """Feedback on the completions of one action type ("" where none was given).

    `approval_rate` is the percentage of thumbs up among thumbs up and down, with one decimal; None
    where there are neither.
    """

    action_type: str
    total_feedback: int
    thumbs_up: int
    thumbs_down: int
    approval_rate: float | None


def summarize_by_action_type(db: Session, *, actor: Actor) -> list[ActionSummary]:
    """One summary an action type that has feedback, the most feedback first.

    Counted are current rows on completions, of all raters. Only thumbs count as approval: a rating
    of 4 or 5 is no thumb up, for what "good" means on that scale is a choice of each training.
    """
    require(actor, Permission.READ_ANALYTICS)
    action_type = sa.func.coalesce(Interaction.action_type, "")
    total = sa.func.count()
    up, down = (sa.func.count().filter(Feedback.thumb == thumb) for thumb in (1, -1))
    rows = db.execute(
        sa.select(action_type, total, up, down)
        .select_from(Feedback)
        .join(Interaction, Interaction.id == Feedback.interaction_id)
        .where(Feedback.step_id.is_(None), Feedback.withdrawn_at.is_(None))
        .group_by(Interaction.action_type)
        .order_by(total.desc(), action_type)
    )
    return [
        ActionSummary(name, count, num_up, num_down, _percent(num_up, num_up + num_down))
        for name, count, num_up, num_down in rows
    ]


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None
