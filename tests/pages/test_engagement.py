"""The pages of steps, engagement and model trends: empty, with one row, with hostile names."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from pages._ui.model_trend_parts import bounds_of
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.analytics import funnels
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.clock import utcnow
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.feedback.drafts import InteractionDraft, StepDraft
from rlhf_core.feedback.events import EventDraft, submit_events
from rlhf_core.feedback.service import create_interaction
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.registry.scores import store_rewards
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import RaterKind, Role
from tests.builders import make_actor, make_feedback
from tests.core.registry.world import make_version

SignIn = Callable[[Role], Actor]
HOSTILE = "<b>![x](https://evil.example/p.png)"
PAGES = ("steps", "engagement", "model_trends", "raters")


def open_page(name: str) -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30).run()
    page.switch_page(f"pages/analyse/{name}.py").run()
    assert not page.exception
    return page


def texts(page: AppTest) -> str:
    shown = [*page.markdown, *page.caption, *page.warning, *page.info, *page.error, *page.header]
    metrics = [metric.value for metric in page.metric]
    return "\n".join([*(element.value for element in shown), *metrics])


def make_use(db: Session, num_users: int) -> None:
    """Users of two models on two days, with feedback, labelled steps, events and rewards."""
    rater = make_actor(db, Role.RATER)
    rewards = {}
    now = utcnow()
    for number in range(num_users):
        for day in range(1 + number % 2):
            at = now - timedelta(days=9 - day, minutes=number)
            key = f"{number}-{day}"
            draft = InteractionDraft(
                prompt=key, completion="c", user=f"u{number}", chat_id=key, occurred_at=at,
                model_name=f"{HOSTILE}{number % 2}", action_type=HOSTILE,
                steps=[StepDraft(content="a", kind=HOSTILE), StepDraft(content="b")],
            )  # fmt: skip
            item = create_interaction(db, draft, actor=SYSTEM).id
            rewards[item] = float(number % 3)
            thumb = 1 if number % 3 else -1
            make_feedback(db, item, thumb=thumb, rater_kind=RaterKind.END_USER, occurred_at=at)
            make_feedback(db, item, actor=rater, thumb=thumb, occurred_at=at)
            for step in range(2):
                make_feedback(db, item, actor=rater, step=step, label=thumb, occurred_at=at)
            events = [
                EventDraft(name=name, external_id=f"{key}{name}", session_key=key,
                           occurred_at=at + timedelta(seconds=place))
                for place, name in enumerate(("open", HOSTILE))
            ]  # fmt: skip
            submit_events(db, events, actor=SYSTEM)
    version = make_version(db)
    store_rewards(db, version.id, rewards, actor=SYSTEM)
    record_evaluation(
        db, actor=SYSTEM, version_id=version.id, dataset_version_id=None, job_id=None, split="test",
        num_rows=9, examination_json={"metrics": {"auc": 0.7}, "intervals": {"auc": [0.6, 0.8]}},
    )  # fmt: skip


def test_empty_pages_say_how_to_get_figures(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    for name in PAGES:
        said = texts(open_page(name))
        assert "yet" in said, name
        assert "nan" not in said.lower(), name


@pytest.mark.parametrize("num_users", [1, 24])
def test_pages_draw_one_row_and_many(store: Store, sign_in_as: SignIn, num_users: int) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        make_use(db, num_users)
    for name in PAGES:
        page = open_page(name)
        said = texts(page)
        assert "nan" not in said.lower(), name
        assert "![x]" not in said, name
        assert not page.error, name


def test_engagement_shows_sessions_funnel_and_what_a_model_changes(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        make_use(db, 24)
    page = open_page("engagement")
    assert [metric.value for metric in page.metric][:3] == ["36", "1 s", "24"]
    assert page.metric[3].value == "50.0%"
    effects = next(frame for frame in page.dataframe if "Outcome" in frame.value)
    assert list(effects.value["Users"]) + list(effects.value["Users of the baseline"]) == [
        12, 12, 12, 12, 12, 12, 12, 12
    ]  # fmt: skip


def test_a_funnel_of_the_most_frequent_paths_says_of_how_many_sessions_it_is(
    store: Store, sign_in_as: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(funnels, "MAX_PATHS", 1)
    with store.writing() as db:
        for key, names in (("a", "xy"), ("b", "xy"), ("c", "xyx")):
            drafts = [
                EventDraft(name=name, external_id=f"{key}{place}", session_key=key,
                           occurred_at=utcnow() - timedelta(seconds=9 - place))
                for place, name in enumerate(names)
            ]  # fmt: skip
            submit_events(db, drafts, actor=SYSTEM)
        refresh_rollups(db)
    sign_in_as(Role.ANALYST)
    assert "Of the 2 sessions on the 1 most frequent paths: 66.7% of 3" in texts(
        open_page("engagement")
    )


def test_pages_of_analysis_are_not_for_raters(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30).run()
    with pytest.raises(ValueError, match="steps"):
        page.switch_page("pages/analyse/steps.py").run()


def test_a_correlation_may_lie_below_nought() -> None:
    assert bounds_of("spearman") == (-1, 1)
    assert bounds_of("auc") == (0, 1)
