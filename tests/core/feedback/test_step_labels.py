import pytest

from rlhf_core.accounts.permissions import Actor
from rlhf_core.errors import NotFound
from rlhf_core.feedback.service import undo_last
from rlhf_core.feedback.step_labels import are_steps_judged, find_first_wrong, label_first_wrong
from rlhf_core.feedback.views import InteractionView, get_interaction
from rlhf_core.store.engine import Store
from tests.builders import make_actor, make_feedback, make_interaction


def test_first_wrong_labels_those_before_good_and_undo_takes_all_back(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db, steps=5).id, make_actor(db)
        make_feedback(db, item, actor=actor, step=1, label=0)
        make_feedback(db, item, actor=actor, step=2, label=-1)
        assert label_first_wrong(db, item, 3, actor=actor) == 3
        assert labels(get_interaction(db, item, actor=actor)) == [1, 0, 1, -1, None]
        assert label_first_wrong(db, item, 3, actor=actor) == 0
        undo_last(db, actor=actor)
        assert labels(get_interaction(db, item, actor=actor)) == [None, 0, -1, None, None]
        with pytest.raises(NotFound, match="no step 5"):
            label_first_wrong(db, item, 5, actor=actor)


def test_steps_are_judged_when_all_are_labelled_up_to_the_first_wrong_one(store: Store) -> None:
    with store.writing() as db:
        item, actor = make_interaction(db, steps=3).id, make_actor(db)

        def is_judged(who: Actor) -> bool:
            return are_steps_judged(get_interaction(db, item, actor=who))

        make_feedback(db, item, actor=actor, step=1, label=-1)
        assert find_first_wrong(get_interaction(db, item, actor=actor).steps) == 1
        assert not is_judged(actor)
        make_feedback(db, item, actor=actor, step=0, label=1)
        assert is_judged(actor)
        other = make_actor(db)
        for position in range(3):
            assert not is_judged(other)
            make_feedback(db, item, actor=other, step=position, label=1)
        assert is_judged(other)
        none = get_interaction(db, make_interaction(db).id, actor=other)
        assert not are_steps_judged(none)


def labels(item: InteractionView) -> list[int | None]:
    return [step.my_label for step in item.steps]
