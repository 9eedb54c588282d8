"""Training runs of policies in this process: tiny models, prompts of letters, a rule as reward."""

import random
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.jobs.policy_params import RewardPart, TrainPolicyParams
from rlhf_core.jobs.service import JobView
from rlhf_core.jobs.train_policy import enqueue_train_policy
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind
from tests.core.policies.tiny_policies import WORDS
from tests.learning.rated import add_interaction

RULES = (
    "good=tests.core.jobs.reward_rules:count_good,"
    "short=tests.core.jobs.reward_rules:shortness,"
    "broken=tests.core.jobs.reward_rules:broken"
)
QUICK: dict[str, Any] = {
    "updates": 3,
    "batch_size": 8,
    "micro_batch_size": 8,
    "response_tokens": 5,
    "lr": 3e-3,
    "value_lr": 3e-3,
    "precision": "fp32",
    "checkpoint_every": 1,
    "sample_every": 1,
    "min_entropy_share": 0.0,
}
GOOD = (RewardPart("rule:good"),)


def add_prompts(db: Session, number: int, *, seed: int = 0) -> None:
    """Interactions that nobody rated, of prompts and completions that a tiny policy can read."""
    drawn = random.Random(seed)
    for _ in range(number):
        words = drawn.sample(WORDS, 7)
        add_interaction(db, " ".join(words), " ".join(drawn.sample(WORDS, 4)))


def enqueue_policy(
    store: Store, base: Path | str, *, learner: JobKind = JobKind.TRAIN_PPO, **params: Any
) -> JobView:
    given: dict[str, Any] = {"base": str(base), "options": QUICK}
    if learner is JobKind.TRAIN_PPO:
        given["rewards"] = GOOD
    wanted = TrainPolicyParams(learner=learner, **(given | params))
    with store.writing() as db:
        return enqueue_train_policy(db, actor=SYSTEM, params=wanted)
