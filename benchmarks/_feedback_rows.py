"""Many rows of feedback over 90 days, always the same: for what reads a lot of it.

As many interactions as rows of feedback: of five interactions four have feedback, one of them
twice. A fifth of the feedback is of 40 experts (ratings, some with aspects), the rest of end users
(thumbs). Two sources, six kinds of action, three model versions of which two serve at a time; every
twentieth exchange comes again and again. Rows are stored in the order of time, as they come.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

ENDS_AT = datetime(2026, 11, 20, tzinfo=UTC)
NUM_DAYS = 90
ACTIONS = ("todo", "search", "answer", "email", "calendar", "tool")
SOURCES = ("app", "web")
NUM_SMES = 40
BATCH = 20_000

INTERACTIONS = (
    "id", "source", "external_id", "user_pseudonym", "prompt", "prompt_hash", "completion",
    "action_type", "model_name", "is_demo", "occurred_at", "created_at",
)  # fmt: skip
FEEDBACK = (
    "id", "interaction_id", "rater_id", "occasion", "source", "external_id", "thumb", "rating",
    "revision", "occurred_at", "created_at", "updated_at",
)  # fmt: skip


def fill(store: Any, num_feedback: int) -> None:
    """Write so many rows of feedback with all that belongs to them; mark the days."""
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.analytics.rollups import mark_everything
    from rlhf_core.clock import new_hex_ids, to_moment_text
    from rlhf_core.store.bulk import insert_rows

    chance = random.Random(1)
    now = to_moment_text(ENDS_AT)
    num_users = max(100, num_feedback // 50)
    raters = [
        (rater, f"rater {n}", "sme" if n < NUM_SMES else "end_user", 0, now)
        for n, rater in enumerate(new_hex_ids(NUM_SMES + num_users))
    ]
    with store.writing() as db:
        insert_rows(
            db, "raters", ("id", "pseudonym", "rater_kind", "is_demo", "created_at"), raters
        )
    ids = [rater[0] for rater in raters]
    for interactions, feedback, aspects in _batches(chance, num_feedback, ids):
        with store.writing() as db:
            insert_rows(db, "interactions", INTERACTIONS, interactions)
            insert_rows(db, "feedback", FEEDBACK, feedback)
            insert_rows(db, "feedback_aspects", ("feedback_id", "name", "rating"), aspects)
    with store.writing() as db:
        mark_everything(db, actor=SYSTEM)


def _batches(
    chance: random.Random, num_feedback: int, raters: list[str]
) -> Iterator[tuple[list[Any], list[Any], list[Any]]]:
    from rlhf_core.clock import new_hex_ids, to_moment_text
    from rlhf_core.feedback.drafts import prompt_hash

    words = [f"word{n}" for n in range(400)]
    pool = [_exchange(chance, words) for _ in range(max(50, num_feedback // 20))]
    num_users = len(raters) - NUM_SMES
    made = 0
    while made < num_feedback:
        size = min(BATCH, num_feedback - made)
        interactions, feedback, aspects = [], [], []
        own_ids, said_ids = new_hex_ids(size), iter(new_hex_ids(size))
        for n in range(size):
            number = made + n
            again = chance.random() < 0.05
            prompt, completion, action = pool[int(len(pool) * chance.random() ** 3)]
            if not again:
                prompt = f"{prompt} {number}"
            ago = timedelta(days=NUM_DAYS) * (1 - number / num_feedback) + timedelta(microseconds=1)
            at = to_moment_text(ENDS_AT - ago)
            model = f"v{min(2, ago.days // 30) + (chance.random() < 0.5)}"
            interactions.append(
                (own_ids[n], chance.choice(SOURCES), f"item {number}", f"user {number % 5000}",
                 prompt, prompt_hash(prompt), completion, action, model, 0, at, at)
            )  # fmt: skip
            for turn in range((0, 1, 1, 1, 2)[n % 5]):  # an expert speaks first
                is_sme = turn == 0 and chance.random() < 0.25
                who = NUM_SMES + (number * 7 + turn) % num_users
                rater = raters[chance.randrange(NUM_SMES) if is_sme else who]
                said = next(said_ids)
                thumb = None if is_sme else chance.choices((1, -1, 0), (0.75, 0.2, 0.05))[0]
                rating = chance.randint(1, 5) if is_sme else None
                feedback.append(
                    (said, own_ids[n], rater, 0, "api", said, thumb, rating, 0, at, at, at)
                )
                if is_sme and chance.random() < 0.3:
                    aspects += [(said, name, chance.randint(1, 5)) for name in ("tone", "truth")]
        yield interactions, feedback, aspects
        made += size


def _exchange(chance: random.Random, words: list[str]) -> tuple[str, str, str]:
    prompt, completion = " ".join(chance.choices(words, k=9)), " ".join(chance.choices(words, k=28))
    return prompt, completion, chance.choice(ACTIONS)
