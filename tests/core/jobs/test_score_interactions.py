import uuid

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Conflict, NotFound, TrainingFailed
from rlhf_core.jobs import score_interactions
from rlhf_core.jobs.score_interactions import enqueue_score
from rlhf_core.jobs.service import JobView, cancel_job
from rlhf_core.registry.scores import find_rewards
from rlhf_core.registry.service import promote_version
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, InteractionReward
from tests.core.jobs.trained import Log, run
from tests.core.serving.world import BAD, GOOD, PROMPT, TOPICS, register_reward_model
from tests.learning.rated import add_interaction


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_interactions, "ROWS_A_BATCH", 3)


@pytest.fixture
def filled(store: Store) -> Store:
    """Eight answers to be scored, an empty one, and a registered model that prefers help."""
    with store.writing() as db:
        register_reward_model(db)
        add_interaction(db, PROMPT, "  ")
        for topic in TOPICS[:4]:
            for completion in (GOOD, BAD):
                add_interaction(db, f"How do I {topic}?", completion)
    return store


def enqueue(store: Store, *, version_id: uuid.UUID, only_missing: bool = True) -> JobView:
    with store.writing() as db:
        return enqueue_score(db, actor=SYSTEM, version_id=version_id, only_missing=only_missing)


def version_id_of(store: Store) -> uuid.UUID:
    with store.writing() as db:
        return register_reward_model(db).id


def count_scored(store: Store, version_id: uuid.UUID) -> int:
    with store.reading() as db:
        query = sa.select(sa.func.count()).select_from(InteractionReward)
        return db.scalar(query.where(InteractionReward.model_version_id == version_id)) or 0


def test_job_gives_every_stored_answer_its_reward(filled: Store) -> None:
    version_id = version_id_of(filled)
    result = run(filled, enqueue(filled, version_id=version_id))
    assert (result["num_scored"], result["num_interactions"]) == (8, 9)
    with filled.reading() as db:
        texts = dict(db.execute(sa.select(Interaction.id, Interaction.completion)).all())
        rewards = find_rewards(db, list(texts), actor=SYSTEM, version_id=version_id)
    good = [reward for key, reward in rewards.items() if texts[key] == GOOD]
    bad = [reward for key, reward in rewards.items() if texts[key] == BAD]
    assert len(good) == len(bad) == 4
    assert min(good) > max(bad)
    assert result["mean"] == pytest.approx(sum(rewards.values()) / 8)


def test_stopped_run_keeps_what_it_scored_and_goes_on_behind_it(filled: Store) -> None:
    version_id = version_id_of(filled)
    job = enqueue(filled, version_id=version_id)
    with pytest.raises(TrainingFailed, match="what was scored stays"):
        run(filled, job, log=Log(stop_after="Scored 3 of 8"))
    assert count_scored(filled, version_id) == 3
    log = Log()
    result = run(filled, job, attempt=2, log=log)
    assert result["num_scored"] == 5
    assert "Scored 5 of 5 interactions" in log.said
    assert count_scored(filled, version_id) == 8


def test_second_run_scores_only_what_came_since_unless_told_to_begin_again(filled: Store) -> None:
    version_id = version_id_of(filled)
    first = enqueue(filled, version_id=version_id)
    run(filled, first)
    with filled.writing() as db:
        add_interaction(db, PROMPT, GOOD)
        cancel_job(db, first.id, actor=SYSTEM)
    second = enqueue(filled, version_id=version_id)
    assert run(filled, second)["num_scored"] == 1
    with filled.writing() as db:
        cancel_job(db, second.id, actor=SYSTEM)
    assert run(filled, enqueue(filled, version_id=version_id, only_missing=False))[
        "num_scored"
    ] == 9  # fmt: skip


def test_promoted_version_scores_by_default_and_one_run_at_a_time(filled: Store) -> None:
    with filled.writing() as db, pytest.raises(NotFound, match="is promoted"):
        enqueue_score(db, actor=SYSTEM)
    version_id = version_id_of(filled)
    with filled.writing() as db:
        promote_version(db, version_id, actor=SYSTEM, reason="test")
        job = enqueue_score(db, actor=SYSTEM)
    assert job.params["version_id"] == str(version_id)
    with pytest.raises(Conflict, match="under way"):
        enqueue(filled, version_id=version_id)
