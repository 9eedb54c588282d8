"""What a retraining is asked for, and how much is new for it to learn from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import first_id_at
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.policy_params import (
    REWARDED,
    TrainPolicyParams,
    parse_policy_params,
)
from rlhf_core.jobs.train_params import TrainRewardParams, parse_train_params
from rlhf_core.registry.service import POLICY_MODEL
from rlhf_core.store.tables import Comparison, Feedback, Job, Model, ModelVersion
from rlhf_core.vocabulary import JobKind

REWARD, POLICY, BOTH = "reward", "policy", "both"
WHAT = (REWARD, POLICY, BOTH)


@dataclass(frozen=True)
class RetrainParams:
    """A retraining: of the reward model, of the policy, or of the policy after the reward model.

    `reward`: what `TrainRewardParams.to_json` writes, or a part of it. `policy`: likewise of
    `TrainPolicyParams`; None lets the data choose the learner when the time has come. `min_new`:
    with fewer new ratings and comparisons than this nothing is trained; 0 trains always.
    """

    what: str = REWARD
    reward: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] | None = None
    min_new: int = 1

    def __post_init__(self) -> None:
        if self.what not in WHAT:
            raise InvalidInput(f"what {self.what!r}: choose from {', '.join(WHAT)}.", field="what")
        if not isinstance(self.min_new, int) or not 0 <= self.min_new <= 1_000_000:
            raise InvalidInput(
                f"min_new {self.min_new!r}: choose a whole number from 0 to 1000000.",
                field="min_new",
            )
        if self.trains_reward:
            self.reward_params()
        if self.trains_policy and self.policy is not None:
            self.policy_params()

    @property
    def trains_reward(self) -> bool:
        """Whether a reward model is trained."""
        return self.what in (REWARD, BOTH)

    @property
    def trains_policy(self) -> bool:
        """Whether a policy is trained."""
        return self.what in (POLICY, BOTH)

    @property
    def policy_model(self) -> str:
        """The name of the policy."""
        return str((self.policy or {}).get("model", POLICY_MODEL))

    @property
    def model(self) -> str:
        """The model by whose newest version new feedback is counted."""
        return self.reward_params().model if self.trains_reward else self.policy_model

    def reward_params(self) -> TrainRewardParams:
        """What the run of the reward model is told."""
        return parse_train_params(self.reward)

    def policy_params(
        self, *, learner: JobKind | None = None, reward: str | None = None
    ) -> TrainPolicyParams:
        """What the run of the policy is told.

        `learner` is taken where none was chosen. `reward` (`name@number`) stands in for the reward
        model that this retraining makes, and where a learner that needs a reward was given none.
        """
        plain = dict(self.policy or {})
        if learner is not None:
            plain.setdefault("learner", learner.value)
        made = self.reward_params().model
        parts = [dict(part) for part in plain.get("rewards", ())]
        if not parts and plain.get("learner", JobKind.TRAIN_PPO.value) in REWARDED:
            parts = [{"model": made}]
        for part in parts:
            if part.get("model") == made:
                part["model"] = reward or made
        return parse_policy_params({**plain, "rewards": parts})

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored with a job or a schedule."""
        return {known.name: getattr(self, known.name) for known in fields(self)}


def parse_retrain_params(plain: Mapping[str, Any]) -> RetrainParams:
    """The parameters that `to_json` wrote; InvalidInput names one that is unknown or wrong."""
    known = [known.name for known in fields(RetrainParams)]
    for name in plain:
        if name not in known:
            raise InvalidInput(
                f"Unknown parameter {name!r}: choose from {', '.join(known)}.", field=name
            )
    return RetrainParams(**plain)


def find_last_learned(db: Session, model: str) -> datetime | None:
    """When the newest version of this model read the feedback; None where there is none."""
    return db.execute(
        # What was rated while it trained is new: its job's start counts.
        sa.select(sa.func.coalesce(Job.started_at, ModelVersion.created_at))
        .select_from(ModelVersion)
        .join(Model, Model.id == ModelVersion.model_id)
        .outerjoin(Job, Job.id == ModelVersion.job_id)
        .where(Model.name == model, ModelVersion.deleted_at.is_(None))
        .order_by(ModelVersion.number.desc())
        .limit(1)
    ).scalar_one_or_none()


def count_new_feedback(db: Session, since: datetime | None) -> int:
    """Ratings and comparisons stored after `since` and not withdrawn; all of them for None."""
    total = 0
    for table in (Feedback, Comparison):
        query = sa.select(sa.func.count()).select_from(table).where(table.withdrawn_at.is_(None))
        if since is not None:
            query = query.where(table.id >= first_id_at(since), table.created_at > since)
        total += db.scalar(query) or 0
    return total
