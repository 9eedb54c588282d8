"""The page of runs, for policies: curves, answers, queue, copies and comparison."""

import html
import uuid
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from pages._ui.curves import MAX_POINTS, thin
from pages._ui.run_compare import find_differences
from pages._ui.run_queue import name_ordinal
from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.jobs import service
from rlhf_core.jobs.heartbeats import beat
from rlhf_core.jobs.policy_params import RewardPart, TrainPolicyParams
from rlhf_core.jobs.runs import claim_run
from rlhf_core.jobs.tracker import JobTracker
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.training import Sample
from rlhf_core.vocabulary import JobKind, JobState, Resource, Role

PAGE = SOURCE_ROOT / "pages" / "train" / "runs.py"


@pytest.fixture
def trainer(sign_in_as: Callable[[Role], Actor]) -> Actor:
    return sign_in_as(Role.TRAINER)


def enqueue(store: Store, actor: Actor, **options: Any) -> uuid.UUID:
    params = TrainPolicyParams(rewards=(RewardPart("reward"),), options=options)
    with store.writing() as db:
        beat(db, "test:gpu", pid=1, resources=tuple(Resource))
        return service.enqueue_job(
            db, actor=actor, kind=JobKind.TRAIN_PPO, params=params.to_json()
        ).id


def start(store: Store, job_id: uuid.UUID) -> JobTracker:
    with store.reading() as db:
        workflow_id = db.scalar(sa.select(Job.workflow_id).where(Job.id == job_id))
    assert workflow_id is not None
    attempt = claim_run(store, job_id, workflow_id, "test:gpu")
    assert attempt is not None
    return JobTracker(store, job_id, attempt)


def train(store: Store, actor: Actor, *, reward: float, **options: Any) -> uuid.UUID:
    """A finished run of three updates."""
    job_id = enqueue(store, actor, **options)
    tracker = start(store, job_id)
    for step in (1, 2, 3):
        figures = {"reward": reward * step, "held_out_reward": reward, "kl": 0.5 * step,
                   "entropy": 2.0, "clipfrac": 0.1, "tokens_per_s": 900.0}  # fmt: skip
        tracker.metrics(step, figures)
        tracker.samples(
            step, [Sample("Why?", f"Because of {step}.", "Do not know.", reward=0.25 * step)]
        )
    tracker.finish(JobState.SUCCEEDED, "Trained assistant v1.")
    return job_id


def page(**query: str) -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def texts(*kinds: Any) -> str:
    return html.unescape("\n".join(str(element.value) for kind in kinds for element in kind))


def charts(test: AppTest) -> list[str]:
    return [chart.proto.alt for chart in test.get("plotly_chart")]


def keys(test: AppTest) -> list[str]:
    return [str(button.key) for button in test.button]


def test_curves_of_a_policy_come_in_groups(store: Store, trainer: Actor) -> None:
    job_id = train(store, trainer, reward=0.2)
    test = page()
    group = test.segmented_control(key=f"curve_group_{job_id}")
    assert group.options == ["Reward", "Learning", "Speed"]
    assert charts(test) == [
        "Reward of the answers over the steps of the run",
        "KL to the reference (nats an answer) over the steps of the run",
        "Entropy (nats a token) over the steps of the run",
    ]
    both = next(frame.value for frame in test.dataframe if "Held-out judge" in frame.value)
    assert list(both["Reward model"]) == pytest.approx([0.2, 0.4, 0.6])
    group.set_value("Learning").run()
    assert charts(test) == ["Clipped share of the tokens over the steps of the run"]


def test_answers_stand_beside_the_references_and_older_ones_can_be_chosen(
    store: Store, trainer: Actor
) -> None:
    job_id = train(store, trainer, reward=0.2)
    test = page()
    assert "Because of 3." in texts(test.text)
    assert "Do not know." in texts(test.text)
    assert "reward **0.75**" in texts(test.markdown)
    test.selectbox(key=f"sample_step_{job_id}").set_value(1).run()
    assert "Because of 1." in texts(test.text)
    assert "Because of 3." not in texts(test.text)


def test_waiting_runs_say_their_place_and_the_last_may_go_first(
    store: Store, trainer: Actor
) -> None:
    first, last = enqueue(store, trainer, seed=1), enqueue(store, trainer, seed=2)
    test = page(run=str(last))
    assert list(test.dataframe[0].value["State"]) == ["Waiting, 2nd", "Waiting, 1st"]
    assert "It is 2nd of 2 in the queue gpu (priority 10" in texts(test.caption)
    test.button(key="first_run").click().run()
    assert not test.exception
    assert "It is 1st of 2 in the queue gpu (priority 9" in texts(test.caption)
    assert "first_run" not in keys(test)
    tracker = start(store, last)  # by its new place in the queue
    tracker.close()
    assert "first_run" not in keys(page(run=str(first)))


def test_failed_run_resumes_and_says_what_to_change(store: Store, trainer: Actor) -> None:
    job_id = enqueue(store, trainer)
    start(store, job_id).finish(JobState.FAILED, "Choose a higher kl_coef (now 0.01).")
    test = page()
    assert "higher kl_coef" in texts(test.error)
    assert "`kl_coef` is **Price of departing (KL)**" in texts(test.markdown)
    assert test.button(key="retry_run").label == "Resume"
    test.button(key="retry_run").click().run()
    with store.reading() as db:
        assert service.get_job(db, job_id).state is JobState.QUEUED


def test_run_out_of_memory_names_the_setting_that_saves_it(store: Store, trainer: Actor) -> None:
    job_id = enqueue(store, trainer, micro_batch_size=6)
    start(store, job_id).finish(JobState.FAILED, "The machine ran out of memory.")
    said = texts(page().markdown)
    assert "lower **Rows at once** from 6 to 3: the result stays the same" in said
    assert "**LoRA rank** of 16" in said


def test_two_runs_are_compared_on_one_chart_with_what_differs(store: Store, trainer: Actor) -> None:
    train(store, trainer, reward=0.1, lr=0.001)
    train(store, trainer, reward=0.2, lr=0.002)
    test = page()
    test.segmented_control(key="runs_view").set_value("Compare").run()
    assert not test.exception
    assert charts(test) == ["Reward of the answers of 2 runs over the steps"]
    values, differing = (frame.value for frame in test.dataframe)
    assert list(values["Highest"]) == pytest.approx([0.6, 0.3])
    assert list(differing.iloc[0]) == ["Learning rate", "0.002", "0.001"]
    test.segmented_control(key="compared_across").set_value("the KL to the reference").run()
    assert charts(test) == ["Reward of the answers of 2 runs over the KL to the reference"]
    test.multiselect(key="compared_runs").set_value([]).run()
    assert not test.exception
    assert "Choose runs" in texts(test.caption)


def test_a_number_that_each_run_reports_once_is_a_table_without_a_chart(
    store: Store, trainer: Actor
) -> None:
    for value in (0.7, 0.8):
        job_id = enqueue(store, trainer)
        tracker = start(store, job_id)
        tracker.metrics(1, {"accuracy": value})
        tracker.finish(JobState.SUCCEEDED, "Trained.")
    test = page()
    test.segmented_control(key="runs_view").set_value("Compare").run()
    assert not test.exception
    assert not charts(test)
    assert "there is no curve to draw" in texts(test.caption)
    assert sorted(test.dataframe[0].value["Highest"]) == pytest.approx([0.7, 0.8])


def test_parameters_that_only_one_run_has_differ() -> None:
    found = find_differences([{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3, "d": 4}}])
    assert found == {"b.c": [2, 3], "b.d": [None, 4]}


def test_long_curve_keeps_its_end() -> None:
    points = pd.DataFrame({"step": range(1, 3_001), "value": range(3_000)})
    kept = thin(points)
    assert len(kept) <= MAX_POINTS
    assert kept["step"].max() == 3_000


def test_ordinals_read_right() -> None:
    assert [name_ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th",
    ]  # fmt: skip
