import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict, InvalidInput
from rlhf_core.feedback.comparisons import submit_comparison
from rlhf_core.feedback.drafts import PreferenceDraft
from rlhf_core.queues.leases import claim_next
from rlhf_core.queues.service import create_queue
from rlhf_core.registry.evaluations import list_evaluations, record_evaluation
from rlhf_core.registry.service import get_version
from rlhf_core.store import migrate
from rlhf_core.store.base import Base, table_of
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import (
    AspectTotal,
    Comparison,
    FeedbackHourTotal,
    Interaction,
    RollupDirtyDay,
)
from rlhf_core.vocabulary import Choice, QueueSubject, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.registry.world import make_version
from tests.learning.rated import add_interaction
from tests.postgres_databases import postgres_url, run_on_server

ROOT = Path(__file__).resolve().parents[3]
HEAD = "0007"
DBOS_TABLES = {"queues", "notifications", "streams", "operation_outputs", "application_versions"}


def test_up_down_up_leaves_the_same_schema(store: Store) -> None:
    before = sa.inspect(store.engine).get_table_names()
    migrate.downgrade(store, "base")
    ours = set(Base.metadata.tables) & set(sa.inspect(store.engine).get_table_names())
    assert not ours
    migrate.upgrade(store)
    assert set(sa.inspect(store.engine).get_table_names()) == set(before)
    assert migrate.check(store) == HEAD


def test_kinds_and_examinations_survive_the_way_down_and_up(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        add_interaction(db)
        record_evaluation(
            db, actor=SYSTEM, version_id=version.id, dataset_version_id=None, job_id=None,
            split="test", num_rows=9, examination_json={"metrics": {"auc": 0.7}},
        )  # fmt: skip
    migrate.downgrade(store, "0001")
    with store.engine.connect() as connection:
        kinds = connection.execute(sa.text("SELECT kind FROM models")).scalars().all()
    assert kinds == ["reward_sbert"]
    migrate.upgrade(store)
    with store.reading() as db:
        found = get_version(db, version.id, actor=SYSTEM)
        assert found == version
        assert list_evaluations(db, version.id, actor=SYSTEM)[0].metrics == {"auc": 0.7}
        assert db.scalar(sa.select(sa.func.count()).select_from(Interaction)) == 1


def test_totals_are_summed_up_from_the_counts_that_are_there(store: Store) -> None:
    with store.writing() as db:
        for number in range(3):
            item = make_interaction(db, prompt="Which?", action_type=f"kind {number % 2}")
            rater = make_actor(db)
            make_feedback(db, item.id, actor=rater, rating=4, aspects={"tone": number + 1})
        assert refresh_rollups(db) == 0

    def read() -> list[list[sa.RowMapping]]:
        with store.reading() as db:
            return [
                sorted(db.execute(sa.select(table_of(table))).mappings().all(), key=str)
                for table in (FeedbackHourTotal, AspectTotal)
            ]

    counted = read()
    assert sum(row["num_feedback"] for row in counted[0]) == 3
    assert sum(row["num_rating_3"] for row in counted[1]) == 1
    migrate.downgrade(store, "0006")
    migrate.upgrade(store)
    assert read() == counted


def test_queue_of_pairs_goes_on_the_way_down_and_its_judgements_stay(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db, Role.TRAINER)
        pair = [make_interaction(db, prompt="Which?", completion=text).id for text in "ab"]
        queue = create_queue(
            db, actor=rater, name="pairs", pairs=[(pair[0], pair[1])],
            subject=QueueSubject.COMPARISONS, assignee_ids=[rater.account_id],
        )  # fmt: skip
        assert claim_next(db, queue.id, actor=rater) is not None
        submit_comparison(
            db, pair[0], pair[1], PreferenceDraft(choice=Choice.LEFT), actor=rater,
            queue_id=queue.id,
        )  # fmt: skip
    migrate.downgrade(store, "0003")
    with store.engine.connect() as connection:
        for table, count in (
            ("rating_queues", 0), ("rating_queue_items", 0), ("rating_queue_members", 0),
            ("rating_assignments", 0), ("comparisons", 1),
        ):  # fmt: skip
            found = connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar()  # noqa: S608
            assert found == count, table
    migrate.upgrade(store)
    with store.reading() as db:
        assert db.scalars(sa.select(Comparison.queue_id)).one() is None


def test_days_are_counted_again_after_the_way_down_and_up(store: Store) -> None:
    late = datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    with store.writing() as db:
        item = make_interaction(db, occurred_at=late)
        make_feedback(db, item.id, rating=4, occurred_at=late + timedelta(days=2))
        refresh_rollups(db)
    migrate.downgrade(store, "0004")
    migrate.upgrade(store)
    with store.reading() as db:
        days = db.scalars(sa.select(RollupDirtyDay.day).order_by(RollupDirtyDay.day)).all()
        assert days == [date(2026, 3, 1), date(2026, 3, 3)]
        assert abs(db.scalars(sa.select(RollupDirtyDay.marked_at)).first() - utcnow()) < (
            timedelta(minutes=1)
        )


def test_migrated_schema_equals_the_tables_in_code(store: Store) -> None:
    def include(_object: object, _name: str, kind: str, reflected: bool, other: object) -> bool:
        return not (kind in ("table", "index") and reflected and other is None)

    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": include, "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_no_table_of_ours_bears_a_name_of_the_job_engine() -> None:
    ours = set(Base.metadata.tables)
    assert not ours & DBOS_TABLES
    assert not any(name.startswith("workflow") for name in ours)


def upgrade_in_processes(url: str, count: int) -> list[subprocess.CompletedProcess[str]]:
    code = (
        "import sys; from rlhf_core.store.engine import Store; from rlhf_core.store import migrate;"
        "migrate.upgrade(Store(sys.argv[1]))"
    )

    def run(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, url], capture_output=True, text=True, cwd=ROOT
        )

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.slow
def test_six_upgrades_at_once_all_succeed_on_sqlite(tmp_path: Path) -> None:
    done = upgrade_in_processes(f"sqlite:///{tmp_path / 'six.db'}", 6)
    assert [p.returncode for p in done] == [0] * 6, [p.stderr[-500:] for p in done]


@pytest.mark.postgres
def test_six_upgrades_at_once_all_succeed_on_postgres(postgres_socket: str) -> None:
    run_on_server(postgres_socket, "CREATE DATABASE six")
    done = upgrade_in_processes(postgres_url(postgres_socket, "six"), 6)
    assert [p.returncode for p in done] == [0] * 6, [p.stderr[-500:] for p in done]
    run_on_server(postgres_socket, "DROP DATABASE six WITH (FORCE)")


def test_older_schema_is_refused_with_what_to_run(tmp_path: Path) -> None:
    empty = Store(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(Conflict, match="db upgrade"):
        migrate.check(empty)
    empty.close()


def test_newer_schema_is_refused(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Conflict, match=r"9999.*newer"):
        migrate.check(store)
    with pytest.raises(Conflict, match="newer"):
        migrate.upgrade(store)


def test_unknown_revision_is_a_sentence_and_leaves_foreign_keys_on(store: Store) -> None:
    with pytest.raises(InvalidInput, match=r"'nonsense'.*0004, 0003, 0002, 0001 and base"):
        migrate.downgrade(store, "nonsense")
    assert migrate.check(store) == HEAD
    if store.is_sqlite:
        with store.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
