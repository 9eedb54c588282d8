"""Figures of sessions and users, funnels, and what a model changes."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.agreement import Interval
from rlhf_core.analytics import funnels, sessions
from rlhf_core.analytics.differences import (
    TERMS,
    compare_ratios,
    product_names,
    subtract_shares,
)
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.funnels import (
    build_funnel,
    count_names,
    read_paths,
    suggest_stages,
)
from rlhf_core.analytics.model_effect import Outcome, read_effects
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.analytics.sessions import Segment, read_segments, read_sessions, read_users
from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.events import EventDraft, submit_events
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import RaterKind
from tests.builders import make_feedback, make_interaction
from tests.databases import only_sqlite

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SQLITE = only_sqlite


def visit(
    db: Session, user: str, day: int, *, thumb: int | None = None, seconds: int = 0, **fields: Any
) -> None:
    """One session of two acts (one where `seconds` is 0)."""
    at = START + timedelta(days=day)
    values = {"user": user, "chat_id": f"{user}-{day}"} | fields
    item = make_interaction(db, occurred_at=at, **values).id
    if seconds:
        make_interaction(db, occurred_at=at + timedelta(seconds=seconds), **values)
    if thumb is not None:
        make_feedback(db, item, thumb=thumb, rater_kind=RaterKind.END_USER, occurred_at=at)


def test_users_who_come_back_and_who_speak_are_counted_once(store: Store) -> None:
    with store.writing() as db:
        visit(db, "ann", 0, seconds=90, model_name="m1", thumb=1)
        visit(db, "ann", 3, model_name="m2", thumb=-1)
        visit(db, "ben", 0, seconds=30, model_name="m1")
        visit(db, "ben", 0, chat_id="other", model_name="m1")  # twice on one day
        make_interaction(db, chat_id="nobody", occurred_at=START)
        refresh_rollups(db)
        counts, days = read_sessions(db, actor=SYSTEM)
        assert (counts.num_sessions, counts.num_with_feedback, counts.num_single) == (5, 2, 3)
        assert counts.mean_duration_s == 60.0
        assert (counts.num_under_60, counts.num_under_300) == (1, 1)
        assert [day.counts.num_sessions for day in days] == [4, 1]
        users = read_users(db, actor=SYSTEM)
        assert (users.num_users, users.one_in) == (2, 1)
        assert users.returning is not None
        assert users.speaking is not None
        assert (users.returning.value, users.speaking.value) == (0.5, 0.5)
        first = Filters(until=START.date())
        assert read_users(db, actor=SYSTEM, filters=first).returning == Interval(
            0.0, 0.0, pytest.approx(0.658, abs=0.001)
        )
        by_model = {one.name: one for one in read_segments(db, actor=SYSTEM, by=Segment.MODEL_NAME)}
        assert by_model["m1"].sessions.num_sessions == 3
        satisfaction = by_model["m2"].satisfaction
        assert satisfaction is not None
        assert satisfaction.value == 0.0
        assert by_model[""].satisfaction is None


@SQLITE
def test_of_many_sessions_one_user_in_so_many_is_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writing() as db:
        for number in range(300):
            visit(db, f"u{number}", 0)
            if number % 3 == 0:
                visit(db, f"u{number}", 1)
        refresh_rollups(db)
        whole = read_users(db, actor=SYSTEM)
        monkeypatch.setattr(sessions, "MAX_SESSIONS_READ", 200)
        part = read_users(db, actor=SYSTEM)
    assert (whole.num_users, whole.one_in, part.one_in) == (300, 1, 2)
    assert part.num_users == pytest.approx(300, rel=0.2)
    assert part.returning is not None
    assert part.returning.low < 1 / 3 < part.returning.high


def test_a_funnel_counts_sessions_in_which_events_come_in_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writing() as db:
        number = 0
        for key, names in (
            ("a", ["open", "ask", "open", "copy"]),
            ("b", ["copy", "ask", "open"]),
            ("c", ["ask", "open", "ask"]),
            ("d", ["open"]),
        ):
            for name in names:
                number += 1
                draft = EventDraft(name=name, external_id=str(number), session_key=key,
                                   occurred_at=START + timedelta(seconds=number))  # fmt: skip
                submit_events(db, [draft], actor=SYSTEM)
        refresh_rollups(db)
        paths, num_all = read_paths(db, actor=SYSTEM)
        monkeypatch.setattr(funnels, "MAX_PATHS", 1)
        part, num_of_part = read_paths(db, actor=SYSTEM)
    assert (num_all, num_of_part, len(paths), len(part)) == (4, 4, 4, 1)
    assert count_names(paths) == [("open", 4), ("ask", 3), ("copy", 2)]
    told = {("visit", "ask", "read"): 5, ("ask", "copy"): 9, ("visit", "other"): 1}
    assert suggest_stages(told) == ["visit", "ask", "copy"]
    stages = build_funnel(paths, ["open", "ask", "copy"])
    assert [stage.num_sessions for stage in stages] == [4, 2, 1]
    assert [stage.of_previous and stage.of_previous.value for stage in stages] == [1.0, 0.5, 0.5]
    nothing = build_funnel(paths, ["never", "open"])
    assert [stage.of_first for stage in nothing] == [None, None]
    with pytest.raises(InvalidInput, match="choose 2 to 8"):
        build_funnel(paths, ["open"])


def test_what_a_model_changes_is_told_by_user(store: Store) -> None:
    with store.writing() as db:
        for number in range(24):
            model = "old" if number % 2 else "new"
            is_loyal = number % 4 == 0 or number % 12 == 1
            visit(db, f"u{number}", 0, model_name=model, seconds=60 + number,
                  thumb=1 if number % 2 == 0 or number % 3 == 0 else -1)  # fmt: skip
            if is_loyal:
                visit(db, f"u{number}", 2, model_name="third")
        refresh_rollups(db)
        found = {
            one.outcome: one for one in read_effects(db, actor=SYSTEM, model="new", baseline="old")
        }
        satisfaction = found[Outcome.SATISFACTION]
        assert (satisfaction.value, satisfaction.baseline) == (1.0, pytest.approx(1 / 3))
        assert (satisfaction.num_users, satisfaction.num_baseline_users) == (12, 12)
        assert satisfaction.difference is not None
        assert 0 < satisfaction.difference.low < 2 / 3 < satisfaction.difference.high
        back = found[Outcome.RETURN]
        assert (back.value, back.baseline) == (0.5, pytest.approx(1 / 6))
        speaking = found[Outcome.SPEAKING]
        assert (speaking.value, speaking.baseline, speaking.difference) == (0.5, 0.5, None)
        duration = found[Outcome.DURATION]
        assert (duration.value, duration.baseline) == (71.0, 72.0)
        few = read_effects(db, actor=SYSTEM, model="third", baseline="old")
        assert few[0].value is None
        assert few[0].difference is None
        with pytest.raises(InvalidInput, match="against itself"):
            read_effects(db, actor=SYSTEM, model="old", baseline="old")
        # too near the end of the period to see them return
        near = Filters(until=START.date() + timedelta(days=3))
        late = read_effects(db, actor=SYSTEM, model="new", baseline="old", filters=near)
        assert [one.num_users for one in late if one.outcome is Outcome.RETURN] == [0]


def test_interval_of_a_difference_is_clustered_and_covers() -> None:
    """Users who always say the same: ratings are far from drawn alone."""
    drawn = random.Random(5)
    num_covered, num_users, trials = 0, 60, 300
    for _ in range(trials):
        sums = dict.fromkeys([*TERMS, *(name for name, _, _ in product_names())], 0.0)
        for user in range(num_users):
            num = drawn.randint(1, 20)
            score = num * (drawn.random() < 0.6)
            side = "a" if user % 2 else "b"
            terms = dict.fromkeys(TERMS, 0.0) | {f"x{side}": float(score), f"n{side}": float(num)}
            for name in TERMS:
                sums[name] += terms[name]
            for name, one, other in product_names():
                sums[name] += terms[one] * terms[other]
        interval = compare_ratios(num_users, sums)
        assert interval is not None
        num_covered += interval.low <= 0 <= interval.high
    assert num_covered / trials > 0.88


def test_difference_of_shares_is_newcombes() -> None:
    one, other = Interval(56 / 70, 0.6918, 0.8775), Interval(48 / 80, 0.4906, 0.7005)
    found = subtract_shares(one, other)  # Newcombe 1998, table II, example (a), method 10
    assert found.low == pytest.approx(0.0524, abs=2e-3)
    assert found.high == pytest.approx(0.3339, abs=2e-3)


@SQLITE
def test_deleting_all_leaves_no_figure_and_no_error(store: Store) -> None:
    with store.writing() as db:
        visit(db, "ann", 0, model_name="m1", thumb=1)
        refresh_rollups(db)
        db.execute(sa.text("DELETE FROM interactions"))
        db.execute(sa.text("INSERT INTO rollup_dirty_days VALUES ('2026-03-01', '2026-03-01')"))
        refresh_rollups(db)
        counts, days = read_sessions(db, actor=SYSTEM)
        assert (counts.num_sessions, counts.mean_duration_s, counts.with_feedback) == (
            0,
            None,
            None,
        )
        assert days == []
        users = read_users(db, actor=SYSTEM)
        assert (users.num_users, users.returning) == (0, None)
        assert read_segments(db, actor=SYSTEM, by=Segment.ACTION_TYPE) == []
        assert read_paths(db, actor=SYSTEM) == ({}, 0)
