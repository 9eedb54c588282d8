"""The job that examines a registered policy on frozen prompts, by a judge."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.service import DatasetVersionView, load_rows
from rlhf_core.dataset.service import get_version as get_dataset_version
from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.policy_bases import PolicyBase, base_of_version
from rlhf_core.jobs.policy_examining import choose_options, examine_policy
from rlhf_core.jobs.policy_leaks import (
    find_all_learned,
    find_version_groups,
    leave_out_learned,
)
from rlhf_core.jobs.policy_params import RewardPart
from rlhf_core.jobs.policy_rewards import RewardSource, find_rewards
from rlhf_core.jobs.policy_rows import only_prompts
from rlhf_core.jobs.service import JobView, enqueue_job
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.registry.service import REWARD_MODEL, find_production, get_version
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import ModelVersion
from rlhf_core.vocabulary import JobKind, Split

ALL = "all"


def enqueue_evaluate_policy(
    db: Session,
    *,
    actor: Actor,
    version_id: uuid.UUID,
    dataset: str,
    number: int | None = None,
    judge: str | None = None,
    split: str = "test",
    options: Mapping[str, Any] | None = None,
) -> JobView:
    """Queue an examination on the prompts of a part of a frozen dataset.

    `number` None is its newest version. `judge`: a reward model or rule as in `RewardPart`; None
    is the judge of the policy's training run, else the reward model that serves. A dataset that
    keeps no test part is examined on with `split="all"`. Prompts that the policy, a reward model of
    its run or the judge learned from are left out, counted and named in the result.

    Raises:
        NotFound: there is no such version, dataset or judge.
        InvalidInput: the version is no policy, or there is nobody to judge.
        Conflict: the same examination is queued or running.
    """
    if split not in (*Split, ALL):
        raise InvalidInput(
            f"split {split!r}: choose from {', '.join([*Split, ALL])}.", field="split"
        )
    version = get_version(db, version_id, actor=actor)
    base_of_version(version)
    rows = get_dataset_version(db, dataset, number, actor=actor)
    chosen = find_policy_judge(db, version, judge)
    return enqueue_job(
        db,
        actor=actor,
        kind=JobKind.EVALUATE_POLICY,
        params={
            "version_id": str(version.id),
            "dataset": rows.dataset,
            "number": rows.number,
            "split": split,
            "judge": chosen.part.model,
            "options": dict(options or {}),
        },
        dedup_key=f"{JobKind.EVALUATE_POLICY.value}:{version.id}:{rows.id}:{split}:{chosen.name}",
    )


def find_policy_judge(db: Session, version: ModelVersionView, judge: str | None) -> RewardSource:
    """Who judges a policy where nobody is named: see `enqueue_evaluate_policy`."""
    wanted = judge or _own_judge(version)
    if wanted is None:
        serving = find_production(db, REWARD_MODEL)
        if serving is None:
            raise InvalidInput(
                "There is nobody to judge: name a reward model, or promote one.", field="judge"
            )
        wanted = f"{serving.model_name}@{serving.number}"
    return find_rewards(db, [RewardPart(wanted)])[0]


def run_evaluate_policy(context: JobContext) -> dict[str, Any]:
    """Examine the policy beside its base and the one that serves; keep what was found."""
    params = context.params
    with context.store.reading() as db:
        version = get_version(db, uuid.UUID(params["version_id"]), actor=context.actor)
        dataset = get_dataset_version(db, params["dataset"], params["number"], actor=context.actor)
        judge = find_rewards(db, [RewardPart(params["judge"])])[0]
        serving = find_production(db, version.model_name)
        base = _find_base(db, version)
    split = params["split"]
    prompts = only_prompts(load_rows(dataset, split=None if split == ALL else Split(split)))
    if not prompts:
        raise NotEnoughData(have=0, need=1, what=f"prompts in the part {split} of {dataset.name}")
    unseen = leave_out_learned(prompts, find_policy_learned(context, [version], judge))
    if not unseen.prompts:
        raise NotEnoughData(
            have=0,
            need=1,
            what=f"prompts in the part {split} of {dataset.name} that neither policy nor judge "
            f"learned from ({', '.join(unseen.left_out)} did)",
        )
    left_out = unseen.describe()
    context.tracker.log(f"{version.name} on {len(unseen.prompts)} prompts of {dataset.name}.")
    if left_out:
        context.tracker.log(f"Of its prompts {left_out}.")
    examination = examine_policy(
        Path(base_of_version(version).open()),
        base=base,
        production=base_of_version(serving) if serving and serving.id != version.id else None,
        prompts=unseen.prompts,
        judge=judge,
        seed=0,
        tracker=context.tracker,
        options={**choose_options(version.params), **params["options"]},
    )
    examination |= {"num_left_out": unseen.num_left_out, "left_out": unseen.left_out}
    with context.store.writing() as db:
        kept = record_evaluation(
            db,
            actor=context.actor,
            version_id=version.id,
            dataset_version_id=dataset.id,
            job_id=context.job_id,
            split=split,
            num_rows=int(examination["num_rows"]),
            examination_json=examination,
        )
    told = _tell(version, dataset, base, judge, kept.metrics)
    return {
        "message": f"{told} Of its prompts {left_out}." if left_out else told,
        "evaluation_id": kept.id,
        "version_id": version.id,
        "metrics": kept.metrics,
        "num_left_out": unseen.num_left_out,
        "left_out": unseen.left_out,
    }


def find_policy_learned(
    context: JobContext, versions: Sequence[ModelVersionView], judge: RewardSource
) -> dict[str, set[str]]:
    """By name: what the policies, the reward models of their runs and the judge learned from."""
    rewarded = [
        one.get("version_id")
        for version in versions
        for one in version.details.get("rewards") or ()
    ]
    with context.store.reading() as db:
        teachers = load_versions(
            db, ModelVersion.id.in_([uuid.UUID(one) for one in rewarded if one])
        )
        learned = {
            one.name: find_version_groups(db, context.actor, one) for one in (*versions, *teachers)
        }
        return learned | find_all_learned(db, context.actor, [judge])


def _own_judge(version: ModelVersionView) -> str | None:
    name = (version.details.get("held_out") or {}).get("name")
    if not name:
        return None
    model, _, number = str(name).rpartition(" v")
    return f"{model}@{number}" if model else str(name)


def _find_base(db: Session, version: ModelVersionView) -> PolicyBase:
    """What the policy was trained from; the policy itself where that is nowhere (a starter)."""
    named = version.details.get("base") or {}
    if named.get("version_id"):
        found = load_versions(db, ModelVersion.id == uuid.UUID(named["version_id"]))
        if found and found[0].deleted_at is None:
            return base_of_version(found[0])
    if named.get("name") and not named.get("version_id"):
        return PolicyBase(str(named["name"]), str(named["name"]))
    return base_of_version(version)


def _tell(
    version: ModelVersionView,
    dataset: DatasetVersionView,
    base: PolicyBase,
    judge: RewardSource,
    metrics: Mapping[str, float],
) -> str:
    said = f"{version.name} on prompts of {dataset.name}, judged by {judge.name}"
    if "win_rate" in metrics and base.name != version.name:
        return f"{said}: wins against {base.name} {metrics['win_rate']:.0%}."
    if "reward" in metrics:
        return f"{said}: mean reward {metrics['reward']:.3f}."
    return f"{said}: examined."
