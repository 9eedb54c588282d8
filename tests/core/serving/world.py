"""Real reward models, small: trained once a test session, registered as often as needed."""

import atexit
import functools
import shutil
import tempfile
import uuid
from pathlib import Path

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import write_artifact
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.examples import ScoredCompletion
from rlhf_core.registry.service import REWARD_MODEL, promote_version, register_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.training import NoOpTracker, TrainReport
from rlhf_core.vocabulary import ModelKind

TOPICS = [
    "boil an egg", "tie a tie", "grow tomatoes", "mend a bicycle", "write a letter", "bake bread",
    "paint a wall", "learn to swim", "plan a trip", "clean a window", "sew a button", "cut hair",
    "fold a map", "wash wool", "light a fire", "hang a picture", "sharpen a knife", "pack a bag",
    "plant a tree", "fix a tap",
]  # fmt: skip
PROMPT = "How do I brew coffee?"
GOOD = "First heat the water. Then grind the beans, pour slowly, and wait four minutes."
BAD = "I do not know, ask somebody else."


def make_rows() -> list[ScoredCompletion]:
    rows = []
    for number, topic in enumerate(TOPICS):
        answers = [
            (f"First gather what you need. Then {topic} step by step, slowly, and check it.", 5.0),
            (f"Begin with the tools, then {topic} with care; wait a few minutes at the end.", 4.5),
            (f"I do not know how to {topic}.", 1.0),
            ("Ask somebody else, I will not help.", 1.5),
        ]
        rows += [
            ScoredCompletion(f"How do I {topic}?", answer, score, 1, f"group {number}", str(number))
            for answer, score in answers
        ]
    return rows


@functools.cache
def train_once() -> tuple[Path, TrainReport]:
    """A model that prefers answers which help. About two seconds, once a test process."""
    from rlhf_core.encoder.model import load_encoder
    from rlhf_core.rewards.sbert import SbertParams, train

    folder = Path(tempfile.mkdtemp(prefix="rlhf-test-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    report = train(
        make_rows(),
        params=SbertParams(folds=3, regularisation=(1.0,)),
        encoder=load_encoder("minilm"),
        out_dir=folder,
        tracker=NoOpTracker(),
    )
    return folder, report


def register_reward_model(db: Session, model_name: str = REWARD_MODEL) -> ModelVersionView:
    """A version of its own, with a copy of the trained files."""
    source, report = train_once()
    artifact = write_artifact(
        get_settings().artifact_dir / "reward" / uuid.uuid4().hex,
        lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True) and None,
    )
    return register_version(
        db,
        actor=SYSTEM,
        model_name=model_name,
        kind=ModelKind.REWARD_SBERT,
        report=report,
        artifact=artifact,
    )


def promote_reward_model(db: Session) -> ModelVersionView:
    """A new version that serves from now on."""
    version = register_reward_model(db)
    promote_version(db, version.id, actor=SYSTEM, reason=f"test at {utcnow():%H:%M:%S}")
    return version
