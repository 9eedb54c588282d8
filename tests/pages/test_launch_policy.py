"""Launching a policy: what the page recommends, refuses, foretells and queues."""

import html
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.launch_policy import describe_memory
from pages._ui.launch_policy_choice import GOALS, METHOD_CAPTIONS, METHOD_NAMES
from pages._ui.launch_policy_options import MORE, USUAL, policy_defaults
from pages._ui.measures import JOB_KIND_NAMES, MODEL_KIND_NAMES, POLICY_KINDS
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.jobs import service
from rlhf_core.jobs.heartbeats import beat
from rlhf_core.jobs.policy_params import (
    POLICY_LEARNERS,
    RewardPart,
    TrainPolicyParams,
    params_class,
    parse_policy_params,
)
from rlhf_core.jobs.train_policy import enqueue_train_policy
from rlhf_core.jobs.train_reward import TrainRewardParams, enqueue_train_reward
from rlhf_core.registry.service import promote_version
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, JobKind, ModelKind, Resource, Role
from tests.core.registry.world import make_version
from tests.learning.rated import add_rated, make_rows


@pytest.fixture
def trainer(sign_in_as: Callable[[Role], Actor]) -> Actor:
    return sign_in_as(Role.TRAINER)


def fill(store: Store, number: int = 240, *, with_reward: bool = True) -> None:
    with store.writing() as db:
        beat(db, "test:gpu", pid=1, resources=tuple(Resource))
        add_rated(db, make_rows(number))
        if with_reward:
            judge = make_version(db, model_name="reward-judge", details={"role": "judge"})
            reward = make_version(
                db, details={"judge": judge.name, "judge_version_id": str(judge.id)}
            )
            promote_version(db, reward.id, actor=SYSTEM, reason="test")


def open_page(**query: str) -> AppTest:
    test = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    for name, value in query.items():
        test.query_params[name] = value
    test.switch_page("pages/train/launch.py").run()
    if not query:
        test.segmented_control(key="launch_part").set_value("Policy").run()
    assert not test.exception
    return test


def words(test: AppTest) -> str:
    kinds: list[Any] = [test.markdown, test.caption, test.info, test.warning, test.error]
    shown = "\n".join(str(element.value) for kind in kinds for element in kind)
    return html.unescape(shown).replace("\u2060", "")


def can_start(test: AppTest) -> bool:
    return "start" in [button.key for button in test.button]


def queued(store: Store) -> tuple[service.JobView, TrainPolicyParams]:
    with store.reading() as db:
        (job,) = service.list_jobs(db)
    return job, parse_policy_params(job.params)


def test_one_click_queues_ppo_on_what_there_is(store: Store, trainer: Actor) -> None:
    fill(store)
    test = open_page()
    assert test.radio(key="method_Please a reward model").value is JobKind.TRAIN_PPO
    assert "(recommended)" in test.radio(key="method_Please a reward model").options[0]
    labels = [metric.label for metric in test.metric]
    assert {"Prompts", "Time, about", "Memory, about", "Trains on"} <= set(labels)
    assert "fits in" in words(test)
    test.number_input(key="updates_train_ppo").set_value(30)
    test.selectbox(key="priority").set_value(5).run()
    test.button(key="start").click().run()
    assert not test.exception
    job, params = queued(store)
    assert (job.kind, job.priority, job.resource) == (JobKind.TRAIN_PPO, 5, Resource.GPU)
    assert params.rewards == (RewardPart("reward@1"),)
    assert (params.base, params.held_out, params.options) == ("starter", "auto", {"updates": 30})


def test_machines_are_asked_for_where_several_workers_are_alive(
    store: Store, trainer: Actor
) -> None:
    fill(store)
    assert "num_machines" not in [one.key for one in open_page().number_input]
    with store.writing() as db:
        beat(db, "other:gpu", pid=2, resources=(Resource.GPU,))
    test = open_page()
    machines = test.number_input(key="num_machines")
    assert (machines.value, machines.max) == (1, 2)
    machines.set_value(2).run()
    test.button(key="start").click().run()
    assert not test.exception
    assert queued(store)[1].num_machines == 2


def test_without_a_reward_model_ppo_leads_to_one_and_dpo_needs_none(
    store: Store, trainer: Actor
) -> None:
    fill(store, with_reward=False)
    test = open_page()
    test.segmented_control(key="policy_goal").set_value("Please a reward model").run()
    assert "No reward model yet" in words(test)
    assert not can_start(test)
    test.segmented_control(key="policy_goal").set_value("Follow preferences").run()
    assert not test.exception
    assert "No reward model yet" not in words(test)
    test.segmented_control(key="policy_goal").set_value("Please a reward model").run()
    test.button(key="go_to_reward").click().run()
    assert test.segmented_control(key="launch_part").value == "Reward model"


def test_few_labels_are_better_used_to_rerank(store: Store, trainer: Actor) -> None:
    fill(store, 60)
    assert "Train no policy yet" in words(open_page())


def test_base_that_is_nowhere_stops_the_start_with_a_sentence(store: Store, trainer: Actor) -> None:
    fill(store)
    with store.writing() as db:
        job = service.enqueue_job(
            db,
            actor=trainer,
            kind=JobKind.TRAIN_PPO,
            params=TrainPolicyParams(base="gone@3", rewards=(RewardPart("reward@1"),)).to_json(),
        )
    test = open_page(copy=str(job.id))
    assert "gone@3" in words(test)
    assert not can_start(test)


def test_copied_run_offers_what_it_was_asked_for(store: Store, trainer: Actor) -> None:
    fill(store)
    asked = TrainPolicyParams(
        learner=JobKind.TRAIN_PPO,
        model="helper",
        rows=DatasetParams(purpose=DatasetPurpose.PROMPTS),
        rewards=(RewardPart("reward@1", 0.5), RewardPart("reward-judge@1", 2.0)),
        held_out="none",
        options={"updates": 7, "kl_target": 3.0, "lr": 0.0003},
        test_percent=10.0,
    )
    with store.writing() as db:
        job = enqueue_train_policy(db, actor=trainer, params=asked)
        service.cancel_job(db, job.id, actor=trainer)
    test = open_page(copy=str(job.id))
    assert "Copied from the run Policy (PPO)" in words(test)
    test.number_input(key="seed_train_ppo").set_value(4).run()
    test.button(key="start").click().run()
    assert not test.exception
    with store.reading() as db:
        newest = service.list_jobs(db)[0]
    found = parse_policy_params(newest.params)
    assert newest.id != job.id
    assert found.options == asked.options | {"seed": 4}
    assert found.rewards == asked.rewards
    assert (found.model, found.held_out, found.test_percent) == ("helper", "none", 10.0)


def test_copied_reward_run_offers_what_it_was_asked_for(store: Store, trainer: Actor) -> None:
    fill(store, 60, with_reward=False)
    asked = TrainRewardParams(
        rows=DatasetParams(threshold=3.5), options={"seed": 9}, seeds=3, model="mine"
    )
    with store.writing() as db:
        job = enqueue_train_reward(db, actor=trainer, params=asked)
        service.cancel_job(db, job.id, actor=trainer)
    test = open_page(copy=str(job.id))
    assert test.segmented_control(key="launch_part").value == "Reward model"
    assert test.number_input(key="seed_train_sbert").value == 9
    test.button(key="start").click().run()
    with store.reading() as db:
        newest = service.list_jobs(db)[0]
    assert newest.params == asked.to_json()


def test_starter_takes_every_interaction(store: Store, trainer: Actor) -> None:
    fill(store, 60, with_reward=False)
    test = open_page()
    test.segmented_control(key="policy_goal").set_value("Make a small policy").run()
    assert not test.exception
    assert {metric.label: metric.value for metric in test.metric}["Interactions"] == "60"
    test.button(key="start").click().run()
    job, params = queued(store)
    assert (job.kind, params.number) == (JobKind.TRAIN_STARTER, None)


def test_run_that_is_none_is_named(store: Store, trainer: Actor) -> None:
    assert "There is no run" in words(open_page(copy="no-id"))


def test_every_way_has_a_place_a_name_and_a_caption() -> None:
    placed = [kind for kinds in GOALS.values() for kind in kinds]
    assert sorted(placed) == sorted(POLICY_LEARNERS) == sorted(POLICY_KINDS)
    assert set(METHOD_NAMES) == set(METHOD_CAPTIONS) == set(POLICY_LEARNERS)
    assert set(JOB_KIND_NAMES) == set(JobKind)
    assert set(MODEL_KIND_NAMES) == set(ModelKind)


@pytest.mark.parametrize("learner", list(POLICY_LEARNERS))
def test_every_parameter_is_offered_with_its_default_in_bounds(learner: JobKind) -> None:
    defaults = policy_defaults(learner)
    offered = {option.name: option for option in (*USUAL, *MORE)}
    asked_elsewhere = {"base", "teacher"}
    assert {each.name for each in fields(params_class(learner))} - asked_elsewhere <= set(offered)
    for name, default in defaults.items():
        option = offered.get(name)
        if option is None or default is None or isinstance(default, bool):
            continue
        fits = default in option.choices if option.choices else option.low <= default <= option.high
        assert fits, f"{name}: {default}"


@pytest.mark.parametrize(("mebibytes", "said"), [(640.0, "640 MiB"), (2150.4, "2.1 GiB")])
def test_memory_is_said_in_round_numbers(mebibytes: float, said: str) -> None:
    assert describe_memory(mebibytes) == said
