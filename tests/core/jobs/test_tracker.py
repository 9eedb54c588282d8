"""What a run reports arrives: in order, bounded, through an outage, and only from the attempt."""

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.jobs import runs, service, tracker
from rlhf_core.jobs.tracker import JobTracker
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import JobKind, JobState
from tests.core.jobs.world import until


class Superseded(Exception):
    pass


def raise_superseded() -> None:
    raise Superseded


def start_attempt(store: Store, job_id: uuid.UUID) -> int:
    with store.reading() as db:
        workflow_id = db.scalar(sa.select(Job.workflow_id).where(Job.id == job_id)) or ""
    return runs.claim_run(store, job_id, workflow_id, "a:cpu") or 0


@pytest.fixture
def job_id(store: Store) -> uuid.UUID:
    with store.writing() as db:
        return service.enqueue_job(db, actor=SYSTEM, kind=JobKind.TRAIN_SBERT, params={}).id


@pytest.fixture
def running(
    store: Store, job_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> Iterator[JobTracker]:
    """A tracker of attempt 1 that writes only when the test says so."""
    monkeypatch.setattr(tracker, "FLUSH_EVERY_S", 3600.0)
    opened = JobTracker(store, job_id, start_attempt(store, job_id), on_superseded=raise_superseded)
    yield opened
    opened._is_closed.set()


def metrics_of(store: Store, job_id: uuid.UUID) -> list[tuple[str, int, float]]:
    with store.reading() as db:
        return [(p.name, p.step, p.value) for p in service.list_metrics(db, job_id)]


def log_of(store: Store, job_id: uuid.UUID) -> list[tuple[int, int, str]]:
    with store.reading() as db:
        lines = service.read_log(db, job_id, limit=50_000)
    return [(line.number, line.attempt, line.text) for line in lines]


def test_progress_metrics_and_log_arrive(
    store: Store, job_id: uuid.UUID, running: JobTracker
) -> None:
    running.progress(0.25, "embedding")
    running.progress(float("nan"))
    running.progress(7.0)
    running.metrics(1, {"loss": 0.5, "nan": float("nan"), "inf": float("inf")})
    running.metrics(1, {"loss": 0.4})
    running.log("first\nsecond")
    assert running.flush()
    running.log("third")
    assert running.flush()
    with store.reading() as db:
        job = service.get_job(db, job_id)
        after_first = service.read_log(db, job_id, 1)
        tail = service.read_log_tail(db, job_id, limit=2)
    assert (job.progress, job.message) == (1.0, "embedding")
    assert metrics_of(store, job_id) == [("loss", 1, 0.4)]
    assert log_of(store, job_id) == [(1, 1, "first"), (2, 1, "second"), (3, 1, "third")]
    assert after_first == tail
    assert [line.text for line in tail] == ["second", "third"]


def test_text_that_a_database_refuses_is_mended(
    store: Store, job_id: uuid.UUID, running: JobTracker
) -> None:
    running.progress(0.5, "nul \x00")
    running.log("half \ud83d emoji")
    running.log("x" * 10_000)
    running.metrics(1, {"n" * 300: 1.0})
    assert running.flush()
    texts = [text for _, _, text in log_of(store, job_id)]
    assert texts[0] == "half ? emoji"
    assert len(texts[1]) == tracker.MAX_LINE_LENGTH
    assert len(metrics_of(store, job_id)[0][0]) == 100


def test_log_is_bounded(
    store: Store, job_id: uuid.UUID, running: JobTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "MAX_LOG_LINES", 5)
    for number in range(20):
        running.log(str(number))
    running.flush()
    texts = [text for _, _, text in log_of(store, job_id)]
    assert texts == ["0", "1", "2", "3", "The log is full: further lines are not kept."]


def test_outage_delays_reports_and_loses_none(
    store: Store, job_id: uuid.UUID, running: JobTracker
) -> None:
    with store.writing() as db:
        db.execute(sa.text("ALTER TABLE job_metrics RENAME TO job_metrics_gone"))
    running.progress(0.3, "old")
    running.metrics(1, {"loss": 0.9, "auc": 0.5})
    running.log("during the outage")
    assert not running.flush()
    running.metrics(1, {"loss": 0.8})
    running.progress(0.4)
    assert log_of(store, job_id) == []
    with store.writing() as db:
        db.execute(sa.text("ALTER TABLE job_metrics_gone RENAME TO job_metrics"))
    assert running.flush()
    assert metrics_of(store, job_id) == [("auc", 1, 0.5), ("loss", 1, 0.8)]
    assert log_of(store, job_id) == [(1, 1, "during the outage")]
    with store.reading() as db:
        job = service.get_job(db, job_id)
    assert (job.progress, job.message) == (0.4, "old")


def test_superseded_attempt_writes_nothing(
    store: Store, job_id: uuid.UUID, running: JobTracker
) -> None:
    assert start_attempt(store, job_id) == 2
    running.log("from the past")
    with pytest.raises(Superseded):
        running.flush()
    with pytest.raises(Superseded):
        running.finish(JobState.SUCCEEDED, "done")
    assert log_of(store, job_id) == []
    with store.reading() as db:
        assert service.get_job(db, job_id).state is JobState.RUNNING


def test_later_attempt_counts_lines_on_and_replaces_metrics(
    store: Store, job_id: uuid.UUID, running: JobTracker
) -> None:
    running.log("one")
    running.metrics(1, {"loss": 0.9})
    running.metrics(2, {"loss": 0.8})
    running.flush()
    second = JobTracker(store, job_id, start_attempt(store, job_id))
    second.log("two")
    second.metrics(1, {"loss": 0.7})
    second.finish(JobState.SUCCEEDED, "Done.", result={"auc": 0.7})
    assert log_of(store, job_id) == [(1, 1, "one"), (2, 2, "two")]
    assert metrics_of(store, job_id) == [("loss", 1, 0.7), ("loss", 2, 0.8)]
    with store.reading() as db:
        job = service.get_job(db, job_id)
    assert (job.state, job.message, job.result) == (JobState.SUCCEEDED, "Done.", {"auc": 0.7})
    assert job.progress == 1.0


def test_thread_writes_by_itself(store: Store, job_id: uuid.UUID) -> None:
    own = JobTracker(store, job_id, start_attempt(store, job_id))
    own.log("soon")
    assert until("the line arrives", lambda: log_of(store, job_id)) == [(1, 1, "soon")]
    own.close()
