"""`train` on the command line: what it queues, and what it says instead."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rlhf_core.cli.main import main
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs.policy_params import RewardPart, parse_policy_params
from rlhf_core.jobs.service import list_jobs
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, JobKind, Resource
from tests.core.jobs.trained_policies import add_prompts
from tests.databases import only_sqlite

pytestmark = [
    pytest.mark.usefixtures("reward_rules"),
    only_sqlite,
]


def call(*arguments: object) -> Any:
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"], catch_exceptions=False)
    return json.loads(done.stdout)


def test_ppo_is_queued_as_the_options_say(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    rewards = ("--reward", "rule:good=2", "--reward", "rule:short=-0.5")
    job = call(
        "train", "ppo", "--base", base, *rewards, "--held-out", "none", "--updates", 3,
        "--lora-rank", 4, "--seed", 7, "--option", "kl_coef=0.2", "--cpu", "--priority", 2,
    )  # fmt: skip
    assert (job["kind"], job["resource"], job["priority"]) == ("train_ppo", Resource.CPU, 2)
    params = parse_policy_params(job["params"])
    assert params.rewards == (RewardPart("rule:good", 2.0), RewardPart("rule:short", -0.5))
    assert params.options == {"updates": 3, "lora_rank": 4, "seed": 7, "kl_coef": 0.2}
    assert params.rows.purpose is DatasetPurpose.PROMPTS


def test_check_says_what_it_takes_and_starts_nothing(store: Store, base: Path) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    told = call("train", "ppo", "--base", base, "--reward", "rule:good", "--check")
    assert told["obstacles"] == []
    assert "fits in" in told["estimate"]["sentence"]
    short = CliRunner().invoke(main, ["train", "dpo", "--base", str(base), "--check"])
    assert short.exit_code == 1
    assert "0 usable pairs, 50 more needed" in short.stdout
    with pytest.raises(InvalidInput, match="There is no reward model 'reward'"):
        call("train", "ppo", "--base", base)
    with store.reading() as db:
        assert list_jobs(db) == []


def test_starter_takes_all_interactions(store: Store) -> None:
    with pytest.raises(InvalidInput, match="0 interactions, 50 more needed"):
        call("train", "starter")
    with store.writing() as db:
        add_prompts(db, 60)
    assert call("train", "starter", "--option", "layers=2")["kind"] == "train_starter"


def test_reward_follows_the_feedback_and_both_is_one_job(store: Store) -> None:
    assert call("train", "reward")["kind"] == "train_sbert"
    both = call("train", "both", "--learner", "ppo")
    assert both["kind"] == JobKind.RETRAIN
    assert both["params"]["what"] == "both"
    assert both["params"]["policy"]["learner"] == "train_ppo"


def test_wrong_weight_is_named(store: Store, base: Path) -> None:
    with pytest.raises(InvalidInput, match="write NAME or NAME=WEIGHT"):
        call("train", "ppo", "--base", base, "--reward", "rule:good=much")
