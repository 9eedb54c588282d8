import sqlalchemy as sa

from rlhf_core.feedback.comparisons import submit_best, withdraw_comparison
from rlhf_core.feedback.drafts import PreferenceDraft
from rlhf_core.feedback.service import UndoneComparison, UndoneFeedback, undo_last
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, ComparisonRevision
from rlhf_core.vocabulary import Choice, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.feedback.pairs import compare, make_completions


def test_undo_goes_back_through_ratings_and_comparisons_in_one_order(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        one, other = make_completions(db)
        item = make_interaction(db).id
        compare(db, one, other, rater, reason="first")
        make_feedback(db, item, actor=rater)
        compare(db, other, one, rater, choice="tie")
        changed = undo_last(db, actor=rater)
        assert isinstance(changed, UndoneComparison)
        assert not changed.was_creation
        row = db.execute(
            sa.select(Comparison.left_interaction_id, Comparison.choice, Comparison.reason)
        ).one()
        assert row == (one, Choice.LEFT, "first")
        rated = undo_last(db, actor=rater)
        assert isinstance(rated, UndoneFeedback)
        assert rated.interaction_id == item
        made = undo_last(db, actor=rater)
        assert isinstance(made, UndoneComparison)
        assert made.was_creation
        assert set(made.interaction_ids) == {one, other}
        assert undo_last(db, actor=rater) is None
        assert db.scalars(sa.select(Comparison.withdrawn_at)).one() is not None
        kinds = db.execute(
            sa.select(ComparisonRevision.kind, ComparisonRevision.undoes).order_by(
                ComparisonRevision.revision
            )
        ).all()
        assert kinds == [("edit", None), ("restore", 1), ("withdraw", 0)]


def test_best_of_several_is_undone_as_one(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        ids = make_completions(db, 4)
        draft = PreferenceDraft(choice=Choice.LEFT)
        submit_best(db, ids, ids[0], draft, actor=rater)
        submit_best(db, ids, ids[3], draft, actor=rater)

        def standing() -> set[tuple[object, ...]]:
            rows = db.execute(
                sa.select(
                    Comparison.left_interaction_id,
                    Comparison.right_interaction_id,
                    Comparison.choice,
                ).where(Comparison.withdrawn_at.is_(None))
            )
            return {tuple(row) for row in rows}

        assert standing() == {(one, ids[3], Choice.RIGHT) for one in ids[:3]}
        undo_last(db, actor=rater)
        assert standing() == {(ids[0], one, Choice.LEFT) for one in ids[1:]}
        undone = undo_last(db, actor=rater)
        assert isinstance(undone, UndoneComparison)
        assert set(undone.interaction_ids) == set(ids)
        assert standing() == set()
        assert undo_last(db, actor=rater) is None


def test_withdrawal_is_undone_and_that_of_somebody_else_is_not(store: Store) -> None:
    with store.writing() as db:
        rater, trainer = make_actor(db), make_actor(db, Role.TRAINER)
        one, other = make_completions(db)
        stored = compare(db, one, other, rater)
        withdraw_comparison(db, stored.id, actor=rater)
        undo_last(db, actor=rater)
        assert db.scalars(sa.select(Comparison.withdrawn_at)).one() is None
        withdraw_comparison(db, stored.id, actor=trainer)
        assert undo_last(db, actor=rater) is None
        assert undo_last(db, actor=trainer) is None


def test_only_the_last_ten_actions_of_both_kinds_are_undone(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        for number in range(6):
            make_feedback(db, make_interaction(db).id, actor=rater)
            compare(db, *make_completions(db, prompt=f"Prompt {number}"), rater)
        undone = [undo_last(db, actor=rater) for _ in range(12)]
    assert [one is not None for one in undone] == [True] * 10 + [False] * 2
    assert [isinstance(one, UndoneComparison) for one in undone[:10]] == [True, False] * 5


def test_undo_of_an_edit_brings_back_which_pairs_were_one_choice(store: Store) -> None:
    groups = sa.select(Comparison.group_id).where(Comparison.withdrawn_at.is_(None))
    with store.writing() as db:
        rater = make_actor(db)
        ids = make_completions(db, 4)
        submit_best(db, ids, ids[0], PreferenceDraft(choice=Choice.LEFT), actor=rater)
        (group,) = set(db.scalars(groups))
        assert group is not None
        compare(db, ids[0], ids[1], rater, choice="right")
        assert set(db.scalars(groups)) == {group, None}
        undo_last(db, actor=rater)
        assert list(db.scalars(groups)) == [group] * 3
