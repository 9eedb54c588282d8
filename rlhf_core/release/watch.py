"""Looks at what runs, every few seconds, and takes back at once what does harm.

Every worker does; who claims the look writes what came of it.
"""

import logging
import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict, RlhfError
from rlhf_core.registry.reasons import MAX_REASON_CHARS
from rlhf_core.registry.views import storable
from rlhf_core.release.counts import read_strata
from rlhf_core.release.judging import Verdict, VerdictKind
from rlhf_core.release.live import judge_now
from rlhf_core.release.service import end_deployment
from rlhf_core.release.views import DeploymentView, load_deployments
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Deployment
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import DeploymentState

EACH_LOOK = timedelta(seconds=1.5)
"""Two workers that come by at the same time look once."""
MAX_BLOCKED = timedelta(minutes=10)
"""So long a wrong sample ratio may last: meanwhile no rating counts, so harm is not seen."""
BLOCKED_SINCE = "blocked_since"
"""Since when (seconds, UTC) the sample ratio is wrong, among the numbers of the verdict."""

logger = logging.getLogger(__name__)


def check_running(store: Store) -> list[DeploymentView]:
    """Judge each running deployment and keep the verdict; return those that were ended.

    While none runs this is one query over an index.
    """
    with store.reading() as db:
        running = Deployment.state == DeploymentState.RUNNING
        ids = db.scalars(sa.select(Deployment.id).where(running)).all()
    gone = []
    for deployment_id in ids:
        try:
            ended = _check(store, deployment_id)
        except RlhfError as error:
            logger.warning("The deployment %s could not be judged: %s", deployment_id, error)
            continue
        if ended is not None:
            how = ended.state.value.replace("_", " ")
            logger.warning("%s was %s: %s", ended.name, how, ended.end_reason)
            gone.append(ended)
    return gone


def _check(store: Store, deployment_id: uuid.UUID) -> DeploymentView | None:
    claimed_at = utcnow()
    if not _claim(store, deployment_id, claimed_at):
        return None
    with store.reading() as db:
        found = load_deployments(db, Deployment.id == deployment_id)
        deployment = found[0]
        verdict = judge_now(db, deployment, *read_strata(db, deployment.id))
    if verdict is None or not deployment.is_running:
        return None
    is_lasting = False
    if verdict.kind is VerdictKind.BLOCKED_SAMPLE_RATIO:
        verdict, is_lasting = _time_block(deployment.verdict, verdict, claimed_at)
    if verdict.kind.is_roll_back or is_lasting:
        try:
            return _end(store, deployment, verdict)
        except Conflict:  # somebody decided or changed the share meanwhile: look again
            return None
    if verdict != deployment.verdict:
        _keep(store, deployment, verdict, claimed_at)
    return None


def _claim(store: Store, deployment_id: uuid.UUID, now: datetime) -> bool:
    with store.writing() as db:
        claimed = db.execute(
            sa.update(Deployment)
            .where(
                Deployment.id == deployment_id,
                Deployment.state == DeploymentState.RUNNING,
                sa.or_(Deployment.checked_at.is_(None), Deployment.checked_at <= now - EACH_LOOK),
            )
            .values(checked_at=now)
        )
        return changed_rows(claimed) == 1


def _time_block(before: Verdict | None, now: Verdict, at: datetime) -> tuple[Verdict, bool]:
    """The verdict with the moment since when it is blocked, and whether that lasts too long."""
    since = None
    if before is not None and before.kind is VerdictKind.BLOCKED_SAMPLE_RATIO:
        since = before.numbers.get(BLOCKED_SINCE)
    since = at.timestamp() if since is None else since
    is_lasting = at.timestamp() - since >= MAX_BLOCKED.total_seconds()
    return replace(now, numbers={**now.numbers, BLOCKED_SINCE: since}), is_lasting


def _end(store: Store, deployment: DeploymentView, verdict: Verdict) -> DeploymentView:
    state, reason = DeploymentState.ROLLED_BACK, verdict.sentence
    if not verdict.kind.is_roll_back:
        state = DeploymentState.STOPPED
        minutes = MAX_BLOCKED.total_seconds() / 60
        reason = f"For {minutes:g} minutes nobody could judge it. {reason}"
    with store.writing() as db:
        return end_deployment(
            db,
            deployment.id,
            actor=SYSTEM,
            state=state,
            reason=reason[:MAX_REASON_CHARS],
            expected_revision=deployment.revision,
            verdict=verdict,
        )


def _keep(store: Store, deployment: DeploymentView, verdict: Verdict, claimed_at: datetime) -> None:
    """Store the verdict, unless somebody looked later: a planned look is taken once."""
    with store.writing() as db:
        db.execute(
            sa.update(Deployment)
            .where(
                Deployment.id == deployment.id,
                Deployment.state == DeploymentState.RUNNING,
                Deployment.revision == deployment.revision,
                Deployment.checked_at == claimed_at,
            )
            .values(verdict=storable(verdict.to_json()))
        )
