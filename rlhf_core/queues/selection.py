"""Choosing the items of a queue: the oldest first, or the mix that teaches most for its ratings.

The mix: half of what a reward model is unsure of or raters disagree on, a fifth as unlike each
other as can be, a fifth drawn uniformly at random (a tenth is left for known answers and repeats,
which `create_queue` adds). Only the random part is an unbiased picture of all that matches: figures
about the whole come from it, and its items keep the probability with which they were drawn. What
cannot be had (nothing is scored or differs, no embeddings are stored) is drawn at random as well.
"""

import itertools
import random
import uuid
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.config import get_settings
from rlhf_core.encoder.cache import find_stored
from rlhf_core.queues.checks import MAX_ITEMS
from rlhf_core.queues.doubt import find_doubtful
from rlhf_core.queues.filters import QueueFilter, count_matching, matching
from rlhf_core.queues.views import ChosenItem
from rlhf_core.store.bulk import in_slices
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import QueueOrder

if TYPE_CHECKING:
    import numpy as np

DOUBTFUL_SHARE, DIVERSE_SHARE = 5 / 9, 2 / 9
"""Of what known answers and repeats leave: half and a fifth of the whole. The rest is random."""
MAX_POOL = 4_000
"""So many candidates are looked at for the most unlike ones."""
MIN_PROMPTS, MAX_PROMPTS = 20, 500
"""Prompts whose completions are read at a time: not each has two different ones."""
MAX_GROUP = 4
"""Completions of one prompt that are paired with each other."""


def select_items(
    db: Session,
    *,
    actor: Actor,
    where: QueueFilter,
    limit: int,
    order: QueueOrder = QueueOrder.OLDEST_FIRST,
    seed: int = 0,
) -> list[ChosenItem]:
    """At most `limit` of the interactions that match, in the order in which to judge them.

    `selection_probability` is the chance with which an item came in: that of the draw for the
    random part, 1 where all that matches is taken, else None. In the mix the parts are shuffled, so
    that a queue which is left half done is a mix too. For comparisons see `select_pairs`.
    """
    require(actor, Permission.READ_INTERACTIONS)
    limit = min(limit, MAX_ITEMS)
    among = matching(where)
    num_all = count_matching(db, where, actor=actor)
    certain = 1.0 if num_all <= limit else None
    if order is QueueOrder.OLDEST_FIRST:
        oldest = among.order_by(Interaction.occurred_at, Interaction.id).limit(limit)
        return [ChosenItem(one, reason="oldest", selection_probability=certain)
                for one in db.scalars(oldest)]  # fmt: skip
    rng = random.Random(seed)
    chosen = _mix(db, among, num_all, min(limit, num_all), rng)
    return [
        ChosenItem(one, reason=reason, selection_probability=certain or probability)
        for one, reason, probability in chosen
    ]


def select_pairs(
    db: Session, *, actor: Actor, where: QueueFilter, limit: int, seed: int = 0
) -> list[ChosenItem]:
    """Pairs of different completions of one prompt and context, both of which match.

    Of up to four completions each is paired with the next, in an order left to chance, so that all
    of them are linked. The prompts come in the order of their hashes, from a place left to chance:
    only as many are read as the pairs need.
    """
    require(actor, Permission.READ_INTERACTIONS)
    rng = random.Random(seed)
    limit = min(limit, MAX_ITEMS)
    among = matching(where)
    prompt = Interaction.prompt_hash
    several = (
        among.with_only_columns(prompt)
        .group_by(prompt)
        .having(sa.func.count() > 1)
        .order_by(prompt)
    )
    start = f"{rng.getrandbits(128):032x}"
    pairs: list[ChosenItem] = []
    for part in (prompt >= start, prompt < start):
        last = ""
        while len(pairs) < limit:
            number = min(max(limit - len(pairs), MIN_PROMPTS), MAX_PROMPTS)
            hashes = list(db.scalars(several.where(part, prompt > last).limit(number)))
            if not hashes:
                break
            pairs += _pair_up(db, among, hashes, rng)
            last = hashes[-1]
    return pairs[:limit]


def _pair_up(
    db: Session, among: sa.Select[uuid.UUID], hashes: list[str], rng: random.Random
) -> list[ChosenItem]:
    """The pairs of these prompts, those of one after another."""
    rows = db.execute(
        among.with_only_columns(
            Interaction.id, Interaction.prompt_hash, Interaction.context, Interaction.completion
        )
        .where(Interaction.prompt_hash.in_(hashes))
        .order_by(Interaction.prompt_hash, Interaction.id)
    )
    groups: dict[tuple[str, str], dict[str, uuid.UUID]] = {}
    for row in rows.yield_per(1_000):
        same = groups.setdefault((row.prompt_hash, str(row.context)), {})
        same.setdefault(row.completion.strip(), row.id)
    keys = sorted(groups)
    rng.shuffle(keys)
    pairs: list[ChosenItem] = []
    for key in keys:
        ids = list(groups[key].values())
        linked = rng.sample(ids, min(MAX_GROUP, len(ids)))
        for pair in itertools.pairwise(linked):
            pairs.append(ChosenItem(min(pair), max(pair), reason="random"))
    return pairs


def _mix(
    db: Session, among: sa.Select[uuid.UUID], num_all: int, limit: int, rng: random.Random
) -> list[tuple[uuid.UUID, str, float | None]]:
    """(interaction, reason, probability). The random part is drawn first, from all of them."""
    num_doubtful, num_diverse = round(limit * DOUBTFUL_SHARE), round(limit * DIVERSE_SHARE)
    num_doubtful = len(find_doubtful(db, among, skip=set(), limit=num_doubtful))
    pool = _draw_pool(db, among) if num_diverse else {}
    num_diverse = min(num_diverse, len(pool))
    num_random = limit - num_doubtful - num_diverse
    by_chance = _draw(db, among, num_random)
    taken = set(by_chance)
    doubtful = find_doubtful(db, among, skip=taken, limit=num_doubtful)
    taken.update(one for one, _ in doubtful)
    diverse = pick_unlike(pool, limit - len(taken), taken, rng)
    taken.update(diverse)
    spare = _draw(db, among, min(num_all, limit + len(taken))) if len(taken) < limit else []
    rest = [one for one in spare if one not in taken][: limit - len(taken)]
    probability = num_random / num_all if num_all else None
    parts: list[list[tuple[uuid.UUID, str, float | None]]] = [
        [(one, "random", probability) for one in by_chance],
        [(one, reason, None) for one, reason in doubtful],
        [(one, "diverse", None) for one in diverse],
        [(one, "rest", None) for one in rest],  # parts that overlap leave some short
    ]
    turns = [part for part in range(len(parts)) for _ in parts[part]]
    rng.shuffle(turns)
    waiting = [iter(part) for part in parts]
    return [next(waiting[turn]) for turn in turns]


def _draw(db: Session, among: sa.Select[uuid.UUID], number: int) -> list[uuid.UUID]:
    """So many of them, each with the same chance."""
    return list(db.scalars(among.order_by(sa.func.random()).limit(number)))


def _draw_pool(db: Session, among: sa.Select[uuid.UUID]) -> "dict[uuid.UUID, np.ndarray[Any, Any]]":
    """Candidates whose completions have a stored embedding: nothing is embedded here."""
    ids = _draw(db, among, MAX_POOL)
    texts: dict[uuid.UUID, str] = {}
    for part in in_slices(ids):
        query = sa.select(Interaction.id, Interaction.completion).where(Interaction.id.in_(part))
        texts.update((row.id, row.completion) for row in db.execute(query))
    stored = find_stored(list(texts.values()), get_settings().embedding_dir)
    return {one: stored[text] for one, text in texts.items() if text in stored}


def pick_unlike(
    pool: "dict[uuid.UUID, np.ndarray[Any, Any]]",
    number: int,
    taken: set[uuid.UUID],
    rng: random.Random,
) -> list[uuid.UUID]:
    """Farthest-point selection: each pick is the one least like all that is taken and picked.

    `pool` holds unit vectors; of those in `taken` only the likeness counts.
    """
    import numpy as np

    ids = [one for one in pool if one not in taken]
    if not ids or number <= 0:
        return []
    vectors = np.stack([pool[one] for one in ids])
    known = [pool[one] for one in pool if one in taken]
    nearest = np.full(len(ids), -2.0)
    if known:
        nearest = (vectors @ np.stack(known).T).max(axis=1)
    picked: list[uuid.UUID] = []
    for _ in range(min(number, len(ids))):
        at = rng.randrange(len(ids)) if not (known or picked) else int(nearest.argmin())
        picked.append(ids[at])
        nearest = np.maximum(nearest, vectors @ vectors[at])
        nearest[at] = np.inf
    return picked
