"""The page that launches training: what it says of the data, and what its button does."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.launch_choice import recommend
from pages._ui.launch_options import OPTIONS, default_options
from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import freeze_version
from rlhf_core.jobs import service
from rlhf_core.jobs.heartbeats import beat
from rlhf_core.jobs.train_params import LEARNERS
from rlhf_core.jobs.train_reward import TrainRewardParams, enqueue_train_reward, parse_train_params
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, JobKind, Resource, Role
from tests.learning.rated import add_rated, make_rows, with_score

APP = Path(__file__).resolve().parents[2] / "app.py"
PAGE = "pages/train/launch.py"


@pytest.fixture
def trainer(sign_in_as: Callable[[Role], Actor]) -> Actor:
    return sign_in_as(Role.TRAINER)


def open_page() -> AppTest:
    test = AppTest.from_file(APP, default_timeout=30).run()
    test.switch_page(PAGE).run()
    assert not test.exception
    return test


def fill(store: Store, number: int, score: float | None = None) -> None:
    rows = make_rows(number)
    with store.writing() as db:
        beat(db, "test:cpu", pid=1, resources=tuple(Resource))
        add_rated(db, rows if score is None else [with_score(row, score) for row in rows])


def words(test: AppTest) -> str:
    """What a person reads, character references resolved."""
    kinds: list[Any] = [
        test.title,
        test.markdown,
        test.caption,
        test.info,
        test.warning,
        test.error,
    ]
    return html.unescape("\n".join(str(element.value) for kind in kinds for element in kind))


def numbers(test: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in test.metric}


def can_start(test: AppTest) -> bool:
    return "start" in [button.key for button in test.button]


def queued(store: Store) -> tuple[JobKind, TrainRewardParams]:
    with store.reading() as db:
        (job,) = service.list_jobs(db)
    return job.kind, parse_train_params(job.params)


def test_rater_does_not_find_the_page(store: Store, sign_in_as: Callable[[Role], Actor]) -> None:
    sign_in_as(Role.RATER)
    test = AppTest.from_file(APP, default_timeout=30).run()
    with pytest.raises(ValueError, match="launch"):
        test.switch_page(PAGE).run()


def test_without_ratings_it_says_where_to_get_some(store: Store, trainer: Actor) -> None:
    test = open_page()
    assert "No ratings yet" in words(test)
    assert not can_start(test)


def test_38_ratings_are_12_too_few(store: Store, trainer: Actor) -> None:
    fill(store, 38)
    test = open_page()
    assert numbers(test)["Rated completions"] == "38"
    assert "38 rated interactions, 12 short" in words(test)
    assert not can_start(test)


def test_all_ratings_equal_is_said(store: Store, trainer: Actor) -> None:
    fill(store, 50, score=3.0)
    assert "same rating 3" in words(open_page())


def test_button_queues_one_run_with_the_parameters_of_the_page(
    store: Store, trainer: Actor
) -> None:
    fill(store, 60)
    test = open_page()
    assert numbers(test) == {
        "Rated completions": "60", "Prompts": "15", "Raters": "1", "Good": "50%",
    }  # fmt: skip
    test.radio(key="threshold_scores_4").set_value(4.5)
    test.selectbox(key="source").set_value("test")
    test.number_input(key="test_percent").set_value(10)
    test.number_input(key="seed_train_sbert").set_value(7)
    test.number_input(key="seeds").set_value(3)
    test.toggle(key="with_judge").set_value(True).run()
    test.button(key="start").click().run()
    assert not test.exception
    kind, params = queued(store)
    assert (kind, params.learner) == (JobKind.TRAIN_SBERT, JobKind.TRAIN_SBERT)
    assert (params.rows.threshold, params.rows.filters.source) == (4.5, "test")
    assert (params.seed, params.seeds, params.with_judge) == (7, 3, True)
    assert (params.number, params.test_percent, params.model) == (None, 10, "reward")


def test_only_options_that_differ_from_the_learners_own_are_asked_for(
    store: Store, trainer: Actor
) -> None:
    fill(store, 60)
    test = open_page()
    test.radio(key="learner").set_value(JobKind.TRAIN_TRANSFORMER).run()
    test.number_input(key="epochs_train_transformer").set_value(1)
    test.number_input(key="lora_rank_train_transformer").set_value(8).run()
    test.button(key="start").click().run()
    kind, params = queued(store)
    assert kind is JobKind.TRAIN_TRANSFORMER
    assert params.options == {"epochs": 1, "lora_rank": 8}


def test_frozen_version_takes_the_place_of_what_there_is_now(store: Store, trainer: Actor) -> None:
    fill(store, 60)
    with store.reading() as db:
        staged = stage_rows(db, params=DatasetParams(threshold=3.0))
    with store.writing() as db:
        version = freeze_version(db, actor=trainer, name="spring", staged=staged).version
    fill(store, 20)
    test = open_page()
    test.selectbox(key="dataset_scores").set_value(version).run()
    assert not test.exception
    assert numbers(test) == {
        "Rated completions": "60", "Prompts": "15", "To learn from": "60", "For the test": "0",
    }  # fmt: skip
    test.button(key="start").click().run()
    _, params = queued(store)
    assert (params.dataset, params.number) == ("spring", 1)
    assert params.rows.threshold == 3.0


def test_version_with_too_few_rows_cannot_be_learned_from(store: Store, trainer: Actor) -> None:
    fill(store, 20)
    with store.reading() as db:
        staged = stage_rows(db, params=DatasetParams())
    with store.writing() as db:
        version = freeze_version(db, actor=trainer, name="few", staged=staged).version
    test = open_page()
    test.selectbox(key="dataset_scores").set_value(version).run()
    assert "few v1 has 20 rows, at least 50 are needed" in words(test)
    assert not can_start(test)


def test_pairs_of_two_rated_completions_can_be_learned_from(store: Store, trainer: Actor) -> None:
    fill(store, 60)
    test = open_page()
    test.selectbox(key="purpose_train_sbert").set_value(DatasetPurpose.PREFERENCES).run()
    assert not test.exception
    assert int(numbers(test)["From ratings"]) == int(numbers(test)["Pairs"]) > 0


def test_without_step_labels_the_step_learner_says_so(store: Store, trainer: Actor) -> None:
    fill(store, 60)
    test = open_page()
    test.radio(key="learner").set_value(JobKind.TRAIN_STEPS).run()
    assert not test.exception
    assert "No step labels yet" in words(test)
    assert not can_start(test)


def test_equal_run_under_way_takes_the_place_of_the_button(store: Store, trainer: Actor) -> None:
    fill(store, 60)
    with store.writing() as db:
        enqueue_train_reward(db, actor=trainer, params=TrainRewardParams())
    test = open_page()
    assert "A run with these parameters is queued already" in words(test)
    assert not can_start(test)
    test.number_input(key="seed_train_sbert").set_value(8).run()
    assert can_start(test)


def test_missing_worker_is_said(store: Store, trainer: Actor) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(60))
    assert "No worker is alive" in words(open_page())


def test_name_that_is_none_is_refused_with_a_sentence(store: Store, trainer: Actor) -> None:
    fill(store, 60)
    test = open_page()
    test.text_input(key="model_name").set_value(" ").run()
    assert "give a name of 1 to" in words(test)
    assert not can_start(test)


@pytest.mark.parametrize(
    ("scored", "pairs", "stepped", "learner"),
    [
        (0, 0, 0, JobKind.TRAIN_SBERT),
        (0, 2_000, 0, JobKind.TRAIN_TRANSFORMER),
        (2_000, 0, 900, JobKind.TRAIN_TRANSFORMER),
        (300, 100, 900, JobKind.TRAIN_SBERT),
        (300, 2_000, 0, JobKind.TRAIN_SBERT),
        (10, 10, 60, JobKind.TRAIN_STEPS),
        (10, 10, 40, JobKind.TRAIN_SBERT),
    ],
)
def test_recommended_learner_suits_what_there_is(
    scored: int, pairs: int, stepped: int, learner: JobKind
) -> None:
    assert recommend(scored, pairs, stepped, need=50).learner is learner


@pytest.mark.parametrize("learner", list(LEARNERS))
def test_every_option_is_a_parameter_of_its_learner_and_offers_its_default(
    learner: JobKind,
) -> None:
    defaults = default_options(learner)
    for option in OPTIONS[learner]:
        default = defaults[option.name]
        fits = default in option.choices if option.choices else option.low <= default <= option.high
        assert fits, f"{option.name}: {default}"
