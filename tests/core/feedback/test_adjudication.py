import threading
import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.disputes import list_disputes
from rlhf_core.analytics.scope import Scope
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.feedback.adjudication import adjudicate, withdraw_adjudication
from rlhf_core.feedback.disputed import get_dispute
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Adjudication, AuditEvent
from rlhf_core.vocabulary import AdjudicationDecision, RaterKind, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite

RESOLVED, EXCLUDED = AdjudicationDecision.RESOLVED, AdjudicationDecision.EXCLUDED


def make_dispute(db: Session, *ratings: int, **fields: object) -> uuid.UUID:
    item = make_interaction(db, **fields).id
    for rating in ratings or (5, 1):
        make_feedback(db, item, actor=make_actor(db), rating=rating)
    return item


def test_decision_names_who_and_why_and_supersedes_the_one_before(store: Store) -> None:
    with store.writing() as db:
        judge = make_actor(db, Role.ANALYST, name="judge")
        other = make_actor(db, Role.TRAINER, name="other")
        item = make_dispute(db)
        first = adjudicate(
            db, actor=judge, interaction_id=item, decision=RESOLVED, rating=4, reason=" Right. "
        )
        second = adjudicate(
            db, actor=other, interaction_id=item, decision=EXCLUDED, reason="No.", replaces=first
        )
        found = get_dispute(db, item, actor=judge)
        assert found.standing is not None
        assert (found.standing.id, found.standing.decided_by) == (second, "other")
        assert [(one.decision, one.rating, one.reason) for one in found.decisions] == [
            (EXCLUDED, None, "No."),
            (RESOLVED, 4, "Right."),
        ]
        withdraw_adjudication(db, second, actor=judge)
        assert get_dispute(db, item, actor=judge).standing is None
        with pytest.raises(Conflict):
            withdraw_adjudication(db, second, actor=judge)
        events = db.execute(
            sa.select(AuditEvent.action, AuditEvent.account_id).where(
                AuditEvent.action.startswith("adjudication.")
            )
        ).all()
        assert [tuple(event) for event in events] == [
            ("adjudication.decide", judge.account_id),
            ("adjudication.decide", other.account_id),
            ("adjudication.withdraw", judge.account_id),
        ]


def test_two_who_decide_at_once_do_not_both_stand(store: Store) -> None:
    with store.writing() as db:
        item = make_dispute(db)
    refused = []

    def decide(rating: int) -> None:
        try:
            with store.writing() as db:
                adjudicate(
                    db, actor=SYSTEM, interaction_id=item, decision=RESOLVED, rating=rating,
                    reason="so",
                )  # fmt: skip
        except Conflict as error:
            refused.append(str(error))

    threads = [threading.Thread(target=decide, args=(rating,)) for rating in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as db:
        standing = sa.select(sa.func.count()).where(Adjudication.superseded_at.is_(None))
        assert db.scalar(standing) == 1
    assert len(refused) == 3
    assert "decided this meanwhile" in refused[0]


@only_sqlite
def test_what_cannot_be_is_refused_with_a_sentence(store: Store) -> None:
    with store.writing() as db:
        judge = make_actor(db, Role.ANALYST)
        item = make_dispute(db, steps=1)
        other = make_interaction(db, steps=1)
        step = other.step_ids[0]
        for fields, said in (
            ({"reason": " "}, "Give a reason"),
            ({"reason": "x" * 2_001}, "2,001 characters"),
            ({"reason": "a\0b"}, "broken character"),
            ({"rating": 6}, "choose from 1, 2, 3, 4, 5"),
            ({"rating": None}, "Give the right rating or thumb"),
            ({"rating": None, "thumb": 0}, "choose from -1, 1"),
            ({"label": 1}, "give a rating or a thumb"),
            ({"decision": EXCLUDED}, "what is excluded has no answer"),
            ({"interaction_id": other.id}, "Nobody rated it"),
            ({"interaction_id": other.id, "step_id": step}, "give the label of a step"),
            (
                {"interaction_id": other.id, "step_id": step, "rating": None, "label": 1},
                "Nobody rated it",
            ),
        ):
            wanted = {
                "interaction_id": item, "decision": RESOLVED, "rating": 4, "reason": "so",
            }  # fmt: skip
            with pytest.raises(InvalidInput, match=said):
                adjudicate(db, actor=judge, **(wanted | fields))
        for fields in (
            {"interaction_id": uuid.uuid4()},
            {"queue_id": uuid.uuid4()},
            {"step_id": step, "rating": None, "label": 1},
        ):
            with pytest.raises(NotFound):
                adjudicate(db, actor=judge, **(wanted | fields))
        with pytest.raises(Forbidden):
            adjudicate(db, actor=make_actor(db), **wanted)
        assert db.scalar(sa.select(sa.func.count()).select_from(Adjudication)) == 0


def test_disputed_is_what_as_many_call_good_as_bad_until_it_is_decided(store: Store) -> None:
    with store.writing() as db:
        judge = make_actor(db, Role.ANALYST)
        one = make_dispute(db, 5, 3)
        make_dispute(db, 5, 4, 1)  # a majority
        make_dispute(db, 5, 4)
        make_dispute(db, 4)
        by_thumb = make_dispute(db, 4, 5, 1, source="chat")
        make_feedback(db, by_thumb, rater="kim", rater_kind=RaterKind.END_USER, thumb=-1)
        torn = make_interaction(db).id
        ann = make_actor(db)
        make_feedback(db, torn, actor=ann, rating=5)
        make_feedback(db, torn, actor=ann, rating=2, occasion=1)  # one rater, one answer
        stepped = make_interaction(db, steps=3)
        for label in (1, -1):
            rater = make_actor(db)
            make_feedback(db, stepped.id, actor=rater, step=1, label=label)
            make_feedback(db, stepped.id, actor=rater, step=2, label=1)

        page = list_disputes(db, actor=judge)
        assert [(item.interaction_id, item.position, item.num_for) for item in page.items] == [
            (by_thumb, None, 2),
            (one, None, 1),
            (stepped.id, 1, 1),
        ]
        assert page.num_all == 3
        second = list_disputes(db, actor=judge, offset=1, limit=1)
        assert (second.num_all, [item.interaction_id for item in second.items]) == (3, [one])
        beyond = list_disputes(db, actor=judge, offset=9)
        assert (beyond.num_all, beyond.items) == (3, ())
        assert list_disputes(db, actor=judge, scope=Scope(source="chat")).num_all == 1

        step_id = page.items[2].step_id
        adjudicate(
            db, actor=judge, interaction_id=stepped.id, step_id=step_id, decision=RESOLVED,
            label=0, reason="Neither.",
        )  # fmt: skip
        adjudicate(db, actor=judge, interaction_id=by_thumb, decision=EXCLUDED, reason="Spam.")
        assert [item.interaction_id for item in list_disputes(db, actor=judge).items] == [one]
        decided = list_disputes(db, actor=judge, is_decided=True)
        assert [(item.decision, item.label, item.decided_by) for item in decided.items] == [
            (EXCLUDED, None, judge.name),
            (RESOLVED, 0, judge.name),
        ]
        with pytest.raises(Forbidden):
            list_disputes(db, actor=ann)


def test_steps_of_an_excluded_completion_are_no_dispute_and_pairs_are_counted(store: Store) -> None:
    with store.writing() as db:
        stepped = make_interaction(db, steps=1)
        for label in (1, -1):
            make_feedback(db, stepped.id, actor=make_actor(db), step=0, label=label)
        assert list_disputes(db, actor=SYSTEM).num_all == 1
        adjudicate(
            db, actor=SYSTEM, interaction_id=stepped.id, decision=EXCLUDED, reason="Not ours."
        )
        assert list_disputes(db, actor=SYSTEM).num_all == 0


@only_sqlite
def test_everybody_is_heard_side_by_side_and_no_end_user_is_named(store: Store) -> None:
    with store.writing() as db:
        ann = make_actor(db, name="ann")
        item = make_interaction(db, completion="It is four.").id
        make_feedback(
            db, item, actor=ann, rating=5, comment="Right.", aspects={"tone": 4},
            spans=[{"start_at": 6, "end_at": 10, "tag": "good"}],
        )  # fmt: skip
        make_feedback(db, item, rater="kim", rater_kind=RaterKind.END_USER, thumb=-1)
        found = get_dispute(db, item, actor=make_actor(db, Role.ANALYST))
        assert [(one.name, one.rating, one.thumb) for one in found.opinions] == [
            ("ann", 5, None),
            ("an end user", None, -1),
        ]
        mine = found.opinions[0]
        assert (mine.comment, mine.aspects, mine.spans[0].tag) == ("Right.", {"tone": 4}, "good")
        with pytest.raises(NotFound):
            get_dispute(db, item, actor=SYSTEM, step_id=uuid.uuid4())
        with pytest.raises(Forbidden):
            get_dispute(db, item, actor=ann)
