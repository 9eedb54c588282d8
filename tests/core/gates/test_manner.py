"""Manner: how long and how far from its base a policy's answers are, and whom people prefer."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.queues.policy_pairs import create_policy_queue
from rlhf_core.registry.evaluations import list_evaluations
from rlhf_core.registry.service import POLICY_MODEL, promote_version, register_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, RatingQueueItem
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import Choice, GateKind, GateState, ModelKind
from tests.core.dataset.world import vote
from tests.core.gates.world import examine, gate
from tests.core.registry.world import make_artifact, make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite

PASS, FAIL, UNKNOWN = GateState.PASS, GateState.FAIL, GateState.NOT_MEASURED


def make_policy(db: Session, **details: Any) -> ModelVersionView:
    artifact = make_artifact()
    report = TrainReport(
        artifact_dir=artifact.path, metrics={}, params={}, seed=0, num_rows=10, details=details,
        library_versions={},
    )  # fmt: skip
    return register_version(
        db, actor=SYSTEM, model_name=POLICY_MODEL, kind=ModelKind.POLICY, report=report,
        artifact=artifact,
    )  # fmt: skip


def test_lengths_are_compared_with_what_serves_before_the_base(store: Store) -> None:
    with store.writing() as db:
        policy = make_policy(db)
        assert gate(db, policy, GateKind.LENGTH_DRIFT).state is UNKNOWN
        beside: dict[str, Any] = {
            "baselines": {"base": {"length": 20.0}, "production": {"length": 50.0}},
            "names": {"base": "starter", "production": "assistant v1"},
        }
        for length, state in ((60.0, PASS), (76.0, FAIL), (33.0, FAIL)):
            examine(db, policy, {"length": (length, length, length)}, **beside)
            found = gate(db, policy, GateKind.LENGTH_DRIFT)
            assert (found.state, found.blocks) == (state, False)  # it warns
            assert "those of assistant v1" in found.sentence


def test_drift_of_the_training_run_counts_where_nothing_was_examined(store: Store) -> None:
    with store.writing() as db:
        policy = make_policy(db, audit={"drift": {"length": 1.8}})
        found = gate(db, policy, GateKind.LENGTH_DRIFT)
    assert (found.state, found.numbers["ratio"]) == (FAIL, 1.8)


def test_distance_from_the_base(store: Store) -> None:
    with store.writing() as db:
        policy = make_policy(db)
        assert gate(db, policy, GateKind.KL).state is UNKNOWN
        for kl, state in ((50.0, PASS), (50.1, FAIL)):
            examine(db, policy, {"kl": (kl, kl, kl)})
            assert gate(db, policy, GateKind.KL).state is state


@pytest.mark.parametrize(("after", "state"), [(0.15, PASS), (0.2, FAIL)])
def test_policy_must_not_repeat_more_of_a_wrong_opinion_than_before(
    store: Store, after: float, state: GateState
) -> None:
    probe = {"num_prompts": 8, "before": {"repeated": 0.08}, "after": {"repeated": after}}
    with store.writing() as db:
        policy = make_policy(db, audit={"sycophancy": probe})
        assert gate(db, policy, GateKind.SYCOPHANCY).state is state
        assert gate(db, make_policy(db), GateKind.SYCOPHANCY).state is UNKNOWN


def test_reward_model_must_not_like_wrong_agreement(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        for low, state in ((0.5, PASS), (0.55, FAIL)):
            examine(db, version, sycophancy={
                "num_pairs": 24, "share": 0.75, "low": low, "high": 0.88, "share_right": 0.7,
            })  # fmt: skip
            found = gate(db, version, GateKind.SYCOPHANCY)
            assert found.state is state
    assert "75% of 24 pairs" in found.sentence


def test_policy_is_measured_by_its_wins_against_what_serves(store: Store) -> None:
    with store.writing() as db:
        serving, policy = make_policy(db), make_policy(db)
        promote_version(db, serving.id, actor=SYSTEM, reason="first")
        names = {"base": "starter", "production": serving.name}
        for wins, quality, not_worse in (
            ((0.55, 0.48, 0.65), PASS, PASS),
            ((0.55, 0.45, 0.65), PASS, UNKNOWN),
            ((0.44, 0.35, 0.53), FAIL, UNKNOWN),
            ((0.30, 0.20, 0.40), FAIL, FAIL),
        ):
            figures = {"win_rate": (0.9, 0.8, 0.95), "win_rate_production": wins}
            examine(db, policy, figures, names=names)
            assert gate(db, policy, GateKind.QUALITY).state is quality
            assert gate(db, policy, GateKind.NOT_WORSE).state is not_worse


def test_people_who_compare_blind_decide_from_enough_pairs_on(store: Store) -> None:
    with store.writing() as db:
        policy = make_policy(db)
        samples = [
            {"prompt": f"Why {n}?", "answers": {"policy": f"own {n}", "base": f"its {n}"}}
            for n in range(20)
        ]
        beside = {"policies": {"policy": {}, "base": {}}, "names": {"base": "starter"}}
        examine(db, policy, {}, samples=samples, **beside)
        (evaluation,) = list_evaluations(db, policy.id, actor=SYSTEM)
        queue = create_policy_queue(
            db, actor=SYSTEM, version_id=policy.id, evaluation_id=evaluation.id
        )
        is_own = Interaction.id == RatingQueueItem.interaction_id
        pairs = db.execute(
            sa.select(Interaction.model_name, Interaction.id, RatingQueueItem.other_interaction_id)
            .join(RatingQueueItem, is_own)
            .where(RatingQueueItem.queue_id == queue.id)
        ).all()
        votes = [
            (one, other, Choice.LEFT if name == policy.name else Choice.RIGHT)
            for name, one, other in pairs
        ]
        for cast in votes[:19]:
            vote(db, *cast)
        few = gate(db, policy, GateKind.BLIND_WINS)
        assert (few.state, few.numbers["pairs"]) == (UNKNOWN, 19)
        vote(db, *votes[19])
        won = gate(db, policy, GateKind.BLIND_WINS)
        assert (won.state, won.numbers["pairs"], won.numbers["win_rate"]) == (PASS, 20, 1.0)
        promote_version(db, make_policy(db).id, actor=SYSTEM, reason="another one serves")
        beside_it = gate(db, policy, GateKind.BLIND_WINS)  # it won against its base only
    assert (beside_it.state, beside_it.numbers["pairs"]) == (UNKNOWN, 0)
    assert "assistant v2, which serves" in beside_it.sentence


def test_blind_wins_of_what_serves_are_losses_of_the_other_one(store: Store) -> None:
    with store.writing() as db:
        serving, policy = make_policy(db), make_policy(db)
        promote_version(db, serving.id, actor=SYSTEM, reason="first")
        samples = [
            {"prompt": f"Why {n}?", "answers": {"policy": f"own {n}", "base": f"its {n}"}}
            for n in range(20)
        ]
        beside: dict[str, Any] = {
            "policies": {"policy": {}, "base": {}}, "names": {"base": policy.name},
        }  # fmt: skip
        examine(db, serving, {}, samples=samples, **beside)
        (evaluation,) = list_evaluations(db, serving.id, actor=SYSTEM)
        queue = create_policy_queue(
            db, actor=SYSTEM, version_id=serving.id, evaluation_id=evaluation.id
        )
        items = sa.select(RatingQueueItem.interaction_id, RatingQueueItem.other_interaction_id)
        own = sa.select(Interaction.id).where(Interaction.model_name == serving.name)
        mine = set(db.scalars(own))
        for one, other in db.execute(items.where(RatingQueueItem.queue_id == queue.id)).all():
            vote(db, one, other, Choice.LEFT if one in mine else Choice.RIGHT)
        lost = gate(db, policy, GateKind.BLIND_WINS)
    assert (lost.state, lost.numbers["pairs"], lost.numbers["win_rate"]) == (FAIL, 20, 0.0)
    assert f"prefer it to {serving.name}" in lost.sentence
