"""What callers see of deployments: who runs against whom, since when, and what the arms did."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from rlhf_core.agreement import Interval
from rlhf_core.errors import InvalidInput
from rlhf_core.release.counts import Stratum
from rlhf_core.release.judging import Verdict, verdict_from_json
from rlhf_core.release.plans import CanaryPlan, plan_from_json
from rlhf_core.store.tables import Account, Deployment, Model, ModelVersion
from rlhf_core.vocabulary import Arm, DeploymentKind, DeploymentState


@dataclass(frozen=True)
class Step:
    """The treatment's share from `since` on, until the next step or the end."""

    traffic_percent: float
    since: datetime
    by: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are kept with the plan."""
        return {**vars(self), "since": self.since.isoformat()}


@dataclass(frozen=True)
class DeploymentView:
    """A version on part of the traffic. `number` is the treatment's.

    `traffic_percent` is the treatment's share now, or at the end. `gates` are the rules' results as
    they were when its share last grew, `verdict` what the watch or the end last said. `ended_by`
    is None where the watch or the command line ended it. `plan` is None where none was made.
    `is_damaged`: the plan or the verdict stored is none, and None here; it can be ended only.
    """

    id: uuid.UUID
    model_name: str
    kind: DeploymentKind
    state: DeploymentState
    version_id: uuid.UUID
    number: int
    baseline_version_id: uuid.UUID | None
    baseline_number: int | None
    traffic_percent: float
    revision: int
    control_prompt: str | None
    treatment_prompt: str | None
    plan: CanaryPlan | None
    steps: tuple[Step, ...]
    gates: dict[str, Any] | None
    verdict: Verdict | None
    reason: str | None
    end_reason: str | None
    created_by: str | None
    ended_by: str | None
    started_at: datetime
    checked_at: datetime | None
    ended_at: datetime | None
    is_damaged: bool = False

    @property
    def name(self) -> str:
        """What people call the treatment: `reward v3`."""
        return f"{self.model_name} v{self.number}"

    @property
    def is_running(self) -> bool:
        """Whether it gets traffic now."""
        return self.state is DeploymentState.RUNNING

    @property
    def ended_by_itself(self) -> bool:
        """Whether the watch ended it, without anybody being asked: its verdict is the reason."""
        return (
            self.ended_by is None
            and self.verdict is not None
            and self.verdict.kind.ends_by_itself
            and self.verdict.sentence in (self.end_reason or "")
        )

    def percent_at(self, moment: datetime) -> float | None:
        """The treatment's share at that moment; None where it did not run."""
        if moment < self.started_at or (self.ended_at is not None and moment >= self.ended_at):
            return None
        until_then = [step for step in self.steps if step.since <= moment]
        return until_then[-1].traffic_percent if until_then else self.traffic_percent


@dataclass(frozen=True)
class ArmView:
    """What an arm did. Feedback is of those who asked, on its answers; repeats are left out.

    `num_users` are callers who are known, by their conversation where they are not, else each
    request. `approval` is good of good and bad, clustered by user; `error_rate` is of requests.
    Latencies (ms) are of requests without an error. `num_choices`: orders of candidates of which
    somebody said which one was used. `num_by_experts`: good or bad by others, which is not judged.
    """

    arm: Arm
    num_requests: int = 0
    num_users: int = 0
    num_errors: int = 0
    num_fallbacks: int = 0
    error_rate: Interval | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    num_feedback: int = 0
    num_good: int = 0
    num_bad: int = 0
    num_thumbs_up: int = 0
    num_thumbs_down: int = 0
    num_ratings: int = 0
    mean_rating: float | None = None
    approval: Interval | None = None
    num_choices: int = 0
    num_by_experts: int = 0


@dataclass(frozen=True)
class LiveTable:
    """The arms side by side, and apart by share of the traffic.

    `verdict` is as of now; of an ended deployment the one that it ended with, None without any.
    """

    deployment: DeploymentView
    control: ArmView
    treatment: ArmView
    strata: tuple[Stratum, ...]
    verdict: Verdict | None
    read_at: datetime


@dataclass(frozen=True)
class LiveAt:
    """What answered at a moment: production, and the deployment that had part of the traffic."""

    model_name: str
    moment: datetime
    production_id: uuid.UUID | None
    production: str | None
    deployment: DeploymentView | None
    traffic_percent: float | None


def load_deployments(
    db: Session, *conditions: sa.ColumnElement[bool], limit: int | None = None
) -> Sequence[DeploymentView]:
    """The deployments that fit, the latest first."""
    treatment, control = aliased(ModelVersion), aliased(ModelVersion)
    starter, ender = aliased(Account), aliased(Account)
    rows = db.execute(
        sa.select(
            Deployment, Model.name, treatment.number, control.number, starter.name, ender.name
        )
        .join(Model, Model.id == Deployment.model_id)
        .join(treatment, treatment.id == Deployment.version_id)
        .outerjoin(control, control.id == Deployment.baseline_version_id)
        .outerjoin(starter, starter.id == Deployment.created_by)
        .outerjoin(ender, ender.id == Deployment.ended_by)
        .where(*conditions)
        .order_by(Deployment.started_at.desc(), Deployment.id.desc())
        .limit(limit)
        .execution_options(populate_existing=True)
    )
    return [_view(*row) for row in rows]


def _view(
    row: Deployment,
    model_name: str,
    number: int,
    baseline_number: int | None,
    created_by: str | None,
    ended_by: str | None,
) -> DeploymentView:
    kept = row.plan if isinstance(row.plan, dict) else {}
    plan, verdict = None, None
    steps: tuple[Step, ...] = ()
    try:
        plan = plan_from_json(kept[PLAN]) if PLAN in kept else None
        steps = _read_steps(kept.get(STEPS, ()))
        verdict = None if row.verdict is None else verdict_from_json(row.verdict)
        is_damaged = row.plan is not None and not isinstance(row.plan, dict)
    except InvalidInput:  # it must still be listed, and can be ended
        is_damaged = True
    return DeploymentView(
        id=row.id,
        model_name=model_name,
        kind=row.kind,
        state=row.state,
        version_id=row.version_id,
        number=number,
        baseline_version_id=row.baseline_version_id,
        baseline_number=baseline_number,
        traffic_percent=row.traffic_percent,
        revision=row.revision,
        control_prompt=row.control_prompt,
        treatment_prompt=row.treatment_prompt,
        plan=plan,
        steps=steps,
        gates=kept.get(GATES),
        verdict=verdict,
        reason=row.reason,
        end_reason=row.end_reason,
        created_by=created_by,
        ended_by=ended_by,
        started_at=row.started_at,
        checked_at=row.checked_at,
        ended_at=row.ended_at,
        is_damaged=is_damaged,
    )


def _read_steps(kept: Any) -> tuple[Step, ...]:
    try:
        return tuple(
            Step(**{**step, "since": datetime.fromisoformat(step["since"])}) for step in kept
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("The deployment's steps are damaged: stop it.") from error


PLAN = "canary"
STEPS = "steps"
GATES = "gates"
DUE_DAYS = "due_days"
"""Keys of what `Deployment.plan` holds. The alert on a canary that is due reads the last."""
