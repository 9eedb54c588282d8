"""The rules on rows: agreement, drift, failed runs, canaries; and rules replayed on the past."""

import random
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.alerts.backtest import replay_rule
from rlhf_core.alerts.findings import Finding
from rlhf_core.alerts.params import (
    PARAMS,
    AgreementBelow,
    ApprovalBelow,
    CanaryDue,
    Drift,
    NegativesSpike,
    NoFeedback,
    Params,
    RunFailed,
    kind_of,
    params_to_json,
    parse_params,
)
from rlhf_core.alerts.watch import watch
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.registry.scores import store_rewards
from rlhf_core.registry.service import promote_version
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Deployment, Feedback, Interaction, InteractionRollup, Job
from rlhf_core.vocabulary import AlertKind, JobKind, JobState, Resource, Role
from tests.builders import make_actor
from tests.core.alerts.counted import NOW, add_day, add_days, ago
from tests.core.registry.world import make_version
from tests.databases import only_sqlite
from tests.learning.rated import add_feedback, add_interaction, add_rater

DAY = timedelta(days=1)


def look(db: Session, params: Params) -> list[Finding]:
    (found,) = watch(db, params, [NOW])
    return found


def firing(found: list[Finding]) -> list[str]:
    return [one.slice_key for one in found if one.is_firing]


def add_judged_twice(db: Session, number: int, *, agree: bool, days_ago: int) -> None:
    first, second = add_rater(db, f"a{days_ago}{agree}"), add_rater(db, f"b{days_ago}{agree}")
    for place in range(number):
        thumb = 1 if place % 2 else -1
        # an old thing: what counts is when it was judged
        thing = add_interaction(db, occurred_at=NOW - 300 * DAY)
        at = NOW - days_ago * DAY
        add_feedback(db, thing, first, thumb=thumb, occurred_at=at)
        add_feedback(db, thing, second, thumb=thumb if agree else -thumb, occurred_at=at)


def test_agreement_of_the_last_days_fires_and_that_of_before_does_not(store: Store) -> None:
    with store.writing() as db:
        add_judged_twice(db, 30, agree=True, days_ago=5)
        assert firing(look(db, AgreementBelow())) == []
        add_judged_twice(db, 40, agree=False, days_ago=40)
        assert firing(look(db, AgreementBelow())) == []
        (found,) = look(db, AgreementBelow(days=60))
        assert (found.slice_key, found.is_firing) == ("thumb", True)
        assert look(db, AgreementBelow(min_n=31)) == [], "too few things"


@only_sqlite
def test_agreement_on_demo_data_counts_only_where_there_is_no_other(store: Store) -> None:
    with store.writing() as db:
        add_judged_twice(db, 40, agree=False, days_ago=3)
        db.execute(sa.update(Interaction).values(source="demo"))
        assert firing(look(db, AgreementBelow())) == ["thumb"]
        add_judged_twice(db, 30, agree=True, days_ago=4)
        db.add(
            InteractionRollup(
                day=ago(4), source="app", action_type="", model_name="",
                num_interactions=30, num_with_feedback=30,
            )
        )  # fmt: skip
        db.flush()
        (found,) = look(db, AgreementBelow())
    assert (found.value, found.is_firing) == (1.0, False)


@only_sqlite
def test_drift_of_many_judgements_a_window_is_still_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.alerts import watch_judges

    monkeypatch.setattr(watch_judges, "MAX_JUDGED", 80)
    with store.writing() as db:
        version = make_version(db)
        add_scored(db, version, 30, 120, accuracy=0.95)
        add_scored(db, version, 3, 100, accuracy=0.6)
        promote_version(db, version.id, actor=SYSTEM, reason="test")
        (found,) = look(db, Drift())
        assert (found.is_firing, found.details["num"]) == (True, 80)
        # who rates again by themselves says something new
        db.execute(sa.update(Feedback).values(occasion=1))
        assert firing(look(db, Drift())) == [""]


@only_sqlite
def test_replay_of_agreement_looks_at_few_moments(store: Store) -> None:
    with store.reading() as db:
        replay = replay_rule(db, actor=SYSTEM, params=AgreementBelow(), now=NOW)
    assert replay.num_moments <= 5


def add_scored(db: Session, version: Any, days_ago: int, number: int, *, accuracy: float) -> None:
    """Judged interactions whose reward is on the right side so often."""
    drawn = random.Random(days_ago)
    rater = add_rater(db, f"r{days_ago}")
    rewards = {}
    for place in range(number):
        is_good = place % 2 == 0
        at = NOW - days_ago * DAY
        thing = add_interaction(db, occurred_at=at)
        add_feedback(db, thing, rater, rating=5 if is_good else 1, occurred_at=at)
        is_right = drawn.random() < accuracy
        rewards[thing] = drawn.random() + (1.0 if is_good == is_right else 0.0)
    store_rewards(db, version.id, rewards, actor=SYSTEM)


def test_reward_that_no_longer_tells_good_from_bad_fires(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        add_scored(db, version, 30, 120, accuracy=0.95)
        add_scored(db, version, 3, 100, accuracy=0.6)
        assert look(db, Drift()) == [], "nothing is in production"
        promote_version(db, version.id, actor=SYSTEM, reason="test")
        (found,) = look(db, Drift())
        assert found.is_firing
        assert found.value is not None
        assert found.value < 0.8 < found.details["before"]
        assert "reward v1: AUC" in found.said
        assert firing(look(db, Drift(drop=0.5))) == []
        assert look(db, Drift(min_n=101)) == []
        # demo data beside other does not count
        db.execute(sa.update(Interaction).values(source="demo"))
        assert firing(look(db, Drift())) == [""], "alone it does"


def add_job(db: Session, kind: JobKind, state: JobState, hours_ago: float) -> None:
    at = NOW - timedelta(hours=hours_ago)
    db.add(
        Job(kind=kind, state=state, resource=Resource.CPU, params={}, created_at=at, finished_at=at)
    )
    db.flush()


def test_failed_run_fires_until_one_of_its_kind_succeeds(store: Store) -> None:
    with store.writing() as db:
        add_job(db, JobKind.TRAIN_PPO, JobState.SUCCEEDED, 9)
        add_job(db, JobKind.TRAIN_PPO, JobState.FAILED, 8)
        add_job(db, JobKind.TRAIN_PPO, JobState.FAILED, 7)
        add_job(db, JobKind.IMPORT, JobState.FAILED, 24 * 8)
        (found,) = look(db, RunFailed())
        assert (found.slice_key, found.value, found.is_firing) == ("train_ppo", 2.0, True)
        assert found.said == "The last 2 runs of train ppo failed"
        add_job(db, JobKind.TRAIN_PPO, JobState.CANCELED, 2)
        assert firing(look(db, RunFailed())) == ["train_ppo"]
        add_job(db, JobKind.TRAIN_PPO, JobState.SUCCEEDED, 1)
        assert firing(look(db, RunFailed())) == []


def test_canary_waits_for_a_decision(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        db.add(
            Deployment(
                model_id=version.model_id, version_id=version.id, traffic_percent=10.0,
                started_at=NOW - 15 * DAY,
            )
        )  # fmt: skip
        db.flush()
        (found,) = look(db, CanaryDue())
        assert (found.slice_key, found.is_firing) == ("reward v1", True)
        assert firing(look(db, CanaryDue(days=16))) == []
        db.execute(sa.update(Deployment).values(ended_at=NOW - DAY, state="stopped"))
        assert look(db, CanaryDue()) == []


@only_sqlite
def test_canary_is_due_after_the_days_of_its_plan(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        db.add(
            Deployment(
                model_id=version.model_id, version_id=version.id, traffic_percent=10.0,
                started_at=NOW - 5 * DAY, plan={"due_days": 4.0},
            )
        )  # fmt: skip
        db.flush()
        (found,) = look(db, CanaryDue())
        assert found.is_firing
        assert found.said == "reward v1 has been on part of the traffic for 5 days, its plan says 4"
        db.execute(sa.update(Deployment).values(plan={"due_days": 6.0}))
        assert firing(look(db, CanaryDue(days=1))) == []


@only_sqlite
def test_canary_that_was_taken_back_by_itself_is_said_for_a_day(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
        db.add(
            Deployment(
                model_id=version.model_id, version_id=version.id, traffic_percent=10.0,
                started_at=NOW - 5 * DAY, ended_at=NOW - DAY / 2, state="rolled_back",
                verdict={"kind": "roll_back_harm", "sentence": "Harm, rolled back: 60 against 80."},
            )
        )  # fmt: skip
        db.flush()
        (found,) = look(db, CanaryDue())
        assert found.is_firing
        assert found.said == "reward v1 was taken back: Harm, rolled back: 60 against 80."
        db.execute(sa.update(Deployment).values(ended_at=NOW - DAY))
        assert look(db, CanaryDue()) == []
        db.execute(sa.update(Deployment).values(ended_at=NOW, verdict={"kind": "keep_waiting"}))
        assert look(db, CanaryDue()) == [], "a person did it"
        admin = make_actor(db, Role.ADMIN)
        harm = {"kind": "worse", "sentence": "Worse."}
        db.execute(sa.update(Deployment).values(verdict=harm, ended_by=admin.account_id))
        assert look(db, CanaryDue()) == [], "a person did it, while it did harm"


@only_sqlite
def test_canary_that_cannot_be_judged_is_said_and_so_is_its_end(store: Store) -> None:
    since = {"blocked_since": (NOW - DAY / 24).timestamp()}
    verdict = {"kind": "blocked_sample_ratio", "sentence": "No verdict: 9 of 9.", "numbers": since}
    with store.writing() as db:
        version = make_version(db)
        db.add(
            Deployment(
                model_id=version.model_id, version_id=version.id, traffic_percent=10.0,
                started_at=NOW - DAY / 4, verdict=verdict,
            )
        )  # fmt: skip
        db.flush()
        (found,) = look(db, CanaryDue())
        assert (found.is_firing, found.said) == (
            True,
            "reward v1 cannot be judged. No verdict: 9 of 9.",
        )
        (earlier,) = watch(db, CanaryDue(), [NOW - DAY / 12])[0]
        assert not earlier.is_firing
        db.execute(sa.update(Deployment).values(state="stopped", ended_at=NOW))
        (found,) = look(db, CanaryDue())
        assert (found.is_firing, found.said) == (
            True,
            "reward v1 was stopped: No verdict: 9 of 9.",
        )
        db.execute(sa.update(Deployment).values(state="running", ended_at=None, verdict="?"))
        assert firing(look(db, CanaryDue())) == []


@only_sqlite
def test_replay_tells_when_a_rule_would_have_fired(store: Store) -> None:
    with store.writing() as db:
        add_days(db, 80, 0, good=19, bad=1)
        for days in (60, 59, 58, 20, 19, 0):
            add_day(db, ago(days), 0, 100, action_type="broken")
    with store.reading() as db:
        replay = replay_rule(db, actor=SYSTEM, params=ApprovalBelow(), now=NOW)
        quiet = replay_rule(db, actor=SYSTEM, params=ApprovalBelow(level=0.1), now=NOW)
        live = look(db, ApprovalBelow())
    assert [one.opened_at.date() for one in replay.firings] == [ago(60), ago(20), ago(0)]
    assert replay.firings[0].ended_at is not None
    assert replay.firings[0].ended_at.date() == ago(51), "the window of seven days has passed"
    assert replay.firings[-1].ended_at is None
    assert list(replay.now) == live, "the past and the present are looked at alike"
    assert (quiet.firings, quiet.num_moments, quiet.num_told) == ((), 91, 80)


@only_sqlite
def test_replay_of_the_chart_tells_on_a_day_what_the_live_check_told_then(store: Store) -> None:
    with store.writing() as db:
        for days in range(80):
            bad = 30 if 20 <= days < 26 else 10 + days % 3
            add_day(db, ago(days), 60 - bad, bad)
    params = NegativesSpike()
    with store.reading() as db:
        replay = replay_rule(db, actor=SYSTEM, params=params, now=NOW)
        (one,) = replay.firings
        (then,) = watch(db, params, [one.opened_at])
        (before,) = watch(db, params, [one.opened_at - DAY])
    assert ago(24) <= one.opened_at.date() <= ago(21)
    assert (firing(then), firing(before)) == ([""], [])


@only_sqlite
def test_replay_of_silence_looks_each_hour(store: Store) -> None:
    with store.writing() as db:
        for days in range(30):
            if days != 10:
                add_day(db, ago(days), 1, 0, hour=9)
        replay = replay_rule(db, actor=SYSTEM, params=NoFeedback(hours=30), now=NOW)
        with pytest.raises(Forbidden):
            replay_rule(db, actor=make_actor(db), params=NoFeedback())
    (one,) = replay.firings
    # from 10:00 of the eleventh day ago to 16:00 of the tenth
    assert one.opened_at.date() == ago(10)
    assert 15 <= one.opened_at.hour <= 16


@only_sqlite
def test_every_kind_can_be_replayed_where_there_is_nothing(store: Store) -> None:
    with store.writing() as db:
        analyst = make_actor(db, Role.ANALYST)
        for params in PARAMS.values():
            assert replay_rule(db, actor=analyst, params=params()).firings == ()


@pytest.mark.parametrize("kind", AlertKind)
def test_params_go_to_json_and_back(kind: AlertKind) -> None:
    params = PARAMS[kind]()
    assert parse_params(kind, params_to_json(params)) == params
    assert kind_of(params) is kind


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"level": 1.5}, "from 0.01 to 0.99"),
        ({"level": float("nan")}, "from 0.01"),
        ({"level": True}, "a number"),
        ({"days": 1.5}, "a whole number"),
        ({"days": "7"}, "a whole number"),
        ({"split": "rater"}, "choose from"),
        ({"sources": "app"}, "a list of names"),
        ({"often": 1}, "Unknown parameter 'often'"),
    ],
)
def test_wrong_params_are_refused_with_a_sentence(plain: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_params(AlertKind.APPROVAL_BELOW, plain)
