"""A version of every purpose, from one small database that has all kinds of feedback."""

import random

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView, freeze_version
from rlhf_core.dataset.splits import SplitParams
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Choice, DatasetPurpose
from tests.builders import make_interaction
from tests.core.dataset.world import vote
from tests.learning.rated import add_feedback, add_rater

FORMULA = '=HYPERLINK("http://evil.example","x")'


def fill(db: Session, number: int = 12) -> None:
    """Prompts with two answers each: rated by two, compared by one, one corrected, steps judged."""
    drawn = random.Random(7)
    ann, ben = add_rater(db, "u_ann"), add_rater(db, "u_ben")
    for place in range(number):
        topic = " ".join("".join(drawn.choices("abcdefgh", k=6)) for _ in range(12))
        prompt = f"{FORMULA} {topic} {place}?"
        good, bad = (
            make_interaction(
                db,
                prompt=prompt,
                completion=text,
                steps=[f"-1 + {place}", f"Step two of {place}"],
                action_type="search" if place % 2 else None,
                source="app" if place % 3 else "lab",
            )
            for text in (f"@good answer {place}", f"bad\nanswer, {place} " + "so so " * place)
        )
        add_feedback(db, good.id, ann, rating=5)
        add_feedback(db, good.id, ben, rating=4)
        add_feedback(db, bad.id, ann, rating=1 + place % 2, correction=f"+better {place}")
        for step, label in zip(good.step_ids, (1, -1 if place % 2 else 1), strict=True):
            add_feedback(db, good.id, ann, step_id=step, label=label)
        vote(db, good.id, bad.id, Choice.LEFT, rater_id=ann, strength=2)


def freeze_all(
    store: Store, split: SplitParams | None = None
) -> dict[DatasetPurpose, DatasetVersionView]:
    """`fill`, then a version of each purpose, named like it."""
    with store.writing() as db:
        fill(db)
    return {purpose: freeze(store, purpose, split) for purpose in DatasetPurpose}


def freeze(
    store: Store, purpose: DatasetPurpose, split: SplitParams | None = None
) -> DatasetVersionView:
    with store.reading() as db:
        staged = stage_rows(
            db,
            params=DatasetParams(purpose=purpose),
            split=split or SplitParams(test_percent=25, validation_percent=25, seed=2),
        )
    with store.writing() as db:
        return freeze_version(db, actor=SYSTEM, name=purpose.value, staged=staged).version
