"""What an adjudicator decides, from the decision into the rows of datasets."""

import uuid
from typing import Any

import pytest
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.disputes import list_disputes
from rlhf_core.feedback.adjudication import adjudicate, withdraw_adjudication
from rlhf_core.feedback.pair_adjudication import adjudicate_pair, withdraw_pair_adjudication
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import (
    AdjudicationDecision,
    Choice,
    DatasetPurpose,
    DisputeRule,
    MergeRule,
)
from tests.core.dataset.world import add_steps, build, params_of, rate, vote
from tests.databases import only_sqlite
from tests.learning.rated import add_feedback, add_interaction, add_rater

pytestmark = only_sqlite
DROP = {"disputes": DisputeRule.DROP}
DISPUTED = {"raters disagree, nobody decided": 1}
EXCLUDED = AdjudicationDecision.EXCLUDED


def decide(db: Session, interaction: uuid.UUID, **fields: Any) -> uuid.UUID:
    wanted = {"decision": AdjudicationDecision.RESOLVED, "reason": "so"} | fields
    return adjudicate(db, actor=SYSTEM, interaction_id=interaction, **wanted)


def test_the_list_of_disputes_holds_just_what_a_dataset_drops(store: Store) -> None:
    with store.writing() as db:
        said = [(5, 1), (4, 3), (3, 2), (5, 4), (5, 5, 1), (4, 4, 1, 1), (2,), (5, {"thumb": -1})]
        items = [rate(db, *words) for words in said]
        listed = {item.interaction_id for item in list_disputes(db, actor=SYSTEM).items}
        assert listed == {items[0], items[1], items[5], items[7]}
    _, left_out = build(store, params_of(DatasetPurpose.SCORES, **DROP))
    assert left_out == {"raters disagree, nobody decided": 4}


@pytest.mark.parametrize(
    ("purpose", "answer", "expected"),
    [
        (DatasetPurpose.SCORES, {"rating": 2}, 2.0),
        (DatasetPurpose.SCORES, {"thumb": 1}, 5.0),
        (DatasetPurpose.UNPAIRED, {"rating": 4}, True),
        (DatasetPurpose.UNPAIRED, {"thumb": -1}, False),
    ],
)
def test_decided_dispute_gives_the_adjudicators_answer(
    store: Store, purpose: DatasetPurpose, answer: dict[str, int], expected: float
) -> None:
    params = params_of(purpose, **DROP)
    with store.writing() as db:
        item = rate(db, 5, 1)
    assert build(store, params) == ([], DISPUTED)
    with store.writing() as db:
        decision = decide(db, item, **answer)
    (row,), left_out = build(store, params)
    assert left_out == {}
    assert expected == (row.score if purpose is DatasetPurpose.SCORES else row.label)
    with store.writing() as db:
        withdraw_adjudication(db, decision, actor=SYSTEM)
    assert build(store, params) == ([], DISPUTED)


def test_newest_decision_counts_and_what_is_excluded_is_in_no_dataset(store: Store) -> None:
    with store.writing() as db:
        item = rate(db, 5, 5, {"rating": 1, "correction": "Better."})
        first = decide(db, item, rating=3)
        decide(db, item, decision=EXCLUDED, replaces=first)
    for purpose in (DatasetPurpose.SCORES, DatasetPurpose.UNPAIRED, DatasetPurpose.SFT):
        rows, left_out = build(store, params_of(purpose))
        assert (rows, left_out) == ([], {"excluded by an adjudicator": 1}), purpose


def test_step_decided_neutral_or_excluded_has_no_label_and_ends_the_dispute(store: Store) -> None:
    params = params_of(DatasetPurpose.STEPS, **DROP)
    with store.writing() as db:
        item = add_interaction(db)
        steps = add_steps(db, item, "one", "two", "three")
        for number, labels in enumerate(((1, 1, 1), (1, -1, -1))):
            rater = add_rater(db, f"u_{number}")
            for step, label in zip(steps, labels, strict=True):
                add_feedback(db, item, rater, step_id=step, label=label)
    assert build(store, params) == ([], DISPUTED)
    with store.writing() as db:
        decide(db, item, step_id=steps[1], label=0)
        decide(db, item, step_id=steps[2], decision=EXCLUDED)
    (row,), left_out = build(store, params)
    assert (row.labels, left_out) == ((True, None, None), {})


def test_a_careless_rater_weighs_less_but_for_an_adjudicator_nobody_does(store: Store) -> None:
    params = params_of(DatasetPurpose.SCORES, merge=MergeRule.WEIGHTED)
    with store.writing() as db:
        ann, ben, guesser = (add_rater(db, f"u_{name}") for name in ("ann", "ben", "guesser"))
        for number in range(40):
            item = add_interaction(db)
            truth = 5 if number % 2 else 1
            for rater in (ann, ben):
                add_feedback(db, item, rater, rating=truth)
            add_feedback(db, item, guesser, rating=5 if number % 3 else 1)
        torn = add_interaction(db)
        add_feedback(db, torn, ann, rating=1)
        add_feedback(db, torn, guesser, rating=5)
    rows, _ = build(store, params)
    score = {row.interaction_id: row.score for row in rows}
    assert score[str(torn)] < 2.0 < build_mean(store, torn)
    with store.writing() as db:
        decide(db, torn, rating=4)
    rows, _ = build(store, params)
    assert {row.interaction_id: row.score for row in rows}[str(torn)] == 4.0


def build_mean(store: Store, item: uuid.UUID) -> float:
    rows, _ = build(store, params_of(DatasetPurpose.SCORES))
    return next(row.score for row in rows if row.interaction_id == str(item))


def test_decided_pair_goes_the_adjudicators_way(store: Store) -> None:
    strict = params_of(DatasetPurpose.PREFERENCES, **DROP)
    with store.writing() as db:
        so, thus = (rate(db, completion=text) for text in ("So.", "Thus."))
        vote(db, so, thus, Choice.LEFT, strength=3)
        vote(db, so, thus, Choice.RIGHT)
    assert build(store, strict) == ([], DISPUTED)
    with store.writing() as db:
        decision = decide_pair(db, so, thus, Choice.RIGHT)
    (row,), left_out = build(store, strict)
    assert left_out == {}
    assert (row.chosen, row.rejected, row.margin) == ("Thus.", "So.", 1.0)
    alone = params_of(DatasetPurpose.PREFERENCES, filters={"min_raters": 5})
    assert len(build(store, alone)[0]) == 1
    (by_raters,), _ = build(store, params_of(DatasetPurpose.PREFERENCES, adjudicated_first=False))
    assert by_raters.chosen == "So."
    with store.writing() as db:
        tie = decide_pair(db, thus, so, Choice.TIE, replaces=decision)
    assert build(store, strict) == ([], {"tie": 1})
    with store.writing() as db:
        withdraw_pair_adjudication(db, tie, actor=SYSTEM)
    assert build(store, strict) == ([], DISPUTED)


def test_excluded_pair_does_not_come_back_by_its_ratings(store: Store) -> None:
    with store.writing() as db:
        so, thus = rate(db, 5, completion="So."), rate(db, 1, completion="Thus.")
        vote(db, so, thus, Choice.LEFT)
        decide_pair(db, so, thus, None)
    rows, left_out = build(store, params_of(DatasetPurpose.PREFERENCES))
    assert rows == []
    assert left_out["excluded by an adjudicator"] == 1


def decide_pair(
    db: Session, left: uuid.UUID, right: uuid.UUID, choice: Choice | None, **more: Any
) -> uuid.UUID:
    return adjudicate_pair(
        db, actor=SYSTEM, left_id=left, right_id=right, choice=choice, reason="so", **more
    )
