import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotEnoughData, NotFound
from rlhf_core.feedback.comparison_tasks import get_task
from rlhf_core.queues.leases import claim_next, finish_claim
from rlhf_core.queues.policy_pairs import (
    SOURCE,
    create_policy_queue,
    list_opponents,
    list_verdicts,
)
from rlhf_core.queues.views import QueueView
from rlhf_core.registry.evaluations import EvaluationView, record_evaluation
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import QueueSubject, Role
from tests.builders import make_actor
from tests.core.feedback.pairs import compare
from tests.core.registry.world import make_version
from tests.databases import only_sqlite


def examined(db: Session, num: int = 4) -> tuple[ModelVersionView, EvaluationView]:
    """A second version, and its examination beside the first: `num` pairs, two that are none."""
    make_version(db, model_name="assistant")
    version = make_version(db, model_name="assistant")
    samples = [
        {"prompt": f"Why {n}?", "answers": {"policy": f"So {n}.", "base": f"No {n}."}}
        for n in range(num)
    ]
    samples += [
        {"prompt": "Same?", "answers": {"policy": "Yes.", "base": "Yes. "}},
        {"prompt": "Empty?", "answers": {"policy": "Yes.", "base": ""}},
    ]
    examination = {
        "metrics": {"win_rate": 0.5},
        "policies": {"policy": {}, "base": {}},
        "names": {"base": "assistant v1"},
        "samples": samples,
    }
    evaluation = record_evaluation(
        db, actor=SYSTEM, version_id=version.id, dataset_version_id=None, job_id=None,
        split="test", num_rows=num, examination_json=examination,
    )  # fmt: skip
    return version, evaluation


def ask(db: Session, num: int = 4, **options: object) -> tuple[QueueView, EvaluationView]:
    version, evaluation = examined(db, num)
    queue = create_policy_queue(
        db, actor=SYSTEM, version_id=version.id, evaluation_id=evaluation.id, **options
    )  # type: ignore[arg-type]
    return queue, evaluation


def vote(db: Session, queue: QueueView, rater: Actor, wanted: str) -> None:
    """Compare the next pair: `wanted` is how the better answer begins, or a choice."""
    claim = claim_next(db, queue.id, actor=rater)
    assert claim is not None
    assert claim.other_interaction_id is not None
    task = get_task(db, [claim.interaction_id, claim.other_interaction_id], actor=rater)
    left, right = task.sides
    choice = wanted
    if wanted in ("So", "No"):
        choice = "left" if left.completion.startswith(wanted) else "right"
    compare(db, left.interaction_id, right.interaction_id, rater, choice=choice)
    finish_claim(
        db, actor=rater, queue_id=queue.id, interaction_id=claim.interaction_id,
        other_interaction_id=claim.other_interaction_id,
    )  # fmt: skip


def test_answers_that_differ_become_pairs_of_a_blind_queue(store: Store) -> None:
    with store.writing() as db:
        queue, evaluation = ask(db)
        assert list_opponents(evaluation) == {"base": ("assistant v1", 4)}
        rows = db.scalars(sa.select(Interaction)).all()
        versions = {row.model_name: row.model_version_id for row in rows}
    assert (queue.subject, queue.num_items, queue.is_blind) == (QueueSubject.COMPARISONS, 4, True)
    assert {row.source for row in rows} == {SOURCE}
    assert len(rows) == 8
    assert set(versions) == {"assistant v1", "assistant v2"}
    assert versions["assistant v2"] == evaluation.model_version_id
    assert versions["assistant v1"] not in (None, evaluation.model_version_id)


def test_win_rate_counts_pairs_whichever_side_the_policy_stood_on(store: Store) -> None:
    with store.writing() as db:
        queue, evaluation = ask(db, 12, overlap=2)
        one, other = make_actor(db), make_actor(db)
        (before,) = list_verdicts(db, evaluation.id, actor=SYSTEM)
        assert before.win_rate is None
        for wanted in ["So"] * 8 + ["No", "No", "tie", "both_bad"]:
            vote(db, queue, one, wanted)
        for wanted in ["So"] * 6 + ["No"] * 6:
            vote(db, queue, other, wanted)
        (verdict,) = list_verdicts(db, evaluation.id, actor=SYSTEM)
    assert (verdict.num_pairs, verdict.num_compared, verdict.num_votes) == (12, 12, 24)
    assert (verdict.num_wins, verdict.num_losses) == (14, 8)
    assert (verdict.num_ties, verdict.num_both_bad) == (1, 1)
    assert verdict.win_rate is not None
    # pair by pair: six won by both, two by one of two, two lost, two halves beside a loss
    assert verdict.win_rate.value == pytest.approx((6 + 2 * 0.5 + 2 * 0.25) / 12)
    assert verdict.win_rate.low < verdict.win_rate.value < verdict.win_rate.high


@only_sqlite
def test_a_word_given_outside_of_the_queue_counts_too(store: Store) -> None:
    with store.writing() as db:
        _, evaluation = ask(db, 1)
        by_text = {row.completion: row.id for row in db.scalars(sa.select(Interaction))}
        compare(db, by_text["No 0."], by_text["So 0."], make_actor(db), choice="right")
        (verdict,) = list_verdicts(db, evaluation.id, actor=SYSTEM)
    assert (verdict.num_wins, verdict.num_losses) == (1, 0)


@only_sqlite
def test_asking_twice_stores_no_answer_twice(store: Store) -> None:
    with store.writing() as db:
        queue, evaluation = ask(db)
        with pytest.raises(Conflict, match="There is a queue"):
            create_policy_queue(
                db, actor=SYSTEM, version_id=evaluation.model_version_id,
                evaluation_id=evaluation.id,
            )  # fmt: skip
        assert db.scalar(sa.select(sa.func.count()).select_from(Interaction)) == 8
        assert [v.queue_id for v in list_verdicts(db, evaluation.id, actor=SYSTEM)] == [queue.id]


@only_sqlite
def test_what_cannot_be_compared_is_said(store: Store) -> None:
    with store.writing() as db:
        version, evaluation = examined(db, 0)
        here = {"version_id": version.id, "evaluation_id": evaluation.id}
        with pytest.raises(NotEnoughData, match="two different answers"):
            create_policy_queue(db, actor=SYSTEM, **here)
        with pytest.raises(InvalidInput, match="not compared with itself"):
            create_policy_queue(db, actor=SYSTEM, other="policy", **here)
        with pytest.raises(NotFound, match="no examination"):
            create_policy_queue(db, actor=SYSTEM, **(here | {"evaluation_id": uuid.uuid4()}))
        with pytest.raises(NotFound, match="no model version"):
            create_policy_queue(db, actor=SYSTEM, **(here | {"version_id": uuid.uuid4()}))
        with pytest.raises(Forbidden):
            create_policy_queue(db, actor=make_actor(db, Role.ANALYST), **here)
