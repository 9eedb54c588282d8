"""Rows from feedback, on both databases: what counts, what is left out, and that it is counted."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import new_id, utcnow
from rlhf_core.dataset.builder import build_rows
from rlhf_core.dataset.params import DatasetParams, Filters
from rlhf_core.examples import ScoredCompletion
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Consent, ReasoningStep
from rlhf_core.vocabulary import ConsentState
from tests.learning.rated import add_feedback, add_interaction, add_rater

ALL = DatasetParams()
Rate = Callable[..., uuid.UUID]


def build(
    store: Store, params: DatasetParams = ALL
) -> tuple[list[ScoredCompletion], dict[str, int]]:
    """The rows and what was left out."""
    with store.reading() as db:
        built = build_rows(db, params=params)
        rows = [row for row in built.rows if isinstance(row, ScoredCompletion)]
    return rows, built.left_out


def rate(db: Session, *said: dict[str, Any], **fields: Any) -> uuid.UUID:
    """An interaction about which each of so many raters said something."""
    interaction = add_interaction(db, **fields)
    for number, words in enumerate(said):
        rater = add_rater(db, f"u_{interaction.hex}_{number}"[:64])
        add_feedback(db, interaction, rater, **words)
    return interaction


def say(
    db: Session, pseudonym: str, state: ConsentState, *, days_ago: float = 0, **fields: Any
) -> None:
    row = {
        "id": new_id(),
        "pseudonym": pseudonym,
        "purpose": "training",
        "state": state,
        "source": "test",
        "is_demo": False,
        "recorded_at": utcnow() - timedelta(days=days_ago),
    }
    db.execute(sa.insert(Consent).values(row | fields))


def test_score_is_the_mean_over_raters_and_thumbs_count_where_there_is_no_rating(
    store: Store,
) -> None:
    with store.writing() as db:
        interaction = rate(
            db, {"rating": 2}, {"thumb": 1}, {"thumb": -1}, {"rating": 4, "thumb": -1}
        )
    rows, left_out = build(store)
    assert [(row.score, row.num_ratings) for row in rows] == [((2 + 5 + 1 + 4) / 4, 4)]
    assert rows[0].interaction_id == str(interaction)
    assert (rows[0].prompt, rows[0].completion) == ("Why?", "Because.")
    assert left_out == {}


def test_rater_who_judged_twice_counts_once(store: Store) -> None:
    with store.writing() as db:
        interaction = add_interaction(db)
        keen, other = add_rater(db, "u_keen"), add_rater(db, "u_other")
        for occasion, rating in enumerate([5, 4, 4]):
            add_feedback(db, interaction, keen, rating=rating, occasion=occasion)
        add_feedback(db, interaction, other, rating=1)
    rows, _ = build(store)
    assert rows[0].score == pytest.approx((13 / 3 + 1) / 2, abs=1e-6)
    assert rows[0].num_ratings == 2


def test_neutral_thumb_has_no_score(store: Store) -> None:
    with store.writing() as db:
        rate(db, {"thumb": 0})
        rate(db, {"thumb": 0}, {"rating": 5})
        rate(db, {"thumb": 0, "rating": 2})
    rows, left_out = build(store)
    assert sorted((row.score, row.num_ratings) for row in rows) == [(2.0, 1), (5.0, 1)]
    assert left_out == {"neutral thumbs only": 1}


def test_what_says_nothing_of_the_completion_gives_no_row(store: Store) -> None:
    with store.writing() as db:
        rate(db, {"comment": "Nice."})
        rate(db)
        interaction = add_interaction(db)
        step = {"id": new_id(), "interaction_id": interaction, "position": 0, "content": "so"}
        db.execute(sa.insert(ReasoningStep).values(step))
        rater = add_rater(db, "u_steps")
        add_feedback(db, interaction, rater, step_id=step["id"], rating=5)
    rows, left_out = build(store)
    assert rows == []
    assert left_out == {"neither rating nor thumb": 1}


def test_withdrawn_feedback_counts_no_more(store: Store) -> None:
    with store.writing() as db:
        rate(db, {"rating": 5, "withdrawn_at": utcnow()})
        rate(db, {"rating": 5, "withdrawn_at": utcnow()}, {"rating": 3})
    rows, left_out = build(store)
    assert [(row.score, row.num_ratings) for row in rows] == [(3.0, 1)]
    assert left_out == {"feedback withdrawn": 1}


def test_demo_data_stays_out_unless_asked_for(store: Store) -> None:
    with store.writing() as db:
        rate(db, {"rating": 5}, is_demo=True)
        real = add_interaction(db)
        add_feedback(db, real, add_rater(db, "u_demo", is_demo=True), rating=1)
        rate(db, {"rating": 4})
    rows, left_out = build(store)
    assert [row.score for row in rows] == [4.0]
    assert left_out == {"demo data": 2}
    rows, left_out = build(store, DatasetParams(filters=Filters(include_demo=True)))
    assert sorted(row.score for row in rows) == [1.0, 4.0, 5.0]
    assert left_out == {}


def test_only_the_source_asked_for_gives_rows_and_the_others_are_counted(store: Store) -> None:
    with store.writing() as db:
        rate(db, {"rating": 5}, source="app")
        rate(db, {"rating": 4}, source="lab")
        rate(db, {"rating": 1}, source="lab")
    rows, left_out = build(store, DatasetParams(filters=Filters(source="lab")))
    assert sorted(row.score for row in rows) == [1.0, 4.0]
    assert left_out == {"another source": 1}


def test_the_newest_word_on_training_counts(store: Store) -> None:
    with store.writing() as db:
        for name in ("left", "back", "asked", "silent"):
            rate(db, {"rating": 5}, user_pseudonym=name)
        say(db, "left", ConsentState.GRANTED, days_ago=2)
        say(db, "left", ConsentState.WITHDRAWN, days_ago=1)
        say(db, "back", ConsentState.WITHDRAWN, days_ago=2)
        say(db, "back", ConsentState.GRANTED, days_ago=1)
        say(db, "asked", ConsentState.WITHDRAWN, purpose="newsletter")
    rows, left_out = build(store)
    assert len(rows) == 3
    assert left_out == {"consent to training withdrawn": 1}


def test_rater_who_withdrew_consent_is_not_heard(store: Store) -> None:
    with store.writing() as db:
        gone, stays = add_rater(db, "u_gone"), add_rater(db, "u_stays")
        both, alone = add_interaction(db), add_interaction(db)
        add_feedback(db, both, gone, rating=1)
        add_feedback(db, both, stays, rating=5)
        add_feedback(db, alone, gone, rating=1)
        say(db, "u_gone", ConsentState.WITHDRAWN)
    rows, left_out = build(store)
    assert [(row.score, row.num_ratings) for row in rows] == [(5.0, 1)]
    assert left_out == {"consent to training withdrawn": 1}


def test_empty_completion_is_left_out_and_counted(store: Store) -> None:
    with store.writing() as db:
        rate(db, {"rating": 1}, completion="")
        rate(db, {"rating": 1}, completion=" \r\n\t")
    rows, left_out = build(store)
    assert rows == []
    assert left_out == {"empty completion": 2}


def test_rows_come_in_the_same_order_each_time_and_prompts_are_grouped(store: Store) -> None:
    with store.writing() as db:
        for number in range(30):
            prompt = f"Prompt {number % 7}" + " " * (number % 2)
            rate(db, {"rating": 1 + number % 5}, prompt=prompt)
    first, _ = build(store)
    second, _ = build(store)
    assert first == second
    assert len({row.group for row in first}) == 7


def test_empty_database_has_nothing(store: Store) -> None:
    rows, left_out = build(store)
    assert rows == []
    assert left_out == {}


def test_completion_of_unusual_blanks_is_empty_too(store: Store) -> None:
    with store.writing() as db:
        for blanks in ("\u00a0", "\u3000\u2003", "\x0b\x1c\x85"):
            rate(db, {"rating": 5}, completion=blanks)
    rows, left_out = build(store)
    assert (rows, left_out) == ([], {"empty completion": 3})
