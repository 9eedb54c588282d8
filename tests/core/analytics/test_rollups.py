import threading
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.analytics.overview import read_overview
from rlhf_core.analytics.rollups import (
    DAYS_A_ROUND,
    has_dirty_days,
    mark_everything,
    reading_fresh,
    refresh_in_rounds,
    refresh_rollups,
)
from rlhf_core.cli.main import main
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.jobs import upkeep
from rlhf_core.queues.leases import finish_claim
from rlhf_core.queues.service import create_queue
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import FeedbackRollup, RollupDirtyDay
from rlhf_core.vocabulary import Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.analytics import slow_reference as slow
from tests.databases import only_postgres, only_sqlite

FIRST = datetime(2026, 3, 1, 9, tzinfo=UTC)


def num_feedback(store: Store) -> int:
    """As it stands in the counts, whether or not they are fresh."""
    with store.reading() as db:
        return read_overview(db, actor=SYSTEM).now.num_feedback


def test_counts_are_exact_beside_writers_who_commit_while_others_count(store: Store) -> None:
    with store.writing() as db:
        raters = [make_actor(db) for _ in range(4)]
        items = [
            make_interaction(db, occurred_at=FIRST + timedelta(days=n % 3)).id for n in range(12)
        ]
    is_over = threading.Event()
    trouble: list[Exception] = []

    def write(rater: Actor) -> None:
        for turn, item in enumerate(items * 2):
            moment = FIRST + timedelta(days=turn % 4)
            with store.writing() as db:
                said = make_feedback(db, item, actor=rater, rating=turn % 5 + 1, occurred_at=moment)
                make_interaction(db, occurred_at=moment)
            if turn % 5 == 0:
                with store.writing() as db:
                    withdraw_feedback(db, said.id, actor=rater)

    def count() -> None:
        while not is_over.is_set():
            with store.writing() as db:
                refresh_rollups(db, max_days=2)

    def run(work: object, *given: object) -> None:
        try:
            work(*given)  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001 - told to the test
            trouble.append(error)

    writers = [threading.Thread(target=run, args=(write, rater)) for rater in raters]
    counters = [threading.Thread(target=run, args=(count,)) for _ in range(2)]
    for thread in writers + counters:
        thread.start()
    for thread in writers:
        thread.join()
    is_over.set()
    for thread in counters:
        thread.join()
    assert trouble == []
    with reading_fresh(store) as db:
        found = read_overview(db, actor=SYSTEM)
        world = slow.load_world(db)
    assert vars(found.now) == slow.key_figures(world)
    for one in found.days:
        assert vars(one.figures) == slow.key_figures(slow.on_day(world, one.day))


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.postgres
def test_a_day_under_change_waits_and_keeps_its_mark(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, occurred_at=FIRST)
        make_interaction(db, occurred_at=FIRST + timedelta(days=1))
    with store.writing() as writer:
        make_feedback(writer, item.id, rating=4, occurred_at=FIRST)
        with store.writing() as db:
            assert refresh_rollups(db) == 1
    with store.writing() as writer:
        make_feedback(writer, item.id, actor=make_actor(writer), rating=4, occurred_at=FIRST)
        with store.reading() as db:
            assert db.scalars(sa.select(RollupDirtyDay.day)).all() == [FIRST.date()]
    with store.writing() as db:
        assert refresh_rollups(db) == 0
    assert num_feedback(store) == 2


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.postgres
def test_a_mark_made_while_the_day_is_counted_stays_for_the_next_time(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, occurred_at=FIRST)
        rater = make_actor(db)

    def write() -> None:
        with store.writing() as db:
            make_feedback(db, item.id, actor=rater, rating=4, occurred_at=FIRST)

    with store.writing() as db:
        assert refresh_rollups(db) == 0
        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.5)
        assert writer.is_alive()  # it waits: its change is in no count yet
    writer.join()
    assert num_feedback(store) == 0
    with store.writing() as db:
        assert refresh_rollups(db) == 0
    assert num_feedback(store) == 1


def test_what_a_queue_asks_a_second_time_does_not_count(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, occurred_at=FIRST)
        for occasion in (0, 1):
            make_feedback(db, item.id, rating=5, occasion=occasion, occurred_at=FIRST)
        queue = create_queue(db, actor=SYSTEM, name="second thoughts", interaction_ids=[item.id])
        refresh_rollups(db)
    assert num_feedback(store) == 2
    with store.writing() as db:
        finish_claim(db, actor=SYSTEM, queue_id=queue.id, interaction_id=item.id)
        assert refresh_rollups(db) == 0
    assert num_feedback(store) == 1


@only_sqlite
def test_the_latest_days_are_counted_first(store: Store) -> None:
    with store.writing() as db:
        for n in range(5):
            make_interaction(db, occurred_at=FIRST + timedelta(days=2 * n))
        assert refresh_rollups(db, max_days=2) == 3
        left = db.scalars(sa.select(RollupDirtyDay.day)).all()
    assert set(left) == {date(2026, 3, day) for day in (1, 3, 5)}


@only_sqlite
def test_a_fresh_mark_can_be_left_for_a_while(store: Store) -> None:
    with store.writing() as db:
        make_interaction(db)
    with store.reading() as db:
        assert has_dirty_days(db)
        assert not has_dirty_days(db, for_s=3600)
    with store.writing() as db:
        db.execute(sa.update(RollupDirtyDay).values(marked_at=FIRST))
        assert has_dirty_days(db, for_s=3600)
    with reading_fresh(store, for_s=3600) as db:
        assert not has_dirty_days(db)


@only_sqlite
def test_a_day_under_way_is_left_out_of_a_round_of_older_marks(store: Store) -> None:
    with store.writing() as db:
        make_interaction(db, occurred_at=FIRST)
        db.execute(sa.update(RollupDirtyDay).values(marked_at=FIRST))
        make_interaction(db, occurred_at=FIRST + timedelta(days=1))
    assert refresh_in_rounds(store, for_s=3600) == 0
    with store.reading() as db:
        assert db.scalars(sa.select(RollupDirtyDay.day)).all() == [date(2026, 3, 2)]


@only_sqlite
def test_old_counts_are_read_where_the_new_ones_take_too_long(store: Store) -> None:
    with store.writing() as db:
        for n in range(2 * DAYS_A_ROUND):
            item = make_interaction(db, occurred_at=FIRST + timedelta(days=n))
            make_feedback(db, item.id, rating=4, occurred_at=FIRST + timedelta(days=n))
    with reading_fresh(store, max_s=0) as db:  # one round, never none
        assert read_overview(db, actor=SYSTEM).now.num_feedback == DAYS_A_ROUND
    with reading_fresh(store) as db:
        assert read_overview(db, actor=SYSTEM).now.num_feedback == 2 * DAYS_A_ROUND


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.postgres
def test_who_may_not_wait_leaves_the_counting_to_another(store: Store) -> None:
    with store.writing() as db:
        make_interaction(db, occurred_at=FIRST)
    with store.writing() as other:
        refresh_rollups(other, max_days=0)  # it counts until its end
        assert refresh_in_rounds(store, max_s=60) == 1
    assert refresh_in_rounds(store, max_s=60) == 0


def test_all_days_are_counted_again_after_a_repair(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, occurred_at=FIRST)
        make_feedback(db, item.id, rating=4, occurred_at=FIRST + timedelta(days=1))
        refresh_rollups(db)
        db.execute(sa.update(FeedbackRollup).values(num_feedback=99))
        with pytest.raises(Forbidden):
            mark_everything(db, actor=make_actor(db, Role.ANALYST))
        assert not has_dirty_days(db)
    assert num_feedback(store) == 99
    done = CliRunner().invoke(main, ["rollups", "refresh", "--all"])
    assert (done.exit_code, done.output) == (0, "All days are counted.\n")
    assert num_feedback(store) == 1


@only_sqlite
def test_a_worker_counts_what_changed_as_long_as_it_is_not_told_to_stop(store: Store) -> None:
    with store.writing() as db:
        for n in range(2 * DAYS_A_ROUND + 1):
            item = make_interaction(db, occurred_at=FIRST + timedelta(days=n))
            make_feedback(db, item.id, rating=4, occurred_at=FIRST + timedelta(days=n))
    is_stopping = threading.Event()
    is_stopping.set()
    upkeep.look_after(store, is_stopping)
    assert num_feedback(store) == 0
    upkeep.refresh_counts(store)
    assert num_feedback(store) == 2 * DAYS_A_ROUND + 1


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.postgres
def test_the_planner_knows_of_an_import_before_it_is_counted(store: Store) -> None:
    known = sa.text("SELECT reltuples FROM pg_class WHERE relname = 'interactions'")
    with store.writing() as db:  # as in a new database
        db.execute(sa.text("UPDATE pg_class SET reltuples = -1 WHERE relname = 'interactions'"))
    with store.writing() as db:
        for _ in range(3):
            make_interaction(db)
        refresh_rollups(db)
        assert db.scalar(known) == 3


@only_postgres
def test_statistics_that_were_rolled_back_are_made_again(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        make_feedback(db, make_interaction(db, occurred_at=FIRST).id, actor=rater)
    with store.engine.begin() as connection:  # what a rolled back ANALYZE leaves: a count of rows
        connection.exec_driver_sql("ANALYZE feedback")
        connection.exec_driver_sql("DELETE FROM pg_statistic WHERE starelid = 'feedback'::regclass")
    known = sa.text("SELECT count(*) FROM pg_stats WHERE tablename = 'feedback'")
    with store.writing() as db:
        assert db.scalar(known) == 0
        refresh_rollups(db)
        assert db.scalar(known)
