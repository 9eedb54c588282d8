"""The pages of analysis on raters and disputes."""

import uuid
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from pages._ui.rater_words import explain_agreement, explain_bias, find_remarks
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.agreement import summarize_agreement, wilson_interval
from rlhf_core.analytics.position_bias import PositionBias
from rlhf_core.analytics.raters import report_raters
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.feedback.adjudication import adjudicate
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Adjudication, PairAdjudication
from rlhf_core.vocabulary import AdjudicationDecision, Choice, QueueSubject, RaterKind, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.dataset.world import vote
from tests.core.feedback.pairs import compare, make_completions

SignIn = Callable[[Role], Actor]
HOSTILE = "![x](https://evil.example/p.png)"


def open_page(name: str) -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30).run()
    page.switch_page(f"pages/analyse/{name}.py").run()
    assert not page.exception
    return page


def texts(page: AppTest) -> str:
    shown = [*page.markdown, *page.caption, *page.warning, *page.info, *page.error, *page.text]
    return "\n".join(element.value for element in shown)


def make_disputes(db: Session, num: int) -> list[uuid.UUID]:
    ann, ben = make_actor(db, name="ann"), make_actor(db, name=HOSTILE)
    items = []
    for _ in range(num):
        item = make_interaction(db, completion=HOSTILE).id
        make_feedback(db, item, actor=ann, rating=5, comment=HOSTILE)
        make_feedback(db, item, actor=ben, rating=1)
        items.append(item)
    return items


def standing(store: Store) -> dict[uuid.UUID, Adjudication]:
    with store.reading() as db:
        rows = db.scalars(sa.select(Adjudication).where(Adjudication.superseded_at.is_(None)))
        return {row.interaction_id: row for row in rows}


def test_without_ratings_both_pages_say_how_to_get_them(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    page = open_page("raters")
    assert "Nothing was judged by two raters yet" in texts(page)
    assert "Nobody judged completions here yet." in texts(page)
    assert "No open dispute" in texts(open_page("disputes"))


def test_agreement_and_raters_are_shown_and_no_end_user(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        (item, *_) = make_disputes(db, 3)
        make_feedback(db, item, rater="kim", rater_kind=RaterKind.END_USER, thumb=1)
        left, right = make_interaction(db, prompt="p?").id, make_interaction(db, prompt="p?").id
        vote(db, left, right, Choice.LEFT, source="page")
    page = open_page("raters")
    assert "**Rating 1 to 5**" in texts(page)
    assert "Only 3 items: take it as a hint." in texts(page)
    assert {one.label for one in page.metric} == {"Alpha", "AC1", "Same answer"}
    names = list(page.dataframe[0].value["name"])
    assert sorted(names) == sorted(["ann", HOSTILE])
    assert "1 end users gave 1 judgements" in texts(page)
    assert "![" not in texts(page)
    page.button_group(key="raters_subject").set_value(QueueSubject.COMPARISONS).run()
    assert not page.exception
    assert "The left answer won 100 %" in texts(page)


def test_decision_needs_a_reason_and_leads_to_the_next_item(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.ANALYST)
    with store.writing() as db:
        first, second = make_disputes(db, 2)
    page = open_page("disputes")
    assert "1 of 2 open" in texts(page)
    assert [one.value for one in page.text].count(HOSTILE) == 2  # completion and comment, as text
    page.button(key=f"decide_4_{first.hex}").click().run()
    page.button(key="dispute_confirm").click().run()
    assert "Give a reason" in texts(page)
    assert standing(store) == {}
    page.text_area(key="dispute_reason").set_value("The guide says so.")
    page.button(key="dispute_confirm").click().run()
    assert not page.exception
    row = standing(store)[first]
    assert (row.rating, row.reason, row.adjudicator_id) == (4, "The guide says so.",
                                                           actor.account_id)  # fmt: skip
    assert "1 of 1 open" in texts(page)
    page.button(key=f"exclude_{second.hex}").click().run()
    page.text_area(key="dispute_reason").set_value("Spam.")
    page.button(key="dispute_confirm").click().run()
    assert standing(store)[second].decision is AdjudicationDecision.EXCLUDED
    assert "No open dispute" in texts(page)


def test_question_about_one_dispute_is_never_asked_of_another(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        first, second = make_disputes(db, 2)
    page = open_page("disputes")
    page.button(key=f"next_{first.hex}").click().run()
    page.button(key=f"decide_4_{second.hex}").click().run()
    assert [one.key for one in page.text_area] == ["dispute_reason"]
    page.query_params["at"] = "0"  # the browser's way back
    page.run()
    assert "1 of 2 open" in texts(page)
    assert not page.text_area
    assert page.button(key=f"decide_4_{first.hex}").proto.shortcut
    page.button(key=f"next_{first.hex}").click().run()
    assert not page.text_area


def test_what_was_decided_can_be_changed_and_taken_back(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        (item,) = make_disputes(db, 1)
        earlier = adjudicate(
            db, actor=SYSTEM, interaction_id=item, decision=AdjudicationDecision.RESOLVED,
            rating=2, reason="First thought.",
        )  # fmt: skip
    page = open_page("disputes")
    page.button_group(key="disputes_state").set_value("Decided").run()
    assert "Decided: 2 of 5" in texts(page)
    page.button(key=f"decide_5_{item.hex}").click().run()
    with store.writing() as db:  # somebody else is quicker
        adjudicate(
            db, actor=SYSTEM, interaction_id=item, decision=AdjudicationDecision.RESOLVED,
            rating=3, reason="Second thought.", replaces=earlier,
        )  # fmt: skip
    page.text_area(key="dispute_reason").set_value("Third thought.")
    page.button(key="dispute_confirm").click().run()
    assert "decided this meanwhile" in texts(page)
    assert standing(store)[item].rating == 3
    page = open_page("disputes")
    page.button_group(key="disputes_state").set_value("Decided").run()
    page.button(key=f"take_back_{item.hex}").click().run()
    assert standing(store) == {}
    assert "Nothing is decided yet" in texts(page)


def test_step_is_decided_by_its_label_and_the_way_back_is_open(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        item = make_interaction(db, steps=["Take two.", "Add two."])
        for label in (1, -1):
            rater = make_actor(db)
            for place in range(2):
                make_feedback(db, item.id, actor=rater, step=place, label=label)
    page = open_page("disputes")
    first, second = item.step_ids
    page.button(key=f"next_{first.hex}").click().run()
    assert "2 of 2 open" in texts(page)
    assert page.button(key=f"next_{second.hex}").disabled
    page.button(key=f"decide_W_{second.hex}").click().run()
    page.text_area(key="dispute_reason").set_value("It is a sum of three.")
    page.button(key="dispute_confirm").click().run()
    assert standing(store)[item.id].label == -1
    assert "1 of 1 open" in texts(page)
    assert page.query_params["at"] == ["1"] or page.query_params["at"] == "1"


def test_figures_are_put_into_words() -> None:
    alike = [{1: 5, 2: 5}] * 95 + [{1: 5, 2: 1}] * 5
    assert "here AC1 says more" in explain_agreement(summarize_agreement(alike))
    assert "agree well" in explain_agreement(
        summarize_agreement([{1: n, 2: n} for n in (1, 2, 3, 4, 5)] * 10)
    )
    opposed = summarize_agreement([{1: 1, 2: 5}, {1: 5, 2: 1}])
    assert "No more agreement than chance" in explain_agreement(opposed)
    assert "Only 2 items" in explain_agreement(opposed)
    same = summarize_agreement([{1: 5, 2: 5}] * 40)
    assert "All answers are the same" in explain_agreement(same)

    biased = PositionBias(None, 80, 20, 5, wilson_interval(80, 100))
    assert "prefer the left side" in explain_bias(biased)
    even = PositionBias(None, 52, 48, 5, wilson_interval(52, 100))
    assert "no preference for a side" in explain_bias(even)


def test_only_who_stands_out_beyond_chance_is_remarked(store: Store) -> None:
    with store.writing() as db:
        careful = [make_actor(db, name=name) for name in ("ann", "ben", "cy")]
        guesser = make_actor(db, name="guesser")
        for number in range(40):
            item = make_interaction(db).id
            for rater in careful:
                make_feedback(db, item, actor=rater, rating=5 if number % 2 else 1, duration_s=30)
            make_feedback(db, item, actor=guesser, rating=5 if number % 3 else 1, duration_s=3)
        found = find_remarks(report_raters(db, actor=SYSTEM).raters)
    assert [name for name, _ in found] == ["guesser"], found
    name, remarks = found[0]
    assert name == "guesser"
    assert any("agrees with the others in" in remark for remark in remarks)
    assert any("takes 3 s an item, others 30 s" in remark for remark in remarks)


def test_pair_is_decided_beside_the_completions_and_taken_back(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        pair = make_completions(db, model_name="secret-7b")
        compare(db, *pair, make_actor(db, name="ann"), reason=HOSTILE)
        compare(db, *pair, make_actor(db, name=HOSTILE), choice="right", strength=3)
    page = open_page("disputes")
    assert "No open dispute" in texts(page)
    assert "1 compared pairs are evenly split" in texts(page)
    page.segmented_control(key="disputes_kind").set_value("Pairs").run()
    assert not page.exception
    shown = texts(page)
    assert "Answer 0 to" in shown
    assert "Answer 1 to" in shown
    assert "secret-7b" not in shown
    assert HOSTILE not in "".join(text.value for text in (*page.markdown, *page.caption))
    (key,) = [button.key for button in page.button if f"{button.key}".startswith("decide_1_")]
    page.button(key=key).click().run()
    page.text_area(key="dispute_reason").set_value("The left one is shorter.")
    page.button(key="dispute_confirm").click().run()
    assert not page.exception
    assert "No open dispute" in texts(page)
    page.segmented_control(key="disputes_state").set_value("Decided").run()
    assert "Decided: left is better" in texts(page)
    with store.reading() as db:
        row = db.scalars(sa.select(PairAdjudication)).one()
    left = key.removeprefix("decide_1_").split("_")[0]
    wanted = Choice.LEFT if left == row.first_interaction_id.hex else Choice.RIGHT
    assert (row.choice, row.reason) == (wanted, "The left one is shorter.")
    (key,) = [button.key for button in page.button if f"{button.key}".startswith("take_back_")]
    page.button(key=key).click().run()
    page.segmented_control(key="disputes_state").set_value("Open").run()
    assert any(f"{button.key}".startswith("exclude_") for button in page.button)
