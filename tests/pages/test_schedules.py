"""The page of retraining: what a trainer sees, switches, adds, changes, starts and removes."""

import html
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.jobs import schedules, service
from rlhf_core.jobs.retrain_params import RetrainParams
from rlhf_core.jobs.schedules import ScheduleView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind, JobState, Role, ScheduleTrigger

PAGE = SOURCE_ROOT / "pages" / "train" / "schedules.py"


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


def stored(store: Store, actor: Actor, name: str = "weekly") -> ScheduleView:
    with store.reading() as db:
        return schedules.get_schedule(db, name, actor=actor)


def test_rater_does_not_get_in(sign_in_as: Callable[[Role], Actor]) -> None:
    sign_in_as(Role.RATER)
    assert "may not run" in texts(page().error)


def test_weekly_is_offered_off_and_can_be_switched_on_and_off(trainer: Actor, store: Store) -> None:
    test = page()
    assert "Reward model: every Sunday, 01:00 UTC" in texts(test.markdown)
    assert test.toggle(key="on_weekly").value is False
    test.toggle(key="on_weekly").set_value(True).run()
    assert stored(store, trainer).is_enabled
    assert stored(store, trainer).created_by == "test trainer"
    assert "next 20" in texts(test.markdown)
    assert "No worker is alive" in texts(test.warning)
    test.toggle(key="on_weekly").set_value(False).run()
    assert not stored(store, trainer).is_enabled


def test_toggle_shows_what_is_stored_and_not_what_this_browser_remembers(
    trainer: Actor, store: Store
) -> None:
    test = page()
    with store.writing() as db:
        schedules.set_schedule(db, "weekly", actor=trainer, is_enabled=True)
    test.run()
    assert test.toggle(key="on_weekly").value is True


def test_start_now_queues_one_retraining(trainer: Actor, store: Store) -> None:
    test = page()
    test.button(key="start_weekly").click().run()
    with store.reading() as db:
        (job,) = service.list_jobs(db)
    assert (job.kind, job.created_by) == (JobKind.RETRAIN, "test trainer")
    test.button(key="start_weekly").click().run()
    assert "under way" in texts(test.toast)


def test_new_schedule_of_the_policy_after_ratings(trainer: Actor, store: Store) -> None:
    test = page()
    assert test.button(key="save_new").disabled
    test.text_input(key="new0_name").input("often")
    test.segmented_control(key="new0_trigger").set_value(ScheduleTrigger.RATINGS)
    test.segmented_control(key="new0_what").set_value("both").run()
    test.selectbox(key="new0_learner").set_value(JobKind.TRAIN_KTO)
    test.number_input(key="new0_min_new").set_value(500).run()
    test.button(key="save_new").click().run()
    assert not test.exception
    made = stored(store, trainer, "often")
    assert (made.trigger, made.cron, made.is_enabled) == (ScheduleTrigger.RATINGS, "", True)
    assert RetrainParams(**made.params) == RetrainParams(
        what="both", policy={"learner": "train_kto"}, min_new=500
    )
    assert "Reward model, then policy: after 500 new ratings" in texts(test.markdown)
    assert test.text_input(key="new1_name").value == ""
    test.text_input(key="new1_name").input("often").run()
    test.button(key="save_new").click().run()
    assert "already" in texts(test.toast)


def test_cron_that_is_none_cannot_be_stored(trainer: Actor) -> None:
    test = page()
    test.text_input(key="new0_name").input("odd")
    test.selectbox(key="new0_time").set_value("own").run()
    test.text_input(key="new0_cron").input("every day").run()
    assert "five fields" in texts(test.caption)
    assert test.button(key="save_new").disabled
    test.text_input(key="new0_cron").input("30 4 * * 1").run()
    assert "every Monday, 04:30 UTC" in texts(test.caption)
    assert not test.button(key="save_new").disabled


def test_change_keeps_what_the_form_does_not_show(trainer: Actor, store: Store) -> None:
    params = RetrainParams(reward={"seeds": 3}, min_new=5)
    with store.writing() as db:
        schedules.create_schedule(db, actor=trainer, name="ours", params=params)
    test = page()
    test.button(key="change_ours").click().run()
    test.segmented_control(key="change_trigger").set_value(ScheduleTrigger.DRIFT).run()
    test.button(key="save_change").click().run()
    assert not test.exception
    changed = stored(store, trainer, "ours")
    assert changed.trigger is ScheduleTrigger.DRIFT
    assert RetrainParams(**changed.params) == params


def test_last_time_is_told_and_removal_removes(trainer: Actor, store: Store) -> None:
    with store.writing() as db:
        schedules.create_schedule(db, actor=trainer, name="ours")
        job = schedules.enqueue_schedule(db, "ours", actor=trainer)
        service.cancel_job(db, job.id, actor=trainer)
        assert service.get_job(db, job.id).state is JobState.CANCELED
    test = page()
    assert "Started: by test trainer." in texts(test.caption)
    assert "Canceled before it started." in texts(test.markdown)
    test.button(key="remove_ours").click().run()
    with store.reading() as db:
        assert [s.name for s in schedules.list_schedules(db, actor=trainer)] == ["weekly"]
