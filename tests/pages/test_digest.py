"""The page of the weekly report."""

import html
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.alerts.digest import last_monday
from rlhf_core.alerts.digest_mail import get_plan
from rlhf_core.analytics.filters import start_of_day
from rlhf_core.analytics.rollups import mark_everything
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import RaterKind, Role
from tests.databases import only_sqlite
from tests.learning.rated import add_feedback, add_interaction, add_rater

PAGE = SOURCE_ROOT / "pages" / "analyse" / "digest.py"
pytestmark = only_sqlite
EVIL = "<img src=x> ![a](http://evil.example)"


@pytest.fixture
def analyst(sign_in_as: Callable[[Role], Actor]) -> Actor:
    return sign_in_as(Role.ANALYST)


def page(**query: str) -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=30)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def texts(elements: Any) -> str:
    said = "\n".join(str(element.value) for element in elements)
    return html.unescape(said).replace("\u2060", "")


def add_week(store: Store, weeks_ago: int, *, good: int, bad: int) -> None:
    at = start_of_day(last_monday() - timedelta(days=7 * weeks_ago))
    with store.writing() as db:
        rater = add_rater(db, f"r{weeks_ago}", rater_kind=RaterKind.END_USER)
        for number in range(good + bad):
            is_bad = number >= good
            fields = {"action_type": EVIL if is_bad else "fine", "occurred_at": at}
            thing = add_interaction(db, "Why?", EVIL if is_bad else "So.", **fields)
            add_feedback(db, thing, rater, thumb=-1 if is_bad else 1, occurred_at=at)
        mark_everything(db, actor=SYSTEM)


def test_last_week_is_shown_beside_the_one_before(analyst: Actor, store: Store) -> None:
    add_week(store, 0, good=30, bad=10)
    add_week(store, 1, good=20, bad=0)
    test = page()
    approval = next(one for one in test.metric if one.label == "Approval")
    assert (approval.value, approval.delta) == ("75.0 %", "-25.0 points")
    worst, failures = (one.value for one in test.table)
    assert html.unescape(worst.index[0]).replace("\u2060", "") == EVIL
    assert "![" not in str(failures.to_dict()), "text of others is no Markdown"
    assert worst["Approval"].tolist() == ["0% (0% to 28%)"]


def test_another_week_is_in_the_address(analyst: Actor, store: Store) -> None:
    add_week(store, 3, good=20, bad=0)
    assert not page().metric
    monday = last_monday() - timedelta(days=21)
    test = page(week=monday.isoformat())
    assert next(one for one in test.metric if one.label == "Approval").value == "100.0 %"


def test_empty_week_says_so_without_an_error(analyst: Actor) -> None:
    test = page()
    assert "Nothing happened in this week" in texts(test.markdown)
    test.toggle(key="current_week").set_value(True).run()
    assert not test.exception
    assert "(so far)" in texts(test.markdown)


def test_analyst_names_who_gets_it(analyst: Actor, store: Store) -> None:
    test = page()
    test.text_input(key="digest_emails").set_value("no address").run()
    assert test.button(key="digest_save").disabled
    test.text_input(key="digest_emails").set_value("a@b.example, c@d.example")
    test.number_input(key="digest_hour").set_value(9)
    test.toggle(key="digest_on").set_value(True).run()
    assert "RLHF_SMTP_HOST" in texts(test.caption)
    test.button(key="digest_save").click().run()
    assert not test.exception
    with store.reading() as db:
        plan = get_plan(db, actor=analyst)
    assert (plan.emails, plan.hour, plan.is_enabled) == (("a@b.example", "c@d.example"), 9, True)
    assert "The next one goes out Monday" in texts(test.caption)


def test_rater_does_not_get_in(sign_in_as: Callable[[Role], Actor]) -> None:
    sign_in_as(Role.RATER)
    assert "may not read" in texts(page().error)
