import itertools
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.analytics.rows import EVERY_ROW, FeedbackLine, RowChoice, list_rows
from rlhf_core.clock import new_id
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import BadExchangeRollup, Feedback, FeedbackAspect
from rlhf_core.vocabulary import RaterKind, Role, Verdict
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
KINDS = (RaterKind.SME, RaterKind.END_USER, RaterKind.MODEL)
NUM_ROWS = 60


@pytest.fixture
def db(store: Store) -> Iterator[Session]:
    """Feedback of all sorts over five days, of which some is withdrawn, and labels of steps."""
    rng = random.Random(4)
    with store.writing() as db:
        for number in range(NUM_ROWS):
            said = {
                "rating": rng.choice([None, 1, 2, 3, 4, 5]),
                "thumb": rng.choice([None, -1, 0, 1]),
                "comment": "so so",
                "aspects": {"tone": rng.randint(1, 5)} if rng.random() < 0.5 else {},
            }
            item = make_interaction(
                db, steps=2, action_type=rng.choice([None, "a", "b"]),
                model_name=rng.choice([None, "m1", "m2"]), source=rng.choice(["one", "two"]),
                prompt="Same?", completion=rng.choice(["Yes.", "No."]), external_id=str(number),
            ).id  # fmt: skip
            who = {"rater": f"r{rng.randrange(5)}", "rater_kind": rng.choice(KINDS)}
            at = NOON + timedelta(days=rng.randrange(5), minutes=number)
            stored = make_feedback(db, item, occurred_at=at, **who, **said)
            if rng.random() < 0.2:
                withdraw_feedback(db, stored.id, actor=SYSTEM)
            make_feedback(db, item, step=number % 2, label=rng.choice([-1, 0, 1]), occurred_at=at)
        refresh_rollups(db)
        yield db


def every_page(db: Session, filters: Filters, choice: RowChoice, size: int) -> list[FeedbackLine]:
    found: list[FeedbackLine] = []
    for number in itertools.count():
        page = list_rows(
            db, actor=SYSTEM, filters=filters, choice=choice, limit=size, offset=size * number
        )
        found += page.rows
        if len(page.rows) < size:
            assert page.num_all == len(found)
            return found


def verdict_of(row: FeedbackLine) -> Verdict | None:
    if row.rating is not None:
        return Verdict.GOOD if row.rating >= 4 else Verdict.BAD if row.rating <= 2 else (
            Verdict.NEUTRAL)  # fmt: skip
    return {1: Verdict.GOOD, 0: Verdict.NEUTRAL, -1: Verdict.BAD, None: None}[row.thumb]


@only_sqlite
def test_the_pages_hold_each_row_of_a_figure_once_the_latest_first(db: Session) -> None:
    everything = every_page(db, Filters(), EVERY_ROW, 1000)
    withdrawn = sa.select(sa.func.count()).where(Feedback.withdrawn_at.is_not(None))
    assert len(everything) == NUM_ROWS - (db.scalar(withdrawn) or 0)
    order = [(row.occurred_at, row.id) for row in everything]
    assert order == sorted(order, reverse=True)
    for size in (7, 10):
        assert every_page(db, Filters(), EVERY_ROW, size) == everything


@only_sqlite
def test_each_choice_lists_what_it_says(db: Session) -> None:
    everything = every_page(db, Filters(), EVERY_ROW, 1000)
    for verdict in Verdict:
        expected = [row for row in everything if verdict_of(row) is verdict]
        assert expected
        assert every_page(db, Filters(), RowChoice(verdict=verdict), 7) == expected
    for rating in (1, 5):
        found = every_page(db, Filters(), RowChoice(rating=rating), 7)
        assert found == [row for row in everything if row.rating == rating]
    for thumb in (-1, 0, 1):
        found = every_page(db, Filters(), RowChoice(thumb=thumb), 7)
        assert found == [row for row in everything if row.thumb == thumb]
    both = every_page(db, Filters(), RowChoice(rating=5, thumb=-1), 7)
    assert both == [row for row in everything if (row.rating, row.thumb) == (5, -1)]


@only_sqlite
def test_filters_hold_for_the_rows_as_for_the_counts(db: Session) -> None:
    everything = every_page(db, Filters(), EVERY_ROW, 1000)
    second = NOON.date() + timedelta(days=1)
    filters = Filters(
        since=second, until=second + timedelta(days=1), sources=("one",), action_types=("a", ""),
        rater_kinds=(RaterKind.SME, RaterKind.MODEL),
    )  # fmt: skip
    expected = [
        row
        for row in everything
        if (row.occurred_at.date() - second).days in (0, 1)
        and row.source == "one"
        and row.action_type in ("a", None)
        and row.rater_kind is not RaterKind.END_USER
    ]
    assert expected
    assert every_page(db, filters, EVERY_ROW, 3) == expected
    bad = RowChoice(verdict=Verdict.BAD)
    assert every_page(db, filters, bad, 3) == [r for r in expected if verdict_of(r) is Verdict.BAD]


def test_rows_of_an_aspect_a_rater_an_exchange_and_of_steps(db: Session) -> None:
    everything = {row.id: row for row in every_page(db, Filters(), EVERY_ROW, 1000)}

    def ids_where(*where: object) -> set[uuid.UUID]:
        found = db.scalars(sa.select(Feedback.id).join(FeedbackAspect).where(*where))
        return set(found) & set(everything)

    tone = FeedbackAspect.name == "tone"
    rows = every_page(db, Filters(), RowChoice(aspect="tone"), 7)
    assert {row.id for row in rows} == ids_where(tone)
    rows = every_page(db, Filters(), RowChoice(aspect="tone", rating=2), 7)
    assert {row.id for row in rows} == ids_where(tone, FeedbackAspect.rating == 2)
    rater_id = db.scalar(sa.select(Feedback.rater_id).where(Feedback.step_id.is_(None)).limit(1))
    rows = every_page(db, Filters(), RowChoice(rater_id=rater_id), 7)
    own = sa.select(Feedback.id).where(Feedback.rater_id == rater_id)
    assert {row.id for row in rows} == set(db.scalars(own)) & set(everything)
    counted = sa.select(BadExchangeRollup.pattern_hash, sa.func.sum(BadExchangeRollup.num_bad))
    for pattern_hash, num in db.execute(counted.group_by(BadExchangeRollup.pattern_hash)):
        choice = RowChoice(pattern_hash=pattern_hash, verdict=Verdict.BAD)
        rows = every_page(db, Filters(), choice, 7)
        assert len(rows) == num
        assert len({(row.completion, row.action_type) for row in rows}) == 1
    labels = every_page(db, Filters(), RowChoice(about_steps=True), 9)
    assert len(labels) == NUM_ROWS
    wrong = RowChoice(about_steps=True, position=1, label=-1)
    expected = [row for row in labels if (row.position, row.label) == (1, -1)]
    assert expected
    assert every_page(db, Filters(), wrong, 3) == expected


@only_sqlite
def test_a_rater_may_not_read_the_rows(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db, Role.RATER, name=new_id().hex)
        with pytest.raises(Forbidden):
            list_rows(db, actor=actor, filters=Filters())
