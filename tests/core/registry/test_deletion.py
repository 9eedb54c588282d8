"""Deleting a version: never one that is needed, and against promotions one winner."""

import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import open_artifact
from rlhf_core.clock import new_id
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.registry import service
from rlhf_core.registry.deletion import delete_version, remove_deleted_files
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Deployment, Job, ModelVersion
from rlhf_core.vocabulary import JobKind, JobState, Resource, Role
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite


def delete(store: Store, version: ModelVersionView, reason: str = "old") -> int:
    with store.writing() as db:
        delete_version(db, version.id, actor=SYSTEM, reason=reason)
    with store.reading() as db:
        return remove_deleted_files(db)


def refusal(store: Store, version: ModelVersionView) -> str:
    with pytest.raises(Conflict) as caught:
        delete(store, version)
    assert version.folder.is_dir()
    open_artifact(version.folder, version.manifest_sha256)
    return str(caught.value)


def add_job(db: Session, params: dict[str, Any], state: JobState = JobState.RUNNING) -> uuid.UUID:
    job = Job(id=new_id(), kind=JobKind.EVALUATE, resource=Resource.CPU, params=params, state=state)
    db.add(job)
    db.flush()
    return job.id


def test_deleted_version_loses_its_files_and_keeps_its_history(store: Store) -> None:
    with store.writing() as db:
        first, second = make_version(db), make_version(db)
        for version in (first, second):
            service.promote_version(db, version.id, actor=SYSTEM, reason="better")
    assert delete(store, first) == 1
    assert not first.folder.exists()
    assert second.folder.is_dir()
    assert list(first.folder.parent.glob(".*")) == []
    with store.reading() as db:
        found = service.get_version(db, first.id, actor=SYSTEM)
        assert found.deleted_at is not None
        assert found.metrics == first.metrics
        assert [one.id for one in service.list_versions(db, actor=SYSTEM)] == [second.id]
        assert len(service.alias_history(db, "reward", actor=SYSTEM)) == 2
        event = db.scalars(sa.select(AuditEvent).where(AuditEvent.action == "model.delete")).one()
        assert (event.details or {})["reason"] == "old"


def test_what_serves_or_is_tried_out_stays(store: Store) -> None:
    with store.writing() as db:
        old, fresh = make_version(db), make_version(db)
        service.promote_version(db, old.id, actor=SYSTEM, reason="first")
        deployment = Deployment(
            id=new_id(),
            model_id=fresh.model_id,
            version_id=fresh.id,
            baseline_version_id=old.id,
            traffic_percent=5.0,
        )
        db.add(deployment)
    assert "it is the production version" in refusal(store, old)
    assert "running canary" in refusal(store, old)
    assert "running canary" in refusal(store, fresh)


def test_the_base_of_another_version_stays_until_that_one_is_gone(store: Store) -> None:
    with store.writing() as db:
        base = make_version(db, model_name="assistant")
        details = {"base": {"name": base.name, "version_id": str(base.id)}}
        child = make_version(db, model_name="assistant", details=details)
    assert "it is the base of assistant v2" in refusal(store, base)
    delete(store, child)
    assert delete(store, base) == 1


@pytest.mark.parametrize(
    "params",
    [
        {"version_id": "ID"},
        {"judge": "reward@1"},
        {"rewards": [{"model": "reward v1", "weight": 1}]},
        {"rewards": [{"model": "reward"}]},
        {"version_ids": ["x", "ID"]},
    ],
)
def test_what_an_unfinished_job_names_stays(store: Store, params: dict[str, Any]) -> None:
    with store.writing() as db:
        version = make_version(db)
        named = {
            key: str(version.id)
            if value == "ID"
            else [str(version.id) if one == "ID" else one for one in value]
            if isinstance(value, list)
            else value
            for key, value in params.items()
        }
        job_id = add_job(db, named)
    assert "a job that is not finished needs it" in refusal(store, version)
    with store.writing() as db:
        db.execute(sa.update(Job).where(Job.id == job_id).values(state=JobState.SUCCEEDED))
    assert delete(store, version) == 1


def test_a_run_that_makes_the_next_version_holds_none_back(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        add_job(db, {"model": "reward", "dataset": "reward"}, JobState.QUEUED)
    assert delete(store, version) == 1


def test_bad_requests_are_a_sentence_each(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        trainer, analyst = make_actor(db, Role.TRAINER), make_actor(db, Role.ANALYST)
        for reason, says in (
            ("", "Say why"),
            (" ", "Say why"),
            ("x" * 3000, "shorten it to 2,000"),
        ):
            with pytest.raises(InvalidInput, match=says):
                delete_version(db, version.id, actor=trainer, reason=reason)
        with pytest.raises(Forbidden):
            delete_version(db, version.id, actor=analyst, reason="old")
        with pytest.raises(NotFound):
            delete_version(db, new_id(), actor=trainer, reason="old")
    delete(store, version)
    with pytest.raises(InvalidInput, match="deleted already"):
        delete(store, version)


def test_files_left_by_a_crash_go_with_the_next_deletion(store: Store) -> None:
    with store.writing() as db:
        first, second = make_version(db), make_version(db)
        delete_version(db, first.id, actor=SYSTEM, reason="and then the process died")
    assert first.folder.is_dir()
    assert delete(store, second) == 2
    assert not first.folder.exists()
    with store.reading() as db:
        assert remove_deleted_files(db) == 0


def test_a_folder_that_cannot_be_moved_holds_no_other_one_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writing() as db:
        stuck, free = make_version(db), make_version(db)
        for version in (stuck, free):
            delete_version(db, version.id, actor=SYSTEM, reason="old")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == stuck.folder:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    with monkeypatch.context() as patched, store.reading() as db:
        patched.setattr(Path, "rename", refuse)  # root may move every folder
        assert remove_deleted_files(db) == 1
    assert (stuck.folder.exists(), free.folder.exists()) == (True, False)
    with store.reading() as db:
        assert remove_deleted_files(db) == 1


def test_an_undone_deletion_keeps_the_files(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)

    def fail() -> None:
        with store.writing() as db:
            delete_version(db, version.id, actor=SYSTEM, reason="old")
            raise KeyError("the request died here")

    with pytest.raises(KeyError):
        fail()
    with store.reading() as db:
        assert remove_deleted_files(db) == 0
        assert db.scalar(sa.select(ModelVersion.deleted_at)) is None
    open_artifact(version.folder, version.manifest_sha256)


def test_rolling_back_passes_over_a_deleted_version(store: Store) -> None:
    with store.writing() as db:
        first, second, third = (make_version(db) for _ in range(3))
        for version in (first, second, third):
            service.promote_version(db, version.id, actor=SYSTEM, reason="better")
    delete(store, second)
    with store.writing() as db:
        assert service.roll_back(db, "reward", actor=SYSTEM, reason="x").version_id == first.id
        with pytest.raises(Conflict, match="no version before"):
            service.roll_back(db, "reward", actor=SYSTEM, reason="x")
        assert service.list_roll_back_targets(db, "reward", actor=SYSTEM) == [third.id]
