"""What each kind of job does, where it runs, and who may start it.

Learners that tune a network wait in the queue `gpu`, of which a worker runs one at a time. The
worker of the embedded default, like any that is started without `--resources`, takes both queues:
on a machine without an accelerator the same jobs run on its CPU.
"""

from collections.abc import Callable
from typing import Any

from rlhf_core.accounts.permissions import Permission
from rlhf_core.jobs.context import JobContext
from rlhf_core.vocabulary import JobKind, ModelKind, Resource

JobFunction = Callable[[JobContext], dict[str, Any]]

TRAINS_POLICY = (
    JobKind.TRAIN_STARTER,
    JobKind.TRAIN_SFT,
    JobKind.TRAIN_DPO,
    JobKind.TRAIN_KTO,
    JobKind.TRAIN_RLOO,
    JobKind.TRAIN_GRPO,
    JobKind.TRAIN_PPO,
    JobKind.DISTIL,
)
RESOURCES: dict[JobKind, Resource] = {
    JobKind.TRAIN_SBERT: Resource.CPU,
    JobKind.TRAIN_TRANSFORMER: Resource.GPU,
    JobKind.TRAIN_STEPS: Resource.GPU,
    **dict.fromkeys(TRAINS_POLICY, Resource.GPU),
    JobKind.JOIN: Resource.GPU,
    JobKind.EVALUATE: Resource.CPU,
    JobKind.EVALUATE_POLICY: Resource.GPU,
    JobKind.SCORE: Resource.CPU,
    JobKind.CLUSTER_FAILURES: Resource.CPU,
    JobKind.COMPARE_VERSIONS: Resource.CPU,
    JobKind.RETRAIN: Resource.CPU,
    JobKind.IMPORT: Resource.CPU,
}
"""Where a kind waits; `enqueue_job` may be told otherwise."""
PERMISSIONS: dict[JobKind, Permission] = {
    JobKind.TRAIN_SBERT: Permission.RUN_JOBS,
    JobKind.TRAIN_TRANSFORMER: Permission.RUN_JOBS,
    JobKind.TRAIN_STEPS: Permission.RUN_JOBS,
    **dict.fromkeys(TRAINS_POLICY, Permission.RUN_JOBS),
    JobKind.JOIN: Permission.RUN_JOBS,
    JobKind.EVALUATE: Permission.RUN_JOBS,
    JobKind.EVALUATE_POLICY: Permission.RUN_JOBS,
    JobKind.SCORE: Permission.RUN_JOBS,
    JobKind.CLUSTER_FAILURES: Permission.RUN_JOBS,
    JobKind.COMPARE_VERSIONS: Permission.RUN_JOBS,
    JobKind.RETRAIN: Permission.RUN_JOBS,
    JobKind.IMPORT: Permission.IMPORT_DATA,
}


def resource_of(kind: ModelKind) -> Resource:
    """Where a job that only uses a model of this kind waits."""
    tuned = (ModelKind.REWARD_TRANSFORMER, ModelKind.REWARD_STEPS)
    return Resource.GPU if kind in tuned else Resource.CPU


def _train_reward(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.train_reward import run_train_reward

    return run_train_reward(context)


def _evaluate(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.evaluate import run_evaluate

    return run_evaluate(context)


def _train_policy(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.train_policy import run_train_policy

    return run_train_policy(context)


def _join(context: JobContext) -> dict[str, Any]:
    """A run on several machines starts it on each of the others; nobody else does."""
    from rlhf_core.jobs.policy_machines import run_join

    return run_join(context)


def _evaluate_policy(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.evaluate_policy import run_evaluate_policy

    return run_evaluate_policy(context)


def _score(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.score_interactions import run_score

    return run_score(context)


def _cluster_failures(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.cluster_failures import run_cluster_failures

    return run_cluster_failures(context)


def _compare_versions(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.compare_versions import run_compare_versions

    return run_compare_versions(context)


def _retrain(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.retrain import run_retrain

    return run_retrain(context)


def _import(context: JobContext) -> dict[str, Any]:
    """Params: `path`, `format`, and optionally `mapping` (a dict) and `source`."""
    from rlhf_core.jobs.import_file import run_import

    return run_import(context)


KINDS: dict[JobKind, JobFunction] = {
    JobKind.TRAIN_SBERT: _train_reward,
    JobKind.TRAIN_TRANSFORMER: _train_reward,
    JobKind.TRAIN_STEPS: _train_reward,
    **dict.fromkeys(TRAINS_POLICY, _train_policy),
    JobKind.JOIN: _join,
    JobKind.EVALUATE: _evaluate,
    JobKind.EVALUATE_POLICY: _evaluate_policy,
    JobKind.SCORE: _score,
    JobKind.CLUSTER_FAILURES: _cluster_failures,
    JobKind.COMPARE_VERSIONS: _compare_versions,
    JobKind.RETRAIN: _retrain,
    JobKind.IMPORT: _import,
}
"""The function of each kind. Its dict is the job's result; `message` in it is the sentence that
people read. A function that sees `tracker.should_stop()` saves its checkpoint and returns."""
