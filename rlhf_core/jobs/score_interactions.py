"""The job that scores the stored interactions with a reward model."""

import json
import math
import uuid
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.errors import NotFound, TrainingFailed
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.kinds import resource_of
from rlhf_core.jobs.service import JobView, enqueue_job
from rlhf_core.registry.scores import (
    Unscored,
    count_to_score,
    get_scoring_state,
    list_to_score,
    store_rewards,
)
from rlhf_core.registry.service import REWARD_MODEL, find_production, get_version
from rlhf_core.serving.loader import LoadedModel, load_version
from rlhf_core.vocabulary import JobKind

ROWS_A_BATCH = 256
"""Scored and stored together: what a killed run loses at most."""
NOTE = "scored.json"


def enqueue_score(
    db: Session,
    *,
    actor: Actor,
    version_id: uuid.UUID | None = None,
    only_missing: bool = True,
) -> JobView:
    """Queue the scoring of all stored interactions by a version, by default the promoted one.

    `only_missing`: those that this version has scored already are left as they are.

    Raises:
        NotFound: there is no such version, or none is promoted.
        Conflict: the same version's scoring is queued or running.
    """
    if version_id is None:
        version = find_production(db)
        if version is None:
            raise NotFound(
                f"No version of {REWARD_MODEL!r} is promoted: promote one, or name a version."
            )
    else:
        version = get_version(db, version_id, actor=actor)
    return enqueue_job(
        db,
        actor=actor,
        kind=JobKind.SCORE,
        params={"version_id": str(version.id), "only_missing": only_missing},
        resource=resource_of(version.kind),
        dedup_key=f"{JobKind.SCORE.value}:{version.id}",
        priority=100,
    )


def run_score(context: JobContext) -> dict[str, Any]:
    """Score page by page; a run that is taken up again goes on behind its last page."""
    version_id = uuid.UUID(context.params["version_id"])
    only_missing = bool(context.params["only_missing"])
    with context.store.reading() as db:
        version = get_version(db, version_id, actor=context.actor)
        total = count_to_score(db, version_id, only_missing=only_missing)
    after, done, skipped = _read_note(context)
    if only_missing:
        done = skipped = 0  # what is done is not counted among the missing
    context.tracker.progress(0.0, "Loading the model")
    loaded = load_version(version, is_caching=True)
    while True:
        if context.tracker.should_stop():
            raise TrainingFailed("Stopped on request; what was scored stays, and a run goes on.")
        with context.store.reading() as db:
            page = list_to_score(
                db, version_id, after=after, limit=ROWS_A_BATCH, only_missing=only_missing
            )
        if not page:
            break
        rewards = _score(loaded, page)
        with context.store.writing() as db:
            store_rewards(db, version_id, rewards, actor=context.actor)
        after = page[-1].interaction_id
        done += len(rewards)
        skipped += len(page) - len(rewards)
        _write_note(context, after, done, skipped)
        share = min(1.0, (done + skipped) / max(1, total))
        context.tracker.progress(share, f"Scored {done:,} of {total:,} interactions")
    with context.store.reading() as db:
        state = get_scoring_state(db, version_id, actor=context.actor)
    message = f"{version.name} scored {done:,} interactions"
    if skipped:
        message += f"; it gave no number for {skipped:,}"
    return {
        "message": message + ".",
        "version_id": version_id,
        "num_scored": done,
        "num_without_number": skipped,
        "mean": state.mean,
        "num_interactions": state.num_interactions,
    }


def _score(loaded: LoadedModel, page: list[Unscored]) -> dict[uuid.UUID, float]:
    """The finite rewards of a page. Long texts lie together, which learners batch best."""
    by_length = sorted(page, key=lambda item: len(item.prompt) + len(item.completion))
    found = loaded.score(
        [item.prompt for item in by_length], [item.completion for item in by_length]
    )
    return {
        item.interaction_id: reward
        for item, reward in zip(by_length, found, strict=True)
        if reward is not None and math.isfinite(reward)
    }


def _read_note(context: JobContext) -> tuple[uuid.UUID | None, int, int]:
    try:
        note = json.loads((context.work_dir / NOTE).read_text())
        return uuid.UUID(note["after"]), int(note["done"]), int(note["skipped"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0, 0


def _write_note(context: JobContext, after: uuid.UUID, done: int, skipped: int) -> None:
    path = context.work_dir / NOTE
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"after": str(after), "done": done, "skipped": skipped}))
    fresh.replace(path)
