"""Daily counts, rebuilt for the days that a change marked dirty. '' stands for 'not given'."""

import uuid
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import Base, closed_set, created_moment
from rlhf_core.vocabulary import RaterKind


class InteractionSlice:
    """What interactions are told apart by."""

    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    action_type: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    model_name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)


class VerdictCounts:
    """Standing feedback on completions: thumbs and ratings by value."""

    num_feedback: Mapped[int]
    num_thumbs_up: Mapped[int]
    num_thumbs_neutral: Mapped[int]
    num_thumbs_down: Mapped[int]
    num_rating_1: Mapped[int]
    num_rating_2: Mapped[int]
    num_rating_3: Mapped[int]
    num_rating_4: Mapped[int]
    num_rating_5: Mapped[int]
    num_good: Mapped[int]
    num_bad: Mapped[int]


class InteractionRollup(InteractionSlice, Base):
    """Interactions a day."""

    __tablename__ = "interaction_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    num_interactions: Mapped[int]
    num_with_feedback: Mapped[int]


class FeedbackRollup(InteractionSlice, VerdictCounts, Base):
    """Feedback on completions a day. `num_good`: a rating of 4 or 5, else a thumb up."""

    __tablename__ = "feedback_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)


class FeedbackHourRollup(InteractionSlice, VerdictCounts, Base):
    """The same an hour of the day (0..23, UTC)."""

    __tablename__ = "feedback_hour_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-2)
    hour: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, sort_order=-1)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)


class RaterRollup(InteractionSlice, Base):
    """Feedback on completions a day by each rater who is no end user."""

    __tablename__ = "rater_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-2)
    rater_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, sort_order=-1)
    num_feedback: Mapped[int]
    num_good: Mapped[int]
    num_bad: Mapped[int]
    num_ratings: Mapped[int]
    sum_ratings: Mapped[int]


class AspectRollup(InteractionSlice, Base):
    """Ratings of aspects of completions a day."""

    __tablename__ = "aspect_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    num_rating_1: Mapped[int]
    num_rating_2: Mapped[int]
    num_rating_3: Mapped[int]
    num_rating_4: Mapped[int]
    num_rating_5: Mapped[int]


class StepRollup(InteractionSlice, Base):
    """Labels of steps a day (of the label), by position and kind."""

    __tablename__ = "step_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    num_good: Mapped[int]
    num_neutral: Mapped[int]
    num_wrong: Mapped[int]


class StepAnswerRollup(InteractionSlice, Base):
    """Answers whose steps were labelled, a day of the answer, by where the first mistake falls.

    `first_wrong` is a position, -1 where no step was called wrong. `num_good` and `num_bad` are of
    the feedback on these completions.
    """

    __tablename__ = "step_answer_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    first_wrong: Mapped[int] = mapped_column(primary_key=True)
    num_answers: Mapped[int]
    num_good: Mapped[int]
    num_bad: Mapped[int]


class BadExchangeRollup(Base):
    """How often one exchange (prompt, completion, action) was called bad, a day of the feedback."""

    __tablename__ = "bad_exchange_rollups"

    pattern_hash: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True, index=True)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    model_name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)
    num_bad: Mapped[int]


class BadExchange(Base):
    """An exchange that was called bad, over all days, with one interaction as its example."""

    __tablename__ = "bad_exchanges"
    __table_args__ = (
        sa.Index(
            "ix_bad_exchanges_frequent",
            "num_bad",
            sqlite_where=sa.text("num_bad > 2"),
            postgresql_where=sa.text("num_bad > 2"),
        ),
    )

    pattern_hash: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    action_type: Mapped[str] = mapped_column(sa.String(100))
    interaction_id: Mapped[uuid.UUID]
    num_bad: Mapped[int]


class RollupDirtyDay(Base):
    """A day whose counts must be made again."""

    __tablename__ = "rollup_dirty_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    marked_at: Mapped[datetime] = created_moment()
