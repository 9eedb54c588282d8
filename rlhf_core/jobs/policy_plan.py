"""What the names of a policy's training run mean: base, teacher, rewards, judge."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.policy_bases import PolicyBase, find_policy_base
from rlhf_core.jobs.policy_params import TrainPolicyParams
from rlhf_core.jobs.policy_rewards import RewardSource, find_judge, find_rewards, parse_source
from rlhf_core.vocabulary import JobKind

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What the names of a run meant when it first started; its later attempts keep to it."""

    base: PolicyBase | None
    teacher: PolicyBase | None
    rewards: tuple[RewardSource, ...]
    judge: RewardSource | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "base": self.base and asdict(self.base),
            "teacher": self.teacher and asdict(self.teacher),
            "rewards": [source.to_json() for source in self.rewards],
            "judge": self.judge and self.judge.to_json(),
        }


def find_plan(db: Session, params: TrainPolicyParams) -> Plan:
    """What the names mean now. Raises NotFound or InvalidInput for one that means nothing."""
    rewards = find_rewards(db, params.rewards)
    is_first = params.learner is JobKind.TRAIN_STARTER
    teacher = params.options.get("teacher")
    return Plan(
        base=None if is_first else find_policy_base(db, params.base, model=params.model),
        teacher=find_policy_base(db, str(teacher), model=params.model) if teacher else None,
        rewards=tuple(rewards),
        judge=find_judge(db, params, rewards),
    )


def keep_plan(context: JobContext, params: TrainPolicyParams) -> Plan:
    """The plan of the run: that of its first attempt, made now where this is it."""
    note = context.work_dir / PLAN
    if not note.exists():
        with context.store.reading() as db:
            plan = find_plan(db, params)
        note_plan(context, plan)
        return plan
    plain = json.loads(note.read_text())
    return Plan(
        base=PolicyBase(**plain["base"]) if plain["base"] else None,
        teacher=PolicyBase(**plain["teacher"]) if plain["teacher"] else None,
        rewards=tuple(parse_source(source) for source in plain["rewards"]),
        judge=parse_source(plain["judge"]) if plain["judge"] else None,
    )


def note_plan(context: JobContext, plan: Plan) -> None:
    """Keep the plan for the attempts to come."""
    fresh = context.work_dir / f"{PLAN}.new"
    fresh.write_text(json.dumps(plan.to_json()))
    fresh.replace(context.work_dir / PLAN)
