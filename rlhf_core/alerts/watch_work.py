"""Rules on the loop's own work: runs that failed, versions that wait for a decision."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.alerts.findings import Finding
from rlhf_core.alerts.params import CanaryDue, RunFailed
from rlhf_core.alerts.watch_counts import Findings
from rlhf_core.store.tables import Deployment, Job, Model, ModelVersion
from rlhf_core.vocabulary import DeploymentState, JobState

DAY = timedelta(days=1)
HARM = frozenset({"roll_back_harm", "roll_back_errors", "worse"})
"""Verdicts on which a version leaves by itself."""
BLOCKED = "blocked_sample_ratio"
"""While it lasts nothing is judged; after some minutes the canary is stopped by itself."""


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
    """Of each version on part of the traffic: for how long, or that it was taken back."""
    rows = db.execute(
        sa.select(Deployment, Model.name, ModelVersion.number)
        .join(ModelVersion, ModelVersion.id == Deployment.version_id)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            Deployment.started_at <= moments[-1],
            sa.or_(Deployment.ended_at.is_(None), Deployment.ended_at > moments[0] - DAY),
        )
        .order_by(Deployment.started_at)
    ).all()
    found = []
    for moment in moments:
        latest: dict[str, Finding] = {}  # a version may have been tried twice within a day
        for row, name, number in rows:
            finding = _watch_canary(row, f"{name} v{number}", params, moment)
            if finding is not None:
                latest[finding.slice_key] = finding
        found.append(list(latest.values()))
    return found


def _watch_canary(
    row: Deployment, version: str, params: CanaryDue, moment: datetime
) -> Finding | None:
    """Due after the days of its plan, else of the rule, or at once where nothing can be judged.

    What left by itself is said for a day.
    """
    if row.started_at > moment:
        return None
    verdict, plan = (found if isinstance(found, dict) else {} for found in (row.verdict, row.plan))
    kind, sentence = verdict.get("kind"), verdict.get("sentence", "")
    if row.ended_at is not None and row.ended_at <= moment:
        if row.ended_by is not None or moment >= row.ended_at + DAY:
            return None
        if row.state is DeploymentState.ROLLED_BACK and kind in HARM:
            return Finding(version[:200], True, 0.0, f"{version} was taken back: {sentence}")
        if row.state is DeploymentState.STOPPED and kind == BLOCKED:
            return Finding(version[:200], True, 0.0, f"{version} was stopped: {sentence}")
        return None
    days = (moment - row.started_at) / DAY
    if row.ended_at is None and kind == BLOCKED and _is_since(verdict, moment):
        return Finding(version[:200], True, days, f"{version} cannot be judged. {sentence}")
    planned = plan.get("due_days")
    due = params.days if planned is None else max(1.0, planned)
    said = f"{version} has been on part of the traffic for {days:.0f} days"
    if planned is not None:
        said += f", its plan says {planned:.0f}"
    return Finding(version[:200], days >= due, days, said)


def _is_since(verdict: dict[str, Any], moment: datetime) -> bool:
    """Whether it was blocked by then: the watch notes since when, in seconds."""
    since = (verdict.get("numbers") or {}).get("blocked_since")
    return isinstance(since, int | float) and since <= moment.timestamp()


def _say_failed(kind: str, num: int) -> str:
    name = kind.replace("_", " ")
    if num == 0:
        return f"The last run of {name} succeeded"
    return f"The last run of {name} failed" if num == 1 else f"The last {num} runs of {name} failed"
