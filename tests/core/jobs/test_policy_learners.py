from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_core.jobs.learners import PartTracker
from rlhf_core.jobs.policy_learners import suggest_rates
from rlhf_core.jobs.policy_params import RewardPart, TrainPolicyParams
from rlhf_core.policies.ppo import PpoParams
from rlhf_core.training import NoOpTracker, Sample
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


class Shown(NoOpTracker):
    """Keeps the steps at which answers were shown."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        self.steps.append(step)


def test_answers_of_a_starter_are_not_shown_as_the_policys() -> None:
    shown = Shown()
    for label, step in (("starter", 534), ("", 20)):
        part = PartTracker(shown, begin=0.0, end=1.0, label=label)
        part.samples(step, [Sample("What now?", "This.")])
    assert shown.steps == [20]
