"""Versions reach users by the rules, and go back without them."""

import pytest
import sqlalchemy as sa

from rlhf_core import artifacts
from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Conflict, Forbidden, GatesFailed, InvalidInput, NotFound
from rlhf_core.gates.rules import set_rule
from rlhf_core.gates.service import (
    check_gates,
    check_share,
    promote_by_gates,
    roll_back_to,
    verify_files,
)
from rlhf_core.gates.vetoes import set_veto
from rlhf_core.gates.views import describe_evidence
from rlhf_core.registry.service import alias_history, find_production, promote_version
from rlhf_core.release.service import get_deployment, list_deployments
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent
from rlhf_core.vocabulary import DeploymentState, GateKind, GateState, Role
from tests.builders import make_actor
from tests.core.gates.world import examine
from tests.core.registry.world import make_version
from tests.core.release.live_world import make_pair, start
from tests.databases import only_sqlite

pytestmark = only_sqlite


def test_sound_version_is_promoted_with_what_the_rules_said(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        examine(db, version)
        trainer = make_actor(db, Role.TRAINER)
        moved = promote_by_gates(db, version.id, actor=trainer, reason="good", expected_revision=0)
        (change,) = alias_history(db, "reward", actor=SYSTEM)
    assert (moved.number, moved.revision, change.reason) == (1, 1, "good")
    assert change.evidence is not None
    said = {one["kind"]: one["state"] for one in change.evidence["gates"]}
    assert (said["num_rows"], said["quality"], said["blind_wins"]) == (
        "pass", "pass", "not_measured",
    )  # fmt: skip
    assert set(said) == {
        "integrity", "num_rows", "quality", "not_worse", "calibration", "sycophancy",
        "blind_wins", "canary", "veto", "consent", "erased_rows",
    }  # fmt: skip
    assert "overridden" not in change.evidence
    assert describe_evidence(change.evidence) == "6 of 11 rules kept, 5 not measured"


def test_version_that_breaks_rules_is_refused_by_name(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        examine(db, version, {"auc": (0.55, 0.4, 0.7)}, num_rows=12)
        trainer, admin = make_actor(db, Role.TRAINER), make_actor(db, Role.ADMIN)
        with pytest.raises(GatesFailed, match=r"Rows examined \(fail\): 12 rows") as refused:
            promote_by_gates(db, version.id, actor=trainer, reason="now")
        assert refused.value.failed == ("num_rows", "quality")
        with pytest.raises(Forbidden, match="override gates"):
            promote_by_gates(db, version.id, actor=trainer, reason="now", override_reason="I may")
        with pytest.raises(InvalidInput, match="why the rules are passed over"):
            promote_by_gates(db, version.id, actor=admin, reason="now", override_reason=" ")
        assert find_production(db) is None
        promote_by_gates(db, version.id, actor=admin, reason="now", override_reason="The demo.")
        (change,) = alias_history(db, "reward", actor=SYSTEM)
        (event,) = db.scalars(sa.select(AuditEvent).where(AuditEvent.action == "gates.override"))
    assert change.evidence is not None
    assert change.evidence["overridden"] == ["num_rows", "quality"]
    assert change.evidence["override_reason"] == "The demo."
    assert "passed over num_rows, quality: The demo." in describe_evidence(change.evidence)
    assert (event.account_id, event.details) == (
        admin.account_id,
        {"model": "reward", "number": 1, "rules": ["num_rows", "quality"], "reason": "The demo."},
    )


def test_no_reason_passes_over_damaged_files(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        (version.folder / "head.json").write_text("weightS")
        with pytest.raises(GatesFailed, match=r"head\.json.*No reason passes over"):
            promote_by_gates(db, version.id, actor=SYSTEM, reason="x", override_reason="I must")
        set_rule(db, actor=SYSTEM, kind=GateKind.INTEGRITY, is_on=False)
        with pytest.raises(InvalidInput, match=r"head\.json is not the file"):
            promote_by_gates(db, version.id, actor=SYSTEM, reason="x")


def test_rule_that_is_off_or_only_warns_keeps_nobody_from_users(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        examine(db, version, num_rows=3)
        set_rule(db, actor=SYSTEM, kind=GateKind.NUM_ROWS, is_required=False)
        results = {one.kind: one for one in check_gates(db, version.id, actor=SYSTEM)}
        rows = results[GateKind.NUM_ROWS]
        assert (rows.state, rows.blocks) == (GateState.FAIL, False)
        set_rule(db, actor=SYSTEM, kind=GateKind.NUM_ROWS, is_on=False)
        kinds = {one.kind for one in check_gates(db, version.id, actor=SYSTEM)}
        assert GateKind.NUM_ROWS not in kinds
        promote_by_gates(db, version.id, actor=SYSTEM, reason="good")


def test_share_of_the_traffic_asks_for_files_data_and_vetoes_only(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        examine(db, version, {"auc": (0.55, 0.4, 0.7)}, num_rows=12)
        trainer = make_actor(db, Role.TRAINER)
        evidence = check_share(db, version.id, actor=trainer, percent=50.0)
        assert {one["state"] for one in evidence["gates"]} == {"pass", "fail", "not_measured"}
        set_veto(db, version.id, actor=trainer, reason="no")
        with pytest.raises(GatesFailed) as refused:
            check_share(db, version.id, actor=trainer, percent=5.0)
        assert refused.value.failed == ("veto",)
        with pytest.raises(GatesFailed) as refused:  # most users: as a promotion
            check_share(db, version.id, actor=trainer, percent=50.1)
        assert refused.value.failed == ("num_rows", "quality", "veto")
        over = check_share(
            db, version.id, actor=SYSTEM, percent=5.0, override_reason="to measure it"
        )
    assert over["overridden"] == ["veto"]


def test_roll_back_goes_to_any_earlier_version_and_asks_for_no_figure(store: Store) -> None:
    with store.writing() as db:
        versions = [make_version(db) for _ in range(4)]
        for version in versions[:3]:
            promote_version(db, version.id, actor=SYSTEM, reason="better")
        examine(db, versions[0], num_rows=1)  # breaks a rule: it served once all the same
        back = roll_back_to(
            db, "reward", actor=SYSTEM, reason="harm", version_id=versions[0].id,
            expected_revision=3,
        )  # fmt: skip
        assert (back.number, back.revision) == (1, 4)
        assert alias_history(db, "reward", actor=SYSTEM)[0].is_roll_back
        with pytest.raises(Conflict, match="never"):
            roll_back_to(db, "reward", actor=SYSTEM, reason="harm", version_id=versions[3].id)
        with pytest.raises(Conflict):
            roll_back_to(db, "reward", actor=SYSTEM, reason="harm")
        with pytest.raises(NotFound):
            roll_back_to(db, "other", actor=SYSTEM, reason="harm")


def test_promotion_ends_the_canary_of_the_version_and_keeps_its_verdict(store: Store) -> None:
    with store.writing() as db:
        _, version = make_pair(db)
        examine(db, version)
        running = start(db, version)
        promote_by_gates(db, version.id, actor=SYSTEM, reason="it won")
        ended = get_deployment(db, running.id, actor=SYSTEM)
        change = alias_history(db, "reward", actor=SYSTEM)[0]
    assert ended.state is DeploymentState.PROMOTED
    assert change.evidence is not None
    assert change.evidence["deployment_id"] == str(running.id)
    assert "gates" in change.evidence


def test_move_to_another_version_stops_the_canary(store: Store) -> None:
    with store.writing() as db:
        first, second = make_pair(db)
        examine(db, second)
        promote_by_gates(db, second.id, actor=SYSTEM, reason="better")
        start(db, make_version(db))
        roll_back_to(db, "reward", actor=SYSTEM, reason="harm")
        (ended,) = list_deployments(db, actor=SYSTEM)
        found = find_production(db)
    assert ended.state is DeploymentState.STOPPED
    assert found is not None
    assert found.id == first.id


def test_bad_requests_are_sentences(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        rater = make_actor(db)
        with pytest.raises(Forbidden):
            check_gates(db, version.id, actor=rater)
        with pytest.raises(Forbidden):
            promote_by_gates(db, version.id, actor=rater, reason="x")
        with pytest.raises(InvalidInput, match="Say why"):
            promote_by_gates(db, version.id, actor=SYSTEM, reason=" ")
        promote_by_gates(db, version.id, actor=SYSTEM, reason="first")
        with pytest.raises(Conflict, match="production version already"):
            promote_by_gates(db, version.id, actor=SYSTEM, reason="again")
        other = make_version(db)
        examine(db, other)
        with pytest.raises(Conflict, match="meanwhile"):
            promote_by_gates(db, other.id, actor=SYSTEM, reason="x", expected_revision=0)


def test_files_are_not_read_again_while_the_database_is_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writing() as db:
        version = make_version(db)
    with store.reading() as db:
        verify_files(db, version.id, actor=SYSTEM)
        verify_files(db, None, actor=SYSTEM)
    monkeypatch.setattr(artifacts, "open_artifact", lambda *_: pytest.fail("read again"))
    with store.writing() as db:
        promote_by_gates(db, version.id, actor=SYSTEM, reason="good")


def test_damaged_file_is_the_decisions_own_refusal(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
    with store.reading() as db:
        verify_files(db, version.id, actor=SYSTEM)
        (version.folder / "head.json").write_text("weightS")
        verify_files(db, version.id, actor=SYSTEM)
    with store.writing() as db, pytest.raises(GatesFailed, match=r"head\.json is not the file"):
        promote_by_gates(db, version.id, actor=SYSTEM, reason="good")
