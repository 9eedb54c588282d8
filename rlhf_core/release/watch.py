"""Looks at what runs, every few seconds, and takes back at once what does harm.

Every worker does; who claims the look writes what came of it.
"""

import logging
import uuid
from datetime import datetime, timedelta

import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict, RlhfError
from rlhf_core.registry.service import MAX_REASON_CHARS
from rlhf_core.registry.views import storable
from rlhf_core.release.counts import read_strata
from rlhf_core.release.judging import Verdict, VerdictKind
from rlhf_core.release.live import judge_now
from rlhf_core.release.service import end_deployment
from rlhf_core.release.views import DeploymentView, load_deployments
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Deployment
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import DeploymentKind, DeploymentState

EACH_LOOK = timedelta(seconds=1.5)
"""Two workers that come by at the same time look once."""

logger = logging.getLogger(__name__)


def check_running(store: Store) -> list[DeploymentView]:
    """Judge each running deployment and keep the verdict; return those that were rolled back.

    While none runs this is one query over an index.
    """
    with store.reading() as db:
        running = Deployment.state == DeploymentState.RUNNING
        ids = db.scalars(sa.select(Deployment.id).where(running)).all()
    rolled_back = []
    for deployment_id in ids:
        try:
            ended = _check(store, deployment_id)
        except RlhfError as error:
            logger.warning("The deployment %s could not be judged: %s", deployment_id, error)
            continue
        if ended is not None:
            logger.warning("%s was rolled back: %s", ended.name, ended.end_reason)
            rolled_back.append(ended)
    return rolled_back


def is_harm(kind: DeploymentKind, verdict: Verdict) -> bool:
    """Whether the version leaves without anybody being asked.

    An order that people use less is one: the choices are all that tells of a reranker's quality.
    """
    is_worse_order = kind is DeploymentKind.INTERLEAVING and verdict.kind is VerdictKind.WORSE
    return verdict.kind.is_roll_back or is_worse_order


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
    if is_harm(deployment.kind, verdict):
        try:
            return _roll_back(store, deployment, verdict)
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


def _roll_back(store: Store, deployment: DeploymentView, verdict: Verdict) -> DeploymentView:
    with store.writing() as db:
        return end_deployment(
            db,
            deployment.id,
            actor=SYSTEM,
            state=DeploymentState.ROLLED_BACK,
            reason=verdict.sentence[:MAX_REASON_CHARS],
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
