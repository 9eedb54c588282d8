"""Preference pairs on both databases: where they come from, which way they point, what is left."""

import uuid
from collections import Counter

import pytest
from sqlalchemy.orm import Session

from rlhf_core.clock import utcnow
from rlhf_core.examples import PreferencePair
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import (
    AdjudicationDecision,
    Choice,
    DatasetPurpose,
    DisputeRule,
    MergeRule,
    PairOrigin,
    TieRule,
)
from tests.core.dataset.world import (
    build,
    build_with_voices,
    erase,
    params_of,
    rate,
    rule,
    vote,
    withdraw_consent,
)
from tests.learning.rated import add_feedback, add_interaction, add_rater

PAIRS = params_of(DatasetPurpose.PREFERENCES)
LEFT, RIGHT, TIE, BAD = Choice.LEFT, Choice.RIGHT, Choice.TIE, Choice.BOTH_BAD


def two(db: Session, prompt: str = "Why?") -> tuple[uuid.UUID, uuid.UUID]:
    """Two answers to one prompt, that nobody rated."""
    return add_interaction(db, prompt, "So."), add_interaction(db, prompt, "Thus.")


def sides(rows: list[PreferencePair]) -> list[tuple[str, str]]:
    return [(row.chosen, row.rejected) for row in rows]


def test_votes_on_a_pair_become_one_row_whichever_side_was_left(store: Store) -> None:
    with store.writing() as db:
        so, thus = two(db)
        votes = [
            vote(db, so, thus, LEFT, strength=3),
            vote(db, thus, so, RIGHT, strength=1),
            vote(db, so, thus, RIGHT),
        ]
    rows, left_out = build(store, PAIRS)
    assert sides(rows) == [("So.", "Thus.")]
    assert rows[0].margin == pytest.approx((3 + 1 - 1) / 3, abs=1e-6)
    assert (rows[0].num_votes, rows[0].origin) == (3, PairOrigin.COMPARISON)
    assert rows[0].comparison_id in map(str, votes)
    assert (rows[0].chosen_interaction_id, rows[0].rejected_interaction_id) == (str(so), str(thus))
    assert left_out == {}


def test_rater_who_compared_twice_counts_once(store: Store) -> None:
    with store.writing() as db:
        so, thus = two(db)
        keen = add_rater(db, "u_keen")
        for occasion in range(3):
            vote(db, so, thus, LEFT, rater_id=keen, occasion=occasion)
        vote(db, so, thus, RIGHT)
        vote(db, so, thus, RIGHT)
    rows, _ = build(store, PAIRS)
    assert sides(rows) == [("Thus.", "So.")]
    assert rows[0].num_votes == 3


def test_tie_is_dropped_or_kept_without_a_margin(store: Store) -> None:
    with store.writing() as db:
        vote(db, *two(db), TIE)
        so, thus = two(db, "How?")
        vote(db, so, thus, LEFT)
        vote(db, so, thus, RIGHT)
    rows, left_out = build(store, PAIRS)
    assert (rows, left_out) == ([], {"tie": 2})
    rows, left_out = build(store, params_of(DatasetPurpose.PREFERENCES, ties=TieRule.KEEP))
    assert [row.margin for row in rows] == [0.0, 0.0]
    assert left_out == {}


def test_both_bad_is_left_out_and_counted(store: Store) -> None:
    with store.writing() as db:
        vote(db, *two(db), BAD)
        so, thus = two(db, "How?")
        vote(db, so, thus, BAD)
        vote(db, so, thus, LEFT)
        vote(db, so, thus, LEFT)
    rows, left_out = build(store, PAIRS)
    assert [row.num_votes for row in rows] == [2]
    assert left_out == {"both answers bad": 1}


def test_majority_wins_over_one_strong_voice(store: Store) -> None:
    with store.writing() as db:
        so, thus = two(db)
        vote(db, so, thus, LEFT, strength=3)
        vote(db, so, thus, RIGHT)
        vote(db, so, thus, RIGHT)
    by_mean, _ = build(store, PAIRS)
    by_votes, _ = build(store, params_of(DatasetPurpose.PREFERENCES, merge=MergeRule.MAJORITY))
    assert sides(by_mean) == [("So.", "Thus.")]
    assert sides(by_votes) == [("Thus.", "So.")]
    assert by_votes[0].margin == 1


def test_disputed_pair_is_dropped_on_request(store: Store) -> None:
    with store.writing() as db:
        so, thus = two(db)
        vote(db, so, thus, LEFT, strength=2)
        vote(db, so, thus, RIGHT, strength=1)
    assert len(build(store, PAIRS)[0]) == 1
    strict = params_of(DatasetPurpose.PREFERENCES, disputes=DisputeRule.DROP)
    assert build(store, strict) == ([], {"raters disagree, nobody decided": 1})


def test_two_rated_answers_are_a_pair_with_the_gap_as_margin(store: Store) -> None:
    with store.writing() as db:
        worse = rate(db, 1, 2, completion="Dunno.")
        better = rate(db, 5, completion="Because.")
        rate(db, 5, prompt="Alone?")
    rows, left_out = build(store, PAIRS)
    assert sides(rows) == [("Because.", "Dunno.")]
    assert (rows[0].margin, rows[0].origin, rows[0].num_votes) == (3.5, PairOrigin.RATINGS, 1)
    assert (rows[0].chosen_interaction_id, rows[0].rejected_interaction_id) == (
        str(better),
        str(worse),
    )
    assert left_out == {"only one rated answer to the prompt": 1}


def test_gap_below_the_least_one_is_a_tie(store: Store) -> None:
    with store.writing() as db:
        rate(db, 4, 5, completion="A")
        rate(db, 4, completion="B")
        rate(db, 3, completion="C")
    rows, left_out = build(store, PAIRS)
    assert sorted(sides(rows)) == [("A", "C"), ("B", "C")]
    assert left_out == {"tie": 1}
    rows, left_out = build(store, params_of(DatasetPurpose.PREFERENCES, min_gap=0.5))
    assert len(rows) == 3
    rows, left_out = build(store, params_of(DatasetPurpose.PREFERENCES, ties=TieRule.KEEP))
    assert sorted(row.margin for row in rows) == [0.0, 1.0, 1.5]
    assert left_out == {}


def test_what_was_compared_directly_is_not_paired_by_its_ratings(store: Store) -> None:
    with store.writing() as db:
        low, high = rate(db, 1, completion="Low"), rate(db, 5, completion="High")
        vote(db, low, high, LEFT)
    rows, left_out = build(store, PAIRS)
    assert [(row.chosen, row.origin) for row in rows] == [("Low", PairOrigin.COMPARISON)]
    assert left_out == {}
    only = params_of(DatasetPurpose.PREFERENCES, pair_origins=(PairOrigin.RATINGS,))
    assert sides(build(store, only)[0]) == [("High", "Low")]


def test_correction_is_chosen_over_the_original(store: Store) -> None:
    with store.writing() as db:
        rate(db, {"correction": "Better.", "rating": 2}, completion="Bad.")
        rate(db, {"correction": "Best.", "rating": 5}, prompt="Other?", completion="Good.")
        rate(db, {"correction": "Bad. "}, prompt="Same?", completion="Bad.")
        rate(db, {"correction": " ", "comment": "blank"}, prompt="Blank?")
    rows, left_out = build(store, PAIRS)
    assert sorted((row.chosen, row.rejected, row.margin) for row in rows) == [
        ("Best.", "Good.", 1.0),
        ("Better.", "Bad.", 3.0),
    ]
    assert all(row.feedback_id and row.origin == PairOrigin.CORRECTION for row in rows)
    assert left_out == {"neither rating nor thumb": 1, "correction changes nothing": 1}
    only = params_of(DatasetPurpose.PREFERENCES, pair_origins=(PairOrigin.CORRECTION,))
    assert build(store, only) == (build(store, only)[0], {"correction changes nothing": 1})
    assert len(build(store, only)[0]) == 2


def test_prompt_with_many_answers_gives_no_more_than_it_may(store: Store) -> None:
    with store.writing() as db:
        for number in range(12):
            rate(db, 1 + number % 5, completion=f"Answer {number}")
    everything, left_out = build(
        store, params_of(DatasetPurpose.PREFERENCES, max_pairs_a_prompt=100)
    )
    ties = left_out.pop("tie")
    assert left_out == {}
    assert len(everything) + ties == 12 * 11 // 2
    assert len(set(sides(everything))) == len(everything)
    assert all(row.margin >= 1 for row in everything)
    few, left_out = build(store, params_of(DatasetPurpose.PREFERENCES, max_pairs_a_prompt=10))
    assert len(few) == 10
    assert left_out == {"tie": ties, "more pairs than one prompt may give": len(everything) - 10}
    assert set(sides(few)) <= set(sides(everything))
    used = Counter(side for pair in sides(few) for side in pair)
    assert len(used) >= 9  # spread over the answers


def test_rows_come_prompt_by_prompt_in_the_same_order_each_time(store: Store) -> None:
    with store.writing() as db:
        for number in range(20):
            prompt = f"Prompt {number % 6}"
            left = rate(db, 1 + number % 3, prompt=prompt, completion=f"L{number}")
            right = rate(db, 5, prompt=prompt, completion=f"R{number}")
            if number % 4 == 0:
                vote(db, left, right, RIGHT)
    first, _ = build(store, PAIRS)
    assert first == build(store, PAIRS)[0]
    groups = [row.group for row in first]
    assert groups == sorted(groups)
    assert len(set(groups)) == 6


def test_answers_that_say_the_same_are_no_pair(store: Store) -> None:
    with store.writing() as db:
        rate(db, 1, completion="Yes.")
        rate(db, 5, completion="Yes. ")
    assert build(store, PAIRS) == ([], {"both answers are the same": 1})


def test_empty_answer_and_other_prompts_are_left_out(store: Store) -> None:
    with store.writing() as db:
        full, empty = add_interaction(db), add_interaction(db, completion=" ")
        vote(db, full, empty, LEFT)
        vote(db, full, add_interaction(db, "Another?"), LEFT)
    assert build(store, PAIRS) == ([], {"empty completion": 1, "answers to different prompts": 1})


def test_who_withdrew_or_was_erased_is_in_no_pair(store: Store) -> None:
    with store.writing() as db:
        so, thus = two(db)
        gone = add_rater(db, "u_gone")
        vote(db, so, thus, RIGHT, rater_id=gone)
        vote(db, so, thus, LEFT)
        asked = add_interaction(db, "Mine?", "A", user_pseudonym="u_asker")
        vote(db, asked, add_interaction(db, "Mine?", "B"), LEFT)
        corrected = add_interaction(db, "Fix?", "Bad.")
        add_feedback(db, corrected, gone, correction="Good.")
        withdraw_consent(db, "u_gone")
        erase(db, "u_asker")
    rows, left_out = build(store, PAIRS)
    assert sides(rows) == [("So.", "Thus.")]
    assert rows[0].num_votes == 1
    assert left_out == {"person erased": 1, "consent to training withdrawn": 1}


def test_withdrawn_vote_and_too_few_voters_are_counted(store: Store) -> None:
    with store.writing() as db:
        vote(db, *two(db), LEFT, withdrawn_at=utcnow())
        vote(db, *two(db, "How?"), LEFT)
    two_needed = params_of(DatasetPurpose.PREFERENCES, filters={"min_raters": 2})
    assert build(store, two_needed) == (
        [],
        {"feedback withdrawn": 1, "fewer raters than asked for": 1},
    )


def test_answer_that_an_adjudicator_excluded_is_in_no_pair(store: Store) -> None:
    with store.writing() as db:
        so, thus = two(db)
        vote(db, so, thus, LEFT)
        rule(db, thus, AdjudicationDecision.EXCLUDED)
    assert build(store, PAIRS) == ([], {"excluded by an adjudicator": 1})
    lax = params_of(DatasetPurpose.PREFERENCES, adjudicated_first=False)
    assert len(build(store, lax)[0]) == 1


def test_voices_name_the_raters_and_how_they_voted(store: Store) -> None:
    with store.writing() as db:
        so, thus = two(db)
        vote(db, so, thus, LEFT, strength=3)
        vote(db, so, thus, LEFT)
        vote(db, so, thus, TIE)
        vote(db, *two(db, "How?"), TIE)
    _, built = build_with_voices(store, PAIRS)
    assert built.voices.num_raters == 3
    assert built.voices.units == {(0.0, 1.0, 1.0): 1}


def test_skilled_voters_outweigh_guessers(store: Store) -> None:
    with store.writing() as db:
        skilled = [add_rater(db, f"u_skilled_{n}") for n in range(3)]
        guessing = [add_rater(db, f"u_guess_{n}") for n in range(3)]
        for number in range(40):
            so, thus = two(db, f"Known {number}?")
            for rater in skilled:
                vote(db, so, thus, LEFT, rater_id=rater)
            for place, rater in enumerate(guessing):
                # by turns, so that each is right half of the time and no two agree more
                side = LEFT if number >> place & 1 else RIGHT
                vote(db, so, thus, side, rater_id=rater)
        so, thus = two(db, "Disputed?")
        for rater in skilled[:2]:
            vote(db, so, thus, RIGHT, rater_id=rater)
        for rater in guessing:
            vote(db, so, thus, LEFT, rater_id=rater)
    found = {}
    for merge in (MergeRule.MEAN, MergeRule.WEIGHTED):
        rows, _ = build(store, params_of(DatasetPurpose.PREFERENCES, merge=merge))
        found[merge] = next(row.chosen for row in rows if row.prompt == "Disputed?")
    assert found == {MergeRule.MEAN: "So.", MergeRule.WEIGHTED: "Thus."}


def test_correction_of_an_empty_answer_is_no_pair(store: Store) -> None:
    with store.writing() as db:
        rate(db, {"rating": 1, "correction": "Because."}, completion=" ")
        rate(db, {"correction": "Because."}, completion="")
        rate(db, {"rating": 1, "correction": "\u00a0"}, completion="Why not?")
    rows, left_out = build(
        store, params_of(DatasetPurpose.PREFERENCES, pair_origins=(PairOrigin.CORRECTION,))
    )
    assert (rows, left_out) == ([], {"empty completion": 2})
