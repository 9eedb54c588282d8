"""What a rater compares next: completions of one prompt, in an order that chance decided.

The sides are shuffled by a seed that follows from rater, completions and occasion: a reload shows
them alike, another rater sees them otherwise. It is stored with the comparison.

Prompts are walked through in the order of their hashes, which has nothing to do with what they say.
"""

import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.feedback.comparison_changes import COMPARISON, read_content
from rlhf_core.feedback.comparison_reasons import find_unsent_reason
from rlhf_core.feedback.comparisons import MAX_SIDES, list_own
from rlhf_core.feedback.raters import account_pseudonym, find_rater
from rlhf_core.store.queries.answers import is_whole
from rlhf_core.store.tables import Interaction, ReasoningStep
from rlhf_core.vocabulary import Choice

PROMPTS_A_WINDOW = 100
MEMBERS_READ = 50  # of one prompt, and as many that the rater compared
GROUPS_A_READ = 20
NOBODY = uuid.UUID(int=0)
LEFT, RIGHT = COMPARISON.c.left_interaction_id, COMPARISON.c.right_interaction_id


@dataclass(frozen=True)
class Side:
    """One of the completions. `steps` are (kind, content); a hidden `model_name` is None."""

    interaction_id: uuid.UUID
    completion: str
    action_type: str | None
    action_data: dict[str, Any] | None
    steps: tuple[tuple[str | None, str], ...]
    model_name: str | None


@dataclass(frozen=True)
class MyComparison:
    """What the asking rater said before. `best_id` None: it was a tie, or all are bad."""

    best_id: uuid.UUID | None
    choice: Choice
    strength: int | None
    reason: str | None


@dataclass(frozen=True)
class ComparisonTask:
    """Two to four completions of one prompt, as they are to be shown from the left.

    `context` are the earlier messages: (role, content). `side_seed` decided the order.
    `unsent_reason` is what the rater typed and did not send.
    """

    prompt: str
    context: tuple[tuple[str, str], ...]
    sides: tuple[Side, ...]
    side_seed: int
    occasion: int
    is_blind: bool
    is_demo: bool
    mine: MyComparison | None
    unsent_reason: str | None = None

    @property
    def shown_ids(self) -> tuple[uuid.UUID, ...]:
        """The completions from the left."""
        return tuple(side.interaction_id for side in self.sides)


def next_to_compare(
    db: Session, *, actor: Actor, after: Sequence[uuid.UUID] | None = None, most: int = 2
) -> ComparisonTask | None:
    """What the actor compares next, at most `most` completions; None where nothing is left.

    Every completion that shares its prompt and context with another one is compared once at least.
    Looked for is from the prompt of `after` on (which itself is passed over), else of the actor's
    last comparison; among the next hundred prompts first those that others compared least. Of a
    prompt with more than `MEMBERS_READ` completions left, so many neighbours are looked at, from a
    place left to chance.
    """
    require(actor, Permission.RATE)
    if not 2 <= most <= MAX_SIDES:
        raise InvalidInput(f"Compare two to {MAX_SIDES} completions at once.", field="most")
    rater_id = find_rater(db, actor=actor) or NOBODY
    here = after[0] if after else _find_last(db, rater_id)
    start = "" if here is None else _prompt_hash_of(db, here)
    for first, last in ((start, None), ("", start)):
        for window in _windows(db, first, last):
            found = _find_in_window(db, window, rater_id, frozenset(after or ()), most)
            if found is not None:
                return get_task(db, found, actor=actor)
    return None


def get_task(
    db: Session,
    interaction_ids: Sequence[uuid.UUID],
    *,
    actor: Actor,
    occasion: int = 0,
    is_blind: bool = True,
) -> ComparisonTask:
    """These completions as the actor compares them.

    Raises:
        NotFound: one of them does not exist.
        InvalidInput: they are too few or too many, or answer different prompts.
    """
    require(actor, Permission.RATE)
    ids = sorted(set(interaction_ids))
    if not 2 <= len(ids) <= MAX_SIDES:
        raise InvalidInput(f"Compare two to {MAX_SIDES} different completions.")
    rows = {
        row.id: row for row in db.scalars(sa.select(Interaction).where(Interaction.id.in_(ids)))
    }
    if len(rows) < len(ids):
        raise NotFound("One of these completions does not exist any more; go on to the next ones.")
    first = rows[ids[0]]
    if len({(row.prompt_hash, repr(row.context or [])) for row in rows.values()}) > 1:
        raise InvalidInput("These completions answer different prompts: they cannot be compared.")
    seed = draw_seed(account_pseudonym(actor), ids, occasion)
    shown = list(ids)
    random.Random(seed).shuffle(shown)
    steps = _load_steps(db, ids)
    rater_id = find_rater(db, actor=actor) or NOBODY
    return ComparisonTask(
        prompt=first.prompt,
        context=tuple((turn["role"], turn["content"]) for turn in first.context or ()),
        sides=tuple(_side(rows[one], steps.get(one, ()), is_blind) for one in shown),
        side_seed=seed,
        occasion=occasion,
        is_blind=is_blind,
        is_demo=first.is_demo,
        mine=_find_mine(db, ids, rater_id, occasion),
        unsent_reason=find_unsent_reason(db, ids, rater_id),
    )


def find_compared_before(
    db: Session, *, actor: Actor, before: Sequence[uuid.UUID] | None = None
) -> tuple[uuid.UUID, ...] | None:
    """The completions that the actor compared last, or before those of `before`."""
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor) or NOBODY
    own = sa.and_(COMPARISON.c.rater_id == rater_id, COMPARISON.c.withdrawn_at.is_(None))
    made_at = None
    if before:
        made_at = db.scalar(
            sa.select(sa.func.min(COMPARISON.c.created_at)).where(
                own, LEFT.in_(before), RIGHT.in_(before)
            )
        )
    query = sa.select(LEFT, RIGHT, COMPARISON.c.created_at).where(own)
    if made_at is not None:
        query = query.where(COMPARISON.c.created_at < made_at)
    latest = db.execute(query.order_by(COMPARISON.c.created_at.desc()).limit(1)).one_or_none()
    if latest is None:
        return None
    together = db.execute(
        sa.select(LEFT, RIGHT).where(own, COMPARISON.c.created_at == latest.created_at)
    )
    return tuple(sorted({one for row in together for one in row}))


def count_compared(db: Session, *, actor: Actor) -> int:
    """How many comparisons of the actor stand."""
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    if rater_id is None:
        return 0
    query = sa.select(sa.func.count()).where(
        COMPARISON.c.rater_id == rater_id, COMPARISON.c.withdrawn_at.is_(None)
    )
    return db.scalar(query) or 0


def draw_seed(rater: str, interaction_ids: Sequence[uuid.UUID], occasion: int) -> int:
    """A number of 32 bits that decides the order of the sides."""
    digest = blake2b(f"{rater}/{occasion}".encode(), digest_size=4)
    for one in sorted(interaction_ids):
        digest.update(one.bytes)
    return int.from_bytes(digest.digest())


def _find_mine(
    db: Session, ids: Sequence[uuid.UUID], rater_id: uuid.UUID, occasion: int
) -> MyComparison | None:
    said = [read_content(r) for r in list_own(db, ids, rater_id=rater_id, occasion=occasion)]
    if not said:
        return None
    best = Counter(one.preferred_id for one in said).most_common(1)[0][0]
    latest = said[0]
    return MyComparison(best, latest.choice, latest.strength, latest.reason)


def _side(row: Interaction, steps: Sequence[tuple[str | None, str]], is_blind: bool) -> Side:
    return Side(
        interaction_id=row.id,
        completion=row.completion,
        action_type=row.action_type,
        action_data=row.action_data,
        steps=tuple(steps),
        model_name=None if is_blind else row.model_name,
    )


def _load_steps(
    db: Session, ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, list[tuple[str | None, str]]]:
    found: dict[uuid.UUID, list[tuple[str | None, str]]] = {}
    for row in db.execute(
        sa.select(ReasoningStep.interaction_id, ReasoningStep.kind, ReasoningStep.content)
        .where(ReasoningStep.interaction_id.in_(ids))
        .order_by(ReasoningStep.interaction_id, ReasoningStep.position)
    ):
        found.setdefault(row.interaction_id, []).append((row.kind, row.content))
    return found


def _find_last(db: Session, rater_id: uuid.UUID) -> uuid.UUID | None:
    return db.scalar(
        sa.select(LEFT)
        .where(COMPARISON.c.rater_id == rater_id)
        .order_by(COMPARISON.c.created_at.desc())
        .limit(1)
    )


def _prompt_hash_of(db: Session, interaction_id: uuid.UUID) -> str:
    query = sa.select(Interaction.prompt_hash).where(Interaction.id == interaction_id)
    return db.scalar(query) or ""


def _windows(db: Session, first: str, last: str | None) -> Iterator[dict[str, int]]:
    """Prompts with several interactions by hash, and how many, from `first` to `last` (with)."""
    start = first
    while True:
        query = sa.select(Interaction.prompt_hash, sa.func.count()).where(
            Interaction.prompt_hash >= start
        )
        if last is not None:
            query = query.where(Interaction.prompt_hash <= last)
        rows = db.execute(
            query.group_by(Interaction.prompt_hash)
            .having(sa.func.count() > 1)
            .order_by(Interaction.prompt_hash)
            .limit(PROMPTS_A_WINDOW)
        )
        window = {prompt: number for prompt, number in rows}
        if not window:
            return
        yield window
        start = f"{[*window][-1]}0"  # right behind it: all hashes are of one length


def _find_in_window(
    db: Session,
    window: Mapping[str, int],
    rater_id: uuid.UUID,
    skip: frozenset[uuid.UUID],
    most: int,
) -> list[uuid.UUID] | None:
    """The completions to compare, of the prompt that others compared least."""
    mine = _find_compared(db, window, rater_id)
    by_group: dict[tuple[str, str], list[uuid.UUID]] = {}
    for row in _read_members(db, window, mine):
        by_group.setdefault((row.prompt_hash, repr(row.context or [])), []).append(row.id)
    groups = [group for group in by_group.values() if len(group) > 1]
    unfinished = [group for group in groups if not mine.keys() >= set(group)]
    times = _count_comparisons(db, [one for group in unfinished for one in group])
    unfinished.sort(key=lambda group: sum(times[one] for one in group) / len(group))
    for start in range(0, len(unfinished), GROUPS_A_READ):
        read = unfinished[start : start + GROUPS_A_READ]
        texts = _read_texts(db, [one for group in read for one in group])
        for group in read:
            chosen = _choose(group, texts, times, mine, most)
            if chosen and not (skip and skip.issuperset(chosen)):
                return chosen
    return None


def _find_compared(
    db: Session, window: Mapping[str, int], rater_id: uuid.UUID
) -> dict[uuid.UUID, str]:
    """The completions of these prompts that the rater compared, and their prompts."""
    rows = db.execute(
        sa.select(LEFT.label("left"), RIGHT.label("right"), Interaction.prompt_hash)
        .join(Interaction, Interaction.id == LEFT)
        .where(
            COMPARISON.c.rater_id == rater_id,
            COMPARISON.c.occasion == 0,
            COMPARISON.c.withdrawn_at.is_(None),
            Interaction.prompt_hash.in_(window),
        )
    )
    return {one: row.prompt_hash for row in rows for one in (row.left, row.right)}


def _read_members(
    db: Session, window: Mapping[str, int], mine: Mapping[uuid.UUID, str]
) -> list[Any]:
    """The completions of the prompts, of those with very many a part; rows without their texts."""
    query = sa.select(Interaction.id, Interaction.prompt_hash, Interaction.context)
    small = [prompt for prompt, number in window.items() if number <= MEMBERS_READ]
    rows = list(db.execute(query.where(Interaction.prompt_hash.in_(small))))
    for prompt in window.keys() - set(small):
        compared = [one for one, of in mine.items() if of == prompt]
        num_left_out = window[prompt] - len(compared) - MEMBERS_READ
        rows += db.execute(  # in no order: sorting would read all of them
            query.where(Interaction.prompt_hash == prompt, Interaction.id.not_in(compared))
            .offset(random.randint(0, max(0, num_left_out)))
            .limit(MEMBERS_READ)
        )
        rows += db.execute(query.where(Interaction.id.in_(compared[-MEMBERS_READ:])))
    return sorted(rows, key=lambda row: (row.prompt_hash, row.id))


def _count_comparisons(db: Session, ids: Sequence[uuid.UUID]) -> Counter[uuid.UUID]:
    """How often each of these completions was compared, by all raters."""
    times: Counter[uuid.UUID] = Counter()
    for side in (LEFT, RIGHT):
        for one, number in db.execute(
            sa.select(side, sa.func.count())
            .where(side.in_(ids), COMPARISON.c.occasion == 0, COMPARISON.c.withdrawn_at.is_(None))
            .group_by(side)
        ):
            times[one] += number
    return times


def _read_texts(db: Session, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The texts of those that have come to their end."""
    query = sa.select(Interaction.id, Interaction.completion).where(
        Interaction.id.in_(ids), is_whole()
    )
    return {one: text.strip() for one, text in db.execute(query)}


def _choose(
    group: Sequence[uuid.UUID],
    texts: Mapping[uuid.UUID, str],
    times: Counter[uuid.UUID],
    mine: Mapping[uuid.UUID, str],
    most: int,
) -> list[uuid.UUID] | None:
    """Those not compared yet, the least compared first; to a single one a compared one is added.

    Of equal texts one counts, and one that the rater compared stands for all; empty and unfinished
    ones are left out: there is nothing to compare.
    """
    by_text: dict[str, uuid.UUID] = {}
    for one in sorted(group, key=lambda one: (one not in mine, one)):
        if texts.get(one):
            by_text.setdefault(texts[one], one)
    known = [one for one in by_text.values() if one in mine]
    new = sorted((one for one in by_text.values() if one not in mine), key=lambda i: (times[i], i))
    chosen = new[:most]
    if len(chosen) == 1:
        chosen += known[:1]
    return chosen if len(chosen) > 1 else None
