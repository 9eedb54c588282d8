import pytest

from rlhf_core.analytics.position_bias import list_position_bias, position_bias
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.comparisons import submit_best, withdraw_comparison
from rlhf_core.feedback.drafts import PreferenceDraft
from rlhf_core.feedback.raters import find_rater
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Choice, Role
from tests.builders import make_actor
from tests.core.feedback.pairs import compare, make_completions
from tests.databases import only_sqlite


def test_left_is_counted_among_decided_comparisons_that_stand(store: Store) -> None:
    with store.writing() as db:
        analyst, one, other = make_actor(db, Role.ANALYST), make_actor(db), make_actor(db)
        assert position_bias(db, actor=analyst).left is None
        for number in range(25):
            pair = make_completions(db, prompt=f"Prompt {number}")
            compare(db, *pair, one, choice="left" if number < 22 else "right")
            if number < 4:
                compare(db, *pair, other, choice=("left", "right", "tie", "both_bad")[number])
        gone = compare(db, *make_completions(db), one)
        withdraw_comparison(db, gone.id, actor=one)
        every = position_bias(db, actor=analyst)
        (first,) = list_position_bias(db, actor=analyst)
        both = list_position_bias(db, actor=analyst, least=1)
        assert position_bias(db, actor=analyst, sources=["api"]).num_left == 0
        assert first.rater_id == find_rater(db, actor=one)
        with pytest.raises(Forbidden):
            position_bias(db, actor=one)
    assert (every.num_left, every.num_right, every.num_undecided) == (23, 4, 2)
    assert every.left is not None
    assert every.left.value == pytest.approx(23 / 27)
    assert (first.num_left, first.num_right) == (22, 3)
    assert [bias.is_biased for bias in both] == [True, False]


@only_sqlite
def test_the_best_of_four_is_no_choice_between_two_sides(store: Store) -> None:
    with store.writing() as db:
        analyst, one = make_actor(db, Role.ANALYST), make_actor(db)
        ids = make_completions(db, 4)
        submit_best(db, ids, ids[0], PreferenceDraft(choice=Choice.LEFT), actor=one)
        assert position_bias(db, actor=analyst).num_left == 0
        compare(db, ids[0], ids[1], one, choice="right")  # now it is one of two
        found = position_bias(db, actor=analyst)
    assert (found.num_left, found.num_right) == (0, 1)
