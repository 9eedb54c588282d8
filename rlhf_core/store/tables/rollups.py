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
    """Standing feedback on completions: thumbs and ratings by value, and what they come to.

    Good is a rating of 4 or 5, without a rating a thumb up; bad is a 1 or 2, or a thumb down;
    neutral is a 3, or a neutral thumb. The rest says none of it: a comment alone.
    """

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
    num_neutral: Mapped[int]
    num_bad: Mapped[int]


class InteractionRollup(InteractionSlice, Base):
    """Interactions a day."""

    __tablename__ = "interaction_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    num_interactions: Mapped[int]
    num_with_feedback: Mapped[int]


class FeedbackRollup(InteractionSlice, VerdictCounts, Base):
    """Feedback on completions a day."""

    __tablename__ = "feedback_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)


class FeedbackHourRollup(InteractionSlice, VerdictCounts, Base):
    """The same an hour of the day (0..23, UTC)."""

    __tablename__ = "feedback_hour_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-2)
    hour: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, sort_order=-1)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)


class FeedbackHourTotal(VerdictCounts, Base):
    """The same by source alone: what is asked when neither action nor model is chosen."""

    __tablename__ = "feedback_hour_totals"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-4)
    hour: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, sort_order=-3)
    rater_kind: Mapped[RaterKind] = mapped_column(
        closed_set(RaterKind), primary_key=True, sort_order=-2
    )
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True, sort_order=-1)


class RaterRollup(InteractionSlice, Base):
    """Feedback on completions a day by each rater who is no end user."""

    __tablename__ = "rater_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-3)
    rater_kind: Mapped[RaterKind] = mapped_column(
        closed_set(RaterKind), primary_key=True, sort_order=-2
    )
    rater_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, sort_order=-1)
    num_feedback: Mapped[int]


class RaterDayRollup(Base):
    """The same by source alone: what is asked when neither action nor model is chosen."""

    __tablename__ = "rater_day_rollups"

    day: Mapped[date] = mapped_column(primary_key=True)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)
    rater_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    num_feedback: Mapped[int]


class RatingCounts:
    """How often each rating was given."""

    num_rating_1: Mapped[int]
    num_rating_2: Mapped[int]
    num_rating_3: Mapped[int]
    num_rating_4: Mapped[int]
    num_rating_5: Mapped[int]


class AspectRollup(InteractionSlice, RatingCounts, Base):
    """Ratings of aspects of completions a day."""

    __tablename__ = "aspect_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(100), primary_key=True)


class AspectTotal(RatingCounts, Base):
    """The same by source alone: what is asked when neither action nor model is chosen."""

    __tablename__ = "aspect_totals"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-4)
    rater_kind: Mapped[RaterKind] = mapped_column(
        closed_set(RaterKind), primary_key=True, sort_order=-3
    )
    name: Mapped[str] = mapped_column(sa.String(100), primary_key=True, sort_order=-2)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True, sort_order=-1)


class StepRollup(InteractionSlice, Base):
    """Labels of steps a day (of the label), by position and kind."""

    __tablename__ = "step_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)
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


class UserSession(Base):
    """What one user did in one go on one day; `number` counts the sessions of a day and source.

    Its action type and model are those of its first interaction. `num_feedback` and what follows
    is the user's own feedback on its completions. `bucket`, 0 to 255, is a hash of the user: so
    many users can be counted by a sample, which of each day lies together; -1 of unknown users.
    """

    __tablename__ = "user_sessions"
    __table_args__ = {"sqlite_with_rowid": False}

    day: Mapped[date] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    user_pseudonym: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    action_type: Mapped[str] = mapped_column(sa.String(100))
    model_name: Mapped[str] = mapped_column(sa.String(200))
    duration_s: Mapped[float]
    num_interactions: Mapped[int]
    num_events: Mapped[int]
    num_feedback: Mapped[int]
    num_good: Mapped[int]
    num_neutral: Mapped[int]
    num_bad: Mapped[int]


class SessionRollup(InteractionSlice, Base):
    """Sessions a day, by how long they lasted (`num_under_300`: less than 300 s)."""

    __tablename__ = "session_rollups"

    day: Mapped[date] = mapped_column(primary_key=True, sort_order=-1)
    num_sessions: Mapped[int]
    num_with_feedback: Mapped[int]
    num_interactions: Mapped[int]
    sum_duration_s: Mapped[float]
    num_single: Mapped[int]
    num_under_60: Mapped[int]
    num_under_300: Mapped[int]
    num_under_900: Mapped[int]
    num_under_1800: Mapped[int]
    num_under_3600: Mapped[int]
    num_longer: Mapped[int]


class SessionPathRollup(Base):
    """How many sessions a day had the same events; `number` counts the paths of a day and source.

    `path` holds the names of a session's first events in order, one a line; one that follows
    itself is there once.
    """

    __tablename__ = "session_path_rollups"

    day: Mapped[date] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(sa.Text)
    num_sessions: Mapped[int]


class BadExchangeRollup(Base):
    """How often one exchange (prompt, completion, action) was called bad, a day of the feedback.

    `interaction_id` is one of the interactions that were called so.
    """

    __tablename__ = "bad_exchange_rollups"

    pattern_hash: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True, index=True)
    source: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    model_name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind), primary_key=True)
    action_type: Mapped[str] = mapped_column(sa.String(100))
    interaction_id: Mapped[uuid.UUID]
    num_bad: Mapped[int]


class BadExchange(Base):
    """An exchange that was called bad, over all days."""

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
    num_bad: Mapped[int]


class RollupDirtyDay(Base):
    """A day whose counts must be made again."""

    __tablename__ = "rollup_dirty_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    marked_at: Mapped[datetime] = created_moment()
