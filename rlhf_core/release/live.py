"""What a deployment looks like now: both arms side by side, and the verdict on them."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from statistics import NormalDist
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval
from rlhf_core.agreement.shares import wilson_interval
from rlhf_core.clock import utcnow
from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.registry.service import live_at
from rlhf_core.release.counts import (
    SERVED,
    Stratum,
    is_by_who_asked,
    is_feedback_of_people,
    read_strata,
    read_sums,
    user_keys,
    with_feedback,
)
from rlhf_core.release.interleaving import interleaving_verdict
from rlhf_core.release.judging import Verdict, VerdictKind, judge
from rlhf_core.release.plans import SHARES, CanaryPlan, Traffic, measure_traffic, plan_canary
from rlhf_core.release.starting import check_share
from rlhf_core.release.sums import ArmSums, Overlap, sum_arm
from rlhf_core.release.views import (
    ArmView,
    DeploymentView,
    LiveAt,
    LiveTable,
    load_deployments,
)
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_good
from rlhf_core.store.tables import Deployment, Model, ModelVersion
from rlhf_core.vocabulary import Arm, DeploymentKind

TRAFFIC_DAYS = 14
"""So far back the traffic is looked at from which a plan reckons its days."""
_Z95 = NormalDist().inv_cdf(0.975)


def read_live(db: Session, deployment_id: uuid.UUID, *, actor: Actor) -> LiveTable:
    """Requests, errors, latency and ratings of both arms with their intervals, and the verdict."""
    require(actor, Permission.READ_MODELS)
    found = load_deployments(db, Deployment.id == deployment_id)
    if not found:
        raise NotFound(f"There is no deployment {deployment_id}.")
    deployment = found[0]
    strata, overlaps = read_strata(db, deployment_id)
    verdict = deployment.verdict
    if deployment.is_running and not deployment.is_damaged:
        verdict = judge_now(db, deployment, strata, overlaps)
    arms = _read_arms(db, deployment_id, strata)
    return LiveTable(
        deployment=deployment,
        control=arms[Arm.CONTROL],
        treatment=arms[Arm.TREATMENT],
        strata=strata,
        verdict=verdict,
        read_at=utcnow(),
    )


def judge_now(
    db: Session,
    deployment: DeploymentView,
    strata: Sequence[Stratum],
    overlaps: Sequence[Overlap],
) -> Verdict | None:
    """The verdict on what was read; None without a plan.

    An interleaving test is judged by choices, and by errors as all are.

    Raises:
        InvalidInput: the plan or the last verdict is damaged.
    """
    if deployment.is_damaged:
        raise InvalidInput(
            f"{deployment.name} is not judged: its plan or its last verdict is damaged. Stop it "
            "and start it anew."
        )
    plan = deployment.plan
    if plan is None:
        return None
    verdict = judge(
        plan,
        [(stratum.control, stratum.treatment) for stratum in strata],
        expected_shares=[stratum.share for stratum in strata],
        overlaps=overlaps,
        before=deployment.verdict,
    )
    if deployment.kind is not DeploymentKind.INTERLEAVING:
        return verdict
    if verdict.kind is VerdictKind.ROLL_BACK_ERRORS:
        return verdict
    return interleaving_verdict(*_count_wins(db, deployment.id), alpha=plan.harm_alpha)


def read_traffic(
    db: Session, model_name: str, *, actor: Actor, days: int = TRAFFIC_DAYS
) -> Traffic:
    """What users asked of the model a day, and said of its answers, over the last `days`.

    A model that answers since a shorter time is measured over that time, at least one day.
    """
    require(actor, Permission.READ_MODELS)
    versions = db.scalars(
        sa.select(ModelVersion.id).join(Model).where(Model.name == model_name)
    ).all()
    now = utcnow()
    since = now - timedelta(days=days)
    own = sa.and_(SERVED.c.model_version_id.in_(versions), SERVED.c.served_at >= since)
    first = db.scalar(
        sa.select(SERVED.c.served_at).where(own).order_by(SERVED.c.served_at).limit(1)
    )
    passed = 1.0 if first is None else (now - first) / timedelta(days=1)
    return measure_traffic(read_sums(db, versions, since=since), max(1.0, passed))


def make_plan(
    db: Session,
    model_name: str,
    *,
    actor: Actor,
    kind: DeploymentKind = DeploymentKind.CANARY,
    traffic_percent: float = SHARES[0],
    **numbers: Any,
) -> CanaryPlan:
    """The plan of a deployment at the traffic seen; `numbers` are those of `plan_canary`.

    An interleaving test asks each user for both orders: it has no arms of unlike size, and is
    judged at all times.

    Raises:
        InvalidInput: a number lies outside its range, or the share is none.
    """
    check_share(kind, traffic_percent)
    if kind is DeploymentKind.INTERLEAVING:
        numbers["is_planned"], traffic_percent = False, min(traffic_percent, 50.0)
    seen = read_traffic(db, model_name, actor=actor)
    return plan_canary(seen, traffic_percent=traffic_percent, **numbers)


def read_live_at(db: Session, model_name: str, moment: datetime, *, actor: Actor) -> LiveAt:
    """What answered at that moment: production, and who had part of the traffic.

    Raises:
        InvalidInput: the moment has no time zone.
        NotFound: there is no such model.
    """
    require(actor, Permission.READ_MODELS)
    if moment.tzinfo is None:
        raise InvalidInput(f"{moment} has no time zone: say it with one, such as Z.", field="at")
    if db.scalar(sa.select(Model.id).where(Model.name == model_name)) is None:
        raise NotFound(f"There is no model {model_name!r} yet: train one first.")
    production = live_at(db, model_name, moment)
    found = load_deployments(
        db,
        Model.name == model_name,
        Deployment.started_at <= moment,
        sa.or_(Deployment.ended_at.is_(None), Deployment.ended_at > moment),
        limit=1,
    )
    deployment = found[0] if found else None
    return LiveAt(
        model_name=model_name,
        moment=moment,
        production_id=None if production is None else production.id,
        production=None if production is None else production.name,
        deployment=deployment,
        traffic_percent=None if deployment is None else deployment.percent_at(moment),
    )


def _read_arms(
    db: Session, deployment_id: uuid.UUID, strata: Sequence[Stratum]
) -> dict[Arm, ArmView]:
    own = SERVED.c.deployment_id == deployment_id
    requests = {row.arm: row for row in db.execute(_requests(own))}
    ratings = {row.arm: row for row in db.execute(_ratings(own))}
    quantiles = {
        arm: _read_latencies(db, own, arm, row.num_requests - row.num_errors)
        for arm, row in requests.items()
    }
    sums = {
        Arm.CONTROL: sum_arm([stratum.control for stratum in strata]),
        Arm.TREATMENT: sum_arm([stratum.treatment for stratum in strata]),
    }
    return {
        arm: _view_arm(
            arm, requests.get(arm.value), ratings.get(arm.value), quantiles.get(arm.value),
            sums[arm],
        )
        for arm in sums
    }  # fmt: skip


def _requests(own: Any) -> Any:
    keys = user_keys(
        own, SERVED.c.arm, SERVED.c.is_error, SERVED.c.is_fallback, SERVED.c.chosen_index
    )
    return sa.select(
        keys.c.arm,
        sa.func.count().label("num_requests"),
        sa.func.count(keys.c.user_key.distinct()).label("num_users"),
        sa.func.count().filter(keys.c.is_error).label("num_errors"),
        sa.func.count().filter(keys.c.is_fallback).label("num_fallbacks"),
        sa.func.count(keys.c.chosen_index).label("num_choices"),
    ).group_by(keys.c.arm)


def _ratings(own: Any) -> Any:
    keys = user_keys(own, SERVED.c.arm, SERVED.c.interaction_id)
    thumb, rating = FEEDBACK.c.thumb, FEEDBACK.c.rating
    of_people, by_users = is_feedback_of_people(), is_by_who_asked(keys)
    is_users = sa.and_(of_people, by_users)
    is_others = sa.and_(of_people, sa.not_(by_users), sa.or_(is_good(FEEDBACK), is_bad(FEEDBACK)))
    return (
        sa.select(
            keys.c.arm,
            sa.func.count().filter(is_users, is_bad(FEEDBACK)).label("num_bad"),
            sa.func.count().filter(is_users, thumb > 0).label("num_thumbs_up"),
            sa.func.count().filter(is_users, thumb < 0).label("num_thumbs_down"),
            sa.func.count(rating).filter(is_users).label("num_ratings"),
            sa.cast(sa.func.avg(rating).filter(is_users), sa.Double).label("mean_rating"),
            sa.func.count().filter(is_others).label("num_by_experts"),
        )
        .select_from(with_feedback(keys))
        .group_by(keys.c.arm)
    )


def _read_latencies(db: Session, own: Any, arm: str, num: int) -> tuple[float, float] | None:
    """The nearest-rank median and 95th percentile of the requests that were answered."""
    if num <= 0:
        return None
    place = sa.func.row_number().over(order_by=SERVED.c.latency_ms).label("place")
    ranked = (
        sa.select(SERVED.c.latency_ms, place)
        .where(own, SERVED.c.arm == arm, SERVED.c.is_error.is_(False))
        .subquery()
    )
    wanted = (ceil(num * 0.5), ceil(num * 0.95))
    found = db.execute(
        sa.select(ranked.c.place, ranked.c.latency_ms).where(ranked.c.place.in_(wanted))
    )
    by_place = {place: latency for place, latency in found}
    if not by_place:
        return None
    return by_place[wanted[0]], by_place[max(by_place)]


def _view_arm(
    arm: Arm,
    requests: Any,
    ratings: Any,
    latencies: tuple[float, float] | None,
    sums: ArmSums,
) -> ArmView:
    if requests is None:
        return ArmView(arm)
    low_ms, high_ms = latencies or (None, None)
    return ArmView(
        arm=arm,
        num_requests=requests.num_requests,
        num_users=requests.num_users,
        num_errors=requests.num_errors,
        num_fallbacks=requests.num_fallbacks,
        error_rate=wilson_interval(requests.num_errors, requests.num_requests),
        latency_p50_ms=low_ms,
        latency_p95_ms=high_ms,
        num_feedback=sums.num_feedback,
        num_good=sums.num_good,
        num_bad=0 if ratings is None else ratings.num_bad,
        num_thumbs_up=0 if ratings is None else ratings.num_thumbs_up,
        num_thumbs_down=0 if ratings is None else ratings.num_thumbs_down,
        num_ratings=0 if ratings is None else ratings.num_ratings,
        mean_rating=None if ratings is None else ratings.mean_rating,
        approval=_approval(sums),
        num_choices=requests.num_choices,
        num_by_experts=0 if ratings is None else ratings.num_by_experts,
    )


def _approval(sums: ArmSums) -> Interval | None:
    if sums.approval is None:
        return None
    half = _Z95 * sums.variance() ** 0.5
    return Interval(sums.approval, max(0.0, sums.approval - half), min(1.0, sums.approval + half))


def _count_wins(db: Session, deployment_id: uuid.UUID) -> tuple[int, int, int]:
    """Users who used the control's picks more often, the treatment's, and both alike."""
    chosen = sa.and_(
        SERVED.c.deployment_id == deployment_id,
        SERVED.c.arm == Arm.TREATMENT.value,
        SERVED.c.chosen_index.is_not(None),
    )
    keys = user_keys(chosen, SERVED.c.chosen_index, SERVED.c.details)
    points: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for user, index, details in db.execute(
        sa.select(keys.c.user_key, keys.c.chosen_index, keys.c.details)
    ):
        order, teams = (details or {}).get("order", ()), (details or {}).get("teams", ())
        # The order of both failed, or the one used stood below what was shown: nobody's point.
        if index in order:
            points[user][teams[order.index(index)]] += 1
    leads = [found[Arm.TREATMENT.value] - found[Arm.CONTROL.value] for found in points.values()]
    return (
        sum(lead < 0 for lead in leads),
        sum(lead > 0 for lead in leads),
        sum(lead == 0 for lead in leads),
    )
