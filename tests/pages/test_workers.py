"""The page of workers: who is alive, on what devices, and what each runs."""

import html
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import utcnow
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.jobs import service
from rlhf_core.jobs.devices import Device
from rlhf_core.jobs.heartbeats import beat
from rlhf_core.jobs.runs import claim_run
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job, Worker
from rlhf_core.vocabulary import JobKind, Resource, Role

PAGE = SOURCE_ROOT / "pages" / "admin" / "workers.py"
GPU = Device("cuda", 0, "NVIDIA L4", 23_034.0, 11_517.0, 87.0)
MACHINE = Device("cpu", -1, "Some CPU", 32_768.0, 4_096.0, None, 8)


@pytest.fixture
def trainer(sign_in_as: Callable[[Role], Actor]) -> Actor:
    return sign_in_as(Role.TRAINER)


def page() -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=30).run()
    assert not test.exception
    return test


def texts(elements: Any) -> str:
    """What a person reads: character references resolved, joiners left out."""
    said = "\n".join(str(element.value) for element in elements)
    return html.unescape(said).replace("\u2060", "")


def enqueue(store: Store, actor: Actor, kind: JobKind) -> uuid.UUID:
    with store.writing() as db:
        return service.enqueue_job(db, actor=actor, kind=kind, params={}).id


def test_rater_does_not_get_in(sign_in_as: Callable[[Role], Actor]) -> None:
    sign_in_as(Role.RATER)
    assert "may not run" in texts(page().error)


def test_without_workers_it_says_how_to_start_one(trainer: Actor) -> None:
    assert "No worker is alive" in texts(page().markdown)


def test_devices_load_and_run_of_a_worker_are_shown(trainer: Actor, store: Store) -> None:
    with store.writing() as db:
        beat(db, "box:gpu0", pid=7, resources=(Resource.GPU,), devices=[GPU, MACHINE])
    job_id = enqueue(store, trainer, JobKind.TRAIN_TRANSFORMER)
    with store.reading() as db:
        workflow_id = db.scalar(sa.select(Job.workflow_id).where(Job.id == job_id))
    assert claim_run(store, job_id, workflow_id or "", "box:gpu0") == 1
    test = page()
    said = texts(test.markdown)
    assert "box:gpu0" in said
    assert "CUDA 0 · NVIDIA L4" in said
    assert "CPU, 8 cores" in said
    assert "Reward model (transformer), 0%" in said
    assert "by test trainer" in said
    bars = [bar.proto.text for bar in test.get("progress")]
    assert bars == ["Memory 11.2 of 22.5 GiB", "Load 87 %", "Memory 4.0 of 32.0 GiB"]


def test_silent_worker_shows_for_a_day_and_runs_that_wait_are_counted(
    trainer: Actor, store: Store
) -> None:
    enqueue(store, trainer, JobKind.TRAIN_TRANSFORMER)
    with store.writing() as db:
        for name in ("box:old", "box:older"):
            beat(db, name, pid=7, resources=(Resource.GPU,), devices=[GPU])
        for name, hours in (("box:old", 1), ("box:older", 30)):
            seen_at = utcnow() - timedelta(hours=hours)
            statement = sa.update(Worker).where(Worker.executor_id == name)
            db.execute(statement.values(seen_at=seen_at, started_at=seen_at))
    test = page()
    assert "box:old" in texts(test.markdown)
    assert "box:older" not in texts(test.markdown)
    assert "1 for gpu" in texts(test.caption)
    assert "No worker is alive for gpu jobs" in texts(test.warning)
    assert not test.get("progress")
