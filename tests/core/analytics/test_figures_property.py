"""Whatever is written, in whatever order: each figure is what a count of all rows gives."""

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics import action_summary, overview, rollups, trends
from rlhf_core.analytics.filters import Filters, previous_period
from rlhf_core.analytics.trends import Grain, Split
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.feedback.undo import undo_last
from rlhf_core.privacy.consent import opt_out
from rlhf_core.store.base import Base
from rlhf_core.store.engine import Store
from rlhf_core.store.queries.dirty_days import mark_days_dirty
from rlhf_core.store.tables import Feedback, Interaction
from rlhf_core.vocabulary import DEMO_SOURCE, RaterKind
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.analytics import slow_reference as slow

FIRST = datetime(2026, 2, 26, tzinfo=UTC)  # its week and its month end within the days drawn
SOURCES = ("app", "web", DEMO_SOURCE)
ACTIONS = (None, "search", "mail")
MODELS = (None, "v1", "v2")
RATERS = ("sme", "sme 2", "ann", "bob", "judge")

moments = st.builds(
    lambda day, second: FIRST + timedelta(days=day, seconds=second),
    st.integers(0, 9),
    st.sampled_from([0, 3_599, 3_600, 43_200, 86_399]),
).map(lambda moment: moment + timedelta(microseconds=999_999 * (moment.second == 59)))
said = st.fixed_dictionaries(
    {},
    optional={
        "rating": st.integers(1, 5),
        "thumb": st.integers(-1, 1),
        "comment": st.just("hm"),
        "aspects": st.dictionaries(st.sampled_from(["tone", "truth"]), st.integers(1, 5)),
        "occasion": st.integers(0, 1),
    },
).filter(lambda content: content.keys() - {"occasion"} and content.get("aspects") != {})
numbers = st.integers(0, 99)
actions = st.one_of(
    st.tuples(
        st.just("add"), *map(st.sampled_from, (SOURCES, ACTIONS, MODELS)), moments
    ),
    st.tuples(st.just("say"), numbers, st.sampled_from(RATERS), said, moments),
    st.tuples(st.just("say"), numbers, st.sampled_from(RATERS), said, moments),
    st.tuples(st.just("withdraw"), numbers),
    st.tuples(st.just("undo"), st.sampled_from(RATERS[:2])),
    st.tuples(st.just("erase"), numbers),
    st.tuples(st.just("opt_out"), st.sampled_from(["ann", "bob"])),
    st.tuples(st.just("count"), st.integers(1, 3)),
)  # fmt: skip
some = st.sets(st.integers(0, 2), max_size=2)
filters = st.builds(
    lambda since, num_days, sources, actions, models, kinds: Filters(
        since=None if since is None else FIRST.date() + timedelta(days=since),
        until=None if num_days is None else FIRST.date() + timedelta(days=(since or 0) + num_days),
        sources=tuple(SOURCES[n] for n in sources),
        action_types=tuple(ACTIONS[n] or "" for n in actions),
        model_names=tuple(MODELS[n] or "" for n in models),
        rater_kinds=tuple(kinds),
    ),
    st.one_of(st.none(), st.integers(0, 9)),
    st.one_of(st.none(), st.integers(0, 9)),
    some,
    some,
    some,
    st.sets(st.sampled_from(RaterKind), max_size=2),
)


class Doing:
    """Carries actions out as the product does, one transaction each."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.writing() as db:
            self.smes = {name: make_actor(db, name=name) for name in RATERS[:2]}

    def clear(self) -> None:
        """An empty world for the next example."""
        with self.store.writing() as db:
            for table in reversed(Base.metadata.sorted_tables):
                if "day" in table.c or table.name in ("bad_exchanges", "consents", "interactions"):
                    db.execute(sa.delete(table))

    def do(self, name: str, *drawn: Any) -> None:
        """One action; what the product refuses leaves no trace."""
        with suppress(Forbidden), self.store.writing() as db:
            getattr(self, name)(db, *drawn)

    def add(self, db: Session, source: str, action: str, model: str, at: datetime) -> None:
        make_interaction(db, source=source, action_type=action, model_name=model, occurred_at=at)

    def say(
        self, db: Session, number: int, rater: str, content: dict[str, Any], at: datetime
    ) -> None:
        interaction_id = _pick(db, Interaction, number)
        if interaction_id is None:
            return
        if rater in self.smes:
            own: dict[str, Any] = {"actor": self.smes[rater]}
        else:
            kind = RaterKind.MODEL if rater == "judge" else RaterKind.END_USER
            own = {"rater": rater, "rater_kind": kind}
        make_feedback(db, interaction_id, **own, **content, occurred_at=at)

    def withdraw(self, db: Session, number: int) -> None:
        feedback_id = _pick(db, Feedback, number)
        if feedback_id is not None:
            withdraw_feedback(db, feedback_id, actor=SYSTEM)

    def undo(self, db: Session, name: str) -> None:
        undo_last(db, actor=self.smes[name])

    def erase(self, db: Session, number: int) -> None:
        interaction_id = _pick(db, Interaction, number)
        if interaction_id is None:
            return
        said_at = db.scalars(
            sa.select(Feedback.occurred_at).where(Feedback.interaction_id == interaction_id)
        )
        item = db.get_one(Interaction, interaction_id)
        mark_days_dirty(db, [item.occurred_at, *said_at])
        db.execute(sa.delete(Interaction).where(Interaction.id == interaction_id))

    def opt_out(self, db: Session, user: str) -> None:
        opt_out(db, actor=SYSTEM, user=user)

    def count(self, db: Session, max_days: int | None = None) -> None:
        rollups.refresh_rollups(db, max_days=max_days)


def _pick(db: Session, table: Any, number: int) -> Any:
    ids = db.scalars(sa.select(table.id).order_by(table.id)).all()
    return ids[number % len(ids)] if ids else None


def check(db: Session, chosen: Filters) -> None:
    """Every figure of the pages against the slow way."""
    world = slow.load_world(db)
    fitting = world.narrow(chosen)
    ask: dict[str, Any] = {"actor": SYSTEM, "filters": chosen}

    glance = overview.read_overview(db, **ask)
    assert asdict(glance.now) == slow.key_figures(fitting)
    for day in glance.days:
        assert asdict(day.figures) == slow.key_figures(slow.on_day(fitting, day.day))
    known = {row.at.date() for row in fitting.interactions + fitting.feedback}
    assert known <= {day.day for day in glance.days}
    previous = previous_period(chosen)
    earlier = None if previous is None else world.narrow(previous)
    if earlier is None or not earlier.interactions + earlier.feedback:
        assert glance.before is None
    else:
        assert glance.before is not None
        assert asdict(glance.before) == slow.key_figures(earlier)

    for split in (None, *Split):
        for grain in Grain:
            if grain is Grain.HOUR and None in (chosen.since, chosen.until):
                continue
            points = trends.read_trend(db, **ask, grain=grain, split=split)
            found = {(point.start, point.name): _counts(point) for point in points}
            assert found == slow.trend(fitting, grain, split)
    assert _counts(trends.read_ratings(db, **ask)) == slow.feedback_counts(fitting.feedback)
    aspects = {one.name: one.ratings for one in trends.read_aspects(db, **ask)}
    expected = slow.aspects(fitting)
    assert aspects == {name: {n: of[n] for n in range(1, 6)} for name, of in expected.items()}
    summary = action_summary.summarize_by_action_type(db, **ask)
    by_action = slow.trend(fitting, Grain.MONTH, Split.ACTION_TYPE)
    assert sum(one.num_feedback for one in summary) == len(fitting.feedback)
    assert {one.action_type for one in summary} == {name for _, name in by_action}


def _counts(counts: trends.FeedbackCounts) -> dict[str, Any]:
    return {key: value for key, value in vars(counts).items() if key not in ("start", "name")}


@pytest.mark.parametrize(
    ("database_url", "num_examples"),
    [
        ("sqlite", 9),
        pytest.param("postgres", 4, marks=pytest.mark.postgres),
    ],
    indirect=["database_url"],
)
def test_figures_hold_after_any_sequence_of_writes(store: Store, num_examples: int) -> None:
    doing = Doing(store)

    @settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(st.tuples(st.booleans(), actions), min_size=12, max_size=25),
        st.lists(filters, min_size=2, max_size=2),
    )
    def run(sequence: list[tuple[bool, tuple[Any, ...]]], chosen: list[Filters]) -> None:
        doing.clear()
        for number in range(2):
            doing.do("add", SOURCES[number], ACTIONS[number], MODELS[number], FIRST)
        for counts_before, action in sequence:
            if counts_before:
                doing.do("count", None)
            doing.do(*action)
        with rollups.reading_fresh(store) as db:
            assert not rollups.has_dirty_days(db)
            for each in (Filters(), *chosen):
                check(db, each)

    run()
