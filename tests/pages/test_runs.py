"""The page of runs: what a trainer sees and may do. No worker runs here: rows are written as one
would."""

import html
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import Actor
from rlhf_core.jobs import service
from rlhf_core.jobs.heartbeats import beat
from rlhf_core.jobs.runs import claim_run
from rlhf_core.jobs.tracker import JobTracker
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import JobKind, JobState, Resource, Role

PAGE = Path(__file__).resolve().parents[2] / "pages" / "train" / "runs.py"


@pytest.fixture
def trainer(sign_in_as: Callable[[Role], Actor]) -> Actor:
    return sign_in_as(Role.TRAINER)


def enqueue(store: Store, actor: Actor) -> uuid.UUID:
    with store.writing() as db:
        beat(db, "test:cpu", pid=1, resources=(Resource.CPU,))
        return service.enqueue_job(db, actor=actor, kind=JobKind.TRAIN_SBERT, params={"seed": 1}).id


def start(store: Store, job_id: uuid.UUID) -> JobTracker:
    with store.reading() as db:
        workflow_id = db.scalar(sa.select(Job.workflow_id).where(Job.id == job_id))
    assert workflow_id is not None
    attempt = claim_run(store, job_id, workflow_id, "test:cpu")
    assert attempt is not None
    return JobTracker(store, job_id, attempt)


def page(**query: str) -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=30)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def texts(elements: Any) -> str:
    """What a person reads: character references resolved."""
    return html.unescape("\n".join(str(element.value) for element in elements))


def test_rater_does_not_get_in(sign_in_as: Callable[[Role], Actor]) -> None:
    sign_in_as(Role.RATER)
    assert "may not run" in texts(page().error)


def test_without_runs_it_says_how_to_start_one(trainer: Actor) -> None:
    test = page()
    assert "Nothing has run yet" in texts(test.markdown)
    assert not test.dataframe


def test_finished_run_shows_its_sentence_numbers_curve_and_log(
    trainer: Actor, store: Store
) -> None:
    job_id = enqueue(store, trainer)
    tracker = start(store, job_id)
    for step in (1, 2, 3):
        tracker.metrics(step, {"loss": 1 / step})
    tracker.log("read 60 interactions")
    tracker.finish(JobState.SUCCEEDED, "Version 1 is registered.", result={"metrics": {"auc": 0.7}})
    test = page()
    assert "Version 1 is registered." in texts(test.success)
    table, result, curve = (frame.value for frame in test.dataframe)
    assert list(table["State"]) == ["Finished"]
    assert list(table["By"]) == ["test trainer"]
    assert list(result["Measure"]) == ["AUC (0.5 is a coin toss, 1 is perfect)"]
    assert list(result["Value"]) == [0.7]
    assert list(curve["Step"]) == [1, 2, 3]
    assert list(curve["Value"]) == [1.0, 0.5, pytest.approx(1 / 3)]
    assert "read 60 interactions" in texts(test.code)
    assert [button.key for button in test.button] == ["clone_run"]


def test_members_of_an_ensemble_share_a_chart_a_metric(trainer: Actor, store: Store) -> None:
    tracker = start(store, enqueue(store, trainer))
    for step in (1, 2):
        tracker.metrics(step, {"seed 0 loss": 0.5, "seed 1 loss": 0.4, "judge loss": 0.3})
    tracker.finish(JobState.SUCCEEDED, "done")
    test = page()
    (chart,) = test.get("plotly_chart")
    assert chart.proto.alt == "Loss (lower is better) over the steps of the run"
    assert list(test.dataframe[1].value.columns) == ["Step", "Judge", "Seed 0", "Seed 1"]


def test_trained_run_shows_test_rows_beside_its_own_figures(trainer: Actor, store: Store) -> None:
    tracker = start(store, enqueue(store, trainer))
    result = {
        "version_id": str(uuid.uuid4()),
        "metrics": {"auc": 0.7, "ece": 0.02},
        "examination": {"auc": 0.65},
    }
    tracker.finish(JobState.SUCCEEDED, "done", result=result)
    figures = page().dataframe[1].value
    assert figures["On the test rows"][0] == 0.65
    assert list(figures["On rows left out in training"]) == [0.7, 0.02]


def test_running_run_stops_only_after_a_question(trainer: Actor, store: Store) -> None:
    job_id = enqueue(store, trainer)
    tracker = start(store, job_id)
    tracker.progress(0.4, "embedding")
    tracker.close()
    test = page()
    assert "embedding" in texts(test.markdown)
    assert [button.key for button in test.button] == ["clone_run", "cancel_run"]
    test.button(key="cancel_run").click().run()
    with store.reading() as db:
        assert service.get_job(db, job_id).cancel_requested_at is None
    test.button(key="confirm_cancel").click().run()
    assert not test.exception
    with store.reading() as db:
        assert service.get_job(db, job_id).cancel_requested_at is not None
    assert "asked to stop" in texts(test.info)


def test_failed_run_can_start_again(trainer: Actor, store: Store) -> None:
    job_id = enqueue(store, trainer)
    start(store, job_id).finish(JobState.FAILED, "12 more needed.")
    test = page()
    assert "12 more needed." in texts(test.error)
    test.button(key="retry_run").click().run()
    with store.reading() as db:
        assert service.get_job(db, job_id).state is JobState.QUEUED


def test_address_names_the_run(trainer: Actor, store: Store) -> None:
    first = enqueue(store, trainer)
    start(store, first).finish(JobState.FAILED, "first")
    enqueue(store, trainer)
    assert "first" in texts(page(run=str(first)).error)
    assert not page().error
    assert not page(run="no-id").error


def test_unknown_run_in_the_address_is_named_above_the_list(trainer: Actor, store: Store) -> None:
    start(store, enqueue(store, trainer)).finish(JobState.FAILED, "12 more needed.")
    test = page(run=str(uuid.uuid4()))
    assert "There is no run" in texts(test.warning)
    assert list(test.dataframe[0].value["State"]) == ["Failed"]
    assert "12 more needed." in texts(test.error)


def test_missing_worker_is_named(trainer: Actor, store: Store) -> None:
    with store.writing() as db:
        service.enqueue_job(db, actor=trainer, kind=JobKind.TRAIN_SBERT, params={})
    assert "No worker is alive for cpu jobs" in texts(page().warning)


def test_words_of_others_are_shown_as_they_are(trainer: Actor, store: Store) -> None:
    job_id = enqueue(store, trainer)
    start(store, job_id).finish(JobState.FAILED, "![x](http://example.org/x.png)")
    (error,) = page().error
    assert "![" not in error.value
    assert "![x](http" in html.unescape(error.value).replace("\u2060", "")
