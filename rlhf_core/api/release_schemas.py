"""What the routes of releases take and answer."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from rlhf_core.api.schemas import Out
from rlhf_core.feedback.drafts import Draft, FilledText, Name
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.release.judging import VerdictKind
from rlhf_core.release.plans import SHARES
from rlhf_core.vocabulary import Arm, DeploymentKind, DeploymentState

MAX_NUMBER = 2**31 - 1

Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
Revision = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


class PlanIn(Draft):
    """How sure the verdict has to be. `is_planned` false: open-ended.

    Numbers that are left out have the default; the answer names all. Percent are of the traffic,
    all others are shares and chances, 0 to 1.
    """

    model: Name = REWARD_MODEL
    kind: DeploymentKind = DeploymentKind.CANARY
    traffic_percent: float = SHARES[0]
    is_planned: bool = True
    detectable_drop: float | None = None
    power: float | None = None
    alpha: float | None = None
    looks: int | None = None
    harm_alpha: float | None = None
    max_error_rise: float | None = None


class ReleaseIn(PlanIn):
    """A version that gets part of the traffic: its `number`, or the `run_id` that trained it.

    System prompts are tested on the version that serves, with `kind` `ab_test`. `override_reason`
    passes over rules that the version breaks; it takes the scope `override_gates`.
    """

    number: Number | None = None
    run_id: uuid.UUID | None = None
    control_prompt: str | None = None
    treatment_prompt: str | None = None
    reason: FilledText
    override_reason: FilledText | None = None


class DecisionIn(Draft):
    """Why, and the `revision` that the caller saw: changed meanwhile, it is a 409."""

    reason: FilledText
    expected_revision: Revision


class TrafficIn(DecisionIn):
    """More or less of the traffic; all of it is a promotion.

    `override_reason` passes over rules that keep the version from more; it takes the scope
    `override_gates`.
    """

    percent: float
    override_reason: FilledText | None = None


class PromotionIn(DecisionIn):
    """`override_reason` passes over rules; it takes the scope `override_gates`."""

    override_reason: FilledText | None = None


class PlanOut(Out):
    """Users with feedback and days that the plan takes; `days_expected` null: no feedback yet."""

    is_planned: bool
    alpha: float
    power: float
    detectable_drop: float
    looks: int
    boundaries: list[float]
    harm_alpha: float
    max_error_rise: float
    approval: float
    users_per_arm: int
    num_users: int
    num_treated: int
    days_expected: float | None


class VerdictOut(Out):
    """What the numbers say, in words."""

    kind: VerdictKind
    sentence: str
    numbers: dict[str, Any]


class StepOut(Out):
    """The treatment's share from `since` on."""

    traffic_percent: float
    since: datetime
    by: str
    reason: str


class ReleaseOut(Out):
    """A deployment: `version` has part of the traffic, `baseline` the rest."""

    id: uuid.UUID
    model_name: str
    kind: DeploymentKind
    state: DeploymentState
    version: str
    version_id: uuid.UUID
    baseline: str | None
    baseline_version_id: uuid.UUID | None
    traffic_percent: float
    revision: int
    control_prompt: str | None
    treatment_prompt: str | None
    plan: PlanOut | None
    steps: list[StepOut]
    verdict: VerdictOut | None
    reason: str | None
    end_reason: str | None
    created_by: str | None
    ended_by: str | None
    started_at: datetime
    ended_at: datetime | None


class ReleasesOut(Out):
    """Deployments, the latest first."""

    releases: list[ReleaseOut]


class IntervalOut(Out):
    """With 95 % confidence."""

    value: float
    low: float
    high: float


class ArmOut(Out):
    """What one side did."""

    arm: Arm
    num_requests: int
    num_users: int
    num_errors: int
    num_fallbacks: int
    error_rate: IntervalOut | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    num_feedback: int
    num_good: int
    num_bad: int
    num_thumbs_up: int
    num_thumbs_down: int
    num_ratings: int
    mean_rating: float | None
    approval: IntervalOut | None
    num_choices: int
    num_by_experts: int


class ShareOut(Out):
    """Both sides while the treatment had this share (0 to 1)."""

    share: float
    since: datetime
    num_control_feedback: int
    num_control_good: int
    num_treatment_feedback: int
    num_treatment_good: int


class LiveTableOut(Out):
    """Both sides now, and the verdict on them."""

    release: ReleaseOut
    control: ArmOut
    treatment: ArmOut
    shares: list[ShareOut]
    verdict: VerdictOut | None
    read_at: datetime


class LiveAtOut(Out):
    """What answered at the moment: `production`, and `release` on part of the traffic."""

    model_name: str
    at: datetime
    production: str | None
    production_id: uuid.UUID | None
    release: ReleaseOut | None
    traffic_percent: float | None
