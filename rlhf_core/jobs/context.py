"""What a job's function is given."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.accounts.permissions import Actor
from rlhf_core.store.engine import Store
from rlhf_core.training import Tracker


@dataclass(frozen=True)
class JobContext:
    """One attempt of one job, in its own process.

    `actor` is the account that enqueued the job (`SYSTEM` for the command line). `work_dir` exists
    and stays over the attempts of a job, for checkpoints; it is removed once the job succeeded.
    """

    job_id: uuid.UUID
    attempt: int
    params: dict[str, Any]
    actor: Actor
    tracker: Tracker
    store: Store
    work_dir: Path
