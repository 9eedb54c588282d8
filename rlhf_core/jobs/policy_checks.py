"""Before a policy is trained: what to train at all, and what stands against it."""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.dataset.builder import build_rows
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.readiness import MIN_ROWS, check_readiness
from rlhf_core.dataset.service import DatasetVersionView, get_version, load_rows
from rlhf_core.dataset.splits import assign_split
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.frozen_rows import MIN_ROWS_TO_SPLIT
from rlhf_core.jobs.machines import count_workers
from rlhf_core.jobs.policy_bases import PolicyBase, find_policy_base
from rlhf_core.jobs.policy_estimate import (
    PolicyEstimate,
    estimate_policy,
    find_base_size,
    find_device,
)
from rlhf_core.jobs.policy_leaks import find_learned_groups
from rlhf_core.jobs.policy_params import TrainPolicyParams
from rlhf_core.jobs.policy_rewards import RewardSource, find_judge, find_rewards
from rlhf_core.jobs.policy_rows import read_all_texts
from rlhf_core.jobs.train_policy import check_model_name
from rlhf_core.registry.service import REWARD_MODEL, find_production
from rlhf_core.store.tables import Comparison, Feedback
from rlhf_core.vocabulary import DatasetPurpose, JobKind, Resource, Split

__all__ = [
    "PolicyAdvice",
    "PolicyEstimate",
    "check_policy",
    "estimate_policy",
    "recommend_policy",
]

MIN_LABELS = 200
"""With fewer judgements a policy learns their noise: choosing among its answers is better."""
GOOD_REWARD_AUC = 0.65
SMALL_WEIGHTS = 200e6  # a CPU trains these in bearable time
MAX_LEAK = 0.5  # of the prompts that are kept for the examination
"""Fewer that a reward model knows are left out of the examination; that is no reason to refuse."""


@dataclass(frozen=True)
class PolicyAdvice:
    """What to train with the data that is there. `learner` None: train nothing, rerank."""

    learner: JobKind | None
    why: str


def check_policy(db: Session, *, actor: Actor, params: TrainPolicyParams) -> list[str]:
    """What stands against the run, each in a sentence; empty where it may start."""
    require(actor, Permission.RUN_JOBS)
    found: list[str] = []
    rewards: list[RewardSource] = []
    judge: RewardSource | None = None
    is_unknown = False
    try:
        check_model_name(db, params.model)
        if params.learner is not JobKind.TRAIN_STARTER:
            base = find_policy_base(db, params.base, model=params.model)
            found += _check_base(db, params, base)
    except RlhfError as error:
        is_unknown = True
        found.append(str(error))
    try:
        rewards = find_rewards(db, params.rewards)
        judge = find_judge(db, params, rewards)
    except RlhfError as error:
        found.append(str(error))
    dataset: DatasetVersionView | None = None
    try:
        if params.number is not None:
            dataset = get_version(db, params.dataset, params.number, actor=actor)
            found += _check_purpose(params, dataset)
        else:
            found += _check_rows(db, actor, params)
    except RlhfError as error:
        found.append(str(error))
    if not found:
        sources = [*rewards, *([judge] if judge else [])]
        found += _check_leaks(db, actor, params, dataset, sources)
    found += _check_machines(db, params)
    return found + ([] if is_unknown else _check_device(db, params))


def recommend_policy(db: Session, *, actor: Actor) -> PolicyAdvice:
    """What fits the feedback that is there, and why."""
    require(actor, Permission.MANAGE_DATASETS)
    num_labels = _count_labels(db)
    if num_labels < MIN_LABELS:
        return PolicyAdvice(
            None,
            f"{num_labels} ratings and comparisons, {MIN_LABELS} are needed before a policy learns "
            "more than their noise: let the reward model choose among several answers (rerank), "
            "and train nothing yet.",
        )
    have = {
        purpose: check_readiness(db, actor=actor, params=DatasetParams(purpose=purpose))
        for purpose in (
            DatasetPurpose.PREFERENCES,
            DatasetPurpose.UNPAIRED,
            DatasetPurpose.SFT,
            DatasetPurpose.PROMPTS,
        )
    }
    reward = find_production(db, REWARD_MODEL)
    auc = 0.0 if reward is None else reward.metrics.get("auc", 0.0)
    pairs, thumbs = have[DatasetPurpose.PREFERENCES], have[DatasetPurpose.UNPAIRED]
    corrections = int(have[DatasetPurpose.SFT].counts.get("corrections", 0))
    if reward is not None and auc >= GOOD_REWARD_AUC and have[DatasetPurpose.PROMPTS].is_ready:
        return PolicyAdvice(
            JobKind.TRAIN_PPO,
            f"{reward.name} tells good from bad (AUC {auc:.2f} on prompts not seen) and there are "
            f"{have[DatasetPurpose.PROMPTS].have} prompts: PPO improves the answers by it, and the "
            "audit shows whether the gain is real.",
        )
    if corrections >= MIN_ROWS[DatasetPurpose.SFT]:
        return PolicyAdvice(
            JobKind.TRAIN_SFT,
            f"{corrections} corrections by people show what a good answer is: imitate them first, "
            "then prefer them over the originals with DPO.",
        )
    if pairs.is_ready and pairs.have >= MIN_LABELS / 2:
        return PolicyAdvice(
            JobKind.TRAIN_DPO,
            f"{pairs.have} pairs of answers to one prompt: DPO learns from them directly, with "
            "their margins, and needs no reward model.",
        )
    if thumbs.is_ready:
        return PolicyAdvice(
            JobKind.TRAIN_KTO,
            f"{thumbs.have} answers called good or bad, {pairs.have} pairs: KTO learns from "
            "single verdicts; pairs of answers to one prompt would tell more.",
        )
    return PolicyAdvice(
        None,
        f"{num_labels} ratings and comparisons, but they show too few good answers beside bad "
        f"ones: {thumbs.advice}",
    )


def _check_base(db: Session, params: TrainPolicyParams, base: PolicyBase) -> list[str]:
    if base.is_missing:
        need, have = MIN_ROWS[DatasetPurpose.SFT], len(read_all_texts(db, params.rows))
        if have < need:
            return [
                f"There is no starter policy, and {have} interactions to make one of: "
                f"{need - have} more are needed, or name another base."
            ]
        return []
    folder = Path(base.location)
    if base.version_id is not None and not folder.is_dir():
        return [f"The files of {base.name} are missing: restore them, or name another base."]
    if folder.is_dir():
        from rlhf_core.policies.base import open_base

        open_base(base.location)  # says what is wrong with it: foreign code, no safetensors
    return []


def _check_purpose(params: TrainPolicyParams, dataset: DatasetVersionView) -> list[str]:
    if dataset.purpose is params.rows.purpose:
        return []
    return [
        f"{params.learner.value} learns from {params.rows.purpose.value}, {dataset.name} holds "
        f"{dataset.purpose.value}: choose other rows."
    ]


def _check_rows(db: Session, actor: Actor, params: TrainPolicyParams) -> list[str]:
    if params.learner is JobKind.TRAIN_STARTER:
        have, need = len(read_all_texts(db, params.rows)), MIN_ROWS[DatasetPurpose.SFT]
        if have < need:
            return [f"{have} interactions, {need - have} more needed: import more, then start."]
        return []
    obstacle = check_readiness(db, actor=actor, params=params.rows).obstacle
    return [obstacle] if obstacle else []


def _check_leaks(
    db: Session,
    actor: Actor,
    params: TrainPolicyParams,
    dataset: DatasetVersionView | None,
    sources: list[RewardSource],
) -> list[str]:
    """Whether a reward model or judge has learned from the prompts that are kept back."""
    test = _find_test_groups(db, params, dataset)
    found = []
    for source in sources:
        learned = find_learned_groups(db, actor, source) if test else set()
        share = len(learned & test) / max(1, len(test))
        if share > MAX_LEAK:
            found.append(
                f"{source.name} was trained on {share:.0%} of the {len(test)} prompts that this "
                "run keeps for its examination, which would then tell nothing: train it on the "
                "same share of test prompts, name another one, or keep none (test_percent 0)."
            )
    return found


def _find_test_groups(
    db: Session, params: TrainPolicyParams, dataset: DatasetVersionView | None
) -> set[str]:
    """The prompts that the run will keep for its examination (near duplicates may differ)."""
    if params.learner is JobKind.TRAIN_STARTER:
        return set()
    if dataset is not None:
        return {row.group for row in load_rows(dataset, split=Split.TEST)}
    if not params.test_percent:
        return set()
    rows = build_rows(db, params=params.rows, with_text=False).rows
    groups = [row.group for row in rows]
    if len(groups) < MIN_ROWS_TO_SPLIT:
        return set()
    return {
        group
        for group in groups
        if assign_split(group, seed=0, test_percent=params.test_percent) is Split.TEST
    }


def _check_device(db: Session, params: TrainPolicyParams) -> list[str]:
    device = find_device(db)
    if device.is_gpu:
        return []
    _, size = find_base_size(db, params)
    if size.num_weights > SMALL_WEIGHTS:
        return [
            f"The base has about {size.num_weights / 1e9:.1f} billion weights and no worker has a "
            "GPU: start a worker on a machine with one, or choose a base of at most "
            f"{SMALL_WEIGHTS / 1e6:.0f} million for the CPU."
        ]
    return []


def _check_machines(db: Session, params: TrainPolicyParams) -> list[str]:
    alive = count_workers(db, Resource.GPU)
    if params.num_machines == 1 or alive >= params.num_machines:
        return []
    are = "is" if alive == 1 else "are"
    return [
        f"{params.num_machines} machines are asked for, and {alive} {are} alive with a worker that "
        "takes jobs of the GPU's queue: start `python -m rlhf_core worker` on the others, or ask "
        "for fewer."
    ]


def _count_labels(db: Session) -> int:
    """Ratings, thumbs and comparisons that stand."""
    said = sa.or_(Feedback.rating.is_not(None), Feedback.thumb.is_not(None))
    ratings = sa.select(sa.func.count()).where(
        Feedback.withdrawn_at.is_(None), Feedback.step_id.is_(None), said
    )
    votes = sa.select(sa.func.count()).where(Comparison.withdrawn_at.is_(None))
    return (db.scalar(ratings) or 0) + (db.scalar(votes) or 0)
