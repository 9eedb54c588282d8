"""What a queue may be made of: each refusal is one sentence."""

import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.queues.views import ChosenItem
from rlhf_core.store.bulk import in_slices
from rlhf_core.store.tables import Account, Interaction, ReasoningStep
from rlhf_core.vocabulary import QueueSubject

MAX_NAME_CHARS = 200
MAX_ITEMS = 10_000
MAX_OVERLAP = 100
MAX_ASPECTS = 10
MAX_ASPECT_CHARS = 100
MAX_CONTROL_RATE = 0.5
LEASE_RANGE_S = (60, 86_400)


def check_name(name: str) -> str:
    """The name without white space around it."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise InvalidInput(
            f"A queue needs a name of 1 to {MAX_NAME_CHARS} printable characters.", field="name"
        )
    return name


def check_aspects(aspects: Sequence[str] | None) -> tuple[str, ...] | None:
    """The aspects, each once, in their order; None stays None."""
    if aspects is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in aspects))
    for name in names:
        if not name or len(name) > MAX_ASPECT_CHARS or not name.isprintable():
            raise InvalidInput(
                f"aspect {name[:40]!r}: use 1 to {MAX_ASPECT_CHARS} printable characters.",
                field="aspects",
            )
    if len(names) > MAX_ASPECTS:
        raise InvalidInput(
            f"{len(names)} aspects are too many: choose up to {MAX_ASPECTS}.", field="aspects"
        )
    return names


def check_numbers(*, overlap: int, gold_rate: float, repeat_rate: float, lease_s: int) -> None:
    """The numbers of a queue are in their ranges."""
    if not 1 <= overlap <= MAX_OVERLAP:
        raise InvalidInput(f"overlap {overlap}: choose 1 to {MAX_OVERLAP}.", field="overlap")
    for field, rate in (("gold_rate", gold_rate), ("repeat_rate", repeat_rate)):
        if not 0 <= rate <= MAX_CONTROL_RATE:
            raise InvalidInput(f"{field} {rate}: choose 0 to {MAX_CONTROL_RATE}.", field=field)
    if gold_rate + repeat_rate > MAX_CONTROL_RATE:
        raise InvalidInput(
            "Known answers and repeats together are more than half of the queue: ask for fewer.",
            field="gold_rate",
        )
    low, high = LEASE_RANGE_S
    if not low <= lease_s <= high:
        raise InvalidInput(f"lease_s {lease_s}: choose {low} to {high} seconds.", field="lease_s")


def check_items(
    db: Session,
    subject: QueueSubject,
    interaction_ids: Sequence[uuid.UUID],
    pairs: Sequence[tuple[uuid.UUID, uuid.UUID]],
    items: Sequence[ChosenItem],
) -> list[ChosenItem]:
    """The items of a queue, each once, a pair with the lower id first."""
    is_of_pairs = subject is QueueSubject.COMPARISONS
    given = [ChosenItem(one) for one in interaction_ids]
    given += [ChosenItem(min(pair), max(pair)) for pair in pairs]
    given += items
    once = {(item.interaction_id, item.other_interaction_id, item.kind): item for item in given}
    chosen = list(once.values())
    if not 1 <= len(chosen) <= MAX_ITEMS:
        raise InvalidInput(
            f"A queue needs 1 to {MAX_ITEMS:,} items, not {len(chosen):,}.", field="interaction_ids"
        )
    if any((item.other_interaction_id is not None) != is_of_pairs for item in chosen):
        raise InvalidInput(
            "A queue of comparisons is made of pairs, and any other of single interactions.",
            field="pairs",
        )
    if is_of_pairs:
        _check_pairs(db, chosen)
    elif subject is QueueSubject.STEPS:
        _check_steps(db, [item.interaction_id for item in chosen])
    return chosen


def check_assignees(db: Session, account_ids: Sequence[uuid.UUID]) -> None:
    """All are accounts that can sign in."""
    wanted = set(account_ids)
    known = db.scalars(
        sa.select(Account.id).where(Account.id.in_(wanted), Account.disabled_at.is_(None))
    ).all()
    if len(known) < len(wanted):
        raise NotFound("An assignee has no account, or it is disabled: choose again.")


def _check_pairs(db: Session, chosen: Sequence[ChosenItem]) -> None:
    """Both of each pair answer the same prompt."""
    if any(item.interaction_id == item.other_interaction_id for item in chosen):
        raise InvalidInput("A pair is of two different interactions.", field="pairs")
    hashes: dict[uuid.UUID | None, str] = {}
    sides = [(item.interaction_id, item.other_interaction_id) for item in chosen]
    for part in in_slices({one for pair in sides for one in pair}):
        query = sa.select(Interaction.id, Interaction.prompt_hash).where(Interaction.id.in_(part))
        hashes.update((row.id, row.prompt_hash) for row in db.execute(query))
    for one, other in sides:
        if one not in hashes or other not in hashes:
            raise NotFound("An item of the queue was deleted meanwhile: look again.")
        if hashes[one] != hashes[other]:
            raise InvalidInput(
                f"A pair is of two answers to one prompt, which {one} and {other} are not.",
                field="pairs",
            )


def _check_steps(db: Session, ids: Sequence[uuid.UUID]) -> None:
    """All have reasoning steps to label."""
    with_steps: set[uuid.UUID] = set()
    for part in in_slices(ids):
        query = sa.select(ReasoningStep.interaction_id).where(
            ReasoningStep.interaction_id.in_(part)
        )
        with_steps.update(db.scalars(query.distinct()))
    missing = len(set(ids) - with_steps)
    if missing:
        raise InvalidInput(
            f"{missing:,} of the items have no reasoning steps to label: leave them out.",
            field="interaction_ids",
        )
