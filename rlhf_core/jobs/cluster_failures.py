"""The job that searches for groups of failures."""

from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.failure_clusters import create_clustering
from rlhf_core.analytics.failure_search import (
    SearchParams,
    find_failures,
    parse_search,
    read_bad,
    read_others,
)
from rlhf_core.analytics.rollups import reading_fresh
from rlhf_core.config import get_settings
from rlhf_core.encoder.cache import CachedEncoder
from rlhf_core.encoder.model import load_encoder
from rlhf_core.errors import TrainingFailed
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.service import JobView, enqueue_job
from rlhf_core.vocabulary import JobKind

EMBEDDING_SHARE = 0.8  # of the run's time, about


def enqueue_clustering(db: Session, *, actor: Actor, params: SearchParams) -> JobView:
    """Queue a search. Conflict while one is queued or running."""
    return enqueue_job(
        db,
        actor=actor,
        kind=JobKind.CLUSTER_FAILURES,
        params=params.to_json(),
        dedup_key=JobKind.CLUSTER_FAILURES.value,
        priority=50,
    )


def run_cluster_failures(context: JobContext) -> dict[str, Any]:
    """Read, embed (through the cache: a run taken up again goes on), group and keep."""
    params = parse_search(context.params)
    tracker = context.tracker
    tracker.progress(0.0, "Reading what people called bad")
    with reading_fresh(context.store) as db:
        bad = read_bad(db, params)
        others = read_others(db, params)
    settings = get_settings()

    def embed(texts: Any) -> Any:
        encoder = CachedEncoder(load_encoder(settings.encoder), settings.embedding_dir)
        return encoder.encode(texts, on_progress=report)

    def report(done: int, total: int) -> None:
        if tracker.should_stop():
            raise TrainingFailed("Stopped on request; what was embedded is kept for the next run.")
        share = EMBEDDING_SHARE * done / max(1, total)
        tracker.progress(share, f"Read {done:,} of {total:,} texts")

    found = find_failures(bad, others, params=params, embed=embed)
    tracker.progress(0.95, "Keeping what was found")
    with context.store.writing() as db:
        clustering_id = create_clustering(
            db, found, actor=context.actor, params=params, job_id=context.job_id
        )
    num = len(found.groups)
    in_groups = found.num_items - found.num_outliers
    return {
        "message": f"{num} group{'' if num == 1 else 's'} among {found.num_items:,} bad answers; "
        f"{in_groups:,} lie in one.",
        "clustering_id": clustering_id,
        "num_groups": num,
        "num_items": found.num_items,
        "num_outliers": found.num_outliers,
    }
