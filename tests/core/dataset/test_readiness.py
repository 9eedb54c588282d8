"""What is there, what is short, and what to rate next."""

import pytest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.dataset.params import DatasetParams, Filters
from rlhf_core.dataset.readiness import MIN_ROWS, Readiness, check_readiness, find_shortage
from rlhf_core.errors import Forbidden, NotEnoughData, TrainingFailed
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Choice, DatasetPurpose, Role, TieRule
from tests.core.dataset.world import add_steps, params_of, rate, vote
from tests.databases import postgres_is_slow
from tests.learning.rated import (
    add_feedback,
    add_interaction,
    add_rated,
    add_rater,
    make_rows,
    with_score,
)

pytestmark = postgres_is_slow

PAIRS, STEPS = DatasetPurpose.PREFERENCES, DatasetPurpose.STEPS


def check(store: Store, params: DatasetParams | None = None) -> Readiness:
    with store.reading() as db:
        return check_readiness(db, actor=SYSTEM, params=params or DatasetParams())


def test_38_of_50_are_12_too_few(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(38))
        waiting = [add_interaction(db, f"Waiting {number}?") for number in range(3)]
    ready = check(store)
    assert (ready.have, ready.need, ready.missing, ready.is_ready) == (38, 50, 12, False)
    assert "12 more needed" in str(ready.obstacle)
    assert sorted(ready.short_interaction_ids) == sorted(waiting)
    assert ready.advice.startswith("38 rated interactions, 12 short; rate more interactions")


def test_50_with_both_kinds_are_enough(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(50))
    ready = check(store)
    assert ready.is_ready
    assert ready.short_interaction_ids == []
    assert ready.counts == {
        "rows": 50,
        "prompts": 13,
        "raters": 1,
        "ratings": 50,
        "good": 25,
        "prompts_good": 13,
        "prompts_bad": 13,
        "lowest": 1,
        "highest": 5,
    }


def test_one_kind_only_is_said_with_the_way_out(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, [with_score(row, 4 + i % 2) for i, row in enumerate(make_rows(50))])
    assert "All 50 rated interactions are good at the threshold 4" in str(check(store).obstacle)
    assert check(store, DatasetParams(threshold=4.5)).is_ready


def test_all_ratings_equal_is_said(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, [with_score(row, 3) for row in make_rows(50)])
    assert "same rating 3" in str(check(store).obstacle)
    with store.reading() as db:
        assert isinstance(find_shortage(db, params=DatasetParams()), TrainingFailed)


def test_prompts_with_one_rated_answer_need_a_second_one(store: Store) -> None:
    with store.writing() as db:
        seconds = []
        for number in range(43):
            rate(db, 1, prompt=f"Paired {number}?", completion="Bad.")
            rate(db, 5, prompt=f"Paired {number}?", completion="Good.")
        for number in range(20):
            rate(db, 5, prompt=f"Single {number}?")
            if number < 15:
                seconds.append(add_interaction(db, f"Single {number}?", "Second."))
        add_interaction(db, "Nobody asked this twice?")
    ready = check(store, params_of(PAIRS))
    assert (ready.have, ready.missing) == (43, MIN_ROWS[PAIRS] - 43)
    assert ready.advice == (
        "43 usable pairs, 7 short; these prompts need a second rated answer (15 answers wait)."
    )
    assert sorted(ready.short_interaction_ids) == sorted(seconds)
    assert ready.left_out == {"only one rated answer to the prompt": 20}
    assert ready.counts["ratings"] == 43
    with store.writing() as db:
        rater = add_rater(db, "u_next")
        for interaction in ready.short_interaction_ids:
            add_feedback(db, interaction, rater, rating=2)
    assert check(store, params_of(PAIRS)).is_ready


def test_without_a_second_answer_unrated_pairs_are_offered(store: Store) -> None:
    with store.writing() as db:
        rate(db, 5, prompt="Alone?")
        both = [add_interaction(db, "Two?", completion) for completion in ("A", "B")]
        add_interaction(db, "One?")
    ready = check(store, params_of(PAIRS))
    assert sorted(ready.short_interaction_ids) == sorted(both)
    assert "rate both of two answers to one prompt" in ready.advice


def test_only_ties_are_nothing_to_prefer(store: Store) -> None:
    with store.writing() as db:
        for number in range(50):
            sides = [add_interaction(db, f"{number}?", completion) for completion in ("A", "B")]
            vote(db, sides[0], sides[1], Choice.TIE)
    ready = check(store, params_of(PAIRS, ties=TieRule.KEEP))
    assert "All 50 pairs are ties" in str(ready.obstacle)
    dropped = check(store, params_of(PAIRS))
    assert dropped.left_out == {"tie": 50}
    assert dropped.have == 0


def test_steps_of_one_kind_tell_nothing(store: Store) -> None:
    with store.writing() as db:
        rater = add_rater(db, "u_steps")
        for number in range(50):
            interaction = add_interaction(db, f"{number}?")
            for step in add_steps(db, interaction, "one", "two"):
                add_feedback(db, interaction, rater, step_id=step, label=1)
        waiting = add_interaction(db, "Unjudged?")
        add_steps(db, waiting, "one")
    ready = check(store, params_of(STEPS))
    assert ready.counts == {
        "rows": 50,
        "prompts": 50,
        "raters": 1,
        "steps": 100,
        "right": 100,
        "wrong": 0,
    }
    assert "All judged steps are right" in str(ready.obstacle)
    assert ready.short_interaction_ids == [waiting]


def test_counting_agrees_with_the_rows_for_every_purpose(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(60))
        rate(db, {"rating": 3, "correction": "Better."}, {"thumb": 0})
    for purpose in DatasetPurpose:
        ready = check(store, params_of(purpose))
        assert ready.have == ready.counts["rows"]
        assert ready.is_ready == (ready.obstacle is None)
        with store.reading() as db:
            shortage = find_shortage(db, params=params_of(purpose))
        assert str(shortage) == str(ready.obstacle)
        if ready.missing:
            assert isinstance(shortage, NotEnoughData)


def test_rater_may_not_ask(store: Store) -> None:
    with store.reading() as db, pytest.raises(Forbidden):
        check_readiness(db, actor=Actor("ann", Role.RATER), params=DatasetParams())


def test_items_with_too_few_raters_wait_for_another_one(store: Store) -> None:
    with store.writing() as db:
        twice = [rate(db, 5, 4) for _ in range(2)]
        once = rate(db, 4)
        never = rate(db)
    ready = check(store, DatasetParams(filters=Filters(min_raters=2)))
    assert ready.have == len(twice)
    assert ready.short_interaction_ids == [once, never]
    assert "rate more interactions (2 are waiting)" in ready.advice
