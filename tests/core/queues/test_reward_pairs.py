"""People judge blind what two versions disagree on."""

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.artifacts import write_artifact
from rlhf_core.config import get_settings
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotEnoughData
from rlhf_core.feedback.comparison_tasks import get_task
from rlhf_core.queues.leases import claim_next, finish_claim
from rlhf_core.queues.reward_pairs import (
    PeopleVerdict,
    create_version_queue,
    find_disagreements,
    list_people,
)
from rlhf_core.queues.views import QueueView
from rlhf_core.registry.comparisons import (
    ROWS_FILE,
    ComparisonView,
    get_comparison,
    record_comparison,
)
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, ReasoningStep
from rlhf_core.vocabulary import QueueSubject, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.feedback.pairs import compare, make_completions
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

Said = tuple[float, float]


def row_of(versions: Sequence[ModelVersionView], said: Said, **fields: Any) -> dict[str, Any]:
    """A row of a comparison: what the first and the second version say of it."""
    by_id = {str(version.id): one for version, one in zip(versions, said, strict=True)}
    return {
        "row": 0, "group": "g", "interaction_id": "", "other_id": "", "rating": None,
        "is_good": None, "said": by_id, "spread": abs(said[0] - said[1]),
        "called_good": [key for key, one in by_id.items() if one >= 0.5], **fields,
    }  # fmt: skip


def keep(
    db: Session, versions: Sequence[ModelVersionView], purpose: str, rows: list[dict[str, Any]],
    /, **result: Any,
) -> ComparisonView:  # fmt: skip
    def fill(folder: Path) -> None:
        (folder / ROWS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))

    artifact = None
    if rows:
        artifact = write_artifact(
            get_settings().artifact_dir / "comparisons" / uuid.uuid4().hex, fill
        )
    return record_comparison(
        db, actor=SYSTEM, versions=versions, dataset_version_id=None, job_id=None, split="test",
        num_rows=len(rows), artifact=artifact,
        result={"purpose": purpose, "baseline": str(versions[0].id), **result},
    )  # fmt: skip


def two_versions(db: Session, name: str = "reward") -> list[ModelVersionView]:
    return [make_version(db, model_name=name) for _ in range(2)]


def ask(db: Session, kept: ComparisonView) -> QueueView:
    return create_version_queue(
        db, actor=SYSTEM, comparison_id=kept.id, version_id=kept.version_ids[1]
    )


def vote(db: Session, queue: QueueView, rater: Actor, better: uuid.UUID | None) -> None:
    """Compare the next pair of the queue: this one is better, or None for a tie."""
    claim = claim_next(db, queue.id, actor=rater)
    assert claim is not None
    assert claim.other_interaction_id is not None
    pair = claim.interaction_id, claim.other_interaction_id
    left, right = (side.interaction_id for side in get_task(db, pair, actor=rater).sides)
    choice = "tie" if better is None else "left" if left == better else "right"
    compare(db, left, right, rater, choice=choice)
    finish_claim(
        db, actor=rater, queue_id=queue.id, interaction_id=pair[0], other_interaction_id=pair[1]
    )


def verdict_of(db: Session, kept: ComparisonView) -> PeopleVerdict:
    (found,) = list_people(db, actor=SYSTEM, comparison_ids=[kept.id])
    return found


def test_answers_in_another_order_become_blind_pairs_and_people_decide(store: Store) -> None:
    with store.writing() as db:
        versions = two_versions(db)
        rows, better_to_second = [], []
        for n in range(6):
            one, other = make_completions(db, 2, prompt=f"Why {n}?")
            rows += [
                row_of(versions, (0.8, 0.3), interaction_id=str(one), group=f"g{n}"),
                row_of(versions, (0.6, 0.7), interaction_id=str(other), group=f"g{n}"),
            ]
            better_to_second.append(other)
        kept = keep(db, versions, "scores", rows)
        queue = ask(db, kept)
        assert (queue.subject, queue.num_items) == (QueueSubject.COMPARISONS, 6)
        assert queue.is_blind
        assert get_comparison(db, kept.id, actor=SYSTEM).queue_id == queue.id
        before = verdict_of(db, kept)
        assert (before.version, before.verdict.other) == ("reward v2", "reward v1")
        assert before.verdict.win_rate is None
        with pytest.raises(Conflict, match="choose another name"):
            ask(db, kept)
        rater = make_actor(db)
        by_pair = set(better_to_second)
        for turn in range(6):
            claim = claim_next(db, queue.id, actor=rater)
            assert claim is not None
            own = {claim.interaction_id, claim.other_interaction_id} & by_pair
            vote(db, queue, rater, own.pop() if turn < 5 else None)
        verdict = verdict_of(db, kept).verdict
    assert (verdict.num_pairs, verdict.num_compared) == (6, 6)
    assert (verdict.num_wins, verdict.num_losses, verdict.num_ties) == (5, 0, 1)
    assert verdict.win_rate is not None
    assert verdict.win_rate.value == pytest.approx(5.5 / 6)


def test_where_no_prompt_has_two_answers_people_rate_single_ones(store: Store) -> None:
    with store.writing() as db:
        versions = two_versions(db)
        ids = [make_interaction(db).id for _ in range(4)]
        said: list[Said] = [(0.9, 0.2), (0.8, 0.4), (0.1, 0.7), (0.9, 0.8)]  # the last: both good
        rows = [
            row_of(versions, both, interaction_id=str(one), group=str(one))
            for one, both in zip(ids, said, strict=True)
        ]
        kept = keep(db, versions, "scores", rows)
        make_feedback(db, ids[0], actor=make_actor(db), rating=5)  # said before anybody asked
        queue = ask(db, kept)
        assert (queue.subject, queue.num_items) == (QueueSubject.COMPLETIONS, 3)
        one, other = make_actor(db), make_actor(db)
        make_feedback(db, ids[0], actor=one, rating=1)  # as the second says
        make_feedback(db, ids[1], actor=one, thumb=1)  # as the first says
        make_feedback(db, ids[2], actor=one, rating=5)
        make_feedback(db, ids[2], actor=other, rating=3)  # neither
        verdict = verdict_of(db, kept).verdict
    assert (verdict.num_wins, verdict.num_losses, verdict.num_ties) == (2, 1, 1)
    assert verdict.win_rate is not None
    assert verdict.win_rate.value == pytest.approx((1 + 0 + 0.75) / 3)


@only_sqlite
def test_frozen_pairs_are_asked_again_where_one_version_sides_with_people(store: Store) -> None:
    with store.writing() as db:
        versions = two_versions(db)
        chosen, rejected = make_completions(db, 2)
        pair = {"interaction_id": str(chosen), "other_id": str(rejected)}
        corrected = {"interaction_id": str(chosen), "other_id": str(chosen)}
        gone = {"interaction_id": str(uuid.uuid4()), "other_id": str(rejected)}
        rows = [row_of(versions, (0.9, 0.1), **each) for each in (pair, corrected, gone)]
        rows.append(row_of(versions, (0.9, 0.8), **pair))
        kept = keep(db, versions, "preferences", rows)
        compare(db, chosen, rejected, make_actor(db))  # of which the pair was made
        queue = ask(db, kept)
        assert queue.num_items == 1
        assert verdict_of(db, kept).verdict.num_votes == 0
        vote(db, queue, make_actor(db), rejected)
        assert verdict_of(db, kept).verdict.num_wins == 1


@only_sqlite
def test_steps_decide_which_step_model_was_right(store: Store) -> None:
    with store.writing() as db:
        versions = two_versions(db)
        solution = make_interaction(db, steps=2).id
        rows = [row_of(versions, (0.9, 0.1), interaction_id=str(solution))]
        kept = keep(db, versions, "steps", rows)
        queue = ask(db, kept)
        assert queue.subject is QueueSubject.STEPS
        steps = db.scalars(sa.select(ReasoningStep.position).order_by(ReasoningStep.position)).all()
        rater, other = make_actor(db), make_actor(db)
        for step, label in zip(steps, (1, -1), strict=True):
            make_feedback(db, solution, actor=rater, step=step, label=label)
            make_feedback(db, solution, actor=other, step=step, label=1)
        verdict = verdict_of(db, kept).verdict
    assert (verdict.num_wins, verdict.num_losses, verdict.num_compared) == (1, 1, 1)


@only_sqlite
def test_answers_of_policies_are_stored_once_and_compared(store: Store) -> None:
    with store.writing() as db:
        versions = two_versions(db, "assistant")
        first, second = (str(version.id) for version in versions)
        samples = [
            {"prompt": f"Why {n}?", "answers": {first: f"No {n}.", second: f"So {n}."}}
            for n in range(3)
        ]
        samples.append({"prompt": "Same?", "answers": {first: "Yes.", second: "Yes. "}})
        kept = keep(db, versions, "policy", [], samples=samples)
        found = find_disagreements(kept, versions[1].id, versions[0].id)
        assert (found.subject, found.num_items) == (QueueSubject.COMPARISONS, 3)
        queue = ask(db, kept)
        answers = {row.completion: row for row in db.scalars(sa.select(Interaction))}
        assert len(answers) == 6
        assert answers["So 1."].model_version_id == versions[1].id
        rater = make_actor(db)
        for _ in range(3):
            claim = claim_next(db, queue.id, actor=rater)
            assert claim is not None
            ids = {claim.interaction_id, claim.other_interaction_id}
            vote(db, queue, rater, next(row.id for text, row in answers.items()
                                        if row.id in ids and text.startswith("So")))  # fmt: skip
        people = list_people(db, actor=SYSTEM, version_id=versions[1].id)
        (turned,) = list_people(db, actor=SYSTEM, version_id=versions[0].id)
    assert [one.verdict.num_wins for one in people] == [3]
    assert (turned.version_id, turned.other_id) == (versions[0].id, versions[1].id)
    said, own = turned.verdict, people[0].verdict
    assert (said.num_wins, said.num_losses, said.other) == (0, 3, versions[1].name)
    assert said.win_rate is not None
    assert own.win_rate is not None
    assert (said.win_rate.value, said.win_rate.low) == (0.0, 0.0)
    assert said.win_rate.high == 1.0 - own.win_rate.low < 1.0


@only_sqlite
def test_wrong_wishes_are_refused(store: Store) -> None:
    with store.writing() as db:
        versions = two_versions(db)
        one = make_interaction(db).id
        kept = keep(db, versions, "scores", [row_of(versions, (0.9, 0.8), interaction_id=str(one))])
        with pytest.raises(NotEnoughData, match="rows on which the two versions disagree"):
            ask(db, kept)
        with pytest.raises(InvalidInput, match="two different versions"):
            create_version_queue(
                db, actor=SYSTEM, comparison_id=kept.id, version_id=kept.version_ids[0]
            )
        with pytest.raises(Forbidden):
            create_version_queue(
                db, actor=make_actor(db, Role.ANALYST), comparison_id=kept.id,
                version_id=kept.version_ids[1],
            )  # fmt: skip
