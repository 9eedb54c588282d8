"""Examinations of policies, at the end of their training and by a job of their own."""

from pathlib import Path

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import freeze_version
from rlhf_core.dataset.splits import SplitParams
from rlhf_core.errors import Conflict, InvalidInput, NotEnoughData, NotFound
from rlhf_core.jobs.evaluate_policy import enqueue_evaluate_policy
from rlhf_core.jobs.policy_params import RewardPart
from rlhf_core.jobs.service import JobView
from rlhf_core.registry.evaluations import list_evaluations
from rlhf_core.registry.service import promote_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, ModelKind
from tests.core.jobs.trained import Log, add_ratings, enqueue, list_models, run
from tests.core.jobs.trained_policies import add_prompts, enqueue_policy
from tests.core.registry.world import make_version
from tests.core.serving.world import promote_reward_model
from tests.databases import only_sqlite

pytestmark = pytest.mark.usefixtures("reward_rules")


def enqueue_on(store: Store, version: ModelVersionView, **given: object) -> JobView:
    with store.writing() as db:
        return enqueue_evaluate_policy(
            db,
            actor=SYSTEM,
            version_id=version.id,
            dataset="prompts",
            **given,  # type: ignore[arg-type]
        )


def freeze_more_prompts(store: Store, number: int, *, seed: int = 9) -> None:
    """The next version of `prompts`: all that there are, and so many new ones."""
    params = DatasetParams(purpose=DatasetPurpose.PROMPTS)
    with store.writing() as db:
        add_prompts(db, number, seed=seed)
    with store.reading() as db:
        staged = stage_rows(db, params=params, split=SplitParams())
    with store.writing() as db:
        freeze_version(db, actor=SYSTEM, name="prompts", staged=staged)


@only_sqlite
def test_prompts_that_were_kept_back_examine_the_policy_beside_its_base(
    store: Store, base: Path
) -> None:
    with store.writing() as db:
        add_prompts(db, 220)
    result = run(store, enqueue_policy(store, base, held_out="rule:short"))
    (version,) = list_models(store)
    with store.reading() as db:
        (found,) = list_evaluations(db, version.id, actor=SYSTEM)
    assert (found.split, found.dataset) == ("test", "prompts v1")
    assert 20 < found.num_rows < 80
    assert 0.0 <= found.metrics["win_rate"] <= 1.0
    assert found.examination["judge"] == {"name": "rule:short", "version_id": None}
    assert set(found.examination["policies"]) == {"policy", "base"}
    low, high = found.examination["intervals"]["win_rate"]
    assert low <= found.metrics["win_rate"] <= high
    assert found.examination["baselines"]["base"]["reward"] <= 0.0
    assert "wins against its base" in result["message"]


@only_sqlite
def test_policy_is_examined_beside_what_serves_by_the_judge_of_its_run(
    store: Store, base: Path
) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    run(store, enqueue_policy(store, base))
    with store.writing() as db:
        promote_version(db, list_models(store)[0].id, actor=SYSTEM, reason="test")
    run(store, enqueue_policy(store, base, held_out="rule:short"))
    newest = list_models(store)[0]
    empty = enqueue_on(store, newest)
    with pytest.raises(NotEnoughData, match="prompts in the part test of prompts v1"):
        run(store, empty)
    known = enqueue_on(store, newest, split="all")
    with pytest.raises(NotEnoughData, match=r"learned from \(assistant v2 did\)"):
        run(store, known)
    freeze_more_prompts(store, 20)
    job = enqueue_on(store, newest, split="all")
    with pytest.raises(Conflict):
        enqueue_on(store, newest, split="all")
    result = run(store, job)
    with store.reading() as db:
        (found,) = list_evaluations(db, newest.id, actor=SYSTEM)
    assert (found.split, found.num_rows, found.dataset) == ("all", 20, "prompts v2")
    assert (result["num_left_out"], result["left_out"]) == (60, {"assistant v2": 60})
    assert found.examination["num_left_out"] == 60
    assert "60 of 80 are left out, which assistant v2 learned from" in result["message"]
    assert found.examination["names"] == {"base": str(base), "production": "assistant v1"}
    assert "win_rate_production" in found.metrics
    assert found.examination["params"]["response_tokens"] == 5
    assert "judged by rule:short" in result["message"]


@pytest.mark.slow
@only_sqlite
def test_examination_by_hand_leaves_out_what_the_judge_learned(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    run(store, enqueue_policy(store, base))
    (policy,) = list_models(store)
    with store.writing() as db:
        add_ratings(db, 60)
    run(store, enqueue(store, model="judge", test_percent=0.0))
    freeze_more_prompts(store, 15)
    log = Log()
    job = enqueue_on(store, policy, split="all", judge="judge")
    result = run(store, job, log=log)
    assert result["left_out"] == {"assistant v1": 60, "judge v1": 60}
    assert result["num_left_out"] == 120
    with store.reading() as db:
        (found,) = list_evaluations(db, policy.id, actor=SYSTEM)
    assert found.num_rows == 15
    assert any("120 of 135 are left out" in line for line in log.lines)


@only_sqlite
def test_reward_model_and_unknown_judge_are_refused(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    run(store, enqueue_policy(store, base))
    (policy,) = list_models(store)
    with pytest.raises(InvalidInput, match="nobody to judge"):
        enqueue_on(store, policy)
    with pytest.raises(NotFound, match="no reward model 'nobody'"):
        enqueue_on(store, policy, judge="nobody")
    with store.writing() as db:
        reward = promote_reward_model(db)
    assert enqueue_on(store, policy).params["judge"] == "reward@1"
    with pytest.raises(InvalidInput, match="is a reward model, not a policy"):
        enqueue_on(store, reward)
    with store.writing() as db:
        remote = make_version(db, model_name="far", kind=ModelKind.POLICY_REMOTE)
    with pytest.raises(InvalidInput, match="answers from another server"):
        enqueue_on(store, remote)
    with pytest.raises(InvalidInput, match="choose from train"):
        enqueue_on(store, policy, split="some")


@only_sqlite
def test_prompts_that_the_reward_model_learned_are_left_out_of_the_examination(
    store: Store, base: Path
) -> None:
    with store.writing() as db:
        add_ratings(db, 220)
    run(store, enqueue(store, model="all", test_percent=0.0))
    log = Log()
    run(store, enqueue_policy(store, base, rewards=(RewardPart("all"),)), log=log)
    assert any("who judges knows all test prompts" in line for line in log.lines)
    newest = next(one for one in list_models(store) if one.model_name == "assistant")
    with store.reading() as db:
        assert list_evaluations(db, newest.id, actor=SYSTEM) == []
