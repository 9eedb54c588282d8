"""Counts of step labels, and what is told of them."""

import random
import uuid
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.rollup_steps import rebuild_steps
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.analytics.steps import read_steps
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.drafts import InteractionDraft, StepDraft
from rlhf_core.feedback.service import create_interaction, withdraw_feedback
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, RatingQueue, StepAnswerRollup, StepRollup
from rlhf_core.vocabulary import RaterKind, Role
from tests.builders import make_feedback, make_interaction
from tests.databases import only_sqlite

ASKED, SAID = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 2, 8, tzinfo=UTC)
DAYS = [date(2026, 3, 1), date(2026, 3, 2)]


def rows_of(db: Session, table: Any, *names: str) -> list[tuple[Any, ...]]:
    columns = [getattr(table, name) for name in names]
    return sorted(tuple(row) for row in db.execute(sa.select(*columns)))


def put_into_queue(db: Session, feedback_id: uuid.UUID) -> None:
    queue_id = new_id()
    db.execute(sa.insert(RatingQueue), {"id": queue_id, "name": "q", "created_at": utcnow()})
    db.execute(sa.update(Feedback).where(Feedback.id == feedback_id).values(queue_id=queue_id))


def test_labels_count_on_their_own_day_and_answers_on_that_of_the_answer(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, steps=3, occurred_at=ASKED, model_name="m1").id
        for rater, labels in (("ann", (1, -1, -1)), ("ben", (1, -1, 1)), ("cy", (0, 1, 1))):
            for step, label in enumerate(labels):
                make_feedback(db, item, rater=rater, step=step, label=label, occurred_at=SAID)
        again = make_feedback(db, item, rater="ann", step=0, label=-1, occasion=1, occurred_at=SAID)
        put_into_queue(db, again.id)  # asked for as a test of the rater: counts nowhere
        make_feedback(db, item, rater="ann", rating=2, occurred_at=SAID)
        fine = make_interaction(db, steps=2, occurred_at=SAID).id
        make_feedback(db, fine, rater="ann", step=0, thumb=1, occurred_at=SAID)
        taken = make_feedback(db, fine, rater="ann", step=1, label=-1, occurred_at=SAID)
        withdraw_feedback(db, taken.id, actor=SYSTEM)
        make_feedback(db, fine, rater="ann", thumb=1, occurred_at=SAID)
        make_interaction(db, steps=2, occurred_at=ASKED)  # nobody labelled it
        for _ in range(2):  # twice is once
            rebuild_steps(db, DAYS)
        assert rows_of(
            db, StepRollup, "day", "position", "model_name", "rater_kind", "num_good",
            "num_neutral", "num_wrong",
        ) == [
            (DAYS[1], 0, "", RaterKind.SME, 1, 0, 0),
            (DAYS[1], 0, "m1", RaterKind.SME, 2, 1, 0),
            (DAYS[1], 1, "m1", RaterKind.SME, 1, 0, 2),
            (DAYS[1], 2, "m1", RaterKind.SME, 2, 0, 1),
        ]  # fmt: skip
        assert rows_of(
            db, StepAnswerRollup, "day", "first_wrong", "num_answers", "num_good", "num_bad"
        ) == [(DAYS[0], 1, 1, 0, 1), (DAYS[1], -1, 1, 1, 0)]


def label(db: Session, drawn: random.Random, number: int) -> tuple[list[Any], int, list[int]]:
    """One answer with labelled steps: (kind, label) a step, its first mistake, its verdicts."""
    kinds = [drawn.choice(["plan", None]) for _ in range(drawn.randint(1, 4))]
    draft = InteractionDraft(
        prompt=f"p{number}", completion="c", occurred_at=ASKED,
        steps=[StepDraft(content="s", kind=kind) for kind in kinds],
    )  # fmt: skip
    item = create_interaction(db, draft, actor=SYSTEM).id
    labels = [drawn.choice([1, 0, -1]) for _ in kinds]
    for step, value in enumerate(labels):
        make_feedback(db, item, rater="ann", step=step, label=value, occurred_at=ASKED)
    verdicts = [drawn.choice([1, -1]) for _ in range(drawn.randint(0, 2))]
    for rater, thumb in enumerate(verdicts):
        make_feedback(db, item, rater=f"r{rater}", thumb=thumb, occurred_at=SAID)
    first = labels.index(-1) if -1 in labels else -1
    return list(zip(kinds, labels, strict=True)), first, verdicts


@only_sqlite
def test_the_report_is_that_of_a_plain_count(store: Store) -> None:
    drawn = random.Random(3)
    with store.writing() as db:
        answers = [label(db, drawn, number) for number in range(60)]
        refresh_rollups(db)
        report = read_steps(db, actor=SYSTEM)
    at = Counter((n, said) for steps, _, _ in answers for n, (_, said) in enumerate(steps))
    by_position = [
        (one.position, one.num_good, one.num_neutral, one.num_wrong) for one in report.by_position
    ]
    assert by_position == [(n, at[n, 1], at[n, 0], at[n, -1]) for n in range(4)]
    of_kind = Counter((kind or "", said) for steps, _, _ in answers for kind, said in steps)
    assert {one.kind: (one.num_good, one.num_wrong) for one in report.by_kind} == {
        kind: (of_kind[kind, 1], of_kind[kind, -1]) for kind in ("plan", "")
    }
    verdicts: dict[int, list[int]] = defaultdict(list)
    for _, first, said in answers:
        verdicts[first] += said
    mistakes = {one.position: (one.num_good, one.num_bad) for one in report.mistakes}
    assert mistakes == {
        first: (said.count(1), said.count(-1)) for first, said in verdicts.items() if first >= 0
    }
    assert report.flawless.num_good == verdicts[-1].count(1)
    assert report.flawed.num_answers == sum(first >= 0 for _, first, _ in answers)
    change = report.approval_change
    flawed, flawless = report.flawed.approval, report.flawless.approval
    assert change is not None
    assert flawed is not None
    assert flawless is not None
    assert change.value == pytest.approx(flawed.value - flawless.value)
    assert change.low < change.value < change.high
    lows = [one.wrong.low for one in report.worst if one.wrong]
    assert lows == sorted(lows, reverse=True)


@only_sqlite
def test_one_wrong_label_alone_is_not_the_worst_place(store: Store) -> None:
    with store.writing() as db:
        for number in range(8):
            item = make_interaction(db, steps=2, occurred_at=ASKED).id
            make_feedback(db, item, rater="a", step=0, label=-1 if number else 1, occurred_at=ASKED)
        make_feedback(db, item, rater="a", step=1, label=-1, occurred_at=ASKED)
        refresh_rollups(db)
        assert [one.position for one in read_steps(db, actor=SYSTEM).worst] == [0]


@only_sqlite
def test_filters_and_the_empty_database_give_no_figure_and_no_error(store: Store) -> None:
    with store.writing() as db:
        empty = read_steps(db, actor=SYSTEM)
        assert empty.all_labels.wrong is None
        assert empty.approval_change is None
        label(db, random.Random(1), 1)
        refresh_rollups(db)
        later = Filters(since=ASKED.date() + timedelta(days=2))
        assert read_steps(db, actor=SYSTEM, filters=later) == empty
        users = Filters(rater_kinds=(RaterKind.END_USER,))
        assert read_steps(db, actor=SYSTEM, filters=users).all_labels.num_labels == 0
        with pytest.raises(Forbidden):
            read_steps(db, actor=Actor(name="r", role=Role.RATER))
