"""Scores, thumbs, texts to imitate, prompts and steps: merged, filtered, counted."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.dataset import said as said_module
from rlhf_core.dataset import texts
from rlhf_core.dataset.builder import list_filter_values, preview_rows
from rlhf_core.errors import Forbidden
from rlhf_core.examples import SftExample, SteppedCompletion, UnpairedPreference
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import (
    AdjudicationDecision,
    DatasetPurpose,
    DisputeRule,
    MergeRule,
    RaterKind,
    Role,
)
from tests.core.dataset.world import (
    add_aspects,
    add_steps,
    build,
    build_with_voices,
    erase,
    params_of,
    rate,
    rule,
    withdraw_consent,
)
from tests.learning.rated import add_feedback, add_interaction, add_rater

SCORES, UNPAIRED, SFT = DatasetPurpose.SCORES, DatasetPurpose.UNPAIRED, DatasetPurpose.SFT
STEPS, PROMPTS = DatasetPurpose.STEPS, DatasetPurpose.PROMPTS
UP, DOWN = {"thumb": 1}, {"thumb": -1}


@pytest.mark.parametrize(("merge", "expected"), [(MergeRule.MEAN, 3.5), (MergeRule.MAJORITY, 5.0)])
def test_raters_are_merged_by_the_rule(store: Store, merge: MergeRule, expected: float) -> None:
    with store.writing() as db:
        rate(db, 5, 5, 3, 1)
    rows, built = build_with_voices(store, params_of(SCORES, merge=merge))
    assert [(row.score, row.num_ratings) for row in rows] == [(expected, 4)]
    assert rows[0].spread == pytest.approx(1.658312)
    assert built.voices.units == {(1.0, 3.0, 5.0, 5.0): 1}


def test_guessers_hardly_move_a_weighted_score(store: Store) -> None:
    with store.writing() as db:
        skilled = [add_rater(db, f"u_skilled_{n}") for n in range(3)]
        guess = add_rater(db, "u_guess")
        for number in range(40):
            truth = 5 if number % 2 else 1
            interaction = add_interaction(db, f"Known {number}?")
            for rater in skilled:
                add_feedback(db, interaction, rater, rating=truth)
            add_feedback(db, interaction, guess, rating=5 if number % 4 < 2 else 1)
        last = add_interaction(db, "Last?")
        add_feedback(db, last, skilled[0], rating=5)
        add_feedback(db, last, guess, rating=1)
    rows, _ = build(store, params_of(SCORES, merge=MergeRule.WEIGHTED))
    assert next(row.score for row in rows if row.prompt == "Last?") > 4.5


def test_adjudicated_answer_goes_first(store: Store) -> None:
    with store.writing() as db:
        decided, out, silent = (rate(db, 1, 5, prompt=f"{n}?") for n in range(3))
        rule(db, decided, rating=4)
        rule(db, out, AdjudicationDecision.EXCLUDED)
        rule(db, silent, rating=5, superseded_at=datetime(2024, 1, 1, tzinfo=UTC))
    rows, left_out = build(store, params_of(SCORES, disputes=DisputeRule.DROP))
    assert [(row.score, row.num_ratings, row.spread) for row in rows] == [(4.0, 2, 2.0)]
    assert left_out == {"excluded by an adjudicator": 1, "raters disagree, nobody decided": 1}
    rows, left_out = build(store, params_of(SCORES, adjudicated_first=False))
    assert [row.score for row in rows] == [3.0, 3.0, 3.0]
    assert left_out == {}


def test_aspects_are_means_over_raters_and_segments_say_what_kind_of_row(store: Store) -> None:
    with store.writing() as db:
        interaction = add_interaction(
            db, "Was ist das?", "Das ist nicht der Hund.", action_type="qa", model_name="m1"
        )
        ann, ben = add_rater(db, "u_ann"), add_rater(db, "u_ben")
        for occasion in range(2):
            feedback = add_feedback(db, interaction, ann, rating=4, occasion=occasion)
            add_aspects(db, feedback, tone=5, accuracy=2)
        add_aspects(db, add_feedback(db, interaction, ben, rating=2), accuracy=4)
    rows, _ = build(store, params_of(SCORES))
    assert rows[0].aspects == {"accuracy": 3.0, "tone": 5.0}
    assert rows[0].segments == {
        "action_type": "qa",
        "source": "test",
        "model_name": "m1",
        "language": "de",
    }


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ({"action_type": "qa"}, "another action type"),
        ({"model_name": "m1"}, "another model"),
        ({"since": datetime(2024, 1, 1, tzinfo=UTC)}, "outside the period"),
        ({"until": datetime(2020, 1, 2, tzinfo=UTC)}, None),
        ({"rater_kind": RaterKind.END_USER}, "another kind of rater"),
        ({"min_raters": 2}, "fewer raters than asked for"),
    ],
)
def test_what_a_filter_leaves_out_is_counted(
    store: Store, filters: dict[str, Any], reason: str | None
) -> None:
    with store.writing() as db:
        old = datetime(2020, 1, 1, tzinfo=UTC)
        rate(db, 4, occurred_at=old)
    rows, left_out = build(store, params_of(SCORES, filters=filters))
    assert (len(rows), left_out) == ((0, {reason: 1}) if reason else (1, {}))


def test_thumbs_become_labels_and_even_splits_none(store: Store) -> None:
    with store.writing() as db:
        rate(db, UP, UP, DOWN, prompt="up")
        rate(db, DOWN, {"rating": 3}, prompt="down")
        rate(db, UP, DOWN, prompt="split")
        rate(db, {"thumb": -1, "rating": 5}, prompt="thumb first")
        rate(db, {"rating": 4}, prompt="rated")
    rows, left_out = build(store, params_of(UNPAIRED))
    assert all(isinstance(row, UnpairedPreference) for row in rows)
    labels = {row.prompt: row.label for row in rows}
    assert labels == {"up": True, "down": False, "thumb first": False, "rated": True}
    assert left_out == {"raters evenly split": 1}


def test_sft_takes_good_completions_and_corrections_instead_of_originals(store: Store) -> None:
    with store.writing() as db:
        rate(db, 5, prompt="good")
        rate(db, 3, prompt="bad")
        rate(db, {"rating": 5, "correction": "Better."}, prompt="corrected")
        rate(db, {"correction": "Whole."}, prompt="empty", completion="")
        rate(db, {"rating": 5, "correction": "Because."}, prompt="unchanged")
    rows, left_out = build(store, params_of(SFT))
    assert all(isinstance(row, SftExample) for row in rows)
    assert sorted((row.prompt, row.completion, row.is_correction) for row in rows) == [
        ("corrected", "Better.", True),
        ("empty", "Whole.", True),
        ("good", "Because.", False),
        ("unchanged", "Because.", False),
    ]
    assert all(bool(row.feedback_id) == row.is_correction for row in rows)
    assert left_out == {
        "below the threshold": 1,
        "replaced by a correction": 1,
        "correction changes nothing": 1,
    }


def test_prompts_come_once_and_need_no_feedback(store: Store) -> None:
    with store.writing() as db:
        add_interaction(db, "One?")
        add_interaction(db, "one? ")
        rate(db, 1, prompt="Two?")
        add_interaction(db, "Demo?", is_demo=True)
    rows, left_out = build(store, params_of(PROMPTS))
    assert sorted(row.prompt for row in rows) == ["One?", "Two?"]
    assert left_out == {"demo data": 1, "the same prompt again": 1}


def test_step_labels_of_several_raters_become_one_a_step(store: Store) -> None:
    with store.writing() as db:
        interaction = add_interaction(db, "Sum?", "6")
        steps = add_steps(db, interaction, "2 + 2 = 4", "4 + 1 = 6", "so 6")
        labels = {"ann": (1, -1, 0), "ben": (1, -1, -1), "cat": (1, 1, 1)}
        for name, said in labels.items():
            rater = add_rater(db, f"u_{name}")
            for step, label in zip(steps, said, strict=True):
                add_feedback(db, interaction, rater, step_id=step, label=label)
        unjudged = add_interaction(db, "Other?")
        neutral = add_steps(db, unjudged, "hm")[0]
        add_feedback(db, unjudged, add_rater(db, "u_dan"), step_id=neutral, label=0)
    rows, built = build_with_voices(store, params_of(STEPS))
    assert all(isinstance(row, SteppedCompletion) for row in rows)
    assert [row.completions for row in rows] == [("2 + 2 = 4", "4 + 1 = 6", "so 6")]
    assert rows[0].labels == (True, False, None)  # the last one: one says right, one wrong
    assert built.left_out == {"no step called right or wrong": 1}
    assert built.voices.units == {(1.0, 1.0, 1.0): 1, (0.0, 0.0, 1.0): 1, (0.0, 1.0): 1}
    strict = params_of(STEPS, disputes=DisputeRule.DROP)
    assert build(store, strict)[1]["raters disagree, nobody decided"] == 1
    with store.writing() as db:
        rule(db, interaction, step_id=steps[2], label=-1)
    rows, _ = build(store, strict)
    assert rows[0].labels == (True, False, False)


@pytest.mark.parametrize("purpose", list(DatasetPurpose))
@pytest.mark.parametrize("leave", [withdraw_consent, erase])
def test_nobody_who_withdrew_or_was_erased_is_in_the_rows(
    store: Store, purpose: DatasetPurpose, leave: Any
) -> None:
    with store.writing() as db:
        for name in ("gone", "stays"):
            for number in range(2):
                answer = add_interaction(
                    db, f"{name}'s prompt", f"{name} {number}", user_pseudonym=f"u_{name}"
                )
                rater = add_rater(db, f"r_{name}_{number}")
                correction = f"{name} corrects {number}"
                rating = 1 if number else 5
                add_feedback(db, answer, rater, rating=rating, correction=correction)
                step = add_steps(db, answer, f"{name} step {number}")[0]
                add_feedback(db, answer, rater, step_id=step, label=1)
        leave(db, "u_gone")
        leave(db, "r_stays_1")
    rows, built = build_with_voices(store, params_of(purpose))
    assert rows
    assert "gone" not in repr(rows)
    assert "stays corrects 1" not in repr(rows)
    assert sum(built.left_out.values()) > 0
    assert built.voices.num_raters <= 1


def test_preview_shows_the_first_rows_to_who_may_see_them(store: Store) -> None:
    with store.writing() as db:
        for number in range(30):
            rate(db, 4, prompt=f"{number}?")
    with store.reading() as db:
        rows = preview_rows(db, actor=SYSTEM, params=params_of(SCORES), limit=5)
        assert rows == build(store, params_of(SCORES))[0][:5]
        with pytest.raises(Forbidden):
            preview_rows(db, actor=Actor("ann", Role.RATER), params=params_of(SCORES))


@pytest.mark.parametrize("purpose", [SCORES, DatasetPurpose.PREFERENCES, SFT])
def test_rows_read_in_many_small_portions_are_the_same(
    store: Store, purpose: DatasetPurpose, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writing() as db:
        for number in range(40):
            said = {"rating": 1 + number % 5, "correction": f"Better {number}."}
            rate(db, said, 4, prompt=f"{number % 9}?", completion=f"Answer {number}")
    whole = build(store, params_of(purpose))
    monkeypatch.setattr(said_module, "ROWS_A_FETCH", 7)
    monkeypatch.setattr(texts, "BATCH", 3)
    assert build(store, params_of(purpose)) == whole
    assert len(whole[0]) >= 40


def test_filter_values_are_those_that_occur(store: Store) -> None:
    with store.writing() as db:
        add_interaction(db, source="b", model_name="m2")
        add_interaction(db, source="a", action_type="qa")
    with store.reading() as db:
        values = list_filter_values(db)
    assert (values.sources, values.action_types, values.model_names) == (
        ["a", "b"],
        ["qa"],
        ["m2"],
    )
