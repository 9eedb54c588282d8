"""Decisions on a deployment, and what is refused."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound, RlhfError
from rlhf_core.registry.service import (
    alias_history,
    find_production,
    get_alias,
    promote_version,
)
from rlhf_core.release import service
from rlhf_core.release.live import read_live_at
from rlhf_core.release.starting import get_version_of_run
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Job, ModelVersion
from rlhf_core.vocabulary import (
    Alias,
    DeploymentKind,
    DeploymentState,
    JobKind,
    JobState,
    ModelKind,
    Resource,
    Role,
)
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.core.release.live_world import make_pair, make_plan, policy_pair, start, start_new
from tests.databases import only_sqlite

PROMOTED, STOPPED = DeploymentState.PROMOTED, DeploymentState.STOPPED


def end(store: Store, deployment: Any, state: DeploymentState = STOPPED, **fields: Any) -> Any:
    with store.writing() as db:
        return service.end_deployment(
            db, deployment.id, actor=SYSTEM, state=state,
            **({"reason": "enough", "expected_revision": deployment.revision} | fields),
        )  # fmt: skip


def canary_of(store: Store) -> uuid.UUID | None:
    with store.reading() as db:
        return get_alias(db, "reward", actor=SYSTEM, alias=Alias.CANARY).version_id


def test_start_keeps_the_plan_and_names_the_canary(store: Store) -> None:
    with store.writing() as db:
        trainer = make_actor(db, Role.TRAINER, name="Trainer")
        one, two = make_pair(db)
        plan = make_plan(is_planned=True)
        made = start(db, two, actor=trainer, plan=plan, traffic_percent=5, gates={"auc": "pass"})
    with store.reading() as db:
        assert service.get_deployment(db, made.id, actor=trainer) == made
        events = db.scalars(sa.select(AuditEvent.action)).all()
    assert (made.name, made.baseline_number, made.created_by) == ("reward v2", 1, "Trainer")
    assert (made.state, made.traffic_percent, made.revision) == ("running", 5.0, 0)
    assert made.plan == plan
    assert made.gates == {"auc": "pass"}
    assert [(step.traffic_percent, step.by) for step in made.steps] == [(5.0, "Trainer")]
    assert made.baseline_version_id == one.id
    assert canary_of(store) == two.id
    assert "deployment.start" in events


def test_share_grows_step_by_step_and_each_is_kept(store: Store) -> None:
    made = start_new(store, traffic_percent=5)
    with store.writing() as db:
        grown = service.set_traffic(
            db, made.id, actor=SYSTEM, percent=25, expected_revision=0, reason="no harm seen"
        )
    assert (grown.traffic_percent, grown.revision) == (25.0, 1)
    assert [(step.traffic_percent, step.reason) for step in grown.steps] == [
        (5.0, "try it"),
        (25.0, "no harm seen"),
    ]
    assert grown.plan == made.plan
    with store.writing() as db, pytest.raises(Conflict, match=r"it has 25 % now"):
        service.set_traffic(
            db, made.id, actor=SYSTEM, percent=50, expected_revision=0, reason="I saw 5 %"
        )
    with store.writing() as db, pytest.raises(Conflict, match=r"has 25 % of the traffic already"):
        service.set_traffic(
            db, made.id, actor=SYSTEM, percent=25, expected_revision=1, reason="again"
        )


def test_promotion_moves_production_with_the_deployment_as_evidence(store: Store) -> None:
    made = start_new(store)
    ended = end(store, made, PROMOTED, evidence={"gates": ["pass"]})
    with store.reading() as db:
        production = find_production(db)
        (move, _) = alias_history(db, "reward", actor=SYSTEM)
    assert (ended.state, ended.end_reason, ended.is_running) == ("promoted", "enough", False)
    assert production is not None
    assert production.id == made.version_id
    assert move.evidence == {
        "deployment_id": str(made.id), "traffic_percent": 50.0, "verdict": None, "gates": ["pass"],
    }  # fmt: skip
    assert canary_of(store) is None


@pytest.mark.parametrize("state", [STOPPED, DeploymentState.ROLLED_BACK])
def test_ended_otherwise_production_stays_and_the_version_may_be_tried_again(
    store: Store, state: DeploymentState
) -> None:
    made = start_new(store)
    ended = end(store, made, state)
    with store.writing() as db:
        production = find_production(db)
        again = service.start_deployment(
            db, actor=SYSTEM, model_name="reward", version_id=made.version_id, plan=make_plan(),
            traffic_percent=10, reason="mended",
        )  # fmt: skip
        listed = service.list_deployments(db, actor=SYSTEM, model_name="reward")
    assert ended.state is state
    assert production is not None
    assert production.id == made.baseline_version_id
    assert [one.id for one in listed] == [again.id, made.id]
    with pytest.raises(Conflict, match=f"was {state.value.replace('_', ' ')} already"):
        end(store, made)


@only_sqlite
def test_move_of_production_ends_what_runs(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        third = make_version(db)
        closed = service.close_for_move(
            db, "reward", actor=SYSTEM, version_id=third.id, reason="urgent"
        )
        promote_version(db, third.id, actor=SYSTEM, reason="urgent")
        assert closed is not None
        assert (closed.id, closed.state) == (made.id, "stopped")
        assert closed.end_reason == "Production moves to reward v3: urgent"
        again = start(db, make_version(db))
        closed = service.close_for_move(
            db, "reward", actor=SYSTEM, version_id=again.version_id, reason="good"
        )
        assert closed is not None
        assert (closed.state, closed.end_reason) == ("promoted", "good")
        assert service.describe_evidence(closed)["deployment_id"] == str(again.id)
        assert (
            service.close_for_move(db, "reward", actor=SYSTEM, version_id=third.id, reason="x")
            is None
        )
    assert canary_of(store) is None


@only_sqlite
@pytest.mark.parametrize(
    ("percent", "said"),
    [
        (101, "101 % is no share of the traffic: give more than 0 and less than 100."),
        (0, "0 % is no share"),
        (-5, "-5 % is no share"),
        (float("nan"), "nan % is no share"),
        (100, "With 100 % nobody is left to compare with: promote the version instead."),
    ],
)
def test_share_that_is_none(store: Store, percent: float, said: str) -> None:
    with store.writing() as db, pytest.raises(InvalidInput, match=said) as caught:
        start(db, make_pair(db)[1], traffic_percent=percent)
    assert caught.value.field == "traffic_percent"


@only_sqlite
def test_interleaving_leaves_some_who_get_the_control_alone(store: Store) -> None:
    interleaving = {"kind": DeploymentKind.INTERLEAVING}
    with store.writing() as db:
        two = make_pair(db)[1]
        with pytest.raises(InvalidInput, match="at most 99 % of the traffic"):
            start(db, two, traffic_percent=99.5, **interleaving)
        start(db, two, traffic_percent=99, **interleaving)


@only_sqlite
def test_version_that_cannot_take_part_is_refused_with_a_sentence(store: Store) -> None:
    def refused(error: type[RlhfError], said: str, version: Any, **fields: Any) -> None:
        with store.writing() as db, pytest.raises(error, match=said):
            start(db, version, **fields)

    with store.writing() as db:
        lonely = make_version(db)
    refused(Conflict, "No version of 'reward' serves yet.*promote reward v1 or another", lonely)
    with store.writing() as db:
        one, two = make_pair(db)
        policy, newer = policy_pair(db)
        other = make_version(db, model_name="shadow")
        deleted, broken = make_version(db), make_version(db)
        db.execute(
            sa.update(ModelVersion).where(ModelVersion.id == deleted.id).values(deleted_at=utcnow())
        )
        wrong = make_version(db, model_name="assistant", kind=ModelKind.REWARD_SBERT)
    (broken.folder / "head.json").unlink()
    refused(InvalidInput, f"{one.name} serves already: choose another", one)
    refused(InvalidInput, "is deleted: choose another", deleted)
    refused(RlhfError, "head.json", broken)
    refused(InvalidInput, "'shadow' has no traffic to share", other)
    refused(InvalidInput, "of kind reward_sbert, which cannot answer for 'assistant'", wrong)
    refused(InvalidInput, "cannot be interleaved|can be interleaved", newer,
            kind=DeploymentKind.INTERLEAVING)  # fmt: skip
    refused(InvalidInput, "Say why", two, reason="  ")
    with store.writing() as db:
        common = {"actor": SYSTEM, "plan": make_plan(), "reason": "try", "model_name": "reward"}
        with pytest.raises(InvalidInput, match="assistant v1 is no version of 'reward'"):
            service.start_deployment(db, version_id=policy.id, **common)  # type: ignore[arg-type]
        with pytest.raises(NotFound, match="There is no model version"):
            service.start_deployment(db, version_id=new_id(), **common)  # type: ignore[arg-type]
    with store.writing() as db:
        start(db, two)
    refused(Conflict, f"{two.name} is on 50 % of the traffic of 'reward' already", lonely)
    assert canary_of(store) == two.id


@only_sqlite
def test_system_prompts_are_tested_on_the_version_that_serves(store: Store) -> None:
    with store.writing() as db:
        one, two = policy_pair(db)
        prompts = {"kind": DeploymentKind.AB_TEST, "treatment_prompt": "Be short."}
        for version, fields, said in (
            (two, prompts, "of one version, the one that serves \\(assistant v1\\)"),
            (one, {**prompts, "control_prompt": "Be short."}, "Both system prompts are the same"),
            (one, {**prompts, "treatment_prompt": " "}, "A system prompt has text"),
            (one, {**prompts, "treatment_prompt": "x" * 20_001}, "at most 20,000 characters"),
            (one, {"treatment_prompt": "Be short."}, "tested in an A/B test of 'assistant'"),
        ):
            with pytest.raises(InvalidInput, match=said):
                start(db, version, **fields)  # type: ignore[arg-type]
        made = start(db, one, **prompts)
    assert (made.control_prompt, made.treatment_prompt) == (None, "Be short.")
    with pytest.raises(InvalidInput, match="Both sides of this test are assistant v1"):
        end(store, made, PROMOTED)
    assert end(store, made).state is STOPPED


@only_sqlite
def test_who_may_only_look_changes_nothing(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        analyst = make_actor(db, Role.ANALYST)
        assert service.get_deployment(db, made.id, actor=analyst).id == made.id
        with pytest.raises(Forbidden):
            start(db, make_version(db), actor=analyst)
        with pytest.raises(Forbidden):
            service.set_traffic(
                db, made.id, actor=analyst, percent=9, expected_revision=0, reason="more"
            )
        with pytest.raises(Forbidden):
            service.end_deployment(
                db, made.id, actor=analyst, state=PROMOTED, reason="x", expected_revision=0
            )
        with pytest.raises(Forbidden):
            service.close_for_move(
                db, "reward", actor=analyst, version_id=made.version_id, reason="x"
            )


@only_sqlite
def test_run_that_failed_has_no_version(store: Store) -> None:
    def add(db: Any, state: JobState) -> uuid.UUID:
        id_ = new_id()
        db.add(
            Job(
                id=id_, kind=JobKind.TRAIN_SBERT, state=state, resource=Resource.CPU, params={},
                workflow_id=str(id_),
            )
        )  # fmt: skip
        db.flush()
        return id_

    with store.writing() as db:
        for state, said in (
            (JobState.FAILED, "failed: it made no version"),
            (JobState.CANCELED, "was canceled: it made no version"),
            (JobState.QUEUED, "is queued and has no version yet"),
            (JobState.SUCCEEDED, "made no model"),
        ):
            with pytest.raises(Conflict, match=said):
                get_version_of_run(db, add(db, state), actor=SYSTEM)
        with pytest.raises(NotFound, match="There is no run"):
            get_version_of_run(db, new_id(), actor=SYSTEM)
        job = add(db, JobState.SUCCEEDED)
        made = make_version(db, job_id=job)
        assert get_version_of_run(db, job, actor=SYSTEM).id == made.id


@only_sqlite
def test_what_was_live_at_a_moment(store: Store) -> None:
    before = utcnow()
    made = start_new(store, traffic_percent=5)
    with store.writing() as db:
        grown = service.set_traffic(
            db, made.id, actor=SYSTEM, percent=25, expected_revision=0, reason="more"
        )
    ended = end(store, grown, PROMOTED)
    with store.reading() as db:

        def at(moment: Any) -> tuple[str | None, float | None]:
            found = read_live_at(db, "reward", moment, actor=SYSTEM)
            return found.production, found.traffic_percent

        assert at(before) == (None, None)
        assert at(grown.steps[0].since) == ("reward v1", 5.0)
        assert at(grown.steps[1].since) == ("reward v1", 25.0)
        assert at(ended.ended_at + timedelta(seconds=1)) == ("reward v2", None)
        with pytest.raises(InvalidInput, match="no time zone"):
            at(before.replace(tzinfo=None))
        with pytest.raises(NotFound, match="no model 'other'"):
            read_live_at(db, "other", before, actor=SYSTEM)
