"""The demo world in the database: loaded in one go, found, and cleared without a trace."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.demo.clearing import (
    delete_made,
    delete_world,
    find_folders,
    find_made,
    list_days_said,
)
from rlhf_core.demo.people import let_people_speak
from rlhf_core.demo.rows import QUEUE_NAME, build_tables
from rlhf_core.demo.world import NUM_DAYS, build_world
from rlhf_core.errors import Conflict, NotFound
from rlhf_core.privacy.pseudonyms import check_key, make_pseudonym
from rlhf_core.store.bulk import insert_rows
from rlhf_core.store.queries.dirty_days import mark_days_dirty
from rlhf_core.store.tables import (
    Comparison,
    Event,
    Feedback,
    Interaction,
    Rater,
    RatingQueue,
    ReasoningStep,
)
from rlhf_core.vocabulary import DEMO_SOURCE


@dataclass(frozen=True)
class DemoCounts:
    """How much of the demo world there is."""

    num_interactions: int
    num_steps: int
    num_feedback: int
    num_comparisons: int
    num_events: int
    num_raters: int


@dataclass(frozen=True)
class Cleared:
    """What was taken out; `folders` hold the files that nothing names any more."""

    counts: DemoCounts
    num_dataset_versions: int
    num_model_versions: int
    folders: list[Path]


def load_demo(
    db: Session, *, actor: Actor, seed: int = 0, ends_at: datetime | None = None
) -> DemoCounts:
    """Put the demo world into the database: the sixty days before today (or before `ends_at`).

    The same seed and end make the same rows, ids too, wherever the pseudonym key is the same.

    Raises:
        Conflict: it is there already, the queue's name is taken, or the database was filled with
            another pseudonym key.
    """
    require(actor, Permission.IMPORT_DATA)
    if find_demo(db) is not None:
        raise Conflict("The demo world is loaded already: clear it first to load it again.")
    if db.scalar(sa.select(RatingQueue.id).where(RatingQueue.name == QUEUE_NAME)):
        raise Conflict(f"There is a rating queue {QUEUE_NAME!r} of your own: rename or remove it.")
    key = get_settings().read_secret_key()
    check_key(db, key)
    now = utcnow()
    ends_at = ends_at or now
    world = build_world(seed=seed, ends_at=ends_at)
    tables = build_tables(
        world,
        let_people_speak(world),
        now=now,
        pseudonym_of=lambda name: make_pseudonym(name, key),
    )
    for table, columns, rows in tables:
        insert_rows(db, table, columns, rows)
    _mark_days(db, ends_at)
    counts = find_demo(db)
    if counts is None:
        raise NotFound("Nothing of the demo world was stored: try again.")
    record_event(db, actor=actor, action="demo.load",
                 details={"seed": seed, "interactions": counts.num_interactions})  # fmt: skip
    return counts


def find_demo(db: Session) -> DemoCounts | None:
    """What is there of the demo world; None where nothing is."""
    is_there = db.scalar(sa.select(Interaction.id).where(Interaction.is_demo).limit(1))
    if is_there is None:
        return None

    def count(table: type, *conditions: Any) -> int:
        return db.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions)) or 0

    of_demo = sa.select(Interaction.id).where(Interaction.is_demo)
    return DemoCounts(
        num_interactions=count(Interaction, Interaction.is_demo),
        num_steps=count(ReasoningStep, ReasoningStep.interaction_id.in_(of_demo)),
        num_feedback=count(Feedback, Feedback.source == DEMO_SOURCE),
        num_comparisons=count(Comparison, Comparison.source == DEMO_SOURCE),
        num_events=count(Event, Event.is_demo),
        num_raters=count(Rater, Rater.is_demo),
    )


def clear_demo(db: Session, *, actor: Actor) -> Cleared:
    """Take the demo world out again, with all that was made of it alone.

    Frozen datasets whose rows all come from it go, and so do the models trained on those, with
    what points at them and the jobs that made them. After the commit, `clearing.remove_files`
    removes their files.

    Raises:
        NotFound: there is no demo world.
    """
    require(actor, Permission.IMPORT_DATA)
    require(actor, Permission.MANAGE_DATASETS)
    counts = find_demo(db)
    if counts is None:
        raise NotFound("There is no demo world to clear.")
    last = db.scalar(sa.select(sa.func.max(Interaction.occurred_at)).where(Interaction.is_demo))
    made = find_made(db)
    folders = find_folders(db, made)
    delete_made(db, made)
    if last is not None:
        _mark_days(db, last)
    mark_days_dirty(db, list_days_said(db))  # real people may have rated it long after
    delete_world(db)
    cleared = Cleared(counts, len(made.dataset_versions), len(made.model_versions), folders)
    record_event(
        db,
        actor=actor,
        action="demo.clear",
        details={
            "interactions": counts.num_interactions,
            "dataset_versions": cleared.num_dataset_versions,
            "model_versions": cleared.num_model_versions,
        },
    )
    return cleared


def _mark_days(db: Session, ends_at: datetime) -> None:
    """The days on which something of the demo world happened, or was said of it."""
    mark_days_dirty(db, (ends_at - timedelta(days=day) for day in range(-2, NUM_DAYS + 1)))
