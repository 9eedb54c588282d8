"""Rules on the loop's own work: runs that failed, versions that wait for a decision."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.alerts.findings import Finding
from rlhf_core.alerts.params import CanaryDue, RunFailed
from rlhf_core.alerts.watch_counts import Findings
from rlhf_core.store.tables import Deployment, Job, Model, ModelVersion
from rlhf_core.vocabulary import JobState

DAY = timedelta(days=1)


def watch_runs(db: Session, params: RunFailed, moments: Sequence[datetime]) -> Findings:
    """Of each kind of job: whether the newest run that ended failed, and how many in a row."""
    reach = timedelta(days=params.days)
    ended = db.execute(
        sa.select(Job.kind, Job.state, Job.finished_at)
        .where(
            Job.state.in_([JobState.SUCCEEDED, JobState.FAILED]),
            Job.finished_at >= moments[0] - reach,
            Job.finished_at <= moments[-1],
        )
        .order_by(Job.finished_at)
    ).all()
    found = []
    for moment in moments:
        failures: dict[str, int] = {}
        for kind, state, at in ended:
            if at is not None and moment - reach <= at <= moment:
                num = failures.get(kind.value, 0)
                failures[kind.value] = num + 1 if state is JobState.FAILED else 0
        found.append(
            [
                Finding(kind, num > 0, float(num), _say_failed(kind, num))
                for kind, num in failures.items()
            ]
        )
    return found


def watch_canaries(db: Session, params: CanaryDue, moments: Sequence[datetime]) -> Findings:
    """Of each version on part of the traffic: for how long."""
    rows = db.execute(
        sa.select(Deployment.started_at, Deployment.ended_at, Model.name, ModelVersion.number)
        .join(ModelVersion, ModelVersion.id == Deployment.version_id)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            Deployment.started_at <= moments[-1],
            sa.or_(Deployment.ended_at.is_(None), Deployment.ended_at > moments[0]),
        )
        .order_by(Deployment.started_at)
    ).all()
    found = []
    for moment in moments:
        findings = []
        for started_at, ended_at, name, number in rows:
            if started_at > moment or (ended_at is not None and ended_at <= moment):
                continue
            days = (moment - started_at) / DAY
            version = f"{name} v{number}"
            said = f"{version} has been on part of the traffic for {days:.0f} days"
            findings.append(Finding(version[:200], days >= params.days, days, said))
        found.append(findings)
    return found


def _say_failed(kind: str, num: int) -> str:
    name = kind.replace("_", " ")
    if num == 0:
        return f"The last run of {name} succeeded"
    return f"The last run of {name} failed" if num == 1 else f"The last {num} runs of {name} failed"
