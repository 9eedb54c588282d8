"""Daily counts, rebuilt for the days that a change marked dirty. '' stands for 'not given'."""

from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import Base, closed_set, created_moment
from rlhf_core.vocabulary import RaterKind


class InteractionRollup(Base):
    """Interactions a day."""

    __tablename__ = "interaction_rollups"

    day: Mapped[date] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    action_type: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    model_name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    num_interactions: Mapped[int]
    num_with_feedback: Mapped[int]


class FeedbackRollup(Base):
    """Feedback on completions a day: thumbs and ratings counted by value."""

    __tablename__ = "feedback_rollups"

    day: Mapped[date] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    action_type: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    model_name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)
    num_feedback: Mapped[int]
    num_thumbs_up: Mapped[int]
    num_thumbs_neutral: Mapped[int]
    num_thumbs_down: Mapped[int]
    num_rating_1: Mapped[int]
    num_rating_2: Mapped[int]
    num_rating_3: Mapped[int]
    num_rating_4: Mapped[int]
    num_rating_5: Mapped[int]


class StepRollup(Base):
    """Step labels a day, by position."""

    __tablename__ = "step_rollups"

    day: Mapped[date] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    action_type: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    model_name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    num_good: Mapped[int]
    num_neutral: Mapped[int]
    num_wrong: Mapped[int]


class RollupDirtyDay(Base):
    """A day whose counts must be made again."""

    __tablename__ = "rollup_dirty_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    marked_at: Mapped[datetime] = created_moment()
