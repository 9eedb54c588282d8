import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.agreement import gwet_ac1, krippendorff_alpha, raw_agreement
from rlhf_core.analytics.agreement import AspectAgreement, Question, compute_agreement
from rlhf_core.analytics.scope import Scope
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.queues.service import create_queue
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Choice, QueueSubject
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.dataset.world import add_rater, vote
from tests.databases import only_sqlite

SAID = [(5, 4, 4), (1, 2, None), (3, 3, 5), (4, None, None), (2, 2, 1)]


def values_of(found: AspectAgreement) -> tuple[float | None, ...]:
    summary = found.agreement
    return tuple(one and one.value for one in (summary.raw, summary.alpha, summary.ac1))


def test_the_database_gives_what_the_coefficients_say(store: Store) -> None:
    with store.writing() as db:
        raters = [make_actor(db) for _ in range(3)]
        for ratings in SAID:
            item = make_interaction(db, steps=1).id
            for rater, rating in zip(raters, ratings, strict=True):
                if rating is not None:
                    make_feedback(
                        db, item, actor=rater, rating=rating, thumb=1 if rating > 3 else -1,
                        aspects={"tone": 6 - rating},
                    )  # fmt: skip
                    make_feedback(db, item, actor=rater, step=0, label=1 if rating > 2 else -1)
        found = {one.name: one for one in compute_agreement(db, actor=SYSTEM)}
    assert list(found) == ["rating", "thumb", "tone", "step label"]
    units = [
        {n: one for n, one in enumerate(row) if one is not None}
        for row in SAID
        if sum(one is not None for one in row) > 1
    ]
    thumbs = [{n: 1 if one > 3 else -1 for n, one in unit.items()} for unit in units]
    labels = [{n: 1 if one > 2 else -1 for n, one in unit.items()} for unit in units]
    ordinal = (
        raw_agreement(units),
        krippendorff_alpha(units, "ordinal"),
        gwet_ac1(units, num_values=5),
    )
    assert values_of(found["rating"]) == pytest.approx(ordinal)
    assert values_of(found["tone"]) == pytest.approx(ordinal)
    for name, said in (("thumb", thumbs), ("step label", labels)):
        nominal = (raw_agreement(said), krippendorff_alpha(said), gwet_ac1(said))
        assert values_of(found[name]) == pytest.approx(nominal)
    summary = found["rating"].agreement
    assert (summary.num_units, summary.num_answers) == (4, 11)
    assert summary.raw is not None
    assert summary.raw.low <= summary.raw.value <= summary.raw.high


def test_repeats_and_what_was_withdrawn_do_not_count(store: Store) -> None:
    with store.writing() as db:
        ann, ben = make_actor(db), make_actor(db)
        twice, taken_back = make_interaction(db).id, make_interaction(db).id
        make_feedback(db, twice, actor=ann, rating=4)
        make_feedback(db, twice, actor=ann, rating=2, occasion=1)
        make_feedback(db, taken_back, actor=ann, rating=4)
        gone = make_feedback(db, taken_back, actor=ben, rating=4)
        withdraw_feedback(db, gone.id, actor=SYSTEM)
        assert compute_agreement(db, actor=SYSTEM) == []
        (repeated,) = compute_agreement(db, actor=SYSTEM, with_repeats=True)
        assert values_of(repeated)[0] == 0.0
        with pytest.raises(Forbidden):
            compute_agreement(db, actor=ann)


def test_comparisons_agree_whichever_side_was_left_and_by_model(store: Store) -> None:
    with store.writing() as db:
        models = ("ada", "bea")
        pairs = [
            [make_interaction(db, prompt=f"{n}?", model_name=model).id for model in models]
            for n in range(3)
        ]
        for number, (one, other) in enumerate(pairs):
            vote(db, one, other, Choice.LEFT)
            vote(db, other, one, Choice.RIGHT if number else Choice.BOTH_BAD)
        found = {one.question: one for one in compute_agreement(db, actor=SYSTEM)}
        raw = {question: values_of(one)[0] for question, one in found.items()}
        assert raw == {
            Question.CHOICE: pytest.approx(2 / 3),
            Question.PREFERRED_MODEL: pytest.approx(2 / 3),
        }
        queue = create_queue(
            db, actor=SYSTEM, name="pairs", subject=QueueSubject.COMPARISONS,
            pairs=[(pairs[1][0], pairs[1][1])],
        )  # fmt: skip
        within = compute_agreement(db, actor=SYSTEM, scope=Scope(queue_id=queue.id))
        assert [one.agreement.num_units for one in within] == [1, 1]
        assert values_of(within[0]) == (1.0, 1.0, 1.0)  # which side is called first means nothing
        # of the models one was never chosen: there is nothing to disagree on
        assert values_of(within[1]) == (1.0, None, 1.0)


@only_sqlite
def test_who_stands_with_both_ways_round_of_a_pair_counts_once(store: Store) -> None:
    with store.writing() as db:
        left, right = (make_interaction(db, prompt="1?", model_name=m).id for m in ("ada", "bea"))
        ann = add_rater(db, "ann")
        vote(db, left, right, Choice.LEFT, rater_id=ann)
        vote(db, right, left, Choice.LEFT, rater_id=ann)
        assert compute_agreement(db, actor=SYSTEM) == []
        vote(db, left, right, Choice.LEFT)
        found = compute_agreement(db, actor=SYSTEM)
    assert [values_of(one)[0] for one in found] == [1.0, 1.0]  # the first answer counts
    assert [one.agreement.num_answers for one in found] == [2, 2]
