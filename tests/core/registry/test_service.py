import math
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import ArtifactInfo, open_artifact, write_artifact
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from rlhf_core.registry import labels, service
from rlhf_core.registry.views import AliasView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import (
    AuditEvent,
    Job,
    ModelAlias,
    ModelAliasChange,
    ModelVersion,
)
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import JobKind, ModelKind, Resource, Role
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.databases import only_sqlite


def make_versions(store: Store, count: int) -> list[uuid.UUID]:
    with store.writing() as db:
        return [make_version(db).id for _ in range(count)]


def promote(store: Store, version_id: uuid.UUID, **fields: object) -> AliasView:
    with store.writing() as db:
        return service.promote_version(
            db,
            version_id,
            actor=SYSTEM,
            reason="better",
            **fields,  # type: ignore[arg-type]
        )


def roll_back(store: Store) -> AliasView:
    with store.writing() as db:
        return service.roll_back(db, "reward", actor=SYSTEM, reason="worse in use")


def test_registered_version_keeps_all_that_made_it(store: Store) -> None:
    with store.writing() as db:
        trainer = make_actor(db, Role.TRAINER, name="Trainer")
        made = make_version(db, actor=trainer, details={"curve": [1, 2]}, dataset_hash="ab" * 32)
    with store.reading() as db:
        found = service.get_version(db, made.id, actor=trainer)
    assert found == made
    assert (found.name, found.created_by) == ("reward v1", "Trainer")
    assert found.metrics == {"auc": 0.7, "accuracy": 0.66, "brier": 0.21, "ece": 0.03}
    assert found.details == {"curve": [1, 2], "num_rows": 120}
    assert found.params == {"threshold": 4.0}
    assert (found.seed, found.library_versions) == (7, {"scikit-learn": "1.9.1"})
    assert not found.artifact_path.startswith("/")
    open_artifact(found.folder, found.manifest_sha256)


def test_what_no_database_takes_is_left_out(store: Store) -> None:
    with store.writing() as db:
        made = make_version(
            db,
            metrics={"slope": math.nan, "gain": math.inf},
            details={"text": "a\0b", "list": (1.5, math.nan)},
        )
    assert set(made.metrics) == {"auc", "accuracy", "brier", "ece"}
    assert made.details["text"] == "a\ufffdb"
    assert made.details["list"] == [1.5, None]


def test_twelve_registrations_at_once_get_the_numbers_one_to_twelve(store: Store) -> None:
    def register(_: int) -> int:
        with store.writing() as db:
            return make_version(db).number

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(register, range(12))) == list(range(1, 13))


def test_a_failed_registration_leaves_no_gap(store: Store) -> None:
    def fail_after_registering() -> None:
        with store.writing() as db:
            make_version(db)
            raise KeyError("the job died here")

    with pytest.raises(KeyError):
        fail_after_registering()
    with store.writing() as db:
        assert make_version(db).number == 1


def test_a_retried_job_registers_once(store: Store) -> None:
    job_id = new_id()
    with store.writing() as db:
        db.add(Job(id=job_id, kind=JobKind.TRAIN_SBERT, resource=Resource.CPU, params={}))
        db.flush()
        first = make_version(db, job_id=job_id)
    with store.writing() as db:
        assert make_version(db, job_id=job_id) == first


@pytest.mark.parametrize("name", ["", "  ", "n" * 201, "a\0b"])
def test_a_model_needs_a_name(store: Store, name: str) -> None:
    with store.writing() as db, pytest.raises(InvalidInput, match="name"):
        make_version(db, model_name=name)


def test_files_outside_the_artifact_folder_are_refused(
    store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = write_artifact(
        tmp_path_factory.mktemp("outside") / "m",
        lambda folder: (folder / "f").write_text("x") and None,
    )
    report = TrainReport(artifact_dir=outside.path, metrics={}, params={}, seed=0, num_rows=0)
    for artifact, error in [
        (outside, InvalidInput),
        (ArtifactInfo(outside.path / "gone", "0" * 64, 0), Unavailable),
    ]:
        with store.writing() as db, pytest.raises(error):
            service.register_version(
                db, actor=SYSTEM, model_name="reward", kind=ModelKind.REWARD_SBERT,
                report=report, artifact=artifact,
            )  # fmt: skip


def test_promoting_moves_the_pointer_and_writes_history_and_audit(store: Store) -> None:
    first, second = make_versions(store, 2)
    assert promote(store, first).revision == 1
    moved = promote(store, second, evidence={"auc": 0.7})
    assert (moved.number, moved.revision) == (2, 2)
    with store.reading() as db:
        production = service.find_production(db)
        history = service.alias_history(db, "reward", actor=SYSTEM)
        actions = db.scalars(sa.select(AuditEvent.action).order_by(AuditEvent.at)).all()
    assert production is not None
    assert production.id == second
    assert production.aliases == ("production",)
    assert [(c.from_number, c.to_number, c.reason) for c in history] == [
        (1, 2, "better"),
        (None, 1, "better"),
    ]
    assert history[0].evidence == {"auc": 0.7}
    assert actions.count("model.promote") == 2


def test_promotion_that_saw_an_older_state_is_refused(store: Store) -> None:
    first, second, third = make_versions(store, 3)
    promote(store, first)
    promote(store, second, expected_revision=1)
    with pytest.raises(Conflict, match="meanwhile"):
        promote(store, third, expected_revision=1)
    with pytest.raises(Conflict, match="meanwhile"):
        promote(store, third, expected_revision=7)
    with pytest.raises(Conflict, match="already"):
        promote(store, second)
    with store.reading() as db:
        assert service.get_alias(db, "reward", actor=SYSTEM).revision == 2
        assert db.scalar(sa.select(sa.func.count()).select_from(ModelAliasChange)) == 2


def test_deleted_and_damaged_versions_are_not_promoted(store: Store) -> None:
    deleted, damaged, gone = make_versions(store, 3)
    with store.writing() as db:
        db.execute(
            sa.update(ModelVersion).where(ModelVersion.id == deleted).values(deleted_at=utcnow())
        )
        (service.get_version(db, damaged, actor=SYSTEM).folder / "head.json").write_text("weightS")
        service.get_version(db, gone, actor=SYSTEM).folder.rename(
            service.get_version(db, gone, actor=SYSTEM).folder.with_name("moved")
        )
    with pytest.raises(InvalidInput, match="deleted"):
        promote(store, deleted)
    with pytest.raises(InvalidInput, match=r"head\.json"):
        promote(store, damaged)
    with pytest.raises(Unavailable, match="no artifact folder"):
        promote(store, gone)
    with store.reading() as db:
        assert service.find_production(db) is None
        assert {v.id for v in service.list_versions(db, actor=SYSTEM)} == {damaged, gone}


@only_sqlite
def test_a_version_that_cannot_answer_for_its_name_never_serves(store: Store) -> None:
    with store.writing() as db:
        remote = make_version(db, kind=ModelKind.POLICY_REMOTE)
        judge = make_version(db, model_name=service.POLICY_MODEL)
    for version, name in ((remote, "reward"), (judge, "assistant")):
        with pytest.raises(InvalidInput, match=f"which cannot answer for '{name}'"):
            promote(store, version.id)


def test_rolling_back_goes_through_the_history_step_by_step(store: Store) -> None:
    first, second, third = make_versions(store, 3)
    for version in (first, second, third):
        promote(store, version)
    assert roll_back(store).version_id == second
    assert roll_back(store).version_id == first
    with pytest.raises(Conflict, match="no version before"):
        roll_back(store)
    promote(store, third)
    assert roll_back(store).version_id == first
    with store.reading() as db:
        history = service.alias_history(db, "reward", actor=SYSTEM)
    assert [change.is_roll_back for change in history] == [True, False, True, True, *[False] * 3]


def test_an_old_version_promoted_again_rolls_back_to_the_one_it_replaced(store: Store) -> None:
    first, second = make_versions(store, 2)
    for version in (first, second, first):
        promote(store, version)
    assert roll_back(store).version_id == second


def test_live_at_tells_what_served_at_a_moment(store: Store) -> None:
    first, second = make_versions(store, 2)
    before = utcnow() - timedelta(seconds=1)
    promote(store, first)
    between = utcnow()
    promote(store, second)
    with store.reading() as db:
        live = [service.live_at(db, "reward", at) for at in (before, between, utcnow())]
    assert [version and version.id for version in live] == [None, first, second]


def test_no_reason_no_move(store: Store) -> None:
    (version,) = make_versions(store, 1)
    for reason in ("", "  ", "x" * 3000):
        with store.writing() as db, pytest.raises(InvalidInput) as caught:
            service.promote_version(db, version, actor=SYSTEM, reason=reason)
        assert caught.value.field == "reason"


def test_analyst_reads_and_trainer_promotes(store: Store) -> None:
    (version,) = make_versions(store, 1)
    with store.writing() as db:
        rater, analyst = make_actor(db, Role.RATER), make_actor(db, Role.ANALYST)
        assert len(service.list_versions(db, actor=analyst)) == 1
        with pytest.raises(Forbidden):
            service.list_versions(db, actor=rater)
        for act in (
            lambda: service.promote_version(db, version, actor=analyst, reason="x"),
            lambda: service.roll_back(db, "reward", actor=analyst, reason="x"),
            lambda: labels.set_notes(db, version, actor=analyst, notes="x"),
            lambda: make_version(db, actor=analyst),
        ):
            with pytest.raises(Forbidden):
                act()


def test_notes_are_kept_and_removed(store: Store) -> None:
    (version,) = make_versions(store, 1)
    for notes, kept in ((" trained on a\0 Monday ", "trained on a\ufffd Monday"), ("", None)):
        with store.writing() as db:
            labels.set_notes(db, version, actor=SYSTEM, notes=notes)
            assert service.get_version(db, version, actor=SYSTEM).notes == kept


def test_unknown_names_are_not_found(store: Store) -> None:
    with store.reading() as db:
        assert service.find_production(db, "nothing") is None
        assert service.live_at(db, "nothing", utcnow()) is None
        for act in (
            lambda: service.get_version(db, new_id(), actor=SYSTEM),
            lambda: service.get_version_by_number(db, "reward", 3, actor=SYSTEM),
            lambda: service.get_alias(db, "nothing", actor=SYSTEM),
            lambda: service.roll_back(db, "nothing", actor=SYSTEM, reason="x"),
        ):
            with pytest.raises(NotFound):
                act()


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_of_two_promotions_at_once_one_wins_in_each_round(store: Store, rounds: int) -> None:
    versions = make_versions(store, 3)
    promote(store, versions[2])
    barrier = threading.Barrier(2)
    stop = threading.Event()

    def run_side(version_id: uuid.UUID) -> list[bool]:
        won = []
        for number in range(1, rounds + 1):
            barrier.wait()
            try:
                promote(store, version_id, expected_revision=2 * number - 1)
                won.append(True)
            except Conflict:
                won.append(False)
            barrier.wait()
            if version_id == versions[0]:  # put the pointer elsewhere, so that both may win again
                promote(store, versions[2])
        return won

    def watch() -> int:
        seen = 0
        latest = sa.select(sa.func.max(ModelAliasChange.revision)).scalar_subquery()
        state = sa.select(
            ModelAlias.revision, latest, ModelAlias.version_id, ModelAliasChange.to_version_id
        ).join(ModelAliasChange, ModelAliasChange.revision == ModelAlias.revision)
        while not stop.is_set():
            with store.reading() as db:
                revision, last, points_to, moved_to = db.execute(state).one()
            assert (revision, points_to) == (last, moved_to), "a torn state was read"
            seen += 1
        return seen

    with ThreadPoolExecutor(3) as pool:
        watcher = pool.submit(watch)
        sides = [pool.submit(run_side, version) for version in versions[:2]]
        outcomes = [side.result() for side in sides]
        stop.set()
        assert watcher.result() > 0
    assert [a + b for a, b in zip(*outcomes, strict=True)] == [1] * rounds
    with store.reading() as db:
        assert service.get_alias(db, "reward", actor=SYSTEM).revision == 2 * rounds + 1
        revisions = db.scalars(
            sa.select(ModelAliasChange.revision).order_by(ModelAliasChange.revision)
        ).all()
    assert revisions == list(range(1, 2 * rounds + 2))
