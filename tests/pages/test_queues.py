"""The queue page: made from a filter, watched, closed; many rated at once and undone as one."""

import html
import uuid
from collections.abc import Callable

import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from pages._ui.messages import JOINER
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.accounts.service import disable_account
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.queues.leases import claim_next, finish_claim
from rlhf_core.queues.service import create_queue, get_queue, list_queues
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, RatingQueue
from rlhf_core.vocabulary import QueueOrder, QueueSubject, Role
from tests.builders import make_actor, make_feedback, make_interaction

SignIn = Callable[[Role], Actor]


def open_page(**address: str) -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30)
    for name, value in address.items():
        page.query_params[name] = value
    page.run().switch_page("pages/collect/queues.py").run()
    assert not page.exception
    return page


def choose_part(page: AppTest, part: str) -> AppTest:
    page.segmented_control(key="queues_part").set_value(part).run()
    assert not page.exception
    return page


def said(page: AppTest) -> str:
    shown = [*page.markdown, *page.caption, *page.warning, *page.success, *page.info, *page.error]
    shown += [*page.toast, *page.header]
    text = html.unescape("\n".join(element.value for element in shown))
    return text.replace(JOINER, "").replace("**", "")


def bars(page: AppTest) -> list[str]:
    return [html.unescape(bar.proto.text).replace(JOINER, "") for bar in page.get("progress")]


def figures(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def standing(store: Store) -> list[tuple[uuid.UUID, int | None]]:
    with store.reading() as db:
        query = sa.select(Feedback.interaction_id, Feedback.rating).where(
            Feedback.withdrawn_at.is_(None)
        )
        return [tuple(row) for row in db.execute(query)]


def test_a_queue_is_made_from_a_filter(store: Store, sign_in_as: SignIn) -> None:
    with store.writing() as db:
        wanted = [make_interaction(db, prompt=f"Green tea {n}?").id for n in range(3)]
        make_interaction(db, prompt="Coffee?")
        ann = make_actor(db, name="ann")
    boss = sign_in_as(Role.TRAINER)
    page = choose_part(open_page(), "New queue")
    assert "4 answers match" in said(page)
    page.text_input(key="queue_text").set_value("TEA").run()
    assert "3 answers match" in said(page)
    page.text_input(key="queue_name_completions").set_value("teas")
    page.text_area(key="queue_instructions").set_value("Be kind.")
    page.radio(key="queue_order").set_value(QueueOrder.OLDEST_FIRST)
    page.number_input(key="queue_overlap").set_value(2)
    page.multiselect(key="queue_aspects").set_value(["tone"])
    page.multiselect(key="queue_assignees").set_value([ann.account_id])
    page.button(key="queue_start").click().run()
    assert not page.exception
    with store.reading() as db:
        (queue,) = list_queues(db, actor=boss)
        filters = db.scalar(sa.select(RatingQueue.filters))
    assert (queue.name, queue.instructions, queue.overlap) == ("teas", "Be kind.", 2)
    assert (queue.aspects, queue.assignee_ids) == (("tone",), (ann.account_id,))
    assert (queue.num_items, queue.num_repeats, queue.is_blind) == (len(wanted), 0, True)
    assert filters == {"subject": "completions", "text": "TEA"}
    assert "teas" in said(page)
    assert figures(page)["Items done"] == "0 of 3"
    assert figures(page)["Judgements wanted still"] == "6"


def test_what_cannot_be_made_is_said_and_nothing_typed_is_lost(
    store: Store, sign_in_as: SignIn
) -> None:
    with store.writing() as db:
        make_interaction(db)
    sign_in_as(Role.TRAINER)
    page = choose_part(open_page(), "New queue")
    page.text_input(key="queue_name_completions").set_value("mine")
    page.number_input(key="queue_gold").set_value(10)
    page.button(key="queue_start").click().run()
    assert "No answer is known yet" in said(page)
    assert page.text_input(key="queue_name_completions").value == "mine"
    page.segmented_control(key="queue_subject").set_value(QueueSubject.STEPS).run()
    assert "0 answers match" in said(page)
    page.segmented_control(key="queue_subject").set_value(QueueSubject.COMPARISONS).run()
    page.button(key="queue_start").click().run()
    assert "1 to 10,000 items, not 0" in said(page)


def test_a_manager_sees_progress_and_who_did_what_and_closes_the_queue(
    store: Store, sign_in_as: SignIn
) -> None:
    with store.writing() as db:
        ids = [make_interaction(db).id for _ in range(4)]
        queue = create_queue(db, actor=SYSTEM, name="q", interaction_ids=ids)
        ann = make_actor(db, name="ann [x](y)")
        for _ in range(2):
            claim = claim_next(db, queue.id, actor=ann)
            assert claim is not None
            made = make_feedback(db, claim.interaction_id, actor=ann, rating=3, duration_s=7)
            finish_claim(db, actor=ann, queue_id=queue.id, interaction_id=claim.interaction_id,
                         feedback_id=made.id)  # fmt: skip
    sign_in_as(Role.TRAINER)
    page = open_page()
    assert bars(page) == ["2 of 4 done"]
    page.button(key=f"details_{queue.id.hex}").click().run()
    assert not page.exception
    assert figures(page)["Items done"] == "2 of 4"
    assert figures(page)["Judgements wanted still"] == "2"
    (row,) = page.dataframe[0].value.to_dict("records")
    assert (row["Rater"], row["Judged"], row["Median time (s)"]) == ("ann [x](y)", 2, 7.0)
    page.text_area(key=f"set_instructions_{queue.id.hex}").set_value("New words.")
    page.button(key="queue_save").click().run()
    page.button(key="queue_close").click().run()
    assert not page.exception
    with store.reading() as db:
        assert list_queues(db, actor=SYSTEM) == []
    page.button(key="queues_back").click().run()
    assert "No queue is open" in said(page)
    page.toggle(key="queues_closed").set_value(True).run()
    assert "New words." in said(page)
    page.button(key=f"details_{queue.id.hex}").click().run()
    page.button(key="queue_reopen").click().run()
    with store.reading() as db:
        assert [one.name for one in list_queues(db, actor=SYSTEM)] == ["q"]


def test_raters_see_their_queues_and_make_none(store: Store, sign_in_as: SignIn) -> None:
    ann = sign_in_as(Role.RATER)
    with store.writing() as db:
        ids = [make_interaction(db).id]
        assert ann.account_id is not None
        create_queue(
            db, actor=SYSTEM, name="mine", interaction_ids=ids, assignee_ids=[ann.account_id]
        )
        other = make_actor(db).account_id
        assert other is not None
        theirs = create_queue(
            db, actor=SYSTEM, name="theirs", interaction_ids=ids, assignee_ids=[other]
        )
    page = open_page(queue=str(theirs.id))
    assert "mine" in said(page)
    assert "theirs" not in said(page)
    assert page.segmented_control(key="queues_part").options == ["Queues", "Rate many at once"]
    assert not [button for button in page.button if str(button.key).startswith("details")]


def test_address_of_no_queue_leads_back_to_all(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    for wrong in (str(uuid.uuid4()), "nonsense"):
        page = open_page(queue=wrong)
        assert "queue" in said(page)
        page.button(key="queues_retry").click().run()
        assert "No queue is open" in said(page)


def test_many_are_rated_at_once_and_undone_as_one(store: Store, sign_in_as: SignIn) -> None:
    ann = sign_in_as(Role.RATER)
    with store.writing() as db:
        teas = [make_interaction(db, prompt=f"Green tea {n}?").id for n in range(3)]
        make_interaction(db, prompt="Coffee?")
        make_feedback(db, teas[0], actor=ann, rating=1)
    page = choose_part(open_page(), "Rate many at once")
    assert page.button(key="bulk_apply").disabled
    page.text_input(key="bulk_text").set_value("tea").run()
    page.checkbox(key="bulk_all").check().run()
    assert "3 ticked: choose a rating" in said(page)
    page.segmented_control(key="bulk_rating").set_value(5).run()
    assert "Would be: 2 new, 1 of yours changed" in said(page)
    page.button(key="bulk_apply").click().run()
    assert not page.exception
    assert sorted(standing(store)) == sorted((tea, 5) for tea in teas)
    assert "Rated 3 at once" in said(page)
    page.button(key="bulk_undo").click().run()
    assert "Undone: 3 ratings" in said(page)
    assert standing(store) == [(teas[0], 1)]
    page.text_input(key="bulk_text").set_value("no such thing").run()
    assert "Nothing matches" in said(page)


def test_what_was_typed_with_the_click_is_previewed_first(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    with store.writing() as db:
        item = make_interaction(db).id
    page = choose_part(open_page(), "Rate many at once")
    page.checkbox(key="bulk_all").check().run()
    page.segmented_control(key="bulk_rating").set_value(5).run()
    page.text_input(key="bulk_comment").set_value("late words")
    page.button(key="bulk_apply").click().run()
    assert "Nothing was rated" in said(page)
    assert standing(store) == []
    assert page.text_input(key="bulk_comment").value == "late words"
    page.button(key="bulk_apply").click().run()
    assert standing(store) == [(item, 5)]


def test_new_instructions_do_not_open_a_queue_whose_raters_are_disabled(
    store: Store, sign_in_as: SignIn
) -> None:
    with store.writing() as db:
        ids = [make_interaction(db).id]
        ann = make_actor(db, name="ann")
        assert ann.account_id is not None
        queue = create_queue(
            db, actor=SYSTEM, name="q", interaction_ids=ids, assignee_ids=[ann.account_id]
        )
        disable_account(db, actor=SYSTEM, account_name="ann")
    sign_in_as(Role.TRAINER)
    page = open_page(queue=str(queue.id))
    raters = page.multiselect(key=f"set_assignees_{queue.id.hex}")
    assert "ann (disabled)" in raters.options
    page.text_area(key=f"set_instructions_{queue.id.hex}").set_value("New words.")
    page.button(key="queue_save").click().run()
    assert not page.exception
    with store.reading() as db:
        now = get_queue(db, queue.id, actor=SYSTEM)
    assert (now.instructions, now.assignee_ids) == ("New words.", (ann.account_id,))
    page.multiselect(key=f"set_assignees_{queue.id.hex}").set_value([])
    page.button(key="queue_save").click().run()
    with store.reading() as db:
        assert get_queue(db, queue.id, actor=SYSTEM).assignee_ids == ()
