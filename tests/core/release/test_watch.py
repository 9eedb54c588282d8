"""What the arms did is counted, and a version that does harm leaves by itself."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import utcnow
from rlhf_core.registry.service import find_production, get_alias
from rlhf_core.release import service
from rlhf_core.release.counts import read_strata
from rlhf_core.release.judging import VerdictKind
from rlhf_core.release.live import read_live, read_traffic
from rlhf_core.release.sums import ArmSums
from rlhf_core.release.views import DeploymentView
from rlhf_core.release.watch import check_running
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Deployment
from rlhf_core.vocabulary import Alias, Arm, DeploymentKind, DeploymentState, RaterKind
from tests.core.release.live_world import make_plan, policy_pair, rate, serve, start, start_new
from tests.databases import only_sqlite

CONTROL, TREATMENT = Arm.CONTROL, Arm.TREATMENT


def look(store: Store, deployment: DeploymentView) -> DeploymentView:
    """Let the watch come by, however short ago it did, and read what it left."""
    with store.writing() as db:
        db.execute(sa.update(Deployment).values(checked_at=None))
    check_running(store)
    with store.reading() as db:
        return service.get_deployment(db, deployment.id, actor=SYSTEM)


def test_feedback_is_summed_by_arm_user_and_share(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1, 1, -1, None], user="ann")
        serve(db, made, CONTROL, [1, 0])
        serve(db, made, TREATMENT, [-1, -1], user="bob")
        serve(db, made, TREATMENT, [None], is_error=True)
        serve(db, made, TREATMENT, [1], user="ann", share=0.25)
        grown, overlaps = read_strata(db, made.id)
    first, second = sorted(grown, key=lambda stratum: -stratum.share)
    assert (first.share, second.share) == (0.5, 0.25)
    # ann: 3 rated, 2 good; one more rated one, which is good; a neutral thumb says neither
    assert first.control == ArmSums(
        num_requests=6, num_errors=0, num_users=3, num_failed_users=0, num_raters=2,
        num_feedback=4, num_good=3, sum_nn=10.0, sum_yy=5.0, sum_ny=7.0,
    )  # fmt: skip
    assert first.treatment == ArmSums(
        num_requests=3, num_errors=1, num_users=2, num_failed_users=1, num_raters=1,
        num_feedback=2, num_good=0, sum_nn=4.0, sum_yy=0.0, sum_ny=0.0,
    )  # fmt: skip
    assert second.control == ArmSums()
    (overlap,) = overlaps
    assert {overlap.one[1], overlap.other[1]} == {CONTROL, TREATMENT}
    assert (overlap.sum_nn, overlap.sum_yy) == (3.0, 2.0)
    assert {overlap.sum_ny, overlap.sum_yn} == {3.0, 2.0}


def test_what_does_not_count_is_left_out(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        (one,) = serve(db, made, CONTROL, [1])
        rate(db, [(one, -1)], rater_kind=RaterKind.MODEL)
        rate(db, [(one, -1)], withdrawn_at=utcnow())
        (other,) = serve(db, made, TREATMENT, [None])
        rate(db, [(other, 1)])
        # an answer of a named version, outside of any draw
        serve(db, made, TREATMENT, [1], deployment_id=None)
        ((stratum,), _) = read_strata(db, made.id)
    for arm in (stratum.control, stratum.treatment):
        assert (arm.num_requests, arm.num_feedback, arm.num_good) == (1, 1, 1)


def test_live_table_shows_each_arm_with_intervals(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 8 + [-1] * 2 + [None] * 10)
        (rated,) = serve(db, made, TREATMENT, [None])
        rate(db, [(rated, 1)], rating=5)
        serve(db, made, TREATMENT, [None] * 3, is_error=True, chosen_index=1)
        live = read_live(db, made.id, actor=SYSTEM)
    control, treatment = live.control, live.treatment
    assert (control.num_requests, control.num_users, control.num_errors) == (20, 20, 0)
    assert (control.num_thumbs_up, control.num_thumbs_down, control.num_bad) == (8, 2, 2)
    assert (control.latency_p50_ms, control.latency_p95_ms) == (19.0, 28.0)
    assert control.approval is not None
    assert control.approval.value == 0.8
    assert 0.5 < control.approval.low < 0.8 < control.approval.high <= 1.0
    assert (treatment.num_requests, treatment.num_errors, treatment.num_choices) == (4, 3, 3)
    assert (treatment.num_ratings, treatment.mean_rating) == (1, 5.0)
    assert treatment.error_rate is not None
    assert treatment.error_rate.value == 0.75
    assert live.verdict is not None
    assert live.verdict.kind is VerdictKind.KEEP_WAITING
    assert [stratum.share for stratum in live.strata] == [0.5]


@only_sqlite
def test_nothing_asked_yet_is_no_trouble(store: Store) -> None:
    made = start_new(store)
    with store.reading() as db:
        live = read_live(db, made.id, actor=SYSTEM)
        seen = read_traffic(db, "reward", actor=SYSTEM)
    assert (live.control.num_requests, live.treatment.approval) == (0, None)
    assert live.verdict is not None
    assert live.verdict.kind is VerdictKind.KEEP_WAITING
    assert (seen.users_per_day, seen.approval) == (0.0, None)


@only_sqlite
def test_traffic_seen_is_a_day_s(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1, 1, 1, -1], at=utcnow() - timedelta(days=4))
        serve(db, made, TREATMENT, [None] * 4)
        serve(db, made, CONTROL, [1] * 50, at=utcnow() - timedelta(days=20))
        seen = read_traffic(db, "reward", actor=SYSTEM)
    assert seen.requests_per_day == pytest.approx(2.0, rel=0.01)
    assert seen.feedback_per_day == pytest.approx(1.0, rel=0.01)
    assert seen.approval == 0.75


def test_harm_rolls_back_by_itself_and_says_why(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 180 + [-1] * 20)
        serve(db, made, TREATMENT, [1] * 60 + [-1] * 140)
    ended = look(store, made)
    assert (ended.state, ended.ended_by) == ("rolled_back", None)
    assert ended.verdict is not None
    assert ended.verdict.kind is VerdictKind.ROLL_BACK_HARM
    assert ended.end_reason == ended.verdict.sentence
    assert ended.ended_by_itself
    with store.reading() as db:
        assert get_alias(db, "reward", actor=SYSTEM, alias=Alias.CANARY).version_id is None
        production = find_production(db)
        assert production is not None
        assert production.id == made.baseline_version_id
        events = db.scalars(
            sa.select(AuditEvent.details).where(AuditEvent.action == "deployment.roll_back")
        ).all()
        assert [event and event["verdict"] for event in events] == [ended.end_reason]
        assert read_live(db, made.id, actor=SYSTEM).verdict == ended.verdict
    assert check_running(store) == []


@only_sqlite
def test_the_command_line_is_not_the_watch(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 300)
        serve(db, made, TREATMENT, [-1] * 100)
    seen = look(store, made)
    with store.writing() as db:
        ended = service.end_deployment(
            db, made.id, actor=SYSTEM, state=DeploymentState.STOPPED, reason="requests are lost",
            expected_revision=seen.revision,
        )  # fmt: skip
    assert (ended.ended_by, ended.ended_by_itself) == (None, False)


@only_sqlite
def test_errors_roll_back_before_anybody_rates(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [None] * 100)
        serve(db, made, TREATMENT, [None] * 60)
        serve(db, made, TREATMENT, [None] * 40, is_error=True)
    ended = look(store, made)
    assert ended.state == "rolled_back"
    assert ended.verdict is not None
    assert ended.verdict.kind is VerdictKind.ROLL_BACK_ERRORS


@only_sqlite
def test_mismatched_arms_are_kept_and_said(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 300)
        serve(db, made, TREATMENT, [-1] * 100)
    seen = look(store, made)
    assert seen.is_running
    assert seen.verdict is not None
    assert seen.verdict.kind is VerdictKind.BLOCKED_SAMPLE_RATIO


@only_sqlite
def test_mismatch_that_lasts_ends_the_canary(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 300)
        serve(db, made, TREATMENT, [-1] * 100)
    assert look(store, made).is_running
    for minutes, is_running in ((9, True), (11, False)):
        later = utcnow() + timedelta(minutes=minutes)
        monkeypatch.setattr("rlhf_core.release.watch.utcnow", lambda: later)  # noqa: B023
        assert look(store, made).is_running is is_running
    ended = look(store, made)
    assert ended.state == "stopped"
    assert ended.ended_by_itself
    assert ended.end_reason is not None
    assert ended.end_reason.startswith("For 10 minutes nobody could judge it. No verdict: 100 of")


@only_sqlite
def test_planned_canary_judged_worse_is_rolled_back_by_itself(store: Store) -> None:
    """The planned look sees less than the alarm needs."""
    plan = make_plan(is_planned=True, looks=1, detectable_drop=0.2, harm_alpha=0.0002)
    made = start_new(store, plan=plan)
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 160 + [-1] * 40)
        serve(db, made, TREATMENT, [1] * 138 + [-1] * 62)
    ended = look(store, made)
    assert ended.verdict is not None
    assert ended.verdict.kind is VerdictKind.WORSE
    assert (ended.state, ended.ended_by_itself) == ("rolled_back", True)


@only_sqlite
def test_planned_look_is_taken_once_and_what_it_decided_stays(store: Store) -> None:
    made = start_new(store, plan=make_plan(is_planned=True, looks=1, detectable_drop=0.2))
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 160 + [-1] * 40)
        serve(db, made, TREATMENT, [1] * 160 + [-1] * 40)
    decided = look(store, made).verdict
    assert decided is not None
    assert (decided.kind, decided.look) == (VerdictKind.NO_WORSE, 1)
    with store.writing() as db:
        serve(db, made, TREATMENT, [-1] * 8)
        serve(db, made, CONTROL, [1] * 8)
    assert look(store, made).verdict == decided


@only_sqlite
def test_better_version_waits_for_a_person(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 100 + [-1] * 100)
        serve(db, made, TREATMENT, [1] * 190 + [-1] * 10)
    seen = look(store, made)
    assert seen.is_running
    assert seen.verdict is not None
    assert seen.verdict.kind is VerdictKind.BETTER


def choose(store: Store, made: DeploymentView, wins: int, losses: int) -> None:
    """Users who used a pick of the treatment, and of the control; each chose twice."""
    details = {"order": [2, 0, 1], "teams": ["treatment", "control", "treatment"]}
    with store.writing() as db:
        for num, index in ((wins, 2), (losses, 0)):
            for _ in range(num):
                serve(
                    db, made, TREATMENT, [None, None], user=uuid.uuid4().hex,
                    endpoint="rerank", chosen_index=index, details=details,
                )  # fmt: skip


@only_sqlite
@pytest.mark.parametrize(("wins", "state"), [(30, "running"), (1, "rolled_back")])
def test_interleaved_orders_are_judged_by_what_users_choose(
    store: Store, wins: int, state: str
) -> None:
    made = start_new(store, kind=DeploymentKind.INTERLEAVING, traffic_percent=99)
    choose(store, made, wins, 31 - wins)
    with store.writing() as db:  # nobody's point: below what was shown, and an order that failed
        shown = {"order": [1], "teams": ["control"]}
        serve(db, made, TREATMENT, [None], chosen_index=2, details=shown)
        serve(db, made, TREATMENT, [None], chosen_index=0)
    seen = look(store, made)
    assert seen.state == state
    assert seen.verdict is not None
    assert (seen.verdict.numbers["wins_treatment"], seen.verdict.numbers["ties"]) == (wins, 0)
    expected = VerdictKind.BETTER if state == "running" else VerdictKind.WORSE
    assert seen.verdict.kind is expected


def test_two_workers_look_once(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        serve(db, made, CONTROL, [1] * 200)
        serve(db, made, TREATMENT, [-1] * 200)
    barrier = Barrier(4)

    def come_by(_: int) -> int:
        barrier.wait()
        return len(check_running(store))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(come_by, range(4))) == 1
    with store.reading() as db:
        ends = db.scalar(
            sa.select(sa.func.count()).where(AuditEvent.action == "deployment.roll_back")
        )
    assert ends == 1


@only_sqlite
def test_one_without_a_plan_runs_on(store: Store) -> None:
    made = start_new(store)
    with store.writing() as db:
        db.execute(sa.update(Deployment).values(plan=None))
        serve(db, made, TREATMENT, [-1] * 50)
        serve(db, made, CONTROL, [1] * 50)
    seen = look(store, made)
    assert (seen.state, seen.plan, seen.verdict) == ("running", None, None)


@only_sqlite
def test_damaged_plan_is_said_and_the_other_model_is_judged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    made = start_new(store)
    with store.writing() as db:
        db.execute(sa.update(Deployment).values(plan={"canary": {"alpha": 1}}))
        other = start(db, policy_pair(db)[1])
        serve(db, other, CONTROL, [1] * 200)
        serve(db, other, TREATMENT, [-1] * 200)
    assert [one.id for one in check_running(store)] == [other.id]
    assert f"{made.id} could not be judged: reward v2 is not judged: its plan" in caplog.text
    with store.writing() as db:
        assert read_live(db, made.id, actor=SYSTEM).verdict is None
        listed = service.list_deployments(db, actor=SYSTEM, model_name="reward")
        assert [one.is_damaged for one in listed] == [True]
        changed = service.set_traffic(
            db, made.id, actor=SYSTEM, percent=10.0, expected_revision=0, reason="less"
        )
        ended = service.end_deployment(
            db, made.id, actor=SYSTEM, state=DeploymentState.STOPPED, reason="it is damaged",
            expected_revision=changed.revision,
        )  # fmt: skip
    assert ended.state == "stopped"


@only_sqlite
@pytest.mark.parametrize(
    "damage",
    [{"verdict": {"kind": "new"}}, {"plan": {"steps": [{"since": "soon"}]}}, {"plan": ["?"]}],
)
def test_a_damaged_row_does_not_lock_the_model(store: Store, damage: dict[str, Any]) -> None:
    made = start_new(store)
    with store.writing() as db:
        db.execute(sa.update(Deployment).values(**damage))
        assert service.get_deployment(db, made.id, actor=SYSTEM).is_damaged
        service.close_for_move(
            db, "reward", actor=SYSTEM, version_id=made.version_id, reason="it is good"
        )
        start(db, service.get_version(db, made.version_id, actor=SYSTEM))
