"""Settling disputes over two completions of one prompt, as `adjudication` does it over one.

The rule by which it counts: in every dataset that is built with `adjudicated_first` (the default),
a standing answer replaces those of the raters, however few; a tie is a tie by the dataset's rule
for ties; a pair that was excluded is left out and counted as such, and is not made of its ratings.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, InvalidInput, NotFound
from rlhf_core.feedback.adjudication import MEANWHILE, check_reason
from rlhf_core.feedback.comparison_tasks import ComparisonTask, get_task
from rlhf_core.feedback.disputed import MAX_OPINIONS, rater_name
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Account, Comparison, Interaction, PairAdjudication, Rater
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import AdjudicationDecision, Choice, RaterKind

TABLE = table_of(PairAdjudication)
ANSWERS = (Choice.LEFT, Choice.RIGHT, Choice.TIE)


@dataclass(frozen=True)
class PairOpinion:
    """What one rater said. `choice` is of the sides as they stand in the dispute's task."""

    name: str
    rater_kind: RaterKind
    said_at: datetime
    occasion: int
    choice: Choice
    strength: int | None
    reason: str | None


@dataclass(frozen=True)
class PairDecision:
    """What an adjudicator decided, of the sides of the task; None: the pair is excluded."""

    id: uuid.UUID
    choice: Choice | None
    reason: str | None
    decided_by: str
    created_at: datetime
    superseded_at: datetime | None


@dataclass(frozen=True)
class PairDispute:
    """Two completions side by side, with all that was said of them and decided on them.

    `decisions` are the newest first; at most the first of them stands.
    """

    task: ComparisonTask
    opinions: tuple[PairOpinion, ...]
    decisions: tuple[PairDecision, ...]

    @property
    def standing(self) -> PairDecision | None:
        """The decision that counts; None where none does."""
        return next((one for one in self.decisions if one.superseded_at is None), None)


def adjudicate_pair(
    db: Session,
    *,
    actor: Actor,
    left_id: uuid.UUID,
    right_id: uuid.UUID,
    choice: Choice | None,
    reason: str,
    replaces: uuid.UUID | None = None,
) -> uuid.UUID:
    """Decide which of two completions is better; None excludes the pair. Returns its id.

    `replaces` is the standing decision that the actor saw, if there was one.

    Raises:
        NotFound: one of the two does not exist, or not any more.
        InvalidInput: the answer is none, the reason is missing, or nobody compared the two.
        Conflict: another decision stands than the one to be replaced.
    """
    require(actor, Permission.ADJUDICATE)
    reason = check_reason(reason)
    if choice is not None and choice not in ANSWERS:
        raise InvalidInput("Choose left, right or a tie, or exclude the pair.", field="choice")
    first, second = sorted((left_id, right_id))
    _lock(db, first, second)
    if choice is not None:
        _require_compared(db, first, second)
    _supersede(db, first, second, replaces)
    excluded = choice is None
    row = {
        "id": new_id(),
        "first_interaction_id": first,
        "second_interaction_id": second,
        "adjudicator_id": actor.account_id,
        "decision": AdjudicationDecision.EXCLUDED if excluded else AdjudicationDecision.RESOLVED,
        "choice": None if choice is None else _turn(choice, first != left_id),
        "reason": reason,
        "created_at": utcnow(),
    }
    db.execute(sa.insert(TABLE), row)
    _record(db, actor, "decide", row["id"], first, second)
    return uuid.UUID(str(row["id"]))


def withdraw_pair_adjudication(db: Session, decision_id: uuid.UUID, *, actor: Actor) -> None:
    """Take a standing decision back: the raters' answers count again. It stays in the history.

    Raises:
        NotFound: no such decision.
        Conflict: it does not stand any more.
    """
    require(actor, Permission.ADJUDICATE)
    row = db.get(PairAdjudication, decision_id)
    if row is None:
        raise NotFound(f"There is no decision {decision_id}; its pair may have been erased.")
    first, second = row.first_interaction_id, row.second_interaction_id
    _supersede(db, first, second, decision_id)
    _record(db, actor, "withdraw", decision_id, first, second)


def get_pair_dispute(
    db: Session, one_id: uuid.UUID, other_id: uuid.UUID, *, actor: Actor
) -> PairDispute:
    """The two completions, blind to the models, what everybody says of them, what was decided.

    Raises:
        NotFound: one of the two does not exist, or not any more.
    """
    require(actor, Permission.ADJUDICATE)
    task = get_task(db, (one_id, other_id), actor=actor)
    return PairDispute(task, tuple(_list_opinions(db, task)), tuple(_list_decisions(db, task)))


def _list_opinions(db: Session, task: ComparisonTask) -> list[PairOpinion]:
    left, right = task.shown_ids
    rows = db.execute(
        sa.select(
            Comparison.left_interaction_id, Comparison.choice, Comparison.strength,
            Comparison.reason, Comparison.occasion, Comparison.created_at, Rater.pseudonym,
            Rater.rater_kind, Account.name,
        )
        .join(Rater, Rater.id == Comparison.rater_id)
        .outerjoin(Account, Account.id == Rater.account_id)
        .where(
            Comparison.left_interaction_id.in_((left, right)),
            Comparison.right_interaction_id.in_((left, right)),
            Comparison.withdrawn_at.is_(None),
        )
        .order_by(Comparison.created_at, Comparison.id)
        .limit(MAX_OPINIONS)
    )  # fmt: skip
    return [
        PairOpinion(
            name=rater_name(row),
            rater_kind=row.rater_kind,
            said_at=row.created_at,
            occasion=row.occasion,
            choice=_turn(row.choice, row.left_interaction_id != left),
            strength=row.strength,
            reason=row.reason,
        )
        for row in rows
    ]


def _list_decisions(db: Session, task: ComparisonTask) -> list[PairDecision]:
    first, second = sorted(task.shown_ids)
    is_turned = task.shown_ids[0] != first
    rows = db.execute(
        sa.select(PairAdjudication, Account.name)
        .outerjoin(Account, Account.id == PairAdjudication.adjudicator_id)
        .where(*_of_pair(first, second))
        .order_by(PairAdjudication.created_at.desc(), PairAdjudication.id.desc())
    )
    return [
        PairDecision(
            id=row.id,
            choice=None if row.choice is None else _turn(row.choice, is_turned),
            reason=row.reason,
            decided_by=name or "the machine's owner",
            created_at=row.created_at,
            superseded_at=row.superseded_at,
        )
        for row, name in rows
    ]


def _turn(choice: Choice, is_turned: bool) -> Choice:
    """The choice with the sides changed."""
    if is_turned and choice is Choice.LEFT:
        return Choice.RIGHT
    if is_turned and choice is Choice.RIGHT:
        return Choice.LEFT
    return choice


def _of_pair(first: uuid.UUID, second: uuid.UUID) -> list[sa.ColumnElement[bool]]:
    return [TABLE.c.first_interaction_id == first, TABLE.c.second_interaction_id == second]


def _lock(db: Session, first: uuid.UUID, second: uuid.UUID) -> None:
    """Both exist; two who decide on them at once wait for each other."""
    for own in (first, second):  # in the order of their ids, so that nobody waits in a circle
        query = sa.select(Interaction.id).where(Interaction.id == own).with_for_update()
        if db.scalar(query) is None:
            raise NotFound(f"There is no interaction {own}; it may have been erased.")


def _require_compared(db: Session, first: uuid.UUID, second: uuid.UUID) -> None:
    said = sa.select(Comparison.id).where(
        Comparison.left_interaction_id.in_((first, second)),
        Comparison.right_interaction_id.in_((first, second)),
        Comparison.withdrawn_at.is_(None),
    )
    if db.scalar(said.limit(1)) is None:
        raise InvalidInput("Nobody compared the two, so there is nothing to decide: compare them.")


def _supersede(
    db: Session, first: uuid.UUID, second: uuid.UUID, replaces: uuid.UUID | None
) -> None:
    """End the standing decision, which must be `replaces`; none where that is None."""
    stands = [*_of_pair(first, second), TABLE.c.superseded_at.is_(None)]
    if replaces is None:
        if db.scalar(sa.select(sa.exists().where(*stands))):
            raise Conflict(MEANWHILE)
        return
    end = sa.update(TABLE).where(*stands, TABLE.c.id == replaces).values(superseded_at=utcnow())
    if not changed_rows(db.execute(end)):
        raise Conflict(MEANWHILE)


def _record(
    db: Session, actor: Actor, deed: str, decision_id: Any, first: uuid.UUID, second: uuid.UUID
) -> None:
    record_event(
        db, actor=actor, action=f"adjudication.{deed}", target_kind="interaction",
        target_id=first, details={"decision_id": str(decision_id), "other_id": str(second)},
    )  # fmt: skip
