import pytest
import sqlalchemy as sa

from rlhf_core.errors import Forbidden
from rlhf_core.feedback.drafts import SpanDraft
from rlhf_core.feedback.service import undo_last, withdraw_feedback
from rlhf_core.feedback.views import get_interaction
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, FeedbackAspect, FeedbackSpan
from rlhf_core.vocabulary import Role
from tests.builders import make_actor, make_feedback, make_interaction


def test_undo_of_the_first_rating_withdraws_it(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        item = make_interaction(db)
        stored = make_feedback(db, item.id, actor=rater, rating=2)
    with store.writing() as db:
        undone = undo_last(db, actor=rater)
        assert get_interaction(db, item.id, actor=rater).my_feedback is None
        row = db.get_one(Feedback, stored.id)
    assert undone is not None
    assert (undone.interaction_id, undone.feedback_id) == (item.id, stored.id)
    assert undone.was_creation
    assert row.rating == 2
    assert row.withdrawn_at is not None


def test_undo_of_an_edit_restores_all_former_values(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        item = make_interaction(db, completion="Paris is in Spain.")
        span = SpanDraft(start_at=12, end_at=17, tag="wrong")
        make_feedback(
            db, item.id, actor=rater, rating=2, comment="bad", aspects={"tone": 4}, spans=[span]
        )
        make_feedback(db, item.id, actor=rater, rating=5, comment=None, aspects={}, spans=[])
        undone = undo_last(db, actor=rater)
        mine = get_interaction(db, item.id, actor=rater).my_feedback
        aspects = db.execute(sa.select(FeedbackAspect.name, FeedbackAspect.rating)).all()
        tags = db.scalars(sa.select(FeedbackSpan.tag)).all()
    assert undone is not None
    assert not undone.was_creation
    assert mine is not None
    assert (mine.rating, mine.comment) == (2, "bad")
    assert (aspects, tags) == ([("tone", 4)], ["wrong"])


def test_undo_goes_back_through_ratings_steps_edits_and_withdrawals(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        first, second = make_interaction(db, steps=1), make_interaction(db)
        make_feedback(db, first.id, actor=rater, label=-1, step=0)
        make_feedback(db, first.id, actor=rater, rating=1)
        stored = make_feedback(db, second.id, actor=rater, rating=2)
        make_feedback(db, first.id, actor=rater, rating=3)
        withdraw_feedback(db, stored.id, actor=rater)
        make_feedback(db, second.id, actor=rater, thumb=1)

        def state() -> tuple[object, ...]:
            one = get_interaction(db, first.id, actor=rater)
            two = get_interaction(db, second.id, actor=rater)
            return (
                one.steps[0].my_label,
                one.my_feedback and one.my_feedback.rating,
                two.my_feedback and (two.my_feedback.rating, two.my_feedback.thumb),
            )

        states = [state()]
        while undo_last(db, actor=rater):
            db.expire_all()
            states.append(state())
    assert states == [
        (-1, 3, (None, 1)),
        (-1, 3, None),
        (-1, 3, (2, None)),
        (-1, 1, (2, None)),
        (-1, 1, None),
        (-1, None, None),
        (None, None, None),
    ]


def test_new_rating_after_an_undo_is_undone_first(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        items = [make_interaction(db).id for _ in range(3)]
        for item in items[:2]:
            make_feedback(db, item, actor=rater)
        undone = [undo_last(db, actor=rater)]
        make_feedback(db, items[2], actor=rater)
        undone += [undo_last(db, actor=rater) for _ in range(3)]
    assert [one and one.interaction_id for one in undone] == [items[1], items[2], items[0], None]


def test_only_the_last_ten_actions_are_undone(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        for _ in range(12):
            make_feedback(db, make_interaction(db).id, actor=rater)
        undone = [undo_last(db, actor=rater) for _ in range(12)]
    assert [one is not None for one in undone] == [True] * 10 + [False] * 2


def test_one_undoes_only_ones_own_actions(store: Store) -> None:
    with store.writing() as db:
        first, second, trainer = make_actor(db), make_actor(db), make_actor(db, Role.TRAINER)
        kept, taken = make_interaction(db), make_interaction(db)
        make_feedback(db, kept.id, actor=first)
        stored = make_feedback(db, taken.id, actor=first)
        make_feedback(db, kept.id, actor=second)
        withdraw_feedback(db, stored.id, actor=trainer)
        undone = undo_last(db, actor=first)
        assert undo_last(db, actor=trainer) is None
    assert undone is not None
    assert undone.interaction_id == kept.id  # what the trainer withdrew stays as it is


def test_nothing_to_undo_and_no_permission(store: Store) -> None:
    with store.writing() as db:
        assert undo_last(db, actor=make_actor(db)) is None
        actor = make_actor(db)
        with pytest.raises(Forbidden):
            undo_last(db, actor=type(actor)(actor.name, actor.role, None, frozenset()))
