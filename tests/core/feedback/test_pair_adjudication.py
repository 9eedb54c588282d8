import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.analytics.pair_disputes import count_pair_disputes, list_pair_disputes
from rlhf_core.analytics.scope import Scope
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.feedback.pair_adjudication import (
    adjudicate_pair,
    get_pair_dispute,
    withdraw_pair_adjudication,
)
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Interaction, PairAdjudication
from rlhf_core.vocabulary import Choice, RaterKind, Role
from tests.builders import make_actor
from tests.core.feedback.pairs import compare, make_completions
from tests.databases import only_sqlite


def make_dispute(db: Session, prompt: str = "Which?", raters: int = 1) -> list[uuid.UUID]:
    one, other = make_completions(db, prompt=prompt)
    for _ in range(raters):
        compare(db, one, other, make_actor(db))
        compare(db, other, one, make_actor(db), strength=3)
    return [one, other]


def decide(
    db: Session, pair: list[uuid.UUID], choice: Choice | None, actor: Actor = SYSTEM, **more: object
) -> uuid.UUID:
    return adjudicate_pair(
        db, actor=actor, left_id=pair[0], right_id=pair[1], choice=choice, reason="So.", **more
    )  # type: ignore[arg-type]


def test_evenly_split_pairs_are_listed_until_they_are_decided(store: Store) -> None:
    with store.writing() as db:
        pair, loud = make_dispute(db), make_dispute(db, "What?", raters=2)
        leaning = make_dispute(db, "Who?")
        compare(db, *leaning, make_actor(db))
        alone = make_completions(db, prompt="Where?")
        compare(db, alone[0], alone[1], make_actor(db))
        compare(db, alone[0], alone[1], make_actor(db), choice="tie")
        ann = make_actor(db, Role.ANALYST)
        page = list_pair_disputes(db, actor=ann)
        assert [([one.first_id, one.second_id], one.num_each) for one in page.items] == [
            (loud, 2),
            (pair, 1),
        ]
        assert page.items[1].first == "Answer 0 to Which?"
        assert (page.num_all, count_pair_disputes(db, actor=ann)) == (2, 2)
        assert list_pair_disputes(db, actor=ann, scope=Scope(source="none")).items == ()
        decision = decide(db, pair[::-1], Choice.RIGHT, ann)
        assert count_pair_disputes(db, actor=ann) == 1
        (decided,) = list_pair_disputes(db, actor=ann, is_decided=True).items
        assert (decided.choice, decided.decided_by) == (Choice.LEFT, ann.name)
        withdraw_pair_adjudication(db, decision, actor=ann)
        assert count_pair_disputes(db, actor=ann) == 2
        assert list_pair_disputes(db, actor=ann, is_decided=True).num_all == 0
        deeds = set(db.scalars(sa.select(AuditEvent.action)))
    assert {"adjudication.decide", "adjudication.withdraw"} <= deeds


def test_of_two_who_decide_at_once_the_second_is_told(store: Store) -> None:
    with store.writing() as db:
        pair = make_dispute(db)
        first = decide(db, pair, Choice.LEFT)
        with pytest.raises(Conflict):
            decide(db, pair, Choice.TIE)
        second = decide(db, pair, None, replaces=first)
        with pytest.raises(Conflict):
            withdraw_pair_adjudication(db, first, actor=SYSTEM)
        stands = sa.select(PairAdjudication.id).where(PairAdjudication.superseded_at.is_(None))
        assert list(db.scalars(stands)) == [second]
        db.execute(sa.delete(Interaction).where(Interaction.id == pair[0]))
        assert list(db.scalars(stands)) == []


@only_sqlite
def test_choices_and_decisions_are_told_as_the_sides_stand_on_screen(store: Store) -> None:
    with store.writing() as db:
        ann, ben, chief = make_actor(db), make_actor(db), make_actor(db, Role.ANALYST)
        one, other = make_completions(db)
        compare(db, one, other, ann, choice="left", reason="Shorter.")
        compare(db, other, one, ben, choice="left", strength=2)
        compare(db, one, other, SYSTEM, choice="right", rater="kim",
                rater_kind=RaterKind.END_USER)  # fmt: skip
        decide(db, [one, other], Choice.LEFT, chief)
        found = get_pair_dispute(db, one, other, actor=chief)
        for_one = Choice.LEFT if found.task.shown_ids[0] == one else Choice.RIGHT
        for_other = Choice.RIGHT if for_one is Choice.LEFT else Choice.LEFT
        said = [(each.name, each.choice, each.reason) for each in found.opinions]
        assert said == [
            (ann.name, for_one, "Shorter."),
            (ben.name, for_other, None),
            ("an end user", for_other, None),
        ]
        assert found.standing is not None
        assert (found.standing.choice, found.standing.decided_by) == (for_one, chief.name)


@only_sqlite
def test_what_cannot_be_decided_is_refused_with_a_sentence(store: Store) -> None:
    with store.writing() as db:
        pair, quiet = make_dispute(db), make_completions(db, prompt="Quiet?")
        with pytest.raises(InvalidInput, match="Nobody compared"):
            decide(db, quiet, Choice.LEFT)
        with pytest.raises(InvalidInput, match="left, right or a tie"):
            decide(db, pair, Choice.BOTH_BAD)
        with pytest.raises(InvalidInput, match="reason"):
            adjudicate_pair(db, actor=SYSTEM, left_id=pair[0], right_id=pair[1],
                            choice=Choice.TIE, reason=" ")  # fmt: skip
        with pytest.raises(NotFound):
            decide(db, [pair[0], uuid.uuid4()], Choice.LEFT)
        with pytest.raises(NotFound):
            withdraw_pair_adjudication(db, uuid.uuid4(), actor=SYSTEM)
        rater = make_actor(db)
        for refused in (
            lambda: decide(db, pair, Choice.LEFT, rater),
            lambda: list_pair_disputes(db, actor=rater),
            lambda: get_pair_dispute(db, *pair, actor=rater),
        ):
            with pytest.raises(Forbidden):
                refused()
