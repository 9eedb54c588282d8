"""The job that compares versions of a model on the same frozen rows."""

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.artifacts import ArtifactInfo, write_artifact
from rlhf_core.config import get_settings
from rlhf_core.dataset.service import DatasetVersionView, load_rows
from rlhf_core.dataset.service import get_version as get_dataset_version
from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.examples import Example
from rlhf_core.jobs.comparing import Compared, clocked, compare_policies, compare_rewards, tell
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.evaluate import ALL, SPLITS
from rlhf_core.jobs.evaluate_policy import find_policy_judge, find_policy_learned
from rlhf_core.jobs.examining import check_fit
from rlhf_core.jobs.kinds import resource_of
from rlhf_core.jobs.policy_leaks import find_version_groups
from rlhf_core.jobs.policy_params import RewardPart
from rlhf_core.jobs.policy_rewards import RewardSource, find_rewards
from rlhf_core.jobs.policy_rows import only_prompts
from rlhf_core.jobs.service import JobView, enqueue_job, list_jobs
from rlhf_core.registry.comparisons import (
    FOLDER,
    ROWS_FILE,
    find_job_comparison,
    record_comparison,
)
from rlhf_core.registry.service import get_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.vocabulary import JobKind, JobState, ModelKind, Resource, Split

MAX_VERSIONS = 5
START_S = 5.0  # a process, and the encoder in it
ROWS_A_SECOND = {Resource.CPU: 30.0, Resource.GPU: 4.0}  # before a comparison has measured it
POLICIES = (ModelKind.POLICY, ModelKind.POLICY_REMOTE)


@dataclass(frozen=True)
class _Wanted:
    """Which versions, on what; `learned` by the name of a model the prompts that it knows."""

    versions: list[ModelVersionView]
    dataset: DatasetVersionView
    split: str
    judge: RewardSource | None
    learned: dict[str, set[str]]


def enqueue_compare_versions(
    db: Session,
    *,
    actor: Actor,
    version_ids: Sequence[uuid.UUID],
    dataset: str,
    number: int | None = None,
    split: str = "test",
    judge: str | None = None,
    with_learned: bool = False,
    options: Mapping[str, Any] | None = None,
) -> JobView:
    """Queue a comparison on a part of a frozen dataset (`train`, `validation`, `test`, `all`).

    The first version is what the others are compared with. `number` None is the newest version of
    the dataset. Prompts that one of the versions learned from are left out, unless `with_learned`.
    `judge` (of policies only): a reward model or rule; None is the judge of the first one's run,
    else the reward model that serves.

    Raises:
        NotFound: there is no such version, dataset or judge.
        InvalidInput: fewer than two versions, of several models or kinds, deleted ones, rows that
            do not fit them, or nobody to judge.
        Conflict: the same comparison is queued or running.
    """
    if split not in SPLITS:
        raise InvalidInput(f"split {split!r}: choose from {', '.join(SPLITS)}.", field="split")
    versions = [get_version(db, one, actor=actor) for one in dict.fromkeys(version_ids)]
    check_versions(versions)
    rows = get_dataset_version(db, dataset, number, actor=actor)
    chosen = None
    if versions[0].kind is ModelKind.POLICY:
        chosen = find_policy_judge(db, versions[0], judge).part.model
    else:
        if judge is not None:
            raise InvalidInput("Reward models need no judge: leave it out.", field="judge")
        for version in versions:
            check_fit(version.kind, rows.purpose)
    ids = [str(version.id) for version in versions]
    key = ":".join((JobKind.COMPARE_VERSIONS.value, *sorted(ids), str(rows.id), split))
    return enqueue_job(
        db,
        actor=actor,
        kind=JobKind.COMPARE_VERSIONS,
        params={
            "version_ids": ids,
            "dataset": rows.dataset,
            "number": rows.number,
            "split": split,
            "judge": chosen,
            "with_learned": with_learned,
            "options": dict(options or {}),
        },
        resource=find_resource(versions),
        dedup_key=f"{key}:{chosen or ''}:{with_learned}",
    )


def check_versions(versions: Sequence[ModelVersionView]) -> None:
    """Raise InvalidInput where these versions cannot be compared with each other."""
    if not 2 <= len(versions) <= MAX_VERSIONS:
        raise InvalidInput(
            f"Name 2 to {MAX_VERSIONS} different versions to compare, not {len(versions)}.",
            field="version_ids",
        )
    first = versions[0]
    for version in versions:
        if version.deleted_at is not None:
            raise InvalidInput(f"{version.name} is deleted: choose another version.")
        if version.model_name != first.model_name:
            raise InvalidInput(
                f"{version.name} is no version of {first.model_name!r}: compare versions of one "
                "model."
            )
        if (version.kind in POLICIES) != (first.kind in POLICIES):
            raise InvalidInput(
                f"{version.name} and {first.name} are a policy and a reward model: nothing can be "
                "measured of both."
            )
        if version.kind is ModelKind.POLICY_REMOTE:
            raise InvalidInput(
                f"{version.name} answers from another server, not from files: let people compare "
                "it in a canary."
            )


def find_resource(versions: Sequence[ModelVersionView]) -> Resource:
    """Where such a comparison waits: among the networks if one of the versions is one."""
    if any(version.kind in POLICIES for version in versions):
        return Resource.GPU
    waits = {resource_of(version.kind) for version in versions}
    return Resource.GPU if Resource.GPU in waits else Resource.CPU


def estimate_compare_s(
    db: Session, versions: Sequence[ModelVersionView], *, num_rows: int
) -> float:
    """About how many seconds it takes, by what earlier comparisons of such versions took."""
    resource = find_resource(versions)
    jobs = list_jobs(db, states=[JobState.SUCCEEDED], kind=JobKind.COMPARE_VERSIONS, limit=20)
    kinds = sorted({version.kind.value for version in versions})
    costs = [(job.result or {}).get("cost") or {} for job in jobs]
    speeds = [
        cost["num_judged"] / cost["took_s"]
        for cost in costs
        if cost.get("kinds") == kinds and cost["took_s"] > 0
    ]
    speed = speeds[0] if speeds else ROWS_A_SECOND[resource]
    return START_S * len(versions) + num_rows * len(versions) / speed


def run_compare_versions(context: JobContext) -> dict[str, Any]:
    """Compare, and keep what was found; what an earlier attempt kept is not made again."""
    with context.store.reading() as db:
        done = find_job_comparison(db, context.job_id, actor=context.actor)
    if done is not None:
        return {"message": "Compared before the run was interrupted.", "comparison_id": done.id}
    wanted = _find(context)
    with_learned = bool(context.params["with_learned"])
    rows, learned = _leave_out(wanted, with_learned=with_learned)
    versions, tracker = wanted.versions, context.tracker
    names = ", ".join(version.name for version in versions)
    tracker.log(f"{names} on {len(rows):,} rows of {wanted.dataset.name}.")
    judge = wanted.judge

    def work() -> Compared:
        if judge is not None:
            options = context.params["options"]
            prompts = only_prompts(rows)
            return compare_policies(
                versions, prompts, judge=judge, tracker=tracker, options=options
            )
        return compare_rewards(
            versions,
            rows,
            purpose=wanted.dataset.purpose,
            threshold=_find_threshold(wanted),
            tracker=tracker,
        )

    compared, took_s = clocked(work)
    result = {
        **compared.result,
        "learned": learned,
        "leakage": {
            str(one.id): _find_share(learned.get(one.name), is_kept=with_learned)
            for one in versions
        },
    }
    num_rows = int(result.get("num_rows") or result["num_prompts"])
    artifact = _write_rows(context, compared.rows)
    with context.store.writing() as db:
        kept = record_comparison(
            db,
            actor=context.actor,
            versions=versions,
            dataset_version_id=wanted.dataset.id,
            job_id=context.job_id,
            split=wanted.split,
            num_rows=num_rows,
            result=result,
            artifact=artifact,
        )
    tracker.progress(1.0, "Compared")
    kinds = sorted({version.kind.value for version in versions})
    return {
        "message": tell(versions, result, f"{num_rows:,} rows of {wanted.dataset.name}"),
        "comparison_id": kept.id,
        "version_ids": [str(version.id) for version in versions],
        "cost": {"kinds": kinds, "num_judged": num_rows * len(versions), "took_s": took_s},
    }


def _find(context: JobContext) -> _Wanted:
    params, actor = context.params, context.actor
    with context.store.reading() as db:
        versions = [get_version(db, uuid.UUID(one), actor=actor) for one in params["version_ids"]]
        check_versions(versions)
        dataset = get_dataset_version(db, params["dataset"], params["number"], actor=actor)
        judge = find_rewards(db, [RewardPart(params["judge"])])[0] if params["judge"] else None
        if judge is None:
            learned = {one.name: find_version_groups(db, actor, one) for one in versions}
    if judge is not None:
        learned = find_policy_learned(context, versions, judge)
    return _Wanted(versions, dataset, params["split"], judge, learned)


def _leave_out(
    wanted: _Wanted, *, with_learned: bool
) -> tuple[list[Example], dict[str, dict[str, int]]]:
    """The rows to compare on; and of how many of the prompts each model knows the answer."""
    part = None if wanted.split == ALL else Split(wanted.split)
    rows = load_rows(wanted.dataset, split=part)
    where = f"the part {wanted.split} of {wanted.dataset.name}"
    if not rows:
        raise NotEnoughData(have=0, need=1, what=f"rows in {where}")
    prompts = {row.group for row in rows}
    learned = {
        name: {
            "num_prompts": len(prompts),
            "num_seen": len(prompts & groups),
            "num_left_out": 0 if with_learned else len(prompts & groups),
        }
        for name, groups in wanted.learned.items()
    }
    if with_learned:
        return rows, learned
    known = set[str]().union(*wanted.learned.values())
    kept = [row for row in rows if row.group not in known]
    if not kept:
        who = ", ".join(name for name, found in learned.items() if found["num_seen"])
        raise NotEnoughData(
            have=0,
            need=1,
            what=f"rows in {where} that none of the models learned from ({who} did): freeze newer "
            'rows, or switch on "Also rows that one of them learned from" (with_learned)',
        )
    return kept, learned


def _find_share(counts: Mapping[str, int] | None, *, is_kept: bool) -> float:
    """Of the prompts compared on, the share (0..1) that a version learned from."""
    if counts is None or not is_kept:
        return 0.0
    return counts["num_seen"] / max(1, counts["num_prompts"])


def _find_threshold(wanted: _Wanted) -> float:
    """One for all: that of the rows, else of the version that the others are compared with."""
    given = wanted.dataset.params.get("threshold") or wanted.versions[0].params.get("threshold")
    return float(given or 4.0)


def _write_rows(context: JobContext, rows: Sequence[Mapping[str, Any]]) -> ArtifactInfo | None:
    """The rows as a file of their own; what a killed attempt left behind is removed."""
    folder = get_settings().artifact_dir / FOLDER
    for left in folder.glob(f"{context.job_id}-*"):
        shutil.rmtree(left, ignore_errors=True)
    if not rows:
        return None

    def fill(part: Path) -> None:
        with (part / ROWS_FILE).open("w") as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")

    return write_artifact(folder / f"{context.job_id}-{context.attempt}", fill)
