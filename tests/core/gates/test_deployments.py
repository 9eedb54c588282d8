"""More of the traffic, and the way back, by the rules."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Forbidden, GatesFailed, InvalidInput
from rlhf_core.gates.deployments import set_traffic_by_gates, start_by_gates
from rlhf_core.gates.service import roll_back_to
from rlhf_core.gates.vetoes import set_veto
from rlhf_core.registry.service import alias_history, find_production, promote_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.release.judging import Verdict, VerdictKind
from rlhf_core.release.service import end_deployment
from rlhf_core.release.views import DeploymentView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Deployment
from rlhf_core.vocabulary import DeploymentKind, DeploymentState, GateKind, GateState, Role
from tests.builders import make_actor
from tests.core.gates.world import examine, gate
from tests.core.registry.world import make_version
from tests.core.release.live_world import make_pair, make_plan, policy_pair, start
from tests.databases import only_sqlite

pytestmark = only_sqlite

PASS, FAIL, UNKNOWN = GateState.PASS, GateState.FAIL, GateState.NOT_MEASURED


def share(db: Session, deployment: DeploymentView, percent: float, **more: Any) -> DeploymentView:
    fields: dict[str, Any] = {"actor": SYSTEM, "expected_revision": deployment.revision} | more
    return set_traffic_by_gates(db, deployment.id, percent=percent, reason="try", **fields)


def test_most_users_get_a_version_only_by_all_rules_and_fewer_is_free(store: Store) -> None:
    with store.writing() as db:
        _, version = make_pair(db)
        trainer = make_actor(db, Role.TRAINER)
        running = start(db, version, traffic_percent=5.0)
        running = share(db, running, 50.0, actor=trainer)
        with pytest.raises(GatesFailed) as refused:
            share(db, running, 50.5, actor=trainer)
        assert refused.value.failed == ("num_rows", "quality")
        with pytest.raises(Forbidden):
            share(db, running, 99.0, actor=trainer, override_reason="I may")
        running = share(db, running, 99.0, override_reason="urgent")
        assert running.gates is not None
        assert running.gates["override_reason"] == "urgent"
        set_veto(db, version.id, actor=trainer, reason="no")
        running = share(db, running, 10.0, actor=trainer)
        with pytest.raises(GatesFailed, match="no"):
            share(db, running, 25.0, actor=trainer)
        with pytest.raises(InvalidInput, match="promote the version"):
            share(db, running, 100.0, actor=trainer)


def test_start_above_half_asks_all_rules(store: Store) -> None:
    with store.writing() as db:
        _, version = make_pair(db)
        fields: dict[str, Any] = {
            "actor": make_actor(db, Role.TRAINER), "model_name": "reward", "reason": "try",
            "version_id": version.id, "plan": make_plan(),
        }  # fmt: skip
        with pytest.raises(GatesFailed, match="Rows examined"):
            start_by_gates(db, traffic_percent=51.0, **fields)
        examine(db, version)
        assert start_by_gates(db, traffic_percent=51.0, **fields).traffic_percent == 51.0


def test_share_of_a_system_prompt_asks_no_rule(store: Store) -> None:
    with store.writing() as db:
        serving, _ = policy_pair(db)
        made = start_by_gates(
            db, actor=SYSTEM, model_name="assistant", version_id=serving.id, plan=make_plan(),
            reason="try", traffic_percent=10.0, treatment_prompt="Be brief.",
            kind=DeploymentKind.AB_TEST,
        )  # fmt: skip
        assert share(db, made, 90.0).traffic_percent == 90.0


def test_roll_back_to_a_vetoed_version_takes_an_admins_reason(store: Store) -> None:
    with store.writing() as db:
        first, second = make_pair(db)
        promote_version(db, second.id, actor=SYSTEM, reason="better")
        trainer = make_actor(db, Role.TRAINER)
        set_veto(db, first.id, actor=trainer, reason="It invents laws.")
        with pytest.raises(GatesFailed, match="It invents laws") as refused:
            roll_back_to(db, "reward", actor=trainer, reason="harm")
        assert refused.value.failed == ("veto",)
        roll_back_to(
            db, "reward", actor=make_actor(db, Role.ADMIN), reason="harm",
            override_reason="The newer one is worse.",
        )  # fmt: skip
        found = find_production(db)
        change = alias_history(db, "reward", actor=SYSTEM)[0]
    assert found is not None
    assert found.id == first.id
    assert change.is_roll_back
    assert change.evidence is not None
    assert change.evidence["overridden"] == ["veto"]
    assert {one["kind"] for one in change.evidence["gates"]} == {
        "integrity", "veto", "consent", "erased_rows",
    }  # fmt: skip


def test_no_reason_rolls_back_to_damaged_files(store: Store) -> None:
    with store.writing() as db:
        first, second = make_pair(db)
        promote_version(db, second.id, actor=SYSTEM, reason="better")
        (first.folder / "head.json").write_text("weightS")
        with pytest.raises(GatesFailed, match="No reason passes over"):
            roll_back_to(db, "reward", actor=SYSTEM, reason="harm", override_reason="I must")


def say(db: Session, version: ModelVersionView, kind: VerdictKind) -> DeploymentView:
    """A canary whose stored verdict is this one."""
    made = start(db, version)
    verdict = Verdict(kind, f"It is {kind.value}.", {"users": 40})
    stated = sa.update(Deployment).where(Deployment.id == made.id)
    db.execute(stated.values(verdict=verdict.to_json()))
    return made


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (VerdictKind.WORSE, FAIL),
        (VerdictKind.ROLL_BACK_HARM, FAIL),
        (VerdictKind.ROLL_BACK_ERRORS, FAIL),
        (VerdictKind.BLOCKED_SAMPLE_RATIO, FAIL),
        (VerdictKind.BETTER, PASS),
        (VerdictKind.NO_WORSE, PASS),
        (VerdictKind.NO_DIFFERENCE, PASS),
        (VerdictKind.KEEP_WAITING, UNKNOWN),
    ],
)
def test_verdict_of_the_running_share_is_a_rule(
    store: Store, kind: VerdictKind, state: GateState
) -> None:
    with store.writing() as db:
        _, version = make_pair(db)
        say(db, version, kind)
        found = gate(db, version, GateKind.CANARY)
        assert (found.state, found.blocks) == (state, state is FAIL)
        assert not gate(db, version, GateKind.CANARY, for_share=True).blocks
    assert (f"It is {kind.value}." in found.sentence) is (state is not UNKNOWN)
    assert found.numbers.get("users") == (None if state is UNKNOWN else 40)


def test_verdict_of_the_last_ended_share_counts_and_none_where_there_was_none(
    store: Store,
) -> None:
    with store.writing() as db:
        _, version = make_pair(db)
        never = gate(db, version, GateKind.CANARY)
        assert (never.state, never.blocks) == (UNKNOWN, False)
        made = say(db, version, VerdictKind.WORSE)
        end_deployment(
            db, made.id, actor=SYSTEM, state=DeploymentState.ROLLED_BACK, reason="worse",
            expected_revision=0,
        )  # fmt: skip
        ended = gate(db, version, GateKind.CANARY)
        assert (ended.state, ended.blocks) == (FAIL, True)
        say(db, version, VerdictKind.NO_WORSE)
        assert gate(db, version, GateKind.CANARY).state is PASS
        assert gate(db, make_version(db), GateKind.CANARY).state is UNKNOWN
