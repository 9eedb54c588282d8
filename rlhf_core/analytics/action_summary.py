"""Approval by kind of action, from the daily counts."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics.feedback_counts import FeedbackCounts, read_counts, sums
from rlhf_core.analytics.filters import EVERYTHING, Filters
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import FeedbackRollup

BY_DAY = table_of(FeedbackRollup)


@dataclass(frozen=True, kw_only=True)
class ActionSummary(FeedbackCounts):
    """Feedback on the completions of one action type ("" where none was given).

    `approval_rate` is about thumbs alone: a rating of 4 or 5 is no thumb up. `approval`, which the
    pages show, is about verdicts: a rating says good or bad too, and comes before a thumb.
    """

    action_type: str

    @property
    def thumbs_up(self) -> int:
        """How many thumbs up."""
        return self.thumbs[1]

    @property
    def thumbs_down(self) -> int:
        """How many thumbs down."""
        return self.thumbs[-1]

    @property
    def approval_rate(self) -> float | None:
        """Percent of up among up and down, with one decimal; None where there are neither."""
        num = self.thumbs_up + self.thumbs_down
        return round(100 * self.thumbs_up / num, 1) if num else None


def summarize_by_action_type(
    db: Session, *, actor: Actor, filters: Filters = EVERYTHING
) -> list[ActionSummary]:
    """One summary an action type that has feedback, the most feedback first."""
    require(actor, Permission.READ_ANALYTICS)
    rows = db.execute(
        sa.select(BY_DAY.c.action_type, *sums(BY_DAY))
        .where(*filters.conditions(BY_DAY))
        .group_by(BY_DAY.c.action_type)
    )
    found = [ActionSummary(**read_counts(row), action_type=row.action_type) for row in rows]
    return sorted(found, key=lambda one: (-one.num_feedback, one.action_type))
