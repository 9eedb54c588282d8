"""What a policy answered at the steps of its training, beside its reference."""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.store.tables import JobSample


@dataclass(frozen=True)
class SampleView:
    """One answer at a step; `reference` is the untrained policy's, `reward` None where unknown."""

    step: int
    prompt: str
    completion: str
    reference: str
    reward: float | None


def list_samples(db: Session, job_id: uuid.UUID, *, actor: Actor) -> list[SampleView]:
    """The samples of a run, by step and in the order in which they were shown."""
    require(actor, Permission.READ_MODELS)
    query = (
        sa.select(
            JobSample.step,
            JobSample.prompt,
            JobSample.completion,
            sa.func.coalesce(JobSample.reference_completion, ""),
            JobSample.reward,
        )
        .where(JobSample.job_id == job_id)
        .order_by(JobSample.step, JobSample.id)
    )
    return [SampleView(*row) for row in db.execute(query)]
