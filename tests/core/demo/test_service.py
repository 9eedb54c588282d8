import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.artifacts import write_artifact
from rlhf_core.cli.demo import command
from rlhf_core.config import get_settings
from rlhf_core.dataset import service as datasets
from rlhf_core.dataset.builder import build_rows
from rlhf_core.dataset.params import DatasetParams, Filters
from rlhf_core.dataset.reasons import Reason
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.demo.clearing import remove_files
from rlhf_core.demo.service import clear_demo, find_demo, load_demo
from rlhf_core.errors import Conflict, Forbidden, NotFound
from rlhf_core.registry.service import list_versions, promote_version, register_version
from rlhf_core.store.base import Base
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, RatingQueue, RollupDirtyDay
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import DEMO_SOURCE, DatasetPurpose, ModelKind, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite, postgres_is_slow

END = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)
KEPT = {"audit_events", "rollup_dirty_days", "store_facts", "alembic_version"}


def load(store: Store) -> None:
    with store.writing() as db:
        load_demo(db, actor=SYSTEM, ends_at=END)


def count_rows(store: Store) -> dict[str, int]:
    """Rows by table, but for tables that keep what was done."""
    with store.reading() as db:
        return {
            name: db.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
            if name not in KEPT
        }


def build(store: Store, **params: Any) -> tuple[list[Any], dict[str, int]]:
    with store.reading() as db:
        built = build_rows(db, params=DatasetParams(**params))
        return list(built.rows), built.left_out


@postgres_is_slow
def test_demo_is_loaded_once_and_cleared_without_a_trace(store: Store) -> None:
    with store.writing() as db:
        mine = make_interaction(db, prompt="Mine?")
        make_feedback(db, mine.id, rating=4)
    before = count_rows(store)
    load(store)
    with store.writing() as db:
        counts = find_demo(db)
        assert counts is not None
        assert counts.num_interactions == 3_000
        assert min(vars(counts).values()) > 100
        with pytest.raises(Conflict, match="loaded already"):
            load_demo(db, actor=SYSTEM)
        someone = db.scalar(sa.select(Interaction.id).where(Interaction.is_demo).limit(1))
        assert someone is not None
        make_feedback(db, someone, rating=2)  # of a real person, on demo data
    with store.writing() as db:
        clear_demo(db, actor=SYSTEM)
        assert find_demo(db) is None
    assert count_rows(store) == before
    with store.writing() as db, pytest.raises(NotFound):
        clear_demo(db, actor=SYSTEM)


@only_sqlite
def test_days_on_which_the_demo_was_rated_later_are_counted_again(store: Store) -> None:
    load(store)
    late = END + timedelta(days=200)
    with store.writing() as db:
        someone = db.scalar(sa.select(Interaction.id).where(Interaction.is_demo).limit(1))
        assert someone is not None
        make_feedback(db, someone, rating=2, occurred_at=late)
        refresh_rollups(db)
        clear_demo(db, actor=SYSTEM)
        assert late.date() in db.scalars(sa.select(RollupDirtyDay.day)).all()


def test_all_of_it_is_marked_as_demo(store: Store) -> None:
    load(store)
    marked = [table for table in Base.metadata.tables.values() if "is_demo" in table.columns]
    with store.reading() as db:
        for table in marked:
            others = sa.select(sa.func.count()).where(sa.not_(table.c.is_demo)).select_from(table)
            assert db.scalar(others) == 0, table.name
        assert set(db.scalars(sa.select(Interaction.source))) == {DEMO_SOURCE}


@pytest.mark.slow
@only_sqlite
def test_the_same_seed_makes_the_same_rows(store: Store) -> None:
    def texts() -> list[Any]:
        with store.reading() as db:
            query = sa.select(Interaction.id, Interaction.prompt, Interaction.occurred_at)
            return list(db.execute(query.order_by(Interaction.id)))

    load(store)
    first = texts()
    with store.writing() as db:
        clear_demo(db, actor=SYSTEM)
    load(store)
    assert texts() == first


@only_sqlite
def test_demo_alone_makes_rows_of_every_purpose(store: Store) -> None:
    load(store)
    least = {
        DatasetPurpose.SCORES: 1_500,
        DatasetPurpose.PREFERENCES: 300,
        DatasetPurpose.UNPAIRED: 1_500,
        DatasetPurpose.PROMPTS: 2_000,
        DatasetPurpose.STEPS: 400,
        DatasetPurpose.SFT: 500,
    }
    for purpose in DatasetPurpose:
        rows, left_out = build(store, purpose=purpose)
        assert len(rows) >= least[purpose], purpose
        assert Reason.DEMO.value not in left_out


@only_sqlite
def test_demo_is_left_out_and_counted_beside_real_data(store: Store) -> None:
    load(store)
    with store.writing() as db:
        mine = make_interaction(db, prompt="Mine?")
        make_feedback(db, mine.id, rating=4)
    rows, left_out = build(store)
    assert [row.prompt for row in rows] == ["Mine?"]
    assert left_out[Reason.DEMO.value] > 1_500
    alone, left_out = build(store, filters=Filters(source=DEMO_SOURCE))
    assert len(alone) > 1_500
    assert Reason.DEMO.value not in left_out
    assert left_out[Reason.OTHER_SOURCE.value] == 1
    mixed, _ = build(store, filters=Filters(include_demo=True))
    assert len(mixed) == len(alone) + 1


def register(store: Store, name: str, version: datasets.DatasetVersionView | None) -> Any:
    folder = get_settings().artifact_dir / "models" / name
    artifact = write_artifact(folder, lambda path: (path / "weights").write_text(name) and None)
    report = TrainReport(artifact_dir=folder, metrics={}, params={}, seed=0, num_rows=1)
    with store.writing() as db:
        return register_version(
            db, actor=SYSTEM, model_name="reward", kind=ModelKind.REWARD_SBERT, report=report,
            artifact=artifact, dataset_version_id=version.id if version else None,
            dataset_hash=None,
        )  # fmt: skip


@only_sqlite
def test_what_was_made_of_the_demo_alone_goes_with_it(store: Store) -> None:
    load(store)
    with store.writing() as db:
        params = DatasetParams(purpose=DatasetPurpose.UNPAIRED)
        frozen = datasets.freeze_version(
            db, actor=SYSTEM, name="thumbs", staged=stage_rows(db, params=params)
        ).version
    kept = register(store, "kept", None)
    gone = register(store, "gone", frozen)
    with store.writing() as db:
        promote_version(db, gone.id, actor=SYSTEM, reason="the best so far")
    with store.writing() as db:
        cleared = clear_demo(db, actor=SYSTEM)
    remove_files(cleared.folders)
    assert (cleared.num_dataset_versions, cleared.num_model_versions) == (1, 1)
    with store.reading() as db:
        assert [one.id for one in list_versions(db, actor=SYSTEM)] == [kept.id]
        assert datasets.list_versions(db, actor=SYSTEM) == []
    assert kept.folder.is_dir()
    assert not gone.folder.exists()
    assert not (get_settings().artifact_dir / frozen.artifact_path).exists()


@pytest.mark.slow
@only_sqlite
def test_a_starter_of_demo_conversations_goes_too_and_one_of_others_stays(store: Store) -> None:
    load(store)
    with store.writing() as db:
        for name, is_demo in (("from-demo", True), ("from-others", False)):
            artifact = write_artifact(
                get_settings().artifact_dir / name, lambda folder: (folder / "x").write_text("x")
            )
            details = {"is_demo": True} if is_demo else {}
            report = TrainReport(
                artifact_dir=artifact.path, metrics={}, params={}, seed=0, num_rows=9,
                details=details,
            )  # fmt: skip
            register_version(
                db, actor=SYSTEM, model_name=name, kind=ModelKind.POLICY, report=report,
                artifact=artifact,
            )  # fmt: skip
        clear_demo(db, actor=SYSTEM)
    with store.reading() as db:
        assert [one.model_name for one in list_versions(db, actor=SYSTEM)] == ["from-others"]


def test_only_who_may_import_loads_and_clears_it(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db, Role.RATER)
        with pytest.raises(Forbidden):
            load_demo(db, actor=rater)
        with pytest.raises(Forbidden):
            clear_demo(db, actor=rater)


@only_sqlite
def test_a_queue_of_the_same_name_stops_the_loading(store: Store) -> None:
    load(store)
    with store.writing() as db:
        name = db.scalar(sa.select(RatingQueue.name))
        assert name is not None
        clear_demo(db, actor=SYSTEM)
        db.add(RatingQueue(name=name))
    with store.writing() as db, pytest.raises(Conflict, match="rating queue"):
        load_demo(db, actor=SYSTEM)


@only_sqlite
def test_command_line_loads_shows_and_clears(store: Store) -> None:
    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert run("show") is None
    assert run("load", "--seed", "1")["num_interactions"] == 3_000
    assert run("show")["num_interactions"] == 3_000
    assert run("clear")["counts"]["num_interactions"] == 3_000
    assert run("show") is None
