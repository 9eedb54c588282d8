"""Rated interactions for tests: rows for learners, and the same in a database."""

import random
import uuid
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import new_id, utcnow
from rlhf_core.examples import PreferencePair, ScoredCompletion, UnpairedPreference
from rlhf_core.feedback.drafts import prompt_hash
from rlhf_core.store.tables import Feedback, Interaction, Rater
from rlhf_core.vocabulary import RaterKind

TOPICS = ["bread", "taxes", "bicycles", "roses", "chess", "rivers", "violins", "glaciers"]
GOOD = ["Of course: {} need patience, good tools and a plan.", "Here is how {} work, in steps."]
BAD = ["No idea.", "I cannot talk about {}.", "Whatever, ask somebody else."]


def make_rows(number: int, *, a_prompt: int = 4, seed: int = 0) -> list[ScoredCompletion]:
    """Short completions whose tone decides the rating: easy to learn, quick to embed."""
    drawn = random.Random(seed)
    rows = []
    for index in range(number):
        topic = TOPICS[index // a_prompt % len(TOPICS)]
        prompt = f"Tell me about {topic}, part {index // a_prompt}."
        is_good = index % 2 == 0
        completion = drawn.choice(GOOD if is_good else BAD).format(topic)
        rows.append(
            ScoredCompletion(
                prompt=prompt,
                completion=completion,
                score=float(drawn.choice([4, 5]) if is_good else drawn.choice([1, 2, 3])),
                num_ratings=1 + index % 3,
                group=prompt_hash(prompt),
                interaction_id=f"row-{index}",
            )
        )
    return rows


def make_pairs(number: int, *, a_prompt: int = 2, seed: int = 0) -> list[PreferencePair]:
    """Pairs whose chosen side is the helpful one; no text decides by its length alone."""
    drawn = random.Random(seed)
    rows = []
    for index in range(number):
        topic = TOPICS[index // a_prompt % len(TOPICS)]
        prompt = f"Tell me about {topic}, part {index // a_prompt}."
        rows.append(
            PreferencePair(
                prompt=prompt,
                chosen=drawn.choice(GOOD).format(topic),
                rejected=drawn.choice(BAD).format(topic),
                margin=float(1 + index % 2),
                group=prompt_hash(prompt),
                comparison_id=f"pair-{index}",
            )
        )
    return rows


def make_thumbs(number: int) -> list[UnpairedPreference]:
    """The rows of `make_rows` with a thumb in place of the rating."""
    return [
        UnpairedPreference(
            prompt=row.prompt,
            completion=row.completion,
            label=row.score >= 4,
            group=row.group,
            interaction_id=row.interaction_id,
        )
        for row in make_rows(number)
    ]


def with_score(row: ScoredCompletion, score: float) -> ScoredCompletion:
    """The row with another rating."""
    return replace(row, score=score)


def add_rater(db: Session, name: str, **fields: Any) -> uuid.UUID:
    """A rater whose pseudonym is `name`."""
    values: dict[str, Any] = {
        "id": new_id(),
        "pseudonym": name,
        "rater_kind": RaterKind.SME,
        "is_demo": False,
        "created_at": utcnow(),
    }
    db.execute(sa.insert(Rater).values(values | fields))
    return uuid.UUID(str((values | fields)["id"]))


def add_interaction(
    db: Session, prompt: str = "Why?", completion: str = "Because.", **fields: Any
) -> uuid.UUID:
    """An interaction nobody has rated."""
    values: dict[str, Any] = {
        "id": new_id(),
        "source": "test",
        "external_id": uuid.uuid4().hex,
        "prompt": prompt,
        "prompt_hash": prompt_hash(prompt),
        "completion": completion,
        "is_demo": False,
        "occurred_at": utcnow(),
        "created_at": utcnow(),
    }
    db.execute(sa.insert(Interaction).values(values | fields))
    return uuid.UUID(str((values | fields)["id"]))


def add_feedback(
    db: Session, interaction_id: uuid.UUID, rater_id: uuid.UUID, **fields: Any
) -> uuid.UUID:
    """A feedback row that says what `fields` say."""
    now = utcnow()
    values: dict[str, Any] = {
        "id": new_id(),
        "interaction_id": interaction_id,
        "rater_id": rater_id,
        "occasion": 0,
        "source": "test",
        "external_id": uuid.uuid4().hex,
        "revision": 0,
        "occurred_at": now,
        "created_at": now,
        "updated_at": now,
    }
    db.execute(sa.insert(Feedback).values(values | fields))
    return uuid.UUID(str(values["id"]))


def add_rated(db: Session, rows: list[ScoredCompletion]) -> None:
    """Store the rows as interactions, each rated once (whole ratings) by one rater."""
    rater = add_rater(db, f"u_{uuid.uuid4().hex}")
    for row in rows:
        interaction = add_interaction(db, row.prompt, row.completion)
        add_feedback(db, interaction, rater, rating=int(row.score))
