from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_core.jobs.policy_learners import suggest_rates
from rlhf_core.jobs.policy_params import RewardPart, TrainPolicyParams
from rlhf_core.policies.ppo import PpoParams
from rlhf_core.vocabulary import JobKind
from tests.core.policies.tiny_policies import make_policy


def test_small_base_gets_larger_rates_unless_they_are_set(tmp_path: Path) -> None:
    base = make_policy(tmp_path / "base")
    params = TrainPolicyParams(
        learner=JobKind.TRAIN_PPO, base=str(base), rewards=(RewardPart("rule:words"),)
    )
    rates = suggest_rates(params, base)
    assert rates["lr"] > 10 * PpoParams.lr
    assert rates["value_lr"] == pytest.approx(10 * rates["lr"], rel=0.1)
    chosen = replace(params, options={"lr": 3e-6})
    assert set(suggest_rates(chosen, base)) == {"value_lr"}
    assert suggest_rates(params, base / "nothing-here") == {}
