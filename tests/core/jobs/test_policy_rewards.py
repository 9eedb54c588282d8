"""Registered reward models and rules as rewards of a policy."""

import numpy as np
import pytest

from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, NotFound, TrainingFailed
from rlhf_core.jobs.policy_params import NO_JUDGE, RewardPart, TrainPolicyParams
from rlhf_core.jobs.policy_rewards import (
    RememberingEncoder,
    find_judge,
    find_rewards,
    list_rules,
    open_reward,
    parse_source,
)
from rlhf_core.policies.rewards_glue import call_reward
from rlhf_core.store.engine import Store
from tests.core.jobs.trained import add_ratings, enqueue, list_models, run
from tests.core.serving.world import promote_reward_model
from tests.databases import only_sqlite

TEXTS = (["a b"], ["good good bad"])
pytestmark = pytest.mark.usefixtures("reward_rules")


def judge_of(store: Store, *parts: RewardPart, held_out: str = "auto") -> str | None:
    with store.reading() as db:
        found = find_rewards(db, parts)
        judge = find_judge(db, TrainPolicyParams(rewards=parts, held_out=held_out), found)
    return None if judge is None else judge.name


@only_sqlite
def test_rules_are_mixed_by_weight(store: Store) -> None:
    parts = [RewardPart("rule:good", 2.0), RewardPart("rule:short", 0.5)]
    with store.reading() as db:
        sources = find_rewards(db, parts)
    assert open_reward(sources)(*TEXTS) == [2.0 * 2 - 0.5 * 3]
    assert [parse_source(source.to_json()) for source in sources] == sources


@only_sqlite
def test_rule_that_is_not_named_or_cannot_be_opened_is_a_sentence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.reading() as db, pytest.raises(NotFound, match="RLHF_REWARD_RULES"):
        find_rewards(db, [RewardPart("rule:other")])
    monkeypatch.setenv("RLHF_REWARD_RULES", "gone=nowhere.at_all:f, number=math:pi")
    get_settings.cache_clear()
    assert list_rules() == {"gone": "nowhere.at_all:f", "number": "math:pi"}
    with store.reading() as db:
        gone, number = find_rewards(db, [RewardPart("rule:gone"), RewardPart("rule:number")])
    with pytest.raises(InvalidInput, match="cannot be opened at nowhere"):
        open_reward([gone])
    with pytest.raises(InvalidInput, match="is no function"):
        open_reward([number])
    monkeypatch.setenv("RLHF_REWARD_RULES", "half=math")
    get_settings.cache_clear()
    with pytest.raises(InvalidInput, match="write name=module:function"):
        list_rules()


@only_sqlite
def test_rule_that_gives_no_number_ends_the_run_with_a_sentence(store: Store) -> None:
    with store.reading() as db:
        reward = open_reward(find_rewards(db, [RewardPart("rule:broken")]))
    with pytest.raises(TrainingFailed, match="no finite number"):
        call_reward(reward, *TEXTS)


@only_sqlite
def test_model_that_serves_rewards_unless_a_number_is_named(store: Store) -> None:
    with store.writing() as db:
        promote_reward_model(db)
        add_ratings(db, 60)
    run(store, enqueue(store))
    with store.reading() as db:
        serving, newest = find_rewards(db, [RewardPart("reward"), RewardPart("reward@2")])
        assert (serving.name, newest.name) == ("reward v1", "reward v2")
        with pytest.raises(NotFound, match="no version 7"):
            find_rewards(db, [RewardPart("reward@7")])
        with pytest.raises(NotFound, match="no reward model 'nobody'"):
            find_rewards(db, [RewardPart("nobody")])
        with pytest.raises(InvalidInput, match="is no ensemble"):
            find_rewards(db, [RewardPart("reward@2", aggregate="min")])
    good, bad = open_reward([newest])(
        ["amber basket?"] * 2, ["Gladly, here is how, in three steps.", "No idea."]
    )
    assert 0.0 <= bad < good <= 1.0


@only_sqlite
def test_judge_of_the_reward_models_own_run_looks_on(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 120)
    run(store, enqueue(store, with_judge=True))
    assert {model.name for model in list_models(store)} == {"reward v1", "reward-judge v1"}
    assert judge_of(store, RewardPart("reward")) == "reward-judge v1"
    assert judge_of(store, RewardPart("rule:good")) is None
    assert judge_of(store, RewardPart("reward"), held_out=NO_JUDGE) is None
    assert judge_of(store, RewardPart("reward"), held_out="rule:short") == "rule:short"
    with pytest.raises(InvalidInput, match="cannot judge it too"):
        judge_of(store, RewardPart("reward"), held_out="reward@1")


@only_sqlite
def test_least_of_an_ensembles_members_is_no_more_than_their_mean(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 60)
    run(store, enqueue(store, seeds=2))
    texts = ["amber basket?"] * 2, ["Gladly, here is how, in three steps.", "No idea."]
    with store.reading() as db:
        mean, least = find_rewards(
            db, [RewardPart("reward"), RewardPart("reward", 1.0, None, "min")]
        )
    means, leasts = open_reward([mean])(*texts), open_reward([least])(*texts)
    assert all(low <= middle for low, middle in zip(leasts, means, strict=True))
    assert leasts != means


class Counting:
    """An encoder that counts what it was asked."""

    digest, dimension = "d", 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str], *, batch_size: int = 64) -> "np.ndarray":
        self.asked += texts
        return np.array([[float(len(text)), 0.0] for text in texts], dtype=np.float32)


def test_texts_that_come_again_are_embedded_once_in_their_order() -> None:
    inner = Counting()
    encoder = RememberingEncoder(inner)
    assert encoder.encode(["a", "bbb", "a"])[:, 0].tolist() == [1.0, 3.0, 1.0]
    assert encoder.encode(["bbb", "cc"])[:, 0].tolist() == [3.0, 2.0]
    assert inner.asked == ["a", "bbb", "cc"]
    assert encoder.encode([]).shape == (0, 2)
