"""Batches of prepared lines into the database, one transaction each; or, on trial, into none."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.clock import new_hex_ids
from rlhf_core.errors import InvalidInput, NotFound, Unavailable
from rlhf_core.interchange import lookup
from rlhf_core.interchange.batch import (
    ASPECT_COLUMNS,
    COMPARISON_COLUMNS,
    FEEDBACK_COLUMNS,
    SPAN_COLUMNS,
    Additions,
    BatchPlan,
    Items,
    Known,
)
from rlhf_core.interchange.prepare import INTERACTION_COLUMNS, STEP_COLUMNS, PreparedLine
from rlhf_core.privacy.consent import count_words, list_opted_out
from rlhf_core.store.base import Base
from rlhf_core.store.bulk import BulkStore, insert_rows, is_race
from rlhf_core.store.engine import Store
from rlhf_core.store.queries.dirty_days import mark_days_dirty

MAX_TRIES = 8


class Outcome(Enum):
    """What became of a line."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    WAITING = "waiting"


Said = tuple[list[Outcome], dict[int, str]]
"""What became of each line; and, by place, why those that are not stored are not."""


@dataclass
class RowCounts:
    """Rows added, by table."""

    num_interactions: int = 0
    num_steps: int = 0
    num_feedback: int = 0
    num_comparisons: int = 0
    num_raters: int = 0

    def add(self, other: "RowCounts") -> None:
        """Add another's counts."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


class Writer:
    """Writes batches into `store`; on trial that is a copy, and what is `stored` is known too."""

    def __init__(self, store: BulkStore, *, now: str, stored: Store | None = None) -> None:
        self._store = store
        self._stored = stored
        self._now = now
        self._opted_out: tuple[int, frozenset[str]] = (0, frozenset())
        self.counts = RowCounts()

    def write(self, lines: Sequence[PreparedLine], *, is_last: bool) -> Said:
        """Store the lines in one transaction; say of each what became of it, and why.

        A line on an interaction that is not there is WAITING, or with `is_last` REJECTED.
        """
        for _ in range(MAX_TRIES):
            try:
                with self._sessions() as sessions:
                    said, counts = self._write(sessions, lines, is_last)
            except Exception as error:
                if not is_race(error) and not is_race(error.__cause__ or error):
                    raise
                continue
            self._store.tidy()
            self.counts.add(counts)
            return said
        raise Unavailable("Other writers were in the way of the import; start it again.")

    @contextmanager
    def _sessions(self) -> Iterator[list[Session]]:
        with ExitStack() as stack:
            stored = [stack.enter_context(self._stored.reading())] if self._stored else []
            yield [*stored, stack.enter_context(self._store.writing())]

    def _write(
        self, sessions: list[Session], lines: Sequence[PreparedLine], is_last: bool
    ) -> tuple[Said, RowCounts]:
        items = Items(lines)
        known = self._load_known(sessions, items)
        db = sessions[-1]
        kinds = dict([item.rater for item in items.feedback])
        kinds.update([item.rater for item in items.comparisons])
        for session in sessions:
            known.raters.update(lookup.find_raters(session, kinds))
        unknown = sorted(kinds.keys() - known.raters.keys())
        known.raters.update(zip(unknown, new_hex_ids(len(unknown)), strict=True))
        self._load_occasions(sessions, items, known)
        known.opted_out = self._find_opted_out(sessions[0])
        plan = BatchPlan(known, self._now)
        said = _add_lines(plan, lines, is_last)
        added = plan.added
        used = {row[3] for row in added.feedback} | {row[3] for row in added.comparisons}
        fresh = [name for name in unknown if known.raters[name] in used]
        self._insert(db, added, [(known.raters[n], n, kinds[n], 0, self._now) for n in fresh])
        counts = RowCounts(
            num_interactions=len(added.interactions),
            num_steps=len(added.steps),
            num_feedback=len(added.feedback),
            num_comparisons=len(added.comparisons),
            num_raters=len(fresh),
        )
        return said, counts

    def _load_known(self, sessions: list[Session], items: Items) -> Known:
        keys = items.keys()
        known = Known(targets={}, feedback={}, comparisons={}, raters={})
        comparisons = {item.key for item in items.comparisons}
        for db in sessions:
            targets = lookup.find_targets(db, keys)
            known.targets.update(targets)
            if targets:
                stepped = _need_steps(items) & targets.keys()
                lookup.load_steps(db, (targets[key] for key in stepped))
            # A hash of the content names the interaction too: it cannot be known where that is new.
            feedback = {
                item.key
                for item in items.feedback
                if item.target in known.targets or not item.key[1].startswith("content:")
            }
            known.feedback.update(lookup.find_feedback(db, feedback))
            known.comparisons.update(lookup.find_comparisons(db, comparisons))
        return known

    def _load_occasions(self, sessions: list[Session], items: Items, known: Known) -> None:
        if not known.targets:
            return  # on new interactions no occasion is taken
        interactions: set[str] = set()
        raters: set[str] = set()
        lefts: set[str] = set()
        for feedback in items.feedback:
            target = known.targets.get(feedback.target)
            if target is not None and feedback.key not in known.feedback:
                interactions.add(target.id)
                raters.add(known.raters[feedback.rater[0]])
        for comparison in items.comparisons:
            left = known.targets.get(comparison.left)
            if left is not None and comparison.key not in known.comparisons:
                lefts.add(left.id)
        for db in sessions:
            _merge(
                known.feedback_occasions, lookup.find_feedback_occasions(db, interactions, raters)
            )
            _merge(known.comparison_occasions, lookup.find_comparison_occasions(db, lefts))

    def _find_opted_out(self, db: Session) -> frozenset[str]:
        """Who opted out until now; read anew where somebody said a word since the last batch."""
        num_words = count_words(db)
        if num_words != self._opted_out[0]:
            self._opted_out = num_words, list_opted_out(db)
        return self._opted_out[1]

    def _insert(self, db: Session, added: Additions, raters: list[tuple[Any, ...]]) -> None:
        columns = ("id", "pseudonym", "rater_kind", "is_demo", "created_at")
        insert_rows(db, "raters", columns, raters)
        insert_rows(db, "interactions", INTERACTION_COLUMNS, added.interactions)
        insert_rows(db, "reasoning_steps", STEP_COLUMNS, added.steps)
        insert_rows(db, "feedback", FEEDBACK_COLUMNS, added.feedback)
        insert_rows(db, "feedback_aspects", ASPECT_COLUMNS, added.aspects)
        insert_rows(db, "feedback_spans", SPAN_COLUMNS, added.spans)
        insert_rows(db, "comparisons", COMPARISON_COLUMNS, added.comparisons)
        days = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in added.days())
        mark_days_dirty(db, days)


def _add_lines(plan: BatchPlan, lines: Sequence[PreparedLine], is_last: bool) -> Said:
    outcomes: list[Outcome] = []
    reasons: dict[int, str] = {}
    missing = Outcome.REJECTED if is_last else Outcome.WAITING
    for at, line in enumerate(lines):
        try:
            outcome = Outcome.STORED if plan.add(line) else Outcome.DUPLICATE
        except (InvalidInput, NotFound) as error:
            outcome = missing if isinstance(error, NotFound) else Outcome.REJECTED
            reasons[at] = str(error)
        outcomes.append(outcome)
    return outcomes, reasons


def _need_steps(items: Items) -> set[tuple[str, str]]:
    needed = {item.key for item in items.interactions if item.steps}
    needed |= {item.target for item in items.feedback if item.step is not None}
    return needed


def _merge(into: dict[Any, set[int]], more: dict[Any, set[int]]) -> None:
    for slot, occasions in more.items():
        into.setdefault(slot, set()).update(occasions)


@contextmanager
def open_writer(store: Store, *, now: str, dry_run: bool) -> Iterator[Writer]:
    """A writer on the store's database, or one that only says what it would do.

    A dry run writes into an empty copy of the tables in a temporary file, and looks things up there
    and in the store: so it reports what the import would, and holds no lock on the store.
    """
    if not dry_run:
        with closing(BulkStore(store.url)) as bulk:
            yield Writer(bulk, now=now)
        return
    with (
        tempfile.TemporaryDirectory(prefix="rlhf-dry-run-") as folder,
        closing(BulkStore(f"sqlite:///{Path(folder) / 'trial.db'}")) as trial,
    ):
        Base.metadata.create_all(trial.engine)
        yield Writer(trial, now=now, stored=store)
