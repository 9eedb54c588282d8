import uuid

import pytest

from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.feedback.service import undo_last
from rlhf_core.feedback.undo import UndoneFeedback
from rlhf_core.feedback.unsent import drop_unsent, keep_unsent, keep_withdrawn_texts
from rlhf_core.feedback.views import get_interaction
from rlhf_core.store.engine import Store
from tests.builders import make_actor, make_feedback, make_interaction


def test_typed_text_is_kept_a_rater_and_field_and_replaced(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db).id
        one, two = make_actor(db), make_actor(db)
        keep_unsent(db, item, "comment", "first", actor=one)
        keep_unsent(db, item, "comment", "שלום 👩‍👩‍👧", actor=one)
        keep_unsent(db, item, "correction", "better", actor=one)
        keep_unsent(db, item, "comment", "of another", actor=two)
    with store.reading() as db:
        shown = get_interaction(db, item, actor=one)
        assert shown.unsent == {"comment": "שלום 👩‍👩‍👧", "correction": "better"}
        assert shown.my_feedback is None
    with store.writing() as db:
        keep_unsent(db, item, "comment", None, actor=one)
        drop_unsent(db, item, actor=two)
    with store.reading() as db:
        assert get_interaction(db, item, actor=one).unsent == {"correction": "better"}
        assert get_interaction(db, item, actor=two).unsent == {}


def test_what_could_not_be_sent_is_refused_with_a_sentence(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db).id, make_actor(db)
        keep_unsent(db, item, "comment", "x" * 20_000, actor=actor)
        with pytest.raises(InvalidInput, match="20000 characters"):
            keep_unsent(db, item, "comment", "x" * 20_001, actor=actor)
        with pytest.raises(InvalidInput, match="NUL"):
            keep_unsent(db, item, "correction", "a\0b", actor=actor)
        with pytest.raises(NotFound, match="erased"):
            keep_unsent(db, uuid.uuid4(), "comment", "lost", actor=actor)


def test_texts_of_a_rating_taken_back_are_kept_as_typed(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db).id, make_actor(db)
        make_feedback(db, item, actor=actor, rating=1, comment="why", correction="better")
        undone = undo_last(db, actor=actor)
        assert isinstance(undone, UndoneFeedback)
        keep_withdrawn_texts(db, undone.feedback_id, actor=make_actor(db))  # not theirs
        assert get_interaction(db, item, actor=actor).unsent == {}
        keep_withdrawn_texts(db, undone.feedback_id, actor=actor)
        shown = get_interaction(db, item, actor=actor)
    assert shown.my_feedback is None
    assert shown.unsent == {"comment": "why", "correction": "better"}
