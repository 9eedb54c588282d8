"""The page of failures, the rows behind figures, and what is made of a group of failures."""

import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from pages._ui.failure_groups import explain_approval
from pages._ui.insight_rows import read_choice, write_choice
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.agreement import Interval
from rlhf_core.analytics.failure_clusters import get_cluster
from rlhf_core.analytics.failure_search import SearchParams
from rlhf_core.analytics.rows import RowChoice
from rlhf_core.clock import new_id
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.jobs.service import list_jobs
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Account, FailureCluster, FailureClustering
from rlhf_core.vocabulary import AlikeBy, JobKind, RaterKind, Role, Verdict
from tests.builders import make_feedback, make_interaction
from tests.core.analytics.kept_groups import keep_group

SignIn = Callable[[Role], Actor]
HOSTILE = "![x](https://evil.example/p.png) <b>bold</b>"


def open_page(name: str, **params: str) -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30).run()
    page.switch_page(f"pages/{name}.py")
    for param, value in params.items():
        page.query_params[param] = value
    page.run()
    assert not page.exception
    return page


def texts(page: AppTest) -> str:
    shown = [*page.markdown, *page.caption, *page.warning, *page.info, *page.error, *page.text]
    return "\n".join(element.value for element in shown)


def say_bad(db: Session, number: int) -> list[uuid.UUID]:
    """One exchange, called bad by so many end users."""
    items = [
        make_interaction(db, prompt=HOSTILE, completion=HOSTILE, external_id=new_id().hex).id
        for _ in range(number)
    ]
    for item in items:
        who = {"rater": new_id().hex, "rater_kind": RaterKind.END_USER}
        make_feedback(db, item, rating=1, comment=HOSTILE, **who)
    return items


def test_without_data_the_page_says_how_to_get_them(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    page = open_page("analyse/failures")
    assert "No feedback yet" in texts(page)


def test_frequent_exchanges_and_groups_are_shown_as_the_text_they_are(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        keep_group(db, say_bad(db, 3), words=("**refund**", HOSTILE))
    page = open_page("analyse/failures")
    exchanges, groups = (table.value for table in page.dataframe[:2])
    assert exchanges["Called bad"].tolist() == [3]
    assert exchanges["Completion"].tolist() == [HOSTILE]
    assert groups["Typical words"].tolist() == [f"**refund**, {HOSTILE}"]
    assert groups["Verdict"].tolist() == ["worse than the rest"]
    said = texts(page)
    assert "approval is 10 % (2 % to 30 %)" in said
    assert "-70 points (-80 to -50), worse than the rest, beyond chance" in said
    assert "![x](" not in "\n".join(element.value for element in page.markdown)
    assert not [one for one in page.button if one.key in ("failure_queue", "failure_dataset")]


def test_a_trainer_starts_a_search_and_sees_how_far_it_is(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        say_bad(db, 2)
    page = open_page("analyse/failures")
    assert "No exchange was called bad more than twice" in texts(page)
    page.button(key="failure_search_start").click().run()
    assert not page.exception
    with store.reading() as db:
        (job,) = list_jobs(db, kind=JobKind.CLUSTER_FAILURES)
    assert job.params["filters"]["since"] is not None  # the period that the page shows
    assert not [one for one in page.button if one.key == "failure_search_start"]


def test_of_a_search_by_both_one_kind_is_shown_at_a_time(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        items = say_bad(db, 6)
        keep_group(db, items[:3], ("words", "of", "prompts"), AlikeBy.PROMPT)
        keep_group(db, items[3:], ("words", "of", "answers"))
        last, before = db.scalars(
            sa.select(FailureClustering).order_by(FailureClustering.created_at.desc())
        )
        last.params = SearchParams(alike_by=AlikeBy.BOTH).to_json()
        db.execute(sa.update(FailureCluster).where(FailureCluster.clustering_id == before.id)
                   .values(clustering_id=last.id, number=1))  # fmt: skip
    page = open_page("analyse/failures")
    assert page.dataframe[1].value["Typical words"].tolist() == ["words, of, prompts"]
    (kind,) = [one for one in page.button_group if one.label == "Alike are"]
    assert kind.options == ["Prompts (1 worse)", "Answers (1 worse)"]
    kind.set_value(AlikeBy.COMPLETION).run()
    assert not page.exception
    assert page.dataframe[1].value["Typical words"].tolist() == ["words, of, answers"]


def test_a_queue_and_a_dataset_begin_with_the_group_of_the_link(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        make_interaction(db)
        cluster_id = keep_group(db, say_bad(db, 3))
    page = open_page("analyse/failures")
    page.button(key="failure_queue").click().run()
    assert "3 answers** match" in texts(page)
    page = open_page("train/datasets", cluster=str(cluster_id))
    (chosen,) = [one for one in page.selectbox if one.label == "Group of failures"]
    assert chosen.value == cluster_id


def test_rows_are_those_that_the_address_names(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        cluster_id = keep_group(db, say_bad(db, 3))
        make_feedback(db, make_interaction(db, completion="Fine.").id, rating=5)
    page = open_page("analyse/rows")
    assert "1 to 4 of 4" in texts(page)
    page = open_page("analyse/rows", row_verdict="good")
    assert page.dataframe[0].value["Completion"].tolist() == ["Fine."]
    assert page.dataframe[0].value["Said"].tolist() == ["5 of 5"]
    page = open_page("analyse/rows", row_cluster_id=str(cluster_id))
    assert "1 to 3 of 3" in texts(page)
    page = open_page("analyse/rows", row_verdict="neutral")
    assert "No feedback here" in texts(page)


@pytest.mark.parametrize(
    "choice",
    [
        RowChoice(),
        RowChoice(verdict=Verdict.BAD, rating=1, thumb=-1, rater_id=new_id()),
        RowChoice(about_steps=True, position=0, kind="", label=0, cluster_id=new_id()),
        RowChoice(aspect="to & fro", pattern_hash="ab"),
    ],
)
def test_a_choice_survives_the_address(choice: RowChoice) -> None:
    params = {name: value for name, (value,) in write_choice(choice).items()}
    assert read_choice(params) == choice


def test_what_an_address_cannot_mean_is_left_out() -> None:
    wrong = {"row_rating": "9", "row_thumb": "x", "row_verdict": "fine", "row_rater_id": "1"}
    assert read_choice(wrong) == RowChoice()


def test_the_sentence_on_approval_says_no_more_than_is_known(store: Store) -> None:
    with store.writing() as db:
        cluster = get_cluster(db, keep_group(db, [make_interaction(db).id]), actor=SYSTEM)
    fields = {name: getattr(cluster, name) for name in cluster.__dataclass_fields__}

    def say(**other: object) -> str:
        return explain_approval(type(cluster)(**(fields | other)))

    assert "is not known" in say(approval=None, difference=None)
    assert "rest" not in say(rest=None, difference=None)
    assert "which chance may explain" in say(difference=Interval(-0.1, -0.3, 0.1), is_worse=False)
    assert "no worse than the rest" in say(difference=Interval(0.1, -0.1, 0.3), is_worse=False)


def test_an_address_names_no_step_that_cannot_be() -> None:
    for said, expected in (("99999999999999999999", None), ("-1", None), ("999", 999)):
        assert read_choice({"row_position": said}).position == expected


def test_a_search_is_refused_to_who_lost_the_permission(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.TRAINER)
    with store.writing() as db:
        say_bad(db, 2)
    page = open_page("analyse/failures")
    with store.writing() as db:
        db.execute(
            sa.update(Account).where(Account.id == actor.account_id).values(role=Role.ANALYST)
        )
    page.button(key="failure_search_start").click().run()
    assert not page.exception
    with store.reading() as db:
        assert list_jobs(db, kind=JobKind.CLUSTER_FAILURES) == []
