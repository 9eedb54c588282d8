"""The page My ratings: finding, changing and withdrawing what one said."""

import uuid
from collections.abc import Callable

import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.feedback.history import Subject
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Feedback
from rlhf_core.vocabulary import Choice, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.feedback.pairs import compare, make_completions

SignIn = Callable[[Role], Actor]
EVIL = "![x](https://evil.example/a.png) <b>bold</b>"


def open_page(entry: uuid.UUID | str | None = None) -> AppTest:
    page = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    if entry is not None:
        page.query_params["entry"] = str(entry)
    page.switch_page("pages/collect/my_ratings.py").run()
    assert not page.exception
    return page


def said(page: AppTest) -> list[str]:
    """The column "You said" of the list."""
    return [str(one) for one in page.dataframe[0].value["You said"]]


def fill(page: AppTest, name: str, value: object) -> None:
    (group,) = [one for one in page.radio if (one.key or "").startswith(f"{name}_")]
    group.set_value(value)


def save(page: AppTest) -> None:
    page.button(key="history_save").click().run()
    assert not page.exception


def test_list_holds_ones_own_ratings_only(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.RATER)
    with store.writing() as db:
        item = make_interaction(db, steps=1, prompt=EVIL).id
        make_feedback(db, item, actor=make_actor(db), rating=1)
        make_feedback(db, item, actor=actor, rating=4, comment="fine")
        make_feedback(db, item, actor=actor, step=0, label=-1)
        compare(db, *make_completions(db), actor, strength=3)
    page = open_page()
    assert said(page) == ["left is much better", "wrong", "4 of 5, “fine”"]
    page.selectbox(key="history_subject").set_value(Subject.STEP).run()
    assert said(page) == ["wrong"]
    page.selectbox(key="history_subject").set_value("All").run()
    page.text_input(key="history_text").input("evil.example").run()
    assert said(page) == ["wrong", "4 of 5, “fine”"]


def test_rating_is_changed_and_the_change_is_listed(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.RATER)
    with store.writing() as db:
        item = make_interaction(db, prompt=EVIL, completion=EVIL).id
        entry = make_feedback(db, item, actor=actor, rating=2, comment="hm").id
        make_feedback(db, item, actor=make_actor(db), rating=5, comment=EVIL)
    page = open_page(entry)
    fill(page, "rating", 4)
    page.text_area[0].input("better than I thought")
    save(page)
    with store.reading() as db:
        row = db.get_one(Feedback, entry)
    assert (row.rating, row.comment, row.revision) == (4, "better than I thought", 1)
    texts = [text.value for text in page.text]
    assert "rating: 2 → 4\ncomment: hm → better than I thought" in texts
    assert EVIL in texts  # what another said, as it is
    assert not any("![" in element.value for element in (*page.markdown, *page.caption))


def test_comparison_and_step_are_changed_too(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.RATER)
    with store.writing() as db:
        one, other = make_completions(db)
        pair = compare(db, one, other, actor, strength=2, extra={"side_seed": 1}).id
        item = make_interaction(db, steps=2).id
        step = make_feedback(db, item, actor=actor, step=1, label=1).id
    page = open_page(pair)
    fill(page, "choice", Choice.TIE)
    save(page)
    page = open_page(step)
    fill(page, "label", -1)
    save(page)
    with store.reading() as db:
        row = db.get_one(Comparison, pair)
        assert (row.choice, row.strength, row.extra) == (Choice.TIE, None, {"side_seed": 1})
        assert db.get_one(Feedback, step).label == -1


def test_withdrawn_rating_stays_in_the_list_and_is_said_again(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.RATER)
    with store.writing() as db:
        entry = make_feedback(db, make_interaction(db).id, actor=actor, rating=2).id
        make_feedback(db, make_interaction(db).id, actor=actor, rating=3)
    page = open_page(entry)
    page.button(key="history_withdraw").click().run()
    with store.reading() as db:
        assert db.get_one(Feedback, entry).withdrawn_at is not None
    assert list(page.dataframe[0].value["State"]) == ["", "withdrawn"]
    page.selectbox(key="history_state").set_value("Withdrawn").run()
    assert said(page) == ["2 of 5"]
    page = open_page(entry)
    save(page)
    with store.reading() as db:
        row = db.get_one(Feedback, entry)
    assert (row.withdrawn_at, row.rating, row.revision) == (None, 2, 2)


def test_rating_of_somebody_else_is_not_opened(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.RATER)
    with store.writing() as db:
        make_feedback(db, make_interaction(db).id, actor=actor)
        other = make_feedback(db, make_interaction(db).id, actor=make_actor(db), comment="mine")
    for wanted in (other.id, "nonsense"):
        page = open_page(wanted)
        assert len(page.warning) == 1
        assert not any("mine" in text.value for text in page.text)


def test_long_history_is_paged(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.RATER)
    with store.writing() as db:
        for _ in range(53):
            make_feedback(db, make_interaction(db).id, actor=actor)
        count = db.scalar(sa.select(sa.func.count()).select_from(Feedback))
    page = open_page()
    assert count == 53
    assert len(said(page)) == 50
    assert any("53 of 53" in caption.value for caption in page.caption)


def test_nothing_rated_yet_leads_to_the_page_rate(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    assert any("rated nothing yet" in text.value for text in open_page().markdown)
