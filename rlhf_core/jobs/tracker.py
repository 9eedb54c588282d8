"""Where a run reports: buffered, written twice a second, fenced by the attempt.

Every write asks that the job still RUNs this attempt. Where it does not (the worker was taken for
dead and another one took over), the process ends at once: two attempts never write side by side.
"""

import math
import os
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import RlhfError, Unavailable
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job, JobLogLine, JobMetric, JobSample
from rlhf_core.store.upsert import changed_rows, dialect_insert
from rlhf_core.training import Sample
from rlhf_core.vocabulary import JobState

EXIT_SUPERSEDED = 75  # EX_TEMPFAIL of sysexits.h: somebody else has the run now
FLUSH_EVERY_S = 0.5
SIGN_OF_LIFE_EVERY_S = 5.0
MAX_LOG_LINES = 20_000  # an attempt; a learner in a loop must not fill the database
MAX_LINE_LENGTH = 2_000  # characters
MAX_SAMPLE_LENGTH = 8_000  # characters
MAX_WAITING_SAMPLES = 1_000
MAX_WAITING_METRICS = 100_000  # kept through an outage of the database
ROWS_A_STATEMENT = 500


def clean_text(text: str, limit: int = MAX_LINE_LENGTH) -> str:
    """Text that both databases store: no NUL, no lone surrogates, at most `limit` characters."""
    text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def next_line_number(db: Session, job_id: uuid.UUID) -> int:
    """The number of a job's next log line; it counts on over the attempts."""
    last = sa.select(sa.func.max(JobLogLine.number)).where(JobLogLine.job_id == job_id)
    return (db.scalar(last) or 0) + 1


def write_log(
    db: Session, job_id: uuid.UUID, attempt: int, number: int, lines: list[tuple[datetime, str]]
) -> None:
    """Insert log lines, the first with `number`."""
    for start in range(0, len(lines), ROWS_A_STATEMENT):
        rows = [
            {
                "job_id": job_id,
                "attempt": attempt,
                "number": number + index,
                "text": text,
                "logged_at": moment,
            }
            for index, (moment, text) in enumerate(lines[start : start + ROWS_A_STATEMENT], start)
        ]
        db.execute(sa.insert(JobLogLine), rows)


@dataclass
class _Batch:
    """What waits to be written."""

    progress: float | None = None
    message: str | None = None
    metrics: dict[tuple[str, int], tuple[float, datetime]] = field(default_factory=dict)
    lines: deque[tuple[datetime, str]] = field(default_factory=deque)
    samples: list[dict[str, Any]] = field(default_factory=list)

    def __bool__(self) -> bool:
        said = self.progress is not None or self.message
        return bool(self.metrics or self.lines or self.samples or said)

    def put_back(self, older: "_Batch") -> None:
        """Take in what could not be written; what came since wins."""
        self.progress = older.progress if self.progress is None else self.progress
        self.message = older.message if self.message is None else self.message
        self.metrics = {**older.metrics, **self.metrics}
        self.lines = older.lines + self.lines
        self.samples = older.samples + self.samples


def _leave() -> None:
    sys.stderr.write("This attempt was superseded: the run is somebody else's now.\n")
    sys.stderr.flush()
    os._exit(EXIT_SUPERSEDED)  # from whichever thread saw it; nothing may be written any more


class JobTracker:
    """A `training.Tracker` that writes to the database. An outage delays it and never raises."""

    def __init__(
        self,
        store: Store,
        job_id: uuid.UUID,
        attempt: int,
        *,
        on_superseded: Callable[[], None] = _leave,
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._attempt = attempt
        self._on_superseded = on_superseded
        self._batch = _Batch()
        self._buffering = threading.Lock()
        self._writing = threading.Lock()
        self._num_lines = 0
        self._next_number: int | None = None
        self._written_at = time.monotonic()
        self._is_stopping = False  # a plain flag: a signal handler sets it
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._write_often, name="tracker", daemon=True)
        self._thread.start()

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the run is, 0..1 (clipped; NaN leaves it as it was)."""
        with self._buffering:
            if not math.isnan(fraction):
                self._batch.progress = min(1.0, max(0.0, fraction))
            if message:
                self._batch.message = clean_text(message)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record numbers at a step; a second value of a name and step replaces the first."""
        now = utcnow()
        with self._buffering:
            for name, value in values.items():
                if math.isfinite(value) and len(self._batch.metrics) < MAX_WAITING_METRICS:
                    self._batch.metrics[clean_text(name, 100), int(step)] = (float(value), now)

    def log(self, text: str) -> None:
        """Append to the run's log, one row a line; the log of an attempt is bounded."""
        now = utcnow()
        with self._buffering:
            for line in text.splitlines() or [""]:
                self._num_lines += 1
                if self._num_lines < MAX_LOG_LINES:
                    self._batch.lines.append((now, clean_text(line)))
                elif self._num_lines == MAX_LOG_LINES:
                    self._batch.lines.append((now, "The log is full: further lines are not kept."))

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Keep what a policy answers at a step; those of an earlier attempt at it are replaced."""
        rows = [
            {
                "step": int(step),
                "prompt": clean_text(sample.prompt, MAX_SAMPLE_LENGTH),
                "completion": clean_text(sample.completion, MAX_SAMPLE_LENGTH),
                "reference_completion": clean_text(sample.reference, MAX_SAMPLE_LENGTH),
                "reward": sample.reward
                if sample.reward is not None and math.isfinite(sample.reward)
                else None,
            }
            for sample in samples
        ]
        with self._buffering:
            if len(self._batch.samples) + len(rows) <= MAX_WAITING_SAMPLES:
                self._batch.samples += rows

    def should_stop(self) -> bool:
        """Whether the run was asked to end."""
        return self._is_stopping

    def request_stop(self) -> None:
        """Ask the run to end. Safe in a signal handler."""
        self._is_stopping = True

    def flush(self) -> bool:
        """Write what waits; False where the database does not answer, and it keeps waiting."""
        with self._writing:
            with self._buffering:
                batch, self._batch = self._batch, _Batch()
            try:
                with self._store.writing() as db:
                    is_current = self._write(db, batch, {})
            except (RlhfError, sa.exc.SQLAlchemyError) as error:
                self._keep(batch, error)
                return False
        if not is_current:
            self._on_superseded()
        return True

    def finish(
        self,
        state: JobState,
        message: str,
        *,
        result: dict[str, Any] | None = None,
        patience_s: float = 600.0,
    ) -> None:
        """Write the end of the run with all that waits, in one transaction; then close.

        Raises Unavailable where the database does not answer within `patience_s`.
        """
        self.close()
        ending: dict[str, Any] = {
            "state": state,
            "message": clean_text(message),
            "result": result,
            "finished_at": utcnow(),
        }
        if state is JobState.SUCCEEDED:
            ending["progress"] = 1.0
        deadline = time.monotonic() + patience_s
        while True:
            with self._writing:
                batch, self._batch = self._batch, _Batch()
                try:
                    with self._store.writing() as db:
                        is_current = self._write(db, batch, ending)
                    break
                except (Unavailable, sa.exc.SQLAlchemyError) as error:
                    self._keep(batch, error)
                    if time.monotonic() > deadline or self._is_stopping:
                        raise
            time.sleep(1.0)
        if not is_current:
            self._on_superseded()

    def close(self) -> None:
        """End the writing thread, having written what waits."""
        self._is_closed.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)
        if self._batch:
            self.flush()

    def _write_often(self) -> None:
        while not self._is_closed.wait(FLUSH_EVERY_S):
            # With nothing to say it still looks whether the run is its own.
            is_due = time.monotonic() - self._written_at > SIGN_OF_LIFE_EVERY_S
            if self._batch or is_due:
                self.flush()

    def _write(self, db: Session, batch: _Batch, ending: dict[str, Any]) -> bool:
        values: dict[str, Any] = {"reported_at": utcnow()}
        if batch.progress is not None:
            values["progress"] = batch.progress
        if batch.message is not None:
            values["message"] = batch.message
        is_current = changed_rows(
            db.execute(
                sa.update(Job)
                .where(
                    Job.id == self._job_id,
                    Job.attempt == self._attempt,
                    Job.state == JobState.RUNNING,
                )
                .values(values | ending)
            )
        )
        if not is_current:
            return False
        number = self._next_number or next_line_number(db, self._job_id)
        write_log(db, self._job_id, self._attempt, number, list(batch.lines))
        self._write_metrics(db, batch)
        self._write_samples(db, batch)
        self._next_number = number + len(batch.lines)
        self._written_at = time.monotonic()
        return True

    def _write_metrics(self, db: Session, batch: _Batch) -> None:
        rows = [
            {
                "job_id": self._job_id,
                "name": name,
                "step": step,
                "attempt": self._attempt,
                "value": value,
                "recorded_at": moment,
            }
            for (name, step), (value, moment) in batch.metrics.items()
        ]
        for start in range(0, len(rows), ROWS_A_STATEMENT):
            statement = dialect_insert(db, JobMetric).values(rows[start : start + ROWS_A_STATEMENT])
            changed = {
                column: statement.excluded[column] for column in ("attempt", "value", "recorded_at")
            }
            db.execute(
                statement.on_conflict_do_update(
                    index_elements=["job_id", "name", "step"], set_=changed
                )
            )

    def _write_samples(self, db: Session, batch: _Batch) -> None:
        if not batch.samples:
            return
        steps = sorted({row["step"] for row in batch.samples})
        told_before = sa.and_(JobSample.job_id == self._job_id, JobSample.step.in_(steps))
        db.execute(sa.delete(JobSample).where(told_before))
        named = {"job_id": self._job_id, "attempt": self._attempt}
        ids = sorted(new_id() for _ in batch.samples)  # within a millisecond they are in no order
        rows = [{"id": own, **named, **row} for own, row in zip(ids, batch.samples, strict=True)]
        db.execute(sa.insert(JobSample), rows)

    def _keep(self, batch: _Batch, error: Exception) -> None:
        self._next_number = None  # the commit may have failed after the count
        with self._buffering:
            self._batch.put_back(batch)
        sys.stderr.write(f"Not reported yet, the database failed: {error}\n")
