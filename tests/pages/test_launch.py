"""The page that launches training: what it says of the data, and what its button does."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import Actor
from rlhf_core.jobs import service
from rlhf_core.jobs.heartbeats import beat
from rlhf_core.jobs.train_sbert import TrainSbertParams, enqueue_train_sbert
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Resource, Role
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
        beat(db, "test:cpu", pid=1, resources=(Resource.CPU,))
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


def test_rater_does_not_find_the_page(store: Store, sign_in_as: Callable[[Role], Actor]) -> None:
    sign_in_as(Role.RATER)
    test = AppTest.from_file(APP, default_timeout=30).run()
    with pytest.raises(ValueError, match="launch"):
        test.switch_page(PAGE).run()


def test_without_ratings_it_says_where_to_get_some(store: Store, trainer: Actor) -> None:
    test = open_page()
    assert "No ratings yet" in words(test)
    assert "start" not in [button.key for button in test.button]


def test_38_ratings_are_12_too_few(store: Store, trainer: Actor) -> None:
    fill(store, 38)
    test = open_page()
    assert numbers(test)["Rated interactions"] == "38"
    assert "12 more needed" in words(test)
    assert "start" not in [button.key for button in test.button]


def test_all_ratings_equal_is_said(store: Store, trainer: Actor) -> None:
    fill(store, 50, score=3.0)
    assert "same rating 3" in words(open_page())


def test_button_queues_one_run_with_the_parameters_of_the_page(
    store: Store, trainer: Actor
) -> None:
    fill(store, 60)
    test = open_page()
    assert numbers(test) == {
        "Rated interactions": "60", "Prompts": "15", "Raters": "1", "Good": "50%",
    }  # fmt: skip
    test.radio(key="threshold").set_value(4.5)
    test.number_input(key="seed").set_value(7).run()
    test.button(key="start").click().run()
    assert not test.exception
    with store.reading() as db:
        (job,) = service.list_jobs(db)
    assert job.created_by == trainer.name
    assert (job.params["threshold"], job.params["seed"]) == (4.5, 7)


def test_equal_run_under_way_takes_the_place_of_the_button(store: Store, trainer: Actor) -> None:
    fill(store, 60)
    with store.writing() as db:
        enqueue_train_sbert(db, actor=trainer, params=TrainSbertParams())
    test = open_page()
    assert "A run with these parameters is queued already" in words(test)
    assert "start" not in [button.key for button in test.button]
    test.number_input(key="seed").set_value(8).run()
    assert "start" in [button.key for button in test.button]


def test_missing_worker_is_said(store: Store, trainer: Actor) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(60))
    assert "No worker is alive" in words(open_page())
