"""Whose requests and ratings count, and that counting is quick."""

import random
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.service import submit_feedback
from rlhf_core.release.counts import read_strata
from rlhf_core.release.judging import VerdictKind
from rlhf_core.release.live import read_live
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, Rater, ServedLogEntry
from rlhf_core.vocabulary import Arm, RaterKind
from tests.builders import make_actor
from tests.core.release.live_world import rate, serve, start_new
from tests.databases import only_sqlite


@only_sqlite
def test_nameless_orders_of_one_conversation_are_drawn_and_counted_one_by_one(store: Store) -> None:
    made = start_new(store, traffic_percent=5.0)
    with store.writing() as db:
        serve(db, made, Arm.CONTROL, [None] * 570, endpoint="rerank")
        serve(db, made, Arm.TREATMENT, [None] * 30, endpoint="rerank")
        db.execute(sa.update(ServedLogEntry).values(user_pseudonym=None))
        rows = db.scalars(sa.select(Interaction.id)).all()
        random.Random(5).shuffle(ids := list(rows))
        db.execute(
            sa.update(Interaction),
            [{"id": id_, "chat_id": f"talk {place // 3}"} for place, id_ in enumerate(ids)],
        )
        live = read_live(db, made.id, actor=SYSTEM)
    assert (live.control.num_users, live.treatment.num_users) == (570, 30)
    assert live.verdict is not None
    assert live.verdict.kind is VerdictKind.KEEP_WAITING


def test_only_those_who_asked_judge(store: Store) -> None:
    """One expert who marks the answers of sixty users is one person."""
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, Arm.CONTROL, [1] * 60)
        serve(db, made, Arm.TREATMENT, [-1] * 60, rater_kind=RaterKind.SME)
        serve(db, made, Arm.TREATMENT, [1] * 20)
        serve(db, made, Arm.CONTROL, [None] * 20)
        (own,) = serve(db, made, Arm.TREATMENT, [None], user="u_ann")
        rate(db, [(own, -1)], rater_kind=RaterKind.SME)
        rater = sa.select(Rater.id).order_by(Rater.id.desc()).limit(1).scalar_subquery()
        db.execute(sa.update(Rater).where(Rater.id == rater).values(pseudonym="u_ann"))
        (talked,) = serve(db, made, Arm.CONTROL, [None])
        expert = make_actor(db)
        submit_feedback(db, talked, FeedbackDraft(thumb=1), actor=expert, source="chat")
        live = read_live(db, made.id, actor=SYSTEM)
    assert (live.treatment.num_feedback, live.treatment.num_good) == (21, 20)
    assert (live.treatment.num_bad, live.treatment.num_by_experts) == (1, 60)
    assert (live.control.num_feedback, live.control.num_by_experts) == (61, 0)
    assert live.verdict is not None
    assert live.verdict.kind is VerdictKind.KEEP_WAITING, live.verdict.sentence


@pytest.mark.parametrize(
    "database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
def test_answers_and_feedback_are_joined_once_where_no_table_was_analysed(store: Store) -> None:
    """Not by going through all answers for each row of feedback."""
    made = start_new(store)
    counts: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "JOIN feedback" in statement:
            counts.append((statement, parameters))

    with store.writing() as db:
        for arm in (Arm.CONTROL, Arm.TREATMENT):
            serve(db, made, arm, [1] * 400)
    with store.reading() as db:
        sa.event.listen(store.engine, "before_cursor_execute", note)
        read_strata(db, made.id)
        sa.event.remove(store.engine, "before_cursor_execute", note)
        ((statement, parameters),) = counts
        explained = db.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters).all()
    plan = "\n".join(line for (line,) in explained)
    assert "answers" in plan
    assert "Join Filter: (answers.interaction_id = feedback.interaction_id)" not in plan
