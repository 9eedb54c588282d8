"""Settling disputes: a named person's answer, with a reason, in place of the raters'.

The rule by which it counts: in every dataset that is built with `adjudicated_first` (the default),
a standing answer replaces those of the raters, whatever they are and however few; what was excluded
is left out and counted as such, a step that was excluded (or is neither good nor wrong) has no
label. Without an adjudicator's answer the dataset's own rules for merging and for disputes apply.
"""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, InvalidInput, NotFound, TooLarge
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Adjudication, Feedback, Interaction, RatingQueue, ReasoningStep
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import AdjudicationDecision

MAX_REASON_CHARS = 2_000
MEANWHILE = (
    "Somebody else decided this meanwhile: look at their answer, and decide again if needed."
)
TABLE = table_of(Adjudication)


@dataclass(frozen=True)
class _Answer:
    decision: AdjudicationDecision
    rating: int | None
    thumb: int | None
    label: int | None
    reason: str


def adjudicate(
    db: Session,
    *,
    actor: Actor,
    interaction_id: uuid.UUID,
    step_id: uuid.UUID | None = None,
    queue_id: uuid.UUID | None = None,
    decision: AdjudicationDecision,
    rating: int | None = None,
    thumb: int | None = None,
    label: int | None = None,
    reason: str,
    replaces: uuid.UUID | None = None,
) -> uuid.UUID:
    """Decide on a completion, or with `step_id` on one of its steps. Returns the decision's id.

    RESOLVED takes the right answer: a `rating` (1 to 5), a `thumb` (1 or -1) or both of a
    completion, the `label` (1, 0, -1) of a step. EXCLUDED takes none: the thing goes into no
    dataset. `replaces` is the standing decision that the actor saw, if there was one: it stays in
    the history.

    Raises:
        NotFound: the interaction, the step or the queue does not exist, or not any more.
        InvalidInput: the answer does not fit, the reason is missing, or nobody rated the thing.
        Conflict: another decision stands than the one to be replaced.
    """
    require(actor, Permission.ADJUDICATE)
    answer = _Answer(decision, rating, thumb, label, check_reason(reason))
    _check_answer(answer, is_step=step_id is not None)
    _lock_target(db, interaction_id, step_id)
    if queue_id is not None and db.get(RatingQueue, queue_id) is None:
        raise NotFound(f"There is no rating queue {queue_id}.")
    if decision is AdjudicationDecision.RESOLVED:
        _require_rated(db, interaction_id, step_id)
    _supersede(db, interaction_id, step_id, replaces)
    decision_id = new_id()
    db.execute(
        sa.insert(TABLE),
        {
            "id": decision_id,
            "interaction_id": interaction_id,
            "step_id": step_id,
            "queue_id": queue_id,
            "adjudicator_id": actor.account_id,
            "decision": decision,
            "rating": rating,
            "thumb": thumb,
            "label": label,
            "reason": answer.reason,
            "created_at": utcnow(),
        },
    )
    earlier = None if replaces is None else str(replaces)
    _record(
        db, actor, "decide", decision_id, interaction_id, step_id,
        decision=decision.value, replaces=earlier,
    )  # fmt: skip
    return decision_id


def withdraw_adjudication(db: Session, decision_id: uuid.UUID, *, actor: Actor) -> None:
    """Take a standing decision back: the raters' answers count again. It stays in the history.

    Raises:
        NotFound: no such decision.
        Conflict: it does not stand any more.
    """
    require(actor, Permission.ADJUDICATE)
    row = db.get(Adjudication, decision_id)
    if row is None:
        raise NotFound(f"There is no decision {decision_id}; its item may have been erased.")
    _supersede(db, row.interaction_id, row.step_id, decision_id)
    _record(db, actor, "withdraw", decision_id, row.interaction_id, row.step_id)


def check_reason(reason: str) -> str:
    """The reason as it is kept.

    Raises:
        InvalidInput: there is none, it is too long, or it holds a broken character.
    """
    reason = reason.strip()
    if not reason:
        raise InvalidInput("Give a reason: it is kept with the decision.", field="reason")
    if len(reason) > MAX_REASON_CHARS:
        raise TooLarge(
            f"The reason has {len(reason):,} characters: shorten it to {MAX_REASON_CHARS:,}.",
            field="reason",
        )
    if "\0" in reason or any("\ud800" <= char <= "\udfff" for char in reason):
        raise InvalidInput("The reason holds a broken character: type it anew.", field="reason")
    return reason


def _check_answer(answer: _Answer, *, is_step: bool) -> None:
    given = {
        name: value
        for name in ("rating", "thumb", "label")
        if (value := getattr(answer, name)) is not None
    }
    if answer.decision is AdjudicationDecision.EXCLUDED:
        if given:
            raise InvalidInput(f"{', '.join(given)}: what is excluded has no answer; give none.")
        return
    ranges = {"label": (-1, 0, 1)} if is_step else {"rating": (1, 2, 3, 4, 5), "thumb": (-1, 1)}
    for name, value in given.items():
        if name not in ranges:
            wanted = "the label of a step" if is_step else "a rating or a thumb"
            raise InvalidInput(f"{name} {value}: give {wanted}.", field=name)
        if value not in ranges[name]:
            choices = ", ".join(map(str, ranges[name]))
            raise InvalidInput(f"{name} {value}: choose from {choices}.", field=name)
    if not given:
        raise InvalidInput(
            "Give the right label: 1, 0 or -1." if is_step else "Give the right rating or thumb."
        )


def _lock_target(db: Session, interaction_id: uuid.UUID, step_id: uuid.UUID | None) -> None:
    """The thing exists; two who decide on it at once wait for each other."""
    own = sa.select(Interaction.id).where(Interaction.id == interaction_id).with_for_update()
    if db.scalar(own) is None:
        raise NotFound(f"There is no interaction {interaction_id}; it may have been erased.")
    if step_id is not None:
        step = sa.select(ReasoningStep.id).where(
            ReasoningStep.id == step_id, ReasoningStep.interaction_id == interaction_id
        )
        if db.scalar(step) is None:
            raise NotFound(f"Interaction {interaction_id} has no step {step_id}.")


def _require_rated(db: Session, interaction_id: uuid.UUID, step_id: uuid.UUID | None) -> None:
    """Datasets are made of what people said: an answer to what nobody rated would be lost."""
    said = sa.select(Feedback.id).where(
        Feedback.interaction_id == interaction_id,
        Feedback.step_id.is_not_distinct_from(step_id),
        Feedback.withdrawn_at.is_(None),
    )
    if db.scalar(said.limit(1)) is None:
        raise InvalidInput("Nobody rated it, so there is nothing to decide: rate it instead.")


def _supersede(
    db: Session, interaction_id: uuid.UUID, step_id: uuid.UUID | None, replaces: uuid.UUID | None
) -> None:
    """End the standing decision, which must be `replaces`; none where that is None."""
    stands = [
        TABLE.c.interaction_id == interaction_id,
        TABLE.c.step_id.is_not_distinct_from(step_id),
        TABLE.c.superseded_at.is_(None),
    ]
    if replaces is None:
        if db.scalar(sa.select(sa.exists().where(*stands))):
            raise Conflict(MEANWHILE)
        return
    end = sa.update(TABLE).where(*stands, TABLE.c.id == replaces).values(superseded_at=utcnow())
    if not changed_rows(db.execute(end)):
        raise Conflict(MEANWHILE)


def _record(
    db: Session,
    actor: Actor,
    deed: str,
    decision_id: uuid.UUID,
    interaction_id: uuid.UUID,
    step_id: uuid.UUID | None,
    **more: str | None,
) -> None:
    details = {
        "decision_id": str(decision_id),
        "step_id": str(step_id) if step_id else None,
        **more,
    }
    record_event(
        db, actor=actor, action=f"adjudication.{deed}", target_kind="interaction",
        target_id=interaction_id,
        details={name: value for name, value in details.items() if value is not None},
    )  # fmt: skip
