import threading
import uuid

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.feedback.comparisons import submit_best, submit_comparison, withdraw_comparison
from rlhf_core.feedback.drafts import PreferenceDraft
from rlhf_core.privacy.consent import opt_out
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, ComparisonRevision, Rater
from rlhf_core.vocabulary import Choice, RaterKind, RevisionKind, Role
from tests.builders import make_actor, make_interaction
from tests.core.feedback.pairs import compare, make_completions
from tests.databases import only_sqlite


def test_swapped_pair_is_the_same_pair_and_the_former_word_is_kept(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        one, other = make_completions(db)
        first = compare(db, one, other, rater, strength=3, reason="clear")
        again = compare(db, other, one, rater, choice="left", strength=None, reason=None)
    with store.reading() as db:
        row = db.scalars(sa.select(Comparison)).one()
        former = db.scalars(sa.select(ComparisonRevision)).one()
    assert (again.id, again.revision, again.was_created) == (first.id, 1, False)
    assert (row.left_interaction_id, row.choice, row.strength) == (other, Choice.LEFT, None)
    assert (former.kind, former.changed_by) == (RevisionKind.EDIT, rater.account_id)
    assert former.before["left_interaction_id"] == str(one)
    assert (former.before["strength"], former.before["reason"]) == (3, "clear")


def test_second_rater_and_second_occasion_have_rows_of_their_own(store: Store) -> None:
    with store.writing() as db:
        one, other = make_completions(db)
        rater = make_actor(db)
        compare(db, one, other, rater)
        compare(db, one, other, make_actor(db), choice="right")
        compare(db, other, one, rater, occasion=1)
        rows = db.execute(sa.select(Comparison.choice, Comparison.occasion)).all()
    assert sorted(rows) == [("left", 0), ("left", 1), ("right", 0)]


@only_sqlite
def test_equal_word_changes_nothing_and_a_field_not_given_stays(store: Store) -> None:
    with store.writing() as db:
        one, other = make_completions(db)
        rater = make_actor(db)
        compare(db, one, other, rater, reason="kept")
        assert compare(db, one, other, rater).revision == 0
        assert compare(db, one, other, rater, choice="tie").revision == 1
        assert db.scalars(sa.select(Comparison.reason)).one() == "kept"


@only_sqlite
def test_only_completions_of_one_prompt_in_one_context_are_compared(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        one, _ = make_completions(db)
        stranger = make_interaction(db).id
        turn = [{"role": "user", "content": "In Europe."}]
        later = make_completions(db, context=turn)[0]
        for left, right, error, word in (
            (one, one, InvalidInput, "same interaction"),
            (one, stranger, InvalidInput, "different prompts"),
            (one, later, InvalidInput, "different prompts"),
            (one, uuid.uuid4(), NotFound, "There is no interaction"),
        ):
            with pytest.raises(error, match=word):
                compare(db, left, right, rater)
        assert db.scalar(sa.select(sa.func.count()).select_from(Comparison)) == 0


@only_sqlite
def test_to_speak_for_others_takes_the_permission(store: Store) -> None:
    with store.writing() as db:
        one, other = make_completions(db, user="kim@example.org")
        with pytest.raises(Forbidden):
            compare(db, one, other, make_actor(db), rater="kim@example.org")
        compare(db, one, other, SYSTEM, rater="kim@example.org")
        compare(db, one, other, SYSTEM, rater_kind="end_user", choice="right")  # kim as well
        row, rater = db.execute(sa.select(Comparison, Rater).join(Rater)).one()
        assert (row.choice, row.revision) == (Choice.RIGHT, 1)
        assert rater.account_id is None
        assert "kim" not in rater.pseudonym


@only_sqlite
def test_opted_out_user_compares_nothing(store: Store) -> None:
    with store.writing() as db:
        one, other = make_completions(db, user="kim")
        opt_out(db, actor=SYSTEM, user="kim")
        for said in ({"rater": "kim", "rater_kind": "end_user"}, {"rater_kind": "end_user"}):
            with pytest.raises(Forbidden, match="opted out"):
                compare(db, one, other, SYSTEM, **said)
        compare(db, one, other, SYSTEM, rater="lee", rater_kind=RaterKind.END_USER)


@only_sqlite
def test_known_external_id_of_another_pair_is_refused(store: Store) -> None:
    with store.writing() as db:
        one, two, three = make_completions(db, 3)
        compare(db, one, two, SYSTEM, external_id="c1")
        with pytest.raises(Conflict, match="'c1'"):
            compare(db, one, three, SYSTEM, external_id="c1")


def test_best_of_four_beats_each_other_and_a_new_best_takes_back_the_old(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        ids = make_completions(db, 4)
        draft = PreferenceDraft(choice=Choice.LEFT, strength=2)
        assert len(submit_best(db, ids, ids[2], draft, actor=rater)) == 3
        submit_best(db, ids, ids[0], draft, actor=rater)
        rows = db.scalars(sa.select(Comparison).where(Comparison.withdrawn_at.is_(None))).all()
        said = {(r.left_interaction_id, r.right_interaction_id, r.choice) for r in rows}
        assert said == {(ids[0], other, Choice.LEFT) for other in ids[1:]}
        assert db.scalar(sa.select(sa.func.count()).select_from(Comparison)) == 5
        submit_best(db, ids, None, PreferenceDraft(choice=Choice.BOTH_BAD), actor=rater)
        all_bad = sa.select(Comparison.choice).where(Comparison.withdrawn_at.is_(None))
        assert list(db.scalars(all_bad)) == [Choice.BOTH_BAD] * 6


@only_sqlite
def test_best_of_a_wrong_set_is_refused(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        ids = make_completions(db, 5)
        left, tie = PreferenceDraft(choice=Choice.LEFT), PreferenceDraft(choice=Choice.TIE)
        for shown, best, draft in (
            (ids, ids[0], left),
            (ids[:1], ids[0], left),
            ([ids[0], ids[0]], ids[0], left),
            (ids[:2], ids[3], left),
            (ids[:2], None, left),
        ):
            with pytest.raises(InvalidInput):
                submit_best(db, shown, best, draft, actor=rater)
        assert len(submit_best(db, ids[:2], None, tie, actor=rater)) == 1


def test_withdrawn_comparison_stays_with_its_history_and_is_said_again(store: Store) -> None:
    with store.writing() as db:
        rater, other_rater = make_actor(db), make_actor(db)
        one, other = make_completions(db)
        stored = compare(db, one, other, rater, strength=2, extra={"side_seed": 7})
        with pytest.raises(Forbidden, match="only their own"):
            withdraw_comparison(db, stored.id, actor=other_rater)
        assert withdraw_comparison(db, stored.id, actor=rater).revision == 1
        assert withdraw_comparison(db, stored.id, actor=rater).revision == 1
        assert db.get_one(Comparison, stored.id).withdrawn_at is not None
        db.expire_all()
        assert compare(db, one, other, rater, choice="right").revision == 2
        row = db.get_one(Comparison, stored.id)
        assert (row.choice, row.strength, row.withdrawn_at) == (Choice.RIGHT, None, None)
        assert row.extra == {"side_seed": 7}
        with pytest.raises(NotFound):
            withdraw_comparison(db, uuid.uuid4(), actor=make_actor(db, Role.ADMIN))


def test_two_tabs_of_one_rater_leave_one_row(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        one, other = make_completions(db)
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        sides = (one, other) if number % 2 else (other, one)
        barrier.wait()
        with store.writing() as db:
            draft = PreferenceDraft(choice=Choice.LEFT, strength=1 + number % 3)
            submit_comparison(db, *sides, draft, actor=rater)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as db:
        row = db.scalars(sa.select(Comparison)).one()
        revisions = db.scalars(
            sa.select(ComparisonRevision.revision).order_by(ComparisonRevision.revision)
        ).all()
    assert list(revisions) == list(range(row.revision))
