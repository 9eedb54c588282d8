"""Training runs in this process, on ratings whose prompts differ enough to be parted."""

import random
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.kinds import KINDS
from rlhf_core.jobs.service import JobView
from rlhf_core.jobs.train_params import TrainRewardParams
from rlhf_core.jobs.train_reward import enqueue_train_reward
from rlhf_core.registry.service import list_versions
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.training import NoOpTracker
from tests.learning.rated import add_feedback, add_interaction, add_rater

WORDS = [
    "amber", "basket", "candle", "dragon", "engine", "forest", "garden", "harbour", "island",
    "jungle", "kettle", "lantern", "marble", "needle", "orchard", "pepper", "quarry", "ribbon",
    "saddle", "timber", "umbrella", "velvet", "window", "yellow", "zebra", "anchor", "bridge",
    "copper", "desert", "eagle", "falcon", "glacier", "hammer", "iron", "jacket", "kitchen",
]  # fmt: skip
ENDINGS = {5: "Gladly, here is how, in three steps.", 1: "No idea."}


class Log(NoOpTracker):
    """Keeps what was said; asks to stop once `stop_after` of its messages were said."""

    def __init__(self, stop_after: str | None = None) -> None:
        self.lines: list[str] = []
        self.said: list[str] = []
        self._stop_after = stop_after

    def log(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, fraction: float, message: str = "") -> None:
        assert 0.0 <= fraction <= 1.0
        self.said.append(message)

    def should_stop(self) -> bool:
        wanted = self._stop_after
        return wanted is not None and any(wanted in said for said in self.said + self.lines)


def add_ratings(db: Session, num_prompts: int, *, seed: int = 0) -> None:
    """Two completions a prompt, a good and a bad one, each rated by two people."""
    drawn = random.Random(seed)
    raters = [add_rater(db, f"u_{uuid.uuid4().hex}") for _ in range(2)]
    for _ in range(num_prompts):
        words = drawn.sample(WORDS, 8)
        for rating, ending in ENDINGS.items():
            completion = f"{' '.join(drawn.sample(WORDS, 3))}. {ending}"
            interaction = add_interaction(db, f"{' '.join(words)}?", completion)
            for rater in raters:
                noise = drawn.random() < 0.1
                add_feedback(db, interaction, rater, rating=6 - rating if noise else rating)


def enqueue(store: Store, **params: Any) -> JobView:
    with store.writing() as db:
        return enqueue_train_reward(db, actor=SYSTEM, params=TrainRewardParams(**params))


def work_dir_of(job: JobView) -> Path:
    return get_settings().data_dir / "work" / str(job.id)


def run(store: Store, job: JobView, *, attempt: int = 1, log: Log | None = None) -> dict[str, Any]:
    """Run one attempt of the job, as its process would."""
    work_dir = work_dir_of(job)
    work_dir.mkdir(parents=True, exist_ok=True)
    context = JobContext(
        job_id=job.id,
        attempt=attempt,
        params=job.params,
        actor=SYSTEM,
        tracker=log or NoOpTracker(),
        store=store,
        work_dir=work_dir,
    )
    return KINDS[job.kind](context)


def list_models(store: Store) -> list[ModelVersionView]:
    with store.reading() as db:
        return list_versions(db, actor=SYSTEM)
