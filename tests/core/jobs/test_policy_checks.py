"""What is said before a policy is trained."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.jobs.policy_checks import check_policy, estimate_policy, recommend_policy
from rlhf_core.jobs.policy_params import RewardPart, TrainPolicyParams
from rlhf_core.jobs.policy_speed import BaseSize, measure_base, reckon_memory_mb
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind
from tests.builders import make_feedback, make_interaction
from tests.core.jobs.trained import WORDS, add_ratings, enqueue, list_models, run
from tests.core.jobs.trained_policies import GOOD, QUICK, add_prompts, enqueue_policy
from tests.core.policies.tiny_policies import make_policy
from tests.databases import only_sqlite

pytestmark = pytest.mark.usefixtures("reward_rules")


def check(db: Session, base: Path | str, **params: Any) -> list[str]:
    given = {"base": str(base), "rewards": GOOD, **params}
    return check_policy(db, actor=SYSTEM, params=TrainPolicyParams(**given))


def test_nothing_stands_against_a_run_with_enough_prompts(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
        assert check(db, base) == []


@only_sqlite
def test_each_obstacle_is_a_sentence_of_its_own(store: Store) -> None:
    with store.reading() as db:
        found = check(db, "nowhere", rewards=(RewardPart("reward"),))
    assert len(found) == 3
    assert "There is no base 'nowhere'" in found[0]
    assert "There is no reward model 'reward'" in found[1]
    assert "0 prompts, 50 more needed" in found[2]


@only_sqlite
def test_base_folder_with_code_of_its_own_is_refused(store: Store, tmp_path: Path) -> None:
    make_policy(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "m.M"}}))
    with store.writing() as db:
        add_prompts(db, 60)
        (said,) = check(db, tmp_path)
    assert "Python code of its own" in said


@only_sqlite
def test_starter_needs_interactions_to_be_made_of(store: Store) -> None:
    with store.writing() as db:
        add_prompts(db, 20)
        found = check(db, "starter")
    assert any("There is no starter policy, and 20 interactions" in said for said in found)


@only_sqlite
def test_reward_model_that_learned_the_prompts_of_the_examination_is_refused(
    store: Store, base: Path
) -> None:
    with store.writing() as db:
        add_ratings(db, 220)
    run(store, enqueue(store, model="all", test_percent=0.0))
    run(store, enqueue(store, model="some"))
    with store.reading() as db:
        (said,) = check(db, base, rewards=(RewardPart("all"),))
        assert "all v1 was trained on 100% of the" in said
        assert check(db, base, rewards=(RewardPart("some"),)) == []
        assert check(db, base, rewards=(RewardPart("all"),), test_percent=0.0) == []


@only_sqlite
def test_large_base_without_a_gpu_is_refused(
    store: Store, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.jobs import policy_checks

    monkeypatch.setattr(
        policy_checks, "find_base_size", lambda *_: (None, BaseSize(7e9, 32, 4_096, 32_000))
    )
    with store.writing() as db:
        add_prompts(db, 60)
        (said,) = check(db, base)
    assert "7.0 billion weights and no worker has a GPU" in said


@only_sqlite
def test_estimate_follows_what_runs_took(store: Store, base: Path) -> None:
    from rlhf_core.store.tables import Job
    from rlhf_core.vocabulary import JobState

    wanted = TrainPolicyParams(base=str(base), rewards=GOOD, options=QUICK)
    with store.writing() as db:
        add_prompts(db, 60)
        before = estimate_policy(db, wanted, num_rows=60)
    job = enqueue_policy(store, base)
    cost = {**run(store, job)["cost"], "took_s": 3000.0}
    with store.writing() as db:
        db.get_one(Job, job.id).state = JobState.SUCCEEDED
        db.get_one(Job, job.id).result = {"cost": cost}
    with store.reading() as db:
        after = estimate_policy(db, wanted, num_rows=60)
        twice = TrainPolicyParams(
            base=str(base), rewards=GOOD, options={**QUICK, "updates": 2 * QUICK["updates"]}
        )
        longer = estimate_policy(db, twice, num_rows=60)
    assert before.took_s < 60
    assert after.took_s == pytest.approx(3015.0)
    assert longer.took_s == pytest.approx(6015.0)
    assert after.fits
    assert after.sentence.startswith("About 50 min and ")
    assert after.cost is None


def test_memory_grows_with_the_weights_and_adapters_need_less(base: Path) -> None:
    size = measure_base(base)
    assert size.num_weights > 10_000
    assert (size.layers, size.width) == (2, 32)
    large = BaseSize(1.5e9, 28, 1_536, 150_000)
    full = TrainPolicyParams(base=str(base), rewards=GOOD)
    lora = TrainPolicyParams(base=str(base), rewards=GOOD, options={"lora_rank": 16})
    whole = reckon_memory_mb(full, large, on_gpu=True)
    assert 24 * 1024 < whole < 60 * 1024
    assert reckon_memory_mb(lora, large, on_gpu=True) < whole / 3
    assert reckon_memory_mb(full, size, on_gpu=False) < 1024


@only_sqlite
def test_advice_follows_the_feedback_that_is_there(store: Store) -> None:
    with store.reading() as db:
        nothing = recommend_policy(db, actor=SYSTEM)
    assert nothing.learner is None
    assert "0 ratings and comparisons, 200 are needed" in nothing.why
    drawn = random.Random(0)
    with store.writing() as db:
        for place in range(210):
            prompt = f"{' '.join(drawn.sample(WORDS, 6))}?"
            stored = make_interaction(db, prompt=prompt, completion=f"Answer {place}.")
            make_feedback(db, stored.id, rating=5 if place % 2 else 1)
        thumbs = recommend_policy(db, actor=SYSTEM)
    assert thumbs.learner is JobKind.TRAIN_KTO
    with store.writing() as db:
        add_ratings(db, 120, seed=1)
        pairs = recommend_policy(db, actor=SYSTEM)
    assert pairs.learner is JobKind.TRAIN_DPO
    assert list_models(store) == []
