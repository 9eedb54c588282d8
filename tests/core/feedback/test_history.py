from datetime import timedelta

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import utcnow
from rlhf_core.errors import Forbidden, NotFound
from rlhf_core.feedback.history import (
    HistoryFilter,
    Subject,
    count_history,
    get_entry,
    list_changes,
    list_history,
    list_others,
)
from rlhf_core.feedback.service import undo_last, withdraw_feedback
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import Choice, RevisionKind, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.feedback.pairs import compare, make_completions
from tests.databases import only_sqlite


def test_history_holds_ones_own_ratings_and_comparisons_the_latest_first(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        assert list_history(db, actor=rater) == []
        item = make_interaction(db, steps=2, prompt="50% of _ is?")
        make_feedback(db, item.id, actor=rater, rating=2, aspects={"tone": 4}, comment="hm")
        make_feedback(db, item.id, actor=rater, step=1, label=-1)
        pair = make_completions(db)
        compare(db, *pair, rater, choice="tie", reason="alike")
        make_feedback(db, item.id, actor=make_actor(db), rating=5)
        entries = list_history(db, actor=rater)
    assert [entry.subject for entry in entries] == ["comparison", "step", "completion"]
    compared, step, whole = entries
    assert (compared.choice, compared.comment) == (Choice.TIE, "alike")
    assert [compared.interaction_id, compared.other_interaction_id] == pair
    assert (step.position, step.label) == (1, -1)
    assert (whole.rating, whole.aspects, whole.comment) == (2, {"tone": 4}, "hm")


def test_filters_find_what_they_say(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        item = make_interaction(db, steps=1, prompt="50% of _ is?").id
        rated = make_feedback(db, item, actor=rater, rating=2)
        make_feedback(db, item, actor=rater, rating=3)
        make_feedback(db, item, actor=rater, step=0, label=1)
        compare(db, *make_completions(db), rater)
        gone = make_feedback(db, make_interaction(db).id, actor=rater)
        withdraw_feedback(db, gone.id, actor=rater)
        later = utcnow() + timedelta(days=1)
        for wanted, num in (
            (HistoryFilter(), 4),
            (HistoryFilter(subject=Subject.COMPLETION), 2),
            (HistoryFilter(subject=Subject.STEP), 1),
            (HistoryFilter(subject=Subject.COMPARISON), 1),
            (HistoryFilter(is_withdrawn=True), 1),
            (HistoryFilter(is_withdrawn=False), 3),
            (HistoryFilter(is_changed=True), 2),
            (HistoryFilter(text="50% of _"), 2),
            (HistoryFilter(text="CAPITAL"), 1),
            (HistoryFilter(text="%"), 2),
            (HistoryFilter(since=later), 0),
            (HistoryFilter(until=later), 4),
        ):
            assert len(list_history(db, actor=rater, wanted=wanted)) == num, wanted
            assert count_history(db, actor=rater, wanted=wanted) == num, wanted
        pages = [list_history(db, actor=rater, limit=3, offset=n)[:1] for n in (0, 3, 4)]
        assert [len(page) for page in pages] == [1, 1, 0]
        assert get_entry(db, rated.id, actor=rater).num_changes == 1
        with pytest.raises(NotFound, match="not yours"):
            get_entry(db, rated.id, actor=make_actor(db))


@only_sqlite
def test_changes_say_who_changed_what(store: Store) -> None:
    with store.writing() as db:
        rater, trainer = make_actor(db), make_actor(db, Role.TRAINER, name="Ada")
        item = make_interaction(db).id
        stored = make_feedback(db, item, actor=rater, rating=2, comment="bad")
        make_feedback(db, item, actor=rater, rating=4, thumb=0)
        undo_last(db, actor=rater)
        withdraw_feedback(db, stored.id, actor=trainer)
        changes = list_changes(db, stored.id, actor=rater)
    assert [(c.by, c.kind, c.is_undo) for c in changes] == [
        (rater.name, None, False),
        (rater.name, RevisionKind.EDIT, False),
        (rater.name, RevisionKind.RESTORE, True),
        ("Ada", RevisionKind.WITHDRAW, False),
    ]
    assert [c.fields for c in changes] == [
        (("rating", None, 2), ("comment", None, "bad")),
        (("rating", 2, 4), ("thumb", None, 0)),
        (("rating", 4, 2), ("thumb", 0, None)),
        (),
    ]


@only_sqlite
def test_choice_is_told_as_seen_from_the_sides_of_now(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db)
        one, other = make_completions(db)
        stored = compare(db, one, other, rater)
        compare(db, other, one, rater)  # the other one now, which stands left
        changes = list_changes(db, stored.id, actor=rater)
    assert [c.fields for c in changes] == [
        (("choice", None, "right"),),
        (("choice", "right", "left"),),
    ]


@only_sqlite
def test_others_are_shown_after_ones_own_rating_only(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, user="kim", steps=2).id
        others = [make_actor(db), make_actor(db)]
        make_feedback(db, item, actor=others[0], rating=1, comment="no", aspects={"tone": 2})
        make_feedback(db, item, actor=others[1], step=0, label=-1)
        make_feedback(db, item, actor=others[1], step=1, label=1)
        make_feedback(db, item, thumb=1, rater_kind="end_user")
        rater = make_actor(db)
        with pytest.raises(Forbidden, match="after your own"):
            list_others(db, item, actor=rater)
        make_feedback(db, item, actor=rater, comment="a mere comment")
        with pytest.raises(Forbidden):
            list_others(db, item, actor=rater)
        make_feedback(db, item, actor=rater, step=0, label=1)
        (labelled,) = list_others(db, item, actor=rater)
        assert labelled.labels == {0: -1}  # not that of the step that is still to be labelled
        mine = make_feedback(db, item, actor=rater, rating=5)
        heard = list_others(db, item, actor=rater)
        assert [one.rating for one in heard] == [1, None, None]
        assert (heard[0].comment, heard[0].aspects) == ("no", {"tone": 2})
        assert heard[2].rater_kind == "end_user"
        user = db.scalars(sa.select(Interaction.user_pseudonym)).one()
        assert user is not None
        assert user not in repr(heard)
        assert all(other.name not in repr(heard) for other in others)
        withdraw_feedback(db, mine.id, actor=rater)
        assert [one.labels for one in list_others(db, item, actor=rater)] == [{0: -1}]


@only_sqlite
def test_others_on_a_pair_are_shown_after_ones_own_choice_only(store: Store) -> None:
    with store.writing() as db:
        one, other = make_completions(db)
        compare(db, other, one, make_actor(db), strength=3)
        compare(db, one, other, SYSTEM, rater="kim", rater_kind="end_user", choice="both_bad")
        rater = make_actor(db)
        with pytest.raises(Forbidden):
            list_others(db, one, actor=rater, other_interaction_id=other)
        compare(db, one, other, rater)
        heard = list_others(db, one, actor=rater, other_interaction_id=other)
    assert [(h.preferred_id, h.choice, h.strength) for h in heard] == [
        (other, Choice.LEFT, 3),
        (None, Choice.BOTH_BAD, None),
    ]
