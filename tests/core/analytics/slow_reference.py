"""The figures of the insights, counted in plain Python from all rows: slow, and easy to believe."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.trends import Grain, Split
from rlhf_core.store.tables import Feedback, FeedbackAspect, Interaction, Rater
from rlhf_core.vocabulary import DEMO_SOURCE, RaterKind


@dataclass(frozen=True)
class Row:
    """An interaction, or feedback (then with a rater) on its completion."""

    at: datetime
    source: str
    action_type: str
    model_name: str
    has_feedback: bool = False
    rater_kind: RaterKind | None = None
    rater_id: Any = None
    rating: int | None = None
    thumb: int | None = None
    aspects: tuple[tuple[str, int], ...] = ()

    @property
    def is_good(self) -> bool:
        """What the rater says of the completion."""
        return self.thumb == 1 if self.rating is None else self.rating >= 4

    @property
    def is_bad(self) -> bool:
        """The same."""
        return self.thumb == -1 if self.rating is None else self.rating <= 2

    @property
    def is_neutral(self) -> bool:
        """The same."""
        return self.thumb == 0 if self.rating is None else self.rating == 3


@dataclass(frozen=True)
class World:
    """All interactions, and all feedback on completions that counts."""

    interactions: list[Row]
    feedback: list[Row]

    def narrow(self, filters: Filters) -> "World":
        """What fits the filters. Interactions have no kind of rater."""
        has_real = any(row.source != DEMO_SOURCE for row in self.interactions)

        def fits(row: Row) -> bool:
            day = row.at.date()
            is_hidden = not filters.sources and has_real and row.source == DEMO_SOURCE
            return (
                not is_hidden
                and (filters.since is None or day >= filters.since)
                and (filters.until is None or day <= filters.until)
                and row.source in (filters.sources or [row.source])
                and row.action_type in (filters.action_types or [row.action_type])
                and row.model_name in (filters.model_names or [row.model_name])
                and (row.rater_kind is None or row.rater_kind in (filters.rater_kinds or RaterKind))
            )

        return World(
            [row for row in self.interactions if fits(row)],
            [row for row in self.feedback if fits(row)],
        )


def load_world(db: Session) -> World:
    """Read all rows."""
    aspects: dict[Any, list[tuple[str, int]]] = defaultdict(list)
    for aspect in db.scalars(sa.select(FeedbackAspect)):
        aspects[aspect.feedback_id].append((aspect.name, aspect.rating))
    known = {row.id: row for row in db.scalars(sa.select(Interaction))}
    kinds = {rater.id: rater.rater_kind for rater in db.scalars(sa.select(Rater))}
    feedback, rated = [], set()
    for said in db.scalars(sa.select(Feedback)):
        is_repeat = said.occasion > 0 and said.queue_id is not None
        if said.step_id is not None or said.withdrawn_at is not None or is_repeat:
            continue
        rated.add(said.interaction_id)
        of = known[said.interaction_id]
        feedback.append(
            Row(
                said.occurred_at,
                of.source,
                of.action_type or "",
                of.model_name or "",
                rater_kind=kinds[said.rater_id],
                rater_id=said.rater_id,
                rating=said.rating,
                thumb=said.thumb,
                aspects=tuple(aspects[said.id]),
            )
        )
    interactions = [
        Row(row.occurred_at, row.source, row.action_type or "", row.model_name or "", id in rated)
        for id, row in known.items()
    ]
    return World(interactions, feedback)


def key_figures(world: World) -> dict[str, Any]:
    """The fields of `KeyFigures`."""
    said = world.feedback
    ratings = [row.rating for row in said if row.rating is not None]
    users = [row for row in said if row.rater_kind is RaterKind.END_USER]
    return {
        "num_interactions": len(world.interactions),
        "num_with_feedback": sum(row.has_feedback for row in world.interactions),
        "num_feedback": len(said),
        "num_good": sum(row.is_good for row in said),
        "num_bad": sum(row.is_bad for row in said),
        "num_ratings": len(ratings),
        "sum_ratings": sum(ratings),
        "num_user_good": sum(row.is_good for row in users),
        "num_user_neutral": sum(row.is_neutral for row in users),
        "num_user_bad": sum(row.is_bad for row in users),
        "num_raters": len({row.rater_id for row in said if row.rater_kind is RaterKind.SME}),
    }


def on_day(world: World, day: date) -> World:
    """What happened on a day."""
    return world.narrow(Filters(since=day, until=day, sources=_sources(world)))


def feedback_counts(said: Iterable[Row]) -> dict[str, Any]:
    """The fields of `FeedbackCounts`."""
    rows = list(said)
    return {
        "num_feedback": len(rows),
        "num_good": sum(row.is_good for row in rows),
        "num_neutral": sum(row.is_neutral for row in rows),
        "num_bad": sum(row.is_bad for row in rows),
        "ratings": {n: sum(row.rating == n for row in rows) for n in range(1, 6)},
        "thumbs": {n: sum(row.thumb == n for row in rows) for n in (1, 0, -1)},
    }


def trend(world: World, grain: Grain, split: Split | None) -> dict[tuple[datetime, str], Any]:
    """Counts by start and name."""
    points: dict[tuple[datetime, str], list[Row]] = defaultdict(list)
    for row in world.feedback:
        name = "" if split is None else str(getattr(row, split.value))
        points[_start(row.at, grain), name].append(row)
    return {key: feedback_counts(rows) for key, rows in points.items()}


def aspects(world: World) -> dict[str, Counter[int]]:
    """How often each rating of each aspect came."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for row in world.feedback:
        for name, rating in row.aspects:
            found[name][rating] += 1
    return found


def _start(at: datetime, grain: Grain) -> datetime:
    if grain is Grain.HOUR:
        return at.replace(minute=0, second=0, microsecond=0)
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if grain is Grain.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if grain is Grain.MONTH else day


def _sources(world: World) -> tuple[str, ...]:
    return tuple({row.source for row in world.interactions + world.feedback})
