"""Rating many at once: seen before, stored as one's own, undone as one."""

import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.errors import Forbidden, InvalidInput, NotFound
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.service import undo_last, withdraw_feedback
from rlhf_core.feedback.undo import UndoneFeedback
from rlhf_core.queues.bulk import BulkPreview, preview_bulk, rate_in_bulk
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite


def standing(db: Session, actor: Actor) -> dict[uuid.UUID, int | None]:
    query = sa.select(Feedback.interaction_id, Feedback.rating).where(
        Feedback.withdrawn_at.is_(None)
    )
    return {row.interaction_id: row.rating for row in db.execute(query)}


def test_bulk_rating_is_seen_before_and_undone_as_one(store: Store) -> None:
    with store.writing() as db:
        new, changed, same, other = (make_interaction(db).id for _ in range(4))
        ann = make_actor(db)
        make_feedback(db, changed, actor=ann, rating=2, comment="Why?")
        make_feedback(db, same, actor=ann, rating=5)
    chosen = [new, changed, same, new]
    draft = FeedbackDraft(rating=5)
    with store.writing() as db:
        preview = preview_bulk(db, actor=ann, interaction_ids=chosen, draft=draft)
        assert preview == BulkPreview(num_new=1, num_changed=1, num_same=1)
        assert preview.num_all == 3
        assert standing(db, ann) == {changed: 2, same: 5}
        rate_in_bulk(db, actor=ann, interaction_ids=chosen, draft=draft)
        assert standing(db, ann) == {new: 5, changed: 5, same: 5}
    with store.writing() as db:
        make_feedback(db, other, actor=ann, rating=1)
    with store.writing() as db:
        last = undo_last(db, actor=ann)
        assert isinstance(last, UndoneFeedback)
        assert (last.interaction_id, last.num_undone) == (other, 1)
        undone = undo_last(db, actor=ann)
        assert isinstance(undone, UndoneFeedback)
        assert undone.num_undone == 2
        assert standing(db, ann) == {changed: 2, same: 5}
        comment = db.scalar(sa.select(Feedback.comment).where(Feedback.interaction_id == changed))
        assert comment == "Why?"
        before = undo_last(db, actor=ann)
        assert isinstance(before, UndoneFeedback)
        assert before.interaction_id == same


def test_ten_bulks_of_many_rows_are_ten_actions(store: Store) -> None:
    with store.writing() as db:
        first = make_interaction(db).id
        ids = [make_interaction(db).id for _ in range(15)]
        ann = make_actor(db)
        make_feedback(db, first, actor=ann)
    for number in range(9):
        with store.writing() as db:
            draft = FeedbackDraft(rating=1 + number % 5)
            rate_in_bulk(db, actor=ann, interaction_ids=ids, draft=draft)
    with store.writing() as db:
        while undo_last(db, actor=ann):
            pass
        assert standing(db, ann) == {}


def test_what_somebody_else_changed_since_is_left_alone(store: Store) -> None:
    with store.writing() as db:
        one, other = (make_interaction(db).id for _ in range(2))
        ann = make_actor(db)
        rate_in_bulk(db, actor=ann, interaction_ids=[one, other], draft=FeedbackDraft(rating=3))
        theirs = db.scalars(sa.select(Feedback.id).where(Feedback.interaction_id == one)).one()
        withdraw_feedback(db, theirs, actor=SYSTEM)
    with store.writing() as db:
        undone = undo_last(db, actor=ann)
        assert isinstance(undone, UndoneFeedback)
        assert (undone.interaction_id, undone.num_undone) == (other, 1)
        assert undo_last(db, actor=ann) is None


@only_sqlite
def test_what_cannot_be_given_to_many_is_refused(store: Store) -> None:
    with store.writing() as db:
        ids = [make_interaction(db).id]
        ann = make_actor(db)
        draft = FeedbackDraft(rating=3)
        for wrong, match in (
            ([], "1 to 500 completions"),
            ([uuid.uuid4() for _ in range(501)], "not 501"),
        ):
            with pytest.raises(InvalidInput, match=match):
                rate_in_bulk(db, actor=ann, interaction_ids=wrong, draft=draft)
        with pytest.raises(NotFound, match="not there any more"):
            rate_in_bulk(db, actor=ann, interaction_ids=[*ids, uuid.uuid4()], draft=draft)
        for given in ({"rater": "x"}, {"step": 0}, {"spans": []}):
            with pytest.raises(InvalidInput, match="cannot be given to many"):
                preview_bulk(
                    db, actor=ann, interaction_ids=ids, draft=FeedbackDraft(rating=3, **given)
                )
        nobody = Actor(ann.name, ann.role, ann.account_id, frozenset())
        with pytest.raises(Forbidden):
            rate_in_bulk(db, actor=nobody, interaction_ids=ids, draft=draft)
        assert standing(db, ann) == {}
