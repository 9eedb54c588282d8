"""What each kind of job does, where it runs, and who may start it."""

from collections.abc import Callable
from typing import Any

from rlhf_core.accounts.permissions import Permission
from rlhf_core.jobs.context import JobContext
from rlhf_core.vocabulary import JobKind, Resource

JobFunction = Callable[[JobContext], dict[str, Any]]

RESOURCES: dict[JobKind, Resource] = {
    JobKind.TRAIN_SBERT: Resource.CPU,
    JobKind.IMPORT: Resource.CPU,
}
PERMISSIONS: dict[JobKind, Permission] = {
    JobKind.TRAIN_SBERT: Permission.RUN_JOBS,
    JobKind.IMPORT: Permission.IMPORT_DATA,
}


def _train_sbert(context: JobContext) -> dict[str, Any]:
    from rlhf_core.jobs.train_sbert import run_train_sbert

    return run_train_sbert(context)


def _import(context: JobContext) -> dict[str, Any]:
    """Params: `path`, `format`, and optionally `mapping` (a dict) and `source`."""
    from rlhf_core.jobs.import_file import run_import

    return run_import(context)


KINDS: dict[JobKind, JobFunction] = {
    JobKind.TRAIN_SBERT: _train_sbert,
    JobKind.IMPORT: _import,
}
"""The function of each kind. Its dict is the job's result; `message` in it is the sentence that
people read. A function that sees `tracker.should_stop()` saves its checkpoint and returns."""
