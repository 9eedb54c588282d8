"""Background work: jobs, what they report, who runs them, and when they start by themselves."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import (
    Base,
    Json,
    JsonList,
    closed_set,
    created_moment,
    foreign,
    growing_set,
    primary_id,
)
from rlhf_core.vocabulary import JobKind, JobState, Resource, ScheduleTrigger


class Job(Base):
    """One piece of background work. Every write of a run names its `attempt`: it fences.

    `dedup_key`: at most one unfinished job a key. `message` is the sentence for people.
    `max_attempts`: the job is given up when a worker would have to start one more.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name="progress_range"),
        sa.Index("ix_jobs_state_time", "state", "created_at"),
        sa.Index(
            "uq_jobs_dedup_key",
            "dedup_key",
            unique=True,
            sqlite_where=sa.text("state IN ('queued', 'running')"),
            postgresql_where=sa.text("state IN ('queued', 'running')"),
        ),
    )

    id: Mapped[uuid.UUID] = primary_id()
    kind: Mapped[JobKind] = mapped_column(growing_set(JobKind))
    state: Mapped[JobState] = mapped_column(closed_set(JobState), default=JobState.QUEUED)
    resource: Mapped[Resource] = mapped_column(closed_set(Resource))
    params: Mapped[Json]
    priority: Mapped[int] = mapped_column(default=100)
    dedup_key: Mapped[str | None] = mapped_column(sa.String(200))
    workflow_id: Mapped[str | None] = mapped_column(sa.String(100))
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    executor_id: Mapped[str | None] = mapped_column(sa.String(200))
    progress: Mapped[float] = mapped_column(default=0.0)
    message: Mapped[str | None] = mapped_column(sa.Text)
    result: Mapped[Json | None]
    parent_job_id: Mapped[uuid.UUID | None] = foreign("jobs.id", ondelete="SET NULL", nullable=True)
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()
    started_at: Mapped[datetime | None]
    reported_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]


class JobMetric(Base):
    """One number of a run at one step."""

    __tablename__ = "job_metrics"

    job_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    value: Mapped[float]
    recorded_at: Mapped[datetime] = created_moment()


class JobLogLine(Base):
    """One line of a run's log. In the database, so that any machine's page can show it."""

    __tablename__ = "job_log_lines"

    job_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    attempt: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.Text)
    logged_at: Mapped[datetime] = created_moment()


class JobSample(Base):
    """A completion sampled by a run at a step, beside the reference's."""

    __tablename__ = "job_samples"
    __table_args__ = (sa.Index("ix_job_samples_step", "job_id", "step"),)

    id: Mapped[uuid.UUID] = primary_id()
    job_id: Mapped[uuid.UUID] = foreign("jobs.id", ondelete="CASCADE", index=False)
    attempt: Mapped[int]
    step: Mapped[int]
    prompt: Mapped[str] = mapped_column(sa.Text)
    completion: Mapped[str] = mapped_column(sa.Text)
    reference_completion: Mapped[str | None] = mapped_column(sa.Text)
    reward: Mapped[float | None]
    details: Mapped[Json | None]


class Worker(Base):
    """A worker process and its last heartbeat. `executor_id` is stable and unique."""

    __tablename__ = "workers"

    executor_id: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    host: Mapped[str] = mapped_column(sa.String(200))
    pid: Mapped[int]
    resources: Mapped[JsonList]
    devices: Mapped[Json | None]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class Schedule(Base):
    """A job that starts by itself. `cron` is in UTC, and empty where another trigger starts it.

    Ticks and alerts before `effective_at` do not count: it moves when the schedule is switched on
    or gets another trigger. `last_started_at` moves at each try; every start names the one it saw.
    """

    __tablename__ = "schedules"

    id: Mapped[uuid.UUID] = primary_id()
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    trigger: Mapped[ScheduleTrigger] = mapped_column(
        growing_set(ScheduleTrigger), default=ScheduleTrigger.CRON
    )
    cron: Mapped[str] = mapped_column(sa.String(100))
    job_kind: Mapped[JobKind] = mapped_column(growing_set(JobKind))
    params: Mapped[Json]
    is_enabled: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()
    effective_at: Mapped[datetime] = created_moment()
    last_started_at: Mapped[datetime | None]
    last_outcome: Mapped[str | None] = mapped_column(sa.Text)
    last_job_id: Mapped[uuid.UUID | None] = foreign("jobs.id", ondelete="SET NULL", nullable=True)
